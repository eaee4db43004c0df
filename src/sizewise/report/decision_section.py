"""The part of a study's page about decisions: costs of errors with two sliders, figures and groups of people."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from sizewise.comparison.decided import CostRules, Subject
from sizewise.comparison.decisions import analyze_rows, count_cells
from sizewise.controls import escape_all
from sizewise.records import DecisionAnalysis
from sizewise.records.decision_analysis import ConfusedPair
from sizewise.report.decision_plots import coverage_plot, curve_plots, ladder_plot, reliability_plot
from sizewise.report.view import StudyView
from sizewise.report.words import claim_text, explanation_text, rate_title

MAX_CONFUSED = 12
SHOWN = 300
"""Characters of an example that are shown."""


class ShownPair(NamedTuple):
    """A cell of the confusion matrix with the texts of its examples."""

    pair: ConfusedPair
    items: list[tuple[str, str]]


def decision_section(view: StudyView, leader: str, with_plots: bool = True) -> dict[str, Any]:
    """Collect what the page shows about decisions; empty values if no candidate gives probabilities.

    Args:
        view: the study.
        leader: candidate whose decisions are shown in detail, if it gives probabilities; otherwise the first one does.
        with_plots: whether to draw the plots.
    """
    cells = {
        name: count_cells(rows, view.validation.get(name, ()))
        for name, rows in view.items.items()
        if not _has_several(view, name)
    }
    known = {name: found for name, found in cells.items() if found is not None}
    if not known:
        return {"cost_cells": {}, "decisions": None}
    shown = leader if leader in known else next(iter(known))
    kind = known[shown].kind, known[shown].positive
    alike = {name: found for name, found in known.items() if (found.kind, found.positive) == kind}
    data = {
        "kind": kind[0],
        "positive": kind[1],
        "candidates": [{"name": name, "cells": found.model_dump(mode="json")} for name, found in alike.items()],
    }
    record = view.evaluations[shown]
    question = record.model.question
    kind_of = question.type if question else "choice"
    subject = Subject(view.study.evaluations[shown], record.model.uri, record.data, kind_of)
    found = analyze_rows(view.items[shown], view.validation.get(shown, ()), subject, CostRules(), view.people)
    ladder = (
        ladder_plot(view.comparison, view.recommendation.quality, view.recommendation.costs) if with_plots else None
    )
    plots = [ladder, reliability_plot(found), coverage_plot(found), *curve_plots(found)] if with_plots else []
    return {
        "cost_cells": alike,
        "cost_kind": kind[0],
        "cost_positive": kind[1],
        "cost_json": json.dumps(escape_all(data), separators=(",", ":")).replace("<", "\\u003c"),
        "decisions": found,
        "decisions_of": shown,
        "decisions_summary": claim_text(found),
        "decision_plots": [plot for plot in plots if plot is not None],
        "ladder": ladder is not None,
        "confused": _confused(view, found, shown),
        "explained": view.explanations.get(shown, ()),
        "explanation_text": explanation_text,
        "rate_title": rate_title,
    }


def _has_several(view: StudyView, name: str) -> bool:
    """Check whether several labels may apply to a case; the section is about one decision for each case."""
    found = view.evaluations.get(name)
    question = found.model.question if found else None
    return question is not None and question.type == "multi"


def _confused(view: StudyView, found: DecisionAnalysis, shown: str) -> list[ShownPair]:
    """List the most frequent errors with the texts of some examples."""
    texts = {row.item: row.prompt for row in view.items[shown]}
    errors = [pair for pair in found.confusion if pair.label != pair.decided][:MAX_CONFUSED]
    return [ShownPair(pair, [(item, texts.get(item, "")[:SHOWN]) for item in pair.items]) for pair in errors]
