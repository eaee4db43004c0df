"""Savings in words: what a pick saves each month, or from how many requests it pays off."""

from __future__ import annotations

from sizewise.choice.costing import break_even
from sizewise.choice.evidence import Choice
from sizewise.choice.monthly import NOTHING, added_costs, minus, monthly_savings
from sizewise.records import Range


def money_in_words(choice: Choice, pick: str) -> list[str]:
    """Write what a candidate saves or costs against what is used today; nothing if the costs aren't known."""
    today, requests = choice.today, choice.needs.requests_per_month
    if today is None or pick == today or requests is None:
        return []
    found = next((one for one in monthly_savings(choice) if one.name == pick), None)
    if found is None:
        return []
    money, counted = found.usd_per_month, _counted(found.terms)
    if money.expected < 0:
        volume = break_even(choice.comparison, pick, today, choice.needs, added_costs(choice, pick, today))
        # With wrong answers, or below what the cheapest machine would need, the volume isn't what decides.
        reachable = volume is not None and requests < volume.lower <= volume.machine_can
        pays = volume is not None and reachable and "wrong answers" not in found.terms
        until = f"; {pick} pays off from {volume.lower:,} requests a month" if volume and pays else ""
        more = minus(NOTHING, money)
        return [
            f"At {requests:,} requests a month, {today} costs less, by about {usd(more.expected)} USD a month"
            f"{range_in_words(more)}{counted}{until}."
        ]
    if money.lower <= 0:
        return [
            f"Whether it saves money compared with {today} is uncertain: about {usd(money.expected)} USD a month"
            f"{range_in_words(money)} at {requests:,} requests{counted}."
        ]
    return [
        f"It saves about {usd(money.expected)} USD a month compared with {today}{range_in_words(money)}, at "
        f"{requests:,} requests{counted}."
    ]


def _counted(terms: dict[str, Range]) -> str:
    """Name the kinds of cost that are counted beside the running cost."""
    others = [title for title in terms if title != "running cost"]
    return f" ({', '.join(others)} included)" if others else ""


def range_in_words(money: Range) -> str:
    """Write the bounds of a sum, unless they are what is expected."""
    if usd(money.lower) == usd(money.upper):
        return ""
    return f" ({usd(money.lower)} to {usd(money.upper)})"


def usd(amount: float) -> str:
    """Format a sum in US dollars, with cents below ten dollars."""
    return f"{amount:,.2f}" if abs(amount) < 10 else f"{amount:,.0f}"
