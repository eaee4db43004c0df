from __future__ import annotations

import numpy as np
import pytest

from sizewise.stats import PairedBet


def test_looking_after_each_item_raises_no_more_false_alarms() -> None:
    alarms = 0
    for seed in range(300):
        bet = PairedBet()
        bet.add(np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], 400, p=[0.2, 0.6, 0.2]))
        alarms += bet.p < 0.05
    assert alarms / 300 <= 0.05


def test_a_clear_difference_is_seen_early_whichever_way() -> None:
    for side in (1, -1):
        bet = PairedBet()
        for x in np.random.default_rng(1).choice([0.0, 1.0, -1.0], 500, p=[0.5, 0.4, 0.1]):
            bet.add([side * x])
            if bet.p < 0.05:
                break
        assert bet.n < 150
        assert np.sign(bet.mean) == side


def test_evidence_does_not_go_away() -> None:
    bet = PairedBet()
    bet.add([1.0] * 30)
    seen = bet.p
    bet.add([-1.0] * 10)
    assert bet.p == seen


def test_a_difference_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        PairedBet().add([1.5])
