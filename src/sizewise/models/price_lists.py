"""List prices by provider, with the day up to which the price list was checked."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import cache

from sizewise.records import ListPrice

_CHECKED = re.compile(r"verified on (20\d\d-\d\d-\d\d)")


def today() -> str:
    """Return the current day in UTC as an ISO date."""
    return datetime.now(UTC).date().isoformat()


@cache
def checked_on() -> str:
    """Find the latest day on which the installed price list was checked; empty without a price list or a day."""
    try:
        from genai_prices import data_snapshot
    except ImportError:
        return ""
    snapshot = data_snapshot.get_snapshot()
    if snapshot.from_auto_update:
        return str(snapshot.timestamp.date().isoformat())
    comments = (model.price_comments or "" for provider in snapshot.providers for model in provider.models)
    return max((day for comment in comments for day in _CHECKED.findall(comment)), default="")


def find_prices(name: str, provider: str = "") -> tuple[ListPrice, ...]:
    """Look up what providers charge for a model, the cheapest first; free subscriptions are left out.

    Args:
        name: name of the model, as an API takes it.
        provider: provider as genai-prices names it; by default all of them.
    """
    try:
        from genai_prices import Usage, calc_price, data_snapshot
    except ImportError:
        return ()
    noon = datetime.now(UTC).replace(hour=12)  # some providers charge less at night
    found = []
    for seller in data_snapshot.get_snapshot().providers:
        if provider and seller.id != provider:
            continue
        known = seller.find_model(name)
        if known is None:
            continue
        try:  # priced as a short request: some providers charge more for long ones
            read, written = (
                float(calc_price(usage, name, provider_id=seller.id, genai_request_timestamp=noon).total_price) * 1_000
                for usage in (Usage(input_tokens=1_000), Usage(output_tokens=1_000))
            )
        except LookupError:
            continue
        if read or written:
            found.append(
                ListPrice(provider=seller.id, model=known.id, input_usd=read, output_usd=written, as_of=checked_on())
            )
    return tuple(sorted(found, key=lambda price: (price.input_usd + price.output_usd, price.provider)))


def days_between(earlier: str, later: str) -> int:
    """Count the days between two ISO dates."""
    return (date.fromisoformat(later) - date.fromisoformat(earlier)).days
