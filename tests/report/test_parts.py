"""The parts of a study's report behind the first screen: tabs, links, tables, print, and sliders of a saved page."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

pytest.importorskip("jinja2")

from sizewise.records import ListCost, Needs
from sizewise.report import write_study_report
from sizewise.report.drawing import Plot
from sizewise.report.environment import picture, read_template
from sizewise.report.standing import Standing
from sizewise.report.what_if import monthly_costs, quality_stops, stop_marks
from sizewise.report.writing import render_answer
from tests.choice.test_deciding import comparison
from tests.report.views import BASELINE, stereotypes, view_of, with_baseline

PARTS = ("overview", "quality", "speed-and-cost", "fairness", "answers", "data", "method")
CLOSE = {"a": (30.0, 1.0, None), "b": (29.8, 2.0, None), "c": (10.0, 3.0, None), "rule": (9.0, 0.1, None)}


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of an undecided study, without its plots."""
    view = replace(view_of(with_baseline(comparison(CLOSE))), bias={"a": stereotypes(0.87, 0.1)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sizewise.report.writing.study_plots", lambda *_: {})
        return write_study_report(view, tmp_path_factory.mktemp("report")).read_text(encoding="utf-8")


def panel(html: str, name: str) -> str:
    return html.partition(f'<section class="panel" id="{name}"')[2].partition('<section class="')[0]


def test_tabs_are_links_to_sections_that_stand_on_their_own(html: str) -> None:
    tabs = html.partition('<nav class="tabs"')[2].partition("</nav>")[0]
    assert re.findall(r'href="#([\w-]+)"', tabs) == list(PARTS)
    ids = Counter(re.findall(r'\bid="([^"]+)"', html))
    assert [name for name, n in ids.items() if n > 1] == []
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)
    # Hidden only by the script, so without it every part is there to read.
    assert ".tabbed .panel:not(.open){display:none}" in html
    assert 'class="tabbed"' not in html


def test_every_table_has_a_csv_and_a_box_to_scroll_in(html: str) -> None:
    on_screen = re.sub(r'<div class="print only-print">.*?</div>', "", html, flags=re.DOTALL)
    assert on_screen.count("<table>") == on_screen.count('class="scroll"') == on_screen.count('class="csv"') >= 8
    for link in re.findall(r'class="csv" download="[\w-]+\.csv" href="([^"]*)"', html):
        assert link.startswith("data:text/csv")
    assert "th:first-child{position:sticky;left:0" in html


def test_list_prices_of_large_models_are_cost_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sizewise.report.writing.study_plots", lambda *_: {})
    cost = ListCost(model="gpt-9", provider="openai", usd_per_1000=1.25, as_of="2026-10-26", retires_on="2027-01-14")
    view = view_of(comparison(CLOSE), Needs(requests_per_month=8_000), list_costs=(cost,))
    text = panel(write_study_report(view, tmp_path).read_text(encoding="utf-8"), "speed-and-cost")
    shown = text.partition('id="list-prices"')[2].partition('<p class="soft">')
    assert all(part in shown[0] for part in ("gpt-9", "1.25", "2026-10-26", "until 2027-01-14", ">10<"))
    assert "weren't asked" in unescape(shown[2].partition("</p>")[0])


def test_code_words_are_in_the_method_only_and_ties_are_told_once(html: str) -> None:
    assert html.count("outcome:") == panel(html, "method").count("outcome:") == 1
    told = panel(html, "quality").partition('id="why-not"')[2].partition("</table>")[0]
    assert told.count("Tied:") == 1
    assert BASELINE in panel(html, "quality")


def test_fairness_is_told_in_words(html: str) -> None:
    text = unescape(re.sub(r"<[^>]+>", "", panel(html, "fairness")))
    assert "a prefers the stereotype in 87% of 210 sentence pairs (between 77% and 97%)" in text
    assert "data stays on this machine" in text


def test_no_number_is_minus_zero(html: str) -> None:
    text = unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)))
    assert re.findall(r"(?<![\w.-])-0(?:\.0+)?(?![\d.\w-])", text) == []


def test_print_has_the_first_screen_and_a_page_of_facts(html: str) -> None:
    style = read_template("report.css").partition("@media print{")[2]
    assert "#data{break-before:page}" in style
    assert ".panel:not(#overview):not(#method):not(#data)" in style
    for name in ("data", "method"):
        assert 'class="print' in panel(html, name)
    facts = panel(html, "data").partition("only-print")[2].partition("</table>")[0]
    assert all(f">{name}<" in facts for name in ("a", "b", "c", BASELINE))


def test_a_saved_page_decides_at_each_stop_of_its_slider(html: str) -> None:
    data = json.loads(html.partition('id="what-if-data">')[2].partition("</script>")[0])
    standing = Standing(view_of(with_baseline(comparison(CLOSE))))
    stops = quality_stops(standing)
    assert [stop["label"] for stop in data["stops"]] == [stop.label for stop in stops]
    assert stops[0].minimum is None
    minimums = [stop.minimum for stop in stops if stop.minimum is not None]
    assert minimums == sorted(minimums)
    assert min(minimums) <= 10.0 < 30.0 <= max(minimums)
    assert len(stops) <= 14
    outcomes = {stop.recommendation.outcome for stop in stops}
    assert {"inconclusive", "none_good_enough"} <= outcomes
    assert all("<h1>" in stop["html"] for stop in data["stops"])
    marks = {mark.name: mark.position for mark in stop_marks(standing, stops)}
    assert marks["c"] < marks["b"] < marks["a"] <= 100
    costs = monthly_costs(standing)
    assert data["costs"] == costs
    assert [name for name, _ in costs[0]["costs"]] == [standing.subject, *sorted({"a", "b", "c"} - {standing.subject})]


def test_a_given_minimum_is_a_stop_with_the_decision_of_the_study() -> None:
    standing = Standing(view_of(with_baseline(comparison(CLOSE)), Needs(min_quality=12.34)))
    given = next(stop for stop in quality_stops(standing) if stop.minimum == 12.34)
    assert given.recommendation == standing.recommendation


def test_other_needs_change_verdict_forest_and_evidence_together() -> None:
    view = view_of(with_baseline(comparison(CLOSE)))
    other = view_of(with_baseline(comparison(CLOSE)), Needs(min_quality=9.5)).recommendation
    part = render_answer(view, other)
    assert other.pick is not None
    assert f"<h1>Use {other.pick}</h1>" in part
    assert "data-threshold" in part
    assert all(f'data-part="{name}"' in part for name in ("verdict", "first-screen", "next-step", "evidence", "costs"))


def test_plots_are_one_image_with_a_name() -> None:
    shown = picture(
        Plot('A "title"', "Caption", '<svg width="1"><g role="graphics-object" aria-label="x"/></svg>', "<svg />")
    )
    assert 'role="img" aria-label="A &#34;title&#34;. Caption"' in shown
    assert "graphics-object" not in shown
