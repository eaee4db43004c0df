"""A Ray cluster: connecting to it, and jobs on processes that may be lost with their node."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.launch.address import LAUNCH
from sizewise.progress import pulse

PROBE_S, READY_S, PULSE_S = 5.0, 300.0, 0.5
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
"""What begins a connection of HTTP/2, which gRPC uses, with empty settings (RFC 9113, 3.4)."""
GREETING = b"\0\0\0\4\0\0\0\0\0"
"""How the answer begins: a frame whose fourth byte says that it contains settings."""
NOTICE_S = 20.0
"""Time in which the other processes notice that one is gone, and Ray that a node is."""
IN_FLIGHT = 2
"""Jobs that a host has at a time: the next one waits where it will run."""
REPLACEMENTS = 3
"""Hosts started in place of lost ones without a further result before giving up."""
LAST_LINES = 12
COLORS = re.compile(r"\x1b\[[\d;]*m")
CREATION = "creation task"
"""What Ray's error says if the node is up, but can't create the actor."""
AUTH_MODE = "RAY_AUTH_MODE"
TOKEN_ADVICE = (
    f"if the cluster asks for a token, as that of Ray 2.60 does where ~/.ray/auth_token exists: "
    f"export {AUTH_MODE}=token, with the cluster's token in ~/.ray/auth_token"
)
"""Ray sends its token to no address that was named, unless it is told to, and its error doesn't say why it failed."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray sends usage statistics otherwise
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class NodeLostError(SizewiseError):
    """A node has gone while work was started on it."""


class Node(NamedTuple):
    """A node of the cluster that runs work: a machine, or a part of one."""

    id: str
    address: str
    """IP address."""
    cpus: int
    gpus: int


class Place(NamedTuple):
    """Where one process runs: a node, or one of its graphics cards."""

    node: Node
    has_gpu: bool
    threads: int
    """Processor cores of the node for this process."""


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
        wants_token = address not in ("local", "auto") and AUTH_MODE not in os.environ
        raise _no_answer(address, str(error), TOKEN_ADVICE if wants_token else "") from error
    return ray


