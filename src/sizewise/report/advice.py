"""The one thing to do next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from sizewise.choice.summary import CHECK_LABELS
from sizewise.report.headline import UNMEASURED
from sizewise.report.rounding import minutes_text
from sizewise.report.standing import Standing
from sizewise.report.words import sentence

FEASIBLE = 20_000
"""Test items that a reader could still collect."""


class NextStep(NamedTuple):
    """What to do now."""

    text: str
    command: str
    """One command to copy; empty where nothing is left to run."""


def next_step(standing: Standing) -> NextStep:
    """Choose the one thing to do now."""
    view, recommendation = standing.view, standing.recommendation
    open_parts = [part for part in view.study.unfinished if part.command]
    explore = f"sizewise serve --study {view.id}"
    if CHECK_LABELS in recommendation.summary:
        names = [view.study.evaluations[name] for name in standing.candidates if name in view.study.evaluations]
        command = f"sizewise compare {' '.join(names)} --items"
        return NextStep("Check the labels of the items that candidates get wrong.", command)
    if open_parts and not recommendation.decisive:
        part = open_parts[0]
        duration = f", about {minutes_text(part.minutes)}" if part.minutes else ""
        return NextStep(f"Measure what the time budget had no room for: {part.what}{duration}.", part.command)
    if recommendation.pick and _servable(standing, recommendation.pick):
        uri = standing.comparison.models[recommendation.pick].uri
        return NextStep(f"Put {recommendation.pick} into service.", f"sizewise serve {shlex.quote(uri)}")
    if recommendation.summary.startswith(UNMEASURED):
        return NextStep("Choose a quality metric that every candidate can be measured on.", explore)
    if recommendation.outcome == "none_good_enough":
        return NextStep("See which requirement excludes which candidate, and try others.", explore)
    if recommendation.outcome == "do_not_train":
        return NextStep("Raise the minimum score if this isn't good enough, and see what changes.", explore)
    if recommendation.outcome == "inconclusive":
        advice = _more_data(recommendation.sensitivity)
        if _judgeable(standing):
            return NextStep(
                f"{advice}{'Or let' if advice else 'Let'} people judge the answers blind:",
                f"sizewise judge open {view.study.comparison}",
            )
        if advice:
            return NextStep(f"{advice}Until then, see what other requirements would change:", explore)
    return NextStep("Say what is good enough, and see what changes.", explore)


def _more_data(sensitivity: Sequence[str]) -> str:
    """Count the test examples that would decide, if that is known."""
    for line in sensitivity:
        found = re.match(r"more data: .* between (.+) \(80% power\) takes about (.+); you have (.+)", line)
        if found and int(found[2].partition(" ")[0].replace(",", "")) <= FEASIBLE:
            return f"About {found[2]} would separate {found[1]}; you have {found[3]}. "
        if line.startswith("more documents: "):
            return f"{sentence(line.partition(': ')[2])} "
    return ""


def _judgeable(standing: Standing) -> bool:
    """Return whether people could rank the answers: free text of at least two candidates that answer."""
    speaking = [name for name in standing.candidates if standing.comparison.answered.get(name)]
    speaking = [name for name in speaking if not standing.choice.silent(name)]
    labels = "accuracy" in standing.comparison.scores or standing.view.study.votes is not None
    return len(speaking) >= 2 and len(speaking) == len(standing.candidates) and not labels


def _servable(standing: Standing, name: str) -> bool:
    model = standing.comparison.models[name]
    return model.engine not in ("recorded", "rule")
