"""The page of a round of judging."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from sizewise.records import JudgeReport, JudgeRound, JudgeTask
from sizewise.report.plots import votes_plot
from sizewise.report.writing import make_environment
from sizewise.store import write_atomically

TITLES = {
    "harm": "Could cause harm",
    "harm_in_pair": "In a pair of which one could cause harm",
    "taken_for_a_person": "Taken for a person's",
    "told_apart": "Told apart rightly (one half: by guessing)",
    "relevance": "Fits the question (1 to 5)",
    "correctness": "Correct (1 to 5)",
    "sense": "Makes sense (1 to 5)",
    "completeness": "Complete (1 to 5)",
    "tone": "Tone (1 to 5)",
}


def write_judge_page(path: Path, report: JudgeReport, round_: JudgeRound, tasks: Mapping[str, JudgeTask]) -> Path:
    """Write what a round says, with ranking, agreement, raters and what it would take to decide."""
    content: dict[str, Any] = {
        "report": report,
        "round": round_,
        "tasks": tasks,
        "titles": TITLES,
        "plot": votes_plot(report.pairs) if report.pairs else None,
        "css": (resources.files("sizewise.report") / "templates" / "page.css").read_text(encoding="utf-8"),
    }
    write_atomically(path, make_environment().get_template("judging.html.jinja").render(**content))
    return path
