"""Class frequencies: the probabilities of a classifier that reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sizewise.decisions.files import read_json, write_json
from sizewise.decisions.scorers import FloatArray, Material, Settings
from sizewise.records import Question

FILE = "frequencies.json"


class FrequentScorer:
    """Returns for every text the frequencies of the training labels, smoothed by one example of each (Laplace)."""

    engine, notes, trained_parameters = "rule", (), 0

    def __init__(self, frequencies: FloatArray) -> None:
        self._frequencies = frequencies
        self.parameters, self.memory_bytes = len(frequencies), frequencies.nbytes

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return the same row for every text."""
        return np.tile(self._frequencies, (len(texts), 1))

    def save(self, folder: Path) -> None:
        """Write the frequencies."""
        write_json(folder / FILE, self._frequencies.tolist())


def fit(train: Material, validation: Material, settings: Settings) -> FrequentScorer:
    """Count the labels of the training split."""
    counts = train.targets.sum(axis=0) + 1
    if settings.question.type == "multi":
        return FrequentScorer(counts / (len(train.targets) + 2))
    return FrequentScorer(counts / counts.sum())


def load(folder: Path, question: Question, base: Path | None) -> FrequentScorer:
    """Load frequencies that were saved."""
    return FrequentScorer(np.array(read_json(folder / FILE), dtype=np.float64))
