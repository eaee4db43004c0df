"""combine_votes(): people's votes and judge models' votes as one metric, by prediction-powered inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.judging.pairs import Judged, as_pairs, share_of
from sizewise.judging.vote_scores import clustering, codes_of, sampled_raters
from sizewise.records import CombinedVotes, Difference, JudgeTask, Origin, Score, Vote
from sizewise.stats import MIN_CLUSTERS, detectable_difference, holm, needed_for
from sizewise.stats.crossed import LEVEL, Reading
from sizewise.stats.prediction_powered import Combined, Judgments, combine

FloatArray = npt.NDArray[np.float64]
PEOPLE_PPI = "people_ppi"


class CombinedMetric(NamedTuple):
    """Votes of people and of judge models as one metric; empty if judge models can't add to people's votes."""

    scores: dict[str, Score]
    """Candidate -> win rate."""
    differences: list[Difference]
    """Difference of each pair."""
    pairs: tuple[CombinedVotes, ...]
    """How the votes on each pair were combined."""


class _Votes(NamedTuple):
    """Votes of a round that count, people's apart from judges'."""

    people: list[Judged]
    judges: list[str]
    by_judges: dict[str, dict[str, tuple[JudgeTask, Vote]]]
    """Task -> judge -> its vote."""


def combine_votes(
    judged: Sequence[Judged],
    names: Sequence[str],
    people: tuple[Mapping[str, Score], Sequence[Difference]],
    origins: Sequence[Origin] = ("person",),
    closed: bool = False,
) -> CombinedMetric:
    """Combine people's votes with those of all judge models, however good these are.

    Judge models make an estimate more precise by their votes on tasks that no person voted on. They needn't be
    validated: a judge that doesn't predict people's votes gets no weight. Where they don't make an interval narrower,
    people's own estimate stands. Each pair needs people's votes on MIN_CLUSTERS source documents.

    Args:
        judged: tasks of a round of pairs with all votes.
        names: candidates.
        people: scores and differences from people's votes alone.
        origins: origins of the votes that count as people's.
        closed: whether the round is closed; until then, intervals and p-values are anytime-valid.
    """
    nothing = CombinedMetric({}, [], ())
    votes = _select(judged, origins)
    scores, differences = people
    if not votes.judges or len(differences) < len(names) * (len(names) - 1) // 2:
        return nothing
    if min(pair.clusters for pair in differences) < MIN_CLUSTERS:
        return nothing
    reading: Reading = "once" if closed else "open"
    found = {(pair.left, pair.right): _pair(votes, pair, reading) for pair in differences}
    if not any(judges for _, judges in found.values()):
        return nothing
    return CombinedMetric(
        {name: _score(votes, name, scores[name], reading) for name in names},
        _differences(differences, [found[pair.left, pair.right][0] for pair in differences]),
        tuple(_summary(votes, pair, combined) for pair, (combined, _) in found.items()),
    )


def _select(judged: Sequence[Judged], origins: Sequence[Origin]) -> _Votes:
    counted = [(task, vote) for task, vote in judged if task.purpose == "vote" and task.right and vote.choice != "skip"]
    people = list(as_pairs([(task, vote) for task, vote in counted if vote.origin in origins]))
    by_judges: dict[str, dict[str, tuple[JudgeTask, Vote]]] = {}
    for task, vote in counted:
        if vote.origin == "model" and not task.more:
            by_judges.setdefault(task.id, {})[vote.rater] = task, vote
    judges = sorted({judge for row in by_judges.values() for judge in row})
    return _Votes(people, judges, by_judges)


def _pair(votes: _Votes, pair: Difference, reading: Reading) -> tuple[Combined, bool]:
    """Combine the votes on one pair; the second value says whether any judge has enough votes."""
    both = {pair.left, pair.right}
    combined = combine(_judgments(votes, pair.left, lambda task: {task.left, task.right} == both), reading=reading)
    return combined, isfinite(combined.correlation)


def _judgments(votes: _Votes, name: str, belongs: Callable[[JudgeTask], bool]) -> Judgments:
    """Lay out the votes on the tasks of a candidate, as shares that it won."""
    people = [(task, vote) for task, vote in votes.people if belongs(task)]
    known = {task.id for task, _ in votes.people}
    further = [
        (next(iter(row.values()))[0], row)
        for task, row in votes.by_judges.items()
        if task not in known and belongs(next(iter(row.values()))[0])
    ]
    documents = codes_of([task.cluster for task, _ in people] + [task.cluster for task, _ in further])
    strata = codes_of([_opponent(task, name) for task, _ in people] + [_opponent(task, name) for task, _ in further])
    count = len(people)
    return Judgments(
        shares=np.array([share_of(task, vote, name) for task, vote in people]),
        raters=sampled_raters([vote.rater for _, vote in people]),
        documents=documents[:count],
        predictions=_shares(votes, [votes.by_judges.get(task.id, {}) for task, _ in people], name),
        judged=_shares(votes, [row for _, row in further], name),
        judged_documents=documents[count:],
        strata=strata[:count],
        judged_strata=strata[count:],
    )


def _opponent(task: JudgeTask, name: str) -> str:
    return task.right if task.left == name else task.left


def _shares(votes: _Votes, rows: Sequence[Mapping[str, tuple[JudgeTask, Vote]]], name: str) -> FloatArray:
    found = np.full((len(rows), len(votes.judges)), np.nan)
    for number, row in enumerate(rows):
        for column, judge in enumerate(votes.judges):
            if judge in row:
                found[number, column] = share_of(*row[judge], name)
    return found


def _score(votes: _Votes, name: str, alone: Score, reading: Reading) -> Score:
    """Compute a candidate's win rate over all opponents; its opponents are strata of one estimate."""
    judgments = _judgments(votes, name, lambda task: name in (task.left, task.right))
    combined = combine(judgments, reading=reading)
    low, high = combined.estimate.ci_low, combined.estimate.ci_high
    if not combined.weights.any() or not _narrower(high - low, alone.ci_low, alone.ci_high):
        return alone.model_copy(update={"metric": PEOPLE_PPI})
    several = judgments.raters is not None
    return alone.model_copy(
        update={
            "metric": PEOPLE_PPI,
            "value": combined.estimate.value,
            "ci_low": low,
            "ci_high": high,
            "signature": f"ppi++|wilson|{clustering(several, reading)}",
        }
    )


