from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sizewise.choice import alternatives, decide, needs_text, quality_measures, read_needs, sliders
from sizewise.choice.asking import QUESTIONS, answered
from sizewise.choice.evidence import Choice
from sizewise.choice.verdicts import decide_verdict
from sizewise.errors import UsageError
from sizewise.loadtest.levels import Limits, TimedAnswer, level_of
from sizewise.records import Comparison, Difference, LoadLevel, ModelDescription, Needs, Recommendation, Score, Spread
from sizewise.records.upgrades import NEEDS_2

Facts = tuple[float, float, str | None]  # quality, memory in GB, start


def comparison(facts: dict[str, Facts], error: float = 1.0, language_modeling_proxy: bool = False) -> Comparison:
    """A comparison in which a difference is shown if it is larger than the error."""
    names = list(facts)

    def score(metric: str, value: float, half: float) -> Score:
        return Score(
            metric=metric, value=value, ci_low=value - half, ci_high=value + half, n=100, unit="u", signature="s"
        )

    differences = []
    for i, left in enumerate(names):
        for right in names[i + 1 :]:
            value = facts[left][0] - facts[right][0]
            better = None if abs(value) <= error else left if value > 0 else right
            differences.append(
                Difference(
                    metric="bleu",
                    left=left,
                    right=right,
                    value=value,
                    ci_low=value - error,
                    ci_high=value + error,
                    p=0.001 if better else 0.5,
                    p_adjusted=0.01 if better else 0.5,
                    n=100,
                    clusters=20,
                    unit="u",
                    better=better,
                )
            )
    return Comparison(
        data="data-1",
        evaluations={name: f"eval-{name}" for name in names},
        models={
            name: ModelDescription(
                uri=name,
                origin="x",
                license="x",
                engine="test",
                precision="none",
                parameters=int(memory * 1e9),
                memory_bytes=int(memory * 1e9),
                start=start,
            )
            for name, (_, memory, start) in facts.items()
        },
        scores={
            "bleu": {name: score("bleu", quality, error) for name, (quality, _, _) in facts.items()},
            "memory_bytes": {name: score("memory_bytes", memory * 1e9, 0) for name, (_, memory, _) in facts.items()},
            "latency_s": {name: score("latency_s", memory, 0) for name, (_, memory, _) in facts.items()},
            "requests_per_s": {name: score("requests_per_s", 2.0, 0) for name in names},
        },
        better={"bleu": "higher", "memory_bytes": "lower", "latency_s": "lower", "requests_per_s": "higher"},
        differences=tuple(differences),
        language_modeling_proxy=language_modeling_proxy,
        rounds=100,
        seed=0,
    )


def choose(facts: dict[str, Facts], error: float = 1.0, **needs: object) -> Recommendation:
    return decide(comparison(facts, error), "comparison-1", Needs.model_validate(needs))


def test_the_better_model_is_picked_without_a_claim_that_it_is_good_enough() -> None:
    found = choose({"adapted": (8, 0.3, "base"), "base": (3, 0.3, None), "big": (4, 0.6, None)})
    assert (found.outcome, found.pick, found.decisive) == ("pick", "adapted", True)
    assert "doesn't show that it's good enough" in found.summary
    assert "both other candidates" in found.summary
    assert any("min_quality" in line for line in found.sensitivity)
    assert set(found.rejected) == {"base", "big"}


def test_a_small_sample_is_flagged() -> None:
    few = comparison({"adapted": (8, 0.3, "base"), "base": (3, 0.3, None)})
    scores = {name: score.model_copy(update={"n": 6}) for name, score in few.scores["bleu"].items()}
    found = decide(few.model_copy(update={"scores": few.scores | {"bleu": scores}}), "comparison-1", Needs())
    assert any("only 6 test items" in line for line in found.reasons)
    assert not any("caution" in line for line in decide(few, "comparison-1", Needs()).reasons)


def test_a_tie_is_inconclusive_and_says_how_much_data_would_decide() -> None:
    found = choose({"adapted": (3.5, 0.3, "base"), "base": (3, 0.3, None)})
    assert (found.outcome, found.pick, found.decisive) == ("inconclusive", None, False)
    assert any("test items" in line for line in found.sensitivity)


def test_training_that_does_not_help_is_not_done() -> None:
    found = choose({"adapted": (2.9, 0.3, "base"), "base": (3, 0.3, None)})
    assert (found.outcome, found.pick) == ("do_not_train", "base")
    clear = choose({"adapted": (1, 0.3, "base"), "base": (5, 0.3, None)})
    assert (clear.outcome, clear.pick, clear.decisive) == ("do_not_train", "base", True)


def test_a_tie_with_a_model_trained_from_another_is_not_about_training() -> None:
    found = choose({"adapted": (6.9, 0.3, "base"), "big": (7, 0.6, None)})
    assert (found.outcome, found.pick) == ("inconclusive", None)


def test_without_an_interval_no_minimum_counts_as_reached() -> None:
    whole = comparison({"a": (8, 0.3, None), "b": (7, 0.3, None)})
    bare = {name: s.model_copy(update={"ci_low": None, "ci_high": None}) for name, s in whole.scores["bleu"].items()}
    one_document = whole.model_copy(update={"scores": whole.scores | {"bleu": bare}})
    found = decide(one_document, "comparison-1", Needs(min_quality=1))
    assert (found.outcome, found.pick) == ("inconclusive", None)


def test_a_larger_untrained_winner_is_kept() -> None:
    found = choose({"adapted": (3, 0.3, "base"), "big": (9, 0.6, None)})
    assert (found.outcome, found.pick) == ("keep_large", "big")


def test_with_a_minimum_the_smallest_model_that_reaches_it_is_picked() -> None:
    facts: dict[str, Facts] = {"small": (6, 0.1, "base"), "middle": (7, 0.3, "base"), "big": (9, 0.6, None)}
    found = choose(facts, min_quality=4.9)
    assert (found.outcome, found.pick) == ("pick", "small")
    assert "larger" in found.rejected["big"]
    assert choose(facts, min_quality=20).outcome == "none_good_enough"
    unsure = choose(facts, min_quality=9.5)
    assert (unsure.outcome, unsure.pick, unsure.decisive) == ("inconclusive", None, False)


def test_hard_limits_come_first() -> None:
    facts: dict[str, Facts] = {"small": (3, 0.1, "base"), "big": (9, 0.6, None)}
    found = choose(facts, max_memory_gb=0.5)
    assert found.pick == "small"
    assert "1.2x the limit of 0.5 GB" in found.rejected["big"]
    assert choose(facts, max_latency_s=0.01).outcome == "none_good_enough"
    cost = choose(facts, max_cost_usd_per_1000=1, machine_usd_per_hour=0.36)
    assert any("0.05 USD" in line for line in cost.reasons)
    unknown = choose(facts, max_cost_usd_per_1000=1)
    assert unknown.outcome == "none_good_enough"
    assert "can't be checked" in unknown.rejected["big"]


