"""An append-only ledger for data that grows while a job runs; it survives a kill at any moment."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.records.upgrades import SCHEMA, upgrade
from sizewise.store.disks import journal_mode
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
        self._path = path
        make_folder(path.parent)
        make_private(path)  # SQLite copies the permissions to its journal files
        self._connection = sqlite3.connect(path, timeout=30, check_same_thread=not any_thread)
        self._connection.execute(f"PRAGMA journal_mode={journal_mode(path)}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS entries "
            "(number INTEGER PRIMARY KEY, topic TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, "
            "UNIQUE (topic, key))"
        )
        self._upgrade()

    def _upgrade(self) -> None:
        """Upgrade entries of an earlier schema in one transaction; SQLite's user_version holds the schema number."""
        if self._schema() >= SCHEMA:
            return
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            schema = self._schema()  # another process may have been faster
            rows = self._connection.execute("SELECT number, body FROM entries").fetchall() if schema < SCHEMA else []
            changed = [(new, number) for number, body in rows if (new := _upgraded(body, schema)) != body]
            self._connection.executemany("UPDATE entries SET body = ? WHERE number = ?", changed)
            self._connection.execute(f"PRAGMA user_version = {max(schema, SCHEMA)}")

    def _schema(self) -> int:
        """Read the schema of the entries; the first schema wrote no number."""
        (schema,) = self._connection.execute("PRAGMA user_version").fetchone()
        return max(1, int(schema))

    def append(self, topic: str, key: str, body: dict[str, Any]) -> None:
        """Append an entry and commit it to disk. Unpaired surrogates, as in a truncated emoji, become U+FFFD."""
        with self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO entries (topic, key, body) VALUES (?, ?, ?)",
                (topic, whole_characters(key), whole_characters(json.dumps(body, ensure_ascii=False))),
            )

    def entries(self, topic: str) -> dict[str, dict[str, Any]]:
        """Return all entries of a topic by key, in the order of arrival.

        Raises:
            SizewiseError: an entry is damaged.
        """
        return {key: body for _, key, body in self.after(topic, 0)}

    def after(self, topic: str, position: int) -> list[tuple[int, str, dict[str, Any]]]:
        """Return the entries of a topic after a position, as positions, keys and bodies.

        Raises:
            SizewiseError: an entry is damaged.
        """
        rows = self._connection.execute(
            "SELECT number, key, body FROM entries WHERE topic = ? AND number > ? ORDER BY number", (topic, position)
        )
        return [(number, key, self._parsed(key, body)) for number, key, body in rows]

    def entry(self, topic: str, key: str) -> dict[str, Any] | None:
        """Return one entry, or None.

        Raises:
            SizewiseError: the entry is damaged.
        """
        found = self._connection.execute(
            "SELECT body FROM entries WHERE topic = ? AND key = ?", (topic, whole_characters(key))
        ).fetchone()
        return None if found is None else self._parsed(key, found[0])

    def _parsed(self, key: str, body: object) -> dict[str, Any]:
        try:
            found = json.loads(body)  # type: ignore[arg-type]
        except (TypeError, ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        raise SizewiseError(
            f"The entry '{key}' of {self._path} is damaged.",
            "a JSON object, as Sizewise writes it",
            "restore the file from a backup, or remove it to start over",
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _upgraded(body: Any, schema: int) -> Any:
    """Upgrade the text of one entry; what cannot be read stays as it is, and only who reads it is told."""
    try:
        found = json.loads(body)
        # Of the types in ledgers only completions changed; they alone have these fields.
        if not isinstance(found, dict) or not {"text", "prompt_tokens", "finish"} <= found.keys():
            return body
        return whole_characters(json.dumps(upgrade(found, schema, "Completion"), ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        return body
