"""What keys may use: set aside before an answer begins, charged while it is written, and kept over a restart.

Services that share a home share what was used; what is set aside for answers under way each knows of its own alone.
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
from sizewise.service.schemas import Refused

MINUTE_S, DAY_S = 60.0, 86_400.0
KEPT_DAYS = 35
CHARGED_AT = 64
"""Tokens that are written before they are on disk."""
LETTERS_A_PIECE = 6
LEAST_SHARE = 4
"""A prompt has at least a fourth of the tokens that are estimated."""
_LOG = logging.getLogger("sizewise.service")


class Use(NamedTuple):
    """What was used."""

    answers: int = 0
    tokens: int = 0
    usd: float = 0.0


class _Window:
    """What was used in the last seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._uses: deque[tuple[float, Use]] = deque()
        self.answers, self.tokens, self.usd = 0, 0, 0.0

    def add(self, at: float, use: Use) -> None:
        self._uses.append((at, use))
        self._count(use, 1)

    def forget(self, now: float) -> None:
        while self._uses and self._uses[0][0] < now - self._seconds:
            self._count(self._uses.popleft()[1], -1)

    def _count(self, use: Use, sign: int) -> None:
        self.answers += sign * use.answers
        self.tokens += sign * use.tokens
        self.usd += sign * use.usd

    def retry(self, now: float) -> dict[str, str]:
        """Say when the first use is forgotten."""
        left = self._uses[0][0] + self._seconds - now if self._uses else 1.0
        return {"Retry-After": str(max(1, round(left)))}


class _Account:
    """What a key has used and set aside."""

    def __init__(self) -> None:
        self.minute, self.day = _Window(MINUTE_S), _Window(DAY_S)
        self.tokens_aside, self.usd_aside = 0, 0.0


class Charge:
    """What one request uses: its key is charged while it goes on, and what was set aside is freed when it ends.

    Args:
        budgets: where it is charged.
        key: whose it is; None: nobody's, and nothing is counted.
        tokens: what was set aside.
        usd: what was set aside.
    """

    def __init__(self, budgets: Budgets, key: Key | None, tokens: int = 0, usd: float = 0.0) -> None:
        self._budgets, self._key = budgets, key
        self.tokens = tokens
        """Most that may be used."""
        self._aside = (tokens, usd)
        self._parts: dict[int, tuple[int, float]] = {}
        self._charged = (0, 0.0)
        self._ended = False

    def used(self, part: int, tokens: int, usd: float = 0.0) -> None:
        """Say what one of the answers has used by now."""
        self._parts[part] = (tokens, usd)
        if self._key is not None and sum(one for one, _ in self._parts.values()) - self._charged[0] >= CHARGED_AT:
            self._write()

    def end(self) -> None:
        """Charge the rest, and free what was set aside; once."""
        if self._key is not None and not self._ended:
            self._ended = True
            self._write()
            self._budgets.free(self._key, *self._aside)

    def _write(self) -> None:
        assert self._key is not None
        tokens, usd = (sum(column) for column in zip(*self._parts.values(), strict=True)) if self._parts else (0, 0.0)
        more = Use(0, int(tokens) - self._charged[0], usd - self._charged[1])
        self._charged = (int(tokens), usd)
        if more != Use():
            self._budgets.add(self._key, more)
            if not self._ended:  # what is charged need not be set aside any longer
                rest = (max(0, self._aside[0] - more.tokens), max(0.0, self._aside[1] - more.usd))
                self._budgets.free(self._key, self._aside[0] - rest[0], self._aside[1] - rest[1])
                self._aside = rest


