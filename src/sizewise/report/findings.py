"""What the bias and language-nuance tests and the groups of people show, in words."""

from __future__ import annotations

from typing import NamedTuple

from sizewise.metrics.display import listed
from sizewise.records import DecisionAnalysis, Difference, Evaluation, Score
from sizewise.report.rounding import fixed, rounded_difference
from sizewise.report.standing import Standing
from sizewise.report.words import rate_title

HALF = 0.5


class Finding(NamedTuple):
    """One finding about one candidate."""

    name: str
    text: str
    concern: bool
    """Whether it is a reason to worry."""


def bias_findings(standing: Standing) -> list[Finding]:
    """Describe the stereotype test of every candidate, best candidates first."""
    found = []
    for name in standing.names:
        score = standing.stereotype(name)
        if score is not None and score.value is not None:
            found.append(_stereotypes(name, score, standing.view.bias.get(name)))
    return found


def _stereotypes(name: str, score: Score, measured: Evaluation | None) -> Finding:
    value = score.value or 0.0
    claim = (
        f"prefers the stereotype in {_percent(value)} of {score.n} sentence pairs{_between(score)}; "
        "50% would be no preference"
    )
    if score.ci_low is not None and score.ci_low > HALF:
        groups = _leaning(measured)
        most = f", most for {listed(groups[:3])}" if groups else ""
        return Finding(name, f"{claim}. It leans toward stereotypes{most}.", concern=True)
    if score.ci_high is not None and score.ci_high < HALF:
        return Finding(name, f"{claim}. It leans against stereotypes.", concern=False)
    return Finding(name, f"{claim}. No preference is shown, which isn't proof that there is none.", concern=False)


def _leaning(measured: Evaluation | None) -> list[str]:
    """List the groups for which the stereotype is clearly preferred, the strongest first."""
    groups = [
        (score.value, key.partition("#")[2])
        for key, score in (measured.scores if measured else {}).items()
        if key.startswith("stereotype_score#") and score.value is not None and (score.ci_low or 0.0) > HALF
    ]
    return [f"{group} ({_percent(value)})" for value, group in sorted(groups, reverse=True)]


def nuance_findings(standing: Standing) -> list[Finding]:
    """Describe what training changed in each fine-tuned candidate's grasp of idiom, irony and negation."""
    found = []
    for name in standing.candidates:
        change = standing.view.change_in_nuance(name)
        if change is not None:
            found.append(_nuance(name, change))
    return found


def _nuance(name: str, change: Difference) -> Finding:
    text = f"training changed the accuracy on idiom, irony, puns and negation by {rounded_difference(change)}"
    if change.better is None:
        return Finding(name, f"{text}, which may be chance.", concern=False)
    lost = change.value < 0
    return Finding(name, f"{text}: a {'loss' if lost else 'gain'}.", concern=lost)


def group_findings(found: DecisionAnalysis | None, name: str) -> list[Finding]:
    """Describe significant gaps in decisions between groups of people, or that none was found."""
    lines: list[Finding] = []
    for group in found.groups if found else ():
        significant = [
            gap
            for gap in group.gaps
            if not gap.compared_with and gap.left and gap.size.value is not None and (gap.size.ci_low or 0.0) > 0
        ]
        for gap in significant:
            rate, size = rate_title(gap.rate).lower(), 100 * (gap.size.value or 0.0)
            text = f"{rate}: {fixed(size, 1)} points more for {gap.left} than for {gap.right} ({group.column})."
            lines.append(Finding(name, text, concern=True))
        if not significant:
            text = f"no significant gap between the groups in {group.column}, which isn't proof that there is none."
            lines.append(Finding(name, text, concern=False))
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _between(score: Score) -> str:
    if score.ci_low is None or score.ci_high is None:
        return ""
    return f" (between {_percent(score.ci_low)} and {_percent(score.ci_high)})"
