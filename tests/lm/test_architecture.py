from __future__ import annotations

import pytest
import torch

from sizewise.errors import UsageError
from sizewise.lm.architecture import Shape, build_network, parse_attention, shape_for
from sizewise.lm.hf_format import attention_words, parameters_of

IDS = {"bos": 0, "eos": 1, "pad": 0}


@pytest.mark.parametrize(("size", "error"), [(1_000_000, 0.25), (5_000_000, 0.05), (20_000_000, 0.05)])
def test_the_dial_comes_close_and_counts_exactly(size: int, error: float) -> None:
    shape = shape_for(size)
    assert abs(shape.parameters - size) / size < error
    network = build_network(shape, "full", 64, IDS, seed=0)
    assert parameters_of(network) == shape.parameters


@pytest.mark.parametrize("size", [10, 10**10])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    with pytest.raises(UsageError):
        shape_for(size)


def test_attention_is_what_was_asked() -> None:
    shape = Shape(2, 64, 300)
    assert attention_words(build_network(shape, "full", 64, IDS, 0).config) == "full"
    assert attention_words(build_network(shape, "window:8", 64, IDS, 0).config) == "window 8"
    with pytest.raises(UsageError):
        parse_attention("windows:8")


def test_one_seed_one_network() -> None:
    shape = Shape(2, 64, 300)
    one, two, other = (build_network(shape, "full", 64, IDS, seed) for seed in (1, 1, 2))
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
