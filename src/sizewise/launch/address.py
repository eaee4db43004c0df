"""The option --launch: where work runs."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from sizewise.errors import UsageError

LAUNCHED = "SIZEWISE_LAUNCHED"
"""Environment variable of processes that a launcher started, which reports for them that it was interrupted."""


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
