"""Audit packs: zip files of records and items, written as they are, and read without trust."""

from __future__ import annotations

import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.store import Store, make_folder

MANIFEST, README_NAME = "manifest.json", "README.txt"
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_ENTRIES = 100_000
MAX_UNPACKED_BYTES = 2**30
MAX_RATIO, FREE_BYTES = 200, 16 * 2**20
"""A pack may unpack to so many times its own size, and to FREE_BYTES in any case."""
MAX_LINE_BYTES, MAX_LINES = 16 * 2**20, 500_000
CHUNK = 2**20
_NAME = re.compile(r"[\w][\w.\-]*/[\w][\w.\-]*/[\w][\w.\-]*")
README = """About this archive
==================

It contains the evidence for {root}: all records as they were written, the measured items, and manifest.json with the
SHA-256 of each file. To check the hashes and recompute every number, without a model or network access, install
Sizewise with the extra [study] and run:

    sizewise audit {name} --verify
"""


class Manifest(NamedTuple):
    """What a pack says that it holds."""

    root: str
    """Id of the packed result."""
    files: dict[str, str]
    """Path -> SHA-256."""


class _Refused(ValueError):
    """The pack is hostile or damaged."""


def write_pack(store: Store, root: str, files: dict[str, str], paths: Sequence[Path], out: Path) -> None:
    """Write a pack.

    Args:
        store: where the files are.
        root: id of the packed result.
        files: path -> SHA-256 of each file.
        paths: the files.
        out: zip file to write.

    Raises:
        SizewiseError: the file can't be written.
    """
    make_folder(out.resolve().parent)
    manifest = json.dumps({"schema": 1, "root": root, "files": files}, indent=1)
    try:
        temporary = out.resolve().with_name(f".{out.name}.{os.getpid()}")
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(MANIFEST, manifest)
            archive.writestr(README_NAME, README.format(root=root, name=out.name))
            for path in paths:
                archive.write(path, path.relative_to(store.home).as_posix())
        temporary.replace(out.resolve())
    except OSError as error:
        raise SizewiseError(
            f"{out} cannot be written: {error}.",
            "a writable path with enough disk space",
            "sizewise audit ID --out FILE",
        ) from error


def unpack(path: Path, folder: Path) -> Manifest:
    """Unpack the files that the manifest lists, in bounded memory.

    Refused are names outside the folder, names that occur twice, links, encrypted files, lines and files beyond the
    limits, and archives that unpack to far more than their size.

    Raises:
        SizewiseError: the pack is hostile or damaged.
    """
    try:
        budget = min(MAX_UNPACKED_BYTES, FREE_BYTES + MAX_RATIO * path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(archive)
            manifest = _read_manifest(archive, entries)
            declared = sum(entries[name].file_size for name in manifest.files if name in entries)
            if declared > budget:
                raise _Refused(f"it unpacks to {declared:,} bytes, more than {budget:,}")
            for name in manifest.files:
                if not _NAME.fullmatch(name):
                    raise _Refused(f"a file named {name!r:.80}")
                if name not in entries:
                    raise _Refused(f"the manifest lists {name!r:.80}, which it doesn't hold")
                target = folder / name
                make_folder(target.parent)
                with archive.open(entries[name]) as source, target.open("xb") as copy:
                    _copy(source, copy, name)
            return manifest
    except (OSError, KeyError, ValueError, RecursionError, RuntimeError, NotImplementedError, EOFError, MemoryError,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise SizewiseError(
            f"{path} is not a readable audit pack: {str(error) or type(error).__name__}.",
            "a file written by `sizewise audit ID --out FILE`",
            "sizewise audit ID --out FILE",
        ) from error


def _checked_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name; none occurs twice, is a link or is encrypted."""
    listed = archive.infolist()
    if len(listed) > MAX_ENTRIES:
        raise _Refused(f"{len(listed):,} files, more than {MAX_ENTRIES:,}")
    entries: dict[str, zipfile.ZipInfo] = {}
    folded: set[str] = set()
    for entry in listed:
        mode = entry.external_attr >> 16
        if entry.filename.lower() in folded:
            raise _Refused(f"two files named {entry.filename!r:.80}")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _Refused(f"{entry.filename!r:.80} is a link or a folder, not a file")
        if entry.flag_bits & 1:
            raise _Refused(f"{entry.filename!r:.80} is encrypted")
        folded.add(entry.filename.lower())
        entries[entry.filename] = entry
    return entries


def _read_manifest(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> Manifest:
    if MANIFEST not in entries:
        raise _Refused(f"it holds no {MANIFEST}")
    with archive.open(entries[MANIFEST]) as file:
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    if len(raw) > MAX_MANIFEST_BYTES:
        raise _Refused(f"its manifest is larger than {MAX_MANIFEST_BYTES:,} bytes")
    told = json.loads(raw)
    files = told.get("files") if isinstance(told, dict) else None
    if not isinstance(files, dict) or not isinstance(told.get("root"), str):
        raise _Refused("its manifest names no root and files")
    if not all(isinstance(value, str) for value in files.values()):
        raise _Refused("its manifest lists a file without a hash")
    return Manifest(told["root"], files)


def _copy(source: IO[bytes], target: IO[bytes], name: str) -> None:
    """Copy a file in pieces; a line of rows, or a whole record, must not be longer than MAX_LINE_BYTES."""
    length = lines = 0
    while piece := source.read(CHUNK):
        parts = piece.split(b"\n")
        lines += len(parts) - 1
        longest = max(length + len(parts[0]), *map(len, parts[1:])) if len(parts) > 1 else length + len(piece)
        length = len(parts[-1]) if len(parts) > 1 else length + len(piece)
        if longest > MAX_LINE_BYTES and not name.endswith(".html"):
            raise _Refused(f"{name} has a line of more than {MAX_LINE_BYTES:,} bytes")
        if lines > MAX_LINES:
            raise _Refused(f"{name} has more than {MAX_LINES:,} lines")
        target.write(piece)
