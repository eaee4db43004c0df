"""Money: what an answer costs by list prices, and a limit that what is under way cannot pass."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.models.catalog import PRICED
from sizewise.models.token_counts import BYTES_PER_TOKEN
from sizewise.records import Request

MORE_TOKENS = 50  # roles and marks of a conversation
# Most tokens that one picture is billed as, whatever its size. OpenAI bills a base and up to eight tiles of 512 pixels,
# or up to 1,536 patches times a factor; Anthropic bills pixels / 750, Google tiles of 768 pixels, Mistral patches.
PICTURE_TOKENS = {
    "openai": {"gpt-4o-mini": 2_833 + 8 * 5_667, "gpt-4o": 85 + 8 * 170, "o1": 75 + 8 * 150, "o3": 75 + 8 * 150},
    "anthropic": {"": 5_000},
    "google": {"": 10_000},
    "mistral": {"": 5_000},
}
DEAREST_PICTURE = 2_833 + 8 * 5_667


def cost_of(kind: str, name: str, usage: Any) -> float | None:
    """Return the list price of a usage in US dollars: tokens that were read from the provider's cache cost less.

    Args:
        kind: of the model's URI.
        name: of the model.
        usage: `input_tokens` (those of the cache among them), `output_tokens`, `cache_read_tokens`,
            `cache_write_tokens`.
    """
    from genai_prices import calc_price

    if kind not in PRICED:
        return None
    try:
        return float(calc_price(usage, name, provider_id=PRICED[kind]).total_price)
    except LookupError:
        return None


def most_cost(kind: str, name: str, request: Request, written: int) -> float | None:
    """Return the most that an answer can cost, as far as that is known before.

    Args:
        kind: of the model's URI.
        name: of the model.
        request: what is asked.
        written: most tokens of the answer, thoughts included.
    """
    from genai_prices import Usage

    size = sum(len(message.content.encode()) for message in request.messages) + len((request.text or "").encode())
    pictures = sum(len(message.images) for message in request.messages)
    read = size // BYTES_PER_TOKEN + MORE_TOKENS + pictures * _picture_tokens(kind, name)
    return cost_of(kind, name, Usage(input_tokens=read, output_tokens=written))


def _picture_tokens(kind: str, name: str) -> int:
    known = PICTURE_TOKENS.get(kind, {})
    return next((known[start] for start in sorted(known, key=len, reverse=True) if name.startswith(start)), 0) or (
        DEAREST_PICTURE
    )


class Budget:
    """US dollars that may be spent; what is under way counts with the most that it can cost.

    What a request costs at most is an estimate. So the first one goes alone, and no later one is taken to cost less
    than the dearest so far.

    Args:
        most: US dollars; None for no limit.
    """

    def __init__(self, most: float | None) -> None:
        self._most = most
        self.spent = 0.0
        self._dearest = 0.0
        self._reserved: list[float] = []
        self._settled_once = False
        self._settled = asyncio.Condition()

    async def reserve(self, estimate: float) -> float:
        """Set aside the most that a request can cost; wait where only what others may still cost stands against it.

        Raises:
            SizewiseError: the request could pass the limit.
        """
        if self._most is None:
            return 0.0
        async with self._settled:
            while self._reserved and (not self._settled_once or self._would_pass(estimate)):
                await self._settled.wait()
            if self._would_pass(estimate):
                raise SizewiseError(
                    f"The next answer could pass the budget of {self._most:g} USD: {self.spent:.4f} USD are spent, and "
                    f"it may cost {self._price(estimate):.4f} USD.",
                    "a larger budget; all answers so far are kept",
                    f"run the same command again with --max-usd {self._enough(estimate):g}",
                )
            self._reserved.append(self._price(estimate))
            return self._reserved[-1]

    def _price(self, estimate: float) -> float:
        return max(estimate, self._dearest)

    def _would_pass(self, estimate: float) -> bool:
        # What is under way may turn out to be as dear as the dearest so far.
        under_way = math.fsum(map(self._price, self._reserved))
        return math.fsum((self.spent, under_way, self._price(estimate))) > (self._most or 0.0)

    def _enough(self, estimate: float) -> float:
        return max(2 * (self._most or 0.0), math.ceil(100 * (self.spent + 2 * self._price(estimate))) / 100)

    async def settle(self, reserved: float, cost: float | None) -> None:
        """Count what a request did cost; None where it was not billed, as far as is known."""
        async with self._settled:
            if self._most is not None:
                self._reserved.remove(reserved)
            self._settled_once = self._settled_once or cost is not None
            self._dearest = max(self._dearest, cost or 0.0)
            self.spent += cost or 0.0
            self._settled.notify_all()
