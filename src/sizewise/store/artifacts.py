"""Copies of records on object storage, so that several machines use the same ones.

SIZEWISE_ARTIFACTS_URL is any URL that fsspec opens: `s3://BUCKET/PREFIX`, `gs://` or `az://` (extra [s3]), or
`file:///FOLDER` on a shared disk. A record is one object, KIND/ID.json, that lists its files; each file is stored under
its SHA-256. The list is written last and in one piece: readers find a record whole or not at all, and check its files.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.privacy import is_loopback, offline
from sizewise.store.files import make_folder, sha256_of
from sizewise.store.sharing import shared_url

VARIABLE = "SIZEWISE_ARTIFACTS_URL"
RECORD = "record.json"
FORMAT = 1
RUST = ("s3", "gs", "az", "abfs")
"""Kinds of URLs that obstore opens: S3 and what speaks like it, Google Cloud Storage, Azure."""
ABSENT_S = 10.0
"""How long a record that wasn't there isn't looked for again."""
LEDGER = "ledger.sqlite"
GROWING = {"round", "conversations"}
"""Kinds whose votes arrive after the record: they are copied only if a shared database holds the votes."""
LOCAL_STATE = {"state"}
"""Folders of a record that only serve to resume it on this machine."""
_LOG = logging.getLogger("sizewise.store")


def artifacts_url() -> str:
    """Return the URL of the copies; empty: there are none."""
    return os.environ.get(VARIABLE, "").strip()


def shared_artifacts() -> Artifacts | None:
    """Open the copies that the environment names; None if it names none.

    Raises:
        UsageError: the URL isn't valid.
        MissingExtraError: the package for this kind of URL isn't installed.
    """
    url = artifacts_url()
    return _opened(url) if url else None


@lru_cache(maxsize=4)
def _opened(url: str) -> Artifacts:
    return Artifacts(url)


class FileEntry(NamedTuple):
    """A file of a record."""

    sha256: str
    bytes: int


class Artifacts:
    """Records and their files at a URL.

    Args:
        url: a folder or a bucket with a prefix, as fsspec reads it.

    Raises:
        UsageError: the URL isn't valid.
        MissingExtraError: the package for this kind of URL isn't installed.
    """

    def __init__(self, url: str) -> None:
        _check_form(url)
        self.url = url.rstrip("/")
        self._absent: dict[str, float] = {}
        scheme = urlsplit(url).scheme
        _check_offline(self.url, scheme)
        try:
            from fsspec.core import url_to_fs

            if scheme in RUST:  # no package of the provider's own is needed
                from obstore.fsspec import register

                register(scheme)
            self._files, self._root = url_to_fs(self.url)
        except ImportError as error:
            if scheme in RUST or error.name == "fsspec":
                raise MissingExtraError("obstore", "s3") from error
            raise UsageError(f"{VARIABLE}={url}: {error}.", "storage whose package is installed", "") from error
        except (ValueError, OSError) as error:  # some kinds connect at once
            raise UsageError(
                f"{VARIABLE}={url}: {error}.",
                "s3://BUCKET/PREFIX or file:///FOLDER",
                f"export {VARIABLE}=s3://BUCKET/PREFIX",
            ) from error

    def has(self, kind: str, record_id: str) -> bool:
        """Check whether a record is there; one that wasn't a moment ago isn't looked for again.

        Raises:
            SizewiseError: the storage can't be reached.
        """
        path = self._list_path(kind, record_id)
        if time.monotonic() - self._absent.get(path, -ABSENT_S) < ABSENT_S:
            return False
        with self._using():
            found = bool(self._files.exists(path))
        if not found:
            self._absent[path] = time.monotonic()
        return found

    def ids(self, kind: str) -> list[str]:
        """Return the ids of all records of a kind, sorted.

        Raises:
            SizewiseError: the storage can't be reached.
        """
        with self._using():
            self._files.invalidate_cache()
            try:
                found = self._files.ls(f"{self._root}/{kind}", detail=False)
            except FileNotFoundError:
                return []
        return sorted(PurePosixPath(path).stem for path in found if str(path).endswith(".json"))

    def push(self, kind: str, record_id: str, folder: Path) -> bool:
        """Copy a record and its files, or files that were added to it, such as a report; returns whether anything was.

        Where another machine's record has the same id, that one stays.

        Raises:
            SizewiseError: the storage can't be reached or written.
        """
        if kind in GROWING and not shared_url():
            return False
        path, files = self._list_path(kind, record_id), _files_of(folder)
        with self._using():
            there = self._listing(path, kind, record_id) if self._files.exists(path) else {}
            if there and {name: file.stat().st_size for name, file in files.items()} == {
                name: one.bytes for name, one in there.items()
            }:
                return False
            listing = {name: {"sha256": sha256_of(file), "bytes": file.stat().st_size} for name, file in files.items()}
            if there and there[RECORD].sha256 != listing[RECORD]["sha256"]:
                return False
            for name, file in files.items():
                stored = self._file_path(str(listing[name]["sha256"]))
                if not self._files.exists(stored):
                    self._put(file, stored)
            self._put_list(path, {"format": FORMAT, "kind": kind, "id": record_id, "files": listing})
        self._absent.pop(path, None)
        return True

    def pull(self, kind: str, record_id: str, folder: Path) -> bool:
        """Copy a record and its files to this machine, the record itself last; returns whether it is there.

        Raises:
            SizewiseError: the storage can't be reached, or a file isn't the one that was stored.
        """
        if not self.has(kind, record_id):
            return False
        path = self._list_path(kind, record_id)
        with self._using():
            listing = self._listing(path, kind, record_id)
            make_folder(folder)
            for name, stored in sorted(listing.items(), key=lambda item: item[0] == RECORD):
                target = folder.joinpath(*PurePosixPath(name).parts)
                if not (target.is_file() and sha256_of(target) == stored.sha256):
                    self._get(stored.sha256, target, f"{kind}/{record_id}.json")
        return True

    def _listing(self, path: str, kind: str, record_id: str) -> dict[str, FileEntry]:
        """Read the list of a record's files, by name.

        Raises:
            SizewiseError: the list is damaged, or it names files outside the record's folder.
        """
        try:
            found = json.loads(self._files.cat_file(path))
            if found["format"] != FORMAT or (found["kind"], found["id"]) != (kind, record_id):
                raise ValueError(f"it is format {found['format']} of {found['kind']} {found['id']}")
            files = {_checked(name): FileEntry(file["sha256"], file["bytes"]) for name, file in found["files"].items()}
            if RECORD not in files or not all(re.fullmatch("[0-9a-f]{64}", one.sha256) for one in files.values()):
                raise ValueError("it has no record, or digests that are none")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SizewiseError(
                f"{self.url}/{kind}/{record_id}.json is damaged: {error}.",
                "a list of files as Sizewise writes it",
                f"remove it there, and run `sizewise push {record_id}` where the record is",
            ) from error
        return files

    def _put_list(self, path: str, listing: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            written = Path(temporary) / "list.json"
            written.write_text(json.dumps(listing, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            self._put(written, path)

    def _get(self, digest: str, target: Path, listed: str) -> None:
        """Copy a file to this machine; only a whole and unchanged one gets its name.

        Args:
            digest: SHA-256 of the file.
            target: where it belongs.
            listed: the list that names it. While it is there, the record isn't copied to the storage again.

        Raises:
            SizewiseError: the file is gone, or isn't the one that was stored.
        """
        make_folder(target.parent)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
        os.close(handle)
        try:
            try:
                self._files.get_file(self._file_path(digest), temporary)
                problem = "" if sha256_of(Path(temporary)) == digest else "isn't the file that was stored there"
            except FileNotFoundError:
                problem = "is gone"
            if problem:
                raise SizewiseError(
                    f"{self.url}/files/{digest[:2]}/{digest} {problem}.",
                    f"the unchanged file {target.name} that {listed} names",
                    f"remove it and {listed} there; then, where the record is, "
                    f"`sizewise push {PurePosixPath(listed).stem}`",
                )
            os.replace(temporary, target)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _put(self, file: Path, path: str) -> None:
        """Copy a file to the storage; on a disk, under a name of its own first, because copying isn't atomic there."""
        if "file" not in self._files.protocol:
            self._files.put_file(str(file), path)
            return
        try:
            make_folder(Path(path).parent)
        except SizewiseError as error:  # it advises on the folder of records, which this isn't
            raise OSError(error.what) from error
        partial = f"{path}.{os.getpid()}-{time.monotonic_ns()}.partial"
        try:
            self._files.put_file(str(file), partial)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)

    def _list_path(self, kind: str, record_id: str) -> str:
        return f"{self._root}/{kind}/{record_id}.json"

    def _file_path(self, digest: str) -> str:
        return f"{self._root}/files/{digest[:2]}/{digest}"

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Translate failures of the storage, whatever its library raises."""
        try:
            yield
        except SizewiseError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise SizewiseError(
                f"{self.url} can't be used: {reason}",
                f"storage that this machine can read and write, at {VARIABLE}",
                f"check its address and keys, or unset {VARIABLE} to work with the records of this machine",
            ) from error


def push_or_warn(kind: str, record_id: str, folder: Path) -> None:
    """Copy a record that was just written; if that fails, warn: the record on this machine is whole."""
    try:
        shared = shared_artifacts()
        if shared is not None:
            shared.push(kind, record_id, folder)
    except SizewiseError as error:
        _LOG.warning("%s is saved here only: %s Later: sizewise push %s", record_id, error.what, record_id)


def _check_form(url: str) -> None:
    """Refuse what fsspec takes for a folder below the working folder, and what isn't part of a bucket's name.

    Raises:
        UsageError: it isn't a URL, a host is where the folder should begin, or it has keys or parameters.
    """
    parts = urlsplit(url)
    expected, why = "s3://BUCKET/PREFIX or file:///FOLDER", ""
    if not parts.scheme or f"{parts.scheme}:" == url.lower()[:2]:
        why = f"{url} isn't a URL"
    elif parts.scheme in ("file", "local") and (parts.netloc or not parts.path.startswith("/")):
        why, expected = f"{url} names no folder from the root", "file:///FOLDER, with three slashes"
    elif parts.scheme in RUST and not parts.netloc:
        why, expected = f"{url} names no bucket", f"{parts.scheme}://BUCKET/PREFIX"
    elif parts.scheme in ("s3", "gs") and "@" in parts.netloc:  # the text before @ may be a secret
        why = f"the URL of the bucket {parts.netloc.rpartition('@')[2]} has keys in it"
        expected = f"{parts.scheme}://BUCKET/PREFIX, with keys in variables such as AWS_ACCESS_KEY_ID"
    elif parts.scheme in RUST and (parts.query or parts.fragment):
        why = f"{url} has parameters"
        expected = f"{parts.scheme}://BUCKET/PREFIX, with settings in variables such as AWS_REGION and AWS_ENDPOINT_URL"
    if why:
        raise UsageError(f"{VARIABLE}: {why}.", expected, f"export {VARIABLE}=s3://BUCKET/PREFIX")


def _check_offline(url: str, scheme: str) -> None:
    """Refuse storage elsewhere with SIZEWISE_OFFLINE; its library connects in Rust, where nothing else refuses it.

    Raises:
        SizewiseError: the storage is on another machine.
    """
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname or ""
    if (
        not offline()
        or scheme in ("file", "local", "memory")
        or (scheme == "s3" and endpoint and is_loopback(endpoint))
    ):
        return
    raise SizewiseError(
        f"SIZEWISE_OFFLINE is set, and {VARIABLE} is {url}.", "a folder, or S3 on this machine", f"unset {VARIABLE}"
    )


def _files_of(folder: Path) -> dict[str, Path]:
    """Return the files of a record to copy: without locks, temporary files, ledgers and what only serves to resume."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.is_file() and not hidden and parts[0] not in LOCAL_STATE and not path.name.startswith(LEDGER):
            found["/".join(parts)] = path
    return found


def _checked(name: Any) -> str:
    """Check that a name stays inside the record's folder, on any system.

    Raises:
        ValueError: it doesn't.
    """
    path = PurePosixPath(str(name))
    bad = path.is_absolute() or not path.parts or any(part.startswith(".") for part in path.parts)
    if bad or "\\" in str(name) or ":" in str(name):
        raise ValueError(f"it names the file {name!r}")
    return str(name)
