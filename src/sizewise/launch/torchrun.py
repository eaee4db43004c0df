"""Run a command in several processes of this machine with torchrun's launcher, and start it again when one dies."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sizewise.launch.address import LAUNCHED
from sizewise.launch.restarting import run_until_done

LOOPBACK = {"linux": "lo", "darwin": "lo0"}


def run_processes(arguments: Sequence[str], processes: int, steps_done: Callable[[], int]) -> int:
    """Run Python with these arguments in several processes. If one is killed, all start again.

    The first process uses this terminal; what the others print is shown only if one of them fails.

    Args:
        arguments: of the interpreter, such as `-m sizewise train ...`.
        processes: number of processes.
        steps_done: steps in the newest checkpoint, which the processes go on from.

    Returns:
        Exit code of the first process, which has reported its error.

    Raises:
        SizewiseError: another process failed, or one was killed again and again.
        KeyboardInterrupt: the launcher was asked to stop; all processes have stopped.
    """
    with tempfile.TemporaryDirectory(prefix="sizewise-launch-") as logs, _environment(processes):
        return run_until_done(
            lambda: _run_once(arguments, processes, Path(logs)), steps_done, lambda rank: _output(rank, Path(logs))
        )


def _run_once(arguments: Sequence[str], processes: int, logs: Path) -> dict[int, int]:
    """Start all processes and wait for their end; return the exit codes of those that failed."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # its reports of a failure repeat what is shown here
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(str(logs), redirects=dict.fromkeys(range(1, processes), Std.ALL)),
    )
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except ChildFailedError as error:
        return {rank: int(failure.exitcode) for rank, failure in error.failures.items()}
    except SignalException as error:
        raise KeyboardInterrupt from error
    return {}


@contextmanager
def _environment(processes: int) -> Iterator[None]:
    """Share the processor's cores between processes, and keep their connections inside this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // processes)),
        LAUNCHED: str(os.getpid()),
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL") or "ERROR",
    }
    if sys.platform in LOOPBACK:
        wanted["GLOO_SOCKET_IFNAME"] = LOOPBACK[sys.platform]
    before: dict[str, Any] = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _output(rank: int, logs: Path) -> str:
    """Return what a process printed since its last start; empty for the one that uses the terminal."""
    found = sorted(logs.glob(f"*/attempt_*/{rank}/stderr.log"), key=lambda path: path.stat().st_mtime)
    return found[-1].read_text(encoding="utf-8", errors="backslashreplace") if found else ""
