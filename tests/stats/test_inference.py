from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from sizewise.stats import LEVEL, MIN_CLUSTERS, Systems, adjust_family, detectable, estimate, min_clusters_for
from sizewise.stats.inference import MAX_GROUPS, FloatArray, group_clusters, sum_groups

SHARE = (0.0, 1.0)


def ratio(sums: FloatArray) -> FloatArray:
    result: FloatArray = sums[..., 0] / sums[..., 1]
    return result


def names(count: int, per_cluster: int = 1) -> list[str]:
    return [f"d{i // per_cluster}" for i in range(count * per_cluster)]


def stats_of(values: FloatArray) -> FloatArray:
    """(items, systems) -> (items, systems, 2)."""
    return np.stack([values, np.ones_like(values)], axis=2)


def binary(random: np.random.Generator, rate: float, clusters: int, per_cluster: int, systems: int) -> FloatArray:
    easy = random.beta(4 * rate, 4 * (1 - rate), clusters).repeat(per_cluster)
    return (random.random((clusters * per_cluster, systems)) < easy[:, None]).astype(float)


# -- equal to the packages of the field ------------------------------------------------------------------------


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=MIN_CLUSTERS, max_size=12))
@settings(max_examples=40, deadline=None)
def test_single_binary_items_have_at_least_the_p_value_of_the_sign_test(signs: list[float]) -> None:
    left, right = (np.array([float(sign == side) for sign in signs]) for side in (1.0, -1.0))
    found = Systems(stats_of(np.column_stack([left, right])), names(len(signs)), ratio, SHARE).difference(0, 1)
    won, decided = int(left.sum()), int(left.sum() + right.sum())
    exact = scipy_stats.binomtest(won, decided).pvalue if decided else 1.0
    assert found.p >= exact - 1e-12


def test_few_clusters_have_the_p_value_of_the_exact_permutation_test() -> None:
    for seed in range(5):
        values = np.random.default_rng(seed).normal(0.6, 1, 10)
        systems = Systems(stats_of(np.column_stack([values, 0 * values])), names(10), ratio)
        exact = scipy_stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert systems._swap_p(0, 1) == pytest.approx(exact.pvalue, abs=1e-12)


def test_symmetric_clusters_have_the_interval_of_the_t_test() -> None:
    half = np.random.default_rng(0).normal(0, 2, 50)
    values = 7 + np.concatenate([half, -half])
    found = estimate(stats_of(values[:, None])[:, 0], names(100), ratio)
    low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), rel=1e-3)


def test_items_of_their_own_have_the_interval_of_wilson() -> None:
    hits = np.zeros((5_000, 1))
    hits[:600] = 1
    found = estimate(stats_of(hits)[:, 0], names(5_000), ratio, SHARE)
    expected = scipy_stats.binomtest(600, 5_000).proportion_ci(0.95, "wilson")
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high), abs=5e-4)


# -- interval and p-value agree --------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from([8, 9, 13, 40]), st.sampled_from(["binary", "normal", "skewed"]))
@settings(max_examples=60, deadline=None)
def test_a_p_value_is_below_the_level_exactly_if_the_interval_excludes_zero(
    seed: int, clusters: int, kind: str
) -> None:
    random = np.random.default_rng(seed)
    shift = random.choice([0.0, 0.4, 1.0])
    if kind == "binary":
        values = binary(random, 0.6, clusters, 3, 2)
    else:
        values = (
            random.normal(0, 1, (clusters * 3, 2)) if kind == "normal" else random.lognormal(0, 1, (clusters * 3, 2))
        )
        values[:, 0] += shift
    found = Systems(
        stats_of(values), names(clusters, 3), ratio, SHARE if kind == "binary" else (-np.inf, np.inf)
    ).difference(0, 1)
    assert found.ci_low <= found.value <= found.ci_high
    assert (found.p < LEVEL) == (not found.ci_low <= 0 <= found.ci_high)


# -- few clusters, unanimous clusters --------------------------------------------------------------------------


@pytest.mark.parametrize("clusters", [1, 2, 3, MIN_CLUSTERS - 1])
def test_below_the_minimum_there_is_neither_interval_nor_p(clusters: int) -> None:
    systems = Systems(stats_of(np.tile([1.0, 0.0], (clusters * 5, 1))), names(clusters, 5), ratio, SHARE)
    assert np.isnan(systems.score().ci_low)
    assert np.isnan(systems.difference(0, 1).p)
    assert np.isnan(adjust_family([(systems, [(0, 1)])]).p[0][0])


