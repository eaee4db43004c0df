"""Plots of cost, bias and load."""

from __future__ import annotations

import re

import pytest

from sizewise.loadtest.levels import Limits, TimedAnswer, level_of
from sizewise.records import BreakEven, CostLine, Needs, Range
from sizewise.report.cost_plots import break_even_plot, cost_plot, frontier
from sizewise.report.plots import load_plot, tradeoff_plots
from tests.choice.test_deciding import comparison

pytest.importorskip("vl_convert")


def a_cost(name: str, usd: float) -> CostLine:
    return CostLine(
        name=name, usd_per_1000=Range(lower=usd / 2, expected=usd, upper=2 * usd), usd_per_month=None, machines=None
    )


def test_the_frontier_leaves_out_what_is_dearer_and_no_better() -> None:
    rows = [{"x": 1.0, "y": 10.0}, {"x": 2.0, "y": 9.0}, {"x": 3.0, "y": 20.0}, {"x": 1.0, "y": 5.0}]
    assert frontier(rows, higher=True) == [rows[0], rows[2]]
    assert frontier(rows, higher=False) == [rows[3]]


def test_money_is_drawn_only_where_it_is_known() -> None:
    found = comparison({"own": (30.0, 1.0, None), "paid": (40.0, 1.0, None)})
    plot = cost_plot(found, "bleu", [a_cost("own", 0.01), a_cost("paid", 2.0)])
    assert plot is not None
    assert "own" in plot.light
    assert "USD" in plot.light
    assert (
        cost_plot(found, "bleu", [a_cost("own", 0.01), a_cost("paid", 2.0).model_copy(update={"usd_per_1000": None})])
        is None
    )
    even = BreakEven(self_hosted="own", paid="paid", lower=10_000, upper=50_000, machine_can=1_000_000)
    drawn = break_even_plot([a_cost("own", 0.01), a_cost("paid", 2.0)], Needs(), [even])
    assert drawn is not None
    assert "Requests per month" in drawn.dark
    assert break_even_plot([], Needs(), []) is None


def test_intervals_and_percentages_are_drawn() -> None:
    found = comparison({"a": (0.30, 1.0, None), "b": (0.40, 2.0, None)}, error=0.05)
    shares = {name: score.model_copy(update={"unit": "share"}) for name, score in found.scores["bleu"].items()}
    found = found.model_copy(update={"scores": found.scores | {"bleu": shares}})
    plots = tradeoff_plots(found, "bleu")
    assert len(plots) == 3
    for plot in plots:
        assert "BLEU: 25.000000%; ci_high: 0.35; candidate: a" in plot.light
        assert re.search(r">\d+%</text>", plot.light)
        assert not re.search(r'<text[^>]*fill="(#000|black)"', plot.dark)


def test_waiting_needs_two_numbers_of_users() -> None:
    found = comparison({"a": (30.0, 1.0, None), "b": (40.0, 1.0, None)})

    def levels(*counts: int) -> tuple[object, ...]:
        answers = [TimedAnswer(None, 0.1, 0.5 + i / 100, 5, ()) for i in range(12)]
        return tuple(level_of(answers, 3.0, Limits(), concurrent_users=count) for count in counts)

    several = found.model_copy(update={"load_levels": {"a": levels(1, 8), "b": levels(1, 8)}})
    plot = load_plot(several)
    assert plot is not None
    assert "Concurrent users" in plot.light
    assert load_plot(found.model_copy(update={"load_levels": {"a": levels(8)}})) is None
