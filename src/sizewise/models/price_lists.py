"""List prices by provider, with the day up to which the price list was checked."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from sizewise.models.names import find_retirement, maker_of, without_snapshot
from sizewise.models.price_updates import current_update
from sizewise.records import CatalogModel, ListPrice, Source

TITLES = {
    "openai": "OpenAI",
    "anthropic": "Anthropic",
    "google": "Google",
    "deepseek": "DeepSeek",
    "mistral": "Mistral",
}
"""Provider -> its name."""
_CHECKED = re.compile(r"verified on (20\d\d-\d\d-\d\d)")
_NOT_TEXT = re.compile(
    r"audio|image|tts|realtime|transcribe|embed|moderation|live|whisper|robotics|search|vision|^ft:|\.ft-|omni|banana"
    r"|:extended|instruct$|deep-research|-api$|gemini-flash-1|gemini-pro-1|customtools"
)
"""Names of models that don't answer in text, and of variants of others."""


def today() -> str:
    """Return the current day in UTC as an ISO date."""
    return datetime.now(UTC).date().isoformat()


def checked_on() -> str:
    """Find the latest day on which the price list in use was checked; empty without a price list or a day."""
    return current_update().fetched or _packaged_on()


@lru_cache(maxsize=1)
def _packaged_on() -> str:
    try:
        from genai_prices.data import providers
    except ImportError:
        return ""
    comments = (model.price_comments or "" for provider in providers for model in provider.models)
    return max((day for comment in comments for day in _CHECKED.findall(comment)), default="")


def list_version() -> str:
    """Name the state of the price list, for what is derived from it."""
    update = current_update()
    return f"{update.fetched}:{len(update.first_seen)}" if update.fetched else "packaged"


def list_age_days() -> int | None:
    """Return the age of the price list in days; None without one."""
    checked = checked_on()
    return days_between(checked, today()) if checked else None


def listed_models() -> list[CatalogModel]:
    """List the models that their makers sell, as the price list names them: context and prices, no other facts."""
    try:
        from genai_prices import data_snapshot
    except ImportError:
        return []
    current_update()
    found = []
    for seller in data_snapshot.get_snapshot().providers:
        if seller.id not in TITLES or seller.id == "mistral":  # Mistral AI also sells models with open weights
            continue
        for model in seller.models:
            if maker_of(model.id) == seller.id and not _NOT_TEXT.search(model.id):
                found.append(_listed_model(seller.id, model))
    return found


def _listed_model(provider: str, model: Any) -> CatalogModel:
    end = find_retirement(model.id, provider)
    source = Source(
        fact="uri, context" if model.context_window else "uri",
        url="https://github.com/pydantic/genai-prices",
        seen=checked_on(),
        verified=True,
        note="price list",
    )
    return CatalogModel(
        name=without_snapshot(model.id),
        maker=TITLES[provider],
        uri=f"{provider}:{model.id}",
        weights="closed",
        context=model.context_window,
        retires_on=end.day if end is not None else None,
        sources=(source,),
    )


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
    current_update()
    at = noon()
    found = []
    for seller in data_snapshot.get_snapshot().providers:
        if provider and seller.id != provider:
            continue
        known = seller.find_model(name)
        if known is None or (known.deprecated and not provider):  # still the price of what a provider was paid
            continue
        try:  # priced as a short request: some providers charge more for long ones
            read, written = (
                float(calc_price(usage, name, provider_id=seller.id, genai_request_timestamp=at).total_price) * 1_000
                for usage in (Usage(input_tokens=1_000), Usage(output_tokens=1_000))
            )
        except LookupError:
            continue
        if read or written:
            found.append(
                ListPrice(provider=seller.id, model=known.id, input_usd=read, output_usd=written, as_of=checked_on())
            )
    return tuple(sorted(found, key=lambda price: (price.input_usd + price.output_usd, price.provider)))


def noon() -> datetime:
    """Return noon of the current day in UTC, for which prices are stated: some providers charge less at night."""
    return datetime.now(UTC).replace(hour=12)


def days_between(earlier: str, later: str) -> int:
    """Count the days between two ISO dates."""
    return (date.fromisoformat(later) - date.fromisoformat(earlier)).days
