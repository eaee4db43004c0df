"""One process of a training on a node of a Ray cluster, and what the node says about itself."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.launch import keeper
from sizewise.launch.address import LAUNCH
from sizewise.launch.ray_cluster import Place

PORTS, TRIES = range(20_000, 32_000), 50
"""Ports of the rendezvous: below those that systems use for outgoing connections, so that it stays free until it is
used; above those of Ray's own workers."""
MAX_TEXT = 1 << 20
NEEDED = ("torch", "transformers", "peft", "safetensors")
"""Packages of which all processes need the same version."""
GET_ADDRESS = 0x8915
"""SIOCGIFADDR of Linux's netdevice(7): the address of a network interface."""


class About(NamedTuple):
    """What a node says about itself."""

    versions: dict[str, str]
    """Versions of Python, Sizewise and the packages that train."""
    sees_home: bool
    """Whether it sees the same SIZEWISE_HOME and may write there."""
    cards: str
    """CUDA_VISIBLE_DEVICES, as Ray has set it."""


def installed() -> dict[str, str]:
    """Return the versions of what a training depends on, as far as it is installed."""
    found = {"python": platform.python_version()}
    for package in ("sizewise", *NEEDED):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@contextlib.contextmanager
def marked(home: Path) -> Iterator[tuple[str, str]]:
    """Keep a file in SIZEWISE_HOME by which nodes recognize it; yields its path and what it holds.

    Raises:
        SizewiseError: the folder can't be written.
    """
    word = f"{random.SystemRandom().getrandbits(64):016x}"
    path = home / f".launch-{word}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        path.write_text(word, encoding="ascii")
    except OSError as error:
        path.unlink(missing_ok=True)
        raise SizewiseError(
            f"SIZEWISE_HOME can't be written: {error}.",
            "a folder with free space on a disk that all nodes share",
            "export SIZEWISE_HOME=FOLDER",
        ) from error
    try:
        yield str(path), word
    finally:
        path.unlink(missing_ok=True)


def look_around(mark: tuple[str, str]) -> About:
    """Return what this node says about itself.

    Args:
        mark: path of a file in SIZEWISE_HOME, and what it holds.
    """
    path, word = Path(mark[0]), mark[1]
    try:
        sees_home = path.read_text(encoding="ascii") == word and os.access(path.parent, os.W_OK)
    except (OSError, ValueError):
        sees_home = False
    return About(installed(), sees_home, os.environ.get("CUDA_VISIBLE_DEVICES", ""))


def check_nodes(chosen: Sequence[Place], abouts: Sequence[About], home: Path) -> None:
    """Check that all nodes have the same versions and the same SIZEWISE_HOME.

    Raises:
        SizewiseError: one doesn't.
    """
    here = installed()
    for place, about in zip(chosen, abouts, strict=True):
        other = {
            name: (about.versions.get(name, "none"), version)
            for name, version in here.items()
            if about.versions.get(name) != version
        }
        if other:
            differences = ", ".join(f"{name} {there} (here {own})" for name, (there, own) in other.items())
            raise SizewiseError(
                f"The node {place.node.address} has {differences}.",
                "the same versions on all nodes, so that all compute the same",
                "install these versions on that node, with the extras [study,scale]",
            )
        if not about.sees_home:
            raise SizewiseError(
                f"The node {place.node.address} doesn't see SIZEWISE_HOME={home} of here, or may not write there.",
                "a folder on a disk that all nodes mount at the same path",
                "export SIZEWISE_HOME=FOLDER here; then run the same command again",
            )


class RayWorker:
    """Runs one process of a training on its node.

    Args:
        mark: path of a file in SIZEWISE_HOME, and what it holds.
        address: IP address of the node.
    """

    def __init__(self, mark: tuple[str, str], address: str) -> None:
        self._mark, self._address = mark, address
        self._process: subprocess.Popen[bytes] | None = None
        self._texts = {"out": _open_text(), "error": _open_text()}
        self._shown = 0

    def about(self) -> About:
        """Return what this node says about itself."""
        return look_around(self._mark)

    def free_port(self) -> int:
        """Return a free port of this node."""
        for port in random.SystemRandom().sample(PORTS, TRIES):
            with contextlib.suppress(OSError), socket.socket() as trial:
                trial.bind(("", port))
                return port
        raise SizewiseError(f"No port from {PORTS[0]} to {PORTS[-1]} is free on this node.", "a free port", "")

    def run(self, arguments: list[str], environment: dict[str, str], folder: str) -> int:
        """Run Python with these arguments to its end, and return its exit code; negative for a signal.

        Args:
            arguments: of the interpreter.
            environment: environment variables besides this process's own.
            folder: working folder, if this node has it.
        """
        own = {name: value for name, value in os.environ.items() if name != LAUNCH} | environment
        with contextlib.suppress(OSError):
            own.setdefault("GLOO_SOCKET_IFNAME", interface_of(self._address))
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(keeper.__file__), sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=self._texts["out"],
            stderr=self._texts["error"],
            cwd=folder if Path(folder).is_dir() else None,
            env=own,
            start_new_session=True,  # a signal to Ray's processes isn't meant for the training
        )
        code = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        stopped = code == 128 + signal.SIGINT  # the exit code of a command that Ctrl-C has ended
        return 128 - code if code > 128 and not stopped else code

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal to the process."""
        if self._process is not None:
            self._process.send_signal(number)

    def news(self) -> str:
        """Return what the process has printed to its standard error since the last call."""
        text = _read(self._texts["error"], self._shown)
        end = text.rfind(b"\n") + 1
        self._shown += end
        return text[:end].decode("utf-8", "backslashreplace")

    def printed(self) -> tuple[str, str]:
        """Return the end of what the process has printed to its standard output and its standard error."""
        out, error = (_read(self._texts[name], 0)[-MAX_TEXT:] for name in ("out", "error"))
        return out.decode("utf-8", "backslashreplace"), error.decode("utf-8", "backslashreplace")


def _open_text() -> int:
    """Open a file in memory: it takes no disk space, and a process whose reader is lost can still write to it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sizewise")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _read(file: int, start: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size - start, start)


def interface_of(address: str) -> str:
    """Return the network interface that has an IPv4 address.

    Gloo would look up the machine's name, which is often that of the loopback interface.

    Raises:
        OSError: no interface has it, or the system can't tell.
    """
    for _, name in socket.if_nameindex():
        own = _address_of(name)
        if own == address or (own.startswith("127.") and address.startswith("127.")):
            return name
    raise OSError(f"no interface has the address {address}")


def _address_of(interface: str) -> str:
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError("the addresses of interfaces are unknown") from error
    name: Any = interface.encode()[:15].ljust(256, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            return socket.inet_ntoa(fcntl.ioctl(trial.fileno(), GET_ADDRESS, name)[20:24])
        except OSError:  # without an IPv4 address
            return ""
