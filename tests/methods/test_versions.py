"""Numbers change only with the version of their method, which is part of the ids of what rests on it.

If a value here differs, either the change of the numbers is a mistake, or the method gets a new version: raise it (the
constant or the metric's `version`) and add the new values with `python -m tests.methods.test_versions`, which keeps the
old ones for the record.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sizewise import datasets
from sizewise.comparison import differences
from sizewise.comparison.comparing import COMPARISON_VERSION
from sizewise.comparison.tables import ItemTable
from sizewise.datasets import DATASET_VERSION
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.metrics import METRICS, AnswerItem, CannotMeasure, ChoiceItem, LikelihoodItem
from sizewise.metrics.base import SCORING_VERSION, total
from sizewise.metrics.extraction import FIELD_METRICS
from sizewise.models.prompts import PROMPT_VERSION, answer_limit, choose_shots, make_request, stop_texts
from sizewise.records import Evaluation, Example, ItemRow, Message, ModelDescription, fingerprint

GOLDEN = Path(__file__).with_name("golden.json")
ANSWERS = (
    ("The invoice is due within 30 days.", ("The invoice is due within 30 days.",)),
    ("It's due after thirty days", ("The invoice is due within 30 days.", "Within 30 days.")),
    ("Yes", ("yes",)),
    ("No, I can't help with that.", ("no",)),
    ('{"status": "open", "total": 12}', ('{"status": "open", "total": 12.5}',)),
    ("该发票应在三十天内支付", ("发票应在30天内支付",)),
    ("", ("Die Rechnung ist binnen 30 Tagen fällig.",)),
)


def items(needs: str) -> list[Any]:
    if needs == "answers":
        return [
            AnswerItem(said, known, "When is the invoice due? It is due within 30 days.") for said, known in ANSWERS
        ]
    if needs == "likelihood":
        return [LikelihoodItem(10.5 + i, 4 + i, 17 + 2 * i, 3 + i) for i in range(6)]
    return [ChoiceItem((1.0 + i % 3, 2.0, 2.5), (5, 9, 4 + i), i % 3) for i in range(6)]


def score_of(name: str) -> Any:
    metric = METRICS[name]
    if metric.needs == "suite":
        sums = np.array([[3.0, 5.0, 4.0, 6.0]])
        return metric.value(sums).tolist()
    measured = items(metric.needs)
    if name in ("json_valid", "json_f1", "json_repaired", "json_contradictory", "value_in_source", *FIELD_METRICS):
        measured = measured[4:5] * 2
    elif name in ("accuracy", "macro_f1", "log_loss", "brier", "ece"):
        measured = [
            AnswerItem(said, (known,), probabilities={label: 0.7 if label == said else 0.15 for label in "abc"})
            for said, known in zip(["a", "b", "b", "c", "a", "c"], ["a", "b", "c", "c", "a", "b"], strict=True)
        ] * 4
    references = [item.references for item in measured] if metric.needs == "answers" else []
    try:
        metric = metric.prepared(references) if references else metric
    except CannotMeasure as error:
        return str(type(error).__name__)
    rows = []
    for i, item in enumerate(measured):
        try:
            stats = {name: metric.measure(item)}
        except CannotMeasure:  # of this item only
            continue
        rows.append(ItemRow(item=f"i{i}", kind="example", cluster=f"d{i}", uncontaminated=True, stats=stats))
    found = total(metric, rows, name=name, signature="")
    return [found.value, found.ci_low, found.ci_high]


def example(number: int, prompt: str, answer: str) -> Example:
    return Example(
        id=f"e{number}",
        messages=(Message(role="user", content=prompt),),
        references=(answer,),
        tags=(),
        source=f"doc{number % 12}",
    )


def contents() -> datasets.DatasetContents:
    draw = random.Random(7)
    words = [f"word{i}" for i in range(300)]
    documents = tuple(make_document(f"doc{i}", "", " ".join(draw.choices(words, k=80)), "test") for i in range(12))
    examples = tuple(example(i, f"What does part {i} of the plan say?", f"It names word{i}.") for i in range(36))
    return datasets.build([Reading(documents, examples)], ["x"], None, "general", 0)


def split() -> Any:
    made = contents()
    return {name: sorted(one.id for one in made.examples[name]) for name in made.examples} | {
        "contamination": made.record.contamination.model_dump()
    }


def prompts() -> Any:
    made = contents()
    shots = choose_shots(made, 0)
    known = made.examples["test"]
    stop = stop_texts(known)
    asked = [make_request(known[0], form, shots, answer_limit(known), stop) for form in ("chat", "few_shot")]
    return [fingerprint([one.model_dump(mode="json") for one in asked]), [one.id for one in shots], list(stop)]


def compared() -> Any:
    draw = random.Random(3)
    model = ModelDescription(
        uri="fake:echo", revision="", origin="", license="", engine="", precision="", attention="", context=None,
        parameters=None, memory_bytes=None, disk_bytes=None, can_score=False, can_chat=True,
    )  # fmt: skip
    records, rows = {}, {}
    for name, rate in (("a", 0.8), ("b", 0.5), ("c", 0.75)):
        rows[name] = [
            ItemRow(item=f"i{i}", kind="example", cluster=f"d{i // 3}", uncontaminated=True,
                    stats={"exact_match": (float(draw.random() < rate), 1.0)})
            for i in range(60)
        ]  # fmt: skip
        records[name] = Evaluation(
            model=model, data="data-x", seed=0, limit=None, metrics=("exact_match",), scores={}, items=60, failed=0,
            seconds=1.0, versions={},
        )  # fmt: skip
    found = differences(records, {name: ItemTable.of(some) for name, some in rows.items()}).differences
    return [[one.value, one.ci_low, one.ci_high, one.p, one.p_adjusted, one.better] for one in found]


def methods() -> dict[str, Any]:
    """Method, with its version -> the function that computes its golden values."""
    return {
        f"dataset@{DATASET_VERSION}": split,
        f"prompt@{PROMPT_VERSION}": prompts,
        f"comparison@{COMPARISON_VERSION}": compared,
    } | {
        f"{name}@{metric.version}.{SCORING_VERSION}": (lambda name=name: score_of(name))
        for name, metric in METRICS.items()
    }


@pytest.mark.parametrize("name", list(methods()))
def test_a_method_has_the_values_of_its_version(name: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert name in golden, f"{name} has no golden values: python -m tests.methods.test_versions"
    found = json.loads(json.dumps(methods()[name]()))
    assert found == approx(golden[name]), f"the numbers of {name} changed: raise its version"


def approx(value: Any) -> Any:
    """Compare numbers to nine digits, all else exactly."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True)
    if isinstance(value, list):
        return [approx(one) for one in value]
    if isinstance(value, dict):
        return {key: approx(one) for key, one in value.items()}
    return value


if __name__ == "__main__":
    before = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    found = {name: compute() for name, compute in methods().items() if name not in before}
    GOLDEN.write_text(json.dumps(before | found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
