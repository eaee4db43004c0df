"""Private, atomic files: readable by their owner only, and never left half written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; new folders are accessible to their owner only.

    Raises:
        SizewiseError: The folder cannot be created.
    """
    try:
        absent = [folder] if not folder.is_dir() else []
        while absent and not absent[-1].parent.exists():
            absent.append(absent[-1].parent)
        for path in reversed(absent):
            path.mkdir(PRIVATE_FOLDER, exist_ok=True)
    except OSError as error:
        raise SizewiseError(
            f"The folder {folder} cannot be created: {error.strerror or error}.",
            "a writable location",
            "export SIZEWISE_HOME=FOLDER",
        ) from error


def open_private(path: str, flags: int) -> int:
    """Open a file; a new one is readable by its owner only. Use as `open(path, "a", opener=open_private)`."""
    return os.open(path, flags, PRIVATE_FILE)


def make_private(path: Path) -> None:
    """Create an empty private file, or revoke other users' access to an existing one."""
    os.close(open_private(str(path), os.O_RDWR | os.O_CREAT))
    if os.name == "posix" and path.stat().st_mode & OTHERS:
        path.chmod(PRIVATE_FILE)


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file as hexadecimal digits, without loading it into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) for each line of JSON Lines text that isn't blank; numbers start at 1.

    Only a line feed ends a line: U+2028 and similar characters may occur inside a JSON string
    (https://jsonlines.org). A byte order mark at the start of a line, left behind where files were joined, is dropped.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.lstrip("\ufeff")
        if line.strip():
            yield number, line


def read_jsonl(path: Path, *, skip_invalid: bool = False) -> list[tuple[int, Any]]:
    """Parse a JSON Lines file into (line number, value) pairs.

    Args:
        path: A UTF-8 file, with or without a byte order mark.
        skip_invalid: Skip lines that aren't valid JSON, such as the last line of a log whose writer was killed.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file isn't UTF-8, or a line isn't valid JSON; the message names the line.
    """
    rows: list[tuple[int, Any]] = []
    for number, line in numbered_lines(path.read_text(encoding="utf-8-sig")):
        try:
            rows.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            if not skip_invalid:
                raise ValueError(f"line {number} is not valid JSON ({error})") from error
    return rows


def read_lines(path: Path) -> list[str]:
    """Read the lines of a JSON Lines file that aren't blank.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file isn't UTF-8.
    """
    return [line for _, line in numbered_lines(path.read_text(encoding="utf-8-sig"))]


def whole_characters(text: str) -> str:
    """Make a text encodable as UTF-8: join surrogate pairs and replace unpaired surrogates with U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def write_atomically(path: Path, text: str | Iterable[str]) -> None:
    """Write a private text file; if the process is killed, either the old or the new content is on disk.

    Args:
        path: The file.
        text: The text, as a whole or in parts.

    Raises:
        SizewiseError: The disk is full or the folder isn't writable.
    """
    make_folder(path.parent)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                for part in [text] if isinstance(text, str) else text:
                    file.write(whole_characters(part))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> SizewiseError:
    """Return the error of a file that cannot be written."""
    free = shutil.disk_usage(path.parent).free
    return SizewiseError(
        f"{path} cannot be written: {error.strerror or error} ({free / 1e6:.0f} MB free).",
        "a writable folder with enough free space",
        "export SIZEWISE_HOME=FOLDER, or free some space; then run the same command again",
    )


def _sync(folder: Path) -> None:
    """Flush a folder's directory entries to disk; Windows does this itself and cannot open folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
