"""Backends: servers with an OpenAI-compatible API, to which requests are passed on as they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from sizewise.errors import UsageError
from sizewise.models.providers import resolve_service
from sizewise.models.spending import cost_of
from sizewise.models.thinking import Reasoning, split_reasoning
from sizewise.network import async_client, check_certificates
from sizewise.service.api_keys import ACCOUNT, Key
from sizewise.service.replicas import Replica, Replicas
from sizewise.service.schemas import APIError

Zone = Literal["inside", "outside"]
CHAT, TEXT, EMBEDDINGS, RESPONSES = "/chat/completions", "/completions", "/embeddings", "/responses"
CONNECT_TIMEOUT_S = 10.0
MAX_CONCURRENT = 200
_CHAT_ONLY = frozenset({CHAT})
_PATHS = {
    "http": frozenset({CHAT, TEXT, EMBEDDINGS, RESPONSES}),
    "https": frozenset({CHAT, TEXT, EMBEDDINGS, RESPONSES}),
    "openai": frozenset({CHAT, TEXT, EMBEDDINGS, RESPONSES}),
    "anthropic": _CHAT_ONLY,
    "google": frozenset({CHAT, EMBEDDINGS}),
    "deepseek": _CHAT_ONLY,
    "mistral": frozenset({CHAT, EMBEDDINGS}),
}
_PREFIXES = {"anthropic": "/v1", "google": "/v1beta/openai"}
"""Paths of the OpenAI-compatible APIs of providers whose own API is another."""
_IGNORED_BY = {
    "anthropic": (
        "response_format",
        "logprobs",
        "top_logprobs",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "reasoning_effort",
        "prediction",
    )
}
"""Parameters that a provider's documentation says it ignores; they are refused instead."""


class Price(NamedTuple):
    """What a backend costs."""

    input_usd: float
    """US dollars per million input tokens."""
    output_usd: float
    """US dollars per million output tokens."""


class Tokens(NamedTuple):
    """Tokens of an answer as a server counts them, with the names that price lists use."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True)
class BackendSettings:
    """Settings of one backend."""

    api_key: str = ""
    """Its own API key; empty: the environment variable of its provider."""
    zone: Zone = "outside"
    """`inside`: it may see personal data and confidential text. Its address says nothing about this: a loopback address
    may be a proxy."""
    price: Price | None = None
    """Its price; None: the list price of a provider, and nothing for a server of your own."""
    usd_per_day: float | None = None
    """Budget of all clients together."""
    max_concurrent: int = MAX_CONCURRENT
    """Maximum number of requests at once; others wait in a queue."""
    unchecked_content: bool = False
    """Pass on images, audio and files to a backend outside, which the guard can't check."""
    hosted_tools: bool = False
    """Pass on tools that the provider runs and charges for, such as web search."""
    replicas: tuple[str, ...] = ()
    """URIs of further servers with the same model."""
    supervised: Callable[[str], str] | None = field(default=None, compare=False)
    """Returns why the engine at an address isn't running, for engines that this service starts."""


class Backend:
    """A server behind a model's name.

    Args:
        name: client-facing name of the model.
        uri: its URI.
        settings: its settings.
    """

    def __init__(self, name: str, uri: str, settings: BackendSettings) -> None:
        self.kind, self.model, *_ = resolve_service(uri, settings.api_key)
        self.settings = settings
        self._paths = _PATHS[self.kind]
        check_certificates()
        servers = [self._server(one) for one in (uri, *settings.replicas)]
        probed = self.kind in ("http", "https") and (len(servers) > 1 or settings.supervised is not None)
        self.replicas = Replicas(servers, probed)
        self.account = Key(name=f"{ACCOUNT}{name}"[:60], sha256="0" * 64, usd_per_day=settings.usd_per_day)
        """Account of the backend's own budget."""

    def _server(self, uri: str) -> Replica:
        import httpx2

        kind, model, address, key = resolve_service(uri, self.settings.api_key)
        limit = self.settings.max_concurrent + 8
        client = async_client(
            base_url=address.rstrip("/") + _PREFIXES.get(kind, ""),
            headers={"Authorization": f"Bearer {key}", "User-Agent": "sizewise"},
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
            limits=httpx2.Limits(max_connections=limit, max_keepalive_connections=limit),
            follow_redirects=False,
        )
        why = self.settings.supervised
        return Replica(client, address.rstrip("/"), model, None if why is None else partial(why, uri))

    KINDS = frozenset(_PATHS)
    """Schemes of URIs of models behind an API."""

    @staticmethod
    def takes(uri: str) -> bool:
        """Whether requests for a model are passed on as they are; a URI that sets the reasoning is translated."""
        bare, reasoning = split_reasoning(uri)
        return bare.partition(":")[0] in _PATHS and reasoning == Reasoning()

    @property
    def may_repeat(self) -> bool:
        """Whether a request that a server received may be sent to another; a provider would charge for both."""
        return self.kind in ("http", "https")

    @property
    def outside(self) -> bool:
        """Whether the guard protects what is sent."""
        return self.settings.zone == "outside"

    def check(self, path: str, body: Mapping[str, Any]) -> None:
        """Check that the backend has an endpoint and reads the parameters.

        Raises:
            APIError: it doesn't.
        """
        if path not in self._paths:
            raise APIError(f"{self.kind} offers no {path.strip('/')} for this model.", "model", "unsupported_endpoint")
        for name in _IGNORED_BY.get(self.kind, ()):
            if body.get(name) not in (None, False):
                raise APIError(f"{self.kind} ignores {name}.", name, "unsupported_parameter")
        if self.kind == "anthropic" and body.get("n") not in (None, 1):
            raise APIError("anthropic returns one answer a request.", "n", "unsupported_parameter")

    def cost(self, tokens: Tokens) -> float | None:
        """Compute the cost of an answer in US dollars; None if the backend's price isn't known."""
        price = self.settings.price
        if price is not None:
            return (tokens.input_tokens * price.input_usd + tokens.output_tokens * price.output_usd) / 1e6
        return 0.0 if self.kind in ("http", "https") else cost_of(self.kind, self.model, tokens)

    def max_cost(self, prompt_tokens: int, answer_tokens: int, key: Key | None) -> float:
        """Compute what a request may cost.

        Raises:
            APIError: the price isn't known, so a budget in US dollars wouldn't hold.
        """
        cost = self.cost(Tokens(prompt_tokens, answer_tokens))
        if cost is None and ((key is not None and key.usd_per_day) or self.settings.usd_per_day):
            raise APIError(
                f"No price is known for {self.model}, so a budget in US dollars can't be enforced.",
                "model",
                "no_price",
                403,
            )
        return cost or 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self.replicas.close()


def check_shared_key(uris: Mapping[str, str]) -> None:
    """Refuse to send one key to servers of different owners.

    Args:
        uris: URIs by name, of the models without a key of their own.

    Raises:
        UsageError: SIZEWISE_API_KEY would go to more than one server, or over an unencrypted connection elsewhere.
    """
    if not os.environ.get("SIZEWISE_API_KEY"):
        return
    hosts = {urlsplit(uri).netloc for uri in uris.values() if uri.partition(":")[0] in ("http", "https")}
    if len(hosts) > 1:
        raise UsageError(
            f"SIZEWISE_API_KEY would be sent to {len(hosts)} servers: {', '.join(sorted(hosts))}.",
            "a key of its own for each server: key_env in the file of --config",
            "sizewise serve --config FILE",
        )
