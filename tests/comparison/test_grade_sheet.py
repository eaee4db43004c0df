"""A sheet of answers for people to grade, and what its grades show."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import pytest

from sizewise import datasets
from sizewise.choice import choose
from sizewise.comparison import compare, write_grade_sheet
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.records import Evaluation
from sizewise.store import Saved, Store

ITEMS, GRADED = 120, 40
Systems = dict[str, Saved[Evaluation]]


@pytest.fixture(scope="module")
def right() -> dict[str, list[bool]]:
    """Which answers are right; people say so of some that don't name the reference, too."""
    rng = random.Random(3)
    return {name: [rng.random() < rate for _ in range(ITEMS)] for name, rate in {"weak": 0.5, "strong": 0.85}.items()}


def _text(name: str, i: int, right: bool) -> str:
    said = f"word{i}" if right and i % 5 else f"synonym{i}" if right else f"other{i}"
    return said if name == "weak" else f"I believe that the answer to this is {said}, all things considered."


@pytest.fixture
def systems(store: Store, tmp_path: Path, right: dict[str, list[bool]]) -> Systems:
    data = tmp_path / "data.jsonl"
    rows = [{"id": f"q{i}", "prompt": f"Question {i}?", "references": [f"word{i}"]} for i in range(ITEMS)]
    data.write_text("".join(json.dumps({**row, "source": row["id"]}) + "\n" for row in rows))
    saved = datasets.read([data], store=store, all_test=True)
    found = {}
    for name, answers in right.items():
        path = tmp_path / f"{name}.jsonl"
        lines = [{"id": f"q{i}", "completion": _text(name, i, good)} for i, good in enumerate(answers)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        found[name] = evaluate(f"recorded:{path}", saved, ["token_f1"], store=store)
    return found


def _filled(sheet: Path, right: dict[str, list[bool]], keep: int = 10_000) -> list[dict[str, str]]:
    """Grade the answers of a sheet as people would, and write it."""
    rows = list(csv.DictReader(io.StringIO(sheet.read_text(encoding="utf-8-sig"), newline="")))
    truth = {_text(name, i, good): good for name, some in right.items() for i, good in enumerate(some)}
    for row in rows[:keep]:
        row["grade"] = "right" if truth[row["text"]] else "wrong"
    _write(sheet, rows)
    return rows


def _write(sheet: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    sheet.write_text(text.getvalue(), encoding="utf-8")


def test_graded_answers_decide(systems: Systems, store: Store, tmp_path: Path, right: dict[str, list[bool]]) -> None:
    sheet = tmp_path / "grades.csv"
    assert write_grade_sheet(sheet, systems, store=store, items=GRADED) == 2 * GRADED
    rows = _filled(sheet, right)
    assert "weak" not in sheet.read_text()
    assert len({row["answer"] for row in rows}) == 2 * GRADED
    sure = [float(row["chance"]) for row in rows if row["reference"] in row["text"].split()]
    assert min(float(row["chance"]) for row in rows) == min(sure), "a right answer is in less doubt than another one"
    compared = compare(systems, store=store, grades=sheet)
    chosen = choose(compared, store=store).record
    found = next(one for one in compared.record.differences if one.metric == "human_grade")
    truth = (sum(right["weak"]) - sum(right["strong"])) / ITEMS
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert found.ci_low < truth < found.ci_high
    assert (chosen.quality, chosen.pick, chosen.decisive) == ("human_grade", "strong", True)
    score = compared.record.scores["human_grade"]["strong"]
    assert score.value == pytest.approx(sum(right["strong"]) / ITEMS, abs=0.12)
    assert any(f"people graded {GRADED} of {ITEMS} items" in note for note in compared.record.notes)
    assert compared.id != compare(systems, store=store).id, "grades are part of a comparison's id"


def test_items_without_a_grade_are_left_out(
    systems: Systems, store: Store, tmp_path: Path, right: dict[str, list[bool]]
) -> None:
    sheet = tmp_path / "grades.csv"
    write_grade_sheet(sheet, systems, store=store, items=GRADED)
    _filled(sheet, right, keep=70)
    notes = compare(systems, store=store, grades=sheet).record.notes
    assert any("items of the grade sheet lack a grade" in note for note in notes)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("answer", "a-0000000000", "is no answer of these evaluations"),
        ("chance", "1.5", "isn't the one that the sheet was written with"),
        ("chance", "", "isn't the one that the sheet was written with"),
        ("grade", "perhaps", "not a number"),
    ],
)
def test_a_damaged_sheet_is_refused_with_its_row(
    systems: Systems, store: Store, tmp_path: Path, right: dict[str, list[bool]], column: str, value: str, says: str
) -> None:
    sheet = tmp_path / "grades.csv"
    write_grade_sheet(sheet, systems, store=store, items=GRADED)
    rows = _filled(sheet, right)
    rows[4][column] = value
    _write(sheet, rows)
    with pytest.raises(SizewiseError, match="Row 6") as caught:
        compare(systems, store=store, grades=sheet)
    assert says in str(caught.value)


def test_a_sheet_may_come_from_a_spreadsheet_but_holds_one_grade_an_answer(
    systems: Systems, store: Store, tmp_path: Path, right: dict[str, list[bool]]
) -> None:
    sheet = tmp_path / "grades.csv"
    write_grade_sheet(sheet, systems, store=store, items=GRADED)
    rows = _filled(sheet, right)
    expected = compare(systems, store=store, grades=sheet).record.scores["human_grade"]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t")
    writer.writerows([list(rows[0]), *([*map(str, row.values())] for row in [*rows, rows[0]])])
    sheet.write_bytes(text.getvalue().encode("utf-16"))
    assert compare(systems, store=store, grades=sheet).record.scores["human_grade"] == expected
    _write(sheet, [*rows, rows[0] | {"grade": "0.5"}])
    with pytest.raises(SizewiseError, match=r"the answer has the grades [01] and 0\.5"):
        compare(systems, store=store, grades=sheet)


def test_what_cannot_be_written_or_read_is_refused(systems: Systems, store: Store, tmp_path: Path) -> None:
    sheet = tmp_path / "grades.csv"
    with pytest.raises(UsageError, match="0 items"):
        write_grade_sheet(sheet, systems, store=store, items=0)
    write_grade_sheet(sheet, systems, store=store, items=GRADED)
    with pytest.raises(SizewiseError, match="exists already"):
        write_grade_sheet(sheet, systems, store=store)
    with pytest.raises(SizewiseError, match="no item with a grade of every candidate"):
        compare(systems, store=store, grades=sheet)
    sheet.write_text("a,b\n1,2\n")
    with pytest.raises(SizewiseError, match="no column 'answer'"):
        compare(systems, store=store, grades=sheet)
    with pytest.raises(SizewiseError, match="can't be read"):
        compare(systems, store=store, grades=tmp_path / "absent.csv")


def test_a_sheet_with_a_very_long_prompt_is_read(
    systems: Systems, store: Store, tmp_path: Path, right: dict[str, list[bool]]
) -> None:
    sheet = tmp_path / "grades.csv"
    write_grade_sheet(sheet, systems, store=store, items=GRADED)
    rows = _filled(sheet, right)
    rows[0]["prompt"] = "word " * 40_000
    _write(sheet, rows)
    assert compare(systems, store=store, grades=sheet).record.differences
