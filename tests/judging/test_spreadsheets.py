"""Votes as spreadsheets and people in a hurry leave them: separators, decimal commas, names, rows twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, RoundDesign, agreement, open_round, rank, read_votes, report
from sizewise.store import Store

COLUMNS = ("left", "right", "winner", "rater", "item")
Vote = tuple[str, ...]


def cast(count: int = 60, *, raters: tuple[str, ...] = ("Ada", "Ben", "Cleo"), always_left: str = "") -> list[Vote]:
    """Votes on items that every rater sees, with a preference for A."""
    rng = random.Random(1)
    rows = []
    for number in range(count):
        left, right = rng.choice([("A", "B"), ("B", "A")])
        rater = raters[number % len(raters)]
        winner = rng.choices(["left", "right", "tie"], (0.6, 0.2, 0.2) if left == "A" else (0.2, 0.6, 0.2))[0]
        item = f"q{number // len(raters)}"
        rows.append((left, right, "left" if rater == always_left else winner, rater, item))
    return rows


def write(path: Path, rows: list[Vote], separator: str = ",", encoding: str = "utf-8") -> Path:
    path.write_bytes("".join(separator.join(row) + "\r\n" for row in [COLUMNS, *rows]).encode(encoding))
    return path


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16"), (";", "cp1252")])
def test_files_are_read_as_spreadsheets_save_them(tmp_path: Path, separator: str, encoding: str) -> None:
    rows = cast(raters=("J\u00f6rg M\u00fcller", "Zo\u00eb aus K\u00f6ln und \u00fcber die Br\u00fccke", "Ben"))
    expected = rank(write(tmp_path / "plain.csv", rows))
    spelled = [(left, right, winner.title(), rater, item) for left, right, winner, rater, item in rows]
    found = rank(write(tmp_path / "saved.csv", spelled, separator, encoding))
    assert found.table == expected.table
    assert found.raters == 3


def test_decimal_commas_are_shares_where_semicolons_separate(tmp_path: Path) -> None:
    shares = {"left": "0,8", "right": "0,2", "tie": "0,5"}
    rows = [(left, right, shares[winner], rater, item) for left, right, winner, rater, item in cast()]
    points = [(left, right, share.replace(",", "."), rater, item) for left, right, share, rater, item in rows]
    assert rank(write(tmp_path / "a.csv", rows, ";")).table == rank(write(tmp_path / "b.csv", points)).table


def test_a_decimal_comma_never_becomes_another_number(tmp_path: Path, ballot: Ballot) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("left,right,winner\nA,B,0,8\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2 has 4 cells under 3 headings"):
        rank(path)
    path.write_text("rater,item,label\na,1,1,5\nb,1,1,0\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2 has 4 cells"):
        agreement(path)
    path.write_text("task,rater,preference\nt0,Ada,0,8\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2 has 4 cells"):
        read_votes(ballot, path, "csv")
    path.write_text("Task;Rater;Preference;Seconds\nt0;Ada;0,8;3,5\n", encoding="utf-8")
    read_votes(ballot, path, "csv")
    (vote,) = ballot.votes()
    assert (vote.choice, vote.preference, vote.seconds) == ("left", 0.8, 3.5)


def test_what_may_mislead_is_noted(tmp_path: Path) -> None:
    rows = cast(raters=("Ada", "ada ", "Links"), always_left="Links", count=90)
    notes = " | ".join(rank(write(tmp_path / "votes.csv", [*rows, *rows[:4]])).notes)
    assert "raters that differ only in case or spaces count as different: 'Ada', 'ada'" in notes
    assert "same rater had judged before: 4;" in notes
    assert "always chose the left side: Links (31 votes)" in notes
    assert "candidates that differ" not in notes
    many = [("A" if i % 2 else "a", "B", "left", "bot", f"q{i}") for i in range(60)]
    notes = " | ".join(rank(write(tmp_path / "votes.csv", [*many, *cast(9)])).notes)
    assert "candidates that differ only in case or spaces count as different: 'A', 'a'" in notes
    assert "bot cast 60 of 69 votes" in notes
    assert "always chose" not in notes  # bot always chose A and a


@pytest.fixture
def ballot(compared: str, store: Store) -> Iterator[Ballot]:
    found = Ballot(store, open_round([compared], RoundDesign(raters=["x"], items=20), store=store).stored.id)
    yield found
    found.close()


def test_votes_that_would_count_wrongly_are_refused(ballot: Ballot, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    for text, said in (
        ("task,rater,choice,preference\nt0,Ada,left,0.1\n", "preference 0.1 is for the other"),
        ("task,rater,choice\nt0,,left\n", "a vote on task 't0' names no rater"),
        ("task,rater,choice\n", "it holds no votes"),
        ("Task,Person,Vote\nt0,Ada,left\n", "it has no column rater, choice, but task, person, vote"),
        ("task,rater,choice,seconds\nt0,Ada,left,soon\n", "seconds 'soon', not a number"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SizewiseError, match=said):
            read_votes(ballot, path, "csv")
    assert not ballot.votes()


def test_rows_that_a_later_one_replaces_are_counted(ballot: Ballot, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("task,rater,choice\nt0,Ada,left\nt0,Ada,Both bad\nt1,ADA,Tie\n", encoding="utf-8")
    assert read_votes(ballot, path, "csv").replaced == 1
    assert [vote.choice for vote in ballot.votes()] == ["both_bad", "tie"]
    said = " | ".join(report(ballot.id, store=store).notes)
    assert "raters that differ only in case or spaces count as different: 'imported ADA', 'imported Ada'" in said
