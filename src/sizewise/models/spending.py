"""Cost of answers at list prices, and a budget that running requests can't exceed."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.models.catalog import PRICED
from sizewise.models.token_counts import BYTES_PER_TOKEN
from sizewise.records import Request

TEMPLATE_TOKENS = 50  # roles and markup of a conversation
# Maximum tokens billed for one image of any size. OpenAI bills a base and up to eight tiles of 512 pixels,
# or up to 1,536 patches times a factor; Anthropic bills pixels / 750, Google tiles of 768 pixels, Mistral patches.
IMAGE_TOKENS = {
    "openai": {"gpt-4o-mini": 2_833 + 8 * 5_667, "gpt-4o": 85 + 8 * 170, "o1": 75 + 8 * 150, "o3": 75 + 8 * 150},
    "anthropic": {"": 5_000},
    "google": {"": 10_000},
    "mistral": {"": 5_000},
}
MAX_IMAGE_TOKENS = 2_833 + 8 * 5_667


def cost_of(kind: str, name: str, usage: Any) -> float | None:
    """Compute the list price of an answer in US dollars. Tokens read from the provider's cache cost less.

    Args:
        kind: URI scheme of the model.
        name: name of the model.
        usage: `input_tokens` (cached ones included), `output_tokens`, `cache_read_tokens`,
            `cache_write_tokens`.
    """
    return seller_cost(PRICED[kind], name, usage) if kind in PRICED else None


def seller_cost(seller: str, name: str, usage: Any, at: datetime | None = None) -> float | None:
    """Compute what a provider charges for an answer, in US dollars.

    Args:
        seller: provider as genai-prices names it.
        name: name of the model.
        usage: tokens as in `cost_of`.
        at: time of the request, because some providers charge less at night; by default now.
    """
    try:
        from genai_prices import calc_price

        return float(calc_price(usage, name, provider_id=seller, genai_request_timestamp=at).total_price)
    except (ImportError, LookupError):
        return None


def max_cost(kind: str, name: str, request: Request, output_tokens: int) -> float | None:
    """Estimate the maximum cost of an answer before the request is sent.

    Args:
        kind: URI scheme of the model.
        name: name of the model.
        request: the request.
        output_tokens: maximum tokens of the answer, reasoning included.
    """
    from genai_prices import Usage

    size = sum(len(text.encode()) for text in request.texts())
    images = sum(len(message.images) for message in request.messages)
    input_tokens = size // BYTES_PER_TOKEN + TEMPLATE_TOKENS + images * _image_tokens(kind, name)
    return cost_of(kind, name, Usage(input_tokens=input_tokens, output_tokens=output_tokens))


def _image_tokens(kind: str, name: str) -> int:
    known = IMAGE_TOKENS.get(kind, {})
    return next((known[start] for start in sorted(known, key=len, reverse=True) if name.startswith(start)), 0) or (
        MAX_IMAGE_TOKENS
    )


class Budget:
    """A budget in US dollars. Running requests count with their maximum cost.

    The maximum cost of a request is an estimate. The first request therefore runs alone, and later ones are assumed to
    cost at least as much as the most expensive one so far.

    Args:
        limit: US dollars; None for no limit.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self.spent = 0.0
        self._highest_cost = 0.0
        self._reserved: list[float] = []
        self._settled_once = False
        self._settled = asyncio.Condition()

    async def reserve(self, estimate: float) -> float:
        """Reserve the maximum cost of a request. Wait while only the reservations of running requests prevent it.

        Raises:
            SizewiseError: the request could exceed the limit.
        """
        if self._limit is None:
            return 0.0
        async with self._settled:
            while self._reserved and (not self._settled_once or self._would_exceed(estimate)):
                await self._settled.wait()
            if self._would_exceed(estimate):
                raise SizewiseError(
                    f"The next answer could exceed the budget of {self._limit:g} USD: {self.spent:.4f} USD are spent, "
                    f"and it may cost {self._price(estimate):.4f} USD.",
                    "a larger budget; all answers so far are kept",
                    f"run the same command again with --max-usd {self._sufficient(estimate):g}",
                )
            self._reserved.append(self._price(estimate))
            return self._reserved[-1]

    def _price(self, estimate: float) -> float:
        return max(estimate, self._highest_cost)

    def _would_exceed(self, estimate: float) -> bool:
        # Running requests may turn out as expensive as the most expensive one so far.
        running = math.fsum(map(self._price, self._reserved))
        return math.fsum((self.spent, running, self._price(estimate))) > (self._limit or 0.0)

    def _sufficient(self, estimate: float) -> float:
        return max(2 * (self._limit or 0.0), math.ceil(100 * (self.spent + 2 * self._price(estimate))) / 100)

    async def settle(self, reserved: float, cost: float | None) -> None:
        """Replace a reservation by the actual cost; None if the request wasn't billed, as far as is known."""
        async with self._settled:
            if self._limit is not None:
                self._reserved.remove(reserved)
            self._settled_once = self._settled_once or cost is not None
            self._highest_cost = max(self._highest_cost, cost or 0.0)
            self.spent += cost or 0.0
            self._settled.notify_all()
