"""A sheet of answers for people to grade: which items they see, and how their grades count.

Items whose grades the measures leave in doubt are drawn more often, each with a chance that the sheet keeps. The
estimate corrects for the chances (`stats.drawn`), so it is right whatever the measures are worth.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sizewise.comparison.content import MATCH, RECALL, Content, GradeSheet, read_content
from sizewise.comparison.naming import check_same, name_evaluations
from sizewise.controls import cell_number, spreadsheet_cell
from sizewise.documents.grades import read_grade
from sizewise.documents.saved_csv import check_cells, open_csv
from sizewise.documents.values import BadRow
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Evaluation, ItemRow, fingerprint
from sizewise.stats.drawn import chances_by_doubt, draw
from sizewise.stats.inference import FloatArray
from sizewise.store import Saved, Store
from sizewise.store.files import write_atomically

COLUMNS = ("answer", "chance", "prompt", "reference", "text", "grade")
ITEMS = 50
"""Items to grade, by default."""
MIN_RIGHT, GAIN = 0.25, 0.73
"""Grade expected of an answer without the reference's content, and how much more of one with all of it: of answers to
Natural Questions, people call 21 and 98 % right."""
_NEXT = "sizewise compare ID ID --grade-sheet FILE"


def expected_grades(content: Content, name: str) -> FloatArray:
    """Return the grade from 0 to 1 that measures let expect of each answer, (rows,); 0.5 without any measure."""
    table = content.tables[name]
    measure = next((one for one in (MATCH, RECALL) if one in table.stats), None)
    if measure is None:
        return np.full(len(table.clusters), 0.5)
    expected: FloatArray = MIN_RIGHT + GAIN * np.nan_to_num(table.stats[measure][:, 0])
    return expected


def common_items(content: Content) -> list[str]:
    """List the uncontaminated items that all candidates answered."""
    usable = [
        {item for item, row in table.items.items() if table.uncontaminated[row] and content.answered[name][row]}
        for name, table in content.tables.items()
    ]
    return [item for item in next(iter(content.tables.values())).items if all(item in one for one in usable)]


def write_grade_sheet(
    path: str | Path,
    evaluations: Sequence[str | Saved[Evaluation]] | Mapping[str, str | Saved[Evaluation]],
    *,
    store: Store | None = None,
    items: int = ITEMS,
    seed: int = 0,
) -> int:
    """Write a CSV file with the answers of all candidates to drawn items, in random order and without their names.

    The answers to one item follow each other, so that people may stop early.

    Args:
        path: the file, which must not exist.
        evaluations: evaluations or their ids, or candidate name -> evaluation.
        store: where records live; by default SIZEWISE_HOME.
        items: number of items to grade.
        seed: seed of the draw and of the order.

    Returns:
        The number of answers to grade.

    Raises:
        UsageError: the number of items isn't positive, or there are fewer than two evaluations.
        SizewiseError: the evaluations don't cover the same items, the candidates have no answers to common items, or
            the file exists.
    """
    store, path = store or Store(), Path(path).expanduser()
    if items < 1:
        raise UsageError(f"{items} items can't be graded.", "at least 1", f"--graded-items {ITEMS}")
    if path.exists():
        raise SizewiseError(
            f"{path} exists already.", "the name of a new file", "name another file, or remove this one"
        )
    named = name_evaluations(evaluations, store)
    records = {name: store.read(Evaluation, one) for name, one in named.items()}
    check_same(records)
    content = read_content(store, records, named)
    common = common_items(content)
    if not common:
        raise SizewiseError(
            "The candidates have no answers to the same uncontaminated items.",
            "evaluations with answers to the same examples",
            "sizewise evaluate MODEL --data DATA",
        )
    expected = [expected_grades(content, name)[table.rows_of(common)] for name, table in content.tables.items()]
    doubt = np.sqrt(np.sum([one * (1 - one) for one in expected], axis=0))
    chances = chances_by_doubt(doubt, items)
    drawn = {common[i]: float(chances[i]) for i in np.flatnonzero(draw(chances, seed))}
    rows = [row for one in named.values() for row in _rows(store, one, drawn)]
    place = dict(zip(drawn, np.random.default_rng(seed).permutation(len(drawn)), strict=True))
    rows.sort(key=lambda row: (place[row["item"]], row["answer"]))  # the names of answers are random, too
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([COLUMNS, *([spreadsheet_cell(row[key]) for key in COLUMNS] for row in rows)])
    write_atomically(path, "\ufeff" + text.getvalue())
    return len(rows)


def _rows(store: Store, evaluation: str, drawn: Mapping[str, float]) -> list[dict[str, Any]]:
    return [
        {
            "item": row.item,
            "answer": answer_key(evaluation, row.item),
            "chance": repr(drawn[row.item]),
            "prompt": row.conversation or row.prompt,
            "reference": "\n".join(row.references),
            "text": row.completion,
            "grade": "",
        }
        for row in store.rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
        if row.item in drawn
    ]


def answer_key(evaluation: str, item: str) -> str:
    """Return a name of an answer that doesn't show whose it is."""
    return f"a-{fingerprint([evaluation, item])}"


