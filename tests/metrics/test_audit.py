"""Every metric on small cases whose values were worked out by hand, or by the program that defines it."""

from __future__ import annotations

import importlib
import math
import pkgutil
from functools import cache
from typing import Any

import numpy as np
import pytest
import sacrebleu

from sizewise.metrics import METRICS, CannotMeasure, Metric, ReferenceSet, find_metric
from sizewise.metrics.base import FloatArray, needs_items
from tests.metrics import tables
from tests.metrics.tables.cases import NOT_MEASURED, Case

MIN_OF_FAMILY, MIN_OF_METRIC = 30, 8
ORACLES = {"bleu": sacrebleu.BLEU, "chrf": sacrebleu.CHRF, "ter": sacrebleu.TER}


@cache
def families() -> dict[str, dict[str, list[Case]]]:
    names = [module.name for module in pkgutil.iter_modules(tables.__path__) if module.name != "cases"]
    return {name: importlib.import_module(f"tests.metrics.tables.{name}").CASES for name in names}


def _oracle(name: str, case: Case) -> float:
    width = max(len(item.references) for item in case.items)
    references = [
        [item.references[i] if i < len(item.references) else None for item in case.items] for i in range(width)
    ]
    return float(ORACLES[name]().corpus_score([item.completion for item in case.items], references).score)


def _value(metric: Metric, case: Case) -> float | str:
    try:
        if metric.needs == "answers" and not case.unprepared:
            references = [item.references for item in case.items]
            metric = metric.prepared(ReferenceSet(references, labels=case.labels))
        stats: FloatArray = np.array(
            [item if metric.needs == "suite" else metric.measure(item) for item in case.items], dtype=float
        )
    except CannotMeasure:
        return NOT_MEASURED
    if needs_items(metric):
        found: Any = metric
        return float(found.estimate(stats, [str(i) for i in range(len(stats))])[0])
    return float(metric.value(stats.sum(axis=0)))


def _cases() -> list[Any]:
    found = []
    for family, metrics in families().items():
        for name, cases in metrics.items():
            found += [pytest.param(name, case, id=f"{family}-{name}-{i}") for i, case in enumerate(cases)]
    return found


@pytest.mark.parametrize(("name", "case"), _cases())
def test_a_metric_has_the_value_worked_out(name: str, case: Case) -> None:
    value = _value(find_metric(name), case)
    expected = _oracle(name, case) if case.expected == "sacrebleu" else case.expected
    if expected is None:
        assert isinstance(value, float)
        assert not math.isfinite(value), case.why
    elif isinstance(expected, str):
        assert value == expected, case.why
    else:
        assert value == pytest.approx(expected, abs=case.tolerance), case.why


def test_every_metric_is_in_a_table_and_has_enough_cases() -> None:
    counted = {name: len(cases) for metrics in families().values() for name, cases in metrics.items()}
    assert set(METRICS) - set(counted) == set()
    assert {name: count for name, count in counted.items() if count < MIN_OF_METRIC} == {}
    few = {family: sum(map(len, metrics.values())) for family, metrics in families().items()}
    assert {family: count for family, count in few.items() if count < MIN_OF_FAMILY} == {}