@pytest.mark.parametrize("clusters", [8, 10, 12, 30])
@pytest.mark.parametrize("per_cluster", [1, 4])
def test_unanimous_clusters_leave_room_for_the_next_one(clusters: int, per_cluster: int) -> None:
    items = clusters * per_cluster
    systems = Systems(stats_of(np.tile([1.0, 0.0], (items, 1))), names(clusters, per_cluster), ratio, SHARE)
    best, difference = systems.score(0), systems.difference(0, 1)
    assert best.ci_high == 1
    assert best.ci_low < 1 - 2 / clusters
    assert 0 < difference.ci_low < 1 - 1 / clusters
    assert difference.p >= 2.0 ** (1 - clusters)
    same = Systems(stats_of(np.ones((items, 2))), names(clusters, per_cluster), ratio, SHARE).difference(0, 1)
    assert (same.value, same.p) == (0, 1)
    assert same.ci_low < -1 / clusters
    assert same.ci_high > 1 / clusters


def test_a_score_of_zero_is_not_known_exactly() -> None:
    def zero(sums: FloatArray) -> FloatArray:
        return np.zeros(sums.shape[:-1])

    found = estimate(np.ones((30, 3)), names(30), zero, (0.0, 100.0))
    assert found.ci_low == 0
    assert 5 < found.ci_high < 20


# -- simulated truth -------------------------------------------------------------------------------------------


def simulated(kind: str, clusters: int, per_cluster: int, random: np.random.Generator) -> tuple[FloatArray, float]:
    if kind == "binary":
        return binary(random, 0.8, clusters, per_cluster, 2), 0.8
    if kind == "normal":
        shared = random.normal(0, 0.5, (clusters, 1)).repeat(per_cluster, axis=0)
        return shared + random.normal(0, 1, (clusters * per_cluster, 2)), 0.0
    return random.beta(1.5, 3.5, (clusters * per_cluster, 2)), 0.3


@pytest.mark.parametrize(("clusters", "per_cluster"), [(8, 1), (10, 5), (40, 2)])
@pytest.mark.parametrize("kind", ["binary", "normal", "beta"])
def test_intervals_cover_the_truth_and_equal_systems_rarely_differ(kind: str, clusters: int, per_cluster: int) -> None:
    random, runs = np.random.default_rng(clusters), 250
    covered = differs = 0
    for _ in range(runs):
        values, truth = simulated(kind, clusters, per_cluster, random)
        bounds = (-np.inf, np.inf) if kind == "normal" else SHARE
        systems = Systems(stats_of(values), names(clusters, per_cluster), ratio, bounds)
        score = systems.score()
        covered += score.ci_low <= truth <= score.ci_high
        differs += systems.difference(0, 1).p < LEVEL
    assert covered / runs >= 0.90  # 0.93 less three standard errors of 250 runs
    assert differs / runs <= 0.09


def test_a_family_of_equal_systems_rarely_holds_a_false_claim() -> None:
    random, false = np.random.default_rng(1), 0
    pairs = [(i, j) for i in range(8) for j in range(i)]
    for _ in range(120):
        shared = random.normal(0, 1, (12, 1))
        systems = Systems(stats_of(shared + random.normal(0, 1, (12, 8))), names(12), ratio)
        false += min(adjust_family([(systems, pairs)]).p[0]) < LEVEL
    assert false / 120 <= 0.11


def test_twelve_hundred_pairs_can_be_told_apart() -> None:
    random = np.random.default_rng(2)
    values = np.arange(50) * 0.1 + random.normal(0, 0.1, (100, 50))
    pairs = [(i, j) for i in range(50) for j in range(i)]
    family = adjust_family([(Systems(stats_of(values), names(100), ratio), pairs)])
    assert max(family.p[0]) < LEVEL
    assert 0 < family.level < LEVEL / 20


