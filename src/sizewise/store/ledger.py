"""An append-only ledger for data that grows while a job runs; it survives a kill at any moment."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any

from sizewise.records.upgrades import SCHEMA, upgrade
from sizewise.store.files import make_folder, make_private, whole_characters


class Ledger:
    """An append-only SQLite file of JSON entries, each identified by a topic and a key.

    The first entry of a (topic, key) pair is kept and later ones are ignored, so replaying a job creates no
    duplicates. The file is readable by its owner only.

    Args:
        path: The SQLite file; its folder is created if needed.
        any_thread: Allow use from threads other than the one that opened the file, one at a time.
    """

    def __init__(self, path: Path, any_thread: bool = False) -> None:
        make_folder(path.parent)
        make_private(path)  # SQLite copies the permissions to its journal files
        self._connection = sqlite3.connect(path, timeout=30, check_same_thread=not any_thread)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS entries "
            "(number INTEGER PRIMARY KEY, topic TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, "
            "UNIQUE (topic, key))"
        )
        self._upgrade()

    def _upgrade(self) -> None:
        """Upgrade entries of an earlier schema in one transaction; SQLite's user_version holds the schema number."""
        (schema,) = self._connection.execute("PRAGMA user_version").fetchone()
        if schema >= SCHEMA:
            return
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            rows = self._connection.execute("SELECT number, body FROM entries").fetchall()
            bodies = [(number, body, upgrade(json.loads(body), schema or 1)) for number, body in rows]
            self._connection.executemany(
                "UPDATE entries SET body = ? WHERE number = ?",
                [
                    (text, number)
                    for number, body, new in bodies
                    if (text := json.dumps(new, ensure_ascii=False)) != body
                ],
            )
            self._connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def append(self, topic: str, key: str, body: dict[str, Any]) -> None:
        """Append an entry and commit it to disk. Unpaired surrogates, as in a truncated emoji, become U+FFFD."""
        with self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO entries (topic, key, body) VALUES (?, ?, ?)",
                (topic, whole_characters(key), whole_characters(json.dumps(body, ensure_ascii=False))),
            )

    def entries(self, topic: str) -> dict[str, dict[str, Any]]:
        """Return all entries of a topic by key, in insertion order."""
        rows = self._connection.execute("SELECT key, body FROM entries WHERE topic = ? ORDER BY number", (topic,))
        return {key: json.loads(body) for key, body in rows}

    def entry(self, topic: str, key: str) -> dict[str, Any] | None:
        """Return an entry, or None if it doesn't exist."""
        found = self._connection.execute(
            "SELECT body FROM entries WHERE topic = ? AND key = ?", (topic, whole_characters(key))
        ).fetchone()
        return None if found is None else dict(json.loads(found[0]))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
