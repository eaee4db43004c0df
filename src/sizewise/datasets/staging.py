"""Rows as they are read, on disk and with a journal: reading that was killed goes on after the last complete file."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sizewise.documents import Reading, ReadOptions
from sizewise.documents.folders import named_files
from sizewise.documents.personal_data import Tokens
from sizewise.errors import SizewiseError, shown_path
from sizewise.progress import pulse
from sizewise.records import Document, Example, RejectedRow, fingerprint
from sizewise.store import RowFile, Store, make_folder, open_private, read_jsonl

JOURNAL, TEMPORARY = "progress.jsonl", "unpacked"
EVERY_SECONDS = 1.0
WAIT_SECONDS = 120.0
"""Longest wait for another process that reads the same files."""
KEEP_SECONDS = 7 * 24 * 3600.0
_TYPES = {"documents": Document, "examples": Example, "rejected": RejectedRow}


class StagedReading(Reading):
    """A reading whose rows are on disk and that remembers which files are complete.

    Args:
        folder: Folder of the staged rows.
        number: Number of the source among those of the command.
        tokens: The tokens that stand for personal data in all sources.

    Attributes:
        is_complete: Whether the whole source was read before.
    """

    def __init__(self, folder: Path, number: int, tokens: Tokens | None = None) -> None:
        self._journal, self._folder, self._number = folder / f"{number}.{JOURNAL}", folder, number
        lines = [line for _, line in read_jsonl(self._journal, skip_invalid=True)] if self._journal.exists() else []
        last = lines[-1] if lines else None
        self._files = {name: self._open(name, last) for name in _TYPES}
        super().__init__(self._files["documents"], self._files["examples"], rejected=self._files["rejected"])
        self.tokens = tokens if tokens is not None else self.tokens
        self.tokens.restore((kind, key) for line in lines for kind, key in line["tokens"])
        self.is_complete = bool(last and last["complete"])
        self._done = {file for line in lines for file in line["files"]}
        self._new: list[str] = []
        self.folder = folder / f"{number}.{TEMPORARY}"
        shutil.rmtree(self.folder, ignore_errors=True)  # of a process that was killed
        make_folder(self.folder)
        if last:
            self.notes = [note for line in lines for note in line["notes"]]
            self.not_read, self.forms = last["not_read"], Counter(last["forms"])
            self.skipped = last["skipped"]
            self.removed, self.removed_files = Counter(last["removed"]), Counter(last["removed_files"])
        self._noted, self._written = len(self.notes), time.monotonic()

    def _open(self, name: str, last: dict[str, Any] | None) -> RowFile[Any]:
        path = self._folder / f"{self._number}.{name}.jsonl"
        return RowFile(path, _TYPES[name], new=last is None, size=last["sizes"][name] if last else None)

    def is_done(self, file: str) -> bool:
        """Check whether a file was read completely before."""
        return file in self._done

    def finish(self, file: str) -> None:
        """Record that a file was read completely; it is on disk within a second or two."""
        self._new.append(file)
        if time.monotonic() - self._written >= EVERY_SECONDS:
            self._write()

    def _write(self, complete: bool = False) -> None:
        line = {
            "files": self._new,
            "sizes": {name: rows.flush() for name, rows in self._files.items()},
            "not_read": self.not_read,
            "skipped": self.skipped,
            "tokens": self.tokens.take_new(),
            "complete": complete,
            "notes": self.notes[self._noted :],
            "forms": self.forms,
            "removed": self.removed,
            "removed_files": self.removed_files,
        }
        with open(self._journal, "a", encoding="utf-8", opener=open_private) as journal:
            journal.write(json.dumps(line) + "\n")
        self._new, self._noted, self._written = [], len(self.notes), time.monotonic()

    def complete(self) -> None:
        """Record that the whole source was read."""
        self._write(complete=True)

    def close(self) -> None:
        """Close the files."""
        for rows in self._files.values():
            rows.close()


@contextlib.contextmanager
def staged(store: Store, sources: Sequence[str | Path], options: ReadOptions, version: int) -> Iterator[Path]:
    """Provide the folder in which sources are read; an interrupted reading of the same files finds its rows there.

    The folder is removed at the end, unless the process is killed.

    Raises:
        SizewiseError: Another process goes on reading the same files.
    """
    home = store.home.resolve()
    question = options.question.model_dump() if options.question else None
    facts = asdict(replace(options, question=None)) | {"question": question}
    key = fingerprint([version, facts, [_state(source, home) for source in sources]], 16)
    folder = store.reading_folder(key)
    make_folder(folder)
    _remove_old(folder.parent, folder)
    lock = FileLock(folder.parent / f".{key}.lock")
    _acquire(lock)
    try:
        make_folder(folder)
        yield folder
    except KeyboardInterrupt:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def _acquire(lock: FileLock) -> None:
    """Wait for other processes that read the same files, such as parallel jobs that evaluate on one file.

    Raises:
        SizewiseError: they aren't done in time.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            lock.acquire(timeout=0.2)
        except Timeout as error:
            pulse()
            if time.monotonic() > deadline:
                raise SizewiseError(
                    f"Another process has been reading the same files for {WAIT_SECONDS:g} s.",
                    "one process at a time for large files",
                    "wait until it is done, then run the same command again",
                ) from error
        else:
            return


def _state(source: str | Path, home: Path) -> list[Any]:
    """Return what changes when a source changes: names, sizes and times of its files."""
    path = Path(source).expanduser()
    if not path.exists():
        return [shown_path(source)]
    files = [path] if path.is_file() else [file for file, _ in named_files([path], [home])]
    states = []
    for file in files:
        with contextlib.suppress(OSError):
            stat = file.stat()
            states.append([shown_path(file.relative_to(path)), stat.st_size, stat.st_mtime_ns])
    return [shown_path(path.resolve()), states]


def _remove_old(folder: Path, but: Path) -> None:
    """Remove what readings that were never resumed left behind."""
    for other in folder.iterdir():
        with contextlib.suppress(OSError):
            if other != but and other.is_dir() and time.time() - other.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
