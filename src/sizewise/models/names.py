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
_THROUGHPUT = re.compile(r"(?::\d+k?)+$")
"""Number of an edition behind a name in Bedrock, and a context length: `:0` and `:0:200k`."""
_CLOUD = re.compile(
    r"(?:(?:us-gov|[a-z]{2,8})\.)?(?:anthropic|amazon|cohere|meta|mistral|deepseek|qwen|openai|ai21|writer)\.(?=[a-z])"
)
_ARN = re.compile(r"arn:aws[\w-]*:bedrock:[^/]*/", re.IGNORECASE)
_VARIANT = re.compile(r":(?:beta|exacto|extended|floor|free|nitro|online|thinking)$", re.IGNORECASE)
"""Variant of a model behind its name, as OpenRouter writes it."""
_TAG = re.compile(r"(?:latest|\d+(?:x\d+)?(?:\.\d+)?[bm])(?:$|[-_.])", re.IGNORECASE)
"""What is behind the colon in Ollama's names: `latest`, or a size such as `8b`, `8x7b` and `1.1b-chat-q4_0`."""
_FILE = re.compile(r"\.(?:gguf|safetensors|bin|onnx)$", re.IGNORECASE)
"""End of the name of a file of weights, by which servers such as llama.cpp's name a model."""
_SOLD = re.compile(
    r"grok[ -]?(?:[3-9]|code)|nova[ -](?:\d[ -])?(?:micro|lite|pro|premier)|titan[ -]text|sonar(?:[ -]|$)|palm[ -]2"
    r"|(?:text|chat)[ -]bison|qwen[23.5]*[ -]?(?:max|plus|turbo)|doubao|reka[ -]core|yi[ -]large|luminous"
)
"""Beginnings of the names of further models whose weights can't be downloaded."""
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
_PROXIED = frozenset(["azure", "azure_ai", "bedrock", "fireworks_ai", "groq", "openrouter", "together_ai", "vertex_ai"])
"""Providers in front of a name, in the spelling of proxies; none of them is an account on Hugging Face."""


class Retirement(NamedTuple):
    """The end of a model at its maker."""

    provider: str
    day: str
    """Day of the shutdown (ISO date)."""


def plain(name: str) -> str:
    """Reduce a name to its letters and digits, so that `GPT 4o` and `gpt-4o` are one."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", name).casefold())


def tail_of(name: str) -> str:
    """Return a name without what stands in front of it, a provider, an account or a folder, and without a variant."""
    return re.split(r"[:/]", _VARIANT.sub("", name))[-1]


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


def is_sold_only(name: str) -> bool:
    """Return whether only providers can run a model, as far as its name tells."""
    return maker_of(name) not in ("", "mistral") or _SOLD.match(_without_cloud(name).lower().strip()) is not None


def provider_in_front(name: str) -> str:
    """Find the provider of `PROVIDER:NAME`; empty where a colon belongs to the name itself, as in `llama3.1:8b`."""
    front, colon, rest = name.partition(":")
    if not colon or front in ("hf", "ft") or rest.isdigit() or has_tag(name) or _ARN.match(name):
        return ""
    known = _HOSTS.get(plain(front)) or _SELLERS.get(plain(front))
    return known or ("" if re.search(r"[\d./]", front) else front)


def has_tag(name: str) -> bool:
    """Return whether a name is one of Ollama's, with a size or `latest` behind a colon: open weights at hand."""
    return bool(_TAG.match(name.partition(":")[2]))


def without_arn(name: str) -> str:
    """Return the name of a model in Bedrock whose resource name is given."""
    return _ARN.sub("", name)


def is_proxied(name: str) -> bool:
    """Return whether a name is that of a model at a provider, in the form of proxies or of Bedrock."""
    return name.partition("/")[0] in _PROXIED or _in_bedrock(name)


def _in_bedrock(name: str) -> bool:
    return not _FILE.search(name) and bool(_ARN.match(name) or _CLOUD.match(tail_of(_THROUGHPUT.sub("", name))))


def seller_named(name: str) -> str:
    """Find the provider that a name states in front: `anthropic/claude-...`, `openrouter/anthropic/...`; or empty.

    A maker in front of open weights, such as `google/gemma-3-27b-it`, is an account on Hugging Face and no provider.
    """
    if name.partition(":")[0] == "ft":
        return "openai"  # fine-tuned there
    if _in_bedrock(name):
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
    return _CLOUD.sub("", _EDITION.sub("", tail_of(_THROUGHPUT.sub("", name))))


@cache
def _retirements() -> dict[str, Retirement]:
    return {plain(name): found for name, found in _retired_names().items()}


@cache
def _retired_names() -> dict[str, Retirement]:
    text = files("sizewise.models").joinpath("retired.toml").read_text(encoding="utf-8")
    return {
        name: Retirement(row["provider"], row["day"]) for row in tomllib.loads(text)["retired"] for name in row["names"]
    }
