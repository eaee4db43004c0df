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

from sizewise.errors import SizewiseError, WorkerLost
from sizewise.launch.address import LAUNCHED

LOST = WorkerLost.exit_code
ATTEMPTS = 3
"""Starts without a further checkpoint before giving up, when a process was killed."""
LAST_LINES = 15
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
    reached, attempts = steps_done(), 0
    with tempfile.TemporaryDirectory(prefix="sizewise-launch-") as logs, _environment(processes):
        while True:
            failures = _run_once(arguments, processes, Path(logs))
            if not failures:
                return 0
            rank, code = _cause(failures)
            if rank == 0 and 0 < code != LOST:
                return code
            attempts = attempts + 1 if steps_done() <= reached else 1
            reached = max(reached, steps_done())
            if 0 < code != LOST or attempts >= ATTEMPTS:
                raise _failed(rank, code, attempts, Path(logs))


def _cause(failures: dict[int, int]) -> tuple[int, int]:
    """Return rank and exit code of the process that failed first: others fail because they lose it."""
    killed = {rank: code for rank, code in failures.items() if code < 0}
    own = {rank: code for rank, code in failures.items() if 0 < code != LOST}
    return sorted((own or killed or failures).items())[0]


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


def _failed(rank: int, code: int, attempts: int, logs: Path) -> SizewiseError:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    if code < 0:
        how += f", {attempts} times without getting any further"
    lines = _last_lines(rank, logs)
    said = f" Its last lines:\n{lines}" if lines else ""
    return SizewiseError(
        f"Worker {rank} {how}.{said}",
        "all workers to reach the end; a worker that is killed at once often lacks memory",
        "fix the cause and run the same command again; training resumes from its last checkpoint",
    )


def _last_lines(rank: int, logs: Path) -> str:
    """Return the last lines that a process printed, of its last start; empty for the one that uses the terminal."""
    found = sorted(logs.glob(f"*/attempt_*/{rank}/stderr.log"), key=lambda path: path.stat().st_mtime)
    if not found:
        return ""
    lines = found[-1].read_text(encoding="utf-8", errors="backslashreplace").rstrip().split("\n")
    return "\n".join(f"  {line}" for line in lines[-LAST_LINES:] if line.strip())
