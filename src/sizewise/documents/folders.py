"""List the files of folders, and what in them is not read: links that lead elsewhere, and what has no access."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from sizewise.documents.addresses import is_url
from sizewise.errors import SizewiseError

LINK_FOLDER, LINK_OUTSIDE = "a link to a folder", "a link to a file outside of the folder"
NOT_REGULAR = "no regular file"
_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
Refusals = list[tuple[str, str]]


def named_files(
    paths: Sequence[Path | str], excluded: Sequence[Path] = (), refused: Refusals | None = None
) -> Iterator[tuple[Path, str]]:
    """Yield (path, name) of each file; the name is relative to the given folder. Hidden files are left out.

    Args:
        paths: Files and folders.
        excluded: Folders inside of them that aren't read, such as the one in which results are stored.
        refused: Takes (name, reason) of what is not read.

    Raises:
        SizewiseError: A path doesn't exist, or is neither a file nor a folder.
    """
    refused = [] if refused is None else refused
    for given in paths:
        if is_url(given):
            continue
        root = Path(given).expanduser()
        _check(root)
        if root.is_dir():
            for path in _files(root, [folder.resolve() for folder in excluded], refused):
                yield path, path.relative_to(root).as_posix()
        else:
            yield root, root.name


def _check(root: Path) -> None:
    try:
        mode = root.stat().st_mode
    except OSError as error:
        if root.is_symlink() or not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise SizewiseError(
                f"{root} cannot be opened ({error.strerror}).", "an existing file or folder", "sizewise read PATH..."
            ) from error
        raise SizewiseError(f"{root} doesn't exist.", "an existing file or folder", "sizewise read PATH...") from error
    kind = next((name for is_kind, name in _SPECIAL if is_kind(mode)), "")
    if kind:
        raise SizewiseError(
            f"{root} is {kind}, which can be read only once.",
            "a file or folder, because its name says what it holds and a reading can be resumed",
            "save what it delivers to a file, such as data.jsonl; then run sizewise read data.jsonl",
        )


def _files(root: Path, excluded: list[Path], refused: Refusals) -> Iterator[Path]:
    """Return the files below a folder, sorted."""
    found: list[Path] = []
    inside = root.resolve()

    def unreadable(error: OSError) -> None:
        where = Path(error.filename or root)
        name = where.relative_to(root).as_posix() if where.is_relative_to(root) else f"{where}"
        refused.append((name, f"a folder that is unreadable ({error.strerror})"))

    for parent, folders, files in os.walk(root, onerror=unreadable):
        at = Path(parent)
        kept = []
        for name in sorted(folders):
            path = at / name
            if name.startswith("."):
                continue
            if path.is_symlink():
                refused.append((path.relative_to(root).as_posix(), LINK_FOLDER))
            elif path.resolve() not in excluded:
                kept.append(name)
        folders[:] = kept
        for name in files:
            path = at / name
            reason = "" if name.startswith(".") else _refusal(path, inside)
            if reason:
                refused.append((path.relative_to(root).as_posix(), reason))
            elif not name.startswith("."):
                found.append(path)
    refused.sort()
    return iter(sorted(found))


def _refusal(path: Path, inside: Path) -> str:
    """Return why a file of a folder is not read, empty if it is."""
    if path.is_symlink():
        if not path.exists():
            return "a link that leads nowhere"
        if not path.resolve().is_relative_to(inside):
            return LINK_OUTSIDE
    return "" if path.is_file() else NOT_REGULAR
