"""The models that people ask about: facts, each with its source, and prices."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from sizewise.records import CatalogModel

PRICED = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "deepseek": "deepseek",
    "mistral": "mistral",
}
"""Kind of URI -> provider in genai-prices."""


@cache
def market() -> dict[str, CatalogModel]:
    """Give the catalogue by name."""
    text = files("sizewise.models").joinpath("catalog.toml").read_text(encoding="utf-8")
    rows = [CatalogModel.model_validate(row) for row in tomllib.loads(text)["model"]]
    return {row.name: row for row in rows}


def find(name: str) -> CatalogModel | None:
    """Find a model by its name or URI."""
    return market().get(name) or next((model for model in market().values() if model.uri == name), None)


class Price(NamedTuple):
    """US dollars for a million tokens, at noon (UTC) of today."""

    read: float
    written: float


def price_of(uri: str) -> Price | None:
    """Give the list price of a remote model (genai-prices); None where there is none, or the package is absent."""
    kind, _, name = uri.partition(":")
    if kind not in PRICED:
        return None
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    noon = datetime.now(UTC).replace(hour=12)  # some charge less at night
    try:  # of a short request: some charge more for long ones
        read, written = (
            float(calc_price(usage, name, provider_id=PRICED[kind], genai_request_timestamp=noon).total_price) * 1_000
            for usage in (Usage(input_tokens=1_000), Usage(output_tokens=1_000))
        )
    except LookupError:
        return None
    return Price(read, written)
