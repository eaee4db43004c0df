from __future__ import annotations

from bisect import bisect_left, insort
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.lm.packing import NO_TARGET, Mix, Unit, cut, cut_items, fill_rows, pack, shuffled
from tests.clock import processor_seconds

CONTEXT = 16


@given(st.integers(0, 100), st.integers(1, 3))
def test_a_cut_text_predicts_each_token_after_its_prefix_once(length: int, first: int) -> None:
    ids = list(range(1000, 1000 + length))
    targets = [token for unit in cut(ids, CONTEXT, first) for token in unit.ids[unit.first_target :]]
    assert targets == ids[first:]


@given(st.lists(st.tuples(st.integers(2, CONTEXT), st.integers(1, CONTEXT - 1)), max_size=30))
def test_packing_loses_no_token(sizes: list[tuple[int, int]]) -> None:
    token = iter(range(1, 10_000))
    units = [Unit([next(token) for _ in range(size)], min(first, size)) for size, first in sizes]
    rows = pack(units, CONTEXT, padding=0).all()
    assert sorted(rows.ids[rows.segments > 0].tolist()) == [t for unit in units for t in unit.ids]
    wanted = sorted(t for unit in units for t in unit.ids[max(1, unit.first_target) :])
    assert sorted(rows.targets[rows.targets != NO_TARGET].tolist()) == wanted
    for row in range(len(rows)):
        for place in np.flatnonzero(rows.targets[row] != NO_TARGET):
            assert rows.targets[row, place] == rows.ids[row, place + 1]
            assert rows.segments[row, place] == rows.segments[row, place + 1]
            assert rows.positions[row, place + 1] == rows.positions[row, place] + 1


def test_packing_fills_rows_well() -> None:
    units = [Unit(list(range(size)), 1) for size in (9, 7, 8, 8, 15, 16, 3, 13)]
    assert len(pack(units, CONTEXT, 0)) == 5


def test_a_unit_longer_than_the_row_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack([Unit(list(range(CONTEXT + 1)), 1)], CONTEXT, 0)


def mix(share: float, seed: int = 5) -> Mix:
    prose = pack([Unit([100 + i] * CONTEXT, 1) for i in range(7)], CONTEXT, 0)
    examples = pack([Unit([200 + i] * CONTEXT, 1) for i in range(3)], CONTEXT, 0)
    return Mix(prose, examples, share, 4, seed)


def test_steps_are_a_pure_function_of_seed_and_number() -> None:
    later = [mix(0.5).step(i).ids.tolist() for i in (9, 3)]
    whole = [mix(0.5).step(i).ids.tolist() for i in range(10)]
    assert later == [whole[9], whole[3]]
    assert whole != [mix(0.5, seed=6).step(i).ids.tolist() for i in range(10)]


def test_each_epoch_sees_each_row_once_and_the_share_holds() -> None:
    seen = np.concatenate([mix(0.25).step(i).ids[:, 0] for i in range(28)])
    prose = seen[seen < 200]
    assert len(prose) == 84
    for epoch in range(12):
        assert sorted(prose[7 * epoch : 7 * epoch + 7].tolist()) == list(range(100, 107))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_pool_alone(share: float) -> None:
    seen = np.concatenate([mix(share).step(i).ids[:, 0] for i in range(5)])
    assert ((seen >= 200) == bool(share)).all()


@given(st.lists(st.integers(0, 100), max_size=10))
def test_items_are_cut_like_texts(lengths: list[int]) -> None:
    sizes = np.array(lengths, np.int64)
    begins = np.array([1 + number % 3 for number in range(len(lengths))], np.int64)
    starts, cuts, firsts = cut_items(np.cumsum(sizes) - sizes, sizes, begins, CONTEXT)
    tokens = list(range(sum(lengths)))
    expected = [unit for first, end, size in zip(begins, np.cumsum(sizes), sizes, strict=True)
                for unit in cut(tokens[end - size : end], CONTEXT, first)]  # fmt: skip
    assert [(tokens[a : a + n], first) for a, n, first in zip(starts, cuts, firsts, strict=True)] == expected


def best_fit(lengths: list[int], context: int) -> int:
    """Place one unit after the other, longest first, into the fullest row that has room; return the number of rows."""
    free: list[int] = []
    rows = 0
    for need in sorted(lengths, reverse=True):
        place = bisect_left(free, need)
        rows += place == len(free)
        room = free.pop(place) if place < len(free) else context
        if room > need:
            insort(free, room - need)
    return rows


@given(st.lists(st.integers(2, CONTEXT), min_size=1, max_size=200))
def test_units_of_one_length_are_placed_together_as_well_as_one_by_one(lengths: list[int]) -> None:
    members, ends = fill_rows(np.array(lengths, np.int64), CONTEXT)
    assert sorted(members.tolist()) == list(range(len(lengths)))
    sums = [sum(lengths[unit] for unit in members[a:b]) for a, b in pairwise(ends)]
    assert max(sums) <= CONTEXT
    assert min(sums) > 0
    assert len(sums) == best_fit(lengths, CONTEXT)


def test_packing_takes_time_in_proportion_to_the_units() -> None:
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(5, 1, 500_000).astype(np.int64) + 2, 512)
    _, ends = fill_rows(lengths, 512)
    assert processor_seconds(lambda: fill_rows(lengths, 512)) < 3
    assert lengths.sum() / 512 / (len(ends) - 1) > 0.99


@given(st.integers(1, 300), st.tuples(st.integers(0, 9), st.integers(0, 2), st.integers(0, 50)))
def test_the_order_of_rows_is_a_permutation(size: int, key: tuple[int, ...]) -> None:
    assert sorted(shuffled(place, size, key) for place in range(size)) == list(range(size))


def test_orders_differ_and_are_even() -> None:
    orders = [tuple(shuffled(place, 4, (key, 0, 0)) for place in range(4)) for key in range(4_800)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert min(counts) > 140  # 200 on average
    assert max(counts) < 260
    steps = [shuffled(i + 1, 1_000_003, (7,)) - shuffled(i, 1_000_003, (7,)) for i in range(300)]
    assert len(set(steps)) == 300


def test_the_first_row_of_a_large_pool_costs_no_more_than_of_a_small_one() -> None:
    assert processor_seconds(lambda: [shuffled(place, 10**12, (1, 2, 3)) for place in range(2_000)]) < 1
