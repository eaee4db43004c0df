"""Right answers that are written in another way than the reference."""

from __future__ import annotations

import json
import unicodedata

import pytest

from tests.cases.conftest import Measure, values

COUNT = 12


def _fits_or_says_why(scores: dict[str, float | None], reasons: dict[str, str | None], name: str, least: float) -> bool:
    value = scores[name]
    return bool(reasons[name]) if value is None else value >= least


# sacrebleu#147, #165, #181, lm-evaluation-harness#212, ragas PR#2951
@pytest.mark.parametrize(
    ("said", "least"),
    [
        ("温室{}星期三下午关门检修", {"bleu": 99.0, "token_f1": 1.0, "rouge_l": 0.99, "chrf": 99.0}),
        ("温室{}星期三傍晚关门检查", {"bleu": 20.0, "token_f1": 0.4, "rouge_l": 0.4, "chrf": 30.0}),
    ],
    ids=["equal", "two places changed"],
)
def test_chinese_answers_are_compared_by_what_they_share_or_the_measure_says_that_it_does_not_fit(
    measure: Measure, said: str, least: dict[str, float]
) -> None:
    numbers = "一二三四五六七八九十百千"
    rows = [{"prompt": f"温室{one}星期几关门", "answer": f"温室{one}星期三下午关门检修"} for one in numbers]
    record = measure(rows, [said.format(one) for one in numbers], list(least))
    found = values(record)
    reasons = {name: record.scores[f"{name}@all"].missing_reason for name in least}
    assert [name for name in least if not _fits_or_says_why(found, reasons, name, least[name] - 1e-9)] == []


# inspect_ai#721, EuroEval#752
@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (("加急", "普通"), "这封信应按{}件处理"),
        (("至急", "通常"), "この荷物は{}扱いです。"),
        (("ด่วน", "ธรรมดา"), "จดหมายนี้เป็นแบบ{}นะครับ"),
        (("तत्काल", "साधारण"), "यह पत्र {} है।"),
        (("عاجل", "عادي"), "هذه الرسالة {}، على ما أظن."),
        (("urgent", "ordinary"), "I would call this letter {}, to be safe."),
    ],
    ids=["Chinese", "Japanese", "Thai", "Hindi", "Arabic", "English"],
)
def test_a_label_is_found_in_a_sentence_of_any_script(measure: Measure, labels: tuple[str, str], sentence: str) -> None:
    rows = [{"prompt": f"{i}: {sentence.format('?')}", "answer": labels[i % 2]} for i in range(COUNT)]
    record = measure(rows, [sentence.format(labels[i % 2]) for i in range(COUNT)], ["accuracy"])
    assert values(record)["accuracy"] == 1.0


# inspect_ai#5145, PR#3910
@pytest.mark.parametrize(
    "dress",
    ["${}$", "**{}**", "({})", "{}.", "Answer: {}", "The answer is {}.", "$\\boxed{{{}}}$", "`{}`", "[{}]", "{})"],
)
def test_a_letter_is_the_same_answer_in_any_dress(measure: Measure, dress: str) -> None:
    letters = "BCADDABCCBDA"
    rows = [{"prompt": f"Sign {i}: A, B, C or D?", "answer": letter} for i, letter in enumerate(letters)]
    assert values(measure(rows, [dress.format(letter) for letter in letters], ["accuracy"]))["accuracy"] == 1.0


def test_a_small_letter_is_the_same_answer(measure: Measure) -> None:
    letters = "BCADDABCCBDA"
    rows = [{"prompt": f"Sign {i}: A, B, C or D?", "answer": letter} for i, letter in enumerate(letters)]
    said = [f"({letter.lower()})" for letter in letters]
    assert values(measure(rows, said, ["accuracy"]))["accuracy"] == 1.0


# lm-evaluation-harness PR#3240, PR#3675, #3329, EuroEval#752, lighteval PR#882
def test_thoughts_before_an_answer_are_no_part_of_it(measure: Measure) -> None:
    desks = ["parcels", "passports", "lost keys"]
    rows = [{"prompt": f"Visitor {i} stands at the door.", "answer": desks[i % 3]} for i in range(COUNT)]
    said = [
        f"<think>\nMaybe {desks[(i + 1) % 3]}? Or {desks[(i + 2) % 3]}? The visitor asks otherwise.\n</think>\n\n"
        f"{desks[i % 3]}"
        for i in range(COUNT)
    ]
    record = measure(rows, said, ["accuracy", "exact_match", "token_f1"])
    found = values(record)
    told = [note for note in record.notes if "think" in note.lower() or "thought" in note.lower()]
    assert told or (found["accuracy"], found["exact_match"], found["token_f1"]) == (1.0, 1.0, 1.0)


# deepeval PR#3096, PR#3165
@pytest.mark.parametrize(
    "written",
    [
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: text.replace(" ", "\u00a0"),
        lambda text: text.replace(" ", "\u202f"),
    ],
    ids=["two code points", "no-break space", "narrow no-break space"],
)
def test_one_text_in_two_unicode_spellings_is_one_answer(measure: Measure, written: object) -> None:
    assert callable(written)
    places = ["Besançon Viotte", "Łódź Fabryczna", "Århus Havn"]
    rows = [{"prompt": f"Where does wagon {i} stand?", "answer": places[i % 3]} for i in range(COUNT)]
    record = measure(rows, [written(places[i % 3]) for i in range(COUNT)], ["accuracy", "exact_match", "token_f1"])
    found = values(record)
    assert (found["accuracy"], found["exact_match"], found["token_f1"]) == (1.0, 1.0, 1.0)


# helm#4337, NeMo Evaluator PR#1113, needle PR#123
def _parcel(weight: str, note: str = "null") -> str:
    return f'{{"weight": {weight}, "note": {note}, "fragile": true}}'


def _parcels(measure: Measure, write: object) -> dict[str, float | None]:
    assert callable(write)
    rows = [{"prompt": f"Parcel {i}", "answer": _parcel(str(30 * i))} for i in range(1, COUNT + 1)]
    assert json.loads(rows[0]["answer"])
    return values(measure(rows, [write(i) for i in range(1, COUNT + 1)], ["json_valid", "json_f1"]))


@pytest.mark.parametrize("form", ["{}.0", "{}.00", "{}e0"])
def test_equal_numbers_in_json_are_equal(measure: Measure, form: str) -> None:
    found = _parcels(measure, lambda i: _parcel(form.format(30 * i)))
    assert (found["json_valid"], found["json_f1"]) == (1.0, 1.0)


def test_null_is_no_text_in_json(measure: Measure) -> None:
    found = _parcels(measure, lambda i: _parcel(str(30 * i), '"None"'))
    assert found["json_f1"] is not None
    assert found["json_f1"] < 1.0


def test_nan_is_no_json(measure: Measure) -> None:
    assert _parcels(measure, lambda i: _parcel("NaN"))["json_valid"] == 0.0
