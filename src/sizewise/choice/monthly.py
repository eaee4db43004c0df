"""Monthly savings against what is used today: running cost, people's work, one-time cost and wrong answers."""

from __future__ import annotations

from collections.abc import Iterable

from sizewise.choice.costing import AddedCosts
from sizewise.choice.evidence import Choice
from sizewise.records import MonthlySavings, Needs, Range

RIGHT_OR_WRONG = ("accuracy", "exact_match", "reference_match", "contains_reference", "numeric_match")
"""Metrics that count wrong answers."""
NOTHING = Range(lower=0.0, expected=0.0, upper=0.0)


def monthly_savings(choice: Choice) -> list[MonthlySavings]:
    """Compute what each candidate saves each month; empty if the cost of today or the volume isn't known."""
    today, requests = choice.today, choice.needs.requests_per_month
    if today is None or requests is None or choice.cost(today).usd_per_month is None:
        return []
    found = (_savings(choice, name, today, requests) for name in choice.names if name != today)
    return [one for one in found if one is not None]


def _savings(choice: Choice, name: str, today: str, requests: int) -> MonthlySavings | None:
    now, then = choice.cost(today).usd_per_month, choice.cost(name).usd_per_month
    if now is None or then is None or choice.model(name).retired:
        return None
    terms = {"running cost": minus(now, then)}
    notes = []
    for title, ours in people_terms(choice.needs, requests).items():
        if not choice.model(name).process:
            terms[title] = minus(NOTHING, ours)
    terms |= {title: minus(NOTHING, cost) for title, cost in _fixed_terms(choice, name).items()}
    wrong, reason = _wrong_answers(choice, name, today, requests)
    if wrong is not None:
        terms["wrong answers"] = wrong
    else:
        notes.append(f"wrong answers aren't counted: {reason}")
    return MonthlySavings(name=name, today=today, usd_per_month=add(terms.values()), terms=terms, notes=tuple(notes))


def _fixed_terms(choice: Choice, name: str) -> dict[str, Range]:
    """Collect what a candidate costs each month however many requests there are, machines and setup apart."""
    model, needs = choice.model(name), choice.needs
    terms = {title: cost for title, cost in one_time_terms(needs).items() if cost.upper and model.start is not None}
    if needs.maintenance_usd_per_month is not None and choice.local(name) and not model.process:
        terms["maintenance"] = needs.maintenance_usd_per_month
    return terms


def added_costs(choice: Choice, name: str, other: str) -> AddedCosts:
    """Compute what a candidate costs beside running it, against another one.

    A replacement adds review and hand-overs to what is used today; between two replacements they don't differ.
    """
    replaces = other == choice.today and not choice.model(name).process
    people = people_terms(choice.needs, 1.0).values() if replaces else ()
    return AddedCosts(add(_fixed_terms(choice, name).values()), add(people))


def people_terms(needs: Needs, requests: float) -> dict[str, Range]:
    """Compute the monthly cost of people who review a model's answers and take over its cases."""
    terms = {}
    for title, share, minutes in (
        ("human review", needs.review_share, needs.minutes_per_review),
        ("hand-overs", needs.handover_share, needs.minutes_per_handover),
    ):
        if share is not None and minutes is not None and needs.staff_usd_per_hour is not None:
            hours = times(share, minutes, requests / 60)
            terms[title] = times(hours, needs.staff_usd_per_hour)
    return terms


def one_time_terms(needs: Needs) -> dict[str, Range]:
    """Spread the one-time cost of labels and training over the months of use."""
    known = {"labeling": needs.labeling_usd, "training": needs.training_usd}
    factor = 1 / needs.amortization_months
    return {title: times(cost, by=factor) for title, cost in known.items() if cost is not None}


def _wrong_answers(choice: Choice, name: str, today: str, requests: int) -> tuple[Range | None, str]:
    """Price the difference in wrong answers; None with the reason if it can't be counted."""
    price = choice.needs.usd_per_wrong_answer
    if price is None:
        return None, "set usd_per_wrong_answer under [needs]"
    if choice.quality not in RIGHT_OR_WRONG:
        return None, f"{choice.title} doesn't count right and wrong answers"
    found = choice.difference(name, today)
    if found is None:
        return None, "the two weren't compared"
    turned = found if found.left == name else found.turned()
    lower = turned.value if turned.ci_low is None else turned.ci_low
    upper = turned.value if turned.ci_high is None else turned.ci_high
    ends = [share * requests * usd for share in (lower, upper) for usd in (price.lower, price.upper)]
    return Range(lower=min(ends), expected=turned.value * requests * price.expected, upper=max(ends)), ""


def times(one: Range, other: Range | None = None, by: float = 1.0) -> Range:
    """Multiply ranges of positive values end by end."""
    other = other or Range(lower=1.0, expected=1.0, upper=1.0)
    return Range(
        lower=one.lower * other.lower * by,
        expected=one.expected * other.expected * by,
        upper=one.upper * other.upper * by,
    )


def minus(one: Range, other: Range) -> Range:
    """Subtract ranges that vary independently of each other."""
    return Range(lower=one.lower - other.upper, expected=one.expected - other.expected, upper=one.upper - other.lower)


def add(ranges: Iterable[Range]) -> Range:
    """Add ranges end by end."""
    listed = list(ranges)
    return Range(
        lower=sum(one.lower for one in listed),
        expected=sum(one.expected for one in listed),
        upper=sum(one.upper for one in listed),
    )
