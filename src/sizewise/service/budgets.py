"""Rate limits and budgets per API key: reserved before generation, charged during it, and kept across restarts.

Services with the same SIZEWISE_HOME, and the workers of one service, share usage and reservations (`usage.UsageStore`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from sizewise.service.api_keys import Key
from sizewise.service.schemas import APIError
from sizewise.service.usage import DAY_S, Exhausted, Limits, Reservation, UsageRow, UsageStore, Use
from sizewise.store.database import Unavailable, reason_of, unavailable

RESERVATION_S = 900.0
"""Seconds after which a reservation without progress ends; longer than an answer may take."""
FLUSH_TOKENS = 64
"""Generated tokens after which usage is written to disk."""
MAX_CHARACTERS_PER_TOKEN = 6
MAX_OVERESTIMATE = 4
"""Maximum ratio of a prompt's estimated tokens to its actual tokens."""
MAX_UNSAVED = 100_000
RETRY_S = 1.0
"""Seconds for which a database that failed isn't asked again."""
_LOG = logging.getLogger("sizewise.service")
T = TypeVar("T")


class Charge:
    """Usage of one request: charged to its key during generation; the reservation is released when the request ends.

    Args:
        budgets: the budgets to charge.
        key: the key to charge; None: usage is not counted.
        model: name of the model.
        reservation: what the request may use; None: nothing is reserved.
        tokens: maximum tokens that the request may use.
    """

    def __init__(
        self,
        budgets: Budgets,
        key: Key | None,
        model: str = "",
        reservation: Reservation | None = None,
        tokens: int = 0,
    ) -> None:
        self._budgets, self._key, self._model, self._reservation = budgets, key, model, reservation
        self.tokens = tokens if reservation is None else reservation.tokens
        """Maximum tokens the request may use."""
        self._parts: dict[int, tuple[int, float]] = {}
        self._charged = Use()
        self._ended = False
        self._written: Future[None] | None = None

    def update(self, part: int, tokens: int, usd: float = 0.0) -> None:
        """Set the usage of one completion so far."""
        self._parts[part] = (tokens, usd)
        if (
            self._key is not None
            and sum(used for used, _ in self._parts.values()) - self._charged.tokens >= FLUSH_TOKENS
        ):
            self._write()

    def end(self) -> None:
        """Charge the rest and release the reservation; further calls do nothing."""
        if self._key is not None and not self._ended:
            self._ended = True
            self._write()
            if self._budgets.on_end is not None:
                self._budgets.on_end(self._key.name, self._model, self._charged.tokens, self._charged.usd)

    async def saved(self) -> None:
        """Wait until everything charged so far is on disk."""
        if self._written is not None:
            await asyncio.wrap_future(self._written)

    def _write(self) -> None:
        assert self._key is not None
        tokens, usd = (sum(column) for column in zip(*self._parts.values(), strict=True)) if self._parts else (0, 0.0)
        total = Use(len(self._parts), int(tokens), usd)
        old = self._charged
        more = Use(total.requests - old.requests, total.tokens - old.tokens, total.usd - old.usd)
        self._charged = total
        if self._reservation is not None:  # charged usage no longer needs a reservation
            left = self._reservation
            self._reservation = left._replace(
                tokens=max(0, left.tokens - more.tokens), usd=max(0.0, left.usd - more.usd)
            )
        self._written = self._budgets.charge(self._key.name, self._model, more, self._reservation, self._ended)


