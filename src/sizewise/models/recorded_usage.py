"""What recorded rows tell beside the answer: the model, tokens, cost and time; and what the answers cost."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sizewise.controls import cell_number
from sizewise.models.identity import Identity
from sizewise.models.price_lists import noon
from sizewise.models.spending import seller_cost
from sizewise.records import ListPrice, Request, StatedFacts

MODEL_KEYS = ("model", "model_name", "model_id", "of")
USAGE_KEYS = ("usage", "usage_metadata", "usagemetadata", "token_usage")
PROMPT_TOKEN_KEYS = ("prompt_tokens", "input_tokens", "prompt_token_count", "promptTokenCount", "prompt_eval_count")
COMPLETION_TOKEN_KEYS = (
    *("completion_tokens", "output_tokens", "candidates_token_count", "candidatesTokenCount", "eval_count"),
)
THOUGHT_KEYS = ("thoughts_token_count", "thoughtsTokenCount")
"""Tokens of reasoning that the count of an answer leaves out (Gemini)."""
TOTAL_KEYS = ("total_tokens", "total_token_count", "totalTokenCount")
CACHED_KEYS = ("cached_tokens", "prompt_cache_hit_tokens", "cached_content_token_count", "cachedContentTokenCount")
"""Prompt tokens read from the provider's cache that count as prompt tokens too (OpenAI, DeepSeek, Gemini)."""
CACHE_READ_KEYS = ("cache_read_input_tokens", "cache_read_tokens")
CACHE_WRITE_KEYS = ("cache_creation_input_tokens", "cache_write_tokens")
"""Prompt tokens read from and written to the cache that `input_tokens` leaves out (Anthropic)."""
DETAIL_KEYS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
"""Details of the prompt's tokens; in LangChain's form, `cache_read` and `cache_creation` count as input tokens too."""
ANSWER_DETAIL_KEYS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
USD_KEYS = ("usd", "cost_usd", "usd_cost", "total_cost_usd", "spend", "response_cost", "total_cost", "totalcost")
"""Costs in US dollars; the last four are what LiteLLM, LangSmith and Langfuse call them."""
SECONDS_KEYS = {"seconds": 1.0, "latency_s": 1.0, "duration_s": 1.0, "latency_ms": 1e-3, "duration_ms": 1e-3}
MINUTES_KEYS = ("minutes", "minutes_per_case", "handling_minutes")
DAY_KEYS = ("recorded_on", "created", "created_at", "timestamp", "date", "starttime", "start_time")
BYTES_PER_TOKEN = 4.0
BYTES_RANGE = (3.0, 5.0)
"""Bytes of UTF-8 text per token of the vocabularies in use: fewest for code and Chinese, most for plain English."""
TIERS = {"batch": (0.5, 1.0), "flex": (0.5, 1.0), "priority": (1.0, 2.0)}
"""Service tier -> what its requests cost at least and at most, as a multiple of the list price."""
COUNTED = 0.9
"""Share of the answers from which their counts of tokens count as recorded; the others wrote none."""
LONG_PROMPT = 30_000
"""Tokens of a prompt from which providers may charge another price."""
ZERO_COSTS = "; the recorded costs are all 0, as gateways write where they know no price; usd_per_1000 = 0 tells that"
_FIRST_DAY = 1_400_000_000  # Unix time in 2014: smaller numbers are no time


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
    service_tier: str = ""
    """Tier that the request was served in, such as `batch`; empty for the usual one."""


