"""Domain specialist or small generalist: what training changed in the domain, against what it changed elsewhere.

Training also teaches the form of an answer, which makes general answers likelier, too. So a specialist must gain more
in its domain than on general questions in the same form, not only more than before.
"""

from __future__ import annotations

from math import hypot
from typing import Literal

from sizewise.records import Checkpoint, Forgetting, Score, Specialization, Validation

Kind = Literal["domain specialist", "small generalist", "no measurable difference"]


def measure_specialization(validation: Validation | None, forgetting: Forgetting | None) -> Specialization | None:
    """Classify a trained model by its changes on held-out data of the domain and on general-knowledge questions.

    Args:
        validation: held-out data of the domain before and after training.
        forgetting: general questions before and after training.

    Returns:
        None if one of the changes has no interval.
    """
    if validation is None or forgetting is None or forgetting.answers_change is None:
        return None
    domain, general = validation.change, forgetting.answers_change
    difference = _difference(general, domain)
    if difference is None:
        return None
    kind, found = _kind(domain, general, difference)
    return Specialization(
        kind=kind,
        domain=domain,
        general=general,
        difference=difference,
        summary=f"{found}{_elsewhere(forgetting)}.",
    )


def describe_specialization(record: Checkpoint) -> str:
    """Describe the kind of a trained model, or why it isn't known."""
    if record.specialization is not None:
        return record.specialization.summary
    if record.recipe.start == "scratch":
        return "not measured: trained from scratch, so there is no start to compare with"
    if record.forgetting is None or record.forgetting.answers_change is None or record.validation is None:
        return "not measured: general knowledge wasn't (--control none, or a language without questions)"
    reason = record.validation.change.ci_missing_reason or record.forgetting.answers_change.ci_missing_reason
    return f"not measured: {reason or 'no interval'}"


def _kind(domain: Score, general: Score, difference: Score) -> tuple[Kind, str]:
    """Choose the kind, and describe it."""
    gained, gained_elsewhere = _below(domain), _below(general)
    if gained and _above(difference):
        return "domain specialist", "Domain specialist: it gained more in its domain than in general knowledge"
    if gained_elsewhere:
        more = "as well as in its domain" if gained else "and not measurably in its domain"
        return "small generalist", f"Small generalist: it gained in general knowledge {more}"
    if gained:
        return "no measurable difference", "It gained in its domain, but not measurably more than elsewhere"
    worse = "It became worse in its domain" if _above(domain) else "No measurable gain"
    return "no measurable difference", worse


def _elsewhere(forgetting: Forgetting) -> str:
    """Describe what was lost outside the domain, or that no loss is shown."""
    parts = {"general knowledge": forgetting.answers_change, "general text": forgetting.change}
    lost = [f"{what} ({_bits(change)})" for what, change in parts.items() if change is not None and _above(change)]
    if lost:
        return f"; it lost {' and '.join(lost)}"
    return "; no loss elsewhere is shown, which isn't proof that there is none"


def _bits(change: Score) -> str:
    return f"{change.value:+.3f} bits/byte"


def _below(score: Score) -> bool:
    return score.ci_high is not None and score.ci_high < 0


def _above(score: Score) -> bool:
    return score.ci_low is not None and score.ci_low > 0


def _difference(one: Score, other: Score) -> Score | None:
    """Subtract two independent changes; None without intervals."""
    ends = (one.value, one.ci_low, one.ci_high, other.value, other.ci_low, other.ci_high)
    if any(end is None for end in ends):
        return None
    value, lower, upper, other_value, other_lower, other_upper = (float(end or 0.0) for end in ends)
    middle = value - other_value
    return Score(
        metric="specialization",
        value=middle,
        ci_low=middle - hypot(value - lower, other_upper - other_value),
        ci_high=middle + hypot(upper - value, other_value - other_lower),
        n=one.n + other.n,
        unit="bits/byte",
        signature="change on general questions minus change in the domain",
    )
