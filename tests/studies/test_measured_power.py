"""What a study can show follows from measured variances, where the data was evaluated before."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.comparison import compare
from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.store import Store
from sizewise.studies.measured_power import measured_power
from tests.evaluation.test_sampled import words_file


def test_variances_of_a_comparison_are_preferred_to_those_of_one_evaluation(tmp_path: Path, store: Store) -> None:
    path = words_file(tmp_path, 80)
    sampled = (EvaluationOptions(temperature=0.5, seed=0), EvaluationOptions(temperature=0.3, seed=0))
    first = evaluate("fake:echo", path, ["exact_match"], store=store, options=sampled[0])
    data = first.record.data
    assert measured_power(data, "token_f1", None, store) is None
    assert measured_power(data, None, 10, store) is None
    alone = measured_power(data, None, None, store)
    assert alone is not None
    assert (alone.metric, alone.source, alone.unit) == ("exact_match", first.id, "share")
    # 80 items, 5 % and 80 % power: 2.8 standard errors of the difference of two independent shares near one half.
    assert alone.difference == pytest.approx(2.8 * (2 * 0.25 / 80) ** 0.5, rel=0.25)
    second = evaluate("fake:echo", data, ["exact_match"], store=store, options=sampled[1])
    compared = compare({"a": first.id, "b": second.id}, store=store)
    paired = measured_power(data, "exact_match", None, store)
    assert paired is not None
    assert paired.source == compared.id
    assert paired.difference == compared.record.differences[0].detectable
