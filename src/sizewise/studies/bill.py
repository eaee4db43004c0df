"""The bill of today and what falls away: machines, people, one-time cost and wrong answers."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.choice.costing import MAX_UTILIZATION, MONTH_S, hour_prices, speed_at
from sizewise.choice.monthly import NOTHING, add, minus, one_time_terms, people_terms, times
from sizewise.records import Comparison, Needs, Range, Score
from sizewise.stats import percentile_interval

EVERYTHING = Score(metric="share", value=1.0, ci_low=1.0, ci_high=1.0, n=1, unit="share", signature="all requests")
ROUNDS = 2_000
MISMATCH = 3.0
"""Ratio of the stated requests to those that the bill pays for from which a note says that they don't fit."""


class Bill(NamedTuple):
    """What is paid today for a kind of request."""

    pays_usd: float
    """US dollars per month, as stated."""
    usd_per_1000: Score | None
    """What 1,000 logged requests cost, as logged or at list price."""
    requests: int | None
    """Requests per month, as stated or as the bill pays for."""
    needs: Needs
    notes: tuple[str, ...]
    """What isn't known."""


class Saved(NamedTuple):
    """What falls away if an alternative answers a share of the requests."""

    total: Range
    """US dollars per month; negative if it costs more."""
    machine: Range
    """Monthly cost of the machines."""
    terms: dict[str, Range]
    """Kind of cost -> its share of the total."""
    notes: tuple[str, ...]
    """What isn't counted, and why."""


def read_bill(compared: Comparison, large: str, pays_usd: float, needs: Needs) -> Bill:
    """Price the logged requests, and derive how many of them the bill pays for each month."""
    price = compared.scores.get("usd_per_1000", {}).get(large)
    if price is None or not price.value:
        return Bill(pays_usd, None, needs.requests_per_month, needs, ())
    paid_for = round(1000 * pays_usd / price.value)
    requests = needs.requests_per_month or paid_for
    notes: tuple[str, ...] = ()
    model = compared.models[large].of or "the logged model"
    if needs.requests_per_month is None:
        notes = (
            f"{pays_usd:,.0f} USD pay for about {requests:,} requests a month at {price.value:.3g} USD per 1,000 "
            f"({model}: {compared.models[large].price_basis})",
        )
    elif not 1 / MISMATCH < requests / max(1, paid_for) < MISMATCH:
        notes = (
            f"caution: {pays_usd:,.0f} USD a month would pay for about {paid_for:,} requests at {price.value:.3g} USD "
            f"per 1,000 ({model}: {compared.models[large].price_basis}), but requests_per_month is {requests:,}: check "
            "both",
        )
    return Bill(pays_usd, price, requests, needs, notes)


def part_of_bill(
    bill: Bill, compared: Comparison, name: str, share: Score, wrong: npt.NDArray[np.float64] | None
) -> Saved:
    """Compute what falls away if an alternative answers a share of the requests.

    Args:
        bill: what is paid today.
        compared: the comparison, with the measured speed.
        name: the alternative.
        share: share of the requests that it answers.
        wrong: (items,) 1 where its answer is wrong and today's isn't, -1 the other way round; None if that isn't known.
    """
    answered = Range(
        lower=(share.ci_low or 0.0) * bool(share.value), expected=share.value or 0.0, upper=share.ci_high or 0.0
    )
    machine = _machines(bill, compared, name, answered.upper)
    terms = {"bill": times(answered, by=bill.pays_usd), "machines": minus(NOTHING, machine)}
    notes = []
    needs = bill.needs
    stated = people_terms(needs, 1.0)
    if bill.requests:
        for title, each in stated.items():
            terms[title] = minus(NOTHING, times(answered, each, bill.requests))
    elif stated:
        notes.append(f"{' and '.join(stated)} not counted: set requests_per_month")
    if compared.models[name].start is not None:
        terms |= {title: minus(NOTHING, cost) for title, cost in one_time_terms(needs).items() if cost.upper}
    if needs.maintenance_usd_per_month is not None:
        terms["maintenance"] = minus(NOTHING, needs.maintenance_usd_per_month)
    cost, reason = _wrong_answers(bill, answered, wrong)
    if cost is not None:
        terms["wrong answers"] = cost
    notes += [reason] if reason else []
    return Saved(add(terms.values()), machine, terms, tuple(notes))


def _machines(bill: Bill, compared: Comparison, name: str, share: float) -> Range:
    """Compute the monthly cost of the machines that run around the clock for a share of the requests."""
    lower, upper = (price * MONTH_S / 3600 for price in hour_prices(bill.needs))
    speed = speed_at(compared, name, bill.needs)
    count = 1
    if speed and bill.requests:
        count = max(1, ceil(share * bill.requests / (speed * MONTH_S * MAX_UTILIZATION)))
    return Range(lower=count * lower, expected=count * (lower + upper) / 2, upper=count * upper)


def _wrong_answers(bill: Bill, answered: Range, wrong: npt.NDArray[np.float64] | None) -> tuple[Range | None, str]:
    """Price the answers that are wrong only with the alternative, less those that are wrong only today."""
    price = bill.needs.usd_per_wrong_answer
    if price is None:
        return None, ""
    if wrong is None or bill.requests is None:
        lacks = "the metric doesn't count them" if wrong is None else "set requests_per_month"
        return None, f"wrong answers not counted: {lacks}"
    drawn = np.random.default_rng(0).choice(wrong, (ROUNDS, len(wrong))).mean(axis=1)
    ends = percentile_interval(drawn)
    costs = [
        -end * part * bill.requests * usd
        for end in ends
        for part in (answered.lower, answered.upper)
        for usd in (price.lower, price.upper)
    ]
    expected = -float(wrong.mean()) * answered.expected * bill.requests * price.expected
    return Range(lower=min(costs), expected=expected, upper=max(costs)), ""