def _keep_stdout_clean(ray: Any) -> None:
    """Drop what Ray writes about lost nodes to stdout, where results are; `log_to_driver` doesn't cover it."""
    worker: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def _probe(address: str) -> None:
    """Check that a server of gRPC, as Ray's are, listens at an address; Ray itself would try for minutes.

    Raises:
        SizewiseError: nothing listens there, or something else, such as Ray's dashboard.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("ray://").strip("[]")
    if not host or not port.isdecimal():
        return
    answer = GREETING
    try:
        with socket.create_connection((host, int(port)), timeout=PROBE_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("0", "false"):
                with suppress(TimeoutError):  # it may be busy
                    connection.sendall(PREFACE)
                    answer = connection.recv(len(GREETING))
    except OSError as error:
        raise _no_answer(address, str(error)) from error
    if answer[3:4] != GREETING[3:4]:
        reason = "what listens there isn't Ray's cluster; its dashboard, for example, has another port"
        raise _no_answer(address, reason)


def _no_answer(address: str, reason: str, advice: str = "") -> SizewiseError:
    return SizewiseError(
        f"No Ray cluster answers at '{address}': {_last_lines(reason)}",
        "the address of a cluster that runs, as printed by ray start --head",
        advice or "ray start --head on one machine, then --launch ray:HOST:6379; or --launch ray:local",
    )


def _last_lines(text: str) -> str:
    lines = [line for line in COLORS.sub("", text).strip().split("\n") if line.strip()]
    return "\n".join(lines[-LAST_LINES:])


def failed_job(error: Any) -> SizewiseError:
    """Return the error of a process as one of this process."""
    if isinstance(error.cause, SizewiseError):
        return error.cause
    return SizewiseError(
        f"A worker of the Ray cluster failed. Its last lines:\n{_last_lines(str(error))}",
        "a result; this may be a bug in Sizewise",
        "run the same command without --launch to see whether it fails there, too",
    )


def nodes(ray: Any) -> list[Node]:
    """Return the nodes that are up and run work, in a fixed order; a head node without processors runs none."""
    found = (
        Node(
            node["NodeID"],
            node.get("NodeManagerAddress", ""),
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    )
    return sorted((node for node in found if node.cpus), key=lambda node: (node.address, node.id))


def places(ray: Any, on_cards: bool = True) -> list[Place]:
    """Return where processes run: one on each node, or on each of its graphics cards.

    Args:
        ray: the module ray, connected.
        on_cards: whether they use graphics cards.
    """
    found = []
    for node in nodes(ray):
        count = node.gpus if on_cards else 0
        place = Place(node, bool(count), max(1, node.cpus // max(1, count)))
        found += [place] * max(1, count)
    return found


def best_places(ray: Any, on_cards: bool = True) -> list[Place]:
    """Return the places with graphics cards, or all if there are none: for trainings, others would be far slower."""
    found = places(ray, on_cards)
    return [place for place in found if place.has_gpu] or found


def is_here(ray: Any, found: Sequence[Place], address: str) -> bool:
    """Check whether the only place is on this machine: there, this process does the same without a second copy.

    Args:
        ray: the module ray, connected.
        found: places of the cluster.
        address: its address; with Ray's client (ray://), this process is outside of it.
    """
    if len(found) != 1 or address.startswith("ray://"):
        return False
    return bool(found[0].node.id == ray.get_runtime_context().get_node_id())


def is_lost(ray: Any, wanted: Iterable[Node]) -> bool:
    """Check whether a node has gone; Ray takes some seconds to notice."""
    end, needed = time.monotonic() + NOTICE_S, set(wanted)
    while needed <= set(nodes(ray)):
        if time.monotonic() > end:
            return False
        time.sleep(PULSE_S)
    return True


def settings_of(names: Iterable[str]) -> dict[str, str]:
    """Return the environment variables that apply in processes of the cluster, too, and the working folder as PWD."""
    return {name: os.environ[name] for name in names if name in os.environ} | {"PWD": str(Path.cwd())}


def adopt(settings: dict[str, str], threads: int) -> None:
    """Set up this process of a cluster before it loads anything: Ray would leave it a single core.

    Args:
        settings: from `settings_of`; a number of threads in it counts more.
        threads: processor cores of this process.
    """
    os.environ.update({"OMP_NUM_THREADS": str(threads)} | settings)
    os.environ.pop(LAUNCH, None)
    if Path(settings["PWD"]).is_dir():  # paths may be relative to it
        os.chdir(settings["PWD"])


def start_actor(ray: Any, kind: Any, place: Place, arguments: tuple[Any, ...], calls: int = 1) -> Any:
    """Start an actor at a place.

    Args:
        ray: the module ray, connected.
        kind: the actor class, from `ray.remote`.
        place: where it runs.
        arguments: arguments of the class.
        calls: how many of its methods may run at a time.
    """
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.node.id, soft=False)
    settings = {"num_cpus": 1, "num_gpus": int(place.has_gpu), "scheduling_strategy": strategy}
    if calls > 1:
        settings["max_concurrency"] = calls
    return kind.options(**settings).remote(*arguments)


def wait_until_ready(ray: Any, actors: Sequence[Any], chosen: Sequence[Place]) -> list[Any]:
    """Wait until actors are ready and return what they say about themselves (`about`).

    Args:
        ray: the module ray, connected.
        actors: the actors.
        chosen: where they run.

    Raises:
        NodeLostError: a node has gone meanwhile.
        SizewiseError: one doesn't start.
    """
    try:
        found: list[Any] = ray.get([actor.about.remote() for actor in actors], timeout=READY_S)
    except ray.exceptions.GetTimeoutError as error:
        raise SizewiseError(
            f"The cluster's nodes started no process within {READY_S:g} s.",
            "a free processor, or graphics card, on each node",
            "ray status, to see what occupies them",
        ) from error
    except ray.exceptions.RayError as error:
        if CREATION not in str(error) and is_lost(ray, (place.node for place in chosen)):
            raise NodeLostError("A node of the cluster is gone.") from error
        raise SizewiseError(
            f"A node of the cluster can't run Sizewise. Its last lines:\n{_last_lines(str(error))}",
            "Sizewise with the same extras, and the same SIZEWISE_HOME, on each node",
            "install Sizewise with the extras [study,scale] on that node",
        ) from error
    return found


class Hosts:
    """Processes of a cluster that hold the same thing: one on each machine, or one for each graphics card.

    Args:
        ray: the module ray, connected.
        kind: class of the processes; each is made with the arguments.
        arguments: returns the arguments, given the number of processes; the cores for each process come last.
        say: receives a line when a process is lost.
    """

    def __init__(
        self,
        ray: Any,
        kind: type,
        arguments: Callable[[int], tuple[Any, ...]],
        say: Callable[[str], None],
    ) -> None:
        self._ray, self._say = ray, say
        self._kind = ray.remote(kind)
        self._arguments: tuple[Any, ...] = ()
        self._load: dict[Any, int] = {}
        self._replaced = 0
        self.about = self._start(arguments)

    def _start(self, arguments: Callable[[int], tuple[Any, ...]]) -> list[Any]:
        """Start all processes; without a node that has gone meanwhile."""
        while True:
            found = places(self._ray)
            self._arguments = arguments(len(found))
            for place in found:
                self._add(place)
            try:
                return wait_until_ready(self._ray, list(self._load), found)
            except NodeLostError:
                self.close()

    def __len__(self) -> int:
        return len(self._load)

    def _add(self, place: Place) -> Any:
        host = start_actor(self._ray, self._kind, place, (*self._arguments, place.threads))
        self._load[host] = 0
        return host

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
            SizewiseError: all processes are lost, or one failed.
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
                    except self._ray.exceptions.RayTaskError as error:
                        raise failed_job(error) from error
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
            up = places(self._ray)
            if up:
                wait_until_ready(self._ray, [self._add(up[0])], up[:1])
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
