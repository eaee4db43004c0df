"""Measures of content: what a reference says, whatever stands around it."""

from __future__ import annotations

import pytest

from sizewise.metrics import AnswerItem, CannotMeasure, find_metric

CONTAINS = [
    ("The capital is Paris.", "Paris", 1.0),
    ("The capital is Parisian in style.", "Paris", 0.0),
    ("das ist MÜNCHEN", "Mu\u0308nchen", 1.0),
    ("\uff21\uff22\uff23 Bank", "abc bank", 1.0),
    ("\u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd", "\u5317\u4eac", 1.0),
    ("القاهرة هي العاصمة.", "القاهرة", 1.0),
    ("राजधानी दिल्ली है", "दिल्ली", 1.0),
    ("राजधानी दिल्ली है", "दिल", 0.0),
    ("", "Paris", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "reference", "value"), CONTAINS)
def test_contains_looks_for_whole_words_in_every_script(answer: str, reference: str, value: float) -> None:
    assert find_metric("contains_reference").measure(AnswerItem(answer, (reference,))) == (value, 1.0)


NUMBERS = [
    ("It was $1,577.0 million.", "1577", 0.0),
    ("It was $1,577.0 million.", "1,577 million", 1.0),
    ("120 million", "120", 0.0),
    ("4.2%", "-4.2%", 0.0),
    ("a decline of 4.2%", "-4.2%", 1.0),
    ("The profit rose by 5%.", "-5%", 0.0),
    ("minus 5", "-5", 1.0),
    ("-4.2", "(4.2)", 1.0),
    ("4.2", "(4.2)", 0.0),
    ("eight (8)", "8", 1.0),
    ("1945 to 1939", "1939-1945", 0.0),
    ("from 1939 to 1945", "1939\u20131945", 1.0),
    ("1 to 2", "2 to 1", 0.0),
    ("1-3", "3-1", 0.0),
    ("30 past 12", "12:30", 0.0),
    ("at 12:30", "12:30", 1.0),
    ("5 miles", "5 km", 0.0),
    ("5000 m", "5 km", 1.0),
    ("5 g", "5 mg", 0.0),
    ("18 eggs... no wait, 17", "18", 0.0),
    ("18 eggs... no wait, 17", "17", 1.0),
    ("1. First\n2. Second\n3. Third\nThe answer is 9", "3", 0.0),
    ("1. First 2. Second 3. Third. The answer is 9", "9", 1.0),
    ("I don't know, 41 or 42 or 43", "42", 0.0),
    ("It is 41, 42, 43, 44, 45, 46, 47 or 48", "42", 0.0),
    ("It was 1,577 million dollars", "$1.577 billion", 1.0),
    ("The margin was 15.2 percent", "15.23%", 1.0),
    ("The ratio is 0.15", "15%", 1.0),
    ("The ratio is 0.16", "15%", 0.0),
    ("It cost 12 EUR", "$12", 0.0),
    ("It cost 12", "$12", 1.0),
    ("Der Umsatz betrug 1.234,5 Mio", "1,234.5 million", 1.0),
    ("on 18 May 2018", "May 18, 2018", 1.0),
    ("on 19 May 2018", "May 18, 2018", 0.0),
    ("\u0661\u0665", "15", 1.0),
    ("between 3 and 5", "4", 0.0),
    ("发票应在60天内支付", "发票应在30天内支付", 0.0),
    ("发票应在三十天内支付", "发票应在30天内支付", 1.0),
    ("売上は1200万円です", "12,000,000円", 1.0),
    ("ชำระภายใน60วัน", "ชำระภายใน30วัน", 0.0),
]


@pytest.mark.parametrize(("answer", "reference", "value"), NUMBERS)
def test_numbers_are_compared_by_value_and_unit(answer: str, reference: str, value: float) -> None:
    assert find_metric("numeric_match").measure(AnswerItem(answer, (reference,))) == (value, 1.0)


def test_a_reference_without_a_number_has_no_numeric_match() -> None:
    with pytest.raises(CannotMeasure, match="no number"):
        find_metric("numeric_match").measure(AnswerItem("12", ("a few",)))