def test_familiarity_is_judged_by_likelihood_not_by_answers() -> None:
    whole = comparison({"a": (1, 1, None), "b": (2, 1, None)}, language_modeling_proxy=True)
    bits = {name: s.model_copy(update={"metric": "bits_per_byte"}) for name, s in whole.scores["bleu"].items()}
    both = whole.model_copy(
        update={
            "scores": whole.scores | {"bits_per_byte": bits},
            "better": whole.better | {"bits_per_byte": "lower"},
        }
    )
    assert decide(both, "c", Needs()).quality == "bits_per_byte"
    with pytest.raises(UsageError, match="wasn't measured"):
        decide(whole, "c", Needs(quality="bits_per_byte"))


QUALITIES = st.tuples(st.integers(0, 20).map(float), st.integers(1, 9).map(float), st.sampled_from([None, "base"]))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), QUALITIES, min_size=2), st.one_of(st.none(), st.integers(0, 20)))
def test_a_dominated_model_is_never_preferred(facts: dict[str, Facts], least: int | None) -> None:
    found = choose(facts, error=0.5, min_quality=least)
    if found.pick is None:
        return
    quality, memory, _ = facts[found.pick]
    for other_quality, other_memory, _ in facts.values():
        dominated = other_quality >= quality and other_memory <= memory
        assert not (dominated and (other_quality > quality + 0.5 or (other_memory < memory and least is not None)))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("key", ["min_quality", "max_cost_usd_per_1000", "machine_usd_per_hour", "setup_cost_usd"])
