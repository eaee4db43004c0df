"""The Scorer protocol: what every kind of classifier has in common, and how one is fitted and loaded by its method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sizewise.decisions.files import damaged
from sizewise.progress import Reporter, Silent
from sizewise.records import ClassifierMethod, Question

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Material(NamedTuple):
    """Labeled texts of one split."""

    texts: Sequence[str]
    """What is decided about."""
    targets: FloatArray
    """(texts, options) 1 where the option is correct, else 0; shares where annotators disagreed."""
    clusters: Sequence[str]
    """Source document of each text; texts of one document stay together in folds."""

    @property
    def labels(self) -> IntArray:
        """The most likely option of each text, as an index."""
        found: IntArray = self.targets.argmax(axis=1) if len(self.targets) else np.zeros(0, dtype=np.int64)
        return found


@dataclass(frozen=True)
class Settings:
    """What a method needs besides its material."""

    question: Question
    """The question with its options; columns of all arrays are in their order."""
    base: Path | None = None
    """Folder of the encoder or language model that it starts from."""
    minutes: float = 10.0
    """Maximum training time."""
    shots: int = 0
    """Training examples in the prompt."""
    seed: int = 0
    """Seed of folds, samples and initial weights."""
    work: Path | None = None
    """Folder in which an interrupted training resumes; None without one."""
    reporter: Reporter = field(default_factory=Silent)
    """Receives progress."""


class Scorer(Protocol):
    """A fitted classifier without its calibration."""

    parameters: int
    """Number of parameters, those of the encoder or language model included."""
    trained_parameters: int
    """Parameters that fitting changed."""
    memory_bytes: int
    """Memory of the weights."""
    engine: str
    """Software that runs it."""
    notes: tuple[str, ...]
    """Notes for readers: what was chosen, and on what evidence."""

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Compute the probability of each option.

        Args:
            texts: what is decided about; may be empty texts, in any language.

        Returns:
            (texts, options), in the order of the question's options. A row sums to 1, except for questions of type
            multi, where each option has a probability of its own. A text's row doesn't depend on the other texts.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write everything but the base model to a folder: safetensors and JSON."""
        ...


Fit = Callable[[Material, Material, Settings], Scorer]
"""Fits a scorer on the training split; the validation split may choose between settings."""
Load = Callable[[Path, Question, Path | None], Scorer]
"""Loads a scorer from its folder, its question, and the folder of its base model."""

MODULES: dict[ClassifierMethod, str] = {
    "frequent": "sizewise.decisions.frequent",
    "linear": "sizewise.decisions.linear",
    "embedding": "sizewise.decisions.embedding",
    "contrastive": "sizewise.decisions.contrastive",
    "options": "sizewise.decisions.options",
    "head": "sizewise.decisions.head",
}
"""Method -> module with its functions `fit` and `load`."""
STARTS: dict[ClassifierMethod, str] = {"frequent": "none", "linear": "tfidf"}
"""Method -> the only start it has; other methods start from an encoder or a language model."""


def fit_scorer(method: ClassifierMethod, train: Material, validation: Material, settings: Settings) -> Scorer:
    """Fit a classifier by a method.

    Raises:
        SizewiseError: the data can't be learned, an extra is missing, or the base model doesn't fit the method.
    """
    fit: Fit = import_module(MODULES[method]).fit
    return fit(train, validation, settings)


def load_scorer(method: ClassifierMethod, folder: Path, question: Question, base: Path | None) -> Scorer:
    """Load a classifier that `Scorer.save` wrote.

    Raises:
        SizewiseError: a file is missing or damaged.
    """
    load: Load = import_module(MODULES[method]).load
    try:
        return load(folder, question, base)
    except (LookupError, TypeError, ValueError, AttributeError, MemoryError) as error:
        raise damaged(folder, error) from error


def encoding(reporter: Reporter, before: int = 0, n: int | None = None) -> Callable[[int, int], None]:
    """Return what reports each encoded batch, so that encoding ends when its time is up.

    Args:
        reporter: receives progress, and may raise.
        before: texts that were encoded before.
        n: texts in all; by default those of this call.
    """
    return lambda done, total: reporter.advance("Encoding texts", before + done, max(before + total, n or 0))
