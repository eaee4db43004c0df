"""Unpack archives (ZIP, tar, gzip) into files to read, with limits on members, sizes, ratios and names."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol

from sizewise.documents import row_files
from sizewise.documents.containers import MAX_MEMBERS, check_members
from sizewise.documents.parts import CannotConvert

ZIP_KINDS = (".zip",)
TAR_KINDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SINGLE_KINDS = (".gz", ".bz2", ".xz")
KINDS = (*ZIP_KINDS, *TAR_KINDS, *SINGLE_KINDS)
MAX_TOTAL_BYTES = 4 * 2**30
MAX_MEMBER_BYTES = 512 * 2**20
MAX_DEPTH = 2
"""Archives inside archives are read to this depth."""
MAX_RATIO, RATIO_FROM = 150, 16 * 2**20
CHUNK = 1 << 20
_DRIVE = re.compile(r"[A-Za-z]:")
_IGNORED = ("__MACOSX",)
Named = tuple[Path, str]


class _Full(CannotConvert):
    """An archive of which nothing more is unpacked."""


_DAMAGED = (
    *(CannotConvert, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)


def _reason(error: Exception) -> str:
    """Word why a member cannot be unpacked."""
    if isinstance(error, CannotConvert):
        return f"{error}"
    if isinstance(error, zipfile.BadZipFile | zlib.error | lzma.LZMAError | EOFError):
        return f"a damaged member of an archive ({type(error).__name__})"
    return f"a member of an archive that cannot be read ({str(error)[:80]})"


def _safe(name: str, max_bytes: int) -> str:
    """Return a part of a file name that every file system takes: without separators and controls, and short."""
    plain = "".join("_" if letter in "/\\" or not letter.isprintable() else letter for letter in name)
    return plain.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")


class Readable(Protocol):
    """An open member of an archive."""

    def read(self, size: int, /) -> bytes:
        """Read at most this many bytes."""


def archive_kind(path: Path) -> str:
    """Return the kind of an archive by its name, empty if it is none."""
    name = path.name.lower()
    if name.endswith(row_files.KINDS):
        return ""  # rows are decompressed while they are read
    return next((kind for kind in (*TAR_KINDS, *ZIP_KINDS, *SINGLE_KINDS) if name.endswith(kind)), "")


class Unpacked:
    """Replaces archives in a list of files by their members, in a private temporary folder.

    Args:
        folder: Where the temporary folder is made; that of the system by default.

    Attributes:
        origins: Path of an unpacked file -> the archive and the name in it.
        refused: (name, reason) of archives and members that were not unpacked.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sizewise-archive-", dir=folder)
        self._count = self._bytes = 0
        self.origins: dict[Path, str] = {}
        self.refused: list[tuple[str, str]] = []

    def __enter__(self) -> Unpacked:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def files(self, given: Iterable[Named], depth: int = 0) -> Iterator[Named]:
        """Yield files, and the members of archives in their place, as (path, name)."""
        for path, name in given:
            kind = archive_kind(path)
            if not kind:
                yield path, name
            elif depth >= MAX_DEPTH:
                self.refused.append((name, f"an archive inside {MAX_DEPTH} others"))
            else:
                yield from self.files(self._members(path, name, kind), depth + 1)

    def _members(self, path: Path, name: str, kind: str) -> Iterator[Named]:
        try:
            if kind in ZIP_KINDS:
                yield from self._zip(path, name)
            elif kind in TAR_KINDS:
                yield from self._tar(path, name)
            else:
                yield from self._single(path, name, kind)
        except CannotConvert as error:
            self.refused.append((name, f"{kind}, {error}"))
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
            self.refused.append((name, f"{kind}, damaged ({type(error).__name__})"))
        except (OSError, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
            self.refused.append((name, f"{kind}, cannot be read ({str(error)[:80]})"))

    def _zip(self, path: Path, name: str) -> Iterator[Named]:
        with zipfile.ZipFile(path) as archive:
            for member in check_members(archive, MAX_TOTAL_BYTES):
                if member.external_attr >> 28 == 0xA:
                    self.refused.append((f"{name}/{member.filename}", "a link"))
                elif member.flag_bits & 1:
                    self.refused.append((f"{name}/{member.filename}", "protected by a password"))
                elif self._wanted(member.filename, name):
                    try:
                        with archive.open(member) as content:
                            unpacked = self._unpack(content, member.filename, path, name, member.compress_size)
                    except _Full:
                        raise
                    except _DAMAGED as error:
                        self.refused.append((f"{name}/{member.filename[:100]}", _reason(error)))
                    else:
                        yield unpacked

    def _tar(self, path: Path, name: str) -> Iterator[Named]:
        size = path.stat().st_size
        with tarfile.open(path, "r|*") as archive:  # a stream: hard links and sparse tricks cannot seek
            for number, member in enumerate(archive, start=1):
                if number > MAX_MEMBERS:
                    raise CannotConvert(f"holds more than {MAX_MEMBERS:,} files")
                if member.isdir():
                    continue
                content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
                if content is None:
                    what = "a link" if member.issym() or member.islnk() else "not a regular file"
                    self.refused.append((f"{name}/{member.name}", what))
                elif self._wanted(member.name, name):
                    try:
                        unpacked = self._unpack(content, member.name, path, name, size)
                    except _Full:
                        raise
                    except CannotConvert as error:
                        self.refused.append((f"{name}/{member.name[:100]}", str(error)))
                    else:
                        yield unpacked

    def _single(self, path: Path, name: str, kind: str) -> Iterator[Named]:
        member = path.name[: -len(kind)]
        with {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile}[kind](path) as content:
            yield self._unpack(content, member, path, name[: -len(kind)], path.stat().st_size, named=False)

    def _wanted(self, member: str, name: str) -> bool:
        """Return whether a member is read; hidden files are left out, as in folders."""
        parts = PurePosixPath(member.replace("\\", "/")).parts
        if member.startswith(("/", "\\")) or _DRIVE.match(member) or ".." in parts or "\0" in member:
            self.refused.append((f"{name}/{member[:100]}", "its name points outside of the archive"))
            return False
        return not any(part.startswith(".") or part in _IGNORED for part in parts)

    def _unpack(self, content: Readable, member: str, path: Path, name: str, packed: int, named: bool = True) -> Named:
        """Write a member to the temporary folder, and check what it really unpacks to."""
        self._count += 1
        suffix = archive_kind(Path(member)) or PurePosixPath(member).suffix
        stem = _safe(PurePosixPath(member).stem, 150) or "member"
        target = Path(self._folder.name) / f"{self._count}" / f"{stem}{_safe(suffix, 40)}"
        target.parent.mkdir(mode=0o700)
        size = 0
        with open(target, "wb", opener=lambda file, flags: os.open(file, flags, 0o600)) as out:
            while chunk := content.read(CHUNK):
                size += len(chunk)
                self._bytes += len(chunk)
                if size > MAX_MEMBER_BYTES:
                    raise CannotConvert(f"{member[:60]} is larger than {MAX_MEMBER_BYTES // 2**20} MB")
                if size > RATIO_FROM and size > MAX_RATIO * max(1, packed):
                    raise CannotConvert(f"{member[:60]} is compressed more than {MAX_RATIO} times, as in a bomb")
                if self._bytes > MAX_TOTAL_BYTES:
                    raise _Full(f"unpacks to more than {MAX_TOTAL_BYTES // 2**30} GB")
                out.write(chunk)
        source = self.origins.get(path, f"{path}")
        self.origins[target] = f"{source}/{member}" if named else source
        return target, f"{name}/{PurePosixPath(member.replace(chr(92), '/'))}" if named else name
