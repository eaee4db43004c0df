"""API keys in the shared database: created by `sizewise keys` on any machine, and followed by all services."""

from __future__ import annotations

import json
import logging
import shlex
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from sizewise.errors import SizewiseError
from sizewise.service.api_keys import Key, Keys, check_name, hash_of, new_secret
from sizewise.store.database import Database, reason_of, unavailable
from sizewise.store.shared_ledger import shared_database
from sizewise.store.tables import API_KEYS

POLL_S = 2.0
"""Seconds after which a new or revoked key is noticed."""
_LOG = logging.getLogger("sizewise.service")


class KeyTable:
    """The keys of a database, with the methods of `KeyFile`.

    Args:
        database: the database.
    """

    place = "the shared database"

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> list[Key]:
        """Read all keys, in the order of their creation.

        Raises:
            Unavailable: the database can't be reached.
        """
        columns = API_KEYS.c
        wanted = select(columns.name, columns.sha256, columns.limits).order_by(columns.created, columns.name)
        try:
            with self._database.transaction() as db:
                rows = db.execute(wanted).all()
        except SQLAlchemyError as error:
            raise unavailable(error) from error
        return [Key.model_validate(json.loads(limits) | {"name": name, "sha256": sha}) for name, sha, limits in rows]

    def add(self, name: str, limits: Mapping[str, Any] | None = None) -> str:
        """Create a key and return it; only its hash is stored.

        Args:
            name: name of the key.
            limits: further fields of `Key`, such as `tokens_per_day`.

        Raises:
            SizewiseError: the name isn't valid or already used, or the database can't be reached.
        """
        check_name(name)
        made = new_secret()
        key = Key(name=name, sha256=hash_of(made), **(limits or {}))
        kept = key.model_dump(mode="json", exclude_defaults=True, exclude={"name", "sha256"})
        values = {"name": name, "sha256": key.sha256, "limits": json.dumps(kept), "created": time.time()}
        try:
            with self._database.transaction() as db:
                db.execute(insert(API_KEYS).values(**values))
        except IntegrityError as error:
            raise SizewiseError(
                f"The database already has a key named '{name}'.",
                "a new name; or a new key under this one, with the same limits",
                f"sizewise keys rotate {shlex.quote(name)}",
            ) from error
        except SQLAlchemyError as error:
            raise unavailable(error) from error
        return made

    def revoke(self, name: str) -> None:
        """Remove a key.

        Raises:
            SizewiseError: there is no such key, or the database can't be reached.
        """
        self._change(name, delete(API_KEYS).where(API_KEYS.c.name == name))

    def rotate(self, name: str) -> str:
        """Replace a key by a new one with the same name, models and limits, and return it.

        Raises:
            SizewiseError: there is no such key, or the database can't be reached.
        """
        made = new_secret()
        self._change(name, update(API_KEYS).where(API_KEYS.c.name == name).values(sha256=hash_of(made)))
        return made

    def _change(self, name: str, statement: Any) -> None:
        try:
            with self._database.transaction() as db:
                changed = db.execute(statement).rowcount
        except SQLAlchemyError as error:
            raise unavailable(error) from error
        if not changed:
            known = ", ".join(key.name for key in self.read()) or "none yet"
            raise SizewiseError(f"The database has no key named '{name}'.", known, "sizewise keys list")


class SharedKeys(Keys):
    """The keys of a database, read again every two seconds. While the database is away, the last ones hold.

    Args:
        table: the keys.
    """

    def __init__(self, table: KeyTable) -> None:
        super().__init__(tuple(table.read()))
        self._table = table
        self._protected = bool(self._by_hash)
        threading.Thread(target=self._follow, daemon=True, name="keys").start()

    @property
    def required(self) -> bool:
        """Whether clients must send a key; revoking the last one doesn't open the service to all."""
        return self._protected

    def read_again(self) -> None:
        """Take over the keys as they are now.

        Raises:
            Unavailable: the database can't be reached.
        """
        found = Keys(tuple(self._table.read()))
        self._by_hash, self.names = found._by_hash, found.names
        self._protected = self._protected or bool(self._by_hash)

    def _follow(self) -> None:
        failed = False
        while True:
            time.sleep(POLL_S)
            try:
                self.read_again()
                failed = False
            except Exception as error:  # whatever happens, the keys must go on being followed
                if not failed:
                    _LOG.error("Failed to read the API keys, the last ones hold: %s", reason_of(error))
                failed = True


@cache
def shared_keys(url: str) -> SharedKeys:
    """Open the keys of a database, once in a process."""
    return SharedKeys(KeyTable(shared_database(url)))
