"""Corrected votes: order, versions, and raters who come back with more."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, RoundDesign, open_round, read_votes, report
from sizewise.records import Vote
from sizewise.store import Store


@pytest.fixture
def ballot(compared: str, store: Store) -> Ballot:
    return Ballot(store, open_round([compared], RoundDesign(raters=["a"], items=20), store=store).stored.id)


def imported(ballot: Ballot, path: Path, *lines: str, columns: str = "task,rater,choice") -> tuple[int, int]:
    path.write_text("\n".join([columns, *lines]) + "\n", encoding="utf-8")
    read = read_votes(ballot, path, "csv")
    return read.corrected, read.unchanged


def test_the_last_version_counts_and_every_version_is_kept(ballot: Ballot, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    assert imported(ballot, path, "t0,Ada,left", "t1,Ada,tie") == (0, 0)
    assert imported(ballot, path, "t0,Ada,right") == (1, 0)
    assert imported(ballot, path, "t0,Ada,left") == (1, 0)
    assert imported(ballot, path, "t0,Ada,left") == (0, 1)
    ballot.close()
    again = Ballot(store, ballot.id)
    assert [(vote.task, vote.choice) for vote in again.votes()] == [("t1", "tie"), ("t0", "left")]
    versions = [(one.vote.task, one.vote.choice) for one in again.versions()]
    assert versions == [("t0", "left"), ("t1", "tie"), ("t0", "right"), ("t0", "left")]
    assert all(one.at for one in again.versions())
    again.close()


def test_a_file_that_changes_only_a_mark_is_a_correction(ballot: Ballot, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    columns = "task,rater,choice,harmful,reasons,comment,correction"
    imported(ballot, path, "t0,Ada,left,,,,", columns=columns)
    for line, field, value in (
        ("t0,Ada,left,2,,,", "harmful", (2,)),
        ("t0,Ada,left,both,Wrong; too long,,", "reasons", ("wrong", "too_long")),
        ("t0,Ada,left,both,wrong,because,", "comment", "because"),
        ("t0,Ada,left,both,wrong,because,better", "correction", "better"),
    ):
        assert imported(ballot, path, line, columns=columns) == (1, 0)
        (vote,) = ballot.votes()
        assert getattr(vote, field) == value
    assert vote.harmful == (1, 2)
    with pytest.raises(SizewiseError, match="no answer 3 that could be harmful"):
        imported(ballot, path, "t0,Ada,left,3,,,", columns=columns)
    ballot.close()


def test_a_rater_who_comes_back_with_more_tasks_leaves_none_negative(
    ballot: Ballot, store: Store, tmp_path: Path
) -> None:
    for tasks in (range(2), range(12), range(5, 9)):
        imported(ballot, tmp_path / "votes.csv", *(f"t{i},Ada,left" for i in tasks))
    ballot.close()
    found = report(ballot.id, store=store)
    assert found.open_tasks == len(ballot.round.raters[0].tasks)
    again = Ballot(store, ballot.id)
    assert len(again.raters["imported Ada"].tasks) == 12
    again.close()


def test_harm_without_an_answer_is_counted_and_told(ballot: Ballot, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("task,rater,choice,harm\nt0,Ada,left,yes\nt1,Ada,left,\n", encoding="utf-8")
    assert read_votes(ballot, path, "csv").without_place == 1
    ballot.close()


def test_places_outside_of_the_task_are_refused(ballot: Ballot) -> None:
    rater = ballot.round.raters[0]
    with pytest.raises(SizewiseError, match="Answer 3 was flagged"):
        ballot.vote(rater, Vote(task=rater.tasks[0], rater="a", origin="person", choice="left", harmful=(3,)), "n1")
    ballot.close()