MATCHES = [
    ("The first Nobel Prize went to Wilhelm R\u00f6ntgen in 1901.", "Wilhelm Conrad R\u00f6ntgen", 2 / 3),
    ("FY2018 capital expenditure was 1.58 billion", "$1577 million", 1.0),
    ("I cannot determine the capital expenditure of 3M.", "$1577 million", 0.0),
    ("I'm sorry, I can't say who Wilhelm Conrad was.", "Wilhelm Conrad R\u00f6ntgen", 0.0),
    ("The company did not improve its margin.", "No. The margin fell from 12% to 10%.", 0.0),
    ("1. FC K\u00f6ln", "1. FC K\u00f6ln", 1.0),
    ("Fargo", "No Country for Old Men", 0.0),
    ("I do not know.", "No. 10 Downing Street", 0.0),
    ("Eminem", "Ja Rule", 0.0),
    ("The patient has not slept", "No fever", 0.0),
    ("It's not cancer.", "Non-Hodgkin lymphoma", 0.0),
    ("He was found guilty.", "not guilty", 0.0),
    ("He was found not guilty.", "not guilty", 1.0),
    ("Not Bonn", "Bonn", 0.0),
    ("It isn't Bonn but Berlin.", "Bonn", 0.0),
    ("Das ist nicht Bonn.", "Bonn", 0.0),
    ("Not Paris but Bonn", "Bonn", 1.0),
    ("Ele nasceu no Brasil", "Brasil", 1.0),
    ("Yes, the margin improved to 12% from 10%.", "No. The margin fell from 12% to 10%.", 0.0),
    ("Ja, das stimmt.", "Ja", 1.0),
    ("Paris", "Paris", 1.0),
    ("請求書は60日以内に支払う", "請求書は30日以内に支払う", 0.0),
    ("請求書は30日以内に支払う", "請求書は30日以内に支払う", 1.0),
]


@pytest.mark.parametrize(("answer", "reference", "value"), MATCHES)
def test_a_short_reference_is_found_in_whatever_stands_around_it(answer: str, reference: str, value: float) -> None:
    assert find_metric("reference_match").measure(AnswerItem(answer, (reference,)))[0] == pytest.approx(value)


def test_long_references_have_no_match_but_a_recall() -> None:
    long = "Adults take one tablet twice daily with food, and children under twelve take half of it after breakfast."
    with pytest.raises(CannotMeasure, match="content words"):
        find_metric("reference_match").measure(AnswerItem("one tablet", (long,)))
    half, _ = find_metric("reference_recall").measure(
        AnswerItem("Adults take one tablet twice daily with food.", (long,))
    )
    assert 0.3 < half < 0.7


def test_a_scale_in_the_question_may_be_left_out() -> None:
    asked = "What was the capital expenditure, in USD millions?"
    assert find_metric("numeric_match").measure(AnswerItem("$1,577.0 million", ("1577",), asked)) == (1.0, 1.0)
    assert find_metric("reference_match").measure(AnswerItem("$1,577.0 million", ("1577",), asked)) == (1.0, 1.0)


STATED = [
    *[("No, king i never visited X.", said, 0.0) for said in ("I do not know.", "Cannot be determined.", "Paris", "")],
    *[("No", said, 0.0) for said in ("Unknown", "The passage doesn't say.", "Error: context length", "It depends.")],
    *[("No", said, 0.0) for said in ("It was never visited by anybody", "There is no doubt.", "No, I can't help.")],
    *[
        ("No", said, 1.0)
        for said in ("False.", "Incorrect.", "C'est faux", "Es falso", "Das ist falsch", "No it isn't")
    ],
    *[
        ("No", said, 1.0)
        for said in ("Das stimmt nicht.", "La r\u00e9ponse est non.", '{"answer": "no"}', "**No**, it is")
    ],
    *[
        ("Yes", said, 0.0)
        for said in ("Paris", "Yes and no.", "That is false.", "Yes. Wait, actually no.", "Not true.")
    ],
    *[
        ("Yes", said, 1.0)
        for said in ("Yes.", "Correct", "Not sure, but probably yes", "Answer: yes", "Yes, it isn't no")
    ],
    *[("Yes", said, 1.0) for said in ("Yes because it rose", "Yes (see 2).", "<b>Yes</b>", "\\boxed{yes}")],
    ("No", "No\n\nExplanation: it is correct.", 1.0),
    *[("Ja", said, value) for said, value in (("Das ist falsch.", 0.0), ("Das stimmt.", 1.0), ("Ja, klar", 1.0))],
]


@pytest.mark.parametrize(("reference", "answer", "value"), STATED)
def test_yes_and_no_count_only_where_they_are_stated(reference: str, answer: str, value: float) -> None:
    assert find_metric("reference_match").measure(AnswerItem(answer, (reference,))) == (value, 1.0)
