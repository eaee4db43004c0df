"""The page of a router."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sizewise.records import Policy, Replay, Score
from sizewise.report.plots import route_plot
from sizewise.report.writing import make_environment
from sizewise.store import write_atomically


def replay_text(found: Replay) -> str:
    """Write what a policy did on labelled prompts, and whether that speaks for the stated risk."""
    said = [
        f"The small model answers {_percent(found.small_share)} of {found.prompts:,} prompts; "
        f"{_percent(found.worse)} of all answers are worse than the large model's."
    ]
    stated = None if found.risk is None else f"the stated risk of {100 * found.risk:g} %"
    if not found.new:
        claim = f"whether {stated} is kept" if stated else "what it does on new ones"
        said.append(f"The policy was learnt from these prompts, so they cannot show {claim}.")
    elif stated is not None:
        said.append(f"On these prompts {stated} is {'kept' if found.kept else 'NOT kept'}.")
    if found.learnt:
        said.append(f"{found.learnt:,} further prompts are left out, because the policy was learnt from them.")
    return " ".join(said)


def _percent(score: Score) -> str:
    """Write a share as a percentage with its interval."""
    if score.value is None:
        return f"(missing: {score.missing_reason})"
    return f"{100 * score.value:.1f} % [{100 * (score.ci_low or 0):.1f}, {100 * (score.ci_high or 0):.1f}]"


def write_route_page(path: Path, found: Replay, policy: Policy) -> Path:
    """Write what a policy does on labelled prompts, with its curve."""
    content = {
        "replay": found,
        "policy": policy,
        "verdict": replay_text(found),
        "plot": route_plot(policy.calibration, found),
        "css": (resources.files("sizewise.report") / "templates" / "page.css").read_text(encoding="utf-8"),
    }
    write_atomically(path, make_environment().get_template("routing.html.jinja").render(**content))
    return path