def test_needs_are_finite_numbers(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "needs.toml"
    path.write_text(f"{key} = {value}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=f"(?s){key} = .*finite number"):
        read_needs(path)


def test_needs_files_name_the_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "needs.toml"
    path.write_text("[needs]\nmin_qualty = 5\n", encoding="utf-8")
    with pytest.raises(UsageError, match="did you mean 'min_quality'"):
        read_needs(path)
    path.write_text("min_quality = 5\n", encoding="utf-8")
    assert read_needs(path).min_quality == 5
    path.write_text("max_latency_s = -1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="max_latency_s = -1 isn't valid") as refused:
        read_needs(path)
    assert refused.value.expected == "greater than 0"
    path.write_text("broken [", encoding="utf-8")
    with pytest.raises(UsageError, match="isn't valid TOML"):
        read_needs(path)
    with pytest.raises(UsageError, match="Can't read"):
        read_needs(tmp_path / "none.toml")


def test_a_wrong_one_is_called_best_at_most_at_the_level() -> None:
    """Equal candidates, measured on 20 documents each, many times over: the decision's own error rate."""
    random_numbers = np.random.default_rng(5)
    wrong = {2: 0, 4: 0}
    trials = 400
    for count in wrong:
        names = [f"m{i}" for i in range(count)]
        plain = comparison({name: (float(i), 0.3, None) for i, name in enumerate(names)})
        for _ in range(trials):
            values = dict(zip(names, random_numbers.normal(size=(count, 20)), strict=True))
            scores = {
                name: Score(metric="bleu", value=float(v.mean()), ci_low=0, ci_high=1, n=20, unit="u", signature="s")
                for name, v in values.items()
            }
            differences = []
            for claim in plain.differences:
                some = values[claim.left] - values[claim.right]
                test = stats.ttest_1samp(some, 0)
                ci_low, ci_high = test.confidence_interval()
                changed = {"value": float(some.mean()), "ci_low": ci_low, "ci_high": ci_high, "p": float(test.pvalue)}
                differences.append(claim.model_copy(update=changed))
            found = plain.model_copy(
                update={"differences": tuple(differences), "scores": plain.scores | {"bleu": scores}}
            )
            wrong[count] += decide(found, "c", Needs()).decisive
    assert 0 < wrong[2] <= 0.07 * trials
    assert wrong[4] <= 0.07 * trials


def test_more_candidates_need_a_clearer_difference() -> None:
    def with_p(facts: dict[str, Facts]) -> Recommendation:
        plain = comparison(facts)
        claims = tuple(claim.model_copy(update={"p": 0.02, "p_adjusted": None}) for claim in plain.differences)
        return decide(plain.model_copy(update={"differences": claims}), "c", Needs())

    assert with_p({"a": (9, 0.3, None), "b": (5, 0.3, None), "c": (1, 0.3, None)}).decisive
    assert not with_p({"a": (9, 0.3, None), "b": (5, 0.3, None), "c": (1, 0.3, None), "d": (0, 0.3, None)}).decisive


@pytest.mark.parametrize(
    ("value", "down", "limit"), [(1.0593, True, 1.05), (1.0593, False, 1.06), (-0.0123456, True, -0.0124), (0, True, 0)]
)
def test_limits_are_rounded_to_the_side_on_which_they_hold(value: float, down: bool, limit: float) -> None:
    from sizewise.choice.alternatives import _rounded

    assert _rounded(value, down) == pytest.approx(limit)


def under_load(concurrent_users: int, seconds: float) -> Comparison:
    """Two candidates; the better one answers ten times more slowly when many ask."""

    def level(count: int, each: float) -> object:
        answers = [TimedAnswer(None, each / 2, each * (1 + i % 24 / 100), 10, ()) for i in range(96)]
        return level_of(answers, 96 * each / count, Limits(), concurrent_users=count)

    found = comparison({"good": (40.0, 1.0, None), "quick": (30.0, 1.0, None)})
    load_levels = {
        "good": (level(1, seconds), level(concurrent_users, 10 * seconds)),
        "quick": (level(1, seconds), level(concurrent_users, seconds)),
    }
    return found.model_copy(update={"load_levels": load_levels})


def test_p95_latency_with_the_required_users_is_a_hard_limit() -> None:
    found = decide(under_load(8, 1.0), "comparison-1", Needs(concurrent_users=8, max_latency_p95_s=2.0))
    assert found.pick == "quick"
    assert "p95 latency with 8 concurrent users is 12.2 s, 6.1x the limit of 2 s" in found.rejected["good"]
    assert decide(under_load(8, 1.0), "comparison-1", Needs(concurrent_users=1, max_latency_p95_s=2.0)).pick == "good"


def test_a_limit_at_an_unmeasured_load_counts_as_missed() -> None:
    found = decide(under_load(8, 1.0), "comparison-1", Needs(concurrent_users=32, max_latency_p95_s=2.0))
    assert found.outcome == "none_good_enough"
    assert "wasn't measured" in found.rejected["quick"]
    assert any("without max_latency_p95_s" in line for line in found.sensitivity)


def test_cost_uses_the_throughput_with_the_required_users() -> None:
    needs = {"machine_usd_per_hour": 3.6, "requests_per_month": 1_000_000}
    lines = {line.name: line for line in decide(under_load(8, 1.0), "c", Needs(concurrent_users=8, **needs)).costs}
    assert lines["quick"].usd_per_1000 is not None
    assert lines["quick"].usd_per_1000.lower == pytest.approx(3.6 / 3600 * 1000 / 8)  # 8 answers a second
    assert lines["good"].machines == 1  # 0.8 a second can answer 1.26 million a month at 60 % busy
    assert any("8 concurrent users" in note for note in lines["good"].notes)
    before = decide(under_load(8, 1.0), "c", Needs(concurrent_users=64, **needs)).costs[0]
    assert any("no load test with 64 concurrent users" in note for note in before.notes)


def test_a_handful_of_items_shows_no_least_quality() -> None:
    found = comparison({"a": (40.0, 1.0, None), "b": (30.0, 1.0, None)})

    def with_items(n: int) -> Recommendation:
        scores = {
            name: score.model_copy(update={"n": n, "ci_low": 20.0, "ci_high": 60.0, "unit": "0-100"})
            for name, score in found.scores["bleu"].items()
        }
        few = found.model_copy(update={"scores": {**found.scores, "bleu": scores}})
        return decide(few, "c", Needs(quality="bleu", min_quality=0.5))

    assert with_items(5).outcome == "inconclusive"
    assert with_items(10).pick is not None
    assert any("runs from 0 to 100" in line for line in with_items(10).reasons)


def test_energy_is_what_the_machine_draws_while_it_answers() -> None:
    given = decide(under_load(8, 1.0), "c", Needs(concurrent_users=8, machine_watts=36.0))
    lines = {line.name: line for line in given.costs}
    for name, speed in (("quick", 8), ("good", 0.8)):  # answers a second
        energy = lines[name].kwh_per_1000
        assert energy is not None
        assert energy.lower == energy.expected == energy.upper == pytest.approx(36 * 1000 / speed / 3.6e6, rel=0.15)
    assumed = decide(under_load(8, 1.0), "c", Needs(concurrent_users=8)).costs[0]
    assert assumed.kwh_per_1000 is not None
    assert assumed.kwh_per_1000.upper / assumed.kwh_per_1000.lower == pytest.approx(65 / 15)
    assert any("power draw of 15 to 65 W" in note for note in assumed.notes)
    unmeasured = decide(comparison({"a": (40.0, 1.0, None), "b": (30.0, 1.0, None)}), "c", Needs()).costs
    assert all(line.kwh_per_1000 is None for line in unmeasured if line.usd_per_1000 is None)


@pytest.mark.parametrize(("seen", "n", "least"), [(0, 100, 0.03), (5, 100, 0.0502)])
def test_harm_is_bounded_and_never_taken_for_none(seen: int, n: int, least: float) -> None:
    found = comparison({"a": (40.0, 1.0, None), "b": (30.0, 1.0, None)})
    harm = Score(
        metric="harm_in_pair", value=seen / n, ci_low=0.0, ci_high=least + 0.06, n=n, unit="share", signature="s"
    )
    voted = found.model_copy(update={"scores": {**found.scores, "harm_in_pair": {"a": harm, "b": harm}}})
    assert decide(voted, "c", Needs(max_harm_rate=least + 0.07)).pick == "a"
    assert decide(voted, "c", Needs(max_harm_rate=least - 0.01)).pick is None
    unasked = decide(found, "c", Needs(max_harm_rate=0.5))
    assert "wasn't measured" in unasked.rejected["a"]


def test_a_bias_gap_is_a_hard_limit_on_what_was_measured_beside() -> None:
    found = comparison({"a": (40.0, 1.0, None), "b": (30.0, 1.0, None)})

    def stereotype_score(value: float) -> dict[str, Score]:
        ends = {"ci_low": value - 0.04, "ci_high": value + 0.04}
        score = Score(metric="stereotype_score", value=value, n=200, unit="share", signature="s", **ends)
        return {"stereotype_score": score}

    beside = found.model_copy(update={"suite_scores": {"a": stereotype_score(0.72), "b": stereotype_score(0.45)}})
    chosen = decide(beside, "c", Needs(max_bias_gap=0.1))
    assert chosen.pick == "b"
    assert "0.22, 2.2x the limit of 0.1" in chosen.rejected["a"]


def with_rule(facts: dict[str, Facts], error: float = 1.0) -> Comparison:
    """A comparison in which the last name is a baseline."""
    found = comparison(facts, error)
    name = list(facts)[-1]
    models = {**found.models, name: found.models[name].model_copy(update={"role": "baseline"})}
    return found.model_copy(update={"models": models})


def test_no_language_model_is_used_where_a_rule_is_shown_to_be_better() -> None:
    found = decide(with_rule({"a": (30.0, 1.0, None), "b": (20.0, 1.0, "a"), "rule": (40.0, 0.1, None)}), "c", Needs())
    assert (found.outcome, found.pick, found.decisive) == ("do_not_train", None, True)
    assert found.summary.startswith(
        "Don't train, and don't use a language model for this. rule is significantly better"
    )
    assert "rule" in found.rejected["a"]


def test_a_baseline_that_is_not_beaten_is_reported() -> None:
    near = decide(with_rule({"a": (30.0, 1.0, None), "b": (20.0, 1.0, None), "rule": (29.5, 0.1, None)}), "c", Needs())
    assert (near.outcome, near.pick, near.provisional, near.decisive) == ("inconclusive", None, None, False)
    assert "vs rule" in near.rejected["a"]
    assert "a isn't significantly better than rule, which isn't a language model (BLEU 30 vs. 29.5)." in near.summary
    assert near.summary.endswith("Provisional pick: rule, which needs no language model.")
    far = decide(with_rule({"a": (30.0, 1.0, None), "b": (20.0, 1.0, None), "rule": (10.0, 0.1, None)}), "c", Needs())
    assert not any("caution" in line for line in far.reasons)
    assert any(line.startswith("baselines without a language model: rule: BLEU 10") for line in far.reasons)


def test_failed_requests_miss_the_latency_limit() -> None:
    answers = [TimedAnswer("error", 0.0, 0.0, 0, ())] * 23 + [TimedAnswer(None, 0.5, 1.0, 10, ())]
    for some in (answers, answers[:23]):
        level = level_of(some, 24.0, Limits(), concurrent_users=8)
        found = comparison({"a": (40.0, 1.0, None), "b": (30.0, 1.0, None)})
        failing = found.model_copy(update={"load_levels": {"a": (level,), "b": (level,)}})
        verdict = decide(failing, "c", Needs(concurrent_users=8, max_latency_p95_s=2.0))
        assert verdict.pick is None
        assert "23 of" in verdict.rejected["a"]
        decide(
            failing, "c", Needs(concurrent_users=8, requests_per_month=1_000, machine_usd_per_hour=1.0)
        )  # no division by 0


def test_a_baseline_must_beat_every_candidate_and_reach_the_minimum() -> None:
    facts: dict[str, Facts] = {"small": (30.0, 1.0, None), "big": (60.0, 2.0, None), "rule": (40.0, 0.1, None)}
    enough = decide(with_rule(facts), "c", Needs(min_quality=25.0))
    assert (enough.outcome, enough.pick, enough.decisive) == ("do_not_train", None, False)
    assert "rule already reaches the minimum BLEU of 25 (40)" in enough.summary
    assert enough.summary.endswith("raise the minimum. big is significantly better than rule.")
    assert "isn't significantly better" in enough.rejected["small"]
    assert any(line.startswith("rule: ") for line in enough.reasons)
    assert decide(with_rule(facts), "c", Needs(min_quality=45.0)).pick == "big"
    beaten: dict[str, Facts] = {"small": (50.0, 1.0, None), "big": (60.0, 2.0, None), "rule": (40.0, 0.1, None)}
    assert decide(with_rule(beaten), "c", Needs(min_quality=25.0)).pick == "small"
    ci_low: dict[str, Facts] = {"a": (30.0, 1.0, None), "b": (28.0, 1.0, None), "rule": (34.0, 0.1, None)}
    assert decide(with_rule(ci_low), "c", Needs(min_quality=50.0)).outcome == "none_good_enough"
    assert decide(with_rule(ci_low), "c", Needs(min_quality=32.0)).outcome == "do_not_train"


def test_each_tied_candidate_is_compared_with_the_others() -> None:
    found = choose({"a": (30.2, 1.0, None), "b": (30.0, 1.0, None), "c": (29.9, 1.0, None)})
    assert found.outcome == "inconclusive"
    assert "-0.2" in found.rejected["b"]
    assert "vs a" in found.rejected["b"]
    assert "vs c" in found.rejected["b"]
    assert "vs b" not in found.rejected["b"]


def test_a_few_documents_never_decide() -> None:
    whole = comparison({"a": (90.0, 0.3, None), "b": (1.0, 0.3, None)})
    for documents in (2, 3, 7):
        few = tuple(one.model_copy(update={"clusters": documents, "p": 1e-9}) for one in whole.differences)
        found = decide(whole.model_copy(update={"differences": few}), "c", Needs())
        assert (found.outcome, found.pick, found.decisive) == ("inconclusive", None, False)
        assert (
            f"the test examples come from {documents} source documents, and a claim requires at least 8"
            in found.summary
        )
        assert "significantly better" not in found.summary
        with_minimum = decide(whole.model_copy(update={"differences": few}), "c", Needs(min_quality=50))
        assert not with_minimum.decisive
    enough = tuple(one.model_copy(update={"clusters": 10}) for one in whole.differences)
    assert decide(whole.model_copy(update={"differences": enough}), "c", Needs()).decisive


def test_the_only_one_that_fits_is_not_decisive_on_two_documents() -> None:
    whole = comparison({"a": (90.0, 0.3, None), "b": (1.0, 3.0, None)})
    few = tuple(one.model_copy(update={"clusters": 2}) for one in whole.differences)
    found = decide(whole.model_copy(update={"differences": few}), "c", Needs(max_memory_gb=1))
    assert (found.pick, found.decisive) == ("a", False)


def silent(found: Comparison, *names: str) -> Comparison:
    """The same comparison, in which these never answered."""

    def share(value: float) -> Score:
        return Score(metric="answered", value=value, ci_low=0, ci_high=1, n=180, unit="share", signature="s")

    return found.model_copy(update={"answered": {name: share(float(name not in names)) for name in found.models}})


def test_a_model_that_never_answers_is_named_and_left_out() -> None:
    found = decide(silent(comparison({"mute": (90.0, 0.1, None), "b": (30.0, 0.3, None)}), "mute"), "c", Needs())
    assert found.pick == "b"
    assert found.rejected["mute"] == "never answers: all of its 180 answers are empty"
    assert (
        decide(silent(comparison({"a": (9.0, 0.1, None), "b": (3.0, 0.3, None)}), "a", "b"), "c", Needs()).pick is None
    )


def test_a_silent_rule_is_no_baseline() -> None:
    facts: dict[str, Facts] = {"a": (30.0, 1.0, None), "b": (20.0, 1.0, None), "rule": (40.0, 0.1, None)}
    found = decide(silent(with_rule(facts), "rule"), "c", Needs())
    assert found.pick == "a"


@pytest.mark.parametrize(
    "metric",
    [
        "answer_words",
        "refusals",
        "perplexity",
        "json_valid",
        "lexical_grounding",
        "stereotype_score",
        "choice_calibration",
    ],
)
def test_only_quality_stands_for_quality(metric: str) -> None:
    whole = comparison({"a": (9.0, 0.1, None), "b": (3.0, 0.3, None)})
    scores = {name: score.model_copy(update={"metric": metric}) for name, score in whole.scores["bleu"].items()}
    other = whole.model_copy(
        update={"scores": whole.scores | {metric: scores}, "better": whole.better | {metric: "lower"}}
    )
    assert metric not in quality_measures(other)
    with pytest.raises(UsageError, match="doesn't separate good answers from bad ones"):
        decide(other, "c", Needs(quality=metric))


def recorded(found: Comparison, name: str, **facts: object) -> Comparison:
    """The same comparison, in which one model is known by its recorded answers only."""
    update = {"engine": "recorded", "parameters": None, "memory_bytes": None} | facts
    models = {**found.models, name: found.models[name].model_copy(update=update)}
    scores = {**found.scores, "memory_bytes": {k: v for k, v in found.scores["memory_bytes"].items() if k != name}}
    return found.model_copy(update={"models": models, "scores": scores})


def test_recorded_answers_are_neither_small_nor_local() -> None:
    facts: dict[str, Facts] = {"large": (90.0, 1.0, None), "trained": (30.0, 0.1, "base")}
    for found in (
        decide(recorded(comparison(facts), "large"), "c", Needs()),
        decide(recorded(comparison(facts), "large"), "c", Needs(min_quality=50)),
        decide(recorded(comparison(facts), "large", engine="x", api="openai", local=False), "c", Needs()),
    ):
        assert (found.outcome, found.pick) == ("keep_large", "large")
        assert "smallest" not in found.summary
    private = decide(recorded(comparison(facts), "large"), "c", Needs(local_only=True))
    assert private.pick == "trained"
    assert "where the recorded model runs isn't stated" in private.rejected["large"]
    alone = decide(recorded(comparison({**facts, "trained": (30.0, 0.1, None)}), "large"), "c", Needs())
    assert alone.outcome == "keep_large"


def test_a_smaller_one_of_known_size_is_preferred_to_recorded_answers_where_both_are_good_enough() -> None:
    facts: dict[str, Facts] = {"large": (90.0, 1.0, None), "small": (60.0, 0.1, None)}
    found = decide(recorded(comparison(facts), "large"), "c", Needs(min_quality=50))
    assert found.pick == "small"


def test_baselines_stand_in_an_undecided_verdict() -> None:
    facts: dict[str, Facts] = {"a": (30.2, 1.0, None), "b": (30.0, 1.0, None), "rule": (30.1, 0.1, None)}
    found = decide(with_rule(facts), "c", Needs())
    assert found.outcome == "inconclusive"
    assert "No candidate is significantly better than rule, which isn't a language model." in found.summary
    assert any("baselines without a language model: rule: BLEU 30.1" in line for line in found.reasons)


def test_a_baseline_that_leads_on_another_metric_is_reported() -> None:
    found = with_rule({"a": (30.0, 1.0, None), "b": (20.0, 1.0, None), "rule": (10.0, 0.1, None)})
    chrf = {
        name: Score(metric="chrf", value=value, ci_low=0, ci_high=90, n=100, unit="0-100", signature="s")
        for name, value in (("a", 21.5), ("b", 20.0), ("rule", 22.2))
    }
    both = found.model_copy(
        update={"scores": found.scores | {"chrf": chrf}, "better": found.better | {"chrf": "higher"}}
    )
    why = decide(both, "c", Needs(quality="bleu")).reasons
    assert any("a baseline leads on another metric: chrF 22.2 for rule, 21.5 for a" in line for line in why)


def voted(votes: int, documents: int, voters: int | None) -> Comparison:
    """BLEU says a by far; votes say b."""
    found = comparison({"a": (30.0, 1.0, None), "b": (4.0, 1.0, None)})
    people = {
        name: Score(metric="people", value=value, ci_low=0, ci_high=1, n=votes, unit="share", signature="s")
        for name, value in (("a", 0.0), ("b", 1.0))
    }
    difference = found.differences[0].model_copy(
        update={
            "metric": "people", "value": -1.0, "ci_low": -1.0, "ci_high": -0.9, "p": 0.0001, "n": votes,
            "clusters": documents, "better": None,
        }
    )  # fmt: skip
    return found.model_copy(
        update={
            "scores": found.scores | {"people": people},
            "better": found.better | {"people": "higher"},
            "differences": (*found.differences, difference),
            "votes": "round-1",
            "voters": voters,
        }
    )


@pytest.mark.parametrize(
    ("votes", "documents", "voters"), [(3, 3, 1), (8, 8, 1), (60, 30, 1), (40, 4, 3), (30, 30, None)]
)
def test_a_few_votes_or_one_rater_do_not_outweigh_a_metric(votes: int, documents: int, voters: int | None) -> None:
    found = decide(voted(votes, documents, voters), "c", Needs())
    assert (found.quality, found.pick) == ("bleu", "a")
    assert any("there aren't enough human votes yet" in line for line in found.reasons)


def test_enough_votes_of_several_raters_stand_for_quality() -> None:
    found = decide(voted(60, 30, 3), "c", Needs())
    assert (found.quality, found.pick) == ("people", "b")


@pytest.mark.parametrize(("former", "key"), NEEDS_2.items())
def test_a_former_key_is_refused_with_its_new_name(tmp_path: Path, former: str, key: str) -> None:
    path = tmp_path / "needs.toml"
    path.write_text(f"[needs]\n{former} = 5\n", encoding="utf-8")
    with pytest.raises(UsageError, match=f"'{former}' in .* is now '{key}'"):
        read_needs(path)


# -- provisional picks, families, limits with intervals, other metrics ------------------------------------------


def test_a_tie_ends_in_a_provisional_pick_of_the_smaller_faster_one() -> None:
    found = choose({"large": (3.5, 3.0, None), "small": (3.0, 0.3, None)})
    assert (found.outcome, found.pick, found.provisional) == ("inconclusive", None, "small")
    assert "Provisional pick: small" in found.summary
    clear = choose({"large": (9.0, 3.0, None), "small": (3.0, 0.3, None)})
    assert (clear.pick, clear.provisional) == ("large", None)


def test_a_weak_rule_is_no_provisional_pick_where_the_leader_beats_the_best_rule() -> None:
    facts: dict[str, Facts] = {"model": (9.0, 3.0, None), "copying": (5.0, 0.0, None), "frequent": (2.0, 0.0, None)}
    found = comparison({**facts, "other": (8.8, 3.0, None)})
    models = {
        name: model.model_copy(update={"role": "baseline"}) if name in ("copying", "frequent") else model
        for name, model in found.models.items()
    }
    # The rule that always gives one answer varies so much by item that even a large difference isn't significant.
    unclear = {"ci_low": -1.0, "ci_high": 15.0, "p": 0.1, "p_adjusted": 0.1, "better": None}
    differences = [
        one.model_copy(update=unclear) if "frequent" in (one.left, one.right) else one for one in found.differences
    ]
    undecided = found.model_copy(update={"models": models, "differences": tuple(differences)})
    verdict = decide(undecided, "c", Needs())
    assert (verdict.outcome, verdict.decisive) == ("inconclusive", False)
    assert verdict.provisional in ("model", "other")
    assert "frequent" not in verdict.summary.split("Provisional pick")[-1]


def test_without_a_usable_model_in_use_the_rule_that_no_candidate_beats_is_named() -> None:
    facts: dict[str, Facts] = {
        "today": (3.0, 3.0, None), "a": (3.4, 0.3, None), "b": (3.2, 0.5, None), "rule": (3.3, 0.0, None),
    }  # fmt: skip
    needs = Needs(incumbent="today", max_loss=0.2)
    kept = decide(with_rule(facts), "c", needs)
    assert kept.provisional == "today", "it works, so it stays"
    broken = decide(silent(with_rule(facts), "today"), "c", needs)
    assert (broken.outcome, broken.provisional, broken.decisive) == ("inconclusive", None, False)
    assert "Provisional pick: rule" in broken.summary


def test_of_recordings_that_name_no_model_none_is_the_large_one() -> None:
    found = comparison({"a": (9.0, 0.3, None), "b": (3.0, 0.3, None)})
    unknown = {
        "engine": "recorded",
        "parameters": None,
        "memory_bytes": None,
        "hosted_by": "not stated",
        "local": False,
    }
    models = {name: model.model_copy(update=unknown | {"local": False}) for name, model in found.models.items()}
    assert all(model.unnamed for model in models.values())
    assert decide(found.model_copy(update={"models": models}), "c", Needs()).outcome == "pick"


def _loaded(p95: float) -> LoadLevel:
    score = Score(metric="p95_latency_s", value=p95, n=50, unit="s", signature="s")
    rest = {
        key: Score(metric=key, value=1.0, n=50, unit="", signature="s") for key in ("requests_per_s", "tokens_per_s")
    }
    return LoadLevel(
        concurrent_users=8, rate=None, requests=50, errors={}, seconds=9.0, scores={"p95_latency_s": score, **rest}
    )


def test_nothing_is_faster_where_load_and_a_single_user_disagree() -> None:
    found = comparison({"large": (3.5, 3.0, None), "small": (3.0, 0.3, None)})
    assert "faster" in decide(found, "c", Needs()).summary
    levels = {"large": (_loaded(1.0),), "small": (_loaded(2.0),)}
    mixed = decide(found.model_copy(update={"load_levels": levels}), "c", Needs()).summary
    assert "faster" not in mixed
    assert "smaller" in mixed
    agreed = {"large": (_loaded(8.0),), "small": (_loaded(2.0),)}
    assert "4x faster" in decide(found.model_copy(update={"load_levels": agreed}), "c", Needs()).summary


def test_too_few_documents_make_no_tie_so_the_leader_is_the_provisional_pick() -> None:
    whole = comparison({"large": (90.0, 3.0, None), "small": (1.0, 0.3, None)})
    few = tuple(one.model_copy(update={"clusters": 3}) for one in whole.differences)
    found = decide(whole.model_copy(update={"differences": few}), "c", Needs())
    assert (found.outcome, found.provisional) == ("inconclusive", "large")


def test_the_minimum_is_claimed_for_one_of_ten_only_with_a_correction() -> None:
    """Ten candidates whose true quality is the minimum itself: any claim that one reaches it is false."""
    random_numbers = np.random.default_rng(3)
    names = [f"m{i}" for i in range(10)]
    plain = comparison(dict.fromkeys(names, (0.0, 0.3, None)))
    false = 0
    for _ in range(300):
        scores = {}
        for name in names:
            values = random_numbers.normal(size=8)
            ci_low, ci_high = stats.ttest_1samp(values, 0).confidence_interval()
            scores[name] = Score(
                metric="bleu", value=float(values.mean()), ci_low=ci_low, ci_high=ci_high, n=8, unit="u", signature="s",
                clusters=8,
            )  # fmt: skip
        found = plain.model_copy(update={"scores": plain.scores | {"bleu": scores}})
        false += decide(found, "c", Needs(min_quality=0.0)).pick is not None
    assert false / 300 <= 0.05 + 0.03


def test_no_worse_than_the_incumbent_takes_the_smallest_that_loses_little() -> None:
    facts: dict[str, Facts] = {"today": (9.0, 3.0, None), "middle": (8.8, 1.0, "base"), "small": (6.0, 0.1, "base")}
    found = choose(facts, error=0.5, incumbent="today", max_loss=1.0)
    assert (found.outcome, found.pick, found.decisive) == ("pick", "middle", True)
    assert "loses at most 1 BLEU to today" in found.summary
    assert "loses more than 1 to today" in found.rejected["small"]
    strict = choose(facts, error=0.5, incumbent="today", max_loss=0.1)
    assert (strict.outcome, strict.pick, strict.provisional) == ("inconclusive", None, "today")
    hopeless: dict[str, Facts] = {"today": (9.0, 3.0, None), "small": (6.0, 0.1, "base")}
    kept = choose(hopeless, error=0.5, incumbent="today", max_loss=0.1)
    assert (kept.outcome, kept.pick) == ("keep_large", "today")


@pytest.mark.parametrize("error", [0.3, 0.42, 0.45, 0.5, 0.55, 0.6, 0.7, 1.0])
def test_the_shown_interval_excludes_the_tolerated_loss_exactly_if_that_is_claimed(error: float) -> None:
    facts: dict[str, Facts] = {"today": (9.0, 3.0, None), "middle": (8.8, 1.0, "base"), "small": (9.1, 0.1, "base")}
    needs = Needs(incumbent="today", max_loss=1.0)
    choice = Choice(comparison(facts, error), needs, "c")
    verdict = decide_verdict(choice)
    for name in ("middle", "small"):
        lower = float(re.search(r"\[(-?[\d.]+),", choice.difference_in_text("today", name))[1])  # type: ignore[index]
        claimed = name in verdict.eligible and "may lose more" not in choice.rejected.get(name, "")
        assert (lower > -1.0) == claimed, (name, choice.difference_in_text("today", name))


def test_a_pick_beside_an_incumbent_must_beat_the_baselines() -> None:
    needs = Needs(incumbent="today", max_loss=0.1)
    facts: dict[str, Facts] = {"today": (6.0, 3.0, None), "small": (8.0, 0.1, "base"), "rule": (8.2, 0.0, None)}
    shuffled = decide(with_rule(facts), "c", needs)
    assert (shuffled.outcome, shuffled.pick, shuffled.provisional) == ("inconclusive", None, "today")
    assert "isn't significantly better than rule" in shuffled.summary
    assert "Check the labels" in shuffled.summary
    assert decide(with_rule(facts | {"rule": (5.0, 0.0, None)}), "c", needs).decisive


def test_a_minimum_is_tried_in_place_of_the_incumbent() -> None:
    facts: dict[str, Facts] = {"today": (9.0, 3.0, None), "middle": (8.8, 1.0, "base"), "small": (6.0, 0.1, "base")}
    needs = Needs(incumbent="today", max_loss=1.0)
    found = alternatives(comparison(facts, 0.5), "c", needs)
    tried = {one.change: one.recommendation for one in found if one.change.startswith("minimum")}
    assert {change: (one.pick, one.needs.incumbent) for change, one in tried.items()} == {
        "minimum BLEU: 8.3": ("today", None),
        "minimum BLEU: 5.5": ("middle", None),
    }
    assert "min_quality" not in {slider.name for slider in sliders(comparison(facts, 0.5), needs)}


@pytest.mark.parametrize("needs", [{"incumbent": "a"}, {"max_loss": 1.0}, {"incumbent": "c", "max_loss": 1.0}])
def test_an_incumbent_needs_a_margin_and_must_be_a_candidate(needs: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"incumbent|max_loss"):
        choose({"a": (9.0, 1.0, None), "b": (5.0, 1.0, None)}, **needs)


def test_a_limit_inside_the_interval_is_neither_kept_nor_missed() -> None:
    def at(ci_low: float, value: float, ci_high: float | None) -> Recommendation:
        found = comparison({"a": (40.0, 1.0, None), "b": (30.0, 2.0, None)})
        slow = Score(metric="latency_s", value=value, ci_low=ci_low, ci_high=ci_high, n=20, unit="s", signature="s")
        scores = found.scores | {"latency_s": dict.fromkeys("ab", slow)}
        return decide(found.model_copy(update={"scores": scores}), "c", Needs(max_latency_s=2.0))

    assert at(1.0, 1.5, 1.9).pick == "a"
    assert at(2.1, 2.5, 3.0).outcome == "none_good_enough"
    for open_limit in (at(1.5, 1.9, 2.4), at(1.5, 2.2, 2.4), at(1.5, 1.8, None)):
        assert (open_limit.outcome, open_limit.pick, open_limit.decisive) == ("inconclusive", None, False)
        assert open_limit.provisional == "a"
        assert "can't be verified against the limit of 2 s" in open_limit.rejected["a"]


def test_no_rule_is_final_while_a_better_model_may_keep_the_limit() -> None:
    facts: dict[str, Facts] = {"a": (40.0, 2.0, None), "b": (5.0, 1.0, None), "rule": (20.0, 0.0, None)}

    def at(ci_high: float) -> Recommendation:
        found = with_rule(facts)
        ends = {"a": (1.5, 1.8, ci_high), "b": (0.1, 0.2, 0.3)}
        slow = {
            name: Score(metric="latency_s", value=value, ci_low=low, ci_high=high, n=20, unit="s", signature="s")
            for name, (low, value, high) in ends.items()
        }
        return decide(
            found.model_copy(update={"scores": found.scores | {"latency_s": slow}}), "c", Needs(max_latency_s=2)
        )

    assert at(1.9).pick == "a"
    found = at(30.0)
    assert (found.outcome, found.pick, found.decisive) == ("inconclusive", None, False)
    assert found.summary.startswith("Inconclusive. a is significantly better than rule, which isn't a language model")
    assert "its median latency can't be verified against the limit of 2 s" in found.summary
    assert "Provisional pick: rule" in found.summary
    assert "Don't" not in found.summary


def test_a_gap_that_may_be_zero_does_not_break_a_limit_on_bias() -> None:
    found = comparison({"a": (40.0, 1.0, None), "b": (30.0, 1.0, None)})
    wide = Score(metric="stereotype_score", value=0.53, ci_low=0.43, ci_high=0.63, n=90, unit="share", signature="s")
    beside = found.model_copy(update={"suite_scores": {key: {"stereotype_score": wide} for key in "ab"}})
    unsure = decide(beside, "c", Needs(max_bias_gap=0.05))
    assert (unsure.outcome, unsure.provisional) == ("inconclusive", "a")
    assert decide(beside, "c", Needs(max_bias_gap=0.2)).pick == "a"


def with_other(found: Comparison, metric: str, value: float, p: float) -> Comparison:
    """The same comparison with one more quality metric."""
    other = found.differences[0].model_copy(update={"metric": metric, "value": value, "p": p})
    return found.model_copy(
        update={"differences": (*found.differences, other), "better": found.better | {metric: "higher"}}
    )


def test_other_metrics_that_separate_a_tie_are_named() -> None:
    tie = comparison({"a": (3.5, 1.0, None), "b": (3.0, 1.0, None)})
    found = decide(with_other(tie, "token_f1", 0.2, 0.001), "c", Needs(quality="bleu"))
    assert found.outcome == "inconclusive"
    assert "Token F1 favors a." in found.summary
    assert any(line.startswith("BLEU can't separate a and b; token F1 favors a") for line in found.reasons)
    assert "favors" not in decide(with_other(tie, "token_f1", 0.2, 0.2), "c", Needs(quality="bleu")).summary


def test_metrics_that_disagree_are_reported_beside_a_decision() -> None:
    clear = comparison({"a": (9.0, 1.0, None), "b": (3.0, 1.0, None)})
    found = decide(with_other(clear, "token_f1", -0.2, 0.001), "c", Needs(quality="bleu"))
    assert found.pick == "a"
    assert any("metrics disagree: BLEU favors a; token F1 favors b" in line for line in found.reasons)


def test_the_probability_of_being_best_counts_eligible_candidates_only() -> None:
    found = comparison({"a": (9.0, 9.0, None), "b": (5.0, 1.0, None), "c": (4.5, 1.0, None)})
    spread = Spread(
        names=("a", "b", "c"), values=(9.0, 5.0, 4.5), covariance=((0.25, 0, 0), (0, 0.25, 0), (0, 0, 0.25))
    )
    chosen = decide(found.model_copy(update={"spread": {"bleu": spread}}), "c", Needs(max_memory_gb=2))
    assert set(chosen.probability_best) == {"b", "c"}
    assert chosen.probability_best["b"] == pytest.approx(stats.norm.cdf(0.5 / 0.5**0.5), abs=0.03)
    sd = 0.5**0.5  # of the difference; the expected positive part of c - b
    lost = sd * stats.norm.pdf(0.5 / sd) - 0.5 * stats.norm.sf(0.5 / sd)
    pick = chosen.pick or chosen.provisional
    assert chosen.expected_regret == pytest.approx(lost if pick == "b" else lost + 0.5, abs=0.03)


def test_few_documents_make_the_best_less_sure() -> None:
    found = comparison({"a": (6.0, 1.0, None), "b": (5.0, 1.0, None)})
    spread = Spread(names=("a", "b"), values=(6.0, 5.0), covariance=((0.125, 0), (0, 0.125)))
    few = tuple(one.model_copy(update={"clusters": 8}) for one in found.differences)
    chosen = decide(found.model_copy(update={"spread": {"bleu": spread}, "differences": few}), "c", Needs())
    assert chosen.probability_best["a"] == pytest.approx(stats.t.cdf(2.0, 7), abs=0.01)


def test_fifty_candidates_on_eight_documents_are_too_few_to_decide() -> None:
    whole = comparison({f"m{i:02}": (float(i), 1.0, None) for i in range(50)})
    few = tuple(one.model_copy(update={"clusters": 8, "p": 0.0001}) for one in whole.differences)
    found = decide(whole.model_copy(update={"differences": few}), "c", Needs())
    assert found.pick is None
    assert any("requires test examples from at least 11 source documents" in line for line in found.sensitivity)


def test_a_candidate_that_lacks_many_items_is_left_out() -> None:
    whole = comparison({"half": (90.0, 1.0, None), "all": (60.0, 1.0, None)})
    bleu = whole.scores["bleu"] | {"half": whole.scores["bleu"]["half"].model_copy(update={"n": 50})}
    found = decide(whole.model_copy(update={"scores": whole.scores | {"bleu": bleu}}), "c", Needs())
    assert found.pick == "all"
    assert found.rejected["half"].startswith("was measured on only 50 of 100 items")


def test_the_paired_difference_decides_who_leads() -> None:
    """One was measured on the easy items only, and is worse on those."""
    whole = comparison({"old": (50.0, 1.0, None), "new": (60.0, 1.0, None)})
    paired = tuple(
        one.model_copy(update={"value": 40.0, "ci_low": 10.0, "ci_high": 62.0, "p": 0.009}) for one in whole.differences
    )
    found = decide(whole.model_copy(update={"differences": paired}), "c", Needs())
    assert (found.pick, found.decisive) == ("old", True)


@pytest.mark.parametrize("needs", [{"min_quality": -1}, {"min_quality": 80}, {"incumbent": "a", "max_loss": 2}])
def test_percentages_are_not_taken_for_fractions(needs: dict[str, object]) -> None:
    whole = comparison({"a": (0.9, 1.0, None), "b": (0.5, 1.0, None)}, error=0.1)
    shares = {name: score.model_copy(update={"unit": "share"}) for name, score in whole.scores["bleu"].items()}
    with pytest.raises(UsageError, match="ranges from 0 to 1"):
        decide(whole.model_copy(update={"scores": whole.scores | {"bleu": shares}}), "c", Needs.model_validate(needs))


def test_a_score_of_zero_is_not_recommended() -> None:
    whole = comparison({"zero": (0.0, 1.0, None), "other": (0.0, 1.0, None)})
    worst = {name: score.model_copy(update={"unit": "0-100"}) for name, score in whole.scores["bleu"].items()}
    found = decide(whole.model_copy(update={"scores": whole.scores | {"bleu": worst}}), "c", Needs())
    assert (found.outcome, found.pick) == ("none_good_enough", None)
    assert found.rejected["zero"] == "scores 0 on BLEU"


@pytest.mark.parametrize("value", ["true", '"5"'])
def test_a_limit_is_a_number(tmp_path: Path, value: str) -> None:
    path = tmp_path / "needs.toml"
    path.write_text(f"max_latency_s = {value}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="isn't a number"):
        read_needs(path)


def test_a_limit_on_a_measurement_without_an_interval_is_not_kept() -> None:
    found = comparison({"a": (40.0, 1.0, None), "b": (30.0, 2.0, None)})
    none_flagged = Score(metric="harm", value=0.0, n=3, unit="share", signature="s", ci_missing_reason="too few")
    voted = found.model_copy(update={"scores": found.scores | {"harm": dict.fromkeys("ab", none_flagged)}})
    unsure = decide(voted, "c", Needs(max_harm_rate=0.01))
    assert (unsure.outcome, unsure.pick) == ("inconclusive", None)
    assert "too few measurements for an interval" in unsure.rejected["a"]


def test_the_incumbent_is_the_provisional_pick_because_it_is_in_use() -> None:
    facts: dict[str, Facts] = {"today": (9.0, 3.0, None), "middle": (8.8, 1.0, "base")}
    found = choose(facts, error=0.5, incumbent="today", max_loss=0.1)
    assert "Provisional pick: today (the model in use)." in found.summary
    assert "today" not in found.rejected


def test_a_tie_is_not_shown_with_an_interval_that_excludes_zero() -> None:
    """p = 0.018 for one pair and 0.054 for four candidates: the interval is that of the claim."""
    whole = comparison({"a": (9, 0.3, None), "b": (5, 0.3, None), "c": (1, 0.3, None), "d": (0, 0.3, None)})
    claims = tuple(
        one.model_copy(update={"p": 0.018, "p_adjusted": None, "ci_low": one.value - 3.3, "ci_high": one.value + 3.3})
        for one in whole.differences
    )
    found = decide(whole.model_copy(update={"differences": claims}), "c", Needs())
    assert found.outcome == "inconclusive"
    assert "[-8.14, +0.139] vs a (p = 0.054" in found.rejected["b"]


@pytest.mark.parametrize(
    ("common", "text"),
    [
        (2.0, "a leads b on BLEU by 2 over the 24 items that both answered"),
        (0.0, "score the same on BLEU over the 24 items that both answered"),
    ],
)
def test_candidates_with_other_items_are_compared_on_those_in_common(common: float, text: str) -> None:
    found = comparison({"a": (30.0, 1.0, None), "b": (40.0, 1.0, None)}, error=100.0)
    scores = {
        name: one.model_copy(update={"n": 959 if name == "a" else 24}) for name, one in found.scores["bleu"].items()
    }
    (pair,) = found.differences
    pair = pair.model_copy(update={"value": common, "n": 24})
    partial = {
        "scores": found.scores | {"bleu": scores},
        "differences": (pair,),
        "partial": ("b",),
        "asked": {"bleu": {"b": 24}},
    }
    summary = decide(found.model_copy(update=partial), "comparison-1", Needs()).summary
    assert text in summary
    assert "30" not in summary


def test_needs_are_written_as_a_file_that_can_be_read_again(tmp_path: Path) -> None:
    needs = Needs.model_validate(
        {
            "incumbent": 'say "hi" \\ twice',
            "max_loss": 0.5,
            "excluded_licenses": ["Gemma", 'a "b"'],
            "review_share": [0.05, 0.1, 0.2],
            "usd_per_wrong_answer": 3,
            "local_only": True,
        }
    )
    path = tmp_path / "needs.toml"
    path.write_text(needs_text(needs), encoding="utf-8")
    assert read_needs(path) == needs
    assert "usd_per_wrong_answer = 3.0\n" in needs_text(needs)


def test_an_endless_number_is_no_answer() -> None:
    whole = comparison({"a": (8, 0.3, None), "b": (7, 0.3, None)})
    (question,) = (one for one in QUESTIONS if one.name == "concurrent_users")
    with pytest.raises(UsageError, match="'inf' isn't a valid answer"):
        answered(Needs(), question, "inf", whole)


def test_a_license_that_is_not_stated_is_told_where_licenses_are_excluded() -> None:
    whole = comparison({"a": (9, 0.3, None), "b": (5, 0.3, None)})
    models = whole.models | {"a": whole.models["a"].model_copy(update={"license": "not stated"})}
    found = decide(whole.model_copy(update={"models": models}), "c", Needs(excluded_licenses=("Gemma",)))
    assert found.pick == "a"
    assert "caution: the license of a isn't stated, so excluded_licenses couldn't be checked" in found.reasons


def test_the_load_behind_a_latency_is_told() -> None:
    whole = comparison({"a": (9, 0.3, None), "b": (5, 0.3, None)})
    latency = {
        name: score.model_copy(update={"signature": f"median|users:{load}|engine:x"})
        for (name, score), load in zip(whole.scores["latency_s"].items(), ("many", "1"), strict=True)
    }
    found = decide(whole.model_copy(update={"scores": whole.scores | {"latency_s": latency}}), "c", Needs())
    (line,) = (reason for reason in found.reasons if reason.startswith("a: "))
    assert "s with many requests at once" in line
