"""A ledger in the shared database, for what several services append to: votes, thumbs, and the guard's audit log."""

from __future__ import annotations

import json
from functools import cache
from types import TracebackType
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from sizewise.store.database import Database, unavailable
from sizewise.store.files import whole_characters
from sizewise.store.tables import ENTRIES


@cache
def shared_database(url: str) -> Database:
    """Open a database once in a process."""
    return Database(url)


class SharedLedger:
    """An append-only ledger in a database, with the methods of `Ledger`.

    Args:
        database: the database.
        name: name of the ledger, such as `service` or `round/ID`.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database, self._name = database, name

    def append(self, topic: str, key: str, body: dict[str, Any]) -> None:
        """Append an entry; a later one of the same topic and key is ignored.

        Raises:
            Unavailable: the database can't be reached.
        """
        values = {"ledger": self._name, "topic": topic, "key": _plain(key), "body": _plain(json.dumps(body))}
        is_postgresql = self._database.engine.dialect.name == "postgresql"
        insert = (postgresql if is_postgresql else sqlite).insert
        try:
            with self._database.transaction() as db:
                if is_postgresql:  # entries become visible in the order of their positions
                    db.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": self._name})
                db.execute(insert(ENTRIES).values(**values).on_conflict_do_nothing())
        except SQLAlchemyError as error:
            raise unavailable(error) from error

    def entries(self, topic: str) -> dict[str, dict[str, Any]]:
        """Return all entries of a topic by key, in the order of arrival.

        Raises:
            Unavailable: the database can't be reached.
        """
        return {key: body for _, key, body in self.after(topic, 0)}

    def after(self, topic: str, position: int) -> list[tuple[int, str, dict[str, Any]]]:
        """Return the entries of a topic after a position, as positions, keys and bodies.

        Raises:
            Unavailable: the database can't be reached.
        """
        columns = ENTRIES.c
        here = columns.ledger == self._name, columns.topic == topic, columns.position > position
        try:
            with self._database.transaction() as db:
                wanted = select(columns.position, columns.key, columns.body).where(*here)
                rows = db.execute(wanted.order_by(columns.position)).all()
        except SQLAlchemyError as error:
            raise unavailable(error) from error
        return [(int(number), key, json.loads(body)) for number, key, body in rows]

    def entry(self, topic: str, key: str) -> dict[str, Any] | None:
        """Return one entry, or None.

        Raises:
            Unavailable: the database can't be reached.
        """
        here = ENTRIES.c.ledger == self._name, ENTRIES.c.topic == topic, ENTRIES.c.key == _plain(key)
        try:
            with self._database.transaction() as db:
                body = db.execute(select(ENTRIES.c.body).where(*here)).scalar()
        except SQLAlchemyError as error:
            raise unavailable(error) from error
        return None if body is None else json.loads(body)

    def close(self) -> None:
        """Leave the connections to the next ledger of this process."""

    def __enter__(self) -> SharedLedger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _plain(text: str) -> str:
    """Remove what PostgreSQL doesn't store: unpaired surrogates and NUL."""
    return whole_characters(text).replace("\0", "\ufffd")
