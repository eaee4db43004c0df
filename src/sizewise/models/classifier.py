"""Classifiers trained here, as models: the most likely option is the answer, with the probability of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from sizewise.decisions.calibrators import apply_calibrator
from sizewise.decisions.files import read_json
from sizewise.decisions.linear import Attribution, LinearScorer
from sizewise.decisions.onnx_classifier import Exportable, build_classifier_graph
from sizewise.decisions.scorers import FloatArray, load_scorer
from sizewise.documents.decisions import SEPARATOR
from sizewise.errors import SizewiseError
from sizewise.models.base import Cancel, Deliver, Model, ScoredText, answer_whole, failed
from sizewise.models.token_counts import estimate_tokens
from sizewise.records import Classifier, Completion, Message, ModelDescription, Question, Request
from sizewise.retrieval import Encoder
from sizewise.retrieval.encoder import write_graph
from sizewise.text import legible_text

BATCH = 64
MIN_CALIBRATED = 50
"""Validation examples, with at least one of each option, below which a calibration says little about other texts."""
MULTI_THRESHOLD = 0.5
READING = "reading.json"
"""Says how a classifier reads texts; without it, as they are written (classifiers of an earlier version)."""


def text_of(messages: Sequence[Message]) -> str:
    """Return the text that a decision is about: what users and tools said, in order."""
    said = [part for one in messages if one.role != "assistant" for part in one.texts() if part]
    return "\n".join(said)


def decided_text(probabilities: Mapping[str, float], question: Question) -> str:
    """Return the answer in words: the most likely option, or those more likely than not (multi)."""
    if question.type == "multi":
        return SEPARATOR.join(v for v in question.values if probabilities[v] >= MULTI_THRESHOLD)
    return max(question.values, key=lambda value: probabilities[value])


class ClassifierModel(Model):
    """A classifier and its calibration.

    Args:
        record: the classifier.
        name: its id.
        folder: folder with its files.
        base: folder of the encoder or language model that it needs besides them.
    """

    def __init__(self, record: Classifier, name: str, folder: Path, base: Path | None) -> None:
        self._record, self._name = record, name
        self._scorer = load_scorer(record.recipe.method, folder, record.question, base)
        self.reads_legible = (folder / READING).is_file() and bool(read_json(folder / READING)["legible"])
        self._lock = threading.Lock()

    def describe(self) -> ModelDescription:
        """Describe the classifier."""
        record = self._record
        return ModelDescription(
            uri=f"run:{self._name}",
            origin=f"{len(record.question.values)} labels learned from {record.n:,} examples; {record.origin}",
            license=record.license,
            engine=record.engine,
            precision="fp32",
            attention="none" if record.recipe.method in ("frequent", "linear") else "full",
            parameters=record.parameters,
            memory_bytes=record.memory_bytes,
            disk_bytes=record.disk_bytes,
            can_chat=True,
            offers=("decisions",),
            question=record.question,
            trained_on=record.data,
            start=None if record.recipe.method in ("frequent", "linear") else record.recipe.start,
            role="baseline" if record.recipe.method == "frequent" else "candidate",
        )

    @property
    def calibrated(self) -> bool:
        """Whether its probabilities were calibrated on enough validation texts, or found best there as they are."""
        calibrator = self._record.calibrator
        if calibrator.n < max(MIN_CALIBRATED, len(calibrator.labels)) or self._record.uncalibrated:
            return False
        return calibrator.method != "none" or len(calibrator.log_loss) > 1

    def signature(self) -> str:
        """Return how probabilities are computed."""
        reading = "|text:legible" if self.reads_legible else ""
        return f"{self._record.recipe.method}|calibration:{self._record.calibrator.method}{reading}"

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Compute calibrated probabilities, (texts, options) in the order of the question's options."""
        return apply_calibrator(self._record.calibrator, self.uncalibrated(texts), self._record.question.values)

    @property
    def question(self) -> Question:
        """The question that it was trained for."""
        return self._record.question

    def attribute(self, text: str, option: int) -> Attribution | None:
        """Attribute the log-odds of an option to the characters of a text; None if only removal shows what matters."""
        if not isinstance(self._scorer, LinearScorer) or self._read([text]) != [text]:
            return None
        return self._scorer.attribute(text, option)

    def doubt(self, text: str) -> str:
        """Return why a probability says nothing about a text: nothing in it was seen in training; empty if it does."""
        (read,) = self._read([text])
        if not read.strip():
            return "the text is empty or invisible, so the probabilities are those of any text"
        if isinstance(self._scorer, LinearScorer) and not self._scorer.knows(read):
            return "nothing in the text occurred in training, so the probabilities are those of any text"
        return ""

    def _read(self, texts: Sequence[str]) -> list[str]:
        """Write texts as the classifier reads them."""
        return [legible_text(text) for text in texts] if self.reads_legible else list(texts)

    def write_onnx(self, path: Path) -> Encoder | None:
        """Write the classifier with its calibration as one ONNX file, and return the encoder whose tokens it reads.

        Raises:
            SizewiseError: the method can't be written as one graph, or the file would be too large.
        """
        scorer, record = self._scorer, self._record
        if not hasattr(scorer, "add_to_graph"):
            raise SizewiseError(
                f"A classifier of the method {record.recipe.method} can't be written as one ONNX file.",
                "a classifier of the method linear, embedding or contrastive",
                f"sizewise train tfidf --method linear --data {record.data}",
            )
        exportable = cast(Exportable, scorer)
        write_graph(build_classifier_graph(exportable, record.question, record.calibrator), path)
        return exportable.encoder

    def uncalibrated(self, texts: Sequence[str]) -> FloatArray:
        """Compute probabilities before calibration, (texts, options)."""
        question = self._record.question
        with self._lock:
            found = self._scorer.probabilities(self._read(texts))
        if found.shape != (len(texts), len(question.values)) or not np.isfinite(found).all():
            raise SizewiseError(
                f"{self._name} returned no probabilities for its {len(question.values)} options.",
                "a number for each option",
                "train the classifier again: sizewise train",
            )
        return found

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Decide about the text of each request, in batches."""
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            fitting = [one for one in batch if one.question is None or self._fits(one.question)]
            for request in batch:
                if request not in fitting:
                    yield failed(request, self._misfit(request.question))
            texts = [text_of(one.messages) if one.messages else one.text or "" for one in fitting]
            begun = time.perf_counter()
            found = self.probabilities(texts)
            seconds = (time.perf_counter() - begun) / max(1, len(texts))
            for request, text, row in zip(fitting, texts, found, strict=True):
                yield self._completion(request, text, row, seconds)

    def _misfit(self, question: Question | None) -> str:
        """Name the option of a question that the classifier wasn't trained for, and those that it knows."""
        known = self._record.question.values
        other = next((value for value in question.values if value not in known), "") if question else ""
        listed = ", ".join(f"'{value[:50]}'" for value in known[:10]) + (" ..." if len(known) > 10 else "")
        return f"{self._name} answers another question: it wasn't trained for '{other[:50]}' but for {listed}"

    def _fits(self, question: Question) -> bool:
        return set(question.values) <= set(self._record.question.values)

    def _completion(self, request: Request, text: str, row: FloatArray, seconds: float) -> Completion:
        question = self._record.question
        chances = dict(zip(question.values, (float(p) for p in row), strict=True))
        if request.question is not None and set(request.question.values) < set(chances):
            question = request.question  # fewer options: the others are ruled out
            kept = {value: chances[value] for value in question.values}
            total = sum(kept.values()) if question.type != "multi" else 1.0
            chances = {value: p / total if total else 1 / len(kept) for value, p in kept.items()}
        answer = decided_text(chances, question)
        counted = estimate_tokens([text, answer])
        return Completion(
            id=request.id,
            text=answer,
            prompt_tokens=counted[0],
            completion_tokens=max(1, counted[1]),
            seconds=seconds,
            finish="stop",
            probabilities=chances,
        )

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Deliver the answer in one piece."""
        return answer_whole(self, request, deliver)

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Refuse: a classifier gives options probabilities, not texts.

        Raises:
            SizewiseError: always.
        """
        raise SizewiseError(
            f"run:{self._name} gives no log-likelihoods of text.", "a language model", "sizewise models"
        )

    def close(self) -> None:
        """Do nothing; memory is freed with the object."""
