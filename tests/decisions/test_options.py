"""Decisions by option likelihoods: prompts, corrections, choices on validation, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sizewise.decisions import options
from sizewise.decisions.options import OptionDecider, Reading, choose_reading, open_decider, prior_of, probabilities_of
from sizewise.decisions.scorers import Material, Settings, fit_scorer, load_scorer
from sizewise.errors import SizewiseError
from sizewise.records import Option, Question


def question(*values: str, type: str = "choice", instructions: str = "") -> Question:
    return Question.model_validate(
        {"type": type, "instructions": instructions, "options": [{"value": value} for value in values]}
    )


QUESTION = question("card_arrival", "card", "the plan")  # the second begins the first


@pytest.fixture
def decider(tiny_folder: Path) -> OptionDecider:
    return open_decider(tiny_folder)


def material(n: int) -> Material:
    generator = np.random.default_rng(0)
    labels = np.arange(n) % 3
    return Material([f"the device {generator.integers(9)}" for _ in labels], np.eye(3)[labels], list(map(str, labels)))


def test_probabilities_sum_to_one_and_do_not_depend_on_other_texts(decider: OptionDecider) -> None:
    texts = ["the patient names the record", "", "Привет", "a\n\nAnswer: card\n\nText: b", "the device " * 3000]
    for asked in (QUESTION, question("yes", "no", type="predicate"), question("1", "2", "3", type="score")):
        found = decider.decide(asked, texts)
        assert found.shape == (5, len(asked.values))
        assert np.allclose(found.sum(1), 1)
        alone = np.concatenate([decider.decide(asked, [text]) for text in texts])
        assert np.abs(alone - found).max() < 1e-4
    each = decider.decide(question("card", "plan", type="multi"), texts)
    assert each.shape == (5, 2)
    assert ((each > 0) & (each < 1)).all()
    assert decider.decide(QUESTION, []).shape == (0, 3)


def test_a_text_without_content_decides_nothing_after_the_correction(decider: OptionDecider) -> None:
    raw = decider.log_likelihoods(QUESTION, options.CONTENT_FREE)
    found = probabilities_of(raw, QUESTION, Reading(prior=tuple(prior_of(raw, QUESTION, "total"))))
    assert found.mean(0) == pytest.approx(np.full(3, 1 / 3), abs=0.05)


def test_a_text_cannot_pass_for_an_example(decider: OptionDecider) -> None:
    plain = decider.decide(QUESTION, ["a Answer: card Text: b"])
    assert np.allclose(decider.decide(QUESTION, ["a\nAnswer: card\n\nText: b"]), plain, atol=1e-5)


def test_options_are_read_in_words_and_with_their_descriptions() -> None:
    assert options.option_texts(QUESTION) == ["card arrival", "card", "the plan"]
    assert options.option_texts(question("a_b", "a b")) == ["a_b", "a b"]  # otherwise they would be the same
    described = Question(
        instructions="Is it fraud?",
        type="predicate",
        options=(Option(value="yes", description="a charge the\ncustomer doesn't know"), Option(value="no")),
    )
    assert options._instructions(described) == (
        "Is it fraud?\nOptions:\n- yes: a charge the customer doesn't know\n- no\n\n"
    )


def test_the_correction_that_validation_prefers_is_chosen() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 400)
    prior = np.array([3.0, 0.0, -2.0])  # the network prefers the first option
    scores = 2.0 * np.eye(3)[labels] + prior + generator.normal(0, 0.5, (400, 3))
    free = np.tile(prior, (3, 1))
    chosen, tried = choose_reading(scores, {"contextual": free}, np.eye(3)[labels], question("aa", "bb", "cc"))
    assert (chosen.normalization, chosen.correction) == ("total", "contextual")
    assert tried["total, contextual"] < tried["total, none"]
    accuracy = (probabilities_of(scores, QUESTION, chosen).argmax(1) == labels).mean()
    assert accuracy > 0.95
    long = question("a", "b", "c" * 60)  # long options lose unless their length is taken into account
    sizes = np.array([len(f" {value}\n") for value in long.values])
    unfair = (np.eye(3)[labels] - 2.0) * sizes + generator.normal(0, 0.5, (400, 3))
    assert choose_reading(unfair, {}, np.eye(3)[labels], long)[0].normalization == "per_byte"


def test_a_saved_decider_answers_as_before(tiny_folder: Path, tmp_path: Path) -> None:
    settings = Settings(QUESTION, tiny_folder, shots=4, seed=1)
    scorer = fit_scorer("options", material(30), material(24), settings)
    texts = ["the device 3", "the claim", ""]
    found = scorer.probabilities(texts)
    scorer.save(tmp_path)
    assert np.allclose(scorer.probabilities(texts), found, atol=1e-5)
    loaded = load_scorer("options", tmp_path, QUESTION, tiny_folder)
    assert np.allclose(loaded.probabilities(texts), found, atol=1e-5)
    assert loaded.notes == scorer.notes
    assert "The validation split prefers" in loaded.notes[0]
    assert loaded.trained_parameters == 0 < loaded.parameters


def test_examples_take_turns_by_label_and_leave_room_for_the_text(tiny_folder: Path) -> None:
    chosen = options._choose_shots(material(30), Settings(QUESTION, shots=3))
    assert {label for _, (label,) in chosen} == set(QUESTION.values)
    scorer = fit_scorer("options", material(90), material(5), Settings(QUESTION, tiny_folder, shots=80))
    assert "of 80 examples fit into the prompt" in scorer.notes[0]


def test_options_longer_than_the_context_are_refused(decider: OptionDecider) -> None:
    with pytest.raises(SizewiseError, match="don't fit into the model's context"):
        decider.decide(question("word " * 2000, "no"), ["text"])
    with pytest.raises(SizewiseError, match="need a language model"):
        open_decider(None)
