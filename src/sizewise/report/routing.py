"""The report of a router."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sizewise.records import Policy, Replay, Score
from sizewise.report.run_plots import route_plot
from sizewise.report.writing import make_environment
from sizewise.store import write_atomically


def replay_text(found: Replay) -> str:
    """Describe how a policy performed on labeled prompts, and whether it met its stated risk."""
    sentences = [
        f"The small model handles {_percent(found.small_share)} of {found.prompts:,} prompts. "
        f"{_percent(found.worse)} of all answers are worse than the large model's."
    ]
    limit = None if found.risk is None else f"the risk limit of {100 * found.risk:g}%"
    if not found.new:
        claim = f"that {limit} holds" if limit else "how it performs on new prompts"
        sentences.append(f"The policy was calibrated on these prompts, so they can't show {claim}.")
    elif limit is not None:
        sentences.append(f"On these prompts the policy {'stays within' if found.kept else 'EXCEEDS'} {limit}.")
    if found.learnt:
        sentences.append(f"{found.learnt:,} other prompts were excluded because the policy was calibrated on them.")
    return " ".join(sentences)


def _percent(score: Score) -> str:
    """Format a share as a percentage with its interval."""
    if score.value is None:
        return f"n/a ({score.missing_reason})"
    return f"{100 * score.value:.1f}% [{100 * (score.ci_low or 0):.1f}, {100 * (score.ci_high or 0):.1f}]"


def write_route_page(path: Path, found: Replay, policy: Policy) -> Path:
    """Write the report of a policy on labeled prompts, with its curve."""
    content = {
        "replay": found,
        "policy": policy,
        "verdict": replay_text(found),
        "plot": route_plot(policy.calibration, found),
        "css": (resources.files("sizewise.report") / "templates" / "page.css").read_text(encoding="utf-8"),
    }
    write_atomically(path, make_environment().get_template("routing.html.jinja").render(**content))
    return path
