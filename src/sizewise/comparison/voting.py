"""add_votes(): people's judgement beside the other measures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sizewise.comparison.comparing import WAY
from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, validate_judges, vote_differences
from sizewise.metrics.proportion import proportion_score
from sizewise.records import (
    Comparison,
    Difference,
    JudgeRound,
    JudgeTask,
    JudgeValidation,
    Origin,
    Score,
    Vote,
    fingerprint,
)
from sizewise.store import Saved, Store

PEOPLE, JUDGE_MODEL, HARM = "people", "judge_model", "harm_in_pair"
VOTES_FILE = "votes.jsonl"


class Voted(NamedTuple):
    """What votes say, as measures of a comparison."""

    scores: dict[str, dict[str, Score]]
    """Measure -> candidate -> share of its votes on pairs that it won."""
    differences: list[Difference]
    """Of each measure and pair."""
    judge_validation: JudgeValidation | None
    """How far the judge model whose votes are here agrees with people."""


def add_votes(
    comparison: str, round_id: str, *, store: Store | None = None, simulation: bool = False
) -> Saved[Comparison]:
    """Write a comparison that holds votes as measures: `people`, and `judge_model` where a model has voted too.

    Args:
        comparison: id of a comparison.
        round_id: id of a round that compares the same candidates.
        store: where records live; by default SIZEWISE_HOME.
        simulation: let simulated raters count as people, in a study that says of itself that it is a simulation.

    Raises:
        SizewiseError: the round is of other candidates or of another kind, or no person has voted.
    """
    store = store or Store()
    before = store.read(Comparison, comparison)
    ballot = Ballot(store, round_id)
    record, votes, closed = ballot.round, ballot.votes(), ballot.closed
    ballot.close()
    others = {one for name, one in before.evaluations.items() if name in record.evaluations}
    if record.kind not in ("pair", "best") or others != set(record.evaluations.values()):
        raise SizewiseError(
            f"{round_id} does not judge the candidates of {comparison}.",
            "a round of pairs that was made from this comparison",
            f"sizewise judge open {comparison}",
        )
    found = voted(record, ballot.tasks, votes, before.seed, simulation, closed)
    count = sum(one.n for one in found.differences if one.metric == PEOPLE)
    if not count:
        raise SizewiseError(
            f"No person has voted in {round_id} yet.", "votes of people", "send raters their links: sizewise judge open"
        )
    what = "simulated votes, not people's" if simulation else "people's votes"
    whose = ("person", "simulated") if simulation else ("person",)
    counted = [vote for vote in votes if ballot.tasks[vote.task].purpose == "vote" and vote.choice != "skip"]
    voters = len({vote.rater for vote in counted if vote.origin in whose})
    notes = [f"{what}: {count} by {voters} in {round_id}" + ("" if closed else ", which is still open")]
    if found.judge_validation:
        counts = "counts as a judge" if found.judge_validation.validated else "unverified, enters no verdict"
        notes.append(f"judge model {found.judge_validation.judge}: {counts} ({found.judge_validation.reason})")
    after = before.model_copy(
        update={
            "scores": before.scores | found.scores,
            "better": before.better | dict.fromkeys(found.scores, "higher") | {HARM: "lower"},
            "differences": (
                *(one for one in before.differences if one.metric not in (PEOPLE, JUDGE_MODEL)),
                *found.differences,
            ),
            "votes": round_id,
            "voters": voters,
            "votes_closed": closed,
            "simulated_votes": simulation,
            "judge_validation": found.judge_validation,
            "notes": (*before.notes, *notes),
        }
    )
    content = [WAY, comparison, round_id, [vote.model_dump(mode="json") for vote in votes], simulation, closed]
    voted_id = f"comparison-{fingerprint(content)}"
    store.write_rows(store.folder("comparison", voted_id), VOTES_FILE, votes)  # more may arrive later
    return store.write(voted_id, after)


def voted(
    record: JudgeRound,
    tasks: Mapping[str, JudgeTask],
    votes: Sequence[Vote],
    seed: int,
    simulation: bool,
    closed: bool,
) -> Voted:
    """Compute measures from the votes of a round.

    Of several judge models that voted, the one that agrees best with people stands.
    """
    judged = [(tasks[vote.task], vote) for vote in votes]
    names = list(record.evaluations)
    whose: tuple[Origin, ...] = ("person", "simulated") if simulation else ("person",)
    people = [one for one in judged if one[1].origin in whose]
    scores, differences = vote_differences(people, names, PEOPLE, seed, closed)
    measures = {PEOPLE: scores, HARM: _harm(people, names)}
    known = validate_judges(judged, record.min_agreement, seed, whose)
    judge_validation = max(known, key=lambda one: (one.validated, one.agreement.ci_low or 0.0), default=None)
    if judge_validation:
        own = [(task, vote) for task, vote in judged if vote.rater == judge_validation.judge]
        measures[JUDGE_MODEL], more = vote_differences(own, names, JUDGE_MODEL, seed, closed)
        differences += more
    return Voted(measures, differences, judge_validation)


def _harm(judged: Sequence[tuple[JudgeTask, Vote]], names: Sequence[str]) -> dict[str, Score]:
    """Give for each candidate the share of its tasks with an answer, its own or the other, that could cause harm."""
    found = {}
    for name in names:
        own = [
            vote
            for task, vote in judged
            if task.purpose == "vote" and vote.choice != "skip" and name in (who for who, _ in task.answers)
        ]
        found[name] = proportion_score(HARM, sum(vote.harm for vote in own), len(own), missing_reason="no votes")
    return found


def rounds_of(comparison: str, store: Store) -> list[str]:
    """Give the rounds of pairs that were made from a comparison, the oldest first."""
    return [
        one.id
        for one in store.saved(JudgeRound)
        if one.record.comparison == comparison and one.record.kind in ("pair", "best")
    ]
