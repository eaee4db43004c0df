"""A Ray cluster: connecting to it, and jobs on processes that may be lost with their node."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.progress import pulse

PROBE_S, READY_S, PULSE_S = 5.0, 300.0, 0.5
IN_FLIGHT = 2
"""Jobs that a host has at a time: the next one waits where it will run."""
REPLACEMENTS = 3
"""Hosts started in place of lost ones without a further result before giving up."""
LAST_LINES = 12
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray sends usage statistics otherwise
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Node(NamedTuple):
    """A machine of the cluster."""

    id: str
    gpus: int


def connect(address: str) -> Any:
    """Connect to a Ray cluster, once in a process, and return the module ray.

    Args:
        address: as Ray takes it: `local` starts a cluster on this machine, `auto` finds the one that runs on it,
            HOST:PORT is that of the cluster's head node.

    Raises:
        MissingExtraError: Ray isn't installed here.
        SizewiseError: the address doesn't answer, or the cluster has other versions of Ray or Python.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("ray", "scale")
    os.environ.update(SETTINGS)
    import ray

    if ray.is_initialized():
        return ray
    _keep_stdout_clean(ray)
    _probe(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        if address == "local":
            ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:
        if "ersion mismatch" in str(error):
            raise SizewiseError(
                f"The Ray cluster at {address} has other versions than this machine. {_last_lines(str(error))}",
                "the same versions of Ray and Python on all nodes",
                "install the same versions here, or run the command on a node of the cluster",
            ) from error
        raise _no_answer(address, str(error)) from error
    return ray


def _keep_stdout_clean(ray: Any) -> None:
    """Drop what Ray writes about lost nodes to stdout, where results are; `log_to_driver` doesn't cover it."""
    worker: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def _probe(address: str) -> None:
    """Check that something listens at an address; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("ray://")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    except OSError as error:
        raise _no_answer(address, str(error)) from error


def _no_answer(address: str, reason: str) -> SizewiseError:
    return SizewiseError(
        f"No Ray cluster answers at '{address}': {_last_lines(reason)}",
        "the address of a cluster that runs, as printed by ray start --head",
        "ray start --head on one machine, then --launch ray:HOST:6379; or --launch ray:local",
    )


def _last_lines(text: str) -> str:
    lines = [line for line in text.strip().split("\n") if line.strip()]
    return "\n".join(lines[-LAST_LINES:])


def nodes(ray: Any) -> list[Node]:
    """Return the machines that are up."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [Node(node["NodeID"], int(node["Resources"].get("GPU", 0))) for node in alive]


class Hosts:
    """Processes of a cluster that hold the same thing: one on each machine, or one for each graphics card.

    Args:
        ray: the module ray, connected.
        kind: class of the processes; each is made with the arguments.
        arguments: returns the arguments, given the number of processes.
        say: receives a line when a process is lost.
    """

    def __init__(
        self, ray: Any, kind: type, arguments: Callable[[int], tuple[Any, ...]], say: Callable[[str], None]
    ) -> None:
        self._ray, self._say = ray, say
        self._kind = ray.remote(kind)
        places = [(node, False) for node in nodes(ray) if not node.gpus]
        places += [(node, True) for node in nodes(ray) for _ in range(node.gpus)]
        self._arguments = arguments(len(places))
        self._load: dict[Any, int] = {}
        self._replaced = 0
        for node, has_gpu in places:
            self._add(node, has_gpu)
        self.about = self._started(list(self._load))

    def __len__(self) -> int:
        return len(self._load)

    def _add(self, node: Node, has_gpu: bool) -> Any:
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        made = self._kind.options(num_cpus=1, num_gpus=int(has_gpu), scheduling_strategy=strategy)
        host = made.remote(*self._arguments)
        self._load[host] = 0
        return host

    def _started(self, hosts: Sequence[Any]) -> list[Any]:
        """Wait until processes are ready and return what they say about themselves.

        Raises:
            SizewiseError: one doesn't start.
        """
        try:
            found: list[Any] = self._ray.get([host.about.remote() for host in hosts], timeout=READY_S)
        except self._ray.exceptions.GetTimeoutError as error:
            raise SizewiseError(
                f"The cluster's nodes started no process within {READY_S:g} s.",
                "a free processor, or graphics card, on each node",
                "ray status, to see what occupies them",
            ) from error
        except self._ray.exceptions.RayError as error:
            raise SizewiseError(
                f"A node of the cluster can't run Sizewise. Its last lines:\n{_last_lines(str(error))}",
                "Sizewise with the same extras, and the same SIZEWISE_HOME, on each node",
                "pip install 'sizewise[study,scale]' on that node",
            ) from error
        return found

    def tell_all(self, method: str) -> None:
        """Call a method in all processes."""
        self._ray.get([getattr(host, method).remote() for host in self._load])

    def run(self, method: str, jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Call a method once for each job, wherever there is room. What a lost process had is done by others.

        Args:
            method: method of the processes.
            jobs: arguments of each call.

        Yields:
            Number of a job and its result, as they arrive.

        Raises:
            SizewiseError: all processes are lost.
        """
        left, sent = deque(range(len(jobs))), dict[Any, tuple[int, Any]]()
        try:
            while left or sent:
                for host in sorted(self._load, key=lambda one: self._load[one]):
                    while left and self._load.get(host, IN_FLIGHT) < IN_FLIGHT:
                        number = left.popleft()
                        sent[getattr(host, method).remote(*jobs[number])] = (number, host)
                        self._load[host] += 1
                pulse()
                done, _ = self._ray.wait(list(sent), num_returns=1, timeout=PULSE_S)
                for answer in done:
                    number, host = sent.pop(answer)
                    try:
                        result = self._ray.get(answer)
                    except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError):
                        left.appendleft(number)
                        self._lose(host)
                        continue
                    if host in self._load:  # else it answered before it was lost
                        self._load[host] -= 1
                    self._replaced = 0
                    yield number, result
        finally:
            for _, host in sent.values():
                if host in self._load:
                    self._load[host] -= 1

    def _lose(self, host: Any) -> None:
        """Drop a process; start another one on a machine without any."""
        if self._load.pop(host, None) is None:
            return
        self._say(f"A worker of the Ray cluster is lost; its unfinished requests go to the other {len(self._load)}")
        if not self._load and self._replaced < REPLACEMENTS:
            self._replaced += 1
            up = nodes(self._ray)
            if up:
                self._started([self._add(up[0], bool(up[0].gpus))])
        if not self._load:
            raise SizewiseError(
                "All workers of the Ray cluster are lost.",
                "at least one node that stays up",
                "run the same command again; finished work is kept",
            )

    def close(self) -> None:
        """End all processes."""
        for host in self._load:
            self._ray.kill(host)
        self._load.clear()
