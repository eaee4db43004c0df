"""Conversations handed over to staff: limited in size, number and age, and stored in a file only its owner can read."""

from __future__ import annotations

import json
import sqlite3
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

from sizewise.service.private_database import PrivateDatabase
from sizewise.service.schemas import APIError

REQUESTED_BY: ContextVar[str] = ContextVar("requested_by", default="")
"""Name of the API key of the current request."""
MAX_CHARACTERS = 50_000
"""Characters stored of a conversation, counted from its end."""
MAX_PREVIEW_CHARACTERS = 2_000
MAX_MESSAGES, MAX_MESSAGE_CHARACTERS = 200, 8_000
"""Of a conversation after it was handed over."""
MAX_WAITING = 500
MAX_PER_DAY = 50
"""Conversations that one key may hand over per day."""
RETENTION_DAYS = 30
DAY_S = 86_400.0
Author = Literal["customer", "staff"]


_TABLES = (
    "CREATE TABLE IF NOT EXISTS handovers (number TEXT PRIMARY KEY, at REAL NOT NULL, who TEXT NOT NULL, "
    "body TEXT NOT NULL, done REAL)",
    "CREATE TABLE IF NOT EXISTS messages (number TEXT NOT NULL, at REAL NOT NULL, author TEXT NOT NULL, "
    "text TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS resolutions (number TEXT PRIMARY KEY, resolved INTEGER)",
)


class Handovers:
    """The conversations handed over to staff.

    Args:
        path: SQLite file, created with the first conversation.
        legacy: conversations stored by an earlier version, by number; imported when the file is created.
    """

    def __init__(self, path: Path, legacy: dict[str, dict[str, Any]] | None = None) -> None:
        self._database = PrivateDatabase(path, _TABLES)
        if legacy and not self._database.exists:
            with self._database.opened() as connection:
                for number, body in legacy.items():
                    _insert(connection, number, str(body.get("who", "")), body)

    def add(self, number: str, body: dict[str, Any]) -> None:
        """Store a conversation.

        Raises:
            APIError: too many conversations are waiting, or the key has reached its daily limit.
        """
        who, now = REQUESTED_BY.get(), time.time()
        with self._database.opened() as connection:
            _forget(connection, now - RETENTION_DAYS * DAY_S)
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
        with self._database.opened() as connection:
            rows = connection.execute(
                "SELECT number, body FROM handovers WHERE done IS NULL AND "
                "(? = '' OR rowid < (SELECT rowid FROM handovers WHERE number = ?)) ORDER BY rowid DESC LIMIT ?",
                (before, before, limit),
            ).fetchall()
            return [
                {"number": number} | json.loads(body) | _replies(connection, number) for number, body in reversed(rows)
            ]

    def previews(self, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """Count the waiting conversations, and return the ends of the newest ones."""
        if not self._database.exists:
            return 0, []
        with self._database.opened() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM handovers WHERE done IS NULL").fetchone()
        newest = self.waiting(limit) if count else []
        previews = [
            entry | {"conversation": _end_of(entry["conversation"], MAX_PREVIEW_CHARACTERS)} for entry in newest
        ]
        return count, previews

    def finish(self, number: str, resolved: bool | None = None) -> bool:
        """Mark a conversation as done; returns False if it does not exist.

        Args:
            number: its number.
            resolved: whether the customer's question was resolved; None: not said.
        """
        with self._database.opened() as connection:
            changed = connection.execute(
                "UPDATE handovers SET done = COALESCE(done, ?) WHERE number = ?", (time.time(), number)
            )
            if changed.rowcount and resolved is not None:
                connection.execute("INSERT OR REPLACE INTO resolutions VALUES (?, ?)", (number, int(resolved)))
            return changed.rowcount == 1

    def say(self, number: str, author: Author, text: str) -> dict[str, Any]:
        """Add a message to an open conversation, and return the conversation.

        Raises:
            APIError: it does not exist, is done, or has too many messages.
        """
        with self._database.opened() as connection:
            row = connection.execute(
                "SELECT body FROM handovers WHERE number = ? AND done IS NULL", (number,)
            ).fetchone()
            if row is None:
                raise APIError(f"No open handover has the number {number[:20]}.", "number", "not_found", 404)
            (count,) = connection.execute("SELECT COUNT(*) FROM messages WHERE number = ?", (number,)).fetchone()
            if count >= MAX_MESSAGES:
                raise APIError("This conversation has too many messages.", None, "too_many_messages", 429)
            connection.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?)", (number, time.time(), author, text[:MAX_MESSAGE_CHARACTERS])
            )
            body: dict[str, Any] = json.loads(row[0])
            return body

    def is_open(self, number: str) -> bool:
        """Return whether the key of this request handed the conversation over, and staff haven't closed it."""
        if not self._database.exists:
            return False
        with self._database.opened() as connection:
            row = connection.execute("SELECT who, done FROM handovers WHERE number = ?", (number,)).fetchone()
        return row is not None and row[0] == REQUESTED_BY.get() and row[1] is None

    def thread(self, number: str, who: str | None) -> dict[str, Any] | None:
        """Return what was said since a conversation was handed over; None if there is none.

        Args:
            number: its number.
            who: key that must have handed it over; None: any.
        """
        if not self._database.exists:
            return None
        with self._database.opened() as connection:
            row = connection.execute("SELECT who, done FROM handovers WHERE number = ?", (number,)).fetchone()
            if row is None or who not in (None, row[0]):
                return None
            return {"done": row[1] is not None} | _replies(connection, number)

    def history(self, since: float) -> list[dict[str, Any]]:
        """Return when conversations were handed over and done, what about, and whether they were resolved."""
        if not self._database.exists:
            return []
        with self._database.opened() as connection:
            rows = connection.execute(
                "SELECT at, done, resolved, json_extract(body, '$.topic'), json_extract(body, '$.language') "
                "FROM handovers LEFT JOIN resolutions USING (number) WHERE at >= ?",
                (since,),
            ).fetchall()
        names = ("at", "done", "resolved", "topic", "language")
        return [dict(zip(names, (*row[:3], row[3] or "", row[4] or ""), strict=True)) for row in rows]


def _forget(connection: sqlite3.Connection, before: float) -> None:
    """Delete conversations that are too old, and all that belongs to them."""
    connection.execute("DELETE FROM handovers WHERE at < ?", (before,))
    for table in ("messages", "resolutions"):
        connection.execute(f"DELETE FROM {table} WHERE number NOT IN (SELECT number FROM handovers)")


def _replies(connection: sqlite3.Connection, number: str) -> dict[str, Any]:
    rows = connection.execute("SELECT at, author, text FROM messages WHERE number = ? ORDER BY rowid", (number,))
    return {"messages": [dict(zip(("at", "author", "text"), row, strict=True)) for row in rows]}


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
