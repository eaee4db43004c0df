"""Classifiers made of a language model, from a dataset with labels to an evaluated model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sizewise.datasets import read
from sizewise.decisions import head
from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.exporting import export
from sizewise.models import open_model
from sizewise.records import ClassifierRecipe, DecidedItem, Request
from sizewise.store import Store
from sizewise.training import train
from tests.training.test_classifier import labeled_file


@pytest.mark.parametrize("method", ["head", "options"])
def test_a_language_model_becomes_a_classifier(
    method: str, tiny_folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "MIN_STEPS", 6)
    monkeypatch.setattr(head, "EPOCHS", 1.0)
    data = read(labeled_file(tmp_path, 120), store=store)
    recipe = ClassifierRecipe.model_validate({"start": str(tiny_folder), "method": method, "shots": 2})
    saved = train(recipe, data, store=store)
    assert saved.record.parameters > 10_000
    assert saved.record.notes
    assert bool(saved.record.trained_parameters) == (method == "head")
    found = evaluate(saved, data, ("accuracy", "log_loss"), store=store)
    assert found.record.scores["log_loss"].value is not None
    model = open_model(saved, store=store)
    requests = [Request(id=str(i), text=text) for i, text in enumerate(("win a prize", "", "lunch at home"))]
    together = list(model.complete(requests))
    (alone,) = model.complete(requests[2:])
    assert alone.probabilities == pytest.approx(together[2].probabilities, abs=1e-4)
    model.close()
    if method == "options":
        with pytest.raises(SizewiseError, match="of the method options can't be exported"):
            export(f"run:{saved.id}", "hf", tmp_path / "exported", store=store)
        return
    for to, name in (("hf", "model.safetensors"), ("openvino", "openvino_model.bin"), ("onnx", "model.onnx")):
        exported = export(saved.id, to, tmp_path / to, store=store, prompts=8).record
        assert {"config.json", "tokenizer.json", "calibration.json", name} <= set(exported.files)
        assert exported.parity[0].agreement.value == 1
    with pytest.raises(SizewiseError, match="can't be exported as gguf-f16"):
        export(f"run:{saved.id}", "gguf-f16", tmp_path / "gguf", store=store)


def test_an_untrained_language_model_answers_any_question(tiny_folder: Path, store: Store) -> None:
    from sizewise.models.local import LocalModel
    from sizewise.records import Option, Question

    model = open_model(str(tiny_folder), store=store)
    assert isinstance(model, LocalModel)
    question = Question(instructions="Is it spam?", options=(Option(value="yes"), Option(value="no")))
    found = model.decide(question, ["win a prize", ""])
    assert found.shape == (2, 2)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    model.close()


def test_option_likelihoods_are_measured_on_as_many_validation_examples_as_time_allows(
    tiny_folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sizewise.decisions import options
    from sizewise.training import classifier

    data = read(labeled_file(tmp_path, 500), store=store)
    monkeypatch.setattr(classifier, "MAX_OPTION_SCORES", 40)
    monkeypatch.setattr(classifier, "MIN_SCORED", 5)
    monkeypatch.setattr(options, "SLOW_S", 0.0)
    saved = train(ClassifierRecipe(start=str(tiny_folder), method="options"), data, store=store)
    assert saved.record.validation == 20
    assert "20 of " in saved.record.notes[0]
    assert "a language model scores 2 options for each" in saved.record.notes[0]
    assert any("evaluate with --limit" in note for note in saved.record.notes)
    rows = store.read_rows(store.folder("classifier", saved.id), "validation.jsonl", DecidedItem)
    assert len(rows) == 20
    assert evaluate(saved, data, ("accuracy",), store=store, limit=7).record.scores["accuracy"].n == 7
    linear = train(ClassifierRecipe(start="tfidf", method="linear"), data, store=store)
    assert linear.record.validation > 20