def _narrower(width: float, low: float | None, high: float | None) -> bool:
    """Return whether an interval is narrower than another one, or the other one is unknown."""
    return low is None or high is None or width < high - low


def _differences(alone: Sequence[Difference], found: Sequence[Combined]) -> list[Difference]:
    """Compute the difference of each pair; people's own one where judges don't make the interval narrower."""
    differences = [_difference(pair, combined) for pair, combined in zip(alone, found, strict=True)]
    adjusted = holm([float("nan") if pair.p is None else pair.p for pair in differences])
    return [
        pair.model_copy(
            update={
                "p_holm": None if pair.p is None else p,
                "better": None if pair.p is None or p >= LEVEL else pair.left if pair.value > 0 else pair.right,
            }
        )
        for pair, p in zip(differences, adjusted, strict=True)
    ]


def _difference(alone: Difference, combined: Combined) -> Difference:
    low, high = 2 * combined.estimate.ci_low - 1, 2 * combined.estimate.ci_high - 1
    if not combined.weights.any() or not _narrower(high - low, alone.ci_low, alone.ci_high):
        return alone.model_copy(update={"metric": PEOPLE_PPI})
    value = 2 * combined.estimate.value - 1
    detectable = detectable_difference(low, high)
    return alone.model_copy(
        update={
            "metric": PEOPLE_PPI,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "p": combined.estimate.p,
            "detectable": detectable,
            "needed": needed_for(value, detectable, alone.clusters) if detectable and value else None,
        }
    )


def _summary(votes: _Votes, pair: tuple[str, str], combined: Combined) -> CombinedVotes:
    left, right = pair
    judgments = _judgments(votes, left, lambda task: {task.left, task.right} == {left, right})
    known = isfinite(combined.correlation)
    weights = zip(votes.judges, combined.weights.tolist(), strict=True)
    return CombinedVotes(
        left=left,
        right=right,
        votes=len(judgments.shares),
        judged=len(judgments.judged),
        weights={judge: weight for judge, weight in weights if weight > 0},
        correlation=combined.correlation if known else None,
        width_ratio=combined.width_ratio,
        floor=combined.floor,
    )


def combined_notes(pairs: Sequence[CombinedVotes]) -> Iterator[str]:
    """Describe how judge models' votes were combined with people's."""
    used = [pair for pair in pairs if pair.weights]
    if pairs and not used:
        yield "judge models don't make people's votes more precise: they don't predict them well enough"
    for pair in used:
        judges = ", ".join(f"{judge} {weight:.2f}" for judge, weight in pair.weights.items())
        yield (
            f"{pair.left} and {pair.right}: {pair.votes} votes of people and {pair.judged} further pairs judged by "
            f"models (weights: {judges}); the interval is {100 * (1 - pair.width_ratio):.0f}% narrower than with "
            f"people alone, and could get {100 * (1 - pair.floor):.0f}% narrower with more judged pairs"
        )
