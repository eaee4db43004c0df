"""Votes as pairs: what each vote says of two candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import isfinite

import numpy as np

from sizewise.judging.votes import SHARES
from sizewise.records import NONE, JudgeTask, PairVerdict, Score, Vote
from sizewise.stats import (
    MIN_CLUSTERS,
    PairedBet,
    detectable_difference,
    holm,
    length_controlled_rate,
    needed_for,
    paired_differences,
    wilson,
)

LEVEL = 0.05
ROUNDS = 10_000
LEAST_DECIDED = 20
Judged = tuple[JudgeTask, Vote]


def as_pairs(judged: Sequence[Judged]) -> Iterator[Judged]:
    """Give votes on pairs as they are, and the best of several as the pairs that it won.

    Where none was of use, all pairs are even. Whoever stood first stands left, so that a lean to the first still shows.
    """
    for task, vote in judged:
        if not task.more and vote.choice in SHARES:
            yield task, vote
            continue
        for left, right in combinations(range(len(task.answers)), 2):
            best = None if vote.choice == NONE else int(vote.choice) - 1
            if best is not None and best not in (left, right):
                continue
            (one, text), (other, other_text) = task.answers[left], task.answers[right]
            sides = {"left": one, "left_text": text, "right": other, "right_text": other_text, "more": ()}
            choice = "both_bad" if best is None else "left" if best == left else "right"
            yield task.model_copy(update=sides), vote.model_copy(update={"choice": choice})


def pair_rows(counted: Sequence[Judged]) -> list[dict[str, str]]:
    """Give votes on pairs as `judge rank` reads them."""
    return [
        {"left": t.left, "right": t.right, "winner": v.choice, "rater": v.rater, "item": t.item} for t, v in counted
    ]


def share_of(task: JudgeTask, vote: Vote, name: str) -> float:
    """Give 1 where this candidate won, 0 where it lost, one half for a tie."""
    share = SHARES[vote.choice]
    return share if task.left == name else 1 - share


def rate(metric: str, right: float, n: int, missing: str) -> Score:
    """Give a share with its Wilson interval."""
    if n == 0:
        return Score(metric=metric, n=0, unit="share", signature="wilson", missing_reason=missing)
    ci_low, ci_high = wilson(right, n)
    return Score(metric=metric, value=right / n, ci_low=ci_low, ci_high=ci_high, n=n, unit="share", signature="wilson")


def win_rate(metric: str, judged: Sequence[Judged], name: str) -> Score:
    """Give a candidate's share of votes on pairs."""
    return rate(metric, sum(share_of(task, vote, name) for task, vote in judged), len(judged), "no votes")


def won_by_longer(counted: Sequence[Judged]) -> Score:
    """Give the share of decided votes on pairs that the longer answer won."""
    decided = [(task, vote) for task, vote in counted if vote.choice in ("left", "right")]
    decided = [one for one in decided if len(one[0].left_text) != len(one[0].right_text)]
    won = sum((vote.choice == "left") == (len(task.left_text) > len(task.right_text)) for task, vote in decided)
    return rate("longer_won", won, len(decided), "no decided votes on answers of different length")


def pair_verdicts(counted: Sequence[Judged], names: Sequence[str], seed: int, closed: bool) -> list[PairVerdict]:
    """Decide for each pair of candidates who is preferred, from votes on pairs.

    While a round is open anybody may look after each vote, so only the test that is valid at any moment counts. On
    fewer than MIN_CLUSTERS documents nobody is preferred.

    Args:
        counted: votes on pairs.
        names: candidates.
        seed: seed of the resampling.
        closed: whether no more votes will come.
    """
    found: list[tuple[str, str, list[float], list[str], float, float, float, float]] = []
    for left, right in combinations(names, 2):
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
            value, ci_low, ci_high = ((one + 1) / 2 for one in interval)
        found.append((left, right, shares, clusters, value, ci_low, ci_high, p))
    adjusted = holm([one[-1] if closed else float("nan") for one in found])
    verdicts = []
    for (left, right, shares, clusters, value, ci_low, ci_high, p), p_holm in zip(found, adjusted, strict=True):
        bet = PairedBet()
        firsts = _first_of_each(shares, clusters)
        bet.add(2 * share - 1 for share in firsts)
        known = isfinite(ci_low)
        enough = len(firsts) >= MIN_CLUSTERS
        # A bet won early says that there was a difference, not who is ahead now.
        apart = enough and known and not ci_low <= 0.5 <= ci_high
        shown = apart and isfinite(p_holm) and p_holm < LEVEL
        decided = apart and bet.p * max(1, len(found)) < LEVEL
        better = None if not shown and not decided else left if value > 0.5 else right
        more = None
        if enough and known and not better and value != 0.5:
            least = detectable_difference(ci_low, ci_high, claims=len(found))
            more = max(0, needed_for(value - 0.5, least, len(shares)) - len(shares)) if least else None
        signature = "ties:half|bootstrap:documents"
        verdicts.append(
            PairVerdict(
                left=left,
                right=right,
                votes=len(shares),
                win_rate=Score(
                    metric="win_rate", n=len(shares), unit="share", signature=signature,
                    value=value if shares else None, missing_reason=None if shares else "no votes on this pair",
                    ci_low=ci_low if known else None, ci_high=ci_high if known else None,
                ),
                length_controlled=_even_length(counted, left, right, seed),
                p=p if isfinite(p) and closed else None,
                p_anytime=bet.p,
                better=better,
                decided=decided,
                more_votes=more,
            )
        )  # fmt: skip
    return verdicts


def _first_of_each(shares: Sequence[float], clusters: Sequence[str]) -> list[float]:
    """Take the first vote on each document.

    Later votes on it depend on the first, and a mean that changes with them would change bets already made.
    """
    firsts: dict[str, float] = {}
    for share, cluster in zip(shares, clusters, strict=True):
        firsts.setdefault(cluster, share)
    return list(firsts.values())


def _even_length(counted: Sequence[Judged], name: str, other: str, seed: int) -> Score:
    both = [(task, vote) for task, vote in counted if {task.left, task.right} == {name, other}]
    unit, signature = "share", "fractional logit on length|bootstrap:documents"
    decided = sum(vote.choice in ("left", "right") for _, vote in both)
    if decided < LEAST_DECIDED:
        missing = f"{decided} decided votes; {LEAST_DECIDED} are needed"
        return Score(metric="length_controlled", n=len(both), unit=unit, signature=signature, missing_reason=missing)
    longer = [(len(task.left_text) - len(task.right_text)) * (1 if task.left == name else -1) for task, _ in both]
    share = np.array([share_of(task, vote, name) for task, vote in both])
    clusters = [task.cluster for task, _ in both]
    found = length_controlled_rate(share, np.array(longer, dtype=np.float64), clusters, seed=seed)
    known = isfinite(found.ci_low)
    return Score(
        metric="length_controlled", value=found.value, ci_low=found.ci_low if known else None, ci_high=found.ci_high if known else None,
        n=len(both), unit=unit, signature=signature,
    )  # fmt: skip
