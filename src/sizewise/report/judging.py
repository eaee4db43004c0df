"""The report of a judging round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sizewise.records import JudgeReport, JudgeRound, JudgeTask
from sizewise.report.environment import make_environment, read_template
from sizewise.report.run_plots import votes_plot
from sizewise.store import write_atomically

TITLES = {
    "harm": "Flagged as potentially harmful",
    "harm_in_pair": "Flagged as potentially harmful (either answer of a pair)",
    "taken_for_a_person": "Mistaken for a human answer",
    "told_apart": "Detection accuracy (guessing: 50%)",
    "taken_for_ours": "Taken for ours (guessing: 50%)",
    "recognized_ours": "Recognized as ours (guessing: 50%)",
    "relevance": "Relevance (1 to 5)",
    "correctness": "Correctness (1 to 5)",
    "sense": "Coherence (1 to 5)",
    "completeness": "Completeness (1 to 5)",
    "tone": "Tone (1 to 5)",
}


def write_judge_page(path: Path, report: JudgeReport, round_: JudgeRound, tasks: Mapping[str, JudgeTask]) -> Path:
    """Write the report of a round: ranking, pairs, agreement, raters, and how many more votes would decide."""
    content: dict[str, Any] = {
        "report": report,
        "round": round_,
        "tasks": tasks,
        "titles": TITLES,
        "plot": votes_plot(report.pairs) if report.pairs else None,
        "css": read_template("page.css"),
    }
    write_atomically(path, make_environment().get_template("judging.html.jinja").render(**content))
    return path
