"""Catalog of well-known models: published facts with their sources, and list prices."""

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
"""URI scheme -> provider id in genai-prices."""


@cache
def load_catalog() -> dict[str, CatalogModel]:
    """Load the catalog, keyed by model name."""
    text = files("sizewise.models").joinpath("catalog.toml").read_text(encoding="utf-8")
    rows = [CatalogModel.model_validate(row) for row in tomllib.loads(text)["model"]]
    return {row.name: row for row in rows}


def find_model(name: str) -> CatalogModel | None:
    """Look up a model by name or URI; None if the catalog doesn't list it."""
    return load_catalog().get(name) or next((model for model in load_catalog().values() if model.uri == name), None)


class Price(NamedTuple):
    """List price in US dollars per million tokens, at noon UTC today."""

    read: float
    """Input tokens."""
    written: float
    """Output tokens."""


def price_of(uri: str) -> Price | None:
    """Look up the list price of a remote model; None if genai-prices is missing or doesn't list the model."""
    kind, _, name = uri.partition(":")
    if kind not in PRICED:
        return None
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    noon = datetime.now(UTC).replace(hour=12)  # some providers charge less at night
    try:  # priced as a short request: some providers charge more for long ones
        read, written = (
            float(calc_price(usage, name, provider_id=PRICED[kind], genai_request_timestamp=noon).total_price) * 1_000
            for usage in (Usage(input_tokens=1_000), Usage(output_tokens=1_000))
        )
    except LookupError:
        return None
    return Price(read, written)
