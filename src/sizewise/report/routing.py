"""The report of a router."""

from __future__ import annotations

from pathlib import Path

from sizewise.records import DecisionCoverage, Policy, Replay, Score
from sizewise.report.environment import make_environment, read_template
from sizewise.report.run_plots import route_plot
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
    if found.shifted:
        sentences.append(
            "They differ from the prompts that the policy was calibrated on, so its stated risk makes no claim about "
            "them; in service, the large model would take over. Calibrate on prompts like these."
        )
    if found.learnt:
        sentences.append(f"{found.learnt:,} other prompts were excluded because the policy was calibrated on them.")
    return " ".join(sentences)


def coverage_text(found: DecisionCoverage) -> str:
    """Describe how many cases a classifier decides itself at a stated share of wrong decisions."""
    if found.threshold is None:
        return f"Hands over every case: {found.coverage.missing_reason}."
    accuracy = 100 * (1 - (found.error.value or 0.0))
    return (
        f"Decides {_percent(found.coverage)} of cases at {accuracy:.1f}% accuracy and hands over the rest. With 95% "
        f"confidence, at most {100 * found.max_error:g}% of the decisions are wrong (threshold {found.threshold:.3f}, "
        f"{found.items:,} cases)."
    )


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
        "css": read_template("page.css"),
    }
    write_atomically(path, make_environment().get_template("routing.html.jinja").render(**content))
    return path
