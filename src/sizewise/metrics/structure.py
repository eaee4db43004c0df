"""Extraction: whether an answer is valid JSON, and whether its fields match the reference."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from sizewise.errors import MissingExtraError
from sizewise.metrics.base import AnswerItem, CannotMeasure, FloatArray, Mean, Metric

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.S)


def json_in(answer: str) -> Any:
    """Parse the JSON in an answer: the whole answer, or the content of a Markdown code fence.

    Raises:
        ValueError: the answer isn't JSON.
    """
    fenced = _FENCE.search(answer)
    try:
        return json.loads(fenced.group(1) if fenced else answer)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    try:
        from jsonschema.validators import validator_for
    except ImportError as error:
        raise MissingExtraError("jsonschema", "study") from error
    body = json.loads(schema)
    return validator_for(body)(body)


def _needs_json(references: Sequence[tuple[str, ...]]) -> None:
    def is_json(text: str) -> bool:
        try:
            return isinstance(json_in(text), dict | list)
        except ValueError:
            return False

    plain = sum(1 for options in references if not is_json(options[0]))
    if plain:
        raise CannotMeasure(f"{plain} of {len(references)} reference answers aren't JSON objects or lists")


class JsonValid(Mean):
    """Share of answers that are valid JSON and satisfy the example's schema, if it has one."""

    name, title = "json_valid", "Valid JSON"
    stands_for_quality = False
    needs_references = False
    description = (
        "Share of answers that are valid JSON and satisfy the schema. Higher is better. It doesn't check whether the "
        "values are correct."
    )

    def signature(self) -> str:
        """Describe what counts as valid."""
        return "json_valid|fence:allowed|schema:of the example"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged if the reference answers are JSON."""
        _needs_json(references)
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        try:
            body = json_in(item.completion)
        except ValueError:
            return 0.0, 1.0
        return float(not item.schema or _validator(item.schema).is_valid(body)), 1.0


class JsonF1(Mean):
    """Micro-averaged F1 over fields and their values."""

    name, title = "json_f1", "Field F1"
    description = (
        "Agreement between the answer's fields and values and those of the reference, from 0 to 1. Higher is better. A "
        "value in different words counts as wrong."
    )

    def signature(self) -> str:
        """Describe how fields are compared."""
        return "json_f1|field:path and value|list:any order|case:folded"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged if the reference answers are JSON."""
        _needs_json(references)
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (matching fields, predicted fields, reference fields) for the best-matching reference."""
        try:
            predicted = Counter(_fields(json_in(item.completion)))
        except ValueError:
            predicted = Counter()
        candidates = []
        for reference in item.references:
            expected = Counter(_fields(json_in(reference)))
            matching = (predicted & expected).total()
            candidates.append((float(matching), float(predicted.total()), float(expected.total())))
        return max(candidates, key=lambda stats: stats[0] / max(1.0, stats[1] + stats[2]))

    def value(self, sums: FloatArray) -> FloatArray:
        """Compute micro-averaged F1."""
        both = sums[..., 1] + sums[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = np.where(both > 0, 2 * sums[..., 0] / both, 1.0)
        return result


def _fields(body: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(body, dict):
        for key, value in body.items():
            yield from _fields(value, f"{path}.{key}")
    elif isinstance(body, list):
        for value in body:
            yield from _fields(value, f"{path}[]")
    else:
        yield path, " ".join(str(body).casefold().split())
