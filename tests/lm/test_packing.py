from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.lm.packing import NO_TARGET, Mix, Unit, cut, pack

CONTEXT = 16


@given(st.integers(0, 100))
def test_a_cut_text_predicts_each_token_but_the_first_once(length: int) -> None:
    ids = list(range(1000, 1000 + length))
    targets = [token for unit in cut(ids, CONTEXT) for token in unit.ids[unit.first_target :]]
    assert targets == ids[1:]


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
