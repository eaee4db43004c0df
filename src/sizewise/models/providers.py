"""The APIs that Sizewise knows by name, and the address and key behind a model's URI."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from sizewise.errors import SizewiseError, UsageError
from sizewise.store import offline


class Provider(NamedTuple):
    """API of a URI scheme."""

    title: str
    key: str
    """Environment variable of the API key."""
    address: str
    """Environment variable of an alternative base URL."""
    default: str | None
    """Default base URL."""


PROVIDERS = {
    "openai": Provider("OpenAI", "OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "anthropic": Provider("Anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "google": Provider(
        "Google", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", "https://generativelanguage.googleapis.com"
    ),
    "deepseek": Provider("DeepSeek", "DEEPSEEK_API_KEY", "DEEPSEEK_BASE_URL", "https://api.deepseek.com"),
    "mistral": Provider("Mistral", "MISTRAL_API_KEY", "MISTRAL_BASE_URL", "https://api.mistral.ai/v1"),
}


def resolve_service(uri: str, own_key: str = "") -> tuple[str, str, str, str]:
    """Return scheme, model name, base URL and API key of a URI.

    Args:
        uri: URI of the model.
        own_key: API key of this service; empty: that of the environment.

    Raises:
        UsageError: the URI names no server or no model.
        SizewiseError: the key is missing, or the machine is meant to stay offline.
    """
    kind, _, name = uri.partition(":")
    if kind in ("http", "https"):
        address, _, name = uri.partition("#")
        if not urlsplit(address).netloc:
            raise UsageError(f"'{uri}' names no server.", "http://host:port/v1#model", "sizewise models")
        key = own_key or os.environ.get("SIZEWISE_API_KEY") or "none"
    else:
        provider = PROVIDERS[kind]
        address = os.environ.get(provider.address) or provider.default or ""
        key = own_key or os.environ.get(provider.key, "")
        if not key and name:
            raise SizewiseError(
                f"{provider.title} needs an API key, but {provider.key} is not set.",
                f"a key in {provider.key}; recorded answers (recorded:FILE) and local models need none",
                f"export {provider.key}=...",
            )
    if not name:
        raise UsageError(f"'{uri}' names no model.", "openai:gpt-4o or http://host:port/v1#name", "sizewise models")
    if offline() and not is_loopback(address):
        raise SizewiseError(
            f"SIZEWISE_OFFLINE forbids the connection to {urlsplit(address).netloc} that {uri} needs.",
            "a local model",
            "unset SIZEWISE_OFFLINE",
        )
    return kind, name, address, key


def is_loopback(address: str) -> bool:
    """Check whether an address is on this machine."""
    return (urlsplit(address).hostname or "") in ("127.0.0.1", "localhost", "::1")
