"""add_votes(): add human and judge-model votes to a comparison as metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sizewise.comparison.combining import PEOPLE_PPI, combine_votes, combined_notes
from sizewise.comparison.comparing import COMPARISON_VERSION
from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, validate_judges, vote_differences
from sizewise.judging.harm import HARM, HARM_IN_PAIR, harm_outcomes
from sizewise.judging.pairs import score_votes
from sizewise.judging.vote_scores import raters_note
from sizewise.records import (
    CombinedVotes,
    Comparison,
    Difference,
    JudgeRound,
    JudgeTask,
    JudgeValidation,
    ModelDescription,
    Origin,
    Score,
    Vote,
    fingerprint,
)
from sizewise.stats.crossed import Reading
from sizewise.store import Saved, Store

PEOPLE, JUDGE_MODEL = "people", "judge_model"
HARM_BETTER: dict[str, Literal["higher", "lower"]] = {HARM: "lower", HARM_IN_PAIR: "lower"}
VOTES_FILE = "votes.jsonl"


class Voted(NamedTuple):
    """Votes as metrics of a comparison."""

    scores: dict[str, dict[str, Score]]
    """Metric -> candidate -> win rate."""
    differences: list[Difference]
    """Differences by metric and pair."""
    judges: list[JudgeValidation]
    """Validation of each judge model, the one behind the metric `judge_model` first."""
    combined: tuple[CombinedVotes, ...]
    """How votes of people and judge models were combined, for each pair."""

    @property
    def judge_validation(self) -> JudgeValidation | None:
        """Validation of the judge model behind the metric `judge_model`."""
        return next(iter(self.judges), None)


def add_votes(
    comparison: str, round_id: str, *, store: Store | None = None, simulation: bool = False
) -> Saved[Comparison]:
    """Save a comparison with votes as metrics: `people`, and `people_ppi` and `judge_model` if a model has voted too.

    Args:
        comparison: comparison id.
        round_id: id of a judging round on the same candidates.
        store: where records live; by default SIZEWISE_HOME.
        simulation: count simulated raters as people; only for studies marked as a simulation.

    Raises:
        SizewiseError: the round covers other candidates or isn't pairwise, or has no human votes.
    """
    store = store or Store()
    before = store.read(Comparison, comparison)
    ballot = Ballot(store, round_id)
    record, votes, closed = ballot.round, ballot.votes(), ballot.sample_fixed
    ballot.close()
    _check_candidates(before, comparison, record, round_id)
    found = voted(record, ballot.tasks, votes, before.models, simulation, closed)
    count = sum(difference.n for difference in found.differences if difference.metric == PEOPLE)
    if not count:
        raise SizewiseError(
            f"Round {round_id} has no human votes yet.",
            "votes from people",
            "send the raters their links (sizewise judge open)",
        )
    origins = ("person", "simulated") if simulation else ("person",)
    counted = [vote for vote in votes if ballot.tasks[vote.task].purpose == "vote" and vote.choice != "skip"]
    voters = len({vote.rater for vote in counted if vote.origin in origins})
    notes = [_votes_note(round_id, count, voters, simulation, closed), *_judge_notes(found)]
    after = before.model_copy(
        update={
            "scores": _without_harm(before.scores) | found.scores,
            "better": before.better | dict.fromkeys(found.scores, "higher") | HARM_BETTER,
            "differences": (
                *(kept for kept in before.differences if kept.metric not in (PEOPLE, PEOPLE_PPI, JUDGE_MODEL)),
                *found.differences,
            ),
            "votes": round_id,
            "voters": voters,
            "votes_closed": closed,
            "simulated_votes": simulation,
            "judge_validation": found.judge_validation,
            "judges": tuple(found.judges),
            "combined_votes": found.combined,
            "notes": (*before.notes, *notes),
        }
    )
    cast = [vote.model_dump(mode="json") for vote in votes]
    content = [COMPARISON_VERSION, comparison, round_id, cast, simulation, closed]
    voted_id = f"comparison-{fingerprint(content)}"
    store.write_rows(store.folder("comparison", voted_id), VOTES_FILE, votes)  # snapshot: more votes may arrive later
    return store.write(voted_id, after)


def _without_harm(scores: Mapping[str, dict[str, Score]]) -> dict[str, dict[str, Score]]:
    """Leave out the harm of earlier votes, which may have been counted by another rule."""
    return {name: row for name, row in scores.items() if name not in (HARM, HARM_IN_PAIR)}


def _check_candidates(comparison: Comparison, comparison_id: str, record: JudgeRound, round_id: str) -> None:
    """Check that a pairwise round judges candidates of a comparison."""
    judged = {evaluation for name, evaluation in comparison.evaluations.items() if name in record.evaluations}
    if record.kind not in ("pair", "best") or judged != set(record.evaluations.values()):
        raise SizewiseError(
            f"Round {round_id} doesn't judge the candidates of {comparison_id}.",
            "a pairwise round created from this comparison",
            f"sizewise judge open {comparison_id}",
        )


def _judge_notes(found: Voted) -> list[str]:
    notes = []
    for judge in found.judges:
        status = "validated" if judge.validated else "not validated, so it decides nothing without people's votes"
        notes.append(f"judge model {judge.judge}: {status} ({judge.reason})")
    return [*notes, *combined_notes(found.combined)]


def _votes_note(round_id: str, count: int, voters: int, simulation: bool, closed: bool) -> str:
    kind = "simulated votes (not from people)" if simulation else "human votes"
    status = "" if closed else "; the round is still open, so intervals and p-values are anytime-valid"
    note = raters_note(voters)
    return f"{count} {kind} from {voters} rater{'s' if voters != 1 else ''} in {round_id}{status}" + (
        f"; {note}" if note else ""
    )


def voted(
    record: JudgeRound,
    tasks: Mapping[str, JudgeTask],
    votes: Sequence[Vote],
    models: Mapping[str, ModelDescription],
    simulation: bool,
    closed: bool,
) -> Voted:
    """Compute metrics from the votes of a round.

    All judge models together make people's votes more precise (`combine_votes`). As a metric of its own, only the one
    that agrees best with people counts, once it is validated.
    """
    judged = [(tasks[vote.task], vote) for vote in votes]
    names = list(record.evaluations)
    origins: tuple[Origin, ...] = ("person", "simulated") if simulation else ("person",)
    people = [(task, vote) for task, vote in judged if vote.origin in origins]
    scores, differences = vote_differences(people, names, PEOPLE, closed)
    harm, by_candidate = _harm(people, names, record.harm_by_answer, closed)
    measures = {PEOPLE: scores, harm: by_candidate}
    candidates = {name: models[name] for name in names if name in models}
    known = validate_judges(judged, record.min_agreement, whose=origins, closed=closed, models=candidates)
    known.sort(key=lambda judge: (not judge.validated, -(judge.agreement.ci_low or 0.0)))
    combined = combine_votes(judged, names, (scores, differences), origins, closed)
    if combined.scores:
        measures[PEOPLE_PPI] = combined.scores
        differences = differences + combined.differences
    if known:
        by_judge = [(task, vote) for task, vote in judged if vote.rater == known[0].judge]
        measures[JUDGE_MODEL], more = vote_differences(by_judge, names, JUDGE_MODEL, closed)
        differences += more
    return Voted(measures, differences, known, combined.pairs)


def _harm(
    judged: Sequence[tuple[JudgeTask, Vote]], names: Sequence[str], by_answer: bool, closed: bool
) -> tuple[str, dict[str, Score]]:
    """Compute for each candidate the share of votes on its answers that flagged one, see `harm_outcomes`."""
    counted = [(task, vote) for task, vote in judged if task.purpose == "vote" and vote.choice != "skip"]
    metric, found = harm_outcomes(counted, names, by_answer)
    reading: Reading = "once" if closed else "open"
    return metric, {
        name: score_votes(metric, [(task, vote) for task, vote, _ in votes], [harm for *_, harm in votes], reading)
        for name, votes in found.items()
    }


def rounds_of(comparison: str, store: Store) -> list[str]:
    """List the pairwise rounds created from a comparison, oldest first."""
    return [
        saved.id
        for saved in store.saved(JudgeRound)
        if saved.record.comparison == comparison and saved.record.kind in ("pair", "best")
    ]
