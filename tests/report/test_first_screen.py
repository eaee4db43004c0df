"""The first screen of a study's report: verdict, tiles, forest plot, strip, reasons and next step."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2")

from sizewise.comparison.group_figures import GroupData
from sizewise.records import BreakEven, Needs, NotMeasured
from sizewise.report import StudyView, write_study_report
from sizewise.report.advice import next_step
from sizewise.report.answers import won_and_lost
from sizewise.report.forest import forest_of, round_step
from sizewise.report.headline import headline_of
from sizewise.report.overview import NOT_TESTED, break_even_of, fairness_of, reasons_of, strip_of
from sizewise.report.side_tests import side_tables
from sizewise.report.standing import Standing
from sizewise.report.tiles import data_line, short_table, tiles_of
from tests.choice.test_deciding import Facts, comparison
from tests.report.views import BASELINE, rows, stereotypes, view_of, with_baseline

WORDS = 1200
THREE = {"a": (30.0, 1.0, None), "b": (20.0, 2.0, None), "rule": (10.0, 0.1, None)}


def page(view: StudyView, folder: Path) -> str:
    return unescape(write_study_report(view, folder, running=True).read_text(encoding="utf-8"))


def first_screen(html: str) -> str:
    """Return the text before a tab is opened: the page without its other parts, scripts and closed details."""
    parts = re.split(r'(?=<section class="panel" id="(?!overview))|(?=<section class="aside")', html)
    shown = parts[0] + parts[-1]
    for pattern in (r"<(script|style)\b.*?</\1>", r"<details\b.*?</details>", r"<[^>]+>"):
        shown = re.sub(pattern, " ", shown, flags=re.DOTALL)
    return shown


def test_the_first_screen_answers_in_few_words(tmp_path: Path) -> None:
    view = view_of(with_baseline(comparison(THREE)))
    html = page(replace(view, bias={"a": stereotypes(0.87, 0.1)}), tmp_path)
    text = first_screen(html)
    assert len(text.split()) <= WORDS / 2  # three candidates; many take twice as much
    for said in ("Decided", "Use a", "Memory", "Cost of 1,000 requests", "data stays on this machine", "Next step",
                 "sizewise serve a", "a is significantly better than b", "prefers the stereotype in 87% of 210",
                 "Won against b", "Lost against b"):  # fmt: skip
        assert said in text, said
    assert "outcome:" not in text
    assert "outcome: " in re.sub(r"<[^>]+>", "", html)
    assert not re.search(r"(?<![\d\w.-])-0(?:\.0+)?(?![\d.])", text)


def test_fifty_candidates_keep_the_first_screen_short(tmp_path: Path) -> None:
    many = {f"model {i:02d}": (30.0 - i / 10, 1.0, None) for i in range(50)} | {"rule": (10.0, 0.1, None)}
    view = view_of(with_baseline(comparison(many)))
    html = page(view, tmp_path)
    assert len(first_screen(html).split()) <= WORDS
    assert "37 more candidates" in html or "38 more candidates" in html
    found = forest_of(Standing(view))
    assert {row.name for row in found.rows + found.folded} == set(view.comparison.models)
    assert found.rows[-1].name == BASELINE


def test_the_forest_plot_has_baselines_the_threshold_and_the_leader_when_undecided(tmp_path: Path) -> None:
    close = {"a": (30.0, 1.0, None), "b": (29.9, 2.0, None), "rule": (29.0, 0.1, None)}
    view = view_of(with_baseline(comparison(close)), Needs(min_quality=29.5))
    html = page(view, tmp_path)
    assert view.recommendation.outcome == "inconclusive"
    assert re.search(rf'<li data-name="{re.escape(BASELINE)}" class="baseline', html)
    assert html.count('class="subject ') == 1
    assert "data-threshold" in html
    found = forest_of(Standing(view))
    assert found.threshold == found.axis.place(29.5)
    assert {row.relation for row in found.rows} == {"subject", "tie"}
    assert "Too close to call" in first_screen(html)


def test_every_outcome_has_a_headline_that_is_not_color_alone() -> None:
    tie = {"a": (30.0, 2.0, None), "b": (29.9, 1.0, None)}
    found = {
        "decided": headline_of(view_of(comparison(THREE)).recommendation),
        "tied": headline_of(view_of(comparison(tie)).recommendation),
        "none": headline_of(view_of(comparison(THREE), Needs(min_quality=90.0)).recommendation),
    }
    assert [one.tone for one in found.values()] == ["good", "open", "bad"]
    assert len({one.icon for one in found.values()}) == 3
    assert found["decided"].title == "Use a"
    assert found["tied"].title.startswith("For now, use ")
    assert "Provisional pick" not in found["tied"].rest
    assert "not significantly worse." in found["tied"].rest
    assert found["none"].title.startswith("No candidate meets the requirements")
    rule = with_baseline(comparison({"a": (30.0, 1.0, None), "rule": (50.0, 0.1, None)}))
    standing = Standing(view_of(rule))
    assert standing.subject == BASELINE
    enough = headline_of(standing.recommendation, standing.subject)
    assert enough.title == f"No language model needed: {BASELINE} is enough"
    assert "significantly better than a" in enough.rest


def test_two_rules_are_called_a_tie_by_nobody() -> None:
    facts: dict[str, Facts] = {"a": (30.0, 1.0, None), "rule": (50.0, 0.1, None), "other": (49.5, 0.1, None)}
    rules = with_baseline(with_baseline(comparison(facts, 3.0)), "other", "echo (baseline)")
    between = {BASELINE, "echo (baseline)"}
    tested = tuple(one for one in rules.differences if {one.left, one.right} != between)
    standing = Standing(view_of(rules.model_copy(update={"differences": tested})))
    assert standing.subject in between
    (other,) = between - {standing.subject}
    assert standing.relation(standing.quality, other) == "not tested"
    assert "The next best rule, echo, scores 50." in reasons_of(standing)


@pytest.mark.parametrize(("value", "said"), [(0.997, True), (0.6, False)])
def test_accuracy_with_unequal_labels_says_little(value: float, said: bool) -> None:
    found = with_baseline(comparison(THREE))
    found.models[BASELINE] = found.models[BASELINE].model_copy(update={"uri": "frequent:data-1"})
    change = {"metric": "accuracy", "value": value, "ci_low": value, "ci_high": value, "unit": "share"}
    found.scores["bleu"][BASELINE] = found.scores["bleu"][BASELINE].model_copy(update=change)
    assert (
        any("accuracy says little about the rare ones" in line for line in reasons_of(Standing(view_of(found)))) == said
    )


def test_the_strip_compares_on_every_measure_and_tells_ties_from_gaps() -> None:
    found = with_baseline(comparison(THREE))
    standing = Standing(view_of(found))
    rows = {row.name: dict(zip(standing.measures(), row.relations, strict=True)) for row in strip_of(standing)}
    assert rows["a"]["bleu"] == "subject"
    assert rows["b"]["bleu"] == "worse"
    assert rows["b"]["memory_bytes"] == "worse"
    assert rows[BASELINE]["memory_bytes"] == "better"
    assert rows[BASELINE]["cost"] == "not measured"
    # Without paired differences, intervals decide: far apart isn't a tie.
    unpaired = Standing(view_of(found.model_copy(update={"differences": ()})))
    assert unpaired.relation("bleu", BASELINE) == "worse"


def test_reasons_name_the_rival_the_best_rule_and_what_it_takes() -> None:
    view = view_of(with_baseline(comparison(THREE)))
    lines = reasons_of(Standing(view))
    assert lines == [
        "a is significantly better than b, the best other candidate (BLEU +10.0 [+9.0, +11.0], p = 0.001).",
        "The best rule without a language model, copying, scores 10.0 and is significantly worse than a.",
        "a is 2x faster and 2x smaller than b.",
    ]
    assert fairness_of(Standing(view)) == NOT_TESTED
    leaning = fairness_of(Standing(replace(view, bias={"a": stereotypes(0.87, 0.1)})))
    assert "leans toward stereotypes, most for gender (87%)" in leaning
    assert "isn't proof" in fairness_of(Standing(replace(view, bias={"a": stereotypes(0.52, 0.1)})))
    groups = GroupData({"branch": {"1": "north"}}, {})
    assert fairness_of(Standing(replace(view, people=groups))) == NOT_TESTED  # answers without probabilities
    decided = {"a": [row.model_copy(update={"probabilities": {"yes": 0.6, "no": 0.4}}) for row in rows("a")]}
    by_group = fairness_of(Standing(replace(view, people=groups, items=decided)))
    assert by_group == "Decisions are compared by branch under Fairness and safety."


def test_decisions_that_change_with_the_group_stand_on_the_first_screen() -> None:
    view = view_of(comparison(THREE))
    found = comparison(THREE)
    some = found.scores["bleu"]["a"].model_copy(update={"unit": "share", "n": 30})
    ends = {"gender": (0.0, 0.0, 0.12), "nationality": (0.27, 0.14, 0.46), "age": (None, None, None)}
    flips = {
        f"counterfactual_flip#{name}": {
            "a": some.model_copy(update=dict(zip(("value", "ci_low", "ci_high"), values, strict=True)))
        }
        for name, values in ends.items()
    }
    swapped = found.model_copy(update={"scores": flips})
    told = fairness_of(Standing(replace(view, side_tests={"counterfactual fairness": swapped})))
    assert told == (
        "27% [14, 46] of its decisions change with the nationality in the text (n = 30), the most of gender and "
        "nationality."
    )
    only = found.model_copy(update={"scores": {"counterfactual_flip#gender": flips["counterfactual_flip#gender"]}})
    told = fairness_of(Standing(replace(view, side_tests={"counterfactual fairness": only})))
    assert told == "0% [0, 12] of its decisions change with the gender in the text (n = 30)."


def test_the_break_even_with_a_paid_model_is_told_on_the_first_screen(tmp_path: Path) -> None:
    view = view_of(comparison(THREE))
    even = BreakEven(self_hosted="a", paid="b", lower=40_000, upper=90_000, machine_can=1_000_000)
    view = replace(view, recommendation=view.recommendation.model_copy(update={"break_even": (even,)}))
    assert "a becomes cheaper than b from 40,000 to 90,000 requests a month." in first_screen(page(view, tmp_path))
    never = even.model_copy(update={"machine_can": 100})
    other = replace(view, recommendation=view.recommendation.model_copy(update={"break_even": (never,)}))
    assert break_even_of(Standing(other)) == "a never becomes cheaper than b on one machine."


def test_tiles_say_what_is_unknown_instead_of_zero() -> None:
    standing = Standing(view_of(with_baseline(comparison(THREE))))
    quality, latency, cost, memory = tiles_of(standing)
    assert (quality.value, quality.range) == ("30.0", "[29.0, 31.0]")
    assert quality.lines == ("best other: b 20.0, beaten", "best rule: copying 10.0, beaten")
    assert latency.label == "Latency, one user"
    assert memory.value == "1 GB"
    assert cost.value.endswith("USD")
    bare = comparison(THREE)
    scores = {name: by for name, by in bare.scores.items() if name == "bleu"}
    unknown = tiles_of(Standing(view_of(bare.model_copy(update={"scores": scores}))))
    assert [tile.value for tile in unknown[1:3]] == ["not measured", "unknown"]
    assert [row[0] for row in short_table(standing)] == ["a", "b", BASELINE]
    assert all(len(row) == 5 for row in short_table(standing))


def test_the_next_step_is_one_command_that_fits_the_verdict() -> None:
    decided = view_of(comparison(THREE))
    assert next_step(Standing(decided)).command == "sizewise serve a"
    part = NotMeasured(what="the bias test", command="sizewise study x --minutes 30", minutes=6.0)
    tied = view_of(comparison({"a": (30.0, 1.0, None), "b": (29.9, 2.0, None)}), unfinished=(part,))
    step = next_step(Standing(tied))
    assert step.command == "sizewise study x --minutes 30"
    assert "about 6 min" in step.text
    assert "\n" not in next_step(Standing(view_of(comparison(THREE), Needs(min_quality=90.0)))).command


def test_an_interim_report_says_so_and_lists_what_has_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = NotMeasured(what="the bias test", command="sizewise study x --minutes 30", minutes=6.2)
    view = view_of(
        comparison(THREE), unfinished=(part,), minutes=10.0, stopped={"b": "can no longer win after 40 items"}
    )
    html = page(view, tmp_path)
    assert "Provisional, still running." in html
    assert "Not done in 10 min" in html
    assert "the bias test, about 6 min: <code>sizewise study x --minutes 30</code>" in html
    assert "<b>b</b>: Can no longer win after 40 items." in html
    assert "stopped early" in html
    assert "still running" in (tmp_path / "report.md").read_text(encoding="utf-8")
    monkeypatch.setattr("sizewise.report.writing.study_plots", lambda *_: {})
    write_study_report(view, tmp_path)
    assert "still running" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_page_of_rules_alone_has_no_verdict_yet(tmp_path: Path) -> None:
    html = page(view_of(with_baseline(comparison({"rule": (10.0, 0.1, None)}))), tmp_path)
    assert "<h1>No candidate is measured yet</h1>" in html
    assert f'data-name="{BASELINE}"' in html


def test_one_answer_won_and_one_lost_are_the_clearest_ones() -> None:
    view = view_of(comparison(THREE))
    won, lost = won_and_lost(view.items, "exact_match", "a", "b")
    assert (won.won, won.prompt) == (True, "Question 0?")
    assert (lost.won, lost.prompt) == (False, "Question 2?")
    assert won_and_lost(view.items, "exact_match", "b", "rule") == []
    assert won_and_lost(view.items, None, "a", "b") == []


@pytest.mark.parametrize(("width", "step"), [(8.0, 2.0), (0.09, 0.02), (100.0, 20.0), (5.0, 1.0)])
def test_ticks_are_round(width: float, step: float) -> None:
    assert round_step(width, 5) == pytest.approx(step)


def test_a_rule_that_nothing_beats_is_the_headline_also_beside_a_model_in_use() -> None:
    facts: dict[str, Facts] = {"today": (6.0, 3.0, None), "small": (8.0, 0.1, "base"), "rule": (8.2, 0.0, None)}
    found = view_of(with_baseline(comparison(facts)), Needs(incumbent="today", max_loss=0.1)).recommendation
    assert found.provisional == "today"
    headline = headline_of(found, BASELINE)
    assert (headline.status, headline.title) == ("Not decided", "Keep today: no candidate beats a simple rule")
    assert "Check the labels" in headline.rest


def test_a_candidate_that_beats_no_rule_is_not_recommended(tmp_path: Path) -> None:
    close = {"a": (30.0, 1.0, None), "b": (20.0, 2.0, None), "rule": (30.5, 0.1, None)}
    view = view_of(with_baseline(comparison(close)))
    standing = Standing(view)
    headline = headline_of(view.recommendation, standing.subject)
    assert (headline.status, headline.title) == ("Too close to call", "No candidate beats a simple rule: copying")
    shut_down = f" gpt-4 is significantly better than {BASELINE} (BLEU 40 vs. 30.5), but was shut down on 2026-10-23."
    yardstick = view.recommendation.model_copy(update={"summary": view.recommendation.summary + shut_down})
    title = headline_of(yardstick, standing.subject).title
    assert title == "No candidate that you can use beats a simple rule: copying"
    assert standing.subject == BASELINE
    assert "into service" not in next_step(standing).text
    text = first_screen(page(view, tmp_path))
    assert f"Provisional pick: {BASELINE}, which needs no language model." in text
    assert "Likely" not in text
    assert "Use a" not in text
    assert "for now" in text


def test_a_difference_on_too_few_common_items_is_no_relation() -> None:
    found = comparison({"a": (30.0, 1.0, None), "b": (20.0, 2.0, None)})
    pairs = tuple(one.model_copy(update={"better": None, "n": 60}) for one in found.differences)
    view = view_of(found.model_copy(update={"differences": pairs}))
    standing = Standing(view)
    assert view.recommendation.pick is None
    assert standing.relation("bleu", standing.rival or "") == "tie"
    lines = reasons_of(standing)
    assert any("can't be compared: only 60 test items have a score of both" in line for line in lines)
    assert not any("significantly better" in line for line in lines)


def test_what_was_not_measured_is_not_called_unsuitable(tmp_path: Path) -> None:
    found = comparison({"a": (30.0, 1.0, None), "b": (20.0, 2.0, None)})
    nothing = {
        name: score.model_copy(
            update={"value": None, "ci_low": None, "ci_high": None, "n": 0, "missing_reason": "no log-likelihoods"}
        )
        for name, score in found.scores["bleu"].items()
    }
    view = view_of(
        found.model_copy(update={"scores": found.scores | {"bleu": nothing}, "differences": ()}), Needs(quality="bleu")
    )
    text = first_screen(page(view, tmp_path))
    assert "No candidate could be measured on BLEU (no log-likelihoods)" in text
    assert "Not measured" in text
    assert "meets the requirements" not in text
    assert "only candidate" not in text
    alone = reasons_of(Standing(view_of(comparison({"a": (30.0, 1.0, None)}))))
    assert alone[0] == "a is the only candidate that was measured on BLEU."


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"of": "gpt-4o", "hosted_by": "OpenAI", "local": False}, "✕ text leaves this machine, to OpenAI"),
        ({"of": "ours", "hosted_by": "this machine", "local": True}, "✓ data stays on this machine"),
        ({"process": "staff"}, "people read the text"),
        ({"hosted_by": "not stated", "local": False}, "recorded answers: where the text went isn't stated"),
    ],
)
def test_where_the_text_of_a_recording_went_is_what_its_record_says(facts: dict[str, Any], line: str) -> None:
    found = comparison(THREE)
    model = found.models["a"].model_copy(update={"engine": "recorded", "uri": "recorded:a.jsonl"} | facts)
    assert data_line(Standing(view_of(found.model_copy(update={"models": found.models | {"a": model}}))), "a") == line


def test_text_to_a_server_leaves_to_its_name_and_not_to_https() -> None:
    found = comparison(THREE)
    told = {"uri": "https://models.example.org/v1#x", "local": False, "hosted_by": "models.example.org"}
    models = found.models | {"a": found.models["a"].model_copy(update=told)}
    line = data_line(Standing(view_of(found.model_copy(update={"models": models}))), "a")
    assert line == "✕ text leaves this machine, to models.example.org"


def test_a_cost_tile_says_what_the_cost_rests_on() -> None:
    found = comparison(THREE)
    staff = found.models["a"].model_copy(update={"process": "staff", "price_basis": "4 minutes of work per case"})
    price = found.scores["bleu"]["a"].model_copy(update={"metric": "usd_per_1000", "value": 9.0})
    paid = found.model_copy(
        update={"models": found.models | {"a": staff}, "scores": found.scores | {"usd_per_1000": {"a": price}}}
    )
    assert tiles_of(Standing(view_of(paid)))[2].lines[0] == "4 minutes of work per case"
    own = tiles_of(Standing(view_of(found, Needs(machine_usd_per_hour=0.5))))[2]
    assert own.lines[0] == "your machine price"


def test_a_break_even_beyond_one_machine_is_told_as_the_earliest() -> None:
    view = view_of(comparison(THREE))
    wide = BreakEven(self_hosted="a", paid="b", lower=40_000, upper=90_001, machine_can=90_000)
    view = replace(view, recommendation=view.recommendation.model_copy(update={"break_even": (wide,)}))
    assert break_even_of(Standing(view)) == "a becomes cheaper than b from 40,000 requests a month at the earliest."


def test_a_recording_whose_place_is_not_known_is_not_called_ones_own() -> None:
    found = comparison(THREE)
    paid = {"local": False, "hosted_by": "OpenAI", "parameters": None}
    unknown = {"local": False, "hosted_by": "not stated", "engine": "recorded", "parameters": None}
    models = {name: found.models[name].model_copy(update=told) for name, told in (("a", paid), ("b", unknown))}
    tested = found.model_copy(update={"models": found.models | models})
    (table,) = side_tables(replace(view_of(found), side_tests={"general knowledge": tested}))
    relations = {(one.left, one.right): one.relation for one in table.differences}
    assert (relations["a", "b"], relations["a", "rule"], relations["b", "rule"]) == ("", "paid and own", "")
