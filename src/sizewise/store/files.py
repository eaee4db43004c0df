"""Files that only their owner may read, written so that a kill at any moment leaves the old file or the new one."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from sizewise.errors import SizewiseError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_folder(folder: Path) -> None:
    """Make a folder with its parents; those that are new are their owner's alone.

    Raises:
        SizewiseError: it cannot be made.
    """
    try:
        missing = [folder] if not folder.is_dir() else []
        while missing and not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        for one in reversed(missing):
            one.mkdir(PRIVATE_FOLDER, exist_ok=True)
    except OSError as error:
        raise SizewiseError(
            f"The folder {folder} cannot be made: {error.strerror or error}.",
            "a place that can be written",
            "export SIZEWISE_HOME=FOLDER",
        ) from error


def open_private(path: str, flags: int) -> int:
    """Open a file that is its owner's alone if it is new: `open(path, "a", opener=open_private)`."""
    return os.open(path, flags, PRIVATE_FILE)


def make_private(path: Path) -> None:
    """Make an empty file that is its owner's alone, or take everybody else's rights from the one that is there."""
    os.close(open_private(str(path), os.O_RDWR | os.O_CREAT))
    if os.name == "posix" and path.stat().st_mode & OTHERS:
        path.chmod(PRIVATE_FILE)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a file of JSON lines that are not blank.

    Only a line feed ends a line: U+2028 and the like may stand within one (https://jsonlines.org).

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8.
    """
    return [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]


def whole_characters(text: str) -> str:
    """Return a text that UTF-8 can write: halves of characters beyond 16 bits are joined, or become U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, readable for its owner alone; a kill at any moment leaves the old file or the new one.

    Raises:
        SizewiseError: the disk is full or the folder cannot be written.
    """
    make_folder(path.parent)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(whole_characters(text))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync(path.parent)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free
        raise SizewiseError(
            f"{path} cannot be written: {error.strerror or error} ({free / 1e6:.0f} MB free).",
            "a folder with room that can be written",
            "export SIZEWISE_HOME=FOLDER, or free some room; then run the same command again",
        ) from error


def _sync(folder: Path) -> None:
    """Bring a folder's new names to the disk; Windows does so by itself and opens no folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
