"""Extraction: precision, recall and F1 over the fields of JSON answers, and whether the source contains the values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

from sizewise.metrics.base import AnswerItem, Better, CannotMeasure, FloatArray, Mean, Metric
from sizewise.metrics.json_answers import contradicts_itself, read_json
from sizewise.metrics.json_fields import Field, count_by_path, fields_of, matching_by_path
from sizewise.metrics.source_spans import closest_first, find_value, why_absent
from sizewise.metrics.structure import json_references, needs_json
from sizewise.records import Evidence, TextSpan

Counts = dict[str, tuple[float, float, float]]
"""Path of a field -> matching, predicted and expected values."""


@lru_cache(maxsize=256)
def _answer_fields(answer: str, schema: str) -> tuple[Any, tuple[Field, ...]]:
    """Read an answer and its fields; an answer that isn't JSON has none."""
    try:
        body = read_json(answer, Decimal).body
        return body, tuple(fields_of(body, schema))
    except (ValueError, RecursionError):
        return None, ()


@lru_cache(maxsize=256)
def _counts(answer: str, references: tuple[str, ...], schema: str) -> Counts:
    """Count the matching, predicted and expected values of each field, against the best-matching reference."""
    body, fields = _answer_fields(answer, schema)
    found = [_against(body, fields, known) for known in json_references(AnswerItem(answer, references))]
    return max(found, key=lambda counts: _f1(np.array(_summed(counts))))


def _against(body: Any, fields: Sequence[Field], known: Any) -> Counts:
    predicted, expected = count_by_path(fields), count_by_path(fields_of(known))
    try:
        matching = matching_by_path(body, known)
    except RecursionError:
        matching = Counter()
    paths = dict.fromkeys([*expected, *predicted])
    return {path: (float(matching[path]), float(predicted[path]), float(expected[path])) for path in paths}


def _summed(counts: Counts) -> tuple[float, float, float]:
    matching, predicted, expected = (sum((part[i] for part in counts.values()), 0.0) for i in range(3))
    return matching, predicted, expected


