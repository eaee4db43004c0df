from __future__ import annotations

import random
import resource
from pathlib import Path

import pytest
import torch

from sizewise.errors import SizewiseError
from sizewise.lm.checkpointing import load_state, remove_states, save_state


def fill(folder: Path, steps: int) -> None:
    for step in range(1, steps + 1):
        save_state(folder, step, {"w": torch.full((50,), float(step))}, {"step": step})


def test_the_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    found = load_state(tmp_path)
    assert found is not None
    assert found[1] == {"step": 4}
    assert float(found[0]["w"][0]) == 4
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    remove_states(tmp_path)
    assert load_state(tmp_path) is None


def test_any_flipped_byte_is_detected_and_the_one_before_is_used(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    newest = sorted(tmp_path.glob("*.safetensors"))[-1]
    whole = newest.read_bytes()
    rng = random.Random(0)
    for _ in range(1000):
        place = rng.randrange(len(whole))
        newest.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        found = load_state(tmp_path)
        assert found is not None
        assert found[1] == {"step": 1}


def test_a_truncated_or_absent_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    fill(tmp_path, 1)
    path = next(tmp_path.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:20])
    assert load_state(tmp_path) is None


def test_a_full_disk_is_told_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # a file can hold no more, as on a full disk
    try:
        with pytest.raises(SizewiseError, match="can't be written"):
            save_state(tmp_path, 2, {"w": torch.zeros(100_000)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found = load_state(tmp_path)
    assert found is not None
    assert found[1] == {"step": 1}
    assert not list(tmp_path.glob("*.part"))
