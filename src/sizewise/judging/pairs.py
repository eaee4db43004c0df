"""Pairwise votes: win rates, and who is preferred in each pair of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import isfinite
from typing import NamedTuple

import numpy as np

from sizewise.judging.votes import SHARES
from sizewise.metrics.proportion import proportion_score
from sizewise.records import NONE, JudgeTask, PairVerdict, Score, Vote
from sizewise.stats import (
    MIN_CLUSTERS,
    PairedBet,
    detectable_difference,
    holm,
    length_controlled_rate,
    needed_for,
    paired_differences,
)

LEVEL = 0.05
ROUNDS = 10_000
MIN_DECIDED = 20
Judged = tuple[JudgeTask, Vote]


def as_pairs(judged: Sequence[Judged]) -> Iterator[Judged]:
    """Yield votes on pairs unchanged, and turn each best-of-several vote into the pairs that it decided.

    A vote for "none" makes all of its pairs even. The answer shown first stays on the left, so that a preference for
    the first position remains visible.
    """
    for task, vote in judged:
        if not task.more and vote.choice in SHARES:
            yield task, vote
            continue
        for left, right in combinations(range(len(task.answers)), 2):
            best = None if vote.choice == NONE else int(vote.choice) - 1
            if best is not None and best not in (left, right):
                continue
            (left_name, left_text), (right_name, right_text) = task.answers[left], task.answers[right]
            sides = {
                "left": left_name,
                "left_text": left_text,
                "right": right_name,
                "right_text": right_text,
                "more": (),
            }
            choice = "both_bad" if best is None else "left" if best == left else "right"
            yield task.model_copy(update=sides), vote.model_copy(update={"choice": choice})


def pair_rows(counted: Sequence[Judged]) -> list[dict[str, str]]:
    """Convert votes on pairs to the rows that `judge rank` reads."""
    return [
        {"left": t.left, "right": t.right, "winner": v.choice, "rater": v.rater, "item": t.item} for t, v in counted
    ]


def share_of(task: JudgeTask, vote: Vote, name: str) -> float:
    """Return 1 where this candidate won, 0 where it lost, 0.5 for a tie."""
    share = SHARES[vote.choice]
    return share if task.left == name else 1 - share


def win_rate(metric: str, judged: Sequence[Judged], name: str) -> Score:
    """Compute the share of votes on pairs that a candidate won; a tie counts as one half."""
    won = sum(share_of(task, vote, name) for task, vote in judged)
    return proportion_score(metric, won, len(judged), missing_reason="no votes")


def won_by_longer(counted: Sequence[Judged]) -> Score:
    """Compute the share of decided votes on pairs that the longer answer won."""
    decided = [(task, vote) for task, vote in counted if vote.choice in ("left", "right")]
    decided = [(task, vote) for task, vote in decided if len(task.left_text) != len(task.right_text)]
    won = sum((vote.choice == "left") == (len(task.left_text) > len(task.right_text)) for task, vote in decided)
    absent = "no decided votes on answers of different length"
    return proportion_score("longer_won", won, len(decided), missing_reason=absent)


class _PairTest(NamedTuple):
    """The votes on one pair, and the test of its win rate against one half."""

    left: str
    right: str
    shares: list[float]
    """Result of each vote for the left candidate, see `share_of`."""
    clusters: list[str]
    """Source document of each vote."""
    value: float
    """Win rate of the left candidate; NaN without votes."""
    ci_low: float
    ci_high: float
    p: float


def pair_verdicts(counted: Sequence[Judged], names: Sequence[str], seed: int, closed: bool) -> list[PairVerdict]:
    """Test which candidate of each pair is preferred, based on votes on pairs.

    While a round is open, results may be read after every vote, so only the anytime-valid test counts. With fewer than
    MIN_CLUSTERS source documents no candidate is preferred.

    Args:
        counted: votes on pairs.
        names: candidates.
        seed: seed of the resampling.
        closed: whether the round is closed to further votes.
    """
    tests = [_test_pair(counted, left, right, seed) for left, right in combinations(names, 2)]
    adjusted = holm([test.p if closed else float("nan") for test in tests])
    return [
        _verdict(test, p_holm, len(tests), _length_controlled(counted, test.left, test.right, seed), closed)
        for test, p_holm in zip(tests, adjusted, strict=True)
    ]


def _test_pair(counted: Sequence[Judged], left: str, right: str, seed: int) -> _PairTest:
    both = [(task, vote) for task, vote in counted if {task.left, task.right} == {left, right}]
    shares = [share_of(task, vote, left) for task, vote in both]
    clusters = [task.cluster for task, _ in both]
    value, ci_low, ci_high, p = float("nan"), float("nan"), float("nan"), float("nan")
    if shares:
        won = np.array([[share, 1.0] for share in shares])
        lost = np.array([[1 - share, 1.0] for share in shares])
        ((interval, p),) = paired_differences(
            [won, lost], [(0, 1)], clusters, lambda s: s[..., 0] / s[..., 1], ROUNDS, seed
        )
        value, ci_low, ci_high = ((difference + 1) / 2 for difference in interval)
    return _PairTest(left, right, shares, clusters, value, ci_low, ci_high, p)


def _verdict(test: _PairTest, p_holm: float, claims: int, length_controlled: Score, closed: bool) -> PairVerdict:
    value, ci_low, ci_high = test.value, test.ci_low, test.ci_high
    votes = len(test.shares)
    bet = PairedBet()
    firsts = _first_of_each(test.shares, test.clusters)
    bet.add(2 * share - 1 for share in firsts)
    known = isfinite(ci_low)
    enough = len(firsts) >= MIN_CLUSTERS
    # A bet won early shows that there was a difference, not who is ahead now: the interval must exclude one half too.
    excludes_half = enough and known and not ci_low <= 0.5 <= ci_high
    significant = excludes_half and isfinite(p_holm) and p_holm < LEVEL
    decided = excludes_half and bet.p * max(1, claims) < LEVEL
    better = None if not significant and not decided else test.left if value > 0.5 else test.right
    more = None
    if enough and known and not better and value != 0.5:
        detectable = detectable_difference(ci_low, ci_high, claims=claims)
        more = max(0, needed_for(value - 0.5, detectable, votes) - votes) if detectable else None
    return PairVerdict(
        left=test.left,
        right=test.right,
        votes=votes,
        win_rate=Score(
            metric="win_rate",
            value=value if votes else None,
            ci_low=ci_low if known else None,
            ci_high=ci_high if known else None,
            n=votes,
            unit="share",
            signature="ties:half|bootstrap:documents",
            missing_reason=None if votes else "no votes on this pair",
        ),
        length_controlled=length_controlled,
        p=test.p if isfinite(test.p) and closed else None,
        p_anytime=bet.p,
        better=better,
        decided=decided,
        more_votes=more,
    )


def _first_of_each(shares: Sequence[float], clusters: Sequence[str]) -> list[float]:
    """Keep the first vote on each document.

    Later votes on it depend on the first, and a mean that changes with them would change bets already made.
    """
    firsts: dict[str, float] = {}
    for share, cluster in zip(shares, clusters, strict=True):
        firsts.setdefault(cluster, share)
    return list(firsts.values())


def _length_controlled(counted: Sequence[Judged], name: str, other: str, seed: int) -> Score:
    """Estimate the win rate for answers of equal length."""
    both = [(task, vote) for task, vote in counted if {task.left, task.right} == {name, other}]
    unit, signature = "share", "fractional logit on length|bootstrap:documents"
    decided = sum(vote.choice in ("left", "right") for _, vote in both)
    if decided < MIN_DECIDED:
        absent = f"{decided} decided votes; at least {MIN_DECIDED} are needed"
        return Score(metric="length_controlled", n=len(both), unit=unit, signature=signature, missing_reason=absent)
    longer = [(len(task.left_text) - len(task.right_text)) * (1 if task.left == name else -1) for task, _ in both]
    share = np.array([share_of(task, vote, name) for task, vote in both])
    clusters = [task.cluster for task, _ in both]
    found = length_controlled_rate(share, np.array(longer, dtype=np.float64), clusters, seed=seed)
    known = isfinite(found.ci_low)
    return Score(
        metric="length_controlled",
        value=found.value,
        ci_low=found.ci_low if known else None,
        ci_high=found.ci_high if known else None,
        n=len(both),
        unit=unit,
        signature=signature,
    )
