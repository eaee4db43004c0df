from __future__ import annotations

import csv
import io
from urllib.parse import unquote

from sizewise.report.csv_tables import csv_link, scores_link, table_link
from tests.choice.test_deciding import comparison


def read(link: str) -> list[list[str]]:
    kind, _, text = link.partition(",")
    assert kind == "data:text/csv;charset=utf-8"
    return list(csv.reader(io.StringIO(unquote(text).removeprefix("\ufeff"))))


def test_a_table_is_its_own_csv() -> None:
    table = (
        "<thead><tr><th>Name</th><th>BLEU</th></tr></thead><tbody><tr><th data-csv='a, b'>a <small>rule</small></th>"
        "<td><span>4.3</span><span class='note'>n = 3</span></td></tr><tr><th></th><td>=SUM(A1)</td></tr></tbody>"
    )
    assert read(table_link(table)) == [["Name", "BLEU"], ["a, b", "4.3 n = 3"], ["", "'=SUM(A1)"]]


def test_formulas_are_text_but_negative_numbers_stay_numbers() -> None:
    assert read(csv_link([["-1.5", "+2", "-cmd", "@x", None, "中"]])) == [["-1.5", "+2", "'-cmd", "'@x", "", "中"]]


def test_scores_have_every_digit_in_the_csv() -> None:
    rows = read(scores_link(comparison({"a": (30.123456789, 1.0, None), "b": (20.0, 2.0, None)}), ["bleu"]))
    assert rows[0][:6] == ["candidate", "metric", "value", "ci_low", "ci_high", "n"]
    assert rows[1][:3] == ["a", "bleu", "30.123456789"]
