"""What recorded rows tell beside the answer: the model, tokens, cost and time; and what the answers cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sizewise.controls import cell_number
from sizewise.models.identity import Identity
from sizewise.models.spending import seller_cost
from sizewise.records import ListPrice, Request, StatedFacts

MODEL_KEYS = ("model", "model_name", "model_id", "of")
PROMPT_TOKEN_KEYS = ("prompt_tokens", "input_tokens")
COMPLETION_TOKEN_KEYS = ("completion_tokens", "output_tokens")
CACHED_KEYS = ("cached_tokens", "prompt_cache_hit_tokens")
"""Prompt tokens read from the provider's cache that count as prompt tokens too (OpenAI, DeepSeek)."""
CACHE_READ_KEYS = ("cache_read_input_tokens", "cache_read_tokens")
CACHE_WRITE_KEYS = ("cache_creation_input_tokens", "cache_write_tokens")
"""Prompt tokens read from and written to the cache that `input_tokens` leaves out (Anthropic)."""
DETAIL_KEYS = ("prompt_tokens_details", "input_tokens_details")
USD_KEYS = ("usd", "cost_usd", "usd_cost", "total_cost_usd")
SECONDS_KEYS = {"seconds": 1.0, "latency_s": 1.0, "duration_s": 1.0, "latency_ms": 1e-3, "duration_ms": 1e-3}
MINUTES_KEYS = ("minutes", "minutes_per_case", "handling_minutes")
DAY_KEYS = ("recorded_on", "created", "created_at", "timestamp", "date")
BYTES_PER_TOKEN = 4.0
BYTES_RANGE = (3.0, 5.0)
"""Bytes of UTF-8 text per token of the vocabularies in use: fewest for code and Chinese, most for plain English."""


class Usage(NamedTuple):
    """What a row tells about one answer. Zero and empty mean that it isn't recorded."""

    prompt_tokens: int = 0
    """All tokens of the prompt, those of the cache included."""
    completion_tokens: int = 0
    usd: float | None = None
    """Recorded cost in US dollars."""
    seconds: float = 0.0
    """Recorded latency, or the time that a person took."""
    model: str = ""
    day: str = ""
    """Day of the answer (ISO date)."""
    cache_read_tokens: int = 0
    """Prompt tokens that the provider read from its cache, at a lower price."""
    cache_write_tokens: int = 0
    """Prompt tokens that the provider wrote to its cache, at a higher price."""


def read_usage(row: Mapping[str, Any]) -> Usage:
    """Read tokens, cost, time, model and day from a row; unusable values count as not recorded."""
    nested = row.get("usage")
    counts = {**row, **nested} if isinstance(nested, dict) else row
    usd = _number(counts, USD_KEYS)
    seconds = next((value * unit for key, unit in SECONDS_KEYS.items() if (value := _number(row, (key,)))), 0.0)
    minutes = _number(row, MINUTES_KEYS)
    name = next((row[key] for key in MODEL_KEYS if isinstance(row.get(key), str) and row[key].strip()), "")
    prompt, read, written = _prompt_tokens(counts)
    return Usage(
        prompt,
        round(_number(counts, COMPLETION_TOKEN_KEYS) or 0),
        usd,
        seconds or 60 * (minutes or 0.0),
        str(name).strip(),
        _day(row),
        read,
        written,
    )


def _prompt_tokens(counts: Mapping[str, Any]) -> tuple[int, int, int]:
    """Count the tokens of a prompt, and of these the ones read from and written to the provider's cache."""
    details: Mapping[str, Any] = next((counts[key] for key in DETAIL_KEYS if isinstance(counts.get(key), dict)), {})
    prompt = _number(counts, PROMPT_TOKEN_KEYS) or 0
    cached = _number({**counts, **details}, CACHED_KEYS)
    read, written = (_number(counts, keys) or 0 for keys in (CACHE_READ_KEYS, CACHE_WRITE_KEYS))
    if cached is None and _number(counts, PROMPT_TOKEN_KEYS[:1]) is None:  # only `input_tokens`, without the cache
        prompt += read + written
    read = min(cached or read, prompt)
    return round(prompt), round(read), round(min(written, prompt - read))


def _number(row: Mapping[str, Any], keys: tuple[str, ...]) -> float | None:
    for key in keys:
        given = row.get(key)
        if given is None or isinstance(given, bool) or given == "":
            continue
        try:
            value = cell_number(given) if isinstance(given, str) else float(given)
        except (TypeError, ValueError):
            continue
        if math.isfinite(value) and value >= 0:
            return value
    return None


