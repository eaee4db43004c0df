"""Catalog of well-known models: published facts with their sources, and families."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from sizewise.records import CatalogModel, ModelFamily

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
    rows = [
        CatalogModel.model_validate(row)
        for name in ("catalog.toml", "catalog_recent.toml")
        for row in tomllib.loads(_packaged(name))["model"]
    ]
    return {row.name: row for row in rows}


@cache
def load_families() -> tuple[ModelFamily, ...]:
    """Load the families of models."""
    return tuple(ModelFamily.model_validate(row) for row in tomllib.loads(_packaged("families.toml"))["family"])


def _packaged(name: str) -> str:
    return files("sizewise.models").joinpath(name).read_text(encoding="utf-8")


def find_model(name: str) -> CatalogModel | None:
    """Look up a model by name or URI as the catalog spells it; None if the catalog doesn't list it."""
    return load_catalog().get(name) or next((model for model in load_catalog().values() if model.uri == name), None)
