"""Usage and reservations of API keys in a SQL database, which all processes of a service share.

SQLite in WAL mode by default. Every method is one transaction that begins by locking the row of its key, so two
processes never admit a request on the same remaining budget, in SQLite as well as in PostgreSQL.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, inspect, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from sizewise.store.database import Database, unavailable, url_for
from sizewise.store.sharing import shared_url
from sizewise.store.tables import KEY_REQUESTS as _REQUESTS
from sizewise.store.tables import KEY_RESERVATIONS as _RESERVATIONS
from sizewise.store.tables import KEY_TURNS as _KEYS
from sizewise.store.tables import KEY_USAGE as _USAGE
from sizewise.store.tables import WRITERS as _WRITERS

MINUTE_S, DAY_S = 60.0, 86_400.0
RETENTION_DAYS = 35
_LIVE_OWNERS: set[str] = set()


class Use(NamedTuple):
    """Usage of a key."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


class Limits(NamedTuple):
    """Budgets of a key for a sliding day; None: no limit."""

    tokens: int | None = None
    usd: float | None = None


class Reservation(NamedTuple):
    """What a request may use at most."""

    id: str
    tokens: int
    usd: float


class Exhausted(NamedTuple):
    """A budget that is used up."""

    what: str
    """`tokens` or `usd`."""
    retry_s: float
    in_progress: bool
    """Whether requests in progress hold a part of the budget."""


class UsageRow(NamedTuple):
    """Usage of a key with one model; the model is empty where it isn't known."""

    key: str
    model: str
    requests: int
    tokens: int
    usd: float


