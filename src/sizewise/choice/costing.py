"""What candidates cost: measured speed and tokens times a price, from few to many requests a month."""

from __future__ import annotations

from math import ceil

from sizewise.records import BreakEven, Comparison, CostLine, LoadLevel, ModelDescription, Needs, Range

ASSUMED_USD_PER_HOUR = (0.05, 0.20)
"""Rented machines with two cores and 8 GB; an assumption of 2026, not looked up: give machine_usd_per_hour."""
ASSUMED_WATTS = (15.0, 65.0)
"""A laptop's processor to a small desktop's at work, by their makers' thermal design power; give machine_watts."""
MONTH_S = 730 * 3600.0
BUSY = 0.6
"""Share of a month that a machine can be busy before answers queue."""
LEAST_BUSY = 0.05
"""Where no number of requests is given, a machine is taken to be busy between so much of the time and always."""


def hour_prices(needs: Needs) -> tuple[float, float]:
    """Give the least and greatest price of an hour of the machine."""
    if needs.machine_usd_per_hour is not None:
        return needs.machine_usd_per_hour, needs.machine_usd_per_hour
    return ASSUMED_USD_PER_HOUR


def energy(speed: float, needs: Needs) -> Range:
    """Give the energy for 1,000 answers, in kWh: what the machine draws while it answers, not while it waits."""
    lower, upper = [
        watts / speed * 1000 / 3.6e6
        for watts in ((needs.machine_watts, needs.machine_watts) if needs.machine_watts else ASSUMED_WATTS)
    ]
    return Range(lower=lower, expected=(lower * upper) ** 0.5, upper=upper)


def cost_line(comparison: Comparison, name: str, needs: Needs) -> CostLine:
    """Say what a candidate costs for 1,000 answers, and a month.

    A model of one's own costs the machine's time: at least while it answers, at most while the machines that so many
    requests need are on all month; with training and people's time shared out over the months. A paid one costs what
    its measured answers cost.
    """
    model = comparison.models[name]
    paid, speed = _value(comparison, "usd_per_1000", name), speed_at(comparison, name, needs)
    requests = needs.requests_per_month
    if paid is not None:
        month = None if requests is None else Range(lower=paid[0], expected=paid[1], upper=paid[2])
        return CostLine(
            name=name,
            usd_per_1000=Range(lower=paid[0], expected=paid[1], upper=paid[2]),
            usd_per_month=_times(month, requests),
            machines=None,
            notes=("list price of the measured answers",),
        )
    if not model.local or model.engine in ("rule", "recorded"):
        return _unknown(name, "no price of its answers is known")
    if not speed:
        return _unknown(name, "its speed was not measured" if speed is None else "no request was answered")
    low_price, high_price = hour_prices(needs)
    notes = [] if needs.machine_usd_per_hour is not None else ["the price of the machine is an assumption"]
    if needs.machine_watts is None:
        notes.append(
            "so are its {:g} to {:g} watts".format(*ASSUMED_WATTS)
            if notes
            else "its {:g} to {:g} watts are an assumption".format(*ASSUMED_WATTS)
        )
    one_off = _one_off(model, needs)
    if one_off:
        notes.append(
            f"{needs.setup_cost_usd:g} USD of training and people's time shared out over {needs.amortization_months} months"
        )
    per_second = speed
    level = level_for(comparison, name, needs)
    if level is not None:
        notes.append(f"{per_second:.3g} answers a second with {level.concurrent_users} users at once")
    elif needs.concurrent_users is not None:
        notes.append(
            f"speed with {needs.concurrent_users} users at once was not measured: that of one batch stands for it"
        )
    busy = [price / 3600 * 1000 / per_second for price in (low_price, high_price)]
    if requests is None:
        middle = (busy[0] * busy[1] / LEAST_BUSY) ** 0.5
        notes.append(f"busy between {LEAST_BUSY:.0%} and all of the time: requests_per_month is not given")
        return CostLine(
            name=name,
            usd_per_1000=Range(lower=busy[0], expected=middle, upper=busy[1] / LEAST_BUSY),
            usd_per_month=None,
            machines=None,
            kwh_per_1000=energy(speed, needs),
            notes=tuple(notes),
        )
    machines = max(1, ceil(requests / (per_second * MONTH_S * BUSY)))
    always = [machines * price * MONTH_S / 3600 for price in (low_price, high_price)]
    lower = busy[0] * requests / 1000 + one_off
    upper = always[1] + one_off
    month = Range(lower=lower, expected=always[0] + one_off, upper=upper)
    return CostLine(
        name=name,
        usd_per_1000=Range(
            lower=lower / requests * 1000,
            expected=month.expected / requests * 1000,
            upper=upper / requests * 1000,
        ),
        usd_per_month=month,
        machines=machines,
        kwh_per_1000=energy(speed, needs),
        notes=tuple(notes),
    )


def level_for(comparison: Comparison, name: str, needs: Needs) -> LoadLevel | None:
    """Give what users met with at the least measured number that is not below the needed one; None if not measured.

    Without a needed number it is the most that were measured.
    """
    levels = sorted(
        (one for one in comparison.load_levels.get(name, ()) if one.concurrent_users),
        key=lambda one: one.concurrent_users or 0,
    )
    if needs.concurrent_users is None:
        return levels[-1] if levels else None
    return next((one for one in levels if (one.concurrent_users or 0) >= (needs.concurrent_users or 0)), None)


def speed_at(comparison: Comparison, name: str, needs: Needs) -> float | None:
    """Give answers a second with the needed users at once; where that was not measured, those of one batch."""
    level = level_for(comparison, name, needs)
    score = level.scores["requests_per_s"] if level else comparison.scores.get("requests_per_s", {}).get(name)
    return score.value if score else None


def break_even(comparison: Comparison, own: str, paid: str, needs: Needs) -> BreakEven | None:
    """Say from how many requests a month on a model of one's own, on one machine that is always on, costs less.

    Returns:
        None where one of the two has no price or speed.
    """
    price, speed = _value(comparison, "usd_per_1000", paid), speed_at(comparison, own, needs)
    if price is None or not speed or price[1] <= 0 or not comparison.models[own].local:
        return None
    month = [one * MONTH_S / 3600 + _one_off(comparison.models[own], needs) for one in hour_prices(needs)]
    most = int(speed * MONTH_S * BUSY)
    volumes = [ceil(month[0] / price[2] * 1000), ceil(month[1] / price[0] * 1000) if price[0] > 0 else most]
    return BreakEven(self_hosted=own, paid=paid, lower=volumes[0], upper=max(volumes), machine_can=most)


def _value(comparison: Comparison, metric: str, name: str) -> tuple[float, float, float] | None:
    score = comparison.scores.get(metric, {}).get(name)
    if score is None or score.value is None:
        return None
    lower = score.value if score.ci_low is None else score.ci_low
    return lower, score.value, score.value if score.ci_high is None else score.ci_high


def _one_off(model: ModelDescription, needs: Needs) -> float:
    """Give the monthly share of what training cost once; a model used as it is was not trained."""
    return needs.setup_cost_usd / needs.amortization_months if model.start is not None else 0.0


def _times(cost: Range | None, requests: int | None) -> Range | None:
    if cost is None or requests is None:
        return None
    share = requests / 1000
    return Range(lower=cost.lower * share, expected=cost.expected * share, upper=cost.upper * share)


def _unknown(name: str, reason: str) -> CostLine:
    return CostLine(name=name, usd_per_1000=None, usd_per_month=None, machines=None, notes=(reason,))
