"""Training of classifiers, from a file with labels to an evaluated model with calibrated probabilities."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sizewise.datasets import load, read
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.models import open_model
from sizewise.models.deciding import is_calibrated
from sizewise.records import (
    ClassifierRecipe,
    Dataset,
    DecidedItem,
    ItemRow,
    Message,
    Option,
    Question,
    Request,
)
from sizewise.store import Saved, Store
from sizewise.training import train

WORDS = {"spam": ["win", "prize", "free", "cash", "click"], "ham": ["lunch", "meeting", "home", "tomorrow", "thanks"]}
LINEAR = ClassifierRecipe(start="tfidf", method="linear")


def labeled_file(folder: Path, n: int = 300, noise: float = 0.1) -> Path:
    rng = random.Random(0)
    rows = []
    for i in range(n):
        label = "spam" if rng.random() < 0.3 else "ham"
        words = WORDS[label] if rng.random() > noise else WORDS["ham" if label == "spam" else "spam"]
        rows.append({"text": f"{rng.choice(words)} {rng.choice(words)} number {i}", "label": label})
    path = folder / "messages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def messages(tmp_path: Path, store: Store) -> Saved[Dataset]:
    return read(labeled_file(tmp_path), store=store)


def test_a_classification_knows_its_question(messages: Saved[Dataset], tmp_path: Path, store: Store) -> None:
    assert messages.record.question is not None
    assert messages.record.question.values == ("spam", "ham")  # a predicate: the positive option first
    path = tmp_path / "qa.jsonl"
    rows = ({"prompt": f"What is {i}?", "reference": f"The number {i}."} for i in range(40))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read(path, store=store).record.question is None


def test_measured_probabilities_are_those_of_the_model(messages: Saved[Dataset], store: Store) -> None:
    saved = train(LINEAR, messages, store=store)
    record = saved.record
    assert record.n + record.validation <= 300
    assert set(record.scores) == {"accuracy", "macro_f1", "log_loss", "brier", "ece"}
    assert record.calibrator.labels == ("spam", "ham")
    decided = store.read_rows(store.folder("classifier", saved.id), "validation.jsonl", DecidedItem)
    assert len(decided) == record.validation
    found = evaluate(saved, messages, ("accuracy", "log_loss", "brier", "ece"), store=store)
    accuracy, loss = found.record.scores["accuracy"], found.record.scores["log_loss"]
    assert accuracy.value is not None
    assert accuracy.value > 0.75
    assert loss.value is not None
    assert loss.value < 0.62  # the entropy of the labels
    rows = store.read_rows(store.folder("evaluation", found.id), "items.jsonl", ItemRow)
    examples = {one.id: one for one in load(store, messages.id).examples["test"]}
    model = open_model(saved, store=store)
    row = rows[0]
    (answer,) = model.complete([Request(id="x", messages=examples[row.item].messages)])
    assert answer.probabilities == pytest.approx(row.probabilities)
    assert answer.text == row.completion
    assert sum((row.probabilities or {}).values()) == pytest.approx(1)


def test_the_same_recipe_is_the_same_classifier(messages: Saved[Dataset], store: Store) -> None:
    first = train(LINEAR, messages, store=store)
    assert train(LINEAR, messages, store=store).created == first.created
    other = train(LINEAR.model_copy(update={"calibration": "none"}), messages, store=store)
    assert other.id != first.id
    assert other.record.calibrator.method == "none"


def test_a_killed_training_leaves_nothing_that_is_taken_for_a_model(
    messages: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sizewise.training.classifier.fit_calibrator", stop)
        with pytest.raises(KeyboardInterrupt):
            train(LINEAR, messages, store=store)
    assert not [one for one in store.listing() if one.kind == "classifier"]
    assert train(LINEAR, messages, store=store).record.n > 100


def test_a_classifier_whose_files_changed_is_refused(messages: Saved[Dataset], store: Store) -> None:
    saved = train(LINEAR, messages, store=store)
    open_model(f"run:{saved.id}", store=store).close()
    weights = next((saved.path.parent / "model").rglob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-3] ^= 64  # another number in place of a weight: a valid file
    weights.write_bytes(content)
    with pytest.raises(SizewiseError, match="has changed since training"):
        open_model(f"run:{saved.id}", store=store)


def test_fewer_examples_of_each_label(messages: Saved[Dataset], store: Store) -> None:
    few = train(LINEAR.model_copy(update={"max_examples": 5}), messages, store=store)
    assert few.record.counts == {"ham": 5, "spam": 5}


def test_a_question_with_other_options_is_refused_and_fewer_are_renormalized(
    messages: Saved[Dataset], store: Store
) -> None:
    model = open_model(train(LINEAR, messages, store=store), store=store)
    said = (Message(role="user", content="free prize"),)
    other = Question(options=(Option(value="spam"), Option(value="virus")))
    refused, good = model.complete([Request(id="a", messages=said, question=other), Request(id="b", messages=said)])
    assert {refused.id, good.id} == {"a", "b"}
    by_id = {one.id: one for one in (refused, good)}
    assert by_id["a"].finish == "error"
    assert "wasn't trained for 'virus' but for 'spam', 'ham'" in (by_id["a"].error or "")
    assert by_id["b"].text == "spam"
    with pytest.raises(SizewiseError, match="log-likelihoods"):
        next(iter(model.score(["text"])))


def test_half_of_a_character_is_no_obstacle(messages: Saved[Dataset], store: Store) -> None:
    model = open_model(train(LINEAR, messages, store=store), store=store)
    (found,) = model.complete([Request(id="1", text="win a prize \ud83d")])
    assert found.error is None
    assert sum((found.probabilities or {}).values()) == pytest.approx(1)
    model.close()


def test_data_without_labels_or_with_one_label_are_refused(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text("".join(f'{{"text": "message {i}", "label": "ham"}}\n' for i in range(60)), encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"All labeled examples of data-.* have the label 'ham'"):
        train(LINEAR, read(path, store=store), store=store)
    rows = (json.dumps({"text": f"message {i}", "reference": f"answer {i}"}) + "\n" for i in range(60))
    path.write_text("".join(rows), encoding="utf-8")
    with pytest.raises(SizewiseError, match="no labels to learn"):
        train(LINEAR, read(path, store=store), store=store)


def test_methods_name_the_start_that_they_need(messages: Saved[Dataset], store: Store) -> None:
    with pytest.raises(UsageError, match="starts from tfidf"):
        train(ClassifierRecipe(start="pkg:smollm2-135m", method="linear"), messages, store=store)
    with pytest.raises(UsageError, match="can't start from tfidf"):
        train(ClassifierRecipe(start="tfidf", method="head"), messages, store=store)


def test_models_without_probabilities_say_so(messages: Saved[Dataset], store: Store) -> None:
    found = evaluate(f"frequent:{messages.id}", messages, ("accuracy", "log_loss"), store=store).record
    assert found.scores["accuracy"].value is not None
    assert "no probabilities" in (found.scores["log_loss"].missing_reason or "")


def test_few_texts_with_several_labels_train(tmp_path: Path, store: Store) -> None:
    """Its few validation examples are joined by some of the training split; a cap counts each label."""
    path = tmp_path / "several.jsonl"
    rows = [
        {"text": f"{' '.join(words)} number {i}", "labels": list(words), "type": "multi"}
        for i, words in enumerate([("lost",), ("lost", "charge"), ("charge",), ("slow",)] * 12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = read(path, store=store)
    saved = train(LINEAR, data, store=store)
    assert saved.record.validation >= 5
    assert not any("at most one training example" in note for note in saved.record.notes)
    capped = train(LINEAR.model_copy(update={"max_examples": 3}), data, store=store)
    assert 3 <= capped.record.n <= 9
    (answer,) = open_model(saved, store=store).complete(
        [Request(id="x", messages=(Message(role="user", content="lost charge"),))]
    )
    assert answer.text == "charge; lost"


def test_an_option_that_is_never_the_most_likely_one_is_learned(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "soft.jsonl"
    rows = [
        {"text": f"{word} number {i}", "label": {word: 0.7, "unclear": 0.2, other: 0.1}}
        for i, (word, other) in enumerate([("lost", "slow"), ("slow", "charge"), ("charge", "lost")] * 20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    saved = train(LINEAR.model_copy(update={"calibration": "none"}), read(path, store=store), store=store)
    (answer,) = open_model(saved, store=store).complete(
        [Request(id="x", messages=(Message(role="user", content="lost number 900"),))]
    )
    assert answer.text == "lost"
    assert answer.probabilities is not None
    assert answer.probabilities["unclear"] == pytest.approx(0.2, abs=0.15)
    assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_a_label_without_a_validation_example_is_not_calibrated(tmp_path: Path, store: Store) -> None:
    split = ["train"] * 3 + ["validation", "test"]
    rows = [{"text": f"lunch {i}", "label": "ham", "split": split[i % 5]} for i in range(400)]
    rows += [{"text": f"win a prize {i}", "label": "spam", "split": "train"} for i in range(20)]
    path = tmp_path / "rare.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    saved = train(LINEAR, read(path, split="given", store=store), store=store)
    assert saved.record.uncalibrated == ("spam",)
    assert any("no example of 1 of 2 labels" in note for note in saved.record.notes)
    assert not is_calibrated(open_model(saved, store=store))
