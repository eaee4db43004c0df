"""Write a study's report: one self-contained HTML file, and a short version in Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sizewise.choice import alternatives, needs_text, quality_measures
from sizewise.comparison import analyze_items
from sizewise.controls import escape_all
from sizewise.errors import SizewiseError
from sizewise.loadtest.levels import Limits
from sizewise.records import Comparison, ItemAnalysis, Recommendation
from sizewise.report.advice import next_step
from sizewise.report.answers import ITEM_METRICS, ItemOrder, item_metric, page_of_answers, sampled, worst_answers
from sizewise.report.csv_tables import csv_link, scores_link
from sizewise.report.decision_section import decision_section
from sizewise.report.environment import make_environment, read_template
from sizewise.report.findings import bias_findings, group_findings, nuance_findings
from sizewise.report.forest import forest_of
from sizewise.report.headline import OUTCOME_LABELS, first_headline, headline_of
from sizewise.report.knowledge import ANSWERED, LEARNT, knowledge_of
from sizewise.report.overview import (
    RELATION_WORDS,
    SIGNS,
    break_even_of,
    cautions_of,
    duels_of,
    fairness_of,
    reasons_of,
    strip_of,
    subject_label,
)
from sizewise.report.plots import study_plots
from sizewise.report.rounding import minutes_text
from sizewise.report.side_tests import side_tables, specializations
from sizewise.report.standing import Standing
from sizewise.report.tiles import data_line, short_headings, short_table, tiles_of
from sizewise.report.view import StudyView
from sizewise.report.what_if import marked_sliders, monthly_costs, quality_stops, stop_marks
from sizewise.report.words import measure_of, sentence, shown_metrics, table_rows
from sizewise.stats import MIN_CLUSTERS
from sizewise.store import write_atomically

MAX_CONTAMINATED = 10
MAX_VARIED = 20
"""Candidates up to which the decision is repeated under other requirements; it takes several decisions for each."""
MAX_PRINTED = 16
"""Candidates in the table of a printed report, which has two pages."""
RESOURCES = frozenset({"latency_s", "requests_per_s", "usd_per_1000", "memory_bytes", "parameters"})
"""Metrics of the table under "Speed and cost"; the others are under "Quality"."""


def write_study_report(view: StudyView, folder: Path, *, running: bool = False) -> Path:
    """Write report.html and report.md into a folder.

    Args:
        view: the study.
        folder: where the files are written, over those of an earlier stage.
        running: whether the study is still running: the page says so, and leaves out what takes long to draw.

    Returns:
        The path of the HTML report.
    """
    standing = Standing(view)
    content = _content(standing, with_plots=not running) | {"running": running}
    if not running:
        content |= _frozen_sliders(standing)
    if not running and len(standing.candidates) <= MAX_VARIED:
        content["alternatives"] = alternatives(view.comparison, view.study.comparison, view.recommendation.needs)
    environment = make_environment(list(view.comparison.models))
    for name in ("report.md", "report.html"):
        write_atomically(folder / name, environment.get_template(f"{name}.jinja").render(**content))
    return folder / "report.html"


def render_live_page(view: StudyView) -> str:
    """Render the interactive page, with adjustable needs and all answers."""
    standing, needs = Standing(view), view.recommendation.needs
    initial_needs = json.dumps(needs.model_dump(mode="json")).replace("<", "\\u003c")
    content = _content(standing) | {
        "live": True,
        "sliders": marked_sliders(standing),
        "qualities": quality_measures(view.comparison),
        "needs_text": needs_text(needs),
        "script": f"const start = {initial_needs};\n{read_template('study.js')}",
        "tags": sorted({tag for tags in view.tags.values() for tag in tags}),
    }
    return str(make_environment(list(view.comparison.models)).get_template("report.html.jinja").render(**content))


def render_answer(view: StudyView, recommendation: Recommendation) -> str:
    """Render the parts of the page that depend on the needs: the verdict, and the rest of the first screen."""
    standing = Standing(replace(view, recommendation=recommendation))
    content = _first_screen(standing) | _evidence(standing)
    return str(make_environment(list(view.comparison.models)).get_template("answer.html.jinja").render(**content))


def render_items(view: StudyView, tag: str, order: ItemOrder, first: int) -> str:
    """Render a page of test examples with the answer of every candidate.

    Args:
        view: the study.
        tag: keep only examples with this tag; empty for all.
        order: order of the examples.
        first: number of examples to skip.
    """
    shown = page_of_answers(view, tag, order, first, view.study.pick or "")
    return str(make_environment().get_template("items.html.jinja").render(samples=shown))


def _sentences(lines: Sequence[str], comparison: Comparison) -> list[str]:
    """Turn lines into sentences; those that start with a model name keep its first letter."""
    names = tuple(comparison.models)
    return [line[0] + sentence(line)[1:] if line.startswith(names) else sentence(line) for line in lines]


def _first_screen(standing: Standing) -> dict[str, Any]:
    """Collect what the first screen shows."""
    view = standing.view
    baseline = standing.subject if standing.comparison.models[standing.subject].role == "baseline" else None
    rival, duels = duels_of(standing)
    return {
        "headline": headline_of(view.recommendation, baseline) if standing.candidates else first_headline(),
        "simulation": view.study.simulation,
        "quality_title": measure_of(standing.quality).title,
        "subject": standing.subject,
        "subject_label": subject_label(standing),
        "tiles": tiles_of(standing),
        "forest": forest_of(standing),
        "measures_of_strip": standing.measures(),
        "strip": strip_of(standing),
        "candidates": len(standing.candidates),
        "signs": SIGNS,
        "relation_words": RELATION_WORDS,
        "reasons": reasons_of(standing),
        "cautions": _sentences(cautions_of(view), view.comparison),
        "break_even": break_even_of(standing),
        "fairness": fairness_of(standing),
        "rival": rival,
        "duels": duels,
        "next_step": next_step(standing),
        "study": view.study,
        "minutes_text": minutes_text,
    }


def _evidence(standing: Standing) -> dict[str, Any]:
    """Collect the evidence behind the verdict, which changes with the needs."""
    view = standing.view
    wanted = ("machine_usd_per_hour", "requests_per_month", "machine_watts")
    own, stored = view.recommendation.reasons, view.study.reasons
    reasons = stored if set(own) <= set(stored) else own  # those of other needs aren't in the record
    return {
        "recommendation": view.recommendation,
        "all_reasons": _sentences(reasons, view.comparison),
        "rejected": _told_once(standing),
        "common_notes": _common_notes(view.recommendation),
        "cost_needs": [name for name in wanted if getattr(view.recommendation.needs, name) is None],
        "measures": _measures(view),
    }


def _common_notes(recommendation: Recommendation) -> list[str]:
    """List the assumptions behind every known cost, to be told once below the table."""
    known = [line.notes for line in recommendation.costs if line.usd_per_1000 is not None]
    return [note for note in (known[0] if len(known) > 1 else ()) if all(note in notes for notes in known)]


def _told_once(standing: Standing) -> dict[str, str]:
    """Explain why each other candidate isn't the pick; a tie is told once, not from both sides."""
    found = {}
    for name, reason in standing.recommendation.rejected.items():
        if name == standing.subject:
            continue
        if reason.startswith("tied: ") and standing.comparison.models[standing.subject].role == "candidate":
            reason = f"tied: {standing.choice.difference_in_text(standing.subject, name)}"
        found[name] = reason
    return found


