"""Whether several services share their state in a database, and the ledgers that it holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sizewise.errors import MissingExtraError

if TYPE_CHECKING:
    from sizewise.store.shared_ledger import SharedLedger

VARIABLE = "SIZEWISE_DATABASE_URL"


def shared_url() -> str:
    """Return the URL of the database that several services share; empty: none, each machine has its own files."""
    return os.environ.get(VARIABLE, "").strip()


def shared_ledger(name: str) -> SharedLedger | None:
    """Open a ledger of the shared database; None if there is no such database.

    Raises:
        MissingExtraError: SQLAlchemy or the database's driver isn't installed.
        UsageError: the URL of the database isn't valid.
    """
    url = shared_url()
    if not url:
        return None
    try:
        from sizewise.store.shared_ledger import SharedLedger, shared_database
    except ImportError as error:
        raise MissingExtraError("sqlalchemy", "serve") from error
    return SharedLedger(shared_database(url), name)
