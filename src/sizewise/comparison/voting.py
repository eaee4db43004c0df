"""add_votes(): people's judgement beside the other measures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, people_differences
from sizewise.records import Comparison, Difference, JudgeRound, JudgeTask, Origin, Score, Vote, fingerprint
from sizewise.store import Store, Stored

PEOPLE = "people"
VOTES_FILE = "votes.jsonl"


def add_votes(
    comparison: str, round_id: str, *, store: Store | None = None, simulation: bool = False
) -> Stored[Comparison]:
    """Write a comparison that holds people's votes as the measure `people`.

    Args:
        comparison: id of a comparison.
        round_id: id of a round of pairs on the same candidates.
        store: where records live; by default SIZEWISE_HOME.
        simulation: let simulated raters count as people, in a study that says of itself that it is a simulation.

    Raises:
        SizewiseError: the round is of other candidates or of another kind, or no person has voted.
    """
    store = store or Store()
    before = store.read(Comparison, comparison)
    ballot = Ballot(store, round_id)
    record, votes = ballot.round, ballot.votes()
    ballot.close()
    others = {one for name, one in before.evaluations.items() if name in record.evaluations}
    if record.kind != "pair" or others != set(record.evaluations.values()):
        raise SizewiseError(
            f"{round_id} does not judge the candidates of {comparison}.",
            "a round of pairs that was made from this comparison",
            f"sizewise judge open {comparison}",
        )
    scores, found = people(record, ballot.tasks, votes, before.seed, simulation)
    count = sum(one.n for one in found)
    if not count:
        raise SizewiseError(
            f"No person has voted in {round_id} yet.", "votes of people", "send raters their links: sizewise judge open"
        )
    what = "simulated votes, not people's" if simulation else "people's votes"
    after = before.model_copy(
        update={
            "scores": before.scores | {PEOPLE: scores},
            "better": before.better | {PEOPLE: "higher"},
            "differences": (*(one for one in before.differences if one.metric != PEOPLE), *found),
            "votes": round_id,
            "simulated_votes": simulation,
            "notes": (*before.notes, f"{what}: {count} in {round_id}"),
        }
    )
    content = [comparison, round_id, [vote.model_dump(mode="json") for vote in votes], simulation]
    voted_id = f"comparison-{fingerprint(content)}"
    store.write_rows(store.folder("comparison", voted_id), VOTES_FILE, votes)  # more may arrive later
    return store.write(voted_id, after)


def people(
    record: JudgeRound, tasks: Mapping[str, JudgeTask], votes: Sequence[Vote], seed: int, simulation: bool
) -> tuple[dict[str, Score], list[Difference]]:
    """Compute the measure `people` from the votes of a round."""
    judged = [(tasks[vote.task], vote) for vote in votes]
    origins: tuple[Origin, ...] = ("person", "simulated") if simulation else ("person",)
    return people_differences(record, judged, list(record.evaluations), seed, origins)


def rounds_of(comparison: str, store: Store) -> list[str]:
    """Give the rounds of pairs that were made from a comparison, the oldest first."""
    found = [record_id for created, kind, record_id, _ in store.listing() if kind == "round" and created]
    records = {one: store.read(JudgeRound, one) for one in found}
    return [one for one, record in records.items() if record.comparison == comparison and record.kind == "pair"]