def _measures(view: StudyView) -> dict[str, Any]:
    names = (*view.comparison.scores, *view.bias_metrics(), *ITEM_METRICS, "language_nuance")
    return {name: measure_of(name) for name in names}


def _frozen_sliders(standing: Standing) -> dict[str, Any]:
    """Collect the sliders of a saved page, with a decision for each stop."""
    stops = quality_stops(standing)
    environment = make_environment(list(standing.comparison.models))
    template = environment.get_template("verdict_and_tiles.html.jinja")
    axis = forest_of(standing).axis
    data = []
    for stop in stops:
        then = Standing(replace(standing.view, recommendation=stop.recommendation))
        data.append(
            {
                "label": stop.label,
                "html": template.render(**_first_screen(then)),
                "subject": then.subject,
                "threshold": None if stop.threshold is None else axis.place(stop.threshold),
            }
        )
    given = standing.choice.needs.min_quality
    costs = monthly_costs(standing)
    found = escape_all({"stops": data, "costs": costs})
    return {
        "stops": stops,
        "stop_given": next((i for i, stop in enumerate(stops) if stop.minimum == given), 0),
        "stop_marks": stop_marks(standing, stops),
        "monthly_costs": costs,
        "what_if_json": json.dumps(found, ensure_ascii=False).replace("<", "\\u003c"),
    }


