"""Votes of judge models on tasks unlike those of people don't count, and the note says so."""

from __future__ import annotations

import pytest

from sizewise.comparison.combining import combine_votes, combined_notes
from sizewise.records import Difference, JudgeTask, Score, Vote

Judged = list[tuple[JudgeTask, Vote]]


def votes(people_right: int, judged_right: int) -> Judged:
    """100 tasks with a vote of people and the same of a judge; 400 further tasks of the judge alone."""
    found: Judged = []
    for number in range(500):
        task = JudgeTask(
            id=f"t{number}", item=f"i{number}", cluster=f"d{number}", prompt="?", left="a", right="b", left_text="x"
        )
        wins = number < people_right if number < 100 else number - 100 < judged_right
        choice = "left" if wins else "right"
        found.append((task, Vote(task=task.id, rater="judge", choice=choice, origin="model")))
        if number < 100:
            found.append((task, Vote(task=task.id, rater="r1", choice=choice, origin="person")))
    return found


@pytest.mark.parametrize(("judged_right", "shifted"), [(400, True), (230, False)])
def test_judges_that_vote_differently_on_further_tasks_leave_people_alone(judged_right: int, shifted: bool) -> None:
    scores = {
        name: Score(metric="people", value=value, ci_low=value - 0.1, ci_high=value + 0.1, n=100, unit="", signature="")
        for name, value in (("a", 0.56), ("b", 0.44))
    }
    alone = Difference(
        metric="people",
        left="a",
        right="b",
        value=0.12,
        ci_low=-0.08,
        ci_high=0.32,
        p=0.27,
        n=100,
        clusters=100,
        unit="",
        better=None,
    )
    found = combine_votes(votes(56, judged_right), ["a", "b"], (scores, [alone]), closed=True)
    notes = list(combined_notes(found.pairs))
    (pair,) = found.pairs
    assert pair.shift_p is not None
    assert (pair.shift_p < 0.01) == shifted
    assert bool(pair.weights) != shifted
    assert bool(found.scores) != shifted
    assert (notes[0].startswith("a and b: only people's votes count")) == shifted
    assert len(notes) == 1
