"""Run one training in several processes on the nodes of a Ray cluster: as torchrun does on one machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.launch.address import ENDING_S
from sizewise.launch.ray_cluster import (
    NOTICE_S,
    PULSE_S,
    NodeLostError,
    Place,
    best_places,
    connect,
    start_actor,
    wait_until_ready,
)
from sizewise.launch.ray_worker import About, RayWorker, check_nodes, marked
from sizewise.launch.restarting import LOST, run_until_done

PASSED = ("SIZEWISE_OFFLINE", "SIZEWISE_DEVICE", "SIZEWISE_PRECISION", "SIZEWISE_ARTIFACTS_URL", "OMP_NUM_THREADS")
"""Environment variables that apply on the cluster's nodes, too. Keys of services don't travel."""
CALLS = 4
"""Methods of a worker that may run at a time: it is asked what the process has printed while that runs."""
KILLED = -signal.SIGKILL
INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a process that was asked to save and end."""
ANSWER_S = 5.0
"""Time in which a worker tells what its process has printed."""
PORT_TAKEN = ("EADDRINUSE", "address already in use", "Address already in use")


class ClusterRun:
    """A training on a cluster: one process on each node, or on each graphics card.

    Args:
        address: address of the cluster, as Ray takes it.
        arguments: of the interpreter, such as `-m sizewise train ...`.
        home: SIZEWISE_HOME, on a disk that all nodes share.
        most: largest number of processes.
        on_cards: whether to use graphics cards.
        say: receives a line of progress.
        show: receives what the first process prints to its standard error.
    """

    def __init__(
        self,
        address: str,
        arguments: Sequence[str],
        home: Path,
        most: int,
        *,
        on_cards: bool = True,
        say: Callable[[str], None],
        show: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        self._arguments, self._home, self._most = list(arguments), home, most
        self._on_cards, self._say, self._show = on_cards, say, show
        self._ray = connect(address)
        self._kind = self._ray.remote(RayWorker)
        self._printed: dict[int, tuple[str, str]] = {}

    @property
    def processes(self) -> int:
        """Number of processes that would start now."""
        return min(self._most, len(best_places(self._ray, self._on_cards)))

    def run(self, steps_done: Callable[[], int], restarting: Callable[[], None]) -> int:
        """Train to the end; when a process or a node is lost, all start again on what is left.

        Args:
            steps_done: steps in the newest checkpoint, which the processes go on from.
            restarting: called before each further start.

        Returns:
            Exit code of the first process, which has reported its error.

        Raises:
            SizewiseError: no node is left, a node can't take part, or a process failed or was lost again and again.
            KeyboardInterrupt: the launcher was asked to stop; all processes have stopped.
        """

        def restart() -> None:
            self._say(f"A worker is lost; all start again from step {max(0, steps_done())}")
            restarting()

        code = run_until_done(self._run_once, steps_done, self._error_of, restart)
        if code:  # an error with --json
            sys.stdout.write(self._printed[0][0])
        return code

    def _error_of(self, rank: int) -> str:
        return self._printed.get(rank, ("", ""))[1] if rank else ""

    def _run_once(self) -> dict[int, int]:
        chosen = best_places(self._ray, self._on_cards)[: self._most]
        if not chosen:
            raise SizewiseError(
                "No node of the Ray cluster is left that can train.",
                "at least one node with a processor",
                "ray status; then run the same command again: training resumes from its last checkpoint",
            )
        workers: list[Any] = []
        self._printed = {}
        try:
            with marked(self._home) as mark:
                for place in chosen:
                    workers.append(start_actor(self._ray, self._kind, place, (mark, place.node.address), CALLS))
                abouts = wait_until_ready(self._ray, workers, chosen)
            check_nodes(chosen, abouts, self._home)
            where = ", ".join(dict.fromkeys(place.node.address for place in chosen))
            self._say(f"Training in {len(chosen)} processes of the Ray cluster ({where})")
            return self._watch(workers, environments(chosen, abouts, self._port(workers[0]), self._home))
        except (NodeLostError, self._ray.exceptions.RayError):  # a node has gone before its process began
            return {0: LOST}
        finally:
            for worker in workers:
                self._ray.kill(worker)

    def _port(self, worker: Any) -> int:
        port: int = self._ray.get(worker.free_port.remote())
        return port

    def _watch(self, workers: list[Any], settings: list[dict[str, str]]) -> dict[int, int]:
        """Run the processes to their end, and return the exit codes of those that failed."""
        folder = str(Path.cwd())
        running = {
            worker.run.remote(self._arguments, environment, folder): rank
            for rank, (worker, environment) in enumerate(zip(workers, settings, strict=True))
        }
        failures: dict[int, int] = {}
        try:
            end = None
            while running and (end is None or time.monotonic() < end):
                failures |= self._ended(running, workers)
                if failures and end is None:
                    end = time.monotonic() + NOTICE_S
        except KeyboardInterrupt:
            self._stop(running, workers)
            raise
        return failures

    def _ended(self, running: dict[Any, int], workers: list[Any]) -> dict[int, int]:
        """Wait a moment; take those that have ended out of what runs, and return the exit codes other than 0."""
        done, _ = self._ray.wait(list(running), num_returns=1, timeout=PULSE_S)
        self._relay(workers[0])
        found = {}
        for answer in done:
            rank = running.pop(answer)
            try:
                code = self._ray.get(answer)
                self._printed[rank] = self._ray.get(workers[rank].printed.remote(), timeout=ANSWER_S)
                if rank == 0:
                    self._relay(workers[0])
            except self._ray.exceptions.RayError as error:
                code, self._printed[rank] = KILLED, ("", f"Its node or its worker is gone: {error}")
            if code and any(word in self._printed[rank][1] for word in PORT_TAKEN):
                code = LOST  # another program took the port between its choice and its use
            if code == INTERRUPTED:
                code = LOST  # its node is shutting down: a Ctrl-C here is heeded elsewhere
            if code:
                found[rank] = code
        return found

    def _relay(self, first: Any) -> None:
        """Show what the first process has printed."""
        try:
            text = self._ray.get(first.news.remote(), timeout=ANSWER_S)
        except self._ray.exceptions.RayError:
            return  # its end is noticed elsewhere
        if text:
            self._show(text)

    def _stop(self, running: dict[Any, int], workers: list[Any]) -> None:
        """Ask all processes to save and end, and wait for it; a second Ctrl-C ends the wait."""
        for rank in running.values():
            workers[rank].interrupt.remote()
        end = time.monotonic() + ENDING_S
        while running and time.monotonic() < end:
            self._ended(running, workers)


def environments(chosen: Sequence[Place], abouts: Sequence[About], port: int, home: Path) -> list[dict[str, str]]:
    """Return the environment variables of each process: those of torchrun, and the node's share of threads and cards.

    Args:
        chosen: where the processes run, by rank.
        abouts: what these nodes say about themselves.
        port: free port of the first one.
        home: SIZEWISE_HOME.
    """
    common = {name: os.environ[name] for name in PASSED if name in os.environ}
    common |= {"SIZEWISE_HOME": str(home), "WORLD_SIZE": str(len(chosen))}
    common |= {"MASTER_ADDR": chosen[0].node.address, "MASTER_PORT": str(port)}
    common.setdefault("TORCH_CPP_LOG_LEVEL", os.environ.get("TORCH_CPP_LOG_LEVEL") or "ERROR")
    found = []
    for rank, place in enumerate(chosen):
        machine = [other for other in chosen if other.node.address == place.node.address]
        own = {"RANK": str(rank), "LOCAL_WORLD_SIZE": str(len(machine))}
        beside = [n for n, other in enumerate(chosen) if other.node.id == place.node.id]
        own["LOCAL_RANK"] = str(beside.index(rank))
        if place.has_gpu:  # all cards of the node, so that NCCL reaches them without the network
            own["CUDA_VISIBLE_DEVICES"] = ",".join(abouts[n].cards for n in beside)
        found.append({"OMP_NUM_THREADS": str(place.threads)} | common | own)
    return found