class UsageStore:
    """Usage and reservations of all keys.

    Args:
        url: SQLAlchemy URL; missing tables are created when it is first used.
        reservation_s: seconds after which a reservation without progress ends, because its process was killed.

    Raises:
        UsageError: SQLAlchemy doesn't know the URL, or its driver isn't installed.
    """

    def __init__(self, url: str, reservation_s: float) -> None:
        self._reservation_s = reservation_s
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        _LIVE_OWNERS.add(self._owner)
        self._database = Database(url)
        self._insert = (postgresql if self._database.engine.dialect.name == "postgresql" else sqlite).insert
        self._prepared = False

    def _transaction(self) -> AbstractContextManager[Connection]:
        """Begin a transaction; the first one takes over tables of an earlier version, and forgets old rows."""
        if not self._prepared:
            with self._database.transaction() as db:
                self._import_earlier_version(db)
                self._forget(db)
            self._prepared = True
        return self._database.transaction()

    def admit(self, key: str, requests: int, per_minute: int | None) -> float | None:
        """Count requests of a key in the last minute.

        Returns:
            None if they are admitted, and otherwise the seconds until the oldest request leaves the minute.
        """
        now = time.time()
        with self._locked(key) as db:
            db.execute(delete(_REQUESTS).where(_REQUESTS.c.key == key, _REQUESTS.c.at < int(now - MINUTE_S)))
            if per_minute is not None:
                row = db.execute(
                    select(func.sum(_REQUESTS.c.requests), func.min(_REQUESTS.c.at)).where(_REQUESTS.c.key == key)
                ).one()
                if (row[0] or 0) + requests > per_minute:
                    return max(1.0, (row[1] or now) + MINUTE_S + 1 - now)
            at = _REQUESTS.c.key == key, _REQUESTS.c.at == int(now)
            found = db.execute(update(_REQUESTS).where(*at).values(requests=_REQUESTS.c.requests + requests))
            if not found.rowcount:
                db.execute(insert(_REQUESTS).values(key=key, at=int(now), requests=requests))
        return None

    def reserve(self, key: str, limits: Limits, wanted: Use, min_tokens: int = 0) -> Reservation | Exhausted:
        """Reserve tokens and money. If fewer tokens are left than wanted, the rest is reserved.

        Args:
            key: name of the key.
            limits: budgets of a day.
            wanted: tokens and US dollars that a request may use.
            min_tokens: tokens below which it's no use to begin.
        """
        now = time.time()
        with self._locked(key) as db:
            used = db.execute(
                select(func.sum(_USAGE.c.tokens), func.sum(_USAGE.c.usd), func.min(_USAGE.c.at)).where(
                    _USAGE.c.key == key, _USAGE.c.at > int(now - DAY_S)
                )
            ).one()
            held = db.execute(
                select(func.sum(_RESERVATIONS.c.tokens), func.sum(_RESERVATIONS.c.usd)).where(
                    _RESERVATIONS.c.key == key, _RESERVATIONS.c.expires > now
                )
            ).one()
            tokens, usd = wanted.tokens, wanted.usd
            retry_s = max(1.0, (used[2] or now) + DAY_S - now)
            is_held = bool(held[0] or held[1])
            if limits.tokens is not None:
                rest = limits.tokens - int(used[0] or 0) - int(held[0] or 0)
                if rest <= 0 or rest < min_tokens:
                    return Exhausted("tokens", retry_s, is_held)
                tokens = min(tokens, rest)
            if limits.usd is not None:
                spent = float(used[1] or 0) + float(held[1] or 0)
                if spent >= limits.usd or spent + usd > limits.usd:
                    return Exhausted("usd", retry_s, is_held)
            found = Reservation(secrets.token_hex(16), tokens, usd)
            db.execute(
                insert(_RESERVATIONS).values(
                    id=found.id,
                    key=key,
                    owner=self._owner,
                    tokens=tokens,
                    usd=usd,
                    expires=now + self._reservation_s,
                )
            )
        return found

    def charge(
        self, key: str, model: str, use: Use, reservation: Reservation | None, ended: bool, number: int = 0
    ) -> None:
        """Add usage, and take it off the reservation.

        Args:
            key: name of the key.
            model: name of the model.
            use: usage since the last call.
            reservation: what is still reserved; None if nothing was.
            ended: whether the request has ended, so that the rest of the reservation is released.
            number: number of the charge in this process, which isn't saved twice; 0: none.
        """
        now = time.time()
        with self._locked(key) as db:
            if number and not self._is_new(db, number):
                return
            if use != Use():
                self._add(db, key, model, int(now // MINUTE_S * MINUTE_S), use)
            if reservation is None:
                return
            here = _RESERVATIONS.c.id == reservation.id
            if ended:
                db.execute(delete(_RESERVATIONS).where(here))
            else:
                left = {"tokens": reservation.tokens, "usd": reservation.usd, "expires": now + self._reservation_s}
                db.execute(update(_RESERVATIONS).where(here).values(**left))

    def since(self, seconds: float) -> list[UsageRow]:
        """Return the usage of the last so many seconds, by key and model."""
        columns = [func.sum(_USAGE.c[name]) for name in ("requests", "tokens", "usd")]
        with self._transaction() as db:
            rows = db.execute(
                select(_USAGE.c.key, _USAGE.c.model, *columns)
                .where(_USAGE.c.at > int(time.time() - seconds))
                .group_by(_USAGE.c.key, _USAGE.c.model)
                .order_by(_USAGE.c.key, _USAGE.c.model)
            ).all()
        return [UsageRow(row[0], row[1], int(row[2]), int(row[3]), float(row[4])) for row in rows]

    def close(self) -> None:
        """Release what this process still holds, and close the connections."""
        try:
            with self._transaction() as db:
                db.execute(delete(_RESERVATIONS).where(_RESERVATIONS.c.owner == self._owner))
                db.execute(delete(_WRITERS).where(_WRITERS.c.owner == self._owner))
        finally:
            self._database.close()
            _LIVE_OWNERS.discard(self._owner)

    @contextmanager
    def _locked(self, key: str) -> Iterator[Connection]:
        with self._transaction() as db:
            turn = update(_KEYS).where(_KEYS.c.key == key).values(turns=_KEYS.c.turns + 1)
            if not db.execute(turn).rowcount:  # another process may insert the same row now
                db.execute(self._insert(_KEYS).values(key=key, turns=0).on_conflict_do_nothing())
                db.execute(turn)
            yield db

    def _is_new(self, db: Connection, number: int) -> bool:
        """Note the number of a charge; False if it is saved already, because only its confirmation was lost."""
        here = _WRITERS.c.owner == self._owner
        if db.execute(update(_WRITERS).where(here, _WRITERS.c.charges < number).values(charges=number)).rowcount:
            return True
        added = self._insert(_WRITERS).values(owner=self._owner, charges=number).on_conflict_do_nothing()
        return db.execute(added.returning(_WRITERS.c.owner)).first() is not None

    @staticmethod
    def _add(db: Connection, key: str, model: str, at: int, use: Use) -> None:
        columns = _USAGE.c
        row = columns.key == key, columns.model == model, columns.at == at
        more: dict[str, Any] = {name: columns[name] + value for name, value in use._asdict().items()}
        if not db.execute(update(_USAGE).where(*row).values(**more)).rowcount:
            db.execute(insert(_USAGE).values(key=key, model=model, at=at, **use._asdict()))

    @staticmethod
    def _forget(db: Connection) -> None:
        """Delete old usage, and what processes of this machine that are gone had reserved."""
        db.execute(delete(_USAGE).where(_USAGE.c.at < int(time.time() - RETENTION_DAYS * DAY_S)))
        for table in (_RESERVATIONS, _WRITERS):
            for owner in db.execute(select(table.c.owner).distinct()).scalars().all():
                if _is_gone(owner):
                    db.execute(delete(table).where(table.c.owner == owner))

    def _import_earlier_version(self, db: Connection) -> None:
        """Take over the table of an earlier version, whose rows were one for each charge."""
        if not inspect(db).has_table("uses"):
            return
        rows = db.execute(
            text(
                "SELECT key, CAST(at / 60 AS INTEGER) * 60, SUM(answers), SUM(tokens), SUM(usd) FROM uses GROUP BY 1, 2"
            )
        ).all()
        for key, at, requests, tokens, usd in rows:
            self._add(db, key, "", int(at), Use(int(requests), int(tokens), float(usd)))
        db.execute(text("DROP TABLE uses"))


def used_since(path: Path, seconds: float) -> list[UsageRow]:
    """Return the usage in the shared database, or in a SQLite file where there is none.

    Args:
        path: the SQLite file.
        seconds: length of the period, which ends now.

    Raises:
        Unavailable: the shared database can't be reached.
    """
    if not shared_url() and not path.exists():
        return []
    try:
        store = UsageStore(url_for(path), 0.0)
        rows = store.since(seconds)
        store.close()
    except SQLAlchemyError as error:
        raise unavailable(error) from error
    return rows


def _is_gone(owner: str) -> bool:
    """Check whether the process that made a reservation has ended; unknown for other machines."""
    host, _, rest = owner.partition("/")
    process = rest.partition("/")[0]
    if host != socket.gethostname() or not process.isdigit():
        return False
    if int(process) == os.getpid():
        return owner not in _LIVE_OWNERS
    with suppress(PermissionError):
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
    return False
