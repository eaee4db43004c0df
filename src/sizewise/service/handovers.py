"""Conversations handed over to staff: limited in size, number and age, and stored in a file only its owner can read."""

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

from sizewise.service.schemas import APIError

REQUESTED_BY: ContextVar[str] = ContextVar("requested_by", default="")
"""Name of the API key of the current request."""
MAX_CHARACTERS = 50_000
"""Characters stored of a conversation, counted from its end."""
MAX_PREVIEW_CHARACTERS = 2_000
MAX_WAITING = 500
MAX_PER_DAY = 50
"""Conversations that one key may hand over per day."""
RETENTION_DAYS = 30
DAY_S = 86_400.0


class Handovers:
    """The conversations handed over to staff.

    Args:
        path: SQLite file, created with the first conversation.
        legacy: conversations stored by an earlier version, by number; imported when the file is created.
    """

    def __init__(self, path: Path, legacy: dict[str, dict[str, Any]] | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        if legacy and not path.exists():
            with self._opened() as connection:
                for number, body in legacy.items():
                    _insert(connection, number, str(body.get("who", "")), body)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Open the database for one transaction."""
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

    def add(self, number: str, body: dict[str, Any]) -> None:
        """Store a conversation.

        Raises:
            APIError: too many conversations are waiting, or the key has reached its daily limit.
        """
        who, now = REQUESTED_BY.get(), time.time()
        with self._opened() as connection:
            connection.execute("DELETE FROM handovers WHERE at < ?", (now - RETENTION_DAYS * DAY_S,))
            (waiting,) = connection.execute("SELECT COUNT(*) FROM handovers WHERE done IS NULL").fetchone()
            (today,) = connection.execute(
                "SELECT COUNT(*) FROM handovers WHERE who = ? AND at > ?", (who, now - DAY_S)
            ).fetchone()
            if waiting >= MAX_WAITING or (who and today >= MAX_PER_DAY):
                raise APIError(
                    "Too many conversations are waiting for a person. Please try again later.",
                    None,
                    "too_many_handovers",
                    429,
                    {"Retry-After": "3600"},
                )
            _insert(connection, number, who, body)

    def waiting(self, limit: int, before: str = "") -> list[dict[str, Any]]:
        """List waiting conversations, oldest first.

        Args:
            limit: maximum number; the newest are returned.
            before: only conversations handed over before the one with this number.
        """
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT number, body FROM handovers WHERE done IS NULL AND "
                "(? = '' OR rowid < (SELECT rowid FROM handovers WHERE number = ?)) ORDER BY rowid DESC LIMIT ?",
                (before, before, limit),
            ).fetchall()
        return [{"number": number} | json.loads(body) for number, body in reversed(rows)]

    def previews(self, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """Count the waiting conversations, and return the ends of the newest ones."""
        if not self._path.exists():
            return 0, []
        with self._opened() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM handovers WHERE done IS NULL").fetchone()
        newest = self.waiting(limit) if count else []
        previews = [
            entry | {"conversation": _end_of(entry["conversation"], MAX_PREVIEW_CHARACTERS)} for entry in newest
        ]
        return count, previews

    def finish(self, number: str) -> bool:
        """Mark a conversation as done; returns False if it does not exist."""
        with self._opened() as connection:
            changed = connection.execute(
                "UPDATE handovers SET done = COALESCE(done, ?) WHERE number = ?", (time.time(), number)
            )
            return changed.rowcount == 1


def _insert(connection: sqlite3.Connection, number: str, who: str, body: dict[str, Any]) -> None:
    stored = body | {"conversation": _end_of(body["conversation"], MAX_CHARACTERS)}
    connection.execute(
        "INSERT INTO handovers (number, at, who, body) VALUES (?, ?, ?, ?)",
        (number, float(body["at"]), who, json.dumps(stored, ensure_ascii=False)),
    )


def _end_of(conversation: list[dict[str, Any]], characters: int) -> list[dict[str, Any]]:
    """Return the end of a conversation; an ellipsis marks a shortened message."""
    messages: list[dict[str, Any]] = []
    for message in reversed(conversation):
        content = str(message["content"])
        if characters <= 0:
            break
        messages.append(message if len(content) <= characters else message | {"content": "… " + content[-characters:]})
        characters -= len(content)
    return messages[::-1]
