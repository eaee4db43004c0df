"""Resolve the packages of some extras with pip, compare them with the locks, and download their wheels."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sizewise.bundling.own_wheel import lock_file
from sizewise.errors import SizewiseError
from sizewise.packages import FULL, disk_full, run_pip
from sizewise.progress import Reporter
from sizewise.records import BundledPackage
from sizewise.store import sha256_of

BATCH = 8  # wheels that one run of pip downloads; an interrupted download repeats at most so many
BUILDS = {"auto": ("cpu.lock", "cuda.lock"), "cpu": ("cpu.lock",), "cuda": ("cuda.lock",)}
"""Builds of PyTorch by the option that asks for them, in the order in which they are tried."""
_PIN = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)((?:.*\\\n)*.*)", re.MULTILINE)
_LICENSE_CLASS = re.compile(r"License :: (?:OSI Approved :: )?(.+)")
MAX_LICENSE = 100  # some packages put the whole text there

Pins = dict[str, tuple[str, frozenset[str]]]


def read_pins(*locks: str) -> Pins:
    """Read locks: package -> version and hashes of its files."""
    return {
        normalize(name): (version, frozenset(re.findall(r"sha256:(\w+)", rest)))
        for lock in locks
        for name, version, rest in _PIN.findall(lock_file(lock).read_text(encoding="utf-8"))
    }


def normalize(name: str) -> str:
    """Write the name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(own_wheel: Path, extras: Sequence[str], torch: str, folder: Path) -> list[BundledPackage]:
    """Find the packages that Sizewise with some extras needs on this platform, in the versions of the locks.

    Args:
        own_wheel: Wheel of Sizewise.
        extras: Names of the extras.
        torch: Build of PyTorch: auto, cpu or cuda.
        folder: Folder for temporary files.

    Raises:
        SizewiseError: pip can't resolve them, or a file isn't the locked one.
    """
    failure = ""
    for build in BUILDS[torch]:
        pins = read_pins("all.lock", build)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".resolve-") as temporary:
            constraints, report = Path(temporary) / "constraints.txt", Path(temporary) / "report.json"
            lines = [f"{name}=={version}\n" for name, (version, _) in pins.items() if name != "sizewise"]
            constraints.write_text("".join(lines), encoding="utf-8")
            wanted = f"{own_wheel}[{','.join(extras)}]" if extras else str(own_wheel)
            options = ["--dry-run", "--ignore-installed", "--quiet", "--only-binary=:all:", "--report", str(report)]
            failure = run_pip("install", *options, "--constraint", str(constraints), wanted, "pip").failure
            if not failure:
                return _packages(json.loads(report.read_text(encoding="utf-8"))["install"], pins)
    if failure == FULL:
        raise disk_full("The packages can't be resolved", folder, "choose another --out")
    raise SizewiseError(
        f"pip could not find the packages of [{','.join(extras)}]: {failure}",
        "a package index with wheels for this platform",
        "set PIP_INDEX_URL, HTTPS_PROXY or PIP_CERT if your network needs them; then run the same command again",
    )


def _packages(found: list[dict[str, Any]], pins: Pins) -> list[BundledPackage]:
    """Read pip's report, and compare each file with the locks."""
    packages = []
    for one in found:
        about, info = one["metadata"], one["download_info"]
        name, version = about["name"], about["version"]
        sha256 = info["archive_info"]["hashes"]["sha256"]
        file = unquote(urlsplit(info["url"]).path.rpartition("/")[2])
        locked_version, hashes = pins.get(normalize(name), ("", frozenset()))
        locked = version == locked_version and sha256 in hashes
        # PyTorch's CPU build has a wheel for each platform, of which the lock knows some.
        if version == locked_version and not locked and "+" not in version:
            raise SizewiseError(
                f"{info['url']} is not the locked file: its sha256 is {sha256[:16]}....",
                f"{name} {version} as published on PyPI",
                "correct the file in your index; then run the same command again",
            )
        packages.append(
            BundledPackage(
                name=name, version=version, file=file, sha256=sha256, license=license_of(about), locked=locked
            )
        )
    return sorted(packages, key=lambda package: normalize(package.name))


def license_of(about: dict[str, Any]) -> str:
    """Return the license that the metadata of a package states."""
    if stated := about.get("license_expression"):
        return str(stated)
    classes = [match[1] for line in about.get("classifier", ()) if (match := _LICENSE_CLASS.match(line))]
    stated = " ".join(str(about.get("license") or "").split())
    return " or ".join(classes) or (stated if len(stated) <= MAX_LICENSE else "")


def download(packages: Sequence[BundledPackage], folder: Path, reporter: Reporter) -> None:
    """Download wheels, unless the folder has them already.

    Args:
        packages: Packages to download.
        folder: Where the wheels go; each appears there only when it is complete and has the right checksum.
        reporter: Receives progress.

    Raises:
        SizewiseError: A wheel can't be downloaded, or the disk is full.
    """
    needed = [package for package in packages if not is_intact(folder / package.file, package.sha256)]
    done = len(packages) - len(needed)
    for start in range(0, len(needed), BATCH):
        reporter.advance("Downloading wheels", done + start, len(packages))
        _download_batch(needed[start : start + BATCH], folder)
    reporter.advance("Downloading wheels", len(packages), len(packages))


def is_intact(path: Path, sha256: str) -> bool:
    """Check whether a file exists and has a checksum."""
    return path.is_file() and sha256_of(path) == sha256


def _download_batch(packages: Sequence[BundledPackage], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        requirements = Path(temporary) / "requirements.txt"
        requirements.write_text(pinned_lines(packages), encoding="utf-8")
        options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", temporary]
        failure = run_pip("download", *options, "--requirement", str(requirements)).failure
        absent = [one.file for one in packages if not is_intact(Path(temporary) / one.file, one.sha256)]
        if failure == FULL:
            raise disk_full("The wheels can't be downloaded", folder, "choose another --out")
        if failure or absent:
            names = ", ".join(absent or [one.file for one in packages])
            raise SizewiseError(
                f"pip could not download {names}: {failure or 'the file is absent or has another checksum'}",
                "a package index that pip can reach, and enough free disk space",
                "run the same command again; it continues with the files that are still needed",
            )
        for one in packages:
            os.replace(Path(temporary) / one.file, folder / one.file)


def pinned_lines(packages: Sequence[BundledPackage]) -> str:
    """Write requirements with hashes, for `pip install --require-hashes --no-deps`."""
    return "".join(f"{one.name}=={one.version} --hash=sha256:{one.sha256}\n" for one in packages)
