"""A small SQLite database that only its owner can read."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sizewise.store import make_folder, make_private


class PrivateDatabase:
    """Opens a SQLite file for one transaction at a time; the file has the mode 0600.

    Args:
        path: the file, created with the first transaction.
        tables: CREATE TABLE statements.
    """

    def __init__(self, path: Path, tables: tuple[str, ...]) -> None:
        self._path, self._tables, self._lock = path, tables, threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether anything was stored."""
        return self._path.exists()

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Open the database for one transaction."""
        make_folder(self._path.parent)
        with self._lock:
            make_private(self._path)
            connection = sqlite3.connect(self._path, timeout=30)
            try:
                with connection:
                    for table in self._tables:
                        connection.execute(table)
                    yield connection
            finally:
                connection.close()
