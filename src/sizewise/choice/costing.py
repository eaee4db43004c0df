"""What candidates cost: measured speed and tokens times a price, at any number of requests per month."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from sizewise.records import BreakEven, Comparison, CostLine, LoadLevel, ModelDescription, Needs, Range

ASSUMED_USD_PER_HOUR = (0.05, 0.20)
"""Price range of rented machines with two cores and 8 GB, assumed as of 2026. Set machine_usd_per_hour to override."""
ASSUMED_WATTS = (15.0, 65.0)
"""From a laptop CPU to a small desktop CPU under load, by thermal design power. Set machine_watts to override."""
MONTH_S = 730 * 3600.0
MAX_UTILIZATION = 0.6
"""Share of a month that a machine can be busy before requests start to queue."""
MIN_UTILIZATION = 0.05
"""Without requests_per_month, utilization is assumed to lie between this and 100%."""


def hour_prices(needs: Needs) -> tuple[float, float]:
    """Return the lowest and highest price of an hour of the machine."""
    if needs.machine_usd_per_hour is not None:
        return needs.machine_usd_per_hour, needs.machine_usd_per_hour
    return ASSUMED_USD_PER_HOUR


def energy(speed: float, needs: Needs) -> Range:
    """Compute the energy for 1,000 requests in kWh, idle time not included.

    Args:
        speed: requests per second.
        needs: with the power draw of the machine, if it is known.
    """
    watts = (needs.machine_watts, needs.machine_watts) if needs.machine_watts else ASSUMED_WATTS
    lower, upper = (draw / speed * 1000 / 3.6e6 for draw in watts)
    return Range(lower=lower, expected=(lower * upper) ** 0.5, upper=upper)


def cost_line(comparison: Comparison, name: str, needs: Needs) -> CostLine:
    """Compute what a candidate costs per 1,000 requests and per month.

    A self-hosted model costs machine time, from answering time only to around-the-clock operation of all the machines
    that the load requires, plus the monthly share of the setup cost. A paid model costs what its measured answers cost.
    """
    model = comparison.models[name]
    paid, speed = _value(comparison, "usd_per_1000", name), speed_at(comparison, name, needs)
    if paid is not None:
        price = Range(lower=paid[0], expected=paid[1], upper=paid[2])
        return CostLine(
            name=name,
            usd_per_1000=price,
            usd_per_month=_monthly(price, needs.requests_per_month),
            machines=None,
            notes=tuple(_price_notes(model)),
        )
    if not model.local or model.engine == "rule" or (model.engine == "recorded" and not speed):
        return _unknown(name, _no_price(model))
    if not speed:
        return _unknown(name, "speed not measured" if speed is None else "no request was answered")
    return _self_hosted(comparison, name, needs, speed)


OLD_PRICES_DAYS = 90
"""Age from which a price list is called old beside the cost."""


def price_age(model: ModelDescription) -> str:
    """Describe a list price that is too old to rely on; empty otherwise."""
    days = model.price_age_days if _listed(model) else None
    return f"price list {days} days old" if days is not None and days > OLD_PRICES_DAYS else ""


def _listed(model: ModelDescription) -> bool:
    """Return whether the cost of a model comes from a price list."""
    return not model.price_basis or "list price" in model.price_basis


def _price_notes(model: ModelDescription) -> list[str]:
    """Describe where the price of a paid model comes from, how old it is, and what other providers charge."""
    notes = [model.price_basis or "list price of the measured requests"]
    if age := price_age(model):
        notes.append(f"{age}: check it with the provider")
    elif _listed(model) and model.prices and model.prices[0].as_of:
        notes.append(f"price list of {max(price.as_of for price in model.prices)}")
    if _listed(model) and len(model.prices) > 1:
        each = (f"{one.provider} {one.input_usd:g} in, {one.output_usd:g} out" for one in model.prices)
        notes.append(f"USD per million tokens: {'; '.join(each)}")
    return notes


def _no_price(model: ModelDescription) -> str:
    """Explain why a candidate has no price."""
    if model.retired:
        return f"no price: shut down on {model.retires_on}"
    if model.unnamed:
        return 'price unknown: the recording names no model; add of = "NAME" to its [[candidates]] table'
    if model.process:
        return "price unknown: add minutes_per_case and usd_per_hour, or usd_per_1000, to its [[candidates]] table"
    if model.engine == "recorded" and not model.local:
        return "price unknown: no list price is known; add usd_per_1000 to its [[candidates]] table"
    return "price unknown"


def _self_hosted(comparison: Comparison, name: str, needs: Needs, speed: float) -> CostLine:
    low_price, high_price = hour_prices(needs)
    setup, requests = _monthly_setup(comparison.models[name], needs), needs.requests_per_month
    notes = _assumptions(comparison, name, needs, speed)
    busy = [price / 3600 * 1000 / speed for price in (low_price, high_price)]
    if requests is None:
        notes.append(f"utilization assumed between {MIN_UTILIZATION:.0%} and 100%: requests_per_month isn't set")
        expected = (busy[0] * busy[1] / MIN_UTILIZATION) ** 0.5
        return CostLine(
            name=name,
            usd_per_1000=Range(lower=busy[0], expected=expected, upper=busy[1] / MIN_UTILIZATION),
            usd_per_month=None,
            machines=None,
            kwh_per_1000=energy(speed, needs),
            notes=tuple(notes),
        )
    machines = max(1, ceil(requests / (speed * MONTH_S * MAX_UTILIZATION)))
    always_on = [machines * price * MONTH_S / 3600 for price in (low_price, high_price)]
    month = Range(lower=busy[0] * requests / 1000 + setup, expected=always_on[0] + setup, upper=always_on[1] + setup)
    return CostLine(
        name=name,
        usd_per_1000=Range(
            lower=month.lower / requests * 1000,
            expected=month.expected / requests * 1000,
            upper=month.upper / requests * 1000,
        ),
        usd_per_month=month,
        machines=machines,
        kwh_per_1000=energy(speed, needs),
        notes=tuple(notes),
    )


def _assumptions(comparison: Comparison, name: str, needs: Needs, speed: float) -> list[str]:
    """List the assumptions and measurements behind the cost of a self-hosted model."""
    notes = [] if needs.machine_usd_per_hour is not None else ["assumed machine price"]
    if needs.machine_watts is None:
        notes.append("assumed power draw of {:g} to {:g} W".format(*ASSUMED_WATTS))
    if _monthly_setup(comparison.models[name], needs):
        notes.append(f"setup cost of {needs.setup_cost_usd:g} USD spread over {needs.amortization_months} months")
    level = level_for(comparison, name, needs)
    if level is not None:
        notes.append(f"{speed:.3g} requests/s with {level.concurrent_users} concurrent users")
    elif needs.concurrent_users is not None:
        notes.append(f"no load test with {needs.concurrent_users} concurrent users; batch throughput is used instead")
    return notes


def level_for(comparison: Comparison, name: str, needs: Needs) -> LoadLevel | None:
    """Find the applicable load level: the lowest one with at least the required concurrent users.

    If no number is required, the highest measured level applies. None if no level qualifies.
    """
    levels = sorted(
        (level for level in comparison.load_levels.get(name, ()) if level.concurrent_users),
        key=lambda level: level.concurrent_users or 0,
    )
    if needs.concurrent_users is None:
        return levels[-1] if levels else None
    return next((level for level in levels if (level.concurrent_users or 0) >= (needs.concurrent_users or 0)), None)


def speed_at(comparison: Comparison, name: str, needs: Needs) -> float | None:
    """Return requests/s with the required concurrent users; batch throughput if there was no such load test."""
    level = level_for(comparison, name, needs)
    score = level.scores["requests_per_s"] if level else comparison.scores.get("requests_per_s", {}).get(name)
    return score.value if score else None


class AddedCosts(NamedTuple):
    """What a candidate costs beside running it, in US dollars."""

    per_month: Range
    """Whatever the number of requests: labels, training, maintenance."""
    per_request: Range
    """For each request: review and hand-overs."""


_NONE = Range(lower=0.0, expected=0.0, upper=0.0)
NO_COSTS = AddedCosts(_NONE, _NONE)


def break_even(
    comparison: Comparison, self_hosted: str, paid: str, needs: Needs, added: AddedCosts = NO_COSTS
) -> BreakEven | None:
    """Compute the monthly request volume above which a self-hosted model is cheaper than a paid one.

    The self-hosted model runs on one machine around the clock.

    Args:
        comparison: the measurements.
        self_hosted: name of the self-hosted model.
        paid: name of the paid one.
        needs: price of the machine, and the setup cost.
        added: what the self-hosted model costs besides.

    Returns:
        None if one of the two has no price or speed. A volume above what the machine can serve is out of reach.
    """
    price, speed = _value(comparison, "usd_per_1000", paid), speed_at(comparison, self_hosted, needs)
    model = comparison.models[self_hosted]
    if price is None or not speed or price[1] <= 0 or not model.local:
        return None
    lowest, highest = (hourly * MONTH_S / 3600 + _monthly_setup(model, needs) for hourly in hour_prices(needs))
    capacity = int(speed * MONTH_S * MAX_UTILIZATION)
    volumes = [
        ceil(month / saved) if saved > 0 else capacity + 1
        for month, saved in (
            (lowest + added.per_month.lower, price[2] / 1000 - added.per_request.lower),
            (highest + added.per_month.upper, price[0] / 1000 - added.per_request.upper),
        )
    ]
    return BreakEven(self_hosted=self_hosted, paid=paid, lower=volumes[0], upper=max(volumes), machine_can=capacity)


def _value(comparison: Comparison, metric: str, name: str) -> tuple[float, float, float] | None:
    score = comparison.scores.get(metric, {}).get(name)
    if score is None or score.value is None:
        return None
    lower = score.value if score.ci_low is None else score.ci_low
    return lower, score.value, score.value if score.ci_high is None else score.ci_high


def _monthly_setup(model: ModelDescription, needs: Needs) -> float:
    """Compute the monthly share of the setup cost; zero for models used off the shelf."""
    return needs.setup_cost_usd / needs.amortization_months if model.start is not None else 0.0


def _monthly(usd_per_1000: Range, requests: int | None) -> Range | None:
    if requests is None:
        return None
    factor = requests / 1000
    return Range(
        lower=usd_per_1000.lower * factor, expected=usd_per_1000.expected * factor, upper=usd_per_1000.upper * factor
    )


def _unknown(name: str, reason: str) -> CostLine:
    return CostLine(name=name, usd_per_1000=None, usd_per_month=None, machines=None, notes=(reason,))