def test_metrics_share_the_error_rate() -> None:
    random = np.random.default_rng(3)
    values = random.normal(0, 1, (30, 2))
    values[:, 0] += 0.55
    one = Systems(stats_of(values), names(30), ratio)
    others = [Systems(stats_of(random.normal(0, 1, (30, 2))), names(30), ratio) for _ in range(9)]
    alone = adjust_family([(one, [(0, 1)])])
    together = adjust_family([(one, [(0, 1)]), *((other, [(0, 1)]) for other in others)])
    assert together.p[0][0] > alone.p[0][0]
    assert together.level < alone.level


def test_the_stated_power_is_reached() -> None:
    random, found = np.random.default_rng(4), 0
    pilot = random.normal(0, 1, (40, 1))
    measured = Systems(stats_of(np.hstack([pilot / pilot.std(), 0 * pilot])), names(40), ratio).difference(0, 1)
    effect = detectable(measured, 40)
    for _ in range(250):
        values = random.normal(effect, 1, (40, 1))
        found += Systems(stats_of(np.hstack([values, 0 * values])), names(40), ratio).difference(0, 1).p < LEVEL
    assert found / 250 >= 0.74  # 0.8 less 2.4 standard errors


def test_the_stated_power_of_a_family_is_reached() -> None:
    """Three candidates share the level: three claims, of which two are true."""
    random, found = np.random.default_rng(5), 0

    def compared(shift: float) -> tuple[float, float, float]:
        values = random.normal(0, 1, (40, 3)) - np.array([0.0, shift, 0.0])
        systems = Systems(stats_of(values), names(40), ratio)
        family = adjust_family([(systems, [(0, 1), (0, 2), (1, 2)])], seed=int(random.integers(2**31)))
        contrast = systems.difference(0, 1)
        return detectable(contrast, 40, family.level), detectable(contrast, 40), family.p[0][0]

    pilots = np.array([compared(0.0) for _ in range(25)])
    effect, alone = np.median(pilots[:, 0]), np.median(pilots[:, 1])
    assert effect > 1.1 * alone
    for _ in range(120):
        found += compared(float(effect))[2] < LEVEL
    assert found / 120 >= 0.71  # 0.8 less 2.4 standard errors


# -- shape -----------------------------------------------------------------------------------------------------


def test_order_and_names_of_items_do_not_matter() -> None:
    random = np.random.default_rng(5)
    values, order = random.normal(0, 1, (60, 2)), random.permutation(60)
    clusters = [f"{i % 15}" for i in range(60)]
    one = Systems(stats_of(values), clusters, ratio).difference(0, 1)
    other = Systems(stats_of(values[order]), [clusters[i] for i in order], ratio).difference(0, 1)
    assert one == pytest.approx(other)


def test_sides_are_treated_alike() -> None:
    systems = Systems(stats_of(binary(np.random.default_rng(6), 0.6, 20, 3, 2)), names(20, 3), ratio, SHARE)
    left, right = systems.difference(0, 1), systems.difference(1, 0)
    assert (left.value, left.p) == pytest.approx((-right.value, right.p))
    assert (left.ci_low, left.ci_high) == pytest.approx((-right.ci_high, -right.ci_low))


def test_many_clusters_are_dealt_to_groups_of_nearly_equal_size() -> None:
    groups, count = group_clusters(names(5_500))
    assert count == 5_500
    sizes = sum_groups(np.ones((5_500, 1)), groups)[:, 0]
    assert len(sizes) == MAX_GROUPS
    assert set(sizes) == {5, 6}


@pytest.mark.parametrize(("claims", "clusters"), [(1, 8), (3, 8), (49, 11), (1_225, 16)])
def test_a_family_needs_so_many_clusters_for_any_significance(claims: int, clusters: int) -> None:
    assert min_clusters_for(claims) == clusters
    if clusters > MIN_CLUSTERS:
        assert claims * 2.0 ** (1 - clusters) < LEVEL <= claims * 2.0 ** (2 - clusters)


def test_a_cluster_without_which_there_is_no_value_leaves_no_interval() -> None:
    stats = np.zeros((12, 1, 2))
    stats[0, 0] = (3, 4)
    found = Systems(stats, names(12), ratio, SHARE).score()
    assert found.value == 0.75
    assert np.isnan(found.ci_low)


