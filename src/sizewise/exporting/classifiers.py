"""Export classifiers: a language model with a head for transformers or OpenVINO, the smaller rungs as ONNX."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from sizewise import datasets
from sizewise.decisions import head
from sizewise.decisions.linear import MAX_CHARACTERS
from sizewise.decisions.scorers import FloatArray
from sizewise.errors import SizewiseError, install_command
from sizewise.evaluation.general_questions import questions_in
from sizewise.lm import classifier_format, classifier_onnx, classifier_openvino
from sizewise.models import open_model
from sizewise.models.classifier import ClassifierModel, text_of
from sizewise.progress import Reporter
from sizewise.records import Classifier, Export, Parity, Score, fingerprint
from sizewise.stats import wilson
from sizewise.store import Joined, Saved, Store, check_seal, sha256_of, staged, versions

ONNX = "onnx"
FORMATS = ("hf", "openvino", ONNX)
GRAPH_METHODS = ("linear", "embedding", "contrastive")
"""Methods whose whole classifier, from words and tokens to calibrated probabilities, is one ONNX graph."""
PREFIX = "run:classifier-"
MAX_DIFFERENCE = 1e-3
"""Maximum difference of a probability from the classifier's."""
NO_TEXT = "a classifier gives labels probabilities, not texts"
CALIBRATION = "calibration.json"
MODEL, READER = "model.onnx", "classify.py"


def export_classifier(
    uri: str, to: str, out: Path, *, store: Store, data: str | None, texts: int, reporter: Reporter
) -> Saved[Export]:
    """Export a classifier, and reject the export if its probabilities differ.

    Args:
        uri: the classifier, `run:classifier-...`.
        to: `hf`, `openvino` or `onnx` for a classification head, `onnx` for TF-IDF and sentence encoders.
        out: destination folder; must be new or empty.
        store: store of the records.
        data: dataset to take texts from; by default the one it was trained on.
        texts: number of texts to compare.
        reporter: shows progress.

    Raises:
        SizewiseError: the method has no export, the format doesn't support it, or probabilities differ.
    """
    with staged(out) as made:  # refuses what can't be written before the work
        exported = _write_checked(uri, to, out, made, store, data, texts, reporter)
    return store.write(f"export-{fingerprint([uri, to, str(out.resolve()), exported.files])}", exported)


def _write_checked(
    uri: str, to: str, out: Path, made: Path, store: Store, data: str | None, texts: int, reporter: Reporter
) -> Export:
    """Write an export to `made`, and compare its probabilities."""
    name, begun = uri.removeprefix("run:"), time.monotonic()
    record = store.read(Classifier, name)
    source = store.folder("classifier", name) / "model"
    check_seal(source)
    _check(record, to, source)
    compared = _texts(store, data or record.data, texts)
    reporter.say(f"Writing {to}")
    if record.recipe.method in GRAPH_METHODS:
        reader, expected, found = _written_graph(uri, record, store, made, compared)
        note = f"The probabilities are calibrated. {READER} turns texts into the inputs of {MODEL}."
    else:
        reader, expected, found = _written_head(record, to, source, made, compared)
        note = f"The network's probabilities aren't calibrated; {CALIBRATION} holds the calibration."
    parity = _parity(reader, expected, found)
    if parity.reasons:
        raise SizewiseError(
            f"The export of {uri} to {to} doesn't match the classifier: {'; '.join(parity.reasons)}.",
            f"probabilities that differ by at most {MAX_DIFFERENCE}",
            "sizewise doctor",
        )
    return Export(
        model=uri,
        to=to,
        folder=str(out),
        files={str(path.relative_to(made)): sha256_of(path) for path in sorted(made.rglob("*")) if path.is_file()},
        bytes=sum(path.stat().st_size for path in made.rglob("*")),
        origin=record.origin,
        license=record.license,
        data=data or record.data,
        parity=(parity,),
        notes=(note,),
        seconds=time.monotonic() - begun,
        versions=versions("torch", "transformers", "openvino", "onnxruntime"),
    )


