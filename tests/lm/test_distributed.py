"""How the rows of a step and pieces of a validation are distributed over processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizewise.lm import distributed
from sizewise.lm.distributed import ALONE, Group, joined
from sizewise.lm.packing import NO_TARGET, Rows


def group(rank: int, size: int, sharded: bool = False) -> Group:
    """A process of a group, without its connections."""
    found = Group.__new__(Group)
    found.rank, found.size, found.sharded = rank, size, sharded
    return found


def rows_of(targets: list[int]) -> Rows:
    """Rows with so many predicted tokens each; the first id of a row is its number."""
    shape = (len(targets), 8)
    predicted = np.full(shape, NO_TARGET)
    for number, count in enumerate(targets):
        predicted[number, :count] = 1
    ids = np.repeat(np.arange(len(targets))[:, None], 8, axis=1)
    return Rows(ids, predicted, np.ones(shape, np.int64), np.zeros(shape, np.int64))


@settings(deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=9), st.integers(2, 5), st.integers(0, 3))
def test_processes_share_a_step_and_weight_it_by_its_tokens(targets: list[int], size: int, micro_rows: int) -> None:
    rows = rows_of(targets)
    loss = np.array([number + 1.0 for number in range(len(targets))])  # of each token in a row
    parts = [list(group(rank, size).parts(rows, micro_rows)) for rank in range(size)]
    assert len({len(of_one) for of_one in parts}) == 1  # all take the same number of steps
    counted = [int(number) for of_one in parts for part, factor in of_one if factor for number in part.ids[:, 0]]
    assert set(counted) >= {number for number, count in enumerate(targets) if count}
    assert len(counted) == len(set(counted))
    total = 0.0
    for of_one in parts:
        for part, factor in of_one:
            tokens = (part.targets != NO_TARGET).sum(1)
            mean = (loss[part.ids[:, 0]] * tokens).sum() / max(1, tokens.sum())
            total += mean * factor / size  # DDP and FSDP2 average
    assert total == pytest.approx((loss * targets).sum() / max(1, sum(targets)))


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_each_piece_counts_once(count: int, sharded: bool) -> None:
    turns = [list(group(rank, 3, sharded).turns(count)) for rank in range(3)]
    assert sorted(number for of_one in turns for number, counts in of_one if counts) == list(range(count))
    assert not sharded or len({len(of_one) for of_one in turns}) == 1
    assert list(ALONE.turns(count)) == [(number, True) for number in range(count)]


def test_the_process_group_outlives_the_reducer_that_holds_it(tmp_path: Path) -> None:
    """Else the end of a run waits forever, about every second time."""
    code = (
        "import sys, weakref, torch\n"
        "import torch.distributed as dist\n"
        "from torch.nn.parallel import DistributedDataParallel\n"
        "from sizewise.lm.distributed import Group\n"
        "dist.init_process_group('gloo', init_method='file://' + sys.argv[1], rank=0, world_size=1)\n"
        "workers, network = Group('cpu', False), torch.nn.Linear(2, 2)\n"
        "workers.wrap(network)\n"
        "wrapped = weakref.ref(workers._root)\n"
        "assert isinstance(wrapped(), DistributedDataParallel)\n"
        "workers.compute(lambda: network(torch.ones(1, 2))).sum().backward()\n"
        "workers.close()\n"
        "print('gone', wrapped() is None)\n"
        "dist.destroy_process_group()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")],
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "gone True\n"


def test_a_process_that_waits_for_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    left = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "TOLD_AFTER_S", 0.1)
    monkeypatch.setattr(distributed, "PATIENCE", timedelta(seconds=1))
    said: list[str] = []
    with pytest.raises(distributed.dist.DistError), joined("cpu", say=said.append):
        pass
    assert len(said) == 1
    assert "Waiting for 1 more process at 127.0.0.1" in said[0]
