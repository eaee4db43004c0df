"""Rate limits and budgets per API key: reserved before generation, charged during it, and kept across restarts.

Services with the same SIZEWISE_HOME share the recorded usage. Reservations for requests in progress are local to each
service.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from sizewise.service.api_keys import Key
from sizewise.service.schemas import APIError

MINUTE_S, DAY_S = 60.0, 86_400.0
RETENTION_DAYS = 35
FLUSH_TOKENS = 64
"""Generated tokens after which usage is written to disk."""
MAX_CHARACTERS_PER_TOKEN = 6
MAX_OVERESTIMATE = 4
"""Maximum ratio of a prompt's estimated tokens to its actual tokens."""
_LOG = logging.getLogger("sizewise.service")


class Use(NamedTuple):
    """Usage of a key."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


class _Window:
    """Usage in a sliding window.

    Args:
        seconds: length of the window.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._uses: deque[tuple[float, Use]] = deque()
        self.requests, self.tokens, self.usd = 0, 0, 0.0

    def add(self, at: float, use: Use) -> None:
        self._uses.append((at, use))
        self._count(use, 1)

    def forget(self, now: float) -> None:
        while self._uses and self._uses[0][0] < now - self._seconds:
            self._count(self._uses.popleft()[1], -1)

    def _count(self, use: Use, sign: int) -> None:
        self.requests += sign * use.requests
        self.tokens += sign * use.tokens
        self.usd += sign * use.usd

    def retry(self, now: float) -> dict[str, str]:
        """Return a Retry-After header with the time until the oldest usage leaves the window."""
        remaining = self._uses[0][0] + self._seconds - now if self._uses else 1.0
        return {"Retry-After": str(max(1, round(remaining)))}


class _Account:
    """Usage and reservations of a key."""

    def __init__(self) -> None:
        self.minute, self.day = _Window(MINUTE_S), _Window(DAY_S)
        self.reserved_tokens, self.reserved_usd = 0, 0.0


class Charge:
    """Usage of one request: charged to its key during generation; the reservation is released when the request ends.

    Args:
        budgets: the budgets to charge.
        key: the key to charge; None: usage is not counted.
        tokens: reserved tokens.
        usd: reserved US dollars.
    """

    def __init__(self, budgets: Budgets, key: Key | None, tokens: int = 0, usd: float = 0.0) -> None:
        self._budgets, self._key = budgets, key
        self.tokens = tokens
        """Maximum tokens the request may use."""
        self._reserved = (tokens, usd)
        self._parts: dict[int, tuple[int, float]] = {}
        self._charged = (0, 0.0)
        self._ended = False

    def update(self, part: int, tokens: int, usd: float = 0.0) -> None:
        """Set the usage of one completion so far."""
        self._parts[part] = (tokens, usd)
        if self._key is not None and sum(used for used, _ in self._parts.values()) - self._charged[0] >= FLUSH_TOKENS:
            self._write()

    def end(self) -> None:
        """Charge the rest and release the reservation; further calls do nothing."""
        if self._key is not None and not self._ended:
            self._ended = True
            self._write()
            self._budgets.release(self._key, *self._reserved)

    def _write(self) -> None:
        assert self._key is not None
        tokens, usd = (sum(column) for column in zip(*self._parts.values(), strict=True)) if self._parts else (0, 0.0)
        more = Use(0, int(tokens) - self._charged[0], usd - self._charged[1])
        self._charged = (int(tokens), usd)
        if more != Use():
            self._budgets.add(self._key, more)
            if not self._ended:  # charged usage no longer needs a reservation
                rest = (max(0, self._reserved[0] - more.tokens), max(0.0, self._reserved[1] - more.usd))
                self._budgets.release(self._key, self._reserved[0] - rest[0], self._reserved[1] - rest[1])
                self._reserved = rest


