"""Numbers for readers: rounded by their interval, with units, and never a minus sign before zero."""

from __future__ import annotations

from math import floor, log10

from sizewise.metrics.display import is_percentage, measure_of, number, possible_ends
from sizewise.records import Difference, Range, Score

MAX_DIGITS = 3
"""Significant digits of a value, however narrow its interval is."""
TINY_P = 0.001
COARSE = 3
"""A half-width that starts with this digit or a larger one needs no second digit."""


def decimals_for(value: float, half_width: float) -> int | None:
    """Return the decimals of a value that an interval of this half-width justifies; None without a width."""
    if half_width <= 0:
        return None
    place = floor(log10(half_width))
    leading = half_width / 10.0**place
    justified = -place + (leading < COARSE)
    largest = max(abs(value), half_width)
    return max(0, min(justified, MAX_DIGITS - 1 - floor(log10(largest))))


def fixed(value: float, decimals: int, sign: bool = False) -> str:
    """Format a number with fixed decimals; what rounds to zero has no sign."""
    text = f"{abs(value):,.{decimals}f}"
    if not text.strip("0.,"):
        return text
    return ("-" if value < 0 else "+" if sign else "") + text


def rounded_score(score: Score) -> str:
    """Format value and interval: `21.5 [19.1, 23.9]`, `87% [77, 96]`; `not measured` without a value."""
    if score.value is None:
        return "not measured"
    factor, unit = _factor(score.metric, score.unit)
    ends = [None if end is None else factor * end for end in (score.ci_low, score.ci_high)]
    decimals = _decimals(factor * score.value, ends)
    if decimals is None:
        return number(factor * score.value, measure_of(score.metric).digits) + unit
    shown = ("unbounded" if end is None else fixed(end, decimals) for end in ends)
    return f"{fixed(factor * score.value, decimals)}{unit} [{', '.join(shown)}]"


def rounded_value(score: Score) -> str:
    """Format a value without its interval, but with the digits that the interval justifies."""
    return rounded_score(score).partition(" [")[0]


def rounded_difference(found: Difference) -> str:
    """Format a difference and its simultaneous interval: `+2.1 [0.4, 3.8]`; shares in percentage points."""
    factor, unit = _factor(found.metric, found.unit)
    points = " points" if unit else ""
    ends = [None if end is None else factor * end for end in possible_ends(found.metric, found.unit, found.family_ends)]
    decimals = _decimals(factor * found.value, ends)
    if decimals is None:
        value = factor * found.value
        return ("+" if value > 0 else "") + number(value) + points
    shown = ", ".join("unbounded" if end is None else fixed(end, decimals, sign=True) for end in ends)
    return f"{fixed(factor * found.value, decimals, sign=True)} [{shown}]{points}"


def p_text(p: float) -> str:
    """Format a p-value: `p = 0.012`, `p < 0.001`."""
    return f"p = {number(p, 2)}" if p >= TINY_P else f"p < {TINY_P}"


def money(usd: float) -> str:
    """Format an amount in US dollars with two digits below 100."""
    return f"{usd:,.0f}" if usd >= 100 else number(usd, 2)


def money_range(found: Range) -> str:
    """Format a range of amounts: `0.0023 to 0.19`; one amount if both ends agree."""
    ends = money(found.lower), money(found.upper)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def seconds_text(seconds: float) -> str:
    """Format a time with two digits and the unit that fits it: `1.9 s`, `35 ms`, `0.4 ms`."""
    if seconds >= 0.995:  # less is shown in milliseconds with two digits
        return f"{seconds:,.0f} s" if seconds >= 10 else f"{number(seconds, 2)} s"
    return f"{number(1000 * seconds, 2)} ms"


def size_text(size_bytes: float) -> str:
    """Format a size in the unit that fits it: `0.29 GB`, `15 MB`, `40 kB`."""
    for unit, divisor in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= 0.1 * divisor:
            return f"{number(size_bytes / divisor, 2)} {unit}"
    return f"{number(size_bytes / 1e3, 2)} kB"


def minutes_text(minutes: float) -> str:
    """Format a duration: `40 s`, `6 min`, `1.5 h`."""
    if minutes < 1:
        return f"{max(1, round(60 * minutes))} s"
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _factor(metric: str, unit: str) -> tuple[float, str]:
    if is_percentage(metric, unit):
        return 100.0, "%"
    return 1 / measure_of(metric).divisor, ""


def _decimals(value: float, ends: list[float | None]) -> int | None:
    """Return the decimals of a value; an open interval counts by its known side."""
    known = [end for end in ends if end is not None]
    if not known or len(set(known)) == 1 == len(known) - 1:
        return None
    half = (known[1] - known[0]) / 2 if len(known) == 2 else abs(value - known[0])
    return decimals_for(value, half)
