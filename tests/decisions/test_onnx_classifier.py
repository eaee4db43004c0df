"""Classifiers as ONNX graphs: what onnxruntime computes from texts is what the classifier computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sizewise.datasets import read
from sizewise.decisions.calibrators import fit_calibrator
from sizewise.decisions.classify import ExportedClassifier
from sizewise.decisions.classify import legible_text as exported_form
from sizewise.decisions.linear import MAX_CHARACTERS
from sizewise.decisions.onnx_classifier import Exportable, build_classifier_graph
from sizewise.decisions.scorers import Material, Settings, fit_scorer
from sizewise.errors import SizewiseError, UsageError
from sizewise.exporting import classifiers, export
from sizewise.models import open_model
from sizewise.records import CalibrationMethod, ClassifierMethod, ClassifierRecipe, Question
from sizewise.retrieval.encoder import write_graph
from sizewise.store import Store
from sizewise.text import legible_text
from sizewise.training import train
from tests.decisions.test_linear import TOPICS, material, question
from tests.retrieval.encoders import write_encoder
from tests.training.test_classifier import labeled_file

ODD = (
    "",
    " ",
    "...",
    "a",
    "A\tb\n\n c  d",
    "İstanbul ǅ straße ﬁ",
    "naïve café 中文 😀",
    "win " * 9_000,
    "\ud800 x",
    "_ __ a_b",
)
"""Texts that a tokenizer of one's own gets wrong: empty, of signs alone, of letters that grow when lowered, long."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def written(scorer: object, asked: Question, folder: Path, known: Material, method: CalibrationMethod) -> np.ndarray:
    """Write a scorer with a calibration, and return what the calibration makes of its probabilities."""
    from typing import cast

    from sizewise.decisions.calibrators import apply_calibrator
    from sizewise.decisions.scorers import Scorer

    own = cast(Scorer, scorer)
    independent = asked.type == "multi"
    calibrator, _ = fit_calibrator(
        own.probabilities(known.texts), known.targets, asked.values, np.zeros(len(known.texts), dtype=np.int64),
        method=method, independent=independent,
    )  # fmt: skip
    graph = build_classifier_graph(cast(Exportable, scorer), asked, calibrator)
    write_graph(graph, folder / "model.onnx")
    settings: dict[str, object] = {"options": asked.values, "max_characters": MAX_CHARACTERS}
    encoder = cast(Exportable, scorer).encoder
    if encoder is not None:
        stated = encoder.settings
        settings |= {"max_tokens": stated.max_tokens, "lowercase": stated.lowercase, "prompt": stated.prompt}
        (folder / "tokenizer.json").write_bytes((encoder.folder / "tokenizer.json").read_bytes())
    (folder / "classifier.json").write_text(json.dumps(settings), encoding="utf-8")
    return apply_calibrator(calibrator, own.probabilities([*known.texts, *ODD]), asked.values)


@pytest.mark.parametrize("method", ["none", "temperature", "platt", "isotonic"])
@pytest.mark.parametrize("kind", ["choice", "multi"])
def test_words_and_calibration_are_part_of_the_graph(kind: str, method: CalibrationMethod, tmp_path: Path) -> None:
    train_on, held = material(240, 0), material(60, 1)
    asked = question(*TOPICS).model_copy(update={"type": kind})
    scorer = fit_scorer("linear", train_on, held, Settings(asked))
    expected = written(scorer, asked, tmp_path, held, method)
    found = ExportedClassifier(tmp_path).probabilities([*held.texts, *ODD])
    assert np.abs(found - expected).max() < 1e-4
    assert expected.std(axis=0).min() > 0.05  # the options are told apart


def test_two_options_of_three_without_examples_of_the_third(tmp_path: Path) -> None:
    train_on, held = material(240, 0), material(60, 1)
    two = [i for i, label in enumerate(train_on.labels) if label != 1]
    part = Material([train_on.texts[i] for i in two], train_on.targets[two], [train_on.clusters[i] for i in two])
    asked = question(*TOPICS)
    scorer = fit_scorer("linear", part, Material([], np.zeros((0, 3)), []), Settings(asked))
    expected = written(scorer, asked, tmp_path, held, "none")
    found = ExportedClassifier(tmp_path).probabilities([*held.texts, *ODD])
    assert np.abs(found - expected).max() < 1e-4
    assert (found[:, 1] == 0).all()


@pytest.mark.parametrize("method", ["embedding", "contrastive"])
def test_an_encoder_and_its_pool_are_part_of_the_graph(method: ClassifierMethod, encoder: Path, tmp_path: Path) -> None:
    asked = question(*TOPICS)
    known = material(80, 2)
    scorer = fit_scorer(method, material(160, 0), known, Settings(asked, encoder, minutes=0.05))
    expected = written(scorer, asked, tmp_path, known, "temperature")
    found = ExportedClassifier(tmp_path).probabilities([*known.texts, *ODD])
    assert np.abs(found - expected).max() < 1e-3


def test_exported_texts_are_read_as_before_the_export() -> None:
    text = "".join(f"a{chr(code)}b\u0e01{chr(code)}\r" for code in (*range(0x20000), *range(0xE0000, 0xE1000)))
    assert exported_form(text) == legible_text(text)


def test_the_exported_folder_decides_by_itself(tmp_path: Path, store: Store) -> None:
    data = read(labeled_file(tmp_path), store=store)
    saved = train(ClassifierRecipe(start="tfidf", method="linear"), data, store=store)
    out = tmp_path / "out"
    record = export(saved.id, "onnx", out, store=store, prompts=40).record
    assert set(record.files) == {"model.onnx", "classifier.json", "classify.py"}
    assert record.parity[0].agreement.value == 1
    texts = ["win a prize", "lunch at home", "", "\uff57\uff49n\u200b a p\u00adrize\u2028x \u0e01\u200b\u0e02 e\u0301"]
    model = open_model(saved, store=store)
    expected = model.probabilities(texts)  # type: ignore[attr-defined]
    command = [sys.executable, str(out / "classify.py"), *texts]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [list(json.loads(line)["probabilities"].values()) for line in lines]
    assert np.abs(np.array(rows) - expected).max() < 1e-4
    with pytest.raises(SizewiseError, match=r"(?s)linear can't be exported as hf.*--to onnx"):
        export(saved.id, "hf", tmp_path / "hf", store=store)


def test_an_export_that_differs_is_refused_and_leaves_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read(labeled_file(tmp_path), store=store)
    saved = train(ClassifierRecipe(start="tfidf", method="linear"), data, store=store)
    monkeypatch.setattr(classifiers, "MAX_CHARACTERS", 3)  # the reader reads less of each text
    with pytest.raises(SizewiseError, match="doesn't match the classifier: a probability differs by"):
        export(saved.id, "onnx", tmp_path / "out", store=store)
    assert not list(tmp_path.glob("*out*"))


def test_language_models_have_no_onnx(tiny_folder: Path, tmp_path: Path, store: Store) -> None:
    with pytest.raises(UsageError, match="can't be exported as onnx"):
        export(str(tiny_folder), "onnx", tmp_path / "out", store=store)
