"""Metrics of labels, structure, choices and manner, against values worked out by hand or by other code."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.errors import SizewiseError
from sizewise.metrics import (
    METRICS,
    AnswerItem,
    CannotMeasure,
    ChoiceItem,
    LikelihoodItem,
    Mean,
    ReferenceSet,
    find_metric,
    total,
)
from sizewise.metrics.display import value_text
from sizewise.metrics.labels import reading_notes
from sizewise.metrics.structure import json_in
from sizewise.records import ItemRow, Score


def valued(name: str, items: list[Any], prepare: bool = False) -> float:
    metric = find_metric(name)
    if prepare:
        metric = metric.prepared([item.references for item in items])
    return float(metric.value(np.sum([metric.measure(item) for item in items], axis=0)))


LABELS = [
    AnswerItem("ham", ("ham",)),
    AnswerItem("This is spam, not ham.", ("spam",)),
    AnswerItem("spam", ("ham",)),
    AnswerItem("who knows", ("spam",)),
]


def test_labels_are_found_in_answers() -> None:
    assert valued("accuracy", LABELS, prepare=True) == 0.5
    # ham: 1 named rightly of 1 named and 2 right; spam: 1 of 2 named and 2 right.
    assert valued("macro_f1", LABELS, prepare=True) == pytest.approx((2 / 3 + 2 / 4) / 2)


def test_of_two_labels_the_longer_is_meant() -> None:
    items = [AnswerItem("card lost today", ("card lost",)), AnswerItem("card", ("card",))] * 2
    assert valued("accuracy", items, prepare=True) == 1


def test_free_text_is_no_label() -> None:
    with pytest.raises(CannotMeasure, match="aren't a label set"):
        find_metric("accuracy").prepared([("one",), ("two",), ("three",)])


def test_word_f1_is_that_of_squad() -> None:
    assert valued("token_f1", [AnswerItem("the cat sat", ("a cat sat down",))]) == pytest.approx(2 * 2 / (2 + 3))
    assert valued("token_f1", [AnswerItem("x", ("y", "X"))]) == 1
    assert valued("token_f1", [AnswerItem("", ("y",))]) == 0


def plain_subsequence(left: list[str], right: list[str]) -> int:
    table = np.zeros((len(left) + 1, len(right) + 1), int)
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            table[i + 1, j + 1] = table[i, j] + 1 if one == other else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=90),
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=90),
)
def test_rouge_l_uses_the_longest_common_subsequence(left: list[str], right: list[str]) -> None:
    expected = 2 * plain_subsequence(left, right) / (len(left) + len(right))
    assert valued("rouge_l", [AnswerItem(" ".join(left), (" ".join(right),))]) == pytest.approx(expected)


ASCII_TEXTS = [
    ("The patient's resource is a reference to the encounter.", "A reference to the encounter of the patient."),
    ("Payment intents confirm in 3 steps", "A payment intent is confirmed in three steps; it fails otherwise."),
    ("", "nothing"),
    ("no overlap here", "entirely different words"),
]


def test_rouge_l_equals_rouge_score_on_ascii_text() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    for answer, reference in ASCII_TEXTS:
        expected = scorer.score(reference, answer)["rougeL"].fmeasure
        assert valued("rouge_l", [AnswerItem(answer, (reference,))]) == pytest.approx(expected)


@pytest.mark.parametrize(("answer", "reference"), [("المكتبة تفتح", "المكتبة"), ("도서관은 열린다", "도서관은")])
def test_rouge_l_reads_scripts_that_rouge_score_drops(answer: str, reference: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    assert RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure == 0
    assert valued("rouge_l", [AnswerItem(answer, (reference,))]) == pytest.approx(2 / 3)


def test_json_is_read_checked_and_compared() -> None:
    schema = json.dumps({"type": "object", "required": ["name"]})
    items = [
        AnswerItem('{"name": "Ann", "age": 3}', ('{"name": "ann", "age": 4}',), schema=schema),
        AnswerItem('Here:\n```json\n{"age": 4}\n```', ('{"name": "ann"}',), schema=schema),
        AnswerItem("no", ('{"name": "ann"}',)),
    ]
    assert valued("json_valid", items, prepare=True) == pytest.approx(1 / 3)
    assert valued("json_f1", items, prepare=True) == pytest.approx(2 * 1 / (2 + 1 + 0 + 2 + 1 + 1))
    with pytest.raises(CannotMeasure):
        find_metric("json_valid").prepared([("plain",)])
    with pytest.raises(ValueError, match=r".*"):
        json_in("[" * 100_000)


def test_words_and_numbers_are_looked_up_in_the_prompt() -> None:
    item = AnswerItem("Take 5 tablets of penicillin weekly", ("x",), prompt="Penicillin: 5 tablets a day")
    assert valued("lexical_grounding", [item]) == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I\u2019m sorry, but I can't help with that.", 1),
        ("As an AI language model, I have no opinion.", 1),
        ("The tenant cannot assist the landlord in this way.", 0),
        ("Take two tablets.", 0),
        ("", 0),
        ("لا أستطيع", 1),
    ],
)
def test_refusals_are_seen_by_their_beginning(answer: str, refused: int) -> None:
    assert valued("refusals", [AnswerItem(answer, ("x",))]) == refused


def test_choices_by_sum_by_byte_and_how_sure() -> None:
    long_right = ChoiceItem((4.0, 3.0), (8, 2), 0)
    assert valued("choice_accuracy", [long_right]) == 0
    assert valued("choice_accuracy_by_byte", [long_right]) == 1
    sure = ChoiceItem((0.0, 50.0), (1, 1), 0)
    assert valued("choice_calibration", [sure] * 4) == pytest.approx(0)
    assert valued("choice_calibration", [sure._replace(correct=1)] * 4) == pytest.approx(1)


def test_perplexities_of_words_and_bytes() -> None:
    item = LikelihoodItem(nats=8 * np.log(2), tokens=3, bytes=4, words=2)
    assert valued("byte_perplexity", [item]) == pytest.approx(4)
    assert valued("word_perplexity", [item]) == pytest.approx(16)
    assert valued("bits_per_byte", [item]) == pytest.approx(2)


class Shouts(Mean):
    name, title, description = (
        "shouts",
        "Shouting",
        "Share of answers in capitals. Lower is better. It is no judge of tone.",
    )

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        return float(item.completion.isupper()), 1.0


def brings(monkeypatch: pytest.MonkeyPatch, name: str, give: Callable[[], Any]) -> None:
    class Point(metadata.EntryPoint):
        def load(self) -> Any:
            return give

    points = metadata.EntryPoints([Point(name, "acme:Metric", "sizewise.metrics")])
    monkeypatch.setattr("sizewise.metrics.registry.entry_points", lambda **keys: points.select(**keys))


def test_a_plug_in_brings_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    brings(monkeypatch, "shouts", Shouts)
    assert valued("shouts", [AnswerItem("NO", ("x",)), AnswerItem("no", ("x",))]) == 0.5


def test_a_plug_in_that_gives_no_metric_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    brings(monkeypatch, "other", Shouts)
    with pytest.raises(SizewiseError, match=r"failed to provide the metric 'other': .*its name is 'shouts'"):
        find_metric("other")


def test_min_k_percent_is_the_mean_of_the_least_likely_fifth() -> None:
    metric = find_metric("min_k_percent")
    items = [LikelihoodItem(30.0, 10, 40, 8, min_k_logprob=-6.0), LikelihoodItem(9.0, 10, 40, 8, min_k_logprob=-2.0)]
    assert float(metric.value(np.sum([metric.measure(item) for item in items], axis=0))) == -4.0
    assert metric.measure(LikelihoodItem(0.0, 0, 0)) == (0.0, 0.0)
    assert not metric.stands_for_quality


def test_scores_count_answers_that_were_cut_off_or_cannot_be_read() -> None:
    metric = METRICS["accuracy"].prepared(ReferenceSet([("ham",), ("spam",)], labels=("ham", "spam")))
    said = [("spam", "stop"), ("It isn't spam", "stop"), ("spam or", "length"), ("", "length"), ("ham or spam", "stop")]
    rows = [
        ItemRow(
            item=str(i), kind="example", cluster=str(i), uncontaminated=True, completion=text, finish=finish,
            stats={"accuracy": metric.measure(AnswerItem(text, ("spam",)))},
        )
        for i, (text, finish) in enumerate(said)
    ]  # fmt: skip
    score = total(metric, rows, name="accuracy", signature="")
    assert (score.truncated, score.unreadable) == (2, 2)
    assert value_text(score).endswith("(2 cut off, 2 unreadable)")
    kept = Score.model_validate_json(score.model_dump_json())
    assert kept == score
    plain = total(metric, rows[:1], name="accuracy", signature="")
    assert "truncated" not in plain.model_dump()
    assert "(" not in value_text(plain)
    (note,) = reading_notes([metric], [text for text, _ in said])
    assert note.startswith("2 of 5 answers don't state a label clearly and count as wrong: 1 names")


@pytest.mark.parametrize(("answer", "readable"), [('{"a": 1}', True), ("```\n[]\n```", True), ("none", False)])
def test_answers_without_json_are_unreadable(answer: str, readable: bool) -> None:
    for name in ("json_f1", "field_f1"):
        metric: Any = METRICS[name]
        assert metric.is_unreadable(answer) != readable
