"""The option --launch: where work runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from sizewise.errors import UsageError

LAUNCH = "SIZEWISE_LAUNCH"
"""Environment variable of where measuring runs, so that threads do the same."""
LAUNCHED = "SIZEWISE_LAUNCHED"
"""Environment variable of processes that a launcher started: its number. It reports for them when it is interrupted."""
ENDING_S = 30.0
"""Seconds in which a process saves and ends when its launcher is gone."""


class Launch(NamedTuple):
    """Where work runs."""

    engine: Literal["torchrun", "ray"]
    processes: int = 0
    """Processes on this machine (torchrun)."""
    address: str = ""
    """Address of a Ray cluster, as Ray takes it: `local`, `auto`, or `host:port`."""


def parse_launch(text: str) -> Launch:
    """Parse the value of --launch.

    Raises:
        UsageError: it names no engine, no number of processes or no address.
    """
    engine, _, rest = text.partition(":")
    if rest.startswith("//"):  # ray://HOST:PORT, the address of Ray's client
        rest = text
    if engine == "torchrun" and rest.isdecimal() and int(rest):
        return Launch("torchrun", processes=int(rest))
    if engine == "ray" and rest:
        return Launch("ray", address=rest)
    raise UsageError(
        f"--launch '{text}' names no place to run.",
        "torchrun:N for N processes on this machine, or ray:ADDRESS for a Ray cluster (ray:local, ray:auto, "
        "ray:HOST:PORT)",
        "--launch torchrun:2",
    )


def is_first_process() -> bool:
    """Check whether this process reports and writes: every process, but for those that torchrun started after it."""
    return os.environ.get("RANK", "0") == "0" or "WORLD_SIZE" not in os.environ


def requested_launch() -> Launch | None:
    """Return where measuring runs, as `use_launch` or the environment variable SIZEWISE_LAUNCH says; None: here."""
    text = os.environ.get(LAUNCH)
    return parse_launch(text) if text else None


@contextmanager
def use_launch(place: str | None) -> Iterator[None]:
    """Measure every model that is opened inside the block on a Ray cluster, also in other threads.

    Args:
        place: ray:ADDRESS; None to measure in this process.

    Raises:
        UsageError: the place isn't a Ray cluster.
    """
    if place is not None and parse_launch(place).engine != "ray":
        raise UsageError(
            f"--launch {place} trains one network in several processes.",
            "ray:ADDRESS to spread a measurement",
            "--launch ray:local, or sizewise train ... --launch torchrun:2",
        )
    before = os.environ.get(LAUNCH)
    if place is not None:
        os.environ[LAUNCH] = place
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(LAUNCH, None)
        else:
            os.environ[LAUNCH] = before


def end_with_launcher() -> None:
    """End this process soon after its launcher is gone, as Ctrl-C does: killed, it can't stop what it has started.

    Otherwise its processes would go on, and those of the same command, started again, would write to the same run.
    """
    launcher = os.environ.get(LAUNCHED, "")
    if not launcher.isdecimal():
        return

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, where Ctrl-C is ignored

    def watch() -> None:
        while os.getppid() == int(launcher):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(ENDING_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="launcher").start()
