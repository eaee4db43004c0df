"""Several processes that train one network: torch.distributed with DDP, or FSDP2 for what one process can't hold.

Every process computes its rows of the same global batch. Losses and gradients are weighted by the predicted tokens of
the whole batch, so neither depends on the number of processes. The first process alone writes files.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from sizewise.errors import SizewiseError, WorkerLost, WorkerStopped
from sizewise.lm.device import choose_device
from sizewise.lm.execution import execution_of
from sizewise.lm.packing import NO_TARGET, Rows

Found = TypeVar("Found")
PATIENCE = timedelta(days=2)
"""How long a process waits for the others: the first one measures the network and downloads weights meanwhile. One that
dies is noticed at once."""
TOLD_AFTER_S = 15.0
"""When a process that waits for the others to start says so."""
LOST_WORDS = ("closed by peer", "reset by peer", "Connection refused", "Broken pipe", "remote process exited")
"""Parts of what gloo and NCCL say when another process is gone."""


class Workers:
    """The processes that train a network together. This class is one process alone.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_size: number of processes on this machine.
        sharded: whether each process holds a part of the weights only.
        interrupted: whether any process was asked to stop, as of the last step.
    """

    rank, size, local_size = 0, 1, 1
    sharded, interrupted = False, False

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def first(self, do: Callable[[], Any]) -> None:
        """Do something in the first process; the others wait.

        Raises:
            WorkerStopped: in the other processes, if the first one failed.
        """
        do()

    def in_turn(self, do: Callable[[], Any]) -> None:
        """Do something in the first process, then in the others, which find what the first one wrote.

        Raises:
            WorkerStopped: another process failed.
        """
        do()

    def wrap(self, network: Any) -> None:
        """Prepare a network, after `loop.prepare`, for being trained by all processes."""

    def compute(self, compute: Callable[[], Found]) -> Found:
        """Compute something with the network, in all processes at once."""
        return compute()

    def parts(self, rows: Rows, micro_rows: int) -> Iterator[tuple[Rows, float]]:
        """Split the rows of a step into parts that are in memory one after the other.

        Args:
            rows: the rows of a step.
            micro_rows: rows of a part; 0 for all.

        Yields:
            Rows of this process, and the factor of their mean loss in its gradient.
        """
        total = max(1, _targets_in(rows))
        for start in range(0, len(rows), micro_rows or len(rows)):
            part = rows.at(slice(start, start + (micro_rows or len(rows))))
            share = 1.0 if len(part) == len(rows) else _targets_in(part) / total
            if share:
                yield part, share

    def turns(self, count: int) -> Iterator[tuple[int, bool]]:
        """Distribute pieces of work.

        Yields:
            Index of a piece of this process, and whether its result counts: it doesn't if the piece only keeps this
            process in step with the others.
        """
        yield from ((number, True) for number in range(count))

    def total(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add up an array over all processes, in the same order everywhere."""
        return values

    def shared(self, value: Any = None) -> Any:
        """Return the value, as JSON data, that the first process passes here."""
        return value

    def whole(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Collect whole tensors in the first process; empty in the others."""
        return tensors

    @contextmanager
    def delayed_signals(self) -> Iterator[None]:
        """Delay Ctrl-C and SIGTERM until all processes are at the end of the same step."""
        yield

    def notes(self) -> tuple[str, ...]:
        """Describe the processes."""
        return ()


ALONE = Workers()


class _Root(torch.nn.Module):
    """The module whose forward pass DDP or FSDP2 watches: any computation with the network inside."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


class Group(Workers):
    """The processes that a launcher such as torchrun started.

    Args:
        device: `cpu` or `cuda`.
        sharded: split weights, gradients and the optimizer's state over the processes (FSDP2).
    """

    def __init__(self, device: str, sharded: bool) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        self.sharded, self._device = sharded, device
        self._root: Any = None
        self._asked = False

    def first(self, do: Callable[[], Any]) -> None:
        """Do something in the first process; the others wait and stop if it fails."""
        failure: BaseException | None = None
        if self.is_first:
            try:
                do()
            except BaseException as error:
                failure = error
        self._check(failure)

    def in_turn(self, do: Callable[[], Any]) -> None:
        """Do something in the first process, then in the others."""
        self.first(do)
        failure: BaseException | None = None
        if not self.is_first:
            try:
                do()
            except BaseException as error:
                failure = error
        self._check(failure)

    def close(self) -> None:
        """Release the network.

        DDP's reducer must not be the last one to hold gloo's process group: it would wait, with the interpreter lock,
        for a thread that waits for that lock.
        """
        self._root = None
        gc.collect()

    def _check(self, failure: BaseException | None) -> None:
        """Stop all processes if one failed."""
        failed = self._gathered(np.array([float(failure is not None)]))[:, 0]
        if failure is not None:
            raise failure
        if failed.any():
            raise WorkerStopped(f"Worker {int(failed.argmax())} stopped.")

    def _gathered(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        own = torch.from_numpy(np.ascontiguousarray(values, np.float64))
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        return np.stack([part.numpy() for part in found])

    def wrap(self, network: Any) -> None:
        """Wrap a network in DDP or FSDP2."""
        root = _Root(network)
        if not self.sharded:
            # Experts of a mixture, for example, may have no token in a step.
            self._root = DistributedDataParallel(
                root,
                device_ids=[torch.cuda.current_device()] if self._device == "cuda" else None,
                forward_sync_buffers=False,
                find_unused_parameters=True,
            )
            return
        if execution_of(network).rows == "separate":
            raise SizewiseError(
                f"'{network.config.model_type}' is trained on one text at a time, which FSDP can't keep in step.",
                "a network whose training rows hold several texts",
                "the same command without --fsdp",
            )
        mesh = init_device_mesh(self._device, (self.size,))
        for layer in execution_of(network).layers:
            fully_shard(layer, mesh=mesh)
        self._root = fully_shard(root, mesh=mesh, reshard_after_forward=True)

    def compute(self, compute: Callable[[], Found]) -> Found:
        """Compute something; with gradients or split weights, in step with the other processes."""
        if torch.is_grad_enabled() or self.sharded:
            found: Found = self._root(compute)
            return found
        return compute()  # every process has all weights, and need not be in step

    def parts(self, rows: Rows, micro_rows: int) -> Iterator[tuple[Rows, float]]:
        """Take every nth row of a step; see `Workers.parts`."""
        total, places = max(1, _targets_in(rows)), -(-len(rows) // self.size)
        own = range(self.rank, len(rows), self.size)
        for start in range(0, places, micro_rows or places):
            inside = list(own[start : start + (micro_rows or places)])
            part = rows.at(inside or [0])  # all processes take the same number of steps; a borrowed row counts nothing
            share = _targets_in(part) / total if inside else 0.0
            yield part, share * self.size  # DDP and FSDP2 average over processes

    def turns(self, count: int) -> Iterator[tuple[int, bool]]:
        """Take every nth piece of work; see `Workers.turns`."""
        for start in range(0, count, self.size):
            number = start + self.rank
            if number < count or self.sharded:
                yield min(number, count - 1), number < count

    def total(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add up an array over all processes, and learn whether one was asked to stop."""
        found = self._gathered(np.append(values, float(self._asked)))
        self.interrupted = bool(found[:, -1].any())
        return np.asarray(sum(found[:, :-1]), np.float64)

    def shared(self, value: Any = None) -> Any:
        """Return what the first process passes here."""
        text = torch.frombuffer(bytearray(json.dumps(value if self.is_first else None).encode()), dtype=torch.uint8)
        length = torch.tensor([len(text)])
        dist.broadcast(length, 0)
        text = text if self.is_first else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(text, 0)
        return json.loads(text.numpy().tobytes())

    def whole(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Collect whole tensors in the first process."""
        found = {}
        for name, tensor in tensors.items():
            full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.is_first:
                found[name] = full.cpu()
        return found

    @contextmanager
    def delayed_signals(self) -> Iterator[None]:
        """Only note Ctrl-C and SIGTERM inside the block."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            self._asked = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def notes(self) -> tuple[str, ...]:
        """Describe the processes."""
        how = "FSDP2: each held a part of the weights and of the optimizer's state" if self.sharded else "DDP"
        return (f"{self.size} processes trained together ({how}; {dist.get_backend()})",)


def _targets_in(rows: Rows) -> int:
    return int((rows.targets != NO_TARGET).sum())


@contextmanager
def _told_of_waiting(say: Callable[[str], None]) -> Iterator[None]:
    """Report what a process waits for if that takes long: variables of another launcher may be left over in a shell."""
    others, address = int(os.environ["WORLD_SIZE"]) - 1, os.environ["MASTER_ADDR"]
    text = (
        f"Waiting for {others:,} more {'process' if others == 1 else 'processes'} at {address}, because RANK, "
        "WORLD_SIZE and MASTER_ADDR are set. If nothing starts them, stop this command and unset these variables."
    )
    timer = threading.Timer(TOLD_AFTER_S, say, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def joined(
    device: str = "auto", sharded: bool = False, say: Callable[[str], None] = lambda _: None
) -> Iterator[Workers]:
    """Join the processes that torchrun started; outside of torchrun, or if it started one only, yield one alone.

    Args:
        device: `auto`, `cpu` or `cuda`.
        sharded: split weights, gradients and the optimizer's state over the processes.
        say: is told when the other processes are long in coming.

    Raises:
        SizewiseError: the device can't be shared by processes, or there are more processes than cards.
    """
    if not {"RANK", "MASTER_ADDR"} <= set(os.environ) or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    device, local = choose_device(device), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "mps" or (device == "cuda" and local >= torch.cuda.device_count()):
        raise SizewiseError(
            f"Process {local} has no {device} device of its own.",
            "one graphics card for each process of a machine, or --device cpu",
            f"--launch torchrun:{max(1, torch.cuda.device_count())}",
        )
    if device == "cuda":
        torch.cuda.set_device(local)
    with _told_of_waiting(say):
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    group = Group(device, sharded)
    try:
        yield group
    except (RuntimeError, dist.DistError) as error:
        if not any(words in str(error) for words in LOST_WORDS):
            raise
        raise WorkerLost("Another process is gone.") from error
    finally:
        group.close()
        dist.destroy_process_group()


def plain_norm(norm: torch.Tensor) -> float:
    """Return the norm of a gradient that may be spread over processes."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def placed_like(tensor: torch.Tensor, like: torch.Tensor | None) -> torch.Tensor:
    """Split a whole tensor over the processes in the way another one is split."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor) or tensor.shape != like.shape:
        return tensor
    local = torch.distributed.tensor.distribute_tensor(
        tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )
    return local


def empty_like(sizes: Sequence[int], dtype: torch.dtype, like: torch.Tensor | None) -> torch.Tensor:
    """Make an uninitialized tensor, split over the processes in the way another one of the same sizes is."""
    if isinstance(like, DTensor) and like.shape == torch.Size(sizes):
        return torch.empty_like(like, dtype=dtype)
    return torch.empty(tuple(sizes), dtype=dtype)
