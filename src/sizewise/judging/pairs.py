"""Pairwise votes: win rates, and who is preferred in each pair of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import isfinite
from typing import NamedTuple

import numpy as np

from sizewise.judging.ranking import SHARES
from sizewise.judging.vote_scores import clustering, codes_of, sampled_raters, vote_score
from sizewise.records import NONE, JudgeTask, PairVerdict, Score, Vote
from sizewise.stats import LEVEL, MIN_CLUSTERS, detectable_difference, holm, length_controlled_rate, needed_for
from sizewise.stats.crossed import Estimate, Reading, estimate_share
from sizewise.stats.sequential import balanced, vote_evidence

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
        {
            "left": task.left,
            "right": task.right,
            "winner": vote.choice if vote.preference is None else f"{vote.preference:g}",
            "rater": vote.rater,
            "item": task.item,
            "document": task.cluster,
        }
        for task, vote in counted
    ]


def share_of(task: JudgeTask, vote: Vote, name: str) -> float:
    """Return 1 where this candidate won, 0 where it lost, 0.5 for a tie, and a soft preference as it is."""
    share = SHARES[vote.choice] if vote.preference is None else vote.preference
    return share if task.left == name else 1 - share


def win_rate(metric: str, judged: Sequence[Judged], name: str, reading: Reading = "once") -> Score:
    """Compute the share of votes on pairs that a candidate won; a tie counts as one half."""
    return score_votes(metric, judged, [share_of(task, vote, name) for task, vote in judged], reading)


def score_votes(
    metric: str,
    judged: Sequence[Judged],
    values: Sequence[float],
    reading: Reading = "once",
    missing_reason: str = "no votes",
) -> Score:
    """Build the score of a mean over votes, one value each."""
    raters, documents = [vote.rater for _, vote in judged], [task.cluster for task, _ in judged]
    return vote_score(metric, values, raters, documents, reading=reading, missing_reason=missing_reason)


def won_by_longer(counted: Sequence[Judged], reading: Reading = "once") -> Score:
    """Compute the share of decided votes on pairs that the longer answer won."""
    decided = [(task, vote) for task, vote in counted if vote.choice in ("left", "right")]
    decided = [(task, vote) for task, vote in decided if len(task.left_text) != len(task.right_text)]
    won = [(vote.choice == "left") == (len(task.left_text) > len(task.right_text)) for task, vote in decided]
    absent = "no decided votes on answers of different length"
    return score_votes("longer_won", decided, won, reading, absent)


class _PairTest(NamedTuple):
    """The votes on one pair, and the tests of its win rate against one half."""

    left: str
    right: str
    judged: Sequence[Judged]
    documents: int
    found: Estimate
    """Win rate of the left candidate with the p-value that counts; NaN without votes."""
    p_once: float
    """p-value for votes that are read once."""
    p_anytime: float
    """p-value for votes that are read again and again."""


def pair_verdicts(counted: Sequence[Judged], names: Sequence[str], closed: bool) -> list[PairVerdict]:
    """Test which candidate of each pair is preferred, based on votes on pairs.

    While a round is open, results may be read after every vote. Then bets (`stats.sequential`) must show a preference
    of these raters, and the crossed interval one of raters in general; interval and p-value are the wider and larger of
    the two. With fewer than MIN_CLUSTERS source documents no candidate is preferred. Holm's correction covers all
    pairs.

    Args:
        counted: votes on pairs.
        names: candidates.
        closed: whether the round is closed to further votes.
    """
    by_pair: dict[frozenset[str], list[Judged]] = {}
    for task, vote in counted:
        by_pair.setdefault(frozenset((task.left, task.right)), []).append((task, vote))
    tests = [
        _test_pair(by_pair.get(frozenset((left, right)), []), left, right, closed)
        for left, right in combinations(names, 2)
    ]
    adjusted = holm([test.found.p if test.documents >= MIN_CLUSTERS else float("nan") for test in tests])
    return [_verdict(test, p_holm, len(tests), closed) for test, p_holm in zip(tests, adjusted, strict=True)]


def _test_pair(judged: Sequence[Judged], left: str, right: str, closed: bool) -> _PairTest:
    if not judged:
        nan = float("nan")
        return _PairTest(left, right, judged, 0, Estimate(nan, nan, nan, nan), nan, 1.0)
    shares = np.array([share_of(task, vote, left) for task, vote in judged])
    raters = sampled_raters([vote.rater for _, vote in judged])
    documents = codes_of([task.cluster for task, _ in judged])
    once = estimate_share(shares, raters, documents)
    looked_at = estimate_share(shares, raters, documents, reading="with bets")
    firsts: dict[int, tuple[str, float]] = {}  # later votes on a document depend on the first
    for (_, vote), document, share in zip(judged, documents.tolist(), shares.tolist(), strict=True):
        firsts.setdefault(document, (vote.rater, 2 * share - 1))
    bets = vote_evidence(balanced(firsts.values()))
    p_anytime = max(bets.p, looked_at.p)
    if closed:
        return _PairTest(left, right, judged, len(firsts), once, once.p, p_anytime)
    ci_low = min(looked_at.ci_low, (1 + bets.ci_low) / 2)
    ci_high = max(looked_at.ci_high, (1 + bets.ci_high) / 2)
    found = Estimate(once.value, ci_low, ci_high, p_anytime)
    return _PairTest(left, right, judged, len(firsts), found, once.p, p_anytime)


def _verdict(test: _PairTest, p_holm: float, claims: int, closed: bool) -> PairVerdict:
    votes, reading = len(test.judged), _reading(closed)
    enough = test.documents >= MIN_CLUSTERS
    found = test.found
    better = None if not enough or not p_holm < LEVEL else test.left if found.value > 0.5 else test.right
    more = None
    if enough and not better and found.value != 0.5:
        detectable = detectable_difference(found.ci_low, found.ci_high, claims=claims)
        more = max(0, needed_for(found.value - 0.5, detectable, votes) - votes) if detectable else None
    several = sampled_raters([vote.rater for _, vote in test.judged]) is not None
    return PairVerdict(
        left=test.left,
        right=test.right,
        votes=votes,
        win_rate=Score(
            metric="win_rate",
            value=found.value if votes else None,
            ci_low=found.ci_low if enough else None,
            ci_high=found.ci_high if enough else None,
            n=votes,
            unit="share",
            signature=f"ties:half|wilson|{clustering(several, reading)}",
            missing_reason=None if votes else "no votes on this pair",
            clusters=test.documents,
        ),
        length_controlled=_length_controlled(test.judged, test.left, reading),
        p=test.p_once if enough and closed else None,
        p_anytime=test.p_anytime if enough else 1.0,
        better=better,
        decided=better is not None,
        more_votes=more,
    )


def _reading(closed: bool) -> Reading:
    return "once" if closed else "open"


def _length_controlled(judged: Sequence[Judged], name: str, reading: Reading) -> Score:
    """Estimate the win rate for answers of equal length."""
    raters = sampled_raters([vote.rater for _, vote in judged])
    signature = f"fractional logit on length|{clustering(raters is not None, reading)}"
    decided = sum(vote.choice in ("left", "right") for _, vote in judged)
    if decided < MIN_DECIDED:
        absent = f"{decided} decided votes; at least {MIN_DECIDED} are needed"
        return Score(
            metric="length_controlled", n=len(judged), unit="share", signature=signature, missing_reason=absent
        )
    longer = [(len(task.left_text) - len(task.right_text)) * (1 if task.left == name else -1) for task, _ in judged]
    share = np.array([share_of(task, vote, name) for task, vote in judged])
    documents = codes_of([task.cluster for task, _ in judged])
    found = length_controlled_rate(share, np.array(longer, dtype=np.float64), documents, raters, reading)
    count = int(documents.max()) + 1
    known = count >= MIN_CLUSTERS and isfinite(found.ci_low)
    return Score(
        metric="length_controlled",
        value=found.value,
        ci_low=found.ci_low if known else None,
        ci_high=found.ci_high if known else None,
        n=len(judged),
        unit="share",
        signature=signature,
        clusters=count,
    )
