"""Records on disk: SIZEWISE_HOME/KIND/ID/record.json, written atomically, last and once."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from html import escape
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import platformdirs
from filelock import FileLock, Timeout

from sizewise.errors import SizewiseError, UsageError
from sizewise.records import (
    Calibration,
    Checkpoint,
    Classifier,
    Comparison,
    ConversationRound,
    Dataset,
    Evaluation,
    Export,
    History,
    JudgeRound,
    LearningCurve,
    LoadTest,
    Ranking,
    Recommendation,
    Record,
    RedteamReport,
    Reproduction,
    Study,
    Tuning,
    WatchPass,
    fingerprint,
)
from sizewise.records.upgrades import SCHEMA, upgrade
from sizewise.store.artifacts import artifacts_url, push_or_warn, shared_artifacts
from sizewise.store.files import make_folder, read_lines, write_atomically
from sizewise.store.ledger import Ledger
from sizewise.store.rows import RowFile, damaged
from sizewise.store.sharing import shared_ledger

if TYPE_CHECKING:
    from sizewise.store.shared_ledger import SharedLedger

R = TypeVar("R", bound=Record)

KINDS: dict[str, type[Record]] = {
    "dataset": Dataset,
    "checkpoint": Checkpoint,
    "classifier": Classifier,
    "evaluation": Evaluation,
    "comparison": Comparison,
    "recommendation": Recommendation,
    "study": Study,
    "tuning": Tuning,
    "curve": LearningCurve,
    "export": Export,
    "loadtest": LoadTest,
    "round": JudgeRound,
    "conversations": ConversationRound,
    "redteam": RedteamReport,
    "calibration": Calibration,
    "reproduction": Reproduction,
    "history": History,
    "ranking": Ranking,
    "watch": WatchPass,
}
KIND_OF = {record_type: kind for kind, record_type in KINDS.items()}
# Kinds whose folder had a different name in earlier versions; records are never moved.
FORMER_FOLDERS = {"loadtest": "load"}
FORMER_KINDS = {former: kind for kind, former in FORMER_FOLDERS.items()}
RECORD = "record.json"
# Fields of records that another version may word otherwise, or that differ each time something is measured.
BESIDES = {
    *("notes", "cautions", "summary", "reasons", "rejected", "sensitivity", "costs", "not_measured"),
    *("unfinished",),
    *("method_version", "seconds", "peak_memory_bytes", "versions", "conditions", "reason", "missing_reason"),
}


class Saved(NamedTuple, Generic[R]):
    """A saved record and its location in the store; every verb returns one."""

    id: str
    path: Path
    record: R
    created: str = ""
    """When it was written, UTC."""

    @property
    def kind(self) -> str:
        """Kind of the record, as in its path."""
        return KIND_OF[type(self.record)]

    def to_pandas(self) -> Any:
        """Convert the table of the record to a pandas DataFrame."""
        return self.record.to_pandas()

    def to_polars(self) -> Any:
        """Convert the table of the record to a Polars DataFrame."""
        return self.record.to_polars()

    def __repr__(self) -> str:
        return f"<{type(self.record).__name__} {self.id}: {self.path}>"

    def _repr_html_(self) -> str:
        return f"<p><code>{escape(self.id)}</code></p>{self.record._repr_html_()}"


def id_of(value: str | Saved[Any]) -> str:
    """Return the id of a verb's argument: the id itself, or that of a saved record.

    Raises:
        UsageError: the argument is neither.
    """
    if isinstance(value, Saved):
        return value.id
    if isinstance(value, str):
        return value
    raise UsageError(f"An id is expected, not {_shown(value)}.", "an id, or what a verb returned", "")


def uri_of(model: str | Path | Saved[Checkpoint] | Saved[Classifier]) -> str:
    """Return the URI of a model that is given as a URI, a folder, or what `train` returned.

    Raises:
        UsageError: the record is of another kind.
    """
    if isinstance(model, str | Path):
        return str(model)
    if not isinstance(model, Saved):
        raise UsageError(f"A model is expected, not {_shown(model)}.", "a model URI or a checkpoint", "")
    if model.kind not in ("checkpoint", "classifier"):
        raise UsageError(f"{model.id} is {_with_article(model.kind)}, not a model.", "a model URI or a checkpoint", "")
    return f"run:{model.id}"


class Listed(NamedTuple):
    """A record in a listing, not validated."""

    created: str
    """When it was written, UTC; empty if its file cannot be read."""
    kind: str
    id: str
    path: Path


def versions(*packages: str) -> dict[str, str]:
    """Collect the versions of Sizewise, Python and those of the given packages that are installed."""
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
        try:
            chosen = home or os.environ.get("SIZEWISE_HOME") or platformdirs.user_data_dir("sizewise", False)
            self.home = Path(chosen).expanduser().resolve()
        except RuntimeError as error:  # HOME is not set, and this user has no entry in the list of users
            raise SizewiseError(
                "This user has no home folder, and SIZEWISE_HOME is not set.",
                "a writable folder for weights and records",
                "export SIZEWISE_HOME=FOLDER",
            ) from error

    def folder(self, kind: str, record_id: str) -> Path:
        """Return the folder of a record, whether or not it exists."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}")
        if not record_id or record_id != Path(record_id).name or record_id.startswith("."):
            raise SizewiseError(f"'{record_id}' is not a record id.", "an id as printed by `sizewise runs`")
        folder = self.home / kind / record_id
        former = self.home / FORMER_FOLDERS.get(kind, kind) / record_id
        return former if (former / RECORD).is_file() and not (folder / RECORD).is_file() else folder

    def record_path(self, kind: str, record_id: str) -> Path:
        """Return the path of a record's JSON file."""
        return self.folder(kind, record_id) / RECORD

    def weights_folder(self, name: str) -> Path:
        """Return the folder of a model converted from packaged weights."""
        return self.home / "weights" / name

    def price_update_path(self) -> Path:
        """Return the path of the newest price list and model lists that `sizewise models --refresh` fetched."""
        return self.home / "catalog" / "prices.json"

    def encoded_folder(self) -> Path:
        """Return the folder of encoded training text, which is made again when it is missing."""
        return self.home / "encoded"

    def index_folder(self, key: str) -> Path:
        """Return the folder of a search index, which is made again when it is missing."""
        return self.home / "index" / key

    def clear_encoded(self) -> int:
        """Delete encoded training text, except what is being made right now, and return the bytes that were freed."""
        freed = 0
        for folder in sorted(self.encoded_folder().glob("*")):
            with contextlib.suppress(Timeout), FileLock(folder / ".lock", timeout=0):
                freed += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                shutil.rmtree(folder, ignore_errors=True)
        return freed

    def wheels_folder(self) -> Path:
        """Return the folder of downloaded wheels; without a network, users put them there by hand."""
        return self.home / "wheels"

    def exists(self, kind: str, record_id: str) -> bool:
        """Check whether a record exists; one that only other machines have is fetched from where they share records.

        Raises:
            SizewiseError: the shared storage can't be used.
        """
        return self.record_path(kind, record_id).is_file() or self.pull(kind, record_id)

    def push(self, kind: str, record_id: str) -> None:
        """Copy a record's files to SIZEWISE_ARTIFACTS_URL; a failure is only a warning, because they are safe here."""
        push_or_warn(kind, record_id, self.folder(kind, record_id))

    def pull(self, kind: str, record_id: str) -> bool:
        """Fetch a record and its files from SIZEWISE_ARTIFACTS_URL; returns whether it is there.

        Raises:
            SizewiseError: the shared storage can't be used.
        """
        shared = shared_artifacts()
        return shared is not None and shared.pull(kind, record_id, self.folder(kind, record_id))

    def write(self, record_id: str, record: R) -> Saved[R]:
        """Write a record once, after its other files.

        A record with the same facts, measured again or worded by another version, changes nothing: the first one stays.

        Raises:
            SizewiseError: another record has this id, the disk is full, or the folder cannot be written.
        """
        kind = KIND_OF[type(record)]
        path = self.record_path(kind, record_id)
        if path.is_file():
            before = self.get(type(record), record_id)
            if same_facts(before.record, record):
                return before
            raise SizewiseError(
                f"{path} already holds another {kind}.",
                "an id without a record, because records are never overwritten",
                f"remove the folder {path.parent} if you no longer need that record; then run the same command again",
            )
        created = datetime.now(UTC).isoformat(timespec="seconds")
        envelope = {
            "schema": SCHEMA,
            "kind": kind,
            "id": record_id,
            "created": created,
            "record": record.model_dump(mode="json"),
        }
        write_atomically(path, json.dumps(envelope, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
        self.push(kind, record_id)
        return Saved(record_id, path, record, created)

    def write_new(self, record: R) -> Saved[R]:
        """Write a record whose id is derived from its content; the same content is written once.

        Raises:
            SizewiseError: the disk is full, or the folder cannot be written.
        """
        kind = KIND_OF[type(record)]
        name = f"{kind}-{fingerprint([record.model_dump(mode='json')])}"
        return self.get(type(record), name) if self.exists(kind, name) else self.write(name, record)

    def get(self, record_type: type[R], record_id: str) -> Saved[R]:
        """Read a record of any schema; fields that a newer version added are ignored and stay in the file.

        Raises:
            SizewiseError: there is no such record, its file is damaged, or only a newer version can read it.
        """
        kind = KIND_OF[record_type]
        path = self.record_path(kind, record_id)
        if not self.exists(kind, record_id):
            raise SizewiseError(
                f"There is no {kind} with the id '{record_id}' in {self.home}.",
                f"the id of {_with_article(kind)}",
                "sizewise runs",
            )
        schema = SCHEMA
        try:
            envelope = json.loads(path.read_text(encoding="utf-8"))
            schema = envelope["schema"]
            if (envelope["id"], FORMER_KINDS.get(envelope["kind"], envelope["kind"])) != (record_id, kind):
                raise ValueError(f"it is the record of {envelope['kind']} {envelope['id']}")
            data = upgrade(envelope["record"], schema, record_type.__name__)
            return Saved(
                record_id, path, record_type.model_validate(data, extra="ignore"), _created(envelope["created"])
            )
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
            raise _unreadable(path, schema, error) from error

    def read(self, record_type: type[R], record_id: str) -> R:
        """Read a record without its location; see `get`."""
        return self.get(record_type, record_id).record

    def kind_of(self, record_id: str) -> str:
        """Find the kind of an id.

        Raises:
            SizewiseError: no record has this id.
        """
        here = (kind for kind in KINDS if self.record_path(kind, record_id).is_file())
        elsewhere = (kind for kind in KINDS if self.pull(kind, record_id))
        for kind in chain(here, elsewhere):
            return kind
        raise SizewiseError(
            f"There is no record with the id '{record_id}' in {self.home}.",
            "the id of a record",
            "sizewise runs",
        )

    def listing(self) -> list[Listed]:
        """List all records, oldest first; those whose file cannot be read have no time."""
        rows = []
        for kind in KINDS:
            for name in dict.fromkeys((kind, FORMER_FOLDERS.get(kind, kind))):
                for path in (self.home / name).glob(f"*/{RECORD}"):
                    if not path.is_file() or path != self.record_path(kind, path.parent.name):
                        continue
                    try:
                        created = _created(json.loads(path.read_text(encoding="utf-8"))["created"])
                    except (ValueError, KeyError, TypeError, OSError, RecursionError):
                        created = ""
                    rows.append(Listed(created, kind, path.parent.name, path))
        return sorted(rows)

    def saved(self, record_type: type[R]) -> Iterator[Saved[R]]:
        """Read all records of a type, oldest first; unreadable records are skipped."""
        for listed in self.listing():
            if listed.kind == KIND_OF[record_type]:
                with contextlib.suppress(SizewiseError):
                    yield self.get(record_type, listed.id)

    def write_rows(self, folder: Path, name: str, rows: Iterable[Record]) -> Path:
        """Write rows as JSON Lines next to the record that they belong to, atomically."""
        path = folder / name
        write_atomically(path, (row.model_dump_json() + "\n" for row in rows))
        return path

    def read_rows(self, folder: Path, name: str, row_type: type[R]) -> list[R]:
        """Read rows written by `write_rows`, in the schema of the record that they belong to.

        Raises:
            SizewiseError: the file is missing or damaged, or only a newer version can read it.
        """
        self._fetch(folder)
        path, schema = folder / name, SCHEMA
        try:
            schema = _schema_of(folder)
            if schema == SCHEMA:
                return [row_type.model_validate_json(line, extra="ignore") for line in read_lines(path)]
            rows = [upgrade(json.loads(line), schema, row_type.__name__) for line in read_lines(path)]
            return [row_type.model_validate(row, extra="ignore") for row in rows]
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(path, schema, error) from error

    def rows(self, folder: Path, name: str, row_type: type[R]) -> RowFile[R]:
        """Open rows written by `write_rows` as a sequence that parses a row when it is asked for.

        Raises:
            SizewiseError: the file is missing, or only a newer version can read it.
        """
        self._fetch(folder)
        path, schema = folder / name, SCHEMA
        try:
            schema = _schema_of(folder)
            if schema > SCHEMA or not path.is_file():
                raise ValueError("no such file")
        except ValueError as error:
            raise _unreadable(path, schema, error) from error
        if schema == SCHEMA:
            return RowFile(path, row_type)
        return RowFile(path, row_type, lambda row: upgrade(row, schema, row_type.__name__))

    def _fetch(self, folder: Path) -> None:
        """Fetch the record of a folder if only other machines have it."""
        if artifacts_url() and folder.parent.parent == self.home and folder.parent.name in KINDS:
            self.exists(folder.parent.name, folder.name)

    def reading_folder(self, key: str) -> Path:
        """Return the folder in which files are read before they become a dataset."""
        return self.home / "reading" / key

    def adopt(self, kind: str, record_id: str, folder: Path) -> Path:
        """Move a folder of finished files to where a record's files are; the record itself is written last."""
        target = self.folder(kind, record_id)
        make_folder(target.parent)
        if target.exists():  # a write that was killed before its record
            shutil.rmtree(target)
        folder.replace(target)
        return target

    def ledger(self, kind: str, record_id: str, any_thread: bool = False) -> Ledger:
        """Open the ledger of a record that is still growing."""
        return Ledger(self.folder(kind, record_id) / "ledger.sqlite", any_thread)

    def votes_ledger(self, round_id: str) -> Ledger | SharedLedger:
        """Open the ledger of a judging round's votes: in the shared database, if there is one."""
        return shared_ledger(f"round/{round_id}") or self.ledger("round", round_id, any_thread=True)

    @contextlib.contextmanager
    def service_ledger(self) -> Iterator[Ledger | SharedLedger]:
        """Open the ledger of user feedback (thumbs up or down): in the shared database, if there is one."""
        ledger = shared_ledger("service") or Ledger(self.home / "service" / "ledger.sqlite")
        try:
            yield ledger
        finally:
            ledger.close()

    @contextlib.contextmanager
    def lock(self, kind: str, record_id: str) -> Iterator[None]:
        """Lock a record, so that no other process writes it.

        Raises:
            SizewiseError: another process holds the lock.
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


def _shown(value: object) -> str:
    return f"{type(value).__name__} {value!r:.60}"


def _with_article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _schema_of(folder: Path) -> int:
    """Read the schema of the files in a folder; the current one if the record doesn't exist yet."""
    path = folder / RECORD
    if not path.is_file():
        return SCHEMA
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))["schema"]
        return schema if isinstance(schema, int) else 0
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} states no schema") from error


def _created(written: object) -> str:
    """Check the time of an envelope, UTC, and return it as it is written."""
    if not isinstance(written, str) or datetime.fromisoformat(written).tzinfo is None:
        raise ValueError(f"its time is {written!r}")
    return written


def same_facts(one: Record, other: Record) -> bool:
    """Check whether two records of a type say the same, whatever the words and however long it took."""
    return _facts(one) == _facts(other)


def _facts(record: Record) -> dict[str, Any]:
    """Return what two records with one id must have in common: all but wording, time taken and versions."""
    facts: dict[str, Any] = _without_words(record.model_dump())
    if isinstance(record, Recommendation | Study):
        facts["rejected"] = sorted(record.rejected)
    return facts


def _without_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_words(one) for key, one in value.items() if key not in BESIDES}
    return [_without_words(one) for one in value] if isinstance(value, list | tuple) else value


def _unreadable(path: Path, schema: object, error: Exception) -> SizewiseError:
    if isinstance(schema, int) and schema > SCHEMA:
        return SizewiseError(
            f"A newer version of Sizewise wrote {path} (schema {schema}), which this version cannot read.",
            f"schema {SCHEMA} or lower",
            "update Sizewise, or run the command with the version that wrote it",
        )
    return damaged(path, error)
