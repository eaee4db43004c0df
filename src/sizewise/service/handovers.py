"""Conversations handed over to staff: limited in size, number and age, and stored in a file only its owner can read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from sizewise.service.schemas import APIError
from sizewise.store.database import Database, unavailable, url_for
from sizewise.store.sharing import shared_url
from sizewise.store.tables import HANDOVERS

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
_COLUMNS = HANDOVERS.c
_COUNT = select(func.count()).select_from(HANDOVERS)


class Handovers:
    """The conversations handed over to staff.

    Args:
        path: SQLite file, created with the first conversation; the shared database, if there is one, takes its place.
        legacy: conversations stored by an earlier version, by number; imported when the file is created.
    """

    def __init__(self, path: Path, legacy: dict[str, dict[str, Any]] | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        self._database: Database | None = None
        if legacy and not shared_url() and not path.exists():
            with self._opened() as db:
                for number, body in legacy.items():
                    _insert(db, number, str(body.get("who", "")), body)

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        """Run one transaction.

        Raises:
            Unavailable: the database can't be reached.
        """
        with self._lock:
            if self._database is None:
                self._database = Database(url_for(self._path))
            try:
                with self._database.transaction() as db:
                    if self._database.engine.dialect.name == "postgresql":  # limits hold for all services together
                        db.execute(text("SELECT pg_advisory_xact_lock(hashtext('handovers'))"))
                    yield db
            except SQLAlchemyError as error:
                raise unavailable(error) from error

    def add(self, number: str, body: dict[str, Any]) -> None:
        """Store a conversation.

        Raises:
            APIError: too many conversations are waiting, or the key has reached its daily limit.
            Unavailable: the database can't be reached.
        """
        who, now = REQUESTED_BY.get(), time.time()
        with self._opened() as db:
            db.execute(delete(HANDOVERS).where(_COLUMNS.at < now - RETENTION_DAYS * DAY_S))
            waiting = db.execute(_COUNT.where(_COLUMNS.done.is_(None))).scalar_one()
            today = db.execute(_COUNT.where(_COLUMNS.who == who, _COLUMNS.at > now - DAY_S)).scalar_one()
            if waiting >= MAX_WAITING or (who and today >= MAX_PER_DAY):
                raise APIError(
                    "Too many conversations are waiting for a person. Please try again later.",
                    None,
                    "too_many_handovers",
                    429,
                    {"Retry-After": "3600"},
                )
            _insert(db, number, who, body)

    def waiting(self, limit: int, before: str = "") -> list[dict[str, Any]]:
        """List waiting conversations, oldest first.

        Args:
            limit: maximum number; the newest are returned.
            before: only conversations handed over before the one with this number.
        """
        wanted = select(_COLUMNS.number, _COLUMNS.body).where(_COLUMNS.done.is_(None))
        if before:
            place = select(_COLUMNS.position).where(_COLUMNS.number == before).scalar_subquery()
            wanted = wanted.where(_COLUMNS.position < place)
        with self._opened() as db:
            rows = db.execute(wanted.order_by(_COLUMNS.position.desc()).limit(limit)).all()
        return [{"number": number, "messages": []} | json.loads(body) for number, body in reversed(rows)]

    def previews(self, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """Count the waiting conversations, and return the ends of the newest ones."""
        if not shared_url() and not self._path.exists():
            return 0, []
        with self._opened() as db:
            count = int(db.execute(_COUNT.where(_COLUMNS.done.is_(None))).scalar_one())
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
        done = func.coalesce(_COLUMNS.done, time.time())
        with self._opened() as db:
            found = db.execute(update(HANDOVERS).where(_COLUMNS.number == number).values(done=done)).rowcount == 1
            if found and resolved is not None:
                body = _body(db, number)
                _write(db, number, body | {"resolved": resolved})
            return found

    def say(self, number: str, author: Author, text: str) -> dict[str, Any]:
        """Add a message to an open conversation, and return the conversation.

        Raises:
            APIError: it does not exist, is done, or has too many messages.
            Unavailable: the database can't be reached.
        """
        with self._opened() as db:
            done = db.execute(select(_COLUMNS.done).where(_COLUMNS.number == number)).one_or_none()
            if done is None or done[0] is not None:
                raise APIError(f"No open handover has the number {number[:20]}.", "number", "not_found", 404)
            body = _body(db, number)
            if len(body["messages"]) >= MAX_MESSAGES:
                raise APIError("This conversation has too many messages.", None, "too_many_messages", 429)
            body["messages"].append({"at": time.time(), "author": author, "text": text[:MAX_MESSAGE_CHARACTERS]})
            _write(db, number, body)
            return body

    def is_open(self, number: str) -> bool:
        """Return whether the key of this request handed the conversation over, and staff haven't closed it."""
        row = self._row(number)
        return row is not None and row[0] == REQUESTED_BY.get() and row[1] is None

    def thread(self, number: str, who: str | None) -> dict[str, Any] | None:
        """Return what was said since a conversation was handed over; None if there is none.

        Args:
            number: its number.
            who: key that must have handed it over; None: any.
        """
        row = self._row(number)
        if row is None or who not in (None, row[0]):
            return None
        return {"done": row[1] is not None, "messages": json.loads(row[2]).get("messages", [])}

    def _row(self, number: str) -> tuple[str, float | None, str] | None:
        if not shared_url() and not self._path.exists():
            return None
        with self._opened() as db:
            wanted = select(_COLUMNS.who, _COLUMNS.done, _COLUMNS.body).where(_COLUMNS.number == number)
            row = db.execute(wanted).one_or_none()
        return None if row is None else (row[0], row[1], row[2])

    def history(self, since: float) -> list[dict[str, Any]]:
        """Return when conversations were handed over and done, what about, and whether they were resolved."""
        if not shared_url() and not self._path.exists():
            return []
        with self._opened() as db:
            rows = db.execute(select(_COLUMNS.at, _COLUMNS.done, _COLUMNS.body).where(_COLUMNS.at >= since)).all()
        found = []
        for at, done, stored in rows:
            body = json.loads(stored)
            about = {"topic": body.get("topic", ""), "language": body.get("language", "")}
            found.append({"at": at, "done": done, "resolved": body.get("resolved"), **about})
        return found


def _body(db: Connection, number: str) -> dict[str, Any]:
    """Return a stored conversation, with the messages since it was handed over."""
    body: dict[str, Any] = json.loads(db.execute(select(_COLUMNS.body).where(_COLUMNS.number == number)).scalar_one())
    return {"messages": []} | body


def _write(db: Connection, number: str, body: dict[str, Any]) -> None:
    db.execute(update(HANDOVERS).where(_COLUMNS.number == number).values(body=_json(body)))


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")


def _insert(db: Connection, number: str, who: str, body: dict[str, Any]) -> None:
    stored = body | {"conversation": _end_of(body["conversation"], MAX_CHARACTERS)}
    db.execute(insert(HANDOVERS).values(number=number, at=float(body["at"]), who=who, body=_json(stored)))


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