class Budgets:
    """Usage and budgets of all keys.

    Args:
        path: SQLite file that stores usage, created on first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._accounts: dict[str, _Account] = {}
        self._last_row, self._written = 0, set[int]()  # the last row read, and later rows written by this service
        if path.exists():
            self._load()

    def _load(self) -> None:
        """Load the usage of the last day, aggregated by minute."""
        now = time.time()
        with closing(sqlite3.connect(self._path, timeout=30)) as connection:
            connection.execute(  # the last row is kept, so that row numbers only grow
                "DELETE FROM uses WHERE at < ? AND rowid < (SELECT MAX(rowid) FROM uses)",
                (now - RETENTION_DAYS * DAY_S,),
            )
            connection.commit()
            connection.execute("BEGIN")  # the following queries see the same snapshot
            (self._last_row,) = connection.execute("SELECT COALESCE(MAX(rowid), 0) FROM uses").fetchone()
            rows = connection.execute(
                "SELECT key, CAST(at / 60 AS INTEGER) * 60, SUM(tokens), SUM(usd) FROM uses WHERE at > ? "
                "GROUP BY 1, 2 ORDER BY 2",
                (now - DAY_S,),
            )
            for name, at, tokens, usd in rows:
                self._account(name).day.add(at, Use(0, tokens, usd))
            for name, at, requests in connection.execute(
                "SELECT key, at, answers FROM uses WHERE at > ? AND answers > 0 ORDER BY at", (now - MINUTE_S,)
            ):
                self._account(name).minute.add(at, Use(requests))

    def _account(self, name: str) -> _Account:
        return self._accounts.setdefault(name, _Account())

    def add(self, key: Key, use: Use) -> None:
        """Record usage; it is on disk when this returns."""
        now = time.time()
        self._count(key.name, now, use)
        try:
            with self._opened() as connection:
                row = connection.execute("INSERT INTO uses VALUES (?, ?, ?, ?, ?)", (now, key.name, *use)).lastrowid
                self._written.add(row or 0)
        except (OSError, sqlite3.Error) as error:  # the usage still counts in memory
            _LOG.error("Failed to save the usage of %s in %s: %s", key.name, self._path, error)

    def _count(self, name: str, at: float, use: Use) -> None:
        account = self._account(name)
        if use.requests:
            account.minute.add(at, Use(use.requests))
        if use.tokens or use.usd:
            account.day.add(at, use)

    def _catch_up(self) -> None:
        """Count usage recorded by other services with the same home since the last call."""
        if self._connection is None and not self._path.exists():
            return
        try:
            rows = self._opened().execute("SELECT rowid, * FROM uses WHERE rowid > ? ORDER BY rowid", (self._last_row,))
            for row, at, name, requests, tokens, usd in rows:
                self._last_row = row
                if row not in self._written:
                    self._count(name, at, Use(requests, tokens, usd))
                self._written.discard(row)
        except (OSError, sqlite3.Error) as error:
            _LOG.error("Failed to read the usage of other services from %s: %s", self._path, error)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            # A killed process loses nothing, and responses do not wait for a disk flush.
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS uses (at REAL NOT NULL, key TEXT NOT NULL, answers INTEGER NOT NULL, "
                "tokens INTEGER NOT NULL, usd REAL NOT NULL)"
            )
            self._connection.execute("CREATE INDEX IF NOT EXISTS uses_at ON uses (at)")
        return self._connection

    def release(self, key: Key, tokens: int, usd: float) -> None:
        """Release a reservation."""
        account = self._account(key.name)
        account.reserved_tokens -= tokens
        account.reserved_usd -= usd

    def admit(self, key: Key | None, requests: int = 1) -> None:
        """Count requests against the rate limit of a key.

        Raises:
            APIError: the rate limit is exceeded.
        """
        if key is None or requests < 1:
            return
        self._catch_up()
        account, now = self._account(key.name), time.time()
        account.minute.forget(now)
        if key.requests_per_minute and account.minute.requests + requests > key.requests_per_minute:
            raise APIError(
                f"Rate limit reached for key '{key.name}': {key.requests_per_minute:,} requests per minute.",
                None,
                "rate_limit",
                429,
                account.minute.retry(now),
            )
        self.add(key, Use(requests))

    def reserve(self, key: Key | None, max_tokens: int, prompt_tokens: int = 0, usd: float = 0.0) -> Charge:
        """Reserve what a request may use, so that concurrent requests cannot spend the same tokens.

        If less is left than the request may use, it reserves what is left.

        Args:
            key: the key to charge.
            max_tokens: tokens of the prompts and the maximum answers.
            prompt_tokens: estimated tokens of the prompts.
            usd: estimated cost.

        Raises:
            APIError: the budget is used up, or too small for the prompts.
        """
        if key is None:
            return Charge(self, None, max_tokens)
        self._catch_up()
        account, now = self._account(key.name), time.time()
        account.day.forget(now)
        if key.tokens_per_day:
            remaining = key.tokens_per_day - account.day.tokens - account.reserved_tokens
            if remaining <= 0 or prompt_tokens // MAX_OVERESTIMATE > remaining:
                raise self._exhausted(key, account, f"{key.tokens_per_day:,} tokens", now)
            max_tokens = min(max_tokens, remaining)
        spent = account.day.usd + account.reserved_usd
        if key.usd_per_day and (spent >= key.usd_per_day or spent + usd > key.usd_per_day):
            raise self._exhausted(key, account, f"{key.usd_per_day:g} US dollars", now)
        account.reserved_tokens += max_tokens
        account.reserved_usd += usd
        return Charge(self, key, max_tokens, usd)

    @staticmethod
    def _exhausted(key: Key, account: _Account, budget: str, now: float) -> APIError:
        reserved = account.reserved_tokens or account.reserved_usd
        return APIError(
            f"Daily budget of key '{key.name}' exhausted ({budget})"
            + (", including reservations for requests in progress." if reserved else "."),
            None,
            "insufficient_quota",
            429,
            {"Retry-After": "5"} if reserved else account.day.retry(now),
        )


def estimate_tokens(text: str, tokens: int) -> int:
    """Estimate the tokens of a piece of an answer, for answers that end before the engine counts them."""
    return max(1 if text else 0, tokens, len(text) // MAX_CHARACTERS_PER_TOKEN)
