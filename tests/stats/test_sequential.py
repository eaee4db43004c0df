from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from sizewise.stats import PairedBet
from sizewise.stats.crossed import estimate_share
from sizewise.stats.sequential import LOG_WEIGHTS, balanced, vote_evidence


def test_looking_after_each_item_raises_no_more_false_alarms() -> None:
    alarms = 0
    for seed in range(300):
        bet = PairedBet()
        bet.add(np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], 400, p=[0.2, 0.6, 0.2]))
        alarms += bet.p < 0.05
    assert alarms / 300 <= 0.05


def test_a_clear_difference_is_seen_early_whichever_way() -> None:
    for side in (1, -1):
        bet = PairedBet()
        for x in np.random.default_rng(1).choice([0.0, 1.0, -1.0], 500, p=[0.5, 0.4, 0.1]):
            bet.add([side * x])
            if bet.p < 0.05:
                break
        assert bet.n < 150
        assert np.sign(bet.mean) == side


def test_evidence_does_not_go_away() -> None:
    bet = PairedBet()
    bet.add([1.0] * 30)
    seen = bet.p
    bet.add([-1.0] * 10)
    assert bet.p == seen


def test_a_difference_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        PairedBet().add([1.5])


# -- votes of several raters -----------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=60))
@settings(deadline=None)
def test_every_rater_has_equally_many_votes(raters: list[int]) -> None:
    kept = [raters[number] for number in balanced((rater, number) for number, rater in enumerate(raters))]
    counts = {rater: kept.count(rater) for rater in kept}
    assert len(set(counts.values())) <= 1
    assert len(kept) >= max((raters.count(rater) for rater in raters), default=0)
    assert len(kept) >= len(set(raters))


def test_opposite_tastes_of_raters_are_no_preference() -> None:
    # One rater votes left, the other right, and the first one is ahead: a bet on each vote as it comes would win.
    votes = [("a", 1.0)] * 15 + [("a", 1.0), ("b", -1.0)] * 30
    shuffled = [("a", 1.0), ("b", -1.0), *votes]
    assert vote_evidence(balanced(shuffled)).p == 1
    assert vote_evidence([vote for _, vote in votes]).p < 1


def test_bets_and_interval_agree() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 8, 40, 200):
        for rate in (0.5, 0.65, 0.9, 1.0):
            found = vote_evidence(np.where(rng.random(n) < rate, 1.0, -1.0).tolist())
            assert (found.p < 0.05) == (not found.ci_low <= 0 <= found.ci_high)
    assert vote_evidence([1.0] * 8).p < 0.05
    assert vote_evidence([]) == (1.0, -1.0, 1.0)
    with pytest.raises(ValueError, match="between -1 and 1"):
        vote_evidence([2.0])


def test_many_votes_establish_a_small_preference() -> None:
    assert np.exp(LOG_WEIGHTS).sum() == pytest.approx(1)
    widths = []
    for votes in (1_000, 10_000, 100_000, 1_000_000):
        left = int(0.51 * votes)
        found = vote_evidence(np.concatenate([np.ones(left), -np.ones(votes - left)]).tolist())
        widths.append(found.ci_high - found.ci_low)
        assert found.ci_low < 0.02 < found.ci_high
    assert 0 < found.p < 0.05
    assert all(later < 0.6 * earlier for earlier, later in pairwise(widths))


def looked_at(rng: np.random.Generator, raters: int, spread: float, rate: float, most: int) -> tuple[bool, int]:
    """Vote until bets and crossed test agree on a preference; return whether they do, and after how many votes."""
    lean = rng.normal(0, spread, raters)
    order = np.arange(most) % raters
    votes = (rng.random(most) < expit(logit(rate) + lean[order])).astype(float)
    for n in range(10, most + 1, 10):
        if vote_evidence(balanced(zip(order[:n].tolist(), (2 * votes[:n] - 1).tolist(), strict=True))).p >= 0.05:
            continue
        if estimate_share(votes[:n], order[:n], np.arange(n), reading="with bets").p < 0.05:
            return True, n
    return False, most


def test_looking_at_an_open_round_raises_no_false_alarms() -> None:
    rng = np.random.default_rng(0)
    for raters, spread in ((1, 0.0), (3, 0.8), (8, 0.8)):
        assert sum(looked_at(rng, raters, spread, 0.5, 100)[0] for _ in range(40)) <= 6  # 5 % are 2


def test_an_open_round_saves_votes() -> None:
    # A fixed round that finds 60 % with 80 % power takes 194 votes.
    rng = np.random.default_rng(0)
    used = [looked_at(rng, 1, 0.0, 0.65, 194)[1] for _ in range(40)]
    assert np.mean(used) < 0.6 * 194
