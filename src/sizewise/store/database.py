"""The database of shared state: PostgreSQL where SIZEWISE_DATABASE_URL says so, and SQLite files otherwise.

Only this module imports SQLAlchemy's engine; it comes with the extra [serve], PostgreSQL's driver with [postgres].
"""

from __future__ import annotations

import ipaddress
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text

from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.privacy import offline
from sizewise.store.disks import journal_mode
from sizewise.store.files import make_folder, make_private
from sizewise.store.sharing import VARIABLE, shared_url

HEAD = "2"
"""Newest revision in `migrations`."""
LOCK_TIMEOUT_S = 5
CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_S = 15
_MIGRATION_LOCK = 7_130_217
"""Number of PostgreSQL's advisory lock that a migration holds."""
_POSTGRESQL = re.compile(r"^(?:postgres|postgresql)(?=://)")
_OPENING = threading.Lock()


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file, which only its owner may read; its folder is created."""
    make_folder(path.parent)
    make_private(path)
    return f"sqlite:///{path}"


def url_for(path: Path) -> str:
    """Return the URL of the shared database, or that of a SQLite file where there is none."""
    return shared_url() or sqlite_url(path)


class Database:
    """A database with the tables of this version, which are created or upgraded when it is first used.

    Args:
        url: SQLAlchemy URL.

    Raises:
        UsageError: SQLAlchemy doesn't know the URL.
        MissingExtraError: the driver isn't installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._migrated = False

    def prepare(self) -> None:
        """Create or upgrade the tables.

        Raises:
            SQLAlchemyError: the database can't be reached.
            SizewiseError: a newer version of Sizewise wrote the database.
        """
        if self._migrated:
            return
        with _OPENING:
            migrate(self.engine)
            self._migrated = True

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run one transaction; SQLite's begins by locking the file.

        Raises:
            SQLAlchemyError: the database can't be reached, or refuses.
        """
        self.prepare()
        with self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


def migrate(engine: Engine) -> None:
    """Create or upgrade the tables; two processes do it one after the other.

    Raises:
        SQLAlchemyError: the database can't be reached.
        SizewiseError: a newer version of Sizewise wrote the database.
    """
    with engine.begin() as connection:
        if _revision(connection) == HEAD:
            return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _MIGRATION_LOCK})
        found = _revision(connection)
        if found == HEAD:
            return
        if found is not None and int(found) > int(HEAD):
            raise SizewiseError(
                f"The database has revision {found}; this version of Sizewise reads revision {HEAD}.",
                "the version of Sizewise that upgraded it, or a newer one",
                "update Sizewise on this machine",
            )
        _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    """Return the revision of the tables; None if there is none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _engine(url: str) -> Engine:
    url = _POSTGRESQL.sub("postgresql+psycopg", url)
    try:
        _check_offline(_checked(make_url(url)))
        if url.startswith("postgresql+psycopg"):
            return create_engine(url, pool_pre_ping=True, pool_size=5, connect_args=_postgresql_options())
        if not url.startswith("sqlite"):
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(url, connect_args={"timeout": LOCK_TIMEOUT_S})
        mode = journal_mode(Path(engine.url.database or ""))
    except ModuleNotFoundError as error:
        if error.name == "psycopg":
            raise MissingExtraError("psycopg", "postgres") from error
        raise _unusable(error) from error
    except SizewiseError:
        raise
    except Exception as error:  # SQLAlchemy's own, or the import of a driver
        raise _unusable(error) from error

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _checked(url: URL) -> URL:
    """Return a URL whose password ends at its only @; messages of the driver would show the rest as a host.

    Raises:
        UsageError: the password has characters that a URL can't have.
    """
    if "@" in (url.host or ""):
        raise UsageError(
            f"The password in {VARIABLE} has an @, so its end was read as part of the host.",
            "a password with percent-encoded characters: %40 for @, %2F for /, %3A for :",
            f"export {VARIABLE}=postgresql://USER:PASSWORD@HOST/NAME",
        )
    return url


def _check_offline(url: URL) -> None:
    """Refuse a database elsewhere with SIZEWISE_OFFLINE; the driver connects in C, where nothing else refuses it.

    Raises:
        SizewiseError: the database is on another machine.
    """
    host = url.host or ""
    if not offline() or not host or host.startswith("/") or host == "localhost":
        return
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    raise SizewiseError(
        f"SIZEWISE_OFFLINE is set, and the database is on {host}.",
        "a database on this machine",
        "unset SIZEWISE_OFFLINE",
    )


def _postgresql_options() -> dict[str, Any]:
    """Return options under which a database that went away is noticed within seconds."""
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 1_000 * STATEMENT_TIMEOUT_S,
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout={LOCK_TIMEOUT_S}s "
        f"-c idle_in_transaction_session_timeout={2 * STATEMENT_TIMEOUT_S}s",
    }


def _unusable(error: Exception) -> UsageError:
    return UsageError(
        f"The database can't be opened: {str(error).splitlines()[0]}",
        "a URL of SQLAlchemy whose driver is installed: postgresql://USER:PASSWORD@HOST/NAME, or sqlite:///FILE",
        f"export {VARIABLE}=postgresql://USER:PASSWORD@HOST/NAME",
    )


def reason_of(error: Exception) -> str:
    """Return the first line of a failure of the database, which names no password."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class Unavailable(SizewiseError):
    """The shared database can't be reached now."""


def unavailable(error: Exception) -> Unavailable:
    """Translate a failure of the database; it is told to the operator, not to clients."""
    return Unavailable(
        f"The shared database can't be used now: {reason_of(error)}",
        f"a running database at {VARIABLE}",
        "try again when it runs",
    )
