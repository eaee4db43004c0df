"""The page of a router."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sizewise.records import Policy, Replay
from sizewise.report.plots import route_plot
from sizewise.report.writing import make_environment
from sizewise.store import write_atomically


def write_route_page(path: Path, found: Replay, policy: Policy) -> Path:
    """Write what a policy does on labelled prompts, with its curve."""
    content = {
        "replay": found,
        "policy": policy,
        "plot": route_plot(policy.calibration, found),
        "css": (resources.files("sizewise.report") / "templates" / "page.css").read_text(encoding="utf-8"),
    }
    write_atomically(path, make_environment().get_template("routing.html.jinja").render(**content))
    return path
