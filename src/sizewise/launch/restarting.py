"""Start all processes of a training again when one of them is lost; used by every launcher."""

from __future__ import annotations

import signal
from collections.abc import Callable

from sizewise.errors import SizewiseError, WorkerLost

LOST = WorkerLost.exit_code
ATTEMPTS = 3
"""Starts without a further checkpoint before giving up, when a process was killed."""
LAST_LINES = 15


def run_until_done(
    run_once: Callable[[], dict[int, int]],
    steps_done: Callable[[], int],
    output: Callable[[int], str],
    restarting: Callable[[], None] = lambda: None,
) -> int:
    """Run several processes to their end. If one is killed, all start again from their last checkpoint.

    Args:
        run_once: starts all processes, waits for their end and returns the exit codes of those that failed, by rank;
            negative for a signal.
        steps_done: steps in the newest checkpoint, which the processes go on from.
        output: what a process has printed; empty for one that has shown it already.
        restarting: called before each further start.

    Returns:
        Exit code of the first process, which has reported its error.

    Raises:
        SizewiseError: another process failed, or one was killed again and again.
    """
    reached, attempts = steps_done(), 0
    while True:
        failures = run_once()
        if not failures:
            return 0
        rank, code = cause(failures)
        if rank == 0 and 0 < code != LOST:
            return code
        attempts = attempts + 1 if steps_done() <= reached else 1
        reached = max(reached, steps_done())
        if 0 < code != LOST or attempts >= ATTEMPTS:
            raise _failed(rank, code, attempts, last_lines(output(rank)))
        restarting()


def cause(failures: dict[int, int]) -> tuple[int, int]:
    """Return rank and exit code of the process that failed first: others fail, or are ended, because they lose it."""
    killed = {rank: code for rank, code in failures.items() if code < 0}
    own = {rank: code for rank, code in failures.items() if 0 < code != LOST}
    return min((own or killed or failures).items(), key=lambda one: (one[1] == -signal.SIGTERM, one[0]))


def last_lines(text: str) -> str:
    """Return the last lines of a text, indented."""
    lines = text.rstrip().split("\n")
    return "\n".join(f"  {line}" for line in lines[-LAST_LINES:] if line.strip())


def _failed(rank: int, code: int, attempts: int, lines: str) -> SizewiseError:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    if code < 0 or code == LOST:
        how += f", {attempts} times without getting any further"
    said = f" Its last lines:\n{lines}" if lines else ""
    return SizewiseError(
        f"Worker {rank} {how}.{said}",
        "all workers to reach the end; a worker that is killed at once often lacks memory",
        "fix the cause and run the same command again; training resumes from its last checkpoint",
    )
