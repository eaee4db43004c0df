"""Columns of odd tables are guessed by what they hold; ids, dates and numbers are never texts."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents.guessing import guess_columns
from sizewise.documents.peeking import columns_of, first_examples
from sizewise.documents.reading import ReadOptions
from sizewise.errors import UsageError
from sizewise.studies.templates import init

Make = Callable[[int], list[Any]]
TABLES: dict[str, tuple[list[str], Make, str]] = {
    "english": (
        ["Ticket #", "What the customer wrote (verbatim)", "Team → queue", "Date"],
        lambda i: [i, f"My card {i} was stolen, what now?", ("cards", "top_up")[i % 2], f"2026-01-{i % 28 + 1:02}"],
        "--prompt 'What the customer wrote (verbatim)' --label 'Team → queue'",
    ),
    "german": (
        ["Vorgang", "Eingang", "Was er schrieb", "Zuständig"],
        lambda i: [f"V-{i}", f"{i % 28 + 1}. März 2026", f"Die Rechnung {i} ist falsch berechnet", "AB"[i % 2]],
        "--prompt 'Was er schrieb' --label 'Zuständig'",
    ),
    "japanese": (
        ["受付", "内容", "担当部署"],
        lambda i: [f"2026年1月{i}日", f"カード{i}が盗まれました、どうすればいいですか", ("紛失", "請求")[i % 2]],
        "--prompt '内容' --label '担当部署'",
    ),
    "chinese": (
        ["编码", "客户说了什么", "部门"],
        lambda i: [f"K{i:05}", f"我的卡{i}被偷了应该怎么办", ("挂失", "账单")[i % 2]],
        "--prompt '客户说了什么' --label '部门'",
    ),
    "arabic": (
        ["م", "ما كتبه العميل", "القسم"],
        lambda i: [i, f"تم سرقة بطاقتي {i} ماذا أفعل الآن", ("بطاقات", "فواتير")[i % 2]],
        "--prompt 'ما كتبه العميل' --label 'القسم'",
    ),
    "two labels": (
        ["Caso", "Lo que escribió", "Equipo", "País"],
        lambda i: [i, f"La factura {i} está mal calculada", ("Pagos", "Envíos")[i % 2], ("España", "Chile")[i % 2]],
        "--prompt 'Lo que escribió' --label COLUMN",
    ),
    "answers": (
        ["Case", "They asked", "We replied"],
        lambda i: [i, f"How do I change order {i}?", f"Open the order {i}, press edit, and type the new address."],
        "--prompt 'They asked' --reference 'We replied'",
    ),
    "number as label": (
        ["Mail body", "Spam label"],
        lambda i: [f"you win a big prize now {i}", i % 2],
        "--prompt 'Mail body' --label 'Spam label'",
    ),
    "flag": (
        ["text", "is_fraud", "amount"],
        lambda i: [f"the customer bought gift card {i} abroad", i % 2, i * 3.5],
        "--prompt text --label is_fraud",
    ),
    "no text": (["Client", "Amount", "Day"], lambda i: [f"Client {'x' * i}", i * 3.5, f"2026-01-{i:02}"], ""),
    "numbers": (["a", "b"], lambda i: [i, i * i], ""),
}


@pytest.mark.parametrize("form", ["csv", "tsv below a title", "xlsx"])
@pytest.mark.parametrize("name", TABLES)
def test_columns_are_guessed_by_their_content(tmp_path: Path, name: str, form: str) -> None:
    headings, make, options = TABLES[name]
    rows = [make(i) for i in range(40)]
    if form == "xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        path, book = tmp_path / "x.xlsx", openpyxl.Workbook()
        for row in (["Export"], headings, *rows):
            book.active.append(row)
        book.save(path)
    else:
        path = tmp_path / ("x.csv" if form == "csv" else "x.tsv")
        with path.open("w", encoding="utf-8", newline="") as file:
            if form != "csv":
                file.write("Export of January\n\n")
            csv.writer(file, delimiter="," if form == "csv" else "\t").writerows([headings, *rows])
    assert not first_examples(path)
    found = columns_of(path)
    assert found.names == tuple(headings)
    assert found.options == options
    with pytest.raises(UsageError) as refused:
        init("support", tmp_path / "study.toml", examples=(str(path),))
    assert options in refused.value.next_step
    assert all(heading in refused.value.what for heading in headings)


def test_few_rows_are_guessed_by_words_in_the_headings_only() -> None:
    assert guess_columns(["Ticket #", "What they wrote", "Team"]) == ""
    assert guess_columns(["Ticketnummer", "Rückfrage", "Antwort"]) == "--prompt 'Rückfrage' --reference Antwort"


def test_a_spreadsheet_of_labels_becomes_a_study_of_classifiers(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    headings, make, _ = TABLES["english"]
    book = openpyxl.Workbook()
    for row in (headings, *map(make, range(60))):
        book.active.append(row)
    book.save(tmp_path / "x.xlsx")
    columns = ReadOptions(prompt=headings[1], label=headings[2])
    path = init("support", tmp_path / "study.toml", examples=(str(tmp_path / "x.xlsx"),), columns=columns)
    assert "tfidf" in path.read_text(encoding="utf-8")
