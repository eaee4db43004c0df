"""Explanations of decisions: exact for linear models, measured by removal for others, and better than chance."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import entropy

from sizewise.decisions.explaining import (
    MAX_PARTS,
    Effects,
    check_removal,
    log_odds_of,
    removal_effects,
    remove_parts,
    split_parts,
    split_words,
    summed_effects,
)
from sizewise.decisions.linear import LinearScorer, fit
from sizewise.decisions.scorers import FloatArray, Material, Settings
from sizewise.records import Option, Question
from tests.decisions.test_linear import TOPICS, material, question

DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
ODD = (
    "",
    " ",
    "card",
    "my CARD, my card! was stolen\n\nthe  pin (chip)",
    "\u0130stanbul'da kart\u0131m \u0130PTAL: card pin",
    "ΟΔΟΣ card loan",
    "我的card被偷了,请帮忙 loan",
    "\U0001f600 card a b",
)


@pytest.fixture(scope="module")
def topics() -> LinearScorer:
    return fit(material(240, 0), material(60, 2), Settings(question(*TOPICS)))


def effects_of(scorer: LinearScorer, text: str, option: int) -> Effects:
    found = scorer.attribute(text, option)
    assert found is not None
    return summed_effects(found.characters, text, found.log_odds)


@pytest.mark.parametrize("text", ODD)
def test_the_effects_of_words_add_up_to_the_log_odds_exactly(topics: LinearScorer, text: str) -> None:
    chances = topics.probabilities([text])[0]
    for option in range(3):
        found, weights = effects_of(topics, text, option), topics._weights
        assert found.log_odds == pytest.approx(log_odds_of(chances[None], option)[0], abs=1e-4)
        others = np.where(np.arange(3) == option, 0, chances)
        others /= others.sum()
        expected = weights.scale * float((np.eye(3)[option] - others) @ weights.intercepts) - entropy(others)
        assert found.rest == pytest.approx(expected, abs=1e-3)


def test_two_options_are_opposites_and_an_unknown_one_is_not_explained() -> None:
    both = Material(["good day", "bad day"] * 30, np.eye(2)[[0, 1] * 30], [f"d{i}" for i in range(60)])
    scorer = fit(both, both, Settings(question("bad", "good")))
    left, right = (effects_of(scorer, "a bad day", option) for option in (0, 1))
    assert np.allclose(left.values, -right.values)
    assert left.log_odds == pytest.approx(-right.log_odds)
    labels = ("card", "loan", "nothing", "transfer")
    assert fit(material(120, 0, labels), both._replace(texts=[]), Settings(question(*labels))).attribute("x", 2) is None


def test_the_words_of_the_topic_are_found(topics: LinearScorer) -> None:
    text = "my mortgage and the interest please"
    found = effects_of(topics, text, 1)
    named = {text[start:stop] for start, stop in (found.spans[i] for i in found.largest(2))}
    assert named == {"mortgage", "interest"}
    measured = removal_effects(topics.probabilities, text, 1)
    assert set(measured.largest(2)) == set(found.largest(2))
    assert measured.texts == 6


def test_parts_are_words_sentences_or_runs_of_them_and_their_number_is_bounded() -> None:
    assert split_words("Hi,  you! 你好") == [(0, 3), (5, 9), (10, 11), (11, 12)]
    few, unit = split_parts("one two three")
    assert (len(few), unit) == (3, "words")
    sentences = " ".join(f"This is sentence number {i} of the text." for i in range(12))
    spans, unit = split_parts(sentences)
    assert (len(spans), unit) == (12, "sentences")
    assert sentences[slice(*spans[3])] == "This is sentence number 3 of the text."
    for long in (sentences * 10, "word " * 1_000, "字" * 5_000):
        spans, unit = split_parts(long)
        assert (len(spans), unit) == (MAX_PARTS, "passages")
        assert "".join(long[start:stop] for start, stop in spans).replace(" ", "") == long.replace(" ", "")
    assert remove_parts("one two three", [(4, 7)]) == "one three"
    assert split_parts("") == ([], "words")


def test_removal_is_one_batch_and_its_check_tells_a_cause_from_chance() -> None:
    asked: list[int] = []

    def predict(texts: Sequence[str]) -> FloatArray:
        asked.append(len(texts))
        chances = np.array([expit(4.0 * ("free" in text) - 2.0 - ("mother" in text)) for text in texts])
        return np.stack([chances, 1 - chances], axis=1)

    text = "a free prize for you and your mother today"
    found = removal_effects(predict, text, 0)
    assert asked == [1 + len(found.spans)]
    assert [text[slice(*found.spans[i])] for i in found.largest(5)] == ["free", "mother"]
    assert found.values[found.largest(2)] == pytest.approx([4.0, -1.0])
    checked = check_removal(predict, text, 0, found, found.largest(5))
    assert checked.strongest == pytest.approx(expit(-3.0))
    assert checked.random is not None
    assert checked.random > 0.6
    nothing = removal_effects(predict, "hello", 0)
    assert nothing.largest(5) == []
    assert check_removal(predict, "hello", 0, nothing, []) == (None, None, 0)


@pytest.mark.data
def test_on_real_messages_removing_the_strongest_words_lowers_the_probability_more_than_chance() -> None:
    file = DATA / "sms_spam" / "SMSSpamCollection"
    if not file.exists():
        pytest.skip("the folder of test data (SIZEWISE_TEST_DATA) is not here")
    rows = [line.split("\t", 1) for line in file.read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    labels = ("spam", "ham")

    def part(start: int, stop: int) -> Material:
        targets = np.eye(2)[[labels.index(label) for label, _ in rows[start:stop]]]
        return Material([text for _, text in rows[start:stop]], targets, [str(i) for i in range(start, stop)])

    scorer = fit(
        part(0, 1_000), part(1_000, 1_200), Settings(Question(options=tuple(Option(value=one) for one in labels)))
    )
    for exact in (True, False):
        falls = []
        for label, text in rows[1_200:1_500]:
            chance = float(scorer.probabilities([text])[0, 0])
            if label != "spam" or chance < 0.5:
                continue
            effects = effects_of(scorer, text, 0) if exact else removal_effects(scorer.probabilities, text, 0)
            removed = check_removal(scorer.probabilities, text, 0, effects, effects.largest(5))
            if removed.strongest is not None and removed.random is not None:
                falls.append((chance - removed.strongest, chance - removed.random))
        strongest, by_chance = np.mean(falls, axis=0)
        assert strongest > by_chance + 0.15


def test_records_are_explained_by_their_fields(topics: LinearScorer) -> None:
    lines = "amount: 200\nCountry: DE\n\nreason for payment: loan interest\ntime: 12:30"
    spans, unit = split_parts(lines)
    assert unit == "fields"
    assert [lines[slice(*span)] for span in spans] == [line for line in lines.split("\n") if line]
    written = '{"amount": 200, "list": [1, {"a": "}"}],"reason":"loan, interest", "empty": {}}'
    spans, unit = split_parts(written)
    assert unit == "fields"
    assert [written[slice(*span)] for span in spans] == [
        '"amount": 200', '"list": [1, {"a": "}"}]', '"reason":"loan, interest"', '"empty": {}',
    ]  # fmt: skip
    for text in (lines, written):
        found = effects_of(topics, text, 1)
        assert found.unit == "fields"
        assert "loan" in text[slice(*found.spans[found.largest(1)[0]])]
    for other in ("{}", '{"a": 1', "Dear all: hello\nplease read this\nbest: me", "{" * 5_000, '[{"a": 1}]'):
        assert split_parts(other)[1] != "fields"
    letter = "\n".join(f"Speaker {i}: " + "many words that someone said at length in this talk " * 3 for i in range(5))
    assert split_parts(letter)[1] != "fields"
