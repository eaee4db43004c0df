"""What a study can show follows from measured variances, where the data was evaluated before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.comparison import compare
from sizewise.evaluation import evaluate
from sizewise.store import Store
from sizewise.studies.measured_power import measured_power
from tests.evaluation.test_sampled import words_file


def half_right(folder: Path, every: int) -> str:
    """Record answers of which some are wrong, in an order that has nothing to do with their number of words."""
    rows = [json.loads(line) for line in words_file(folder, 80).read_text(encoding="utf-8").splitlines()]
    answers = [
        {"id": row["id"], "completion": row["prompt"] if (i * 7 + i // 5) % 2 else f"wrong {i % every}"}
        for i, row in enumerate(rows)
    ]
    if every == 3:
        answers = [answer | {"completion": rows[i]["prompt"]} if i % 3 else answer for i, answer in enumerate(answers)]
    path = folder / f"answers{every}.jsonl"
    path.write_text("\n".join(map(json.dumps, answers)), encoding="utf-8")
    return f"recorded:{path}"


def test_variances_of_a_comparison_are_preferred_to_those_of_one_evaluation(tmp_path: Path, store: Store) -> None:
    path = words_file(tmp_path, 80)
    first = evaluate(half_right(tmp_path, 2), path, ["exact_match"], store=store)
    data = first.record.data
    assert measured_power(data, "token_f1", None, store) is None
    assert measured_power(data, None, 10, store) is None
    alone = measured_power(data, None, None, store)
    assert alone is not None
    assert (alone.metric, alone.source, alone.unit) == ("exact_match", first.id, "share")
    # 80 items, 5 % and 80 % power: 2.8 standard errors of the difference of two independent shares near one half.
    assert alone.difference == pytest.approx(2.8 * (2 * 0.25 / 80) ** 0.5, rel=0.25)
    second = evaluate(half_right(tmp_path, 3), data, ["exact_match"], store=store)
    compared = compare({"a": first.id, "b": second.id}, store=store)
    paired = measured_power(data, "exact_match", None, store)
    assert paired is not None
    assert paired.source == compared.id
    assert paired.difference == compared.record.differences[0].detectable