def test_many_equal_candidates_on_unequal_documents_are_rarely_called_different() -> None:
    # Few documents hold most items, which pseudo-values of a ratio must not turn into agreement of the others.
    false, runs, candidates = 0, 200, 6
    pairs = [(left, right) for left in range(candidates) for right in range(left)]
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        sizes = 1 + rng.multinomial(60, rng.dirichlet(np.full(12, 1.0)))
        groups = np.repeat(np.arange(12), sizes)
        hits = rng.random((72, candidates)) < np.clip(rng.normal(0.5, 0.25, (12, candidates)), 0, 1)[groups]
        stats = np.stack([hits, np.ones_like(hits)], axis=-1).astype(float)
        systems = Systems(stats, (groups, 12), lambda sums: sums[..., 0] / sums[..., 1], (0, 1))
        false += min(adjust_family([(systems, pairs)]).p[0]) < LEVEL
    assert false <= 18  # 5% of 200 plus the 99% bound


def test_scores_of_unequal_documents_keep_their_coverage() -> None:
    covered, runs = 0, 1_000
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        sizes = 1 + rng.multinomial(32, rng.dirichlet(np.full(8, 0.5)))
        groups = np.repeat(np.arange(8), sizes)
        values = rng.normal(0, 1, 8)[groups] + rng.normal(0, 1, 40)
        systems = Systems(np.column_stack([values, np.ones(40)])[:, None], (groups, 8), lambda s: s[..., 0] / s[..., 1])
        found = systems.score()
        covered += found.ci_low <= 0 <= found.ci_high
    assert covered >= 930


def test_constant_values_without_bounds_have_no_interval() -> None:
    """Twelve documents with the same edit rate don't show that the next one has it too."""
    values = np.tile([8.0, 0.0], (12, 1))
    systems = Systems(stats_of(values), names(12), ratio)
    assert np.isnan(systems.score(0).ci_low)
    assert np.isnan(systems.difference(0, 1).p)
    assert np.isnan(systems.difference(0, 1).ci_low)


@pytest.mark.parametrize(("clusters", "per_cluster", "share"), [(8, 1, 0.95), (8, 2, 0.9), (12, 2, 0.95), (12, 5, 0.9)])
def test_nearly_perfect_answers_do_not_show_that_none_is_wrong(clusters: int, per_cluster: int, share: float) -> None:
    """Right answers score 0.97 to 1, wrong ones 0 to 0.2: few documents often hold no wrong one."""
    random, above = np.random.default_rng(7), 0
    truth = share * 0.985 + (1 - share) * 0.1
    for _ in range(200):
        right = random.random((clusters * per_cluster, 1)) < share
        values = np.where(right, random.uniform(0.97, 1, right.shape), random.uniform(0, 0.2, right.shape))
        above += estimate(stats_of(values)[:, 0], names(clusters, per_cluster), ratio, SHARE).ci_low > truth
    assert above / 200 <= 0.06  # 2.5% and three standard errors


def test_metrics_between_right_and_wrong_have_no_wider_interval_than_their_spread() -> None:
    """Like token F1: three in ten items score 0, one in ten 1, the others in between."""
    random, inside = np.random.default_rng(9), 0
    truth = 0.1 + 0.6 * 0.4
    for _ in range(200):
        share = random.random(100)
        values = np.where(share < 0.3, 0.0, np.where(share > 0.9, 1.0, random.beta(2, 3, 100)))
        found = estimate(stats_of(values[:, None])[:, 0], names(100), ratio, SHARE)
        plain = scipy_stats.ttest_1samp(values, 0).confidence_interval()
        assert found.ci_high - found.ci_low < 1.15 * (plain.high - plain.low)
        inside += found.ci_low <= truth <= found.ci_high
    assert inside / 200 >= 0.91  # 0.95 less 2.6 standard errors


def test_a_low_corpus_score_keeps_the_width_of_the_t_interval() -> None:
    """Most sentences have BLEU 0 although the corpus has not."""

    def corpus(sums: FloatArray) -> FloatArray:
        value: FloatArray = 100 * np.sqrt(np.maximum(sums[..., 0] * sums[..., 1], 0)) / sums[..., 2]
        return value

    random = np.random.default_rng(8)
    counts = random.poisson(0.4, (60, 2)).astype(float)
    counts[::2, 0], counts[1::2, 1] = 0, 0  # no item has both, so the value of each is 0
    stats = np.column_stack([counts, np.full(60, 10.0)])
    found = estimate(stats, names(30, 2), corpus, (0.0, 100.0))
    assert 0 < found.value < 10
    assert found.ci_high - found.ci_low < 4
