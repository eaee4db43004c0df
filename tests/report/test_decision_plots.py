from __future__ import annotations

from sizewise.comparison.decided import CostRules
from sizewise.comparison.decisions import analyze_rows
from sizewise.records import Comparison, CostLine, ModelDescription, Score
from sizewise.records.training import Range
from sizewise.report.decision_plots import coverage_plot, curve_plots, ladder_plot, reliability_plot
from sizewise.report.words import claim_text
from tests.comparison.test_decisions import SUBJECT, made


def test_plots_of_decisions_and_the_sentence_above_them() -> None:
    rows, held_out, people = made(400)
    found = analyze_rows(rows, held_out, SUBJECT, CostRules(risks=(0.15,)), people)
    plots = [reliability_plot(found), coverage_plot(found), *curve_plots(found)]
    assert len(plots) == 4
    for plot in plots:
        assert plot is not None
        assert plot.light.startswith("<svg")
        assert "confidence" in plot.caption or "Area" in plot.caption
    assert claim_text(found).startswith("Decides ")
    assert "stated risk 15%" in claim_text(found)
    hopeless = analyze_rows(rows[:20], (), SUBJECT, CostRules(risks=(0.01,)), people)
    assert claim_text(hopeless).startswith("No share of the cases can be decided")


def test_the_ladder_shows_quality_against_cost_and_latency() -> None:
    names = ("small", "large")
    model = ModelDescription(uri="m", origin="x", license="x", engine="test", precision="none")

    def score(metric: str, value: float) -> Score:
        return Score(
            metric=metric, value=value, ci_low=value * 0.9, ci_high=value * 1.1, n=9, unit="share", signature="x"
        )

    comparison = Comparison(
        data="d", evaluations=dict.fromkeys(names, "e"), models=dict.fromkeys(names, model),
        scores={
            "accuracy": {"small": score("accuracy", 0.8), "large": score("accuracy", 0.9)},
            "latency_s": {"small": score("latency_s", 0.01), "large": score("latency_s", 0.4)},
        },
        better={"accuracy": "higher"}, differences=(), language_modeling_proxy=False, seed=0,
    )  # fmt: skip
    costs = [
        CostLine(
            name=name, usd_per_1000=Range(expected=cost, lower=cost / 2, upper=cost * 2), usd_per_month=None, machines=1
        )
        for name, cost in (("small", 0.01), ("large", 1.0))
    ]
    plot = ladder_plot(comparison, "accuracy", costs)
    assert plot is not None
    assert "Cost per 1,000 decisions (USD)" in plot.light
    assert "Latency p50 (ms)" in plot.light
    assert "not drawn" not in plot.caption
    scores = {**comparison.scores, "accuracy": {**comparison.scores["accuracy"], "rule": score("accuracy", 0.5)}}
    with_rule = ladder_plot(comparison.model_copy(update={"scores": scores}), "accuracy", costs)
    assert with_rule is not None
    assert "not drawn: rule." in with_rule.caption
    assert ">rule<" not in with_rule.light  # nor in the legend
    assert ">large<" in with_rule.light
    assert ladder_plot(comparison.model_copy(update={"scores": {"accuracy": {}}}), "accuracy", []) is None
