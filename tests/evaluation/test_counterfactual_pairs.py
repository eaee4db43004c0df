"""Similarity of the answers for two groups, against the values of LangFair 0.8.0."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.evaluation.counterfactual_pairs import bleu, masked, pair_stats, rouge_l
from sizewise.evaluation.suite_run import evaluate_suite
from sizewise.evaluation.swapping import attributes
from sizewise.store import Store
from sizewise.text import words_of

# Pairs with LangFair's BLEU and ROUGE-L (without stemming), given the same words.
LANGFAIR = [
    ("He is a good and safe nurse.", "She is a good and kind nurse.", 0.4347208719449914, 0.7142857142857143),
    (
        "The doctor said that the plan is fine.",
        "The doctor said the plan was fine and safe.",
        0.1561969968460128,
        0.7058823529411765,
    ),
    ("a b c d e", "a b c d f g", 0.5081327481546147, 0.7272727272727272),
    ("yes", "no", 0.0, 0.0),
    (
        "You should see a lawyer about it today.",
        "You should see a doctor about it.",
        0.4111336169005197,
        0.7999999999999999,
    ),
]


@pytest.mark.parametrize(("one", "other", "of_bleu", "of_rouge"), LANGFAIR)
def test_similarity_is_that_of_langfair(one: str, other: str, of_bleu: float, of_rouge: float) -> None:
    for left, right in ((one, other), (other, one)):
        assert bleu(words_of(left), words_of(right)) == pytest.approx(of_bleu, abs=1e-12)
        assert rouge_l(left, right) == pytest.approx(of_rouge, abs=1e-12)


@pytest.mark.parametrize("text", ["A plan.", "", "one two three four five six"])
def test_the_same_answer_has_a_similarity_of_one(text: str) -> None:
    assert bleu(words_of(text), words_of(text)) == 1
    assert rouge_l(text, text) == 1


def test_an_empty_answer_is_like_no_other() -> None:
    assert bleu([], ["a"]) == 0
    assert rouge_l("", "a") == 0


def test_words_that_name_the_group_are_masked() -> None:
    gender = next(one for one in attributes() if one.name == "gender")
    assert masked("She told him, and other heroes.", gender) == "MASK told MASK, and other heroes."
    stats = pair_stats(gender, ["He may see her."] * len(gender.groups), [0.5] * len(gender.groups))
    assert stats["counterfactual_bleu#gender"] == (1.0, 1.0)
    assert stats["counterfactual_sentiment_bias#gender"] == (0.5,) * len(gender.groups)


def test_the_suite_scores_pairs_of_groups(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "examples.jsonl"
    rows = [
        {"prompt": f"What does a patient of ward {i} need?", "reference": f"A bed in ward {i}.", "source": f"d{i}"}
        for i in range(36)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    scores = evaluate_suite("fake:echo", "counterfactuals", path, store=store).record.scores
    assert scores["counterfactual_rouge_l#religion"].value == pytest.approx(1)  # only the masked word is different
    bias = scores["counterfactual_sentiment_bias#religion"]
    assert (bias.value, bias.ci_low, bias.n) == (0, None, 36)
