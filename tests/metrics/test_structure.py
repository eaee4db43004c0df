"""JSON answers: values at their place, lists in any order, and references that aren't JSON."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.metrics import METRICS, AnswerItem, CannotMeasure
from sizewise.metrics.structure import json_in, share_of_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-50, 50) | st.text("abé字", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=12,
)


def _f1(said: object, reference: object) -> float:
    item = AnswerItem(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), (json.dumps(reference),))
    return float(METRICS["json_f1"].value(np.array(METRICS["json_f1"].measure(item))))


PEOPLE = [{"name": "Ida", "age": 31}, {"name": "Jon", "age": 54}]


def test_values_swapped_between_two_objects_are_wrong() -> None:
    swapped = [{"name": "Ida", "age": 54}, {"name": "Jon", "age": 31}]
    assert _f1({"people": swapped}, {"people": PEOPLE}) == 0.5
    assert _f1({"people": PEOPLE[::-1]}, {"people": PEOPLE}) == 1.0


def test_a_missing_or_invented_object_costs_its_fields() -> None:
    assert _f1({"people": PEOPLE[:1]}, {"people": PEOPLE}) == pytest.approx(2 * 2 / (2 + 4))
    assert _f1([*PEOPLE, {"name": "Eve", "age": 7}], PEOPLE) == pytest.approx(2 * 4 / (6 + 4))
    assert _f1({"tags": ["b", "a", "a"]}, {"tags": ["a", "b"]}) == pytest.approx(2 * 2 / 5)


def test_an_empty_list_is_an_answer() -> None:
    assert _f1([], []) == 1.0
    assert _f1({"items": []}, {"items": []}) == 1.0
    assert _f1({"items": []}, {"items": [1]}) == 0.0
    assert _f1({}, []) == 0.0


@pytest.mark.parametrize(
    ("said", "known"),
    [("1\u00a0200 €", "1 200 €"), ("１２００", "1200"), ("Mu\u0308ller", "Müller"), ("ＡＢ\u00ad-7", "ab-7")],  # noqa: RUF001
)
def test_texts_are_compared_in_one_form(said: str, known: str) -> None:
    assert _f1({"value": said}, {"value": known}) == 1.0


@pytest.mark.parametrize("said", ['{"a": NaN}', '{"a": Infinity}', '{"a": 1e9999999999999999999}', "[" * 100_000])
def test_what_is_no_json_scores_zero(said: str) -> None:
    assert _f1(said, {"a": 1}) == 0.0
    with pytest.raises(ValueError, match=r"NaN|Infinity|deep"):
        json_in("[" * 100_000 if "e9" in said else said)


@given(VALUES)
def test_a_document_against_itself_is_perfect_whatever_the_order_of_its_lists(value: object) -> None:
    def shuffled(part: object) -> object:
        if isinstance(part, dict):
            return {key: shuffled(inner) for key, inner in reversed(part.items())}
        if isinstance(part, list):
            return random.Random(0).sample([shuffled(inner) for inner in part], len(part))
        return part

    assert _f1([shuffled(value)], [value]) == 1.0


@given(VALUES, VALUES)
def test_f1_is_symmetric_and_between_0_and_1(left: object, right: object) -> None:
    found = _f1([left], [right])
    assert 0 <= found <= 1
    assert found == pytest.approx(_f1([right], [left]))


def test_one_reference_that_is_no_json_is_left_out() -> None:
    references = [('{"a": 1}',)] * 999 + [("none",)]
    assert share_of_json(references) == 0.999
    for name in ("json_valid", "json_f1"):
        metric = METRICS[name].prepared(references)
        with pytest.raises(CannotMeasure, match="isn't a JSON"):
            metric.measure(AnswerItem('{"a": 1}', ("none",)))
    with pytest.raises(CannotMeasure, match="2 of 10 reference answers"):
        METRICS["json_f1"].prepared([*references[:8], ("none",), ("no",)])


def test_long_lists_are_compared_in_time() -> None:
    rows = [{"id": i, "name": f"n{i}"} for i in range(90)]
    assert _f1(random.Random(1).sample(rows, 90), rows) == 1.0
    many = [{"id": i} for i in range(3_000)]
    assert _f1(many, many) == 1.0
