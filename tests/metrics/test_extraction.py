"""Extraction: fields and their values, repairs, and values in their source."""

from __future__ import annotations

import json
import random
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizewise.metrics import METRICS, AnswerItem, CannotMeasure
from sizewise.metrics.extraction import FIELD_METRICS, find_evidence
from sizewise.metrics.json_answers import json_in, read_json
from sizewise.metrics.json_fields import agree, fields_of
from sizewise.metrics.source_spans import NO_SUCH_DATE, NO_SUCH_NUMBER, NOT_THERE, WORDS_APART, find_value

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-50, 50) | st.text("abé字 ", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=12,
)


def _value(name: str, said: object, reference: object = None, prompt: str = "", schema: object = None) -> float:
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    known = () if reference is None else (json.dumps(reference, ensure_ascii=False),)
    item = AnswerItem(text, known, prompt, json.dumps(schema) if schema else "")
    return float(METRICS[name].value(np.array(METRICS[name].measure(item))))


def _all_three(said: object, reference: object) -> tuple[float, float, float]:
    precision, recall, f1 = (_value(name, said, reference) for name in ("field_precision", "field_recall", "field_f1"))
    return precision, recall, f1


def _shuffled(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _shuffled(inner) for key, inner in reversed(part.items())}
    if isinstance(part, list):
        return random.Random(0).sample([_shuffled(inner) for inner in part], len(part))
    return part


@settings(deadline=None, max_examples=50)
@given(VALUES)
def test_f1_of_the_reference_is_1_whatever_the_order_of_keys_and_lists(value: object) -> None:
    assert _value("field_f1", [_shuffled(value)], [value]) == 1.0


@settings(deadline=None, max_examples=50)
@given(VALUES, VALUES)
def test_f1_is_symmetric_between_0_and_1_and_swaps_precision_and_recall(left: object, right: object) -> None:
    one, other = _all_three([left], [right]), _all_three([right], [left])
    assert 0 <= one[2] <= 1
    assert one == pytest.approx((other[1], other[0], other[2]), nan_ok=True)


@settings(deadline=None, max_examples=50)
@given(VALUES, VALUES)
def test_the_fields_add_up_to_the_whole(left: object, right: object) -> None:
    item = AnswerItem(json.dumps([left]), (json.dumps([right]),))
    parts = [np.array(part) for part in FIELD_METRICS["field_f1"].parts(item).values()]
    assert sum(parts, np.zeros(3)).tolist() == list(FIELD_METRICS["field_f1"].measure(item))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("abcdé", min_size=1, max_size=5), min_size=1, max_size=8), st.data())
def test_words_copied_from_the_source_are_in_it(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    copied = " ".join(words[start : data.draw(st.integers(start + 1, len(words)))])
    source = " ".join(words)
    assert _value("value_in_source", {"x": copied}, prompt=source) == 1.0
    (found,) = find_evidence(json.dumps({"x": copied}), [source])
    assert all(source[span.start : span.end] == copied for span in found.spans)
    assert found.spans


INVOICE = {
    "number": "007",
    "total": 1496.5,
    "date": "2019-05-26",
    "lines": [{"item": "Tea", "amount": 12}],
    "note": None,
}


@pytest.mark.parametrize(
    ("field", "written"),
    [
        *(
            ("total", "$1,496.50"),
            ("total", "1496.5"),
            ("total", 1496.50),
            ("date", "May 26, 2019"),
            ("date", "26.05.2019"),
        ),
        *(
            ("lines", [{"amount": "12", "item": "TEA"}]),
            ("note", ""),
            ("note", []),
            ("number", " 007"),
        ),
    ],
)
def test_other_writings_of_a_value_are_right(field: str, written: object) -> None:
    assert _all_three(INVOICE | {field: written}, INVOICE) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("field", "written"),
    [
        *(
            ("total", 1.4965),
            ("total", "1.496,5 million"),
            ("date", "2019-05-27"),
            ("date", "05/06/2019"),
            ("number", 7),
        ),
        *(
            ("number", "7"),
            ("total", True),
        ),
    ],
)
def test_other_values_are_wrong(field: str, written: object) -> None:
    assert _all_three(INVOICE | {field: written}, INVOICE) == (0.8, 0.8, pytest.approx(0.8))


