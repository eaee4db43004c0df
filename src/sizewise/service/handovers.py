"""Conversations that wait for a person: bounded in size, number and time, and readable by their owner alone."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from sizewise.service.schemas import Refused

ASKED_BY: ContextVar[str] = ContextVar("asked_by", default="")
"""Name of the key whose request is being answered."""
MOST_LETTERS = 50_000
"""Letters of a conversation that are kept: its end."""
PREVIEW_LETTERS = 2_000
MOST_WAITING = 500
EACH_A_DAY = 50
"""Conversations that one key may hand over in a day."""
KEPT_DAYS = 30
DAY_S = 86_400.0


class Handovers:
    """The conversations that were handed over.

    Args:
        path: file in which they are kept; it is made with the first.
        before: conversations of an earlier version, by number; they are taken over when the file is made.
    """

    def __init__(self, path: Path, before: dict[str, dict[str, Any]] | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        if before and not path.exists():
            with self._opened() as connection:
                for number, body in before.items():
                    _insert(connection, number, str(body.get("who", "")), body)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = sqlite3.connect(self._path, timeout=30)
            try:
                with connection:
                    connection.execute(
                        "CREATE TABLE IF NOT EXISTS handovers (number TEXT PRIMARY KEY, at REAL NOT NULL, "
                        "who TEXT NOT NULL, body TEXT NOT NULL, done REAL)"
                    )
                    yield connection
            finally:
                connection.close()

    def keep(self, number: str, body: dict[str, Any]) -> None:
        """Keep a conversation.

        Raises:
            Refused: too many wait, or the key has handed over too many today.
        """
        who, now = ASKED_BY.get(), time.time()
        with self._opened() as connection:
            connection.execute("DELETE FROM handovers WHERE at < ?", (now - KEPT_DAYS * DAY_S,))
            (waiting,) = connection.execute("SELECT COUNT(*) FROM handovers WHERE done IS NULL").fetchone()
            (own,) = connection.execute(
                "SELECT COUNT(*) FROM handovers WHERE who = ? AND at > ?", (who, now - DAY_S)
            ).fetchone()
            if waiting >= MOST_WAITING or (who and own >= EACH_A_DAY):
                raise Refused(
                    "Too many conversations wait for a person; please try again later.",
                    None,
                    "too_many_handovers",
                    429,
                    {"Retry-After": "3600"},
                )
            _insert(connection, number, who, body)

    def waiting(self, most: int, before: str = "") -> list[dict[str, Any]]:
        """Give conversations that wait, the latest last.

        Args:
            most: how many.
            before: only those that were handed over before this one.
        """
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT number, body FROM handovers WHERE done IS NULL AND "
                "(? = '' OR rowid < (SELECT rowid FROM handovers WHERE number = ?)) ORDER BY rowid DESC LIMIT ?",
                (before, before, most),
            ).fetchall()
        return [{"number": number} | json.loads(body) for number, body in reversed(rows)]

    def previews(self, most: int) -> tuple[int, list[dict[str, Any]]]:
        """Give how many wait, and the ends of the latest conversations."""
        if not self._path.exists():
            return 0, []
        with self._opened() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM handovers WHERE done IS NULL").fetchone()
        found = self.waiting(most) if count else []
        return count, [one | {"conversation": _end_of(one["conversation"], PREVIEW_LETTERS)} for one in found]

    def finish(self, number: str) -> bool:
        """Note that a person took one over; tell whether there is one."""
        with self._opened() as connection:
            changed = connection.execute(
                "UPDATE handovers SET done = COALESCE(done, ?) WHERE number = ?", (time.time(), number)
            )
            return changed.rowcount == 1


def _insert(connection: sqlite3.Connection, number: str, who: str, body: dict[str, Any]) -> None:
    kept = body | {"conversation": _end_of(body["conversation"], MOST_LETTERS)}
    connection.execute(
        "INSERT INTO handovers (number, at, who, body) VALUES (?, ?, ?, ?)",
        (number, float(body["at"]), who, json.dumps(kept, ensure_ascii=False)),
    )


def _end_of(conversation: list[dict[str, Any]], letters: int) -> list[dict[str, Any]]:
    """Give the end of a conversation; what was left out is marked."""
    found: list[dict[str, Any]] = []
    for message in reversed(conversation):
        content = str(message["content"])
        if letters <= 0:
            break
        found.append(message if len(content) <= letters else message | {"content": "… " + content[-letters:]})
        letters -= len(content)
    return found[::-1]