def read_grade_sheet(path: str | Path, evaluations: Mapping[str, str], store: Store) -> GradeSheet:
    """Read a sheet that people filled in.

    Args:
        path: the file.
        evaluations: candidate -> id of its evaluation.
        store: where records live.

    Raises:
        SizewiseError: the file can't be read, has other columns, answers of other evaluations or an invalid chance or
            grade, or no item has a grade of every candidate.
    """
    path = Path(path).expanduser()
    known = {
        answer_key(one, row["item"]): (name, row["item"])
        for name, one in evaluations.items()
        for row in store.rows(store.folder("evaluation", one), "items.jsonl", ItemRow).plain()
    }
    grades: dict[str, dict[str, float]] = {name: {} for name in evaluations}
    chances: dict[str, float] = {}
    for number, row in _read(path):
        if row["answer"].strip() not in known:
            raise _damaged(path, number, f"'{row['answer'][:40]}' is no answer of these evaluations")
        name, item = known[row["answer"].strip()]
        chances[item] = _chance(path, number, row["chance"], chances.get(item))
        try:
            grade = read_grade({"grade": row["grade"]})
        except BadRow as error:
            raise _damaged(path, number, str(error)) from error
        if grade is not None and grades[name].setdefault(item, grade) != grade:
            raise _damaged(path, number, f"the answer has the grades {grades[name][item]:g} and {grade:g}")
    graded = [item for item in chances if all(item in one for one in grades.values())]
    if not graded:
        raise SizewiseError(
            f"{path} has no item with a grade of every candidate.",
            "a number, or right or wrong, in the column 'grade'",
            "grade all answers to some of its items",
        )
    # Items that people left out are taken for a random part of those drawn.
    share = len(graded) / len(chances)
    found = {item: chances[item] * share for item in graded}
    used = {name: {item: one[item] for item in graded} for name, one in grades.items()}
    return GradeSheet(used, found, len(chances), fingerprint([used, found]))


def _read(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Read the rows with their numbers, the header being row 1."""
    try:
        with open_csv(path, strict=False) as lines:
            rows, names = [], lines.fieldnames or ()
            for number, row in enumerate(lines, start=2):
                check_cells(lines, row)
                rows.append((number, row))
    except (OSError, ValueError) as error:
        raise SizewiseError(f"{path} can't be read: {error}.", "a grade sheet (CSV, UTF-8)", _NEXT) from error
    except csv.Error as error:
        raise SizewiseError(f"{path} isn't a CSV file: {error}.", "a grade sheet", _NEXT) from error
    absent = [name for name in ("answer", "chance", "grade") if name not in names]
    if absent:
        raise SizewiseError(f"{path} has no column '{absent[0]}'.", f"a grade sheet with {', '.join(COLUMNS)}", _NEXT)
    return [(number, {key: value or "" for key, value in row.items() if key in COLUMNS}) for number, row in rows]


def _chance(path: Path, number: int, given: str, before: float | None) -> float:
    """Read the chance of an item; a spreadsheet may have written its decimal point as a comma."""
    try:
        chance = cell_number(given)
    except ValueError:
        chance = float("nan")
    if not 0 < chance <= 1 or (before is not None and abs(chance - before) > 1e-4 * before):
        raise _damaged(path, number, f"the chance '{given[:40]}' isn't the one that the sheet was written with")
    return chance if before is None else before


def _damaged(path: Path, number: int, what: str) -> SizewiseError:
    return SizewiseError(
        f"Row {number} of {path}: {what}.",
        "the sheet of these evaluations, with grades filled in and nothing else changed",
        f"{_NEXT} writes it again",
    )