def test_null_and_absent_are_the_same_and_an_invented_value_costs_precision_only() -> None:
    known = {"name": "Ida", "age": None}
    assert _all_three({"name": "Ida"}, known) == (1.0, 1.0, 1.0)
    assert _all_three({"name": "Ida", "age": 31}, known) == (0.5, 1.0, pytest.approx(2 / 3))
    assert _all_three({"name": None}, {"name": "Ida"})[1:] == (0.0, 0.0)
    assert _value("json_f1", {"name": "Ida"}, known) == 1.0
    assert _value("json_f1", {"name": "Ida", "age": "None"}, known) == pytest.approx(2 / 3)


def test_items_of_a_list_are_paired_and_duplicates_count() -> None:
    people = [{"name": "Ida", "age": 31}, {"name": "Jon", "age": 54}]
    assert _all_three(people[::-1], people) == (1.0, 1.0, 1.0)
    assert _all_three([people[0], people[0]], people) == (0.5, 0.5, 0.5)
    assert _all_three({"tags": ["a", "a", "b"]}, {"tags": ["b", "a"]}) == (pytest.approx(2 / 3), 1.0, 0.8)
    assert _all_three({"sums": ["1,000", "3"]}, {"sums": [3, 1000]}) == (1.0, 1.0, 1.0)
    rows = [{"id": i, "name": f"n{i}"} for i in range(3_000)]
    assert _value("field_f1", rows, rows) == 1.0


def test_a_row_that_is_missing_in_a_long_table_costs_one_row() -> None:
    rows = [{"day": i, "amount": i * 7 % 11} for i in range(300)]
    assert _all_three([rows[1:]], [rows]) == pytest.approx((1.0, 299 / 300, 598 / 599))
    assert _all_three([rows[150:] + rows[:149]], [rows])[1] == pytest.approx(299 / 300)
    wrong = [row | {"amount": -1} if row["day"] == 7 else row for row in rows]
    assert _all_three([wrong[1:]], [rows])[0] == pytest.approx(597 / 598)


def test_the_closest_reference_counts_and_invalid_json_costs_recall() -> None:
    item = AnswerItem('{"a": "x"}', ('{"a": "y"}', '{"a": "x"}'), probabilities={"x": 1.0})
    assert METRICS["field_f1"].measure(item) == (1.0, 1.0, 1.0)
    assert METRICS["field_f1"].measure(AnswerItem("no", ('{"a": "y"}',))) == (0.0, 0.0, 1.0)
    with pytest.raises(CannotMeasure, match="isn't a JSON"):
        METRICS["field_f1"].measure(AnswerItem("{}", ("plain",)))


@pytest.mark.parametrize(
    ("answer", "repair"),
    [
        ('{"a": 1}', ""),
        ('```json\n{"a": 1}\n```', "code fence"),
        ('```{"a": 1}```', "code fence"),
        ('Here:\n~~~ JSON\n{"a": 1}~~~\nBye', "code fence"),
        ('```python\nprint()\n```\n```json\n{"a": 1}\n```', "code fence"),
        ('Sure! {"a": 1} Anything else?', "text around it"),
        ('An [unrelated] list, then {"a": 1}', "text around it"),
        ('{"a": 2, "a": 1}', "repeated key"),
    ],
)
def test_repairs_are_named_and_counted(answer: str, repair: str) -> None:
    assert read_json(answer) == ({"a": 1}, repair)
    assert METRICS["json_repaired"].measure(AnswerItem(answer, ('{"a": 1}',))) == (float(bool(repair)), 1.0)
    assert METRICS["field_f1"].measure(AnswerItem(answer, ('{"a": 1}',))) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("answer", ['{"a": 1', "{'a': 1}", '{"a": NaN}', "", "none", "[" * 5_000, "```\n```"])
def test_other_answers_are_not_repaired(answer: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_json(answer)
    assert METRICS["json_repaired"].measure(AnswerItem(answer, ())) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "repair"),
    [
        ('{"a": 2} Wait, that is wrong. Result: {"a": 1}', "text around it"),
        ('```json\n{"a": 2}\n```\nCorrection:\n```json\n{"a": 1}\n```', "code fence"),
        ('```json\n{"a": 2}\n```\nCorrection: {"a": 1}', "text around it"),
        ('First {"b": {"a": 2}}, then {"a": 1} [2]', "text around it"),
    ],
)
def test_of_several_values_the_last_one_counts(answer: str, repair: str) -> None:
    assert read_json(answer) == ({"a": 1}, repair)