def _f1(sums: FloatArray) -> FloatArray:
    both = sums[..., 1] + sums[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        result: FloatArray = np.where(both > 0, 2 * sums[..., 0] / both, 1.0)
    return result


class _FieldMetric(Mean):
    version = 3

    def signature(self) -> str:
        """Describe how fields are compared."""
        return (
            f"{self.name}|micro|field:path and value|list:aligned, any order|null:absent"
            "|numbers, amounts:by value|dates:by value, none if day and month are uncertain|text:folded"
            "|repair:fence, text around, repeated key"
        )

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged if the reference answers are JSON."""
        needs_json(references)
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (matching values, predicted values, reference values) for the best-matching reference.

        Raises:
            CannotMeasure: the reference answer isn't JSON.
        """
        return _summed(self.parts(item))

    def is_unreadable(self, answer: str) -> bool:
        """Check whether an answer contains no JSON that can be read."""
        return _answer_fields(answer, "")[0] is None

    def parts(self, item: AnswerItem) -> Counts:
        """Return the same statistics for each field, by path; a field that neither side has is absent."""
        return _counts(item.completion, item.references, item.schema)


class FieldPrecision(_FieldMetric):
    """Share of the answers' values that the reference has in the same field."""

    name, title = "field_precision", "Field precision"
    description = (
        "Share of the values in the answers that are correct, over all fields. Higher is better. It doesn't see values "
        "that the answers leave out, so read it with field recall."
    )

    def value(self, sums: FloatArray) -> FloatArray:
        """Divide the matching values by the predicted ones."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = sums[..., 0] / sums[..., 1]
        return result


class FieldRecall(_FieldMetric):
    """Share of the reference's values that the answers have in the same field."""

    name, title = "field_recall", "Field recall"
    description = (
        "Share of the reference values that the answers contain, over all fields. Higher is better. It doesn't see "
        "invented values, so read it with field precision."
    )

    def value(self, sums: FloatArray) -> FloatArray:
        """Divide the matching values by those of the references."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = sums[..., 0] / sums[..., 2]
        return result


class FieldF1(_FieldMetric):
    """Harmonic mean of field precision and field recall."""

    name, title = "field_f1", "Field F1"
    description = (
        "Harmonic mean of field precision and recall, over the values of all fields, from 0 to 1. Higher is better. "
        "Numbers, amounts and dates agree by value in every writing; null counts as absent. Other words for the same "
        "thing count as wrong."
    )

    def value(self, sums: FloatArray) -> FloatArray:
        """Compute micro-averaged F1; 1 if neither answers nor references have any value."""
        return _f1(sums)


FIELD_METRICS: dict[str, _FieldMetric] = {one.name: one for one in (FieldPrecision(), FieldRecall(), FieldF1())}
"""Metrics with scores of each field, by name."""


class JsonRepaired(Mean):
    """Share of answers whose JSON could be read only after a repair."""

    name, title = "json_repaired", "Repaired JSON"
    better: Better = "lower"
    stands_for_quality = False
    needs_references = False
    description = (
        "Share of answers that are JSON only without a code fence, text around it or a repeated key. Lower is better. "
        "The fields of such answers are scored as if they were JSON; answers that can't be repaired have no fields."
    )

    def signature(self) -> str:
        """Describe what counts as a repair."""
        return "json_repaired|repair:fence, text around, repeated key"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged if the reference answers, if any, are JSON."""
        needs_json(references)
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        json_references(item)
        try:
            return float(bool(read_json(item.completion).repair)), 1.0
        except ValueError:
            return 0.0, 1.0


class JsonContradictory(Mean):
    """Share of answers whose JSON gives one field two values."""

    name, title = "json_contradictory", "Contradictory JSON"
    better: Better = "lower"
    stands_for_quality = False
    needs_references = False
    description = (
        "Share of answers that give one field two different values, under a key given twice or in two objects. Lower "
        "is better. Only the last value is scored, so a program that takes the first one gets another result. Where "
        "the reference is a list, several objects aren't a contradiction."
    )

    def signature(self) -> str:
        """Describe what counts as a contradiction."""
        return "json_contradictory|in:keys given twice, objects|null:no value|text:case folded"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged if the reference answers, if any, are JSON."""
        needs_json(references)
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1).

        Raises:
            CannotMeasure: the reference answer isn't JSON.
        """
        known = json_references(item)
        listed = bool(known) and all(isinstance(one, list) for one in known)
        return float(not listed and contradicts_itself(item.completion)), 1.0


class ValueInSource(Mean):
    """Share of extracted values that occur in the prompt."""

    name, title, version = "value_in_source", "Values in the source", 4
    stands_for_quality = False
    needs_references = False
    description = (
        "Share of the extracted values that occur in the prompt, in any writing of numbers and dates. Higher is "
        "better. Booleans and values that the schema lists are left out. A value can be in the source and still be "
        "wrong."
    )

    def signature(self) -> str:
        """Describe which values are looked up, and how."""
        return "value_in_source|in:prompt|without:boolean, enum, const|numbers, dates:by value|text:folded words"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged if the reference answers, if any, are JSON."""
        needs_json(references)
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (values found, values looked up).

        Raises:
            CannotMeasure: the prompt is empty, or the reference answer isn't JSON.
        """
        json_references(item)
        if not item.prompt.strip():
            raise CannotMeasure("the prompt is empty, so there is no source")
        fields = [field for field in _answer_fields(item.completion, item.schema)[1] if field.is_quoted]
        found = sum(bool(find_value(field.text, item.prompt)) for field in fields)
        return float(found), float(len(fields))


def find_evidence(answer: str, sources: Sequence[str], schema: str = "") -> tuple[Evidence, ...]:
    """Find where the values of a JSON answer occur in its sources.

    Booleans and values that the schema lists are left out. If a value occurs several times, the occurrence closest to
    the other values comes first.

    Args:
        answer: The answer; without JSON there are no values.
        sources: Messages that the values should come from.
        schema: JSON Schema of the answer as text; empty if there is none.
    """
    fields = [field for field in _answer_fields(answer, schema)[1] if field.is_quoted]
    offsets = np.cumsum([0, *(len(source) + 1 for source in sources)]).tolist()
    places = [
        [
            (offset + start, offset + end)
            for source, offset in zip(sources, offsets, strict=False)
            for start, end in find_value(field.text, source)
        ]
        for field in fields
    ]
    return tuple(
        Evidence(
            path=field.place,
            value=field.text,
            spans=tuple(_span(start, end, offsets) for start, end in some),
            missing_reason="" if some else why_absent(field.text, "\n".join(sources)),
        )
        for field, some in zip(fields, closest_first(places), strict=True)
    )


def _span(start: int, end: int, offsets: Sequence[int]) -> TextSpan:
    message = max(i for i, offset in enumerate(offsets) if offset <= start)
    return TextSpan(message=message, start=start - offsets[message], end=end - offsets[message])
