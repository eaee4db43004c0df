"""Extraction: whether an answer is valid JSON, and whether its fields match the reference."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

from sizewise.errors import MissingExtraError
from sizewise.metrics.base import AnswerItem, CannotMeasure, FloatArray, Mean, Metric
from sizewise.metrics.json_answers import json_in
from sizewise.text import fold_text

MIN_JSON_SHARE = 0.9
MAX_PAIRS = 10_000


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    try:
        from jsonschema.validators import validator_for
    except ImportError as error:
        raise MissingExtraError("jsonschema", "study") from error
    body = json.loads(schema)
    return validator_for(body)(body)


def share_of_json(references: Sequence[tuple[str, ...]]) -> float:
    """Compute the share of reference answers that are JSON objects or lists; 0 if there are none."""
    given = [options[0] for options in references if options]
    return sum(map(_is_json, given)) / len(given) if given else 0.0


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[", "```")):
        return False
    try:
        return isinstance(json_in(text), dict | list)
    except ValueError:
        return False


def needs_json(references: Sequence[tuple[str, ...]]) -> None:
    """Check that nearly all reference answers are JSON, if there are any; the items of the others are left out.

    Raises:
        CannotMeasure: more than a tenth aren't.
    """
    count = sum(map(bool, references))
    share = share_of_json(references)
    if count and share < MIN_JSON_SHARE:
        raise CannotMeasure(f"{count - round(share * count)} of {count} reference answers aren't JSON objects or lists")


def json_references(item: AnswerItem) -> list[Any]:
    """Parse the reference answers of an item.

    Raises:
        CannotMeasure: the item has reference answers, but none is a JSON object or list.
    """
    found = [json_in(reference, Decimal) for reference in item.references if _is_json(reference)]
    if item.references and not found:
        raise CannotMeasure("the reference answer isn't a JSON object or list")
    return found


class JsonValid(Mean):
    """Share of answers that are valid JSON and satisfy the example's schema, if it has one."""

    name, title, version = "json_valid", "Valid JSON", 3
    stands_for_quality = False
    needs_references = False
    description = (
        "Share of answers that are valid JSON and satisfy the schema. Higher is better. It doesn't check whether the "
        "values are correct."
    )

    def signature(self) -> str:
        """Describe what counts as valid."""
        return "json_valid|fence:allowed|nan:invalid|schema:of the example"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged if the reference answers are JSON."""
        needs_json(references)
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1).

        Raises:
            CannotMeasure: the reference answer isn't JSON.
        """
        json_references(item)
        try:
            body = json_in(item.completion)
        except ValueError:
            return 0.0, 1.0
        return float(not item.schema or _validator(item.schema).is_valid(body)), 1.0


class JsonF1(Mean):
    """Micro-averaged F1 over fields and their values."""

    name, title, version = "json_f1", "JSON F1", 3
    description = (
        "Agreement between the answer's fields and values and those of the reference, from 0 to 1. Higher is better. "
        "Objects in lists are paired so that they agree best, in any order. A field that is null counts as absent. "
        "A value in different words or of another type counts as wrong."
    )

    def signature(self) -> str:
        """Describe how fields are compared."""
        return "json_f1|field:path and value|list:aligned, any order|null:absent|numbers:by value|text:folded"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged if the reference answers are JSON."""
        needs_json(references)
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (matching fields, predicted fields, reference fields) for the best-matching reference.

        Raises:
            CannotMeasure: the reference answer isn't JSON.
        """
        references = json_references(item)
        try:
            predicted = json_in(item.completion, Decimal)
            fields = _field_count(predicted)
            found = [
                (float(_matching(predicted, known)), float(fields), float(_field_count(known))) for known in references
            ]
        except (ValueError, RecursionError):
            found = [(0.0, 0.0, float(_field_count(known))) for known in references]
        return max(found, key=lambda stats: stats[0] / max(1.0, stats[1] + stats[2]))

    def is_unreadable(self, answer: str) -> bool:
        """Check whether an answer isn't JSON."""
        try:
            json_in(answer)
        except (ValueError, RecursionError):
            return True
        return False

    def value(self, sums: FloatArray) -> FloatArray:
        """Compute micro-averaged F1."""
        both = sums[..., 1] + sums[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = np.where(both > 0, 2 * sums[..., 0] / both, 1.0)
        return result


def _field_count(body: Any) -> int:
    """Count the values of a document; an empty object or list is a value, too, and a field that is null is absent."""
    parts = (
        [part for part in body.values() if part is not None]
        if isinstance(body, dict)
        else body
        if isinstance(body, list)
        else []
    )
    return sum(map(_field_count, parts)) if parts else 1


def _matching(predicted: Any, expected: Any) -> int:
    """Count the values that agree at the same place."""
    if isinstance(predicted, dict) and isinstance(expected, dict):
        predicted, expected = _given(predicted), _given(expected)
        if predicted or expected:
            return sum(_matching(value, expected[key]) for key, value in predicted.items() if key in expected)
    if isinstance(predicted, list) and isinstance(expected, list) and (predicted or expected):
        return _matching_in_lists(predicted, expected)
    return int(_leaf(predicted) == _leaf(expected))


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _matching_in_lists(predicted: list[Any], expected: list[Any]) -> int:
    """Count the values that agree when the parts of two lists are paired as well as possible."""
    values, known = ([part for part in parts if not isinstance(part, dict | list)] for parts in (predicted, expected))
    nested, known_nested = (
        [part for part in parts if isinstance(part, dict | list)] for parts in (predicted, expected)
    )
    matching = (Counter(map(_leaf, values)) & Counter(map(_leaf, known))).total()
    if len(nested) * len(known_nested) > MAX_PAIRS:
        return matching + sum(map(_matching, nested, known_nested))
    if nested and known_nested:
        from scipy.optimize import linear_sum_assignment  # loaded on use: it takes a fifth of a second

        agreement = np.array([[_matching(part, other) for other in known_nested] for part in nested])
        matching += int(agreement[linear_sum_assignment(agreement, maximize=True)].sum())
    return matching


def _leaf(value: Any) -> tuple[str, Any]:
    """Return a value with its kind, so that numbers are equal by value and true isn't 1."""
    if isinstance(value, str):
        return "text", fold_text(value)
    if isinstance(value, dict | list):
        return type(value).__name__, bool(value)
    return type(value).__name__, value
