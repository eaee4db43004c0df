"""JSON: validity, repairs, and fields by value."""

from __future__ import annotations

from tests.metrics.tables.cases import NOT_MEASURED, Case, a

SCHEMA = '{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}'
R = '{"a": 1}'
TWO = '{"a": 1, "b": "x"}'
PEOPLE = '{"people": [{"name": "Ann", "age": 30}, {"name": "Bob", "age": 40}]}'
TURNED = '{"people": [{"name": "Bob", "age": 40}, {"name": "Ann", "age": 30}]}'
MIXED = '{"people": [{"name": "Ann", "age": 40}, {"name": "Bob", "age": 30}]}'


def _fields(right: str, precision: float | None, recall: float | None, f1: float, answer: str) -> dict[str, object]:
    return {"right": right, "field_precision": precision, "field_recall": recall, "field_f1": f1, "answer": answer}


FIELDS = [
    _fields(R, 1, 1, 1, R),
    _fields(TWO, 1, 0.5, 2 / 3, R),
    _fields(R, 0.5, 1, 2 / 3, TWO),
    _fields(R, 0, 0, 0, '{"a": 2}'),
    _fields(R, None, 0, 0, "no JSON"),
    _fields(R, None, 0, 0, '{"a": NaN}'),
    _fields('{"a": null}', None, None, 1, '{"a": null}'),
    _fields(PEOPLE, 1, 1, 1, TURNED),
    _fields(PEOPLE, 0.5, 0.5, 0.5, MIXED),
    _fields('{"sum": 1234.5}', 1, 1, 1, '{"sum": "1,234.50"}'),
    _fields('{"sum": "1.234,50 €"}', 1, 1, 1, '{"sum": 1234.5}'),
    _fields('{"sum": 3000000}', 1, 1, 1, '{"sum": "$3m"}'),
    _fields('{"share": 0.5}', 1, 1, 1, '{"share": "½"}'),
    _fields('{"share": "12%"}', 1, 1, 1, '{"share": "12 percent"}'),
    _fields('{"sum": "12 EUR"}', 0, 0, 0, '{"sum": "12 USD"}'),
    _fields('{"n": 12}', 1, 1, 1, '{"n": "١٢"}'),
    _fields('{"id": "007"}', 0, 0, 0, '{"id": 7}'),
    _fields('{"on": "2026-03-04"}', 1, 1, 1, '{"on": "March 4, 2026"}'),
    _fields('{"on": "2026-03-04"}', 0, 0, 0, '{"on": "03/04/2026"}'),
    _fields('{"on": "2026-03-25"}', 1, 1, 1, '{"on": "25/03/2026"}'),
    _fields(R, 1, 1, 1, 'Here you are:\n```json\n{"a": 1}\n```'),
    _fields('{"tags": ["x", "y", "y"]}', 2 / 3, 2 / 3, 2 / 3, '{"tags": ["y", "x", "x"]}'),
]
CASES = {
    name: [
        Case([a(str(one["answer"]), str(one["right"]))], one[name], "by hand")  # type: ignore[arg-type]
        for one in FIELDS
    ]
    for name in ("field_precision", "field_recall", "field_f1")
}
CASES["json_valid"] = [
    Case([a(R, R)], 1, "valid"),
    Case([a("{'a': 1}", R)], 0, "single quotes"),
    Case([a('{"a": NaN}', R)], 0, "NaN isn't JSON (RFC 8259)"),
    Case([a('{"a": Infinity}', R)], 0, "nor is Infinity"),
    Case([a('{"a": 1,}', R)], 0, "trailing comma"),
    Case([a('```json\n{"a": 1}\n```', R)], 1, "a code fence is allowed"),
    Case([a(R, R, schema=SCHEMA)], 1, "satisfies the schema"),
    Case([a('{"a": "1"}', R, schema=SCHEMA)], 0, "wrong type"),
    Case([a("{}", R, schema=SCHEMA)], 0, "a required key is missing"),
    Case([a("", R)], 0, "empty"),
    Case([a('{"a": 1} and so on', R)], 0, "text after it"),
    Case([a("1", "yes"), a("2", "no")], NOT_MEASURED, "the references aren't JSON"),
]
CASES["json_f1"] = [
    Case([a(R, R)], 1, "equal"),
    Case([a(TWO, R)], 2 / 3, "one field too many"),
    Case([a(PEOPLE, TURNED)], 1, "any order"),
    Case([a(MIXED, PEOPLE)], 0.5, "ages exchanged between people"),
    Case([a('{"a": 1.0}', R)], 1, "numbers by value"),
    Case([a('{"a": true}', R)], 0, "true isn't 1"),
    Case([a('{"a": "1"}', R)], 0, "a text isn't a number"),
    Case([a("oops", R)], 0, "no JSON"),
    Case([a('{"a": NaN}', R)], 0, "NaN"),
    Case([a('{"a": 1, "b": null}', R)], 1, "null is absent"),
    Case([a("{}", "{}")], 1, "both empty"),
    Case([a("[1, 2, 2]", "[2, 2, 1]")], 1, "a list in any order"),
    Case([a("[1, 1, 2]", "[2, 2, 1]")], 2 / 3, "a multiset"),
    Case([a(R, TWO, R)], 1, "best reference"),
]
CASES["json_repaired"] = [
    Case([a(R, R)], 0, "as it should be"),
    Case([a('```\n{"a": 1}\n```', R)], 1, "code fence"),
    Case([a('Sure! {"a": 1}', R)], 1, "text around it"),
    Case([a('{"a": 1, "a": 2}', R)], 1, "a key given twice"),
    Case([a("no JSON", R)], 0, "can't be repaired"),
    Case([a('{"a": 1', R)], 0, "cut off"),
    Case([a(f" {R}\n", R)], 0, "white space"),
    Case([a(R, R), a(f"x {R}", R)], 0.5, "mean"),
]
CASES["json_contradictory"] = [
    Case([a(R, R)], 0, "one object"),
    Case([a('{"a": 1}\n{"a": 2}', R)], 1, "two values of one field"),
    Case([a('{"a": 1}\n{"a": 1.0}', R)], 0, "the same value twice"),
    Case([a('{"a": "X"} then {"b": 2, "a": "x"}', R)], 0, "case doesn't count, and other fields may be added"),
    Case([a('{"a": null} or {"a": 2}', R)], 0, "null is no value"),
    Case([a('{"a": 1, "a": 2}', R)], 1, "a key given twice"),
    Case([a('{"a": {"b": 1}, "c": {"b": 2}}', R)], 0, "nested objects are of different things"),
    Case([a('[{"a": 1}, {"a": 2}]', R)], 0, "a list of objects"),
    Case([a('{"a": 1}\n{"a": 2}', '[{"a": 1}, {"a": 2}]')], 0, "one object a line, where the reference is a list"),
    Case([a('```json\n{"a": 1}\n```\nCorrection:\n```json\n{"a": 2}\n```', R)], 1, "two code fences"),
    Case([a('{"a": [1, {"b": 1, "b": 2}]}', R)], 1, "a nested key given twice"),
    Case([a("no JSON", R), a('{"a": 1} {"a": 3}', R)], 0.5, "mean"),
]
CASES["value_in_source"] = [
    Case([a('{"n": "Ann"}', R, prompt="Ann is 30")], 1, "there"),
    Case([a('{"n": "Bob"}', R, prompt="Ann is 30")], 0, "not there"),
    Case([a('{"n": "ann", "age": 30}', R, prompt="Ann is 30")], 1, "case doesn't count"),
    Case([a('{"n": "An"}', R, prompt="Ann is 30")], 0, "part of a word"),
    Case([a('{"sum": 1234.5}', R, prompt="a total of 1,234.50 USD")], 1, "a number in another writing"),
    Case([a('{"on": "2026-03-04"}', R, prompt="on 4 March 2026")], 1, "a date in another writing"),
    Case([a('{"age": 26}', R, prompt="I'm twenty six.")], 1, "a number in words"),
    Case([a('{"age": 6}', R, prompt="I'm twenty six.")], 0, "part of a number in words"),
    Case([a('{"paid": true}', R, prompt="paid")], None, "a boolean isn't looked up"),
    Case([a('{"a": 1}', R, prompt=" ")], NOT_MEASURED, "no source"),
    Case([a("no JSON", R, prompt="Ann")], None, "no values"),
    Case([a('{"n": "Ann", "m": "Bob"}', R, prompt="Ann is 30")], 0.5, "one of two"),
]
