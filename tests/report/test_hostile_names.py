"""Names and labels come from data: whatever they hold, the report is written, and nothing in it obeys them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

pytest.importorskip("jinja2")

from sizewise.cli.table import as_csv
from sizewise.controls import CONTROLS, spreadsheet_cell
from sizewise.records import Comparison
from sizewise.report import write_study_report
from sizewise.report.drawing import FAILED, draw, load_altair
from sizewise.report.environment import isolated
from tests.choice.test_deciding import comparison
from tests.report.views import view_of, with_baseline

NASTY = (
    "\x1b[2J",
    "\x07",
    "\x00",
    "\x9b",
    "\x7f",
    "\r",
    "\n",
    "\ud800",
    "\ufffe",
    "\uffff",
    "\u2028",
    "\u202e",
    "\\u0007",
    "\\",
)


def named(name: str) -> Comparison:
    return with_baseline(comparison({name: (30.0, 1.0, None), "b": (20.0, 2.0, None), "rule": (10.0, 0.1, None)}))


@pytest.mark.parametrize("control", NASTY, ids=ascii)
def test_no_name_ends_the_process_or_costs_a_plot(control: str) -> None:
    alt = load_altair()
    rows = [{"candidate": f"A{control}B", "x": 1.0}, {"candidate": "b", "x": 2.0}]
    names = alt.Scale(domain=[row["candidate"] for row in rows])
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_point()
        .encode(x="x:Q", y=alt.Y("candidate:N", title=f"of {control}"), color=alt.Color("candidate:N", scale=names))
    )
    found = draw("a", "b", chart)
    assert "A" in found.light
    assert found.light != FAILED
    assert not CONTROLS.search(found.light.replace("\n", ""))


def test_what_the_library_refuses_costs_one_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    class PanicError(BaseException):
        pass

    def refuse(chart: object) -> str:
        raise PanicError

    monkeypatch.setattr(vl_convert, "vegalite_to_svg", refuse)
    chart = load_altair().Chart().mark_point()
    assert "can't be drawn" in draw("a", "b", chart).light


def test_pages_hold_no_control_characters_and_no_markup_of_names(tmp_path: Path) -> None:
    name = "A\x1b[31m\u202eB\ud800 <img src=x onerror=alert(1)>"
    write_study_report(view_of(named(name)), tmp_path)
    for file in ("report.html", "report.md"):
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert not CONTROLS.search(text.replace("\n", "").replace("\t", "")), file
        assert "<img src=x" not in re.sub(r"(?m)^    .*$", "", text), file  # an indented line is code
        assert "A\\x1b[31m\\u202eB\\ud800" in text, file


def test_a_name_from_right_to_left_is_isolated(tmp_path: Path) -> None:
    name = "نموذج"
    html = write_study_report(view_of(named(name)), tmp_path, running=True).read_text(encoding="utf-8")
    assert f"<h1>Use <bdi>{name}</bdi></h1>" in html
    assert f"<li><bdi>{name}</bdi> is significantly better" in html
    assert isolated("a <b> c", ["a"]) == "a &lt;b&gt; c"


def test_no_cell_of_a_table_is_a_formula() -> None:
    formulas = ["=1+1", "+cmd|' /C calc'!A0", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "-e5"]
    numbers = ["-1.5", "+2", "-", "-1e-05", "+2.1 [+0.4, +3.8] points", "+1 [-2, unbounded]", "12 %", "a=b"]
    assert [spreadsheet_cell(text) for text in formulas] == [f"'{text}" for text in formulas]
    assert [spreadsheet_cell(text) for text in numbers] == numbers
    assert list(csv.reader(io.StringIO(as_csv(["=name"], [["=1"], ["-2"]])))) == [["'=name"], ["'=1"], ["-2"]]