def _written_graph(
    uri: str, record: Classifier, store: Store, made: Path, texts: Sequence[str]
) -> tuple[str, FloatArray, FloatArray]:
    """Write a classifier as ONNX; return the program that reads it, and the probabilities before and after."""
    from sizewise.decisions import classify

    model = open_model(uri, store=store)
    assert isinstance(model, ClassifierModel)
    made.mkdir()
    encoder = model.write_onnx(made / MODEL)
    settings: dict[str, Any] = {
        "options": record.question.values,
        "type": record.question.type,
        "max_characters": MAX_CHARACTERS,
        "calibration": record.calibrator.method,
        "legible": model.reads_legible,
    }
    if encoder is not None:
        known = encoder.settings
        settings |= {"max_tokens": known.max_tokens, "lowercase": known.lowercase, "prompt": known.prompt}
        shutil.copyfile(encoder.folder / classify.TOKENIZER, made / classify.TOKENIZER)
    (made / classify.SETTINGS).write_text(json.dumps(settings, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(classify.__file__, made / READER)
    found = classify.ExportedClassifier(made).probabilities(texts).astype(np.float64)
    return f"onnxruntime {metadata.version('onnxruntime')}", model.probabilities(texts), found


def _written_head(
    record: Classifier, to: str, source: Path, made: Path, texts: Sequence[str]
) -> tuple[str, FloatArray, FloatArray]:
    """Write a network with a head; return the program that reads it, and the probabilities before and after."""
    expected = head.open_head(source / head.MODEL, source, with_openvino=False).probabilities(texts)
    shutil.copytree(source / head.MODEL, made)
    (made / CALIBRATION).write_text(record.calibrator.model_dump_json(indent=1) + "\n", encoding="utf-8")
    reader, found = _written(record, to, source, made, texts)
    return reader, expected, found


def _written(record: Classifier, to: str, source: Path, made: Path, texts: Sequence[str]) -> tuple[str, FloatArray]:
    """Remove what the format doesn't need, and return the program that reads the rest with its probabilities."""
    if to == "hf":
        classifier_openvino.remove_graph(made)
        independent = record.question.type == "multi"
        found = classifier_format.plain_probabilities(made, texts, independent)
        return f"transformers {metadata.version('transformers')}", found
    if to == ONNX:
        classifier_openvino.remove_graph(made)
        classifier_onnx.write_onnx(classifier_format.load_classifier(made), made)
        classifier_format.remove_weights(made)
        exported = head.open_onnx(made, source)
        return exported.engine, exported.probabilities(texts)
    classifier_format.remove_weights(made)
    opened = head.open_head(made, source, with_openvino=True)
    return opened.engine, opened.probabilities(texts)


def _check(record: Classifier, to: str, source: Path) -> None:
    method = record.recipe.method
    if method in GRAPH_METHODS and to != ONNX:
        raise SizewiseError(
            f"A classifier of the method {method} can't be exported as {to}, which holds a single network.",
            "onnx, which holds all of it",
            "--to onnx",
        )
    if method not in (*GRAPH_METHODS, "head"):
        raise SizewiseError(
            f"A classifier of the method {method} can't be exported.",
            f"a classifier of the method {', '.join(GRAPH_METHODS)} or head",
            f"sizewise train tfidf --method linear --data {record.data}",
        )
    if method == "head" and to not in FORMATS:
        raise SizewiseError(f"A classification head can't be exported as {to}.", " or ".join(FORMATS), "--to hf")
    if to == "openvino" and not (source / head.MODEL / classifier_openvino.GRAPH).is_file():
        raise SizewiseError(
            "The classifier was trained without OpenVINO, or OpenVINO can't convert its architecture.",
            "--to hf, or a classifier trained where OpenVINO is installed",
            f"{install_command('openvino')}; then train the classifier again",
        )


def _texts(store: Store, data: str, count: int) -> list[str]:
    """Collect texts of the dataset, or questions of general knowledge if it has no examples."""
    contents = datasets.load(store, data)
    examples = Joined([contents.examples[split] for split in ("test", "validation", "train")])
    found = [text_of(example.messages) for example in examples[:count]]
    return found or [question for question, _ in questions_in("en")[:count]]


def _parity(reader: str, expected: FloatArray, found: FloatArray) -> Parity:
    """Compare probabilities of the same texts."""
    n = len(expected)
    same = int((expected.argmax(axis=1) == found.argmax(axis=1)).sum())
    ci_low, ci_high = wilson(same, n)
    difference = float(np.abs(expected - found).max())
    signature = f"most likely label|texts:{n}|reader:{reader}|precision:fp32"
    reasons = () if difference <= MAX_DIFFERENCE else (f"a probability differs by {difference:.2g}",)
    agreement = Score(
        metric="label_agreement",
        value=same / n,
        ci_low=ci_low,
        ci_high=ci_high,
        n=n,
        unit="share",
        signature=signature,
    )
    return Parity(
        reader=reader,
        precision="fp32",
        prompts=n,
        agreement=agreement,
        bits=Score(metric="bits_per_byte_more", n=0, unit="bits/byte", signature=signature, missing_reason=NO_TEXT),
        min_agreement=0.99,
        max_bits=0.0,
        same_text=True,
        reasons=reasons,
    )