class Budgets:
    """What every key has used.

    Args:
        path: file in which it is kept; it is made with the first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._accounts: dict[str, _Account] = {}
        self._read, self._own = 0, set[int]()  # the last row that was read, and rows after it that were written here
        if path.exists():
            self._load()

    def _load(self) -> None:
        """Read what was used in the last day, minute by minute."""
        now = time.time()
        with closing(sqlite3.connect(self._path, timeout=30)) as connection:
            connection.execute(  # the last row stays, so that the numbers of rows only grow
                "DELETE FROM uses WHERE at < ? AND rowid < (SELECT MAX(rowid) FROM uses)", (now - KEPT_DAYS * DAY_S,)
            )
            connection.commit()
            connection.execute("BEGIN")  # all that follows sees one state
            (self._read,) = connection.execute("SELECT COALESCE(MAX(rowid), 0) FROM uses").fetchone()
            rows = connection.execute(
                "SELECT key, CAST(at / 60 AS INTEGER) * 60, SUM(tokens), SUM(usd) FROM uses WHERE at > ? "
                "GROUP BY 1, 2 ORDER BY 2",
                (now - DAY_S,),
            )
            for name, at, tokens, usd in rows:
                self._account(name).day.add(at, Use(0, tokens, usd))
            for name, at, answers in connection.execute(
                "SELECT key, at, answers FROM uses WHERE at > ? AND answers > 0 ORDER BY at", (now - MINUTE_S,)
            ):
                self._account(name).minute.add(at, Use(answers))

    def _account(self, name: str) -> _Account:
        return self._accounts.setdefault(name, _Account())

    def add(self, key: Key, use: Use) -> None:
        """Count what was used; it is on disk when this returns."""
        now = time.time()
        self._count(key.name, now, use)
        try:
            with self._opened() as connection:
                row = connection.execute("INSERT INTO uses VALUES (?, ?, ?, ?, ?)", (now, key.name, *use)).lastrowid
                self._own.add(row or 0)
        except (OSError, sqlite3.Error) as error:  # in memory it counts all the same
            _LOG.error("what %s uses could not be kept in %s: %s", key.name, self._path, error)

    def _count(self, name: str, at: float, use: Use) -> None:
        account = self._account(name)
        if use.answers:
            account.minute.add(at, Use(use.answers))
        if use.tokens or use.usd:
            account.day.add(at, use)

    def _catch_up(self) -> None:
        """Count what other services of this home have written since."""
        if self._connection is None and not self._path.exists():
            return
        try:
            rows = self._opened().execute("SELECT rowid, * FROM uses WHERE rowid > ? ORDER BY rowid", (self._read,))
            for row, at, name, answers, tokens, usd in rows:
                self._read = row
                if row not in self._own:
                    self._count(name, at, Use(answers, tokens, usd))
                self._own.discard(row)
        except (OSError, sqlite3.Error) as error:
            _LOG.error("what other services use could not be read in %s: %s", self._path, error)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(
                "PRAGMA synchronous=NORMAL"
            )  # a kill loses nothing, and no answer waits for a disk
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS uses (at REAL NOT NULL, key TEXT NOT NULL, answers INTEGER NOT NULL, "
                "tokens INTEGER NOT NULL, usd REAL NOT NULL)"
            )
            self._connection.execute("CREATE INDEX IF NOT EXISTS uses_at ON uses (at)")
        return self._connection

    def free(self, key: Key, tokens: int, usd: float) -> None:
        """Free what was set aside."""
        account = self._account(key.name)
        account.tokens_aside -= tokens
        account.usd_aside -= usd

    def admit(self, key: Key | None, answers: int = 1) -> None:
        """Count answers of a key before they begin.

        Raises:
            Refused: they are more than it may have in a minute.
        """
        if key is None or answers < 1:
            return
        self._catch_up()
        account, now = self._account(key.name), time.time()
        account.minute.forget(now)
        if key.requests_per_minute and account.minute.answers + answers > key.requests_per_minute:
            raise Refused(
                f"The key '{key.name}' may have {key.requests_per_minute:,} answers a minute; this is too many.",
                None,
                "rate_limit",
                429,
                account.minute.retry(now),
            )
        self.add(key, Use(answers))

    def reserve(self, key: Key | None, most: int, read: int = 0, usd: float = 0.0) -> Charge:
        """Set aside what a request may use, so that those which come with it do not count on the same tokens.

        Where less is left than it may use, it gets what is left.

        Args:
            key: whose it is.
            most: tokens of its prompts and of its longest answers.
            read: tokens of its prompts alone, as they are estimated.
            usd: what it may cost.

        Raises:
            Refused: nothing is left, or not enough to read the prompts.
        """
        if key is None:
            return Charge(self, None, most)
        self._catch_up()
        account, now = self._account(key.name), time.time()
        account.day.forget(now)
        if key.tokens_per_day:
            left = key.tokens_per_day - account.day.tokens - account.tokens_aside
            if left <= 0 or read // LEAST_SHARE > left:
                raise self._used_up(key, account, f"{key.tokens_per_day:,} tokens", now)
            most = min(most, left)
        spent = account.day.usd + account.usd_aside
        if key.usd_per_day and (spent >= key.usd_per_day or spent + usd > key.usd_per_day):
            raise self._used_up(key, account, f"{key.usd_per_day:g} US dollars", now)
        account.tokens_aside += most
        account.usd_aside += usd
        return Charge(self, key, most, usd)

    @staticmethod
    def _used_up(key: Key, account: _Account, budget: str, now: float) -> Refused:
        aside = account.tokens_aside or account.usd_aside
        wait = {"Retry-After": "5"} if aside else account.day.retry(now)
        return Refused(
            f"The key '{key.name}' may use {budget} a day; they are used up"
            + (", or set aside for its answers under way." if aside else "."),
            None,
            "insufficient_quota",
            429,
            wait,
        )


def tokens_of_piece(text: str, tokens: int) -> int:
    """Estimate the tokens of a piece of an answer that may never be counted."""
    return max(1 if text else 0, tokens, len(text) // LETTERS_A_PIECE)
