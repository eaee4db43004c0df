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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)

from sizewise.errors import UsageError

MINUTE_S, DAY_S = 60.0, 86_400.0
RETENTION_DAYS = 35
LOCK_TIMEOUT_S = 5
_TABLES = MetaData()
_KEYS = Table("key_turns", _TABLES, Column("key", String, primary_key=True), Column("turns", Integer, nullable=False))
_USAGE = Table(
    "key_usage",
    _TABLES,
    Column("key", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("at", Integer, primary_key=True),
    Column("requests", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("usd", Float, nullable=False),
)
_REQUESTS = Table(
    "key_requests",
    _TABLES,
    Column("key", String, primary_key=True),
    Column("at", Integer, primary_key=True),
    Column("requests", Integer, nullable=False),
)
_RESERVATIONS = Table(
    "key_reservations",
    _TABLES,
    Column("id", String, primary_key=True),
    Column("key", String, nullable=False, index=True),
    Column("owner", String, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("usd", Float, nullable=False),
    Column("expires", Float, nullable=False),
)
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
        url: SQLAlchemy URL, for example `sqlite:////srv/usage.sqlite`; missing tables are created.
        reservation_s: seconds after which a reservation without progress ends, because its process was killed.

    Raises:
        UsageError: SQLAlchemy doesn't know the URL, or its driver isn't installed.
    """

    def __init__(self, url: str, reservation_s: float) -> None:
        self._reservation_s = reservation_s
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        _LIVE_OWNERS.add(self._owner)
        self._engine = _engine(url)
        _TABLES.create_all(self._engine)
        self._import_earlier_version()
        self._forget()

    def admit(self, key: str, requests: int, per_minute: int | None) -> float | None:
        """Count requests of a key in the last minute.

        Returns:
            None if they are admitted, and otherwise the seconds until the oldest request leaves the minute.
        """
        now = time.time()
        with self._locked(key) as db:
            db.execute(delete(_REQUESTS).where(_REQUESTS.c.key == key, _REQUESTS.c.at < now - MINUTE_S))
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
                    _USAGE.c.key == key, _USAGE.c.at > now - DAY_S
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

    def charge(self, key: str, model: str, use: Use, reservation: Reservation | None, ended: bool) -> None:
        """Add usage, and take it off the reservation.

        Args:
            key: name of the key.
            model: name of the model.
            use: usage since the last call.
            reservation: what is still reserved; None if nothing was.
            ended: whether the request has ended, so that the rest of the reservation is released.
        """
        now = time.time()
        with self._locked(key) as db:
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
        with self._engine.connect() as db:
            rows = db.execute(
                select(_USAGE.c.key, _USAGE.c.model, *columns)
                .where(_USAGE.c.at > time.time() - seconds)
                .group_by(_USAGE.c.key, _USAGE.c.model)
                .order_by(_USAGE.c.key, _USAGE.c.model)
            ).all()
        return [UsageRow(row[0], row[1], int(row[2]), int(row[3]), float(row[4])) for row in rows]

    def close(self) -> None:
        """Release what this process still holds, and close the connections."""
        with self._engine.begin() as db:
            db.execute(delete(_RESERVATIONS).where(_RESERVATIONS.c.owner == self._owner))
        self._engine.dispose()
        _LIVE_OWNERS.discard(self._owner)

    @contextmanager
    def _locked(self, key: str) -> Iterator[Connection]:
        with self._engine.begin() as db:
            if not db.execute(update(_KEYS).where(_KEYS.c.key == key).values(turns=_KEYS.c.turns + 1)).rowcount:
                db.execute(insert(_KEYS).values(key=key, turns=1))
            yield db

    @staticmethod
    def _add(db: Connection, key: str, model: str, at: int, use: Use) -> None:
        columns = _USAGE.c
        row = columns.key == key, columns.model == model, columns.at == at
        more: dict[str, Any] = {name: columns[name] + value for name, value in use._asdict().items()}
        if not db.execute(update(_USAGE).where(*row).values(**more)).rowcount:
            db.execute(insert(_USAGE).values(key=key, model=model, at=at, **use._asdict()))

    def _forget(self) -> None:
        """Delete old usage, and the reservations of processes of this machine that are gone."""
        with self._engine.begin() as db:
            db.execute(delete(_USAGE).where(_USAGE.c.at < time.time() - RETENTION_DAYS * DAY_S))
            for owner in db.execute(select(_RESERVATIONS.c.owner).distinct()).scalars().all():
                if _is_gone(owner):
                    db.execute(delete(_RESERVATIONS).where(_RESERVATIONS.c.owner == owner))

    def _import_earlier_version(self) -> None:
        """Take over the table of an earlier version, whose rows were one for each charge."""
        if "uses" not in inspect(self._engine).get_table_names():
            return
        with self._engine.begin() as db:
            rows = db.execute(
                text(
                    "SELECT key, CAST(at / 60 AS INTEGER) * 60, SUM(answers), SUM(tokens), SUM(usd) FROM uses "
                    "GROUP BY 1, 2"
                )
            ).all()
            for key, at, requests, tokens, usd in rows:
                self._add(db, key, "", int(at), Use(int(requests), int(tokens), float(usd)))
            db.execute(text("DROP TABLE uses"))


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file, which only its owner may read; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return f"sqlite:///{path}"


def _engine(url: str) -> Engine:
    try:
        if not url.startswith("sqlite"):
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(url, connect_args={"timeout": LOCK_TIMEOUT_S})
    except Exception as error:  # SQLAlchemy's own, or the import of a driver
        raise UsageError(
            f"The database of usage can't be opened: {str(error).splitlines()[0]}",
            "a URL of SQLAlchemy whose driver is installed, such as sqlite:////srv/usage.sqlite",
            "",
        ) from error

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


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