class Budgets:
    """Usage and budgets of all keys. One thread talks to the database, in the order of the calls.

    Args:
        url: returns the URL of the database of usage; called when it is first used.
        on_end: called with the key, the model, the tokens and the US dollars of each request that ends.
        reservation_s: seconds after which a reservation without progress ends.
    """

    def __init__(
        self,
        url: Callable[[], str],
        on_end: Callable[[str, str, int, float], None] | None = None,
        reservation_s: float = RESERVATION_S,
    ) -> None:
        self._url, self.on_end, self._reservation_s = url, on_end, reservation_s
        self._store: UsageStore | None = None
        self._thread = ThreadPoolExecutor(1, "usage")
        self._unsaved: deque[Callable[[UsageStore], None]] = deque(maxlen=MAX_UNSAVED)
        self._numbers = count(1)
        self._failed: Exception | None = None
        self._retry_at = 0.0
        self._closing = self._retrying = False

    async def admit(self, key: Key | None, requests: int = 1) -> None:
        """Count requests against the rate limit of a key.

        Raises:
            APIError: the rate limit is exceeded.
        """
        if key is None or key.requests_per_minute is None or requests < 1:
            return
        retry_s = await self._ask(key, lambda store: store.admit(key.name, requests, key.requests_per_minute))
        if retry_s is not None:
            raise APIError(
                f"Rate limit reached for key '{key.name}': {key.requests_per_minute:,} requests per minute.",
                None,
                "rate_limit",
                429,
                {"Retry-After": str(max(1, round(retry_s)))},
            )

    async def reserve(
        self, key: Key | None, max_tokens: int, prompt_tokens: int = 0, usd: float = 0.0, model: str = ""
    ) -> Charge:
        """Reserve what a request may use, so that concurrent requests cannot spend the same tokens.

        If less is left than the request may use, it reserves what is left.

        Args:
            key: the key to charge.
            max_tokens: tokens of the prompts and the maximum answers.
            prompt_tokens: estimated tokens of the prompts.
            usd: maximum cost.
            model: name of the model.

        Raises:
            APIError: the budget is used up, or too small for the prompts.
        """
        if key is None or not (key.tokens_per_day or key.usd_per_day):
            return Charge(self, key, model, tokens=max_tokens)
        limits = Limits(key.tokens_per_day, key.usd_per_day)
        wanted, least = Use(0, max_tokens, usd), prompt_tokens // MAX_OVERESTIMATE
        reserved = await self._ask(key, lambda store: store.reserve(key.name, limits, wanted, least))
        if isinstance(reserved, Exhausted):
            raise _exhausted(key, reserved)
        return Charge(self, key, model, reserved, max_tokens)

    def charge(self, key: str, model: str, use: Use, reservation: Reservation | None, ended: bool) -> Future[None]:
        """Charge a key in the background. If the database fails, usage is kept and written with the next charge."""
        number = next(self._numbers)
        self._unsaved.append(lambda store: store.charge(key, model, use, reservation, ended, number))
        try:
            return self._thread.submit(self._save)
        except RuntimeError:  # the service has stopped, and this request was cut off
            self._save()
            done: Future[None] = Future()
            done.set_result(None)
            return done

    async def used(self, seconds: float = DAY_S) -> list[UsageRow]:
        """Return the usage of the last so many seconds, by key and model."""
        work = partial(self._guarded, lambda store: store.since(seconds))
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Write what is left, and close the database."""
        self._closing = True
        self._thread.shutdown(wait=True)
        if self._store is not None:
            self._retry_at = 0.0
            self._save()
            if self._unsaved:
                _LOG.error("%d charges were lost, because the database of usage didn't come back", len(self._unsaved))
            try:
                self._store.close()
            except SQLAlchemyError as error:
                _LOG.error("Failed to close the database of usage: %s", reason_of(error))

    def _opened(self) -> UsageStore:
        if self._store is None:
            self._store = UsageStore(self._url(), self._reservation_s)
        return self._store

    def _guarded(self, work: Callable[[UsageStore], T]) -> T:
        """Ask the database; one that failed isn't asked for a second, because each attempt may wait for a timeout.

        Raises:
            SQLAlchemyError, OSError, Unavailable: the database fails.
        """
        if self._failed is not None and time.monotonic() < self._retry_at:
            raise unavailable(self._failed)
        try:
            found = work(self._opened())
        except (SQLAlchemyError, OSError) as error:
            self._failed, self._retry_at = error, time.monotonic() + RETRY_S
            raise
        self._failed = None
        return found

    def _save(self) -> None:
        """Write the charges that wait; if the database fails, try again in a second, also if no request arrives."""
        while self._unsaved:
            try:
                self._guarded(self._unsaved[0])
            except (SQLAlchemyError, OSError, Unavailable) as error:
                if self._closing or self._retrying:
                    return
                self._retrying = True
                _LOG.error("Failed to save usage; %d charges wait: %s", len(self._unsaved), reason_of(error))
                timer = threading.Timer(1.1 * RETRY_S, self._save_again)
                timer.daemon = True
                timer.start()
                return
            self._unsaved.popleft()

    def _save_again(self) -> None:
        self._retrying = False
        with suppress(RuntimeError):  # closed meanwhile, which saved or reported them
            self._thread.submit(self._save)

    async def _ask(self, key: Key, work: Callable[[UsageStore], T]) -> T | None:
        """Run work in the thread of the database.

        Raises:
            APIError: the database fails, and the key has limits, which would not hold.
        """

        def run() -> T:
            self._save()
            return self._guarded(work)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except (SQLAlchemyError, OSError, Unavailable) as error:
            if not isinstance(error, Unavailable):
                _LOG.error("Failed to check the limits of %s: %s", key.name, reason_of(error))
            if not key.has_limits:
                return None
            raise APIError(
                "The usage of this key can't be checked now.", None, "usage_unavailable", 503, {"Retry-After": "5"}
            ) from None


def _exhausted(key: Key, found: Exhausted) -> APIError:
    budget = f"{key.tokens_per_day:,} tokens" if found.what == "tokens" else f"{key.usd_per_day:g} US dollars"
    return APIError(
        f"Daily budget of key '{key.name}' exhausted ({budget})"
        + (", including reservations for requests in progress." if found.in_progress else "."),
        None,
        "insufficient_quota",
        429,
        {"Retry-After": "5" if found.in_progress else str(max(1, round(found.retry_s)))},
    )


def estimate_tokens(text: str, tokens: int) -> int:
    """Estimate the tokens of a piece of an answer, for answers that end before the engine counts them."""
    return max(1 if text else 0, tokens, len(text) // MAX_CHARACTERS_PER_TOKEN)
