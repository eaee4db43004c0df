"""combine_votes(): people's votes and judge models' votes as one metric, by prediction-powered inference."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.judging.pairs import Judged, as_pairs, share_of
from sizewise.judging.vote_scores import clustering, codes_of, sampled_raters
from sizewise.records import CombinedVotes, Difference, JudgeTask, Origin, Score, Vote
from sizewise.stats import LEVEL, MIN_CLUSTERS, detectable_difference, holm, needed_for
from sizewise.stats.crossed import Reading
from sizewise.stats.prediction_powered import SHIFT_LEVEL, Combined, Judgments, combine

FloatArray = npt.NDArray[np.float64]
PEOPLE_PPI = "people_ppi"


class CombinedMetric(NamedTuple):
    """Votes of people and of judge models as one metric; without scores if judge models don't add to people's votes."""

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

    Where a judge votes differently on people's tasks than on further ones, people's votes stand alone.

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
    votes = _select(judged, origins)
    scores, differences = people
    enough = len(differences) == len(names) * (len(names) - 1) // 2 and all(
        pair.clusters >= MIN_CLUSTERS for pair in differences
    )
    if not votes.judges or not enough:
        return CombinedMetric({}, [], ())
    reading: Reading = "once" if closed else "open"
    combined, pairs = [], []
    for alone in differences:
        judgments = _judgments(votes, alone.left, {alone.right})
        found = combine(judgments, reading=reading)
        if not _narrower(2 * _width(found), alone.ci_low, alone.ci_high):
            found = found._replace(weights=np.zeros(len(votes.judges)))
        combined.append(_difference(alone, found))
        if len(judgments.judged):
            pairs.append(_summary(alone, judgments, found, votes.judges))
    if not any(pair.weights for pair in pairs):
        return CombinedMetric({}, [], tuple(pairs))
    combined_scores = {name: _score(votes, name, scores[name], set(names), reading) for name in names}
    return CombinedMetric(combined_scores, _corrected(combined), tuple(pairs))


def _select(judged: Sequence[Judged], origins: Sequence[Origin]) -> _Votes:
    counted = [(task, vote) for task, vote in judged if task.purpose == "vote" and task.right and vote.choice != "skip"]
    people = list(as_pairs([(task, vote) for task, vote in counted if vote.origin in origins]))
    by_judges: dict[str, dict[str, tuple[JudgeTask, Vote]]] = {}
    for task, vote in counted:
        if vote.origin == "model" and not task.more:
            by_judges.setdefault(task.id, {})[vote.rater] = task, vote
    judges = sorted({judge for row in by_judges.values() for judge in row})
    return _Votes(people, judges, by_judges)


def _judgments(votes: _Votes, name: str, opponents: Container[str]) -> Judgments:
    """Lay out the votes on the tasks of a candidate and these opponents, as shares that it won."""

    def belongs(task: JudgeTask) -> bool:
        return name in (task.left, task.right) and _opponent(task, name) in opponents

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


def _score(votes: _Votes, name: str, alone: Score, opponents: Container[str], reading: Reading) -> Score:
    """Compute a candidate's win rate over all opponents; its opponents are strata of one estimate."""
    judgments = _judgments(votes, name, opponents)
    combined = combine(judgments, reading=reading)
    if not combined.weights.any() or not _narrower(_width(combined), alone.ci_low, alone.ci_high):
        return alone.model_copy(update={"metric": PEOPLE_PPI})
    several = judgments.raters is not None
    return alone.model_copy(
        update={
            "metric": PEOPLE_PPI,
            "value": combined.estimate.value,
            "ci_low": combined.estimate.ci_low,
            "ci_high": combined.estimate.ci_high,
            "signature": f"ppi++|wilson|{clustering(several, reading)}",
        }
    )


def _width(combined: Combined) -> float:
    return combined.estimate.ci_high - combined.estimate.ci_low


def _narrower(width: float, ci_low: float | None, ci_high: float | None) -> bool:
    """Return whether an interval is narrower than another one, or the other one is unknown."""
    return ci_low is None or ci_high is None or width < ci_high - ci_low


def _corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Apply Holm's correction over all pairs."""
    adjusted = holm([float("nan") if pair.p is None else pair.p for pair in differences])
    return [
        pair.model_copy(
            update={
                "p_adjusted": None if pair.p is None else p,
                "p_holm": None,
                "better": None if pair.p is None or p >= LEVEL else pair.left if pair.value > 0 else pair.right,
            }
        )
        for pair, p in zip(differences, adjusted, strict=True)
    ]


def _difference(alone: Difference, combined: Combined) -> Difference:
    """Compute the difference of a pair; people's own one where judges don't make the interval narrower."""
    ci_low, ci_high = 2 * combined.estimate.ci_low - 1, 2 * combined.estimate.ci_high - 1
    if not combined.weights.any():
        return alone.model_copy(update={"metric": PEOPLE_PPI})
    value = 2 * combined.estimate.value - 1
    detectable = detectable_difference(ci_low, ci_high)
    return alone.model_copy(
        update={
            "metric": PEOPLE_PPI,
            "value": value,
            "ci_low": ci_low,
            "ci_high": ci_high,
            "p": combined.estimate.p,
            "detectable": detectable,
            "needed": needed_for(value, detectable, alone.clusters) if detectable and value else None,
        }
    )


def _summary(pair: Difference, judgments: Judgments, combined: Combined, judges: Sequence[str]) -> CombinedVotes:
    weights = zip(judges, combined.weights.tolist(), strict=True)
    return CombinedVotes(
        left=pair.left,
        right=pair.right,
        votes=len(judgments.shares),
        judged=len(judgments.judged),
        weights={judge: weight for judge, weight in weights if weight > 0},
        correlation=combined.correlation if isfinite(combined.correlation) else None,
        width_ratio=combined.width_ratio if combined.weights.any() else 1.0,
        floor=combined.floor,
        shift_p=combined.shift_p if isfinite(combined.shift_p) else None,
    )


def combined_notes(pairs: Sequence[CombinedVotes]) -> Iterator[str]:
    """Describe how judge models' votes were combined with people's."""
    used = [pair for pair in pairs if pair.weights]
    shifted = [pair for pair in pairs if pair.shift_p is not None and pair.shift_p < SHIFT_LEVEL]
    for pair in shifted:
        yield (
            f"{pair.left} and {pair.right}: only people's votes count, because judge models vote differently on "
            f"people's tasks than on the {pair.judged} further ones (p = {pair.shift_p:.2g}): they aren't alike"
        )
    if len(pairs) > len(shifted) and not used:
        yield "judge models don't make people's votes more precise: too few votes, or they don't predict people's votes"
    for pair in used:
        judges = ", ".join(f"{judge} {weight:.2f}" for judge, weight in pair.weights.items())
        yield (
            f"{pair.left} and {pair.right}: {pair.votes} votes of people and {pair.judged} further pairs judged by "
            f"models (weights: {judges}); the interval is {100 * (1 - pair.width_ratio):.0f}% narrower than with "
            f"people alone, and could get {100 * (1 - pair.floor):.0f}% narrower with more judged pairs"
        )