def read_usage(row: Mapping[str, Any]) -> Usage:
    """Read tokens, cost, time, model and day from a row; unusable values count as not recorded."""
    counts = {**row, **_first_object(row, USAGE_KEYS)}
    usd = _number(counts, USD_KEYS)
    if usd is None:  # OpenRouter states dollars in `usage`; a column `cost` may be in any currency
        usd = _number(_first_object(row, USAGE_KEYS), ("cost",))
    if usd is None and isinstance(cost := counts.get("cost"), str) and ("$" in cost or "USD" in cost.upper()):
        usd = _number({"cost": re.sub(r"(?i)\$|usd", "", cost).strip()}, ("cost",))
    seconds = next((value * unit for key, unit in SECONDS_KEYS.items() if (value := _number(row, (key,)))), 0.0)
    minutes = _number(row, MINUTES_KEYS)
    name = next((row[key] for key in MODEL_KEYS if isinstance(row.get(key), str) and row[key].strip()), "")
    prompt, read, written = _prompt_tokens(counts)
    return Usage(
        prompt,
        _answer_tokens(counts),
        usd,
        seconds or 60 * (minutes or 0.0),
        str(name).strip(),
        _day(row),
        read,
        written,
        _tier(counts),
    )


def _prompt_tokens(counts: Mapping[str, Any]) -> tuple[int, int, int]:
    """Count the tokens of a prompt, and of these the ones read from and written to the provider's cache."""
    details = _first_object(counts, DETAIL_KEYS)
    prompt = _number(counts, PROMPT_TOKEN_KEYS) or 0
    cached = _number({**counts, **details}, CACHED_KEYS)
    cached = _number(details, ("cache_read",)) if cached is None else cached
    read, written = (_number(counts, keys) or 0 for keys in (CACHE_READ_KEYS, CACHE_WRITE_KEYS))
    written = written or _number(details, ("cache_creation",)) or 0
    if cached is None and _number(counts, PROMPT_TOKEN_KEYS[:1]) is None:  # only `input_tokens`, without the cache
        prompt += read + written
    read = min(cached or read, prompt)
    return round(prompt), round(read), round(min(written, prompt - read))


def _answer_tokens(counts: Mapping[str, Any]) -> int:
    """Count the tokens of an answer with those of its reasoning, which some providers count beside it."""
    answer, thoughts = _number(counts, COMPLETION_TOKEN_KEYS), _number(counts, THOUGHT_KEYS)
    if answer is None:
        return round(thoughts or 0)
    if thoughts is None:
        details = _first_object(counts, ANSWER_DETAIL_KEYS)
        reasoning = _number(details, ("reasoning_tokens", "reasoning")) or 0
        rest = (_number(counts, TOTAL_KEYS) or 0) - (_number(counts, PROMPT_TOKEN_KEYS) or 0)
        thoughts = reasoning if reasoning > answer or rest == answer + reasoning else 0
    return round(answer + thoughts)


def _tier(counts: Mapping[str, Any]) -> str:
    given = counts.get("service_tier")
    return given.strip().lower() if isinstance(given, str) else ""


def _first_object(row: Mapping[str, Any], keys: tuple[str, ...]) -> Mapping[str, Any]:
    return next((row[key] for key in keys if isinstance(row.get(key), dict)), {})


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
            seconds = given / 1000 if given > 1e11 else given
            return datetime.fromtimestamp(seconds, UTC).date().isoformat() if seconds > _FIRST_DAY else ""
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


def price_recording(found: Sequence[Identity], facts: StatedFacts, usages: list[Usage]) -> Pricing:
    """Decide how the answers of a recording are priced: as stated, as recorded, or at list price.

    Args:
        found: the models that gave the answers; empty if people or rules did, or if nothing is known.
        facts: what the user stated.
        usages: what the rows tell beside the answers.
    """
    if facts.usd_per_1000 is not None:
        return Pricing(f"stated: {facts.usd_per_1000:g} USD per 1,000", kind="fixed", usd=facts.usd_per_1000 / 1000)
    if facts.usd_per_hour is not None and facts.process:
        hourly = f"at {facts.usd_per_hour:g} USD per hour"
        if facts.minutes_per_case is not None:
            usd = facts.minutes_per_case / 60 * facts.usd_per_hour
            return Pricing(f"{facts.minutes_per_case:g} minutes of work per case {hourly}", kind="fixed", usd=usd)
        if usages and all(usage.seconds for usage in usages):
            return Pricing(f"recorded minutes of work {hourly}", kind="time", usd=facts.usd_per_hour / 3600)
    sold = bool(found) and all(one.prices for one in found) and not facts.local
    recorded = sum(usage.usd is not None for usage in usages)
    free = recorded and not any(usage.usd for usage in usages) and not (facts.local or facts.process)
    if recorded and not free:
        part = "the answers" if recorded == len(usages) else f"{recorded:,} of {len(usages):,} answers; others unpriced"
        return Pricing(f"cost recorded with {part}", kind="recorded")
    return _at_list_price(found, usages, ZERO_COSTS if free else "") if sold else Pricing("")


