"""Names of models in any spelling: snapshots, providers in front, who makes a model, and whether it was shut down."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from sizewise.models.name_words import words_of_name

_SNAPSHOT = re.compile(r"(?:[-@](?:20\d\d-?\d\d-?\d\d|\d{4}|latest))+$")
_EDITION = re.compile(r"(?:-00\d|-v\d+(?::\d+)?)$", re.IGNORECASE)
_CLOUD = re.compile(r"(?:[a-z]{2,8}\.)?(?:anthropic|amazon|cohere|meta|mistral)\.(?=[a-z])")
_MAKERS = {
    "anthropic": re.compile(r"claude"),
    "openai": re.compile(
        r"chatgpt|gpt[ -]?[3-9](?!all)|o[134](?:[ -]|$)|(?:text-)?(?:davinci|curie|babbage|ada)(?:-00\d)?$"
    ),
    "google": re.compile(r"gemini"),
    "mistral": re.compile(r"mistral[ -](?:small|medium|large)"),
    "deepseek": re.compile(r"deepseek[ -](?:chat|reasoner)"),
}
"""Provider -> beginnings of the names of models that are sold by their maker first of all."""
_SELLERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "gemini": "google",
    "vertexai": "google",
    "deepseek": "deepseek",
    "mistral": "mistral",
    "mistralai": "mistral",
}
_HOSTS = {
    "aws": "aws",
    "bedrock": "aws",
    "azure": "azure",
    "azureai": "azure",
    "databricks": "databricks",
    "fireworks": "fireworks",
    "fireworksai": "fireworks",
    "groq": "groq",
    "openrouter": "openrouter",
    "together": "together",
    "togetherai": "together",
}
"""Names in front of a model's -> provider as genai-prices names it; hosts sell the models of others."""


class Retirement(NamedTuple):
    """The end of a model at its maker."""

    provider: str
    day: str
    """Day of the shutdown (ISO date)."""


def plain(name: str) -> str:
    """Reduce a name to its letters and digits, so that `GPT 4o` and `gpt-4o` are one."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", name).casefold())


def tail_of(name: str) -> str:
    """Return a name without what stands in front of it: a provider, an account, a folder."""
    return re.split(r"[:/]", name)[-1]


def without_snapshot(name: str) -> str:
    """Return a name without the day of its snapshot."""
    return _SNAPSHOT.sub("", name)


def spellings_of(name: str) -> list[str]:
    """List a name as it is, without what stands in front of it, and without the day of its snapshot."""
    name = name.strip()
    if name.partition(":")[0] == "ft":  # a fine-tuned model has a name of its own
        return [name]
    tail, short = tail_of(name), _without_cloud(name)
    return list(
        dict.fromkeys((name, tail, short, without_snapshot(name), without_snapshot(tail), without_snapshot(short)))
    )


def maker_of(name: str) -> str:
    """Find out who makes a model that its maker sells; empty for others, such as open weights."""
    tail = _without_cloud(name).lower().strip()
    return next((maker for maker, begins in _MAKERS.items() if begins.match(tail)), "")


def seller_named(name: str) -> str:
    """Find the provider that a name states in front: `anthropic/claude-...`, `openrouter/anthropic/...`; or empty.

    A maker in front of open weights, such as `google/gemma-3-27b-it`, is an account on Hugging Face and no provider.
    """
    if name.partition(":")[0] == "ft":
        return "openai"  # fine-tuned there
    if _CLOUD.match(tail_of(_EDITION.sub("", name))):
        return "aws"
    front, slash, _ = name.partition("/")
    if not slash:
        return ""
    return _HOSTS.get(plain(front), "") or (_SELLERS.get(plain(front), "") if maker_of(name) else "")


def find_retirement(name: str, seller: str = "") -> Retirement | None:
    """Look up whether a model was or will be shut down by its maker.

    Args:
        name: name in any spelling.
        seller: provider that runs it, if known; other providers than the maker set days of their own.
    """
    tail, short = tail_of(name), _without_cloud(name)
    by_name, by_words = _retirements(), _retired_words()
    for spelling in (tail, short, without_snapshot(tail), without_snapshot(short)):
        found = by_name.get(plain(spelling)) or by_words.get(words_of_name(spelling))
        if found is not None:
            return found if seller in ("", found.provider, "openrouter") else None
    return None


@cache
def _retired_words() -> dict[frozenset[str], Retirement]:
    """Index the same names by their words; names of single snapshots count only as they are spelled."""
    return {
        words_of_name(name): found
        for name, found in _retired_names().items()
        if not _SNAPSHOT.search(name) and not _EDITION.search(name)
    }


def _without_cloud(name: str) -> str:
    """Return a name without account, version and what Bedrock puts in front: `us.anthropic.claude-...-v1:0`."""
    return _CLOUD.sub("", _EDITION.sub("", tail_of(re.sub(r":\d+$", "", name))))


@cache
def _retirements() -> dict[str, Retirement]:
    return {plain(name): found for name, found in _retired_names().items()}


@cache
def _retired_names() -> dict[str, Retirement]:
    text = files("sizewise.models").joinpath("retired.toml").read_text(encoding="utf-8")
    return {
        name: Retirement(row["provider"], row["day"]) for row in tomllib.loads(text)["retired"] for name in row["names"]
    }