@pytest.mark.parametrize(
    "answer",
    [
        '{"people": [{"a": 1}, {"a": 2}',
        'Here: {"people": {"a": 1}, "b": "un',
        '[{"a": 1}, {"a": 2},',
        '{"b": {"a": 1},',
    ],
)
def test_a_part_of_a_truncated_value_is_not_the_value(answer: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_json(answer)


def test_a_code_fence_inside_a_value_is_part_of_the_value() -> None:
    body = {"code": "```json\n{}\n```"}
    assert json_in(json.dumps(body)) == body


SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["invoice", "receipt"]},
        "paid": {"type": "boolean"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "extra": {"anyOf": [{"type": "null"}, {"const": "none"}]},
    },
    "$defs": {"line": {"properties": {"unit": {"enum": ["kg"]}, "item": {"type": "string"}}}},
}


def test_values_that_the_schema_lists_are_not_expected_in_the_source() -> None:
    answer = {"kind": "invoice", "paid": True, "extra": "none", "lines": [{"unit": "kg", "item": "Tea"}]}
    assert [one.place for one in fields_of(answer, json.dumps(SCHEMA)) if one.is_quoted] == ["lines[0].item"]
    assert [one.place for one in fields_of(answer) if one.is_quoted] == [
        *("kind", "extra", "lines[0].unit", "lines[0].item"),
    ]
    assert _value("value_in_source", answer, prompt="2 bags of tea", schema=SCHEMA) == 1.0
    recursive = {"properties": {"a": {"$ref": "#"}}, "$ref": "#", "anyOf": [{"$ref": "#/nowhere"}]}
    assert len(fields_of({"a": {"a": "x"}}, json.dumps(recursive))) == 1


SOURCE = (
    "In 2019 Acme\nInc. sold for $1,512.40 (2018: 1,498) on May 26, 2019; Mu\u0308ller\u2019s part was (3.1) million."
)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "acme  inc.",
            "1512.4",
            "1,512.4 USD",
            "-3.1",
            "3.1",
            "-3100000",
            "2019-05-26",
            "26.05.2019",
            "Müller's",
            "2019",
        ),
        *("1498",),
    ],
)
def test_values_are_found_in_every_writing(value: str) -> None:
    assert find_value(value, SOURCE)


@pytest.mark.parametrize("value", ["12", "1512", "498", "€1,512.40", "2019-05-27", "Acm", "Inc Acme", "007", ""])
def test_parts_of_values_are_not_found(value: str) -> None:
    assert find_value(value, SOURCE) == []


def test_evidence_names_place_and_reason() -> None:
    answer = json.dumps(
        {"firm": "ACME inc.", "sum": 1512.4, "tax": 9, "due": "2020-01-01", "by": "Inc. Acme", "at": "Bonn"}
    )
    found = {one.path: one for one in find_evidence(answer, ["You extract.", SOURCE])}
    (span,) = found["firm"].spans
    assert (span.message, SOURCE[span.start : span.end]) == (1, "Acme\nInc.")
    assert SOURCE[found["sum"].spans[0].start : found["sum"].spans[0].end] == "$1,512.40"
    reasons = [found[name].missing_reason for name in ("tax", "due", "by", "at")]
    assert reasons == [NO_SUCH_NUMBER, NO_SUCH_DATE, WORDS_APART, NOT_THERE]
    assert not found["firm"].missing_reason


def test_the_occurrence_closest_to_the_other_values_comes_first() -> None:
    source = "Tea 12 EUR, red. " + "Nothing. " * 30 + "Coffee 12 EUR, brown."
    for item, where in (("Tea", 4), ("Coffee", source.index("Coffee") + 7)):
        found = {one.path: one for one in find_evidence(json.dumps({"item": item, "price": 12}), [source])}
        assert [span.start == where for span in found["price"].spans] == [True, False]


def test_without_a_source_values_cannot_be_looked_up() -> None:
    with pytest.raises(CannotMeasure, match="no source"):
        METRICS["value_in_source"].measure(AnswerItem('{"a": "x"}', ()))


def test_values_agree_by_meaning() -> None:
    assert agree("$5", 5)
    assert agree("5 €", "EUR 5.00")
    assert not agree("$5", "5 €")
    assert agree("true", True)
    assert not agree(1, True)
    assert not agree("", "")


@pytest.mark.parametrize(
    "value", ["\uc11c\uc6b8\ud2b9\ubcc4\uc2dc", "Jos\u00e9", "\u0995\u09cb\u09b2\u0995\u09be\u09a4\u09be"]
)
def test_letters_in_parts_are_found(value: str) -> None:
    """A source may write a Korean syllable, an accent or an Indian vowel sign in several characters."""
    source = unicodedata.normalize("NFD", f"A: {value}, {value}.")
    for form in ("NFC", "NFD"):
        places = find_value(unicodedata.normalize(form, value), source)
        assert [unicodedata.normalize("NFC", source[start:end]) for start, end in places] == [value, value]