def _content(standing: Standing, with_plots: bool = True) -> dict[str, Any]:
    """Collect everything that the page shows."""
    view, comparison = standing.view, standing.comparison
    contaminated = sorted(
        (entry for entry in view.contamination_entries if not entry.uncontaminated),
        key=lambda entry: (-entry.shared_words, entry.item),
    )
    metric, metrics = item_metric(view), shown_metrics(comparison)
    decided = decision_section(view, standing.subject, with_plots)
    return {
        **_first_screen(standing),
        **_evidence(standing),
        "view": view,
        "outcome_labels": OUTCOME_LABELS,
        "min_clusters": MIN_CLUSTERS,
        "training_note": lambda name, on_task: _training_note(view, name, on_task),
        "live": False,
        "running": False,
        "alternatives": [],
        "stops": [],
        "monthly_costs": [],
        "comparison": comparison,
        "dataset": view.dataset,
        "short_headings": short_headings(standing),
        "short_table": short_table(standing),
        "max_printed": MAX_PRINTED,
        "rows": table_rows(comparison),
        "quality_metrics": [name for name in metrics if name not in RESOURCES],
        "resource_metrics": [name for name in metrics if name in RESOURCES],
        "scores_csv": scores_link(comparison, metrics),
        "csv_link": csv_link,
        "bias_groups": sorted(
            {key.partition("#")[2] for found in view.bias.values() for key in found.scores if "#" in key}
        ),
        **_nuance(view),
        **_knowledge(standing),
        "side_tables": side_tables(view),
        "specializations": specializations(view),
        "bias_findings": bias_findings(standing),
        "nuance_findings": nuance_findings(standing),
        "group_findings": group_findings(decided["decisions"], decided.get("decisions_of", "")),
        "data_lines": {name: data_line(standing, name) for name in standing.candidates},
        "load_limits": Limits(),
        "plots": study_plots(view, standing.subject) if with_plots else {},
        **decided,
        "samples": sampled(view),
        "item_metric": measure_of(metric).title if metric else None,
        "worst": {name: worst_answers(items, metric) for name, items in view.items.items()},
        "item_analysis": _item_analysis(view) if with_plots else None,
        "contaminated": contaminated[:MAX_CONTAMINATED],
        "css": read_template("page.css") + read_template("report.css"),
        "page_script": read_template("report.js"),
        "decision_script": read_template("decisions.js"),
    }


def _item_analysis(view: StudyView) -> ItemAnalysis | None:
    """Analyze the items; None if no metric has a value on single items, or the candidates share none."""
    models = view.comparison.models
    rows = {name: items for name, items in view.items.items() if models[name].role == "candidate"}
    try:
        return analyze_items(rows, view.study.comparison)
    except SizewiseError:
        return None


def _nuance(view: StudyView) -> dict[str, Any]:
    """Collect the tags of the language-nuance test, and the smallest difference that it detects."""
    if view.language_nuance is None:
        return {}
    trained_pairs = {frozenset(pair) for pair in view.study.bases.items()}
    tags = [name.partition("#")[2] for name in view.language_nuance.scores if name.startswith("language_nuance#")]
    detectable = [
        found.detectable
        for found in view.language_nuance.differences
        if found.metric == "language_nuance"
        and found.detectable
        and (frozenset((found.left, found.right)) in trained_pairs or not trained_pairs)
    ]
    power = f"differences of {100 * max(detectable):.2g} percentage points or more" if detectable else "little"
    return {"nuance_tags": tags, "nuance_power": power}


def _knowledge(standing: Standing) -> dict[str, Any]:
    """Collect what candidates know of the documents that they studied."""
    found = knowledge_of(standing)
    title = measure_of(found.metric).title if found and found.metric else ""
    return {"knowledge": found, "knowledge_metric": title, "learnt": LEARNT, "answered_from": ANSWERED}


def _training_note(view: StudyView, name: str, on_task: bool) -> str:
    """Explain why there is no change from training for a candidate."""
    if name in view.study.bases:
        return "base model isn't a candidate" if on_task else "not measured"
    return "trained from scratch" if name in view.checkpoints else "not trained"
