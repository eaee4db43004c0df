"""Extraction in an evaluation: answers constrained to the schema, evidence of the values, and scores of each field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sizewise.errors import UsageError
from sizewise.metrics import AnswerItem, CannotMeasure, Metric, find_metric, total
from sizewise.metrics.extraction import FIELD_METRICS, find_evidence
from sizewise.records import Evidence, Example, FieldScore, ItemRow, ModelDescription, Request

MAX_FIELDS = 100
"""Fields with scores of their own; of more, the most frequent ones."""


def constrain(requests: Sequence[Request], examples: Sequence[Example], description: ModelDescription) -> list[Request]:
    """Constrain each answer to the JSON schema of its example; examples without a schema are answered freely.

    Raises:
        UsageError: the model's engine can't constrain answers, or no example has a schema.
    """
    if "json_schema" not in description.offers:
        raise UsageError(
            f"{description.uri} can't follow a JSON schema: its engine is {description.engine}.",
            "a model on this machine that openvino runs, or an evaluation without --constrained",
            f"sizewise evaluate {description.uri} --constrained --engine openvino",
        )
    schemas = {example.id: example.answer_schema for example in examples if example.answer_schema}
    if examples and not schemas:
        raise UsageError(
            f"None of the {len(examples)} examples has a JSON schema.",
            'rows with a field "schema" that holds a JSON Schema object',
            "sizewise evaluate MODEL without --constrained",
        )
    # A schema ends the answer itself; stop texts such as a line break may occur inside of it.
    return [
        request.model_copy(update={"json_schema": schemas[request.id], "stop": ()})
        if request.id in schemas
        else request
        for request in requests
    ]


def evidence_of(example: Example, answer: str, metrics: Sequence[Metric]) -> tuple[Evidence, ...]:
    """Find where the values of an answer occur in its conversation, if `value_in_source` is measured."""
    if not any(metric.name == "value_in_source" for metric in metrics):
        return ()
    return find_evidence(answer, [message.content for message in example.messages], example.answer_schema)


def field_scores(
    rows: Sequence[ItemRow], examples: Sequence[Example], metrics: Sequence[Metric], signature: str
) -> tuple[FieldScore, ...]:
    """Score each field of the uncontaminated answers; empty if no field metric is measured.

    A field is scored on the items whose answer or reference has it. Of several samples, the first one counts.

    Args:
        rows: Items of the evaluation.
        examples: Their examples, with the schemas.
        metrics: Metrics that are measured.
        signature: How the items were measured.
    """
    if not any(metric.name in FIELD_METRICS for metric in metrics):
        return ()
    schemas = {example.id: example.answer_schema for example in examples}
    by_field: dict[str, list[ItemRow]] = {}
    expected: Counter[str] = Counter()
    for row in rows:
        if not row.uncontaminated or not any(name in row.stats for name in FIELD_METRICS):
            continue
        for path, stats in _parts(row, schemas.get(row.item, "")).items():
            update = {"stats": dict.fromkeys(FIELD_METRICS, stats)}
            by_field.setdefault(path, []).append(row.model_copy(update=update))
            expected[path] += 1 + int(stats[2])
    return tuple(_score(path, by_field[path], signature) for path, _ in expected.most_common(MAX_FIELDS))


def _parts(row: ItemRow, schema: str) -> Mapping[str, tuple[float, ...]]:
    try:
        return FIELD_METRICS["field_f1"].parts(AnswerItem(row.completion or "", row.references, schema=schema))
    except CannotMeasure:
        return {}


def _score(path: str, rows: Sequence[ItemRow], signature: str) -> FieldScore:
    precision, recall, f1 = (
        total(find_metric(name), rows, name=f"{name}#{path}", signature=signature)
        for name in ("field_precision", "field_recall", "field_f1")
    )
    return FieldScore(path=path, precision=precision, recall=recall, f1=f1)