def _at_list_price(found: Sequence[Identity], usages: list[Usage], note: str) -> Pricing:
    """Price recorded tokens, or those of the text, by the price list."""
    sellers = sorted({price.provider for price in found[0].prices})
    priced = f"list price of {found[0].prices[0].model} at {sellers[0]} (genai-prices)"
    if len(found) > 1:
        unnamed = sum(not usage.model for usage in usages)
        priced = f"each answer's model at its list price (genai-prices): {', '.join(one.name for one in found)}"
        priced += f"; {unnamed:,} of {len(usages):,} answers name none and are unpriced" if unnamed else ""
    elif len(sellers) > 1:
        priced = f'list prices of {len(sellers)} providers (genai-prices); name yours with of = "PROVIDER:NAME"'
    tiers = sorted({usage.service_tier for usage in usages} & set(TIERS))
    lower, upper = min([1.0, *(TIERS[tier][0] for tier in tiers)]), max([1.0, *(TIERS[tier][1] for tier in tiers)])
    if tiers:
        note += f"; {' and '.join(tiers)} requests cost {lower:g} to {upper:g} times as much, which the range includes"
    counted = sum(usage.completion_tokens > 0 for usage in usages)  # an answer may be empty
    if usages and all(usage.prompt_tokens for usage in usages) and counted >= COUNTED * len(usages):
        return Pricing(f"recorded tokens x {priced}{note}", (lower, upper), "tokens")
    fewest, most = BYTES_RANGE
    return Pricing(
        f"tokens estimated from the text, {fewest:g} to {most:g} bytes each, x {priced}; hidden reasoning isn't "
        f"counted{note}",
        (lower * BYTES_PER_TOKEN / most, upper * BYTES_PER_TOKEN / fewest),
        "text",
    )


def widened(pricing: Pricing, found: Sequence[Identity]) -> tuple[float, float]:
    """Widen the factors of a price by how much providers of a model differ from the mean of their prices."""
    shares = [1.0]
    for one in found if pricing.kind in ("tokens", "text") else ():
        reads = [price.input_usd for price in one.prices]
        writes = [price.output_usd for price in one.prices]
        means = sum(reads) / len(reads), sum(writes) / len(writes)
        shares += [value / mean for values, mean in ((reads, means[0]), (writes, means[1])) if mean for value in values]
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
    if tokens[0] > LONG_PROMPT:
        estimated = Usage(round(tokens[0]), round(tokens[1]))
        return sum(_token_cost(price, estimated) for price in found.prices) / len(found.prices)
    return sum(_at(price, *tokens) for price in found.prices) / len(found.prices)


def _token_cost(price: ListPrice, usage: Usage) -> float:
    """Compute the cost of recorded tokens; the cache and long prompts have prices of their own, as for live models."""
    if usage.cache_read_tokens or usage.cache_write_tokens or usage.prompt_tokens > LONG_PROMPT:
        from genai_prices import Usage as Billed

        billed = Billed(
            input_tokens=usage.prompt_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.completion_tokens,
        )
        cost = seller_cost(price.provider, price.model, billed, at=noon())
        if cost is not None:
            return cost
    return _at(price, usage.prompt_tokens, usage.completion_tokens)


def _at(price: ListPrice, read: float, written: float) -> float:
    return (read * price.input_usd + written * price.output_usd) / 1e6