def _day(row: Mapping[str, Any]) -> str:
    given = next((row[key] for key in DAY_KEYS if row.get(key)), None)
    try:
        if isinstance(given, int | float) and not isinstance(given, bool):
            return datetime.fromtimestamp(given, UTC).date().isoformat()
        return datetime.fromisoformat(str(given)).date().isoformat() if given else ""
    except (ValueError, OverflowError, OSError):
        return ""


class Pricing(NamedTuple):
    """How the answers of a recording are priced."""

    basis: str
    """Source of the cost, in words; empty if there is none."""
    factors: tuple[float, float] = (1.0, 1.0)
    """By how much the true cost may be lower or higher than computed, apart from how answers vary."""
    kind: str = ""
    """`fixed`, `recorded`, `tokens` or `text`."""
    usd: float = 0.0
    """Cost of each answer, if it is fixed."""


def price_recording(found: Identity | None, facts: StatedFacts, usages: list[Usage]) -> Pricing:
    """Decide how the answers of a recording are priced: as stated, as recorded, or at list price."""
    if facts.usd_per_1000 is not None:
        return Pricing(f"stated: {facts.usd_per_1000:g} USD per 1,000", kind="fixed", usd=facts.usd_per_1000 / 1000)
    if facts.usd_per_hour is not None and facts.process:
        hourly = f"at {facts.usd_per_hour:g} USD per hour"
        if facts.minutes_per_case is not None:
            usd = facts.minutes_per_case / 60 * facts.usd_per_hour
            return Pricing(f"{facts.minutes_per_case:g} minutes of work per case {hourly}", kind="fixed", usd=usd)
        if usages and all(usage.seconds for usage in usages):
            return Pricing(f"recorded minutes of work {hourly}", kind="time", usd=facts.usd_per_hour / 3600)
    recorded = sum(usage.usd is not None for usage in usages)
    if recorded:
        part = "the answers" if recorded == len(usages) else f"{recorded:,} of {len(usages):,} answers; others unpriced"
        return Pricing(f"cost recorded with {part}", kind="recorded")
    if found is None or not found.prices or facts.local:
        return Pricing("")
    sellers = sorted({price.provider for price in found.prices})
    priced = f"list price of {found.prices[0].model} at {sellers[0]} (genai-prices)"
    if len(sellers) > 1:
        priced = f'list prices of {len(sellers)} providers (genai-prices); name yours with of = "PROVIDER:NAME"'
    if usages and all(usage.prompt_tokens and usage.completion_tokens for usage in usages):
        return Pricing(f"recorded tokens x {priced}", kind="tokens")
    fewest, most = BYTES_RANGE
    return Pricing(
        f"tokens estimated from the text, {fewest:g} to {most:g} bytes each, x {priced}",
        (BYTES_PER_TOKEN / most, BYTES_PER_TOKEN / fewest),
        "text",
    )


def widened(pricing: Pricing, found: Identity | None) -> tuple[float, float]:
    """Widen the factors of a price by how much providers differ from the mean of their prices."""
    if pricing.kind not in ("tokens", "text") or found is None or len(found.prices) < 2:
        return pricing.factors
    reads = [price.input_usd for price in found.prices]
    writes = [price.output_usd for price in found.prices]
    means = sum(reads) / len(reads), sum(writes) / len(writes)
    shares = [value / mean for values, mean in ((reads, means[0]), (writes, means[1])) if mean for value in values]
    return pricing.factors[0] * min(shares), pricing.factors[1] * max(shares)


def usd_of(pricing: Pricing, found: Identity | None, usage: Usage, request: Request, text: str) -> float | None:
    """Compute what one answer cost in US dollars; None if that isn't known."""
    if pricing.kind == "fixed":
        return pricing.usd
    if pricing.kind == "time":
        return pricing.usd * usage.seconds
    if pricing.kind == "recorded":
        return usage.usd
    if not pricing.kind or found is None:
        return None
    if pricing.kind == "tokens":
        return sum(_token_cost(price, usage) for price in found.prices) / len(found.prices)
    asked = sum(len(one.encode()) for one in request.texts())
    tokens = asked / BYTES_PER_TOKEN, len(text.encode()) / BYTES_PER_TOKEN
    return sum(_at(price, *tokens) for price in found.prices) / len(found.prices)


def _token_cost(price: ListPrice, usage: Usage) -> float:
    """Compute the cost of recorded tokens; those of the cache have prices of their own, as for live models."""
    if usage.cache_read_tokens or usage.cache_write_tokens:
        from genai_prices import Usage as Billed

        billed = Billed(
            input_tokens=usage.prompt_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.completion_tokens,
        )
        cost = seller_cost(price.provider, price.model, billed)
        if cost is not None:
            return cost
    return _at(price, usage.prompt_tokens, usage.completion_tokens)


def _at(price: ListPrice, read: float, written: float) -> float:
    return (read * price.input_usd + written * price.output_usd) / 1e6
