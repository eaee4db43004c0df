"""What a benchmark suite and its items are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.evaluation.likelihoods import Continuation

FloatArray = npt.NDArray[np.float64]
Stats = dict[str, tuple[float, ...]]


class SuiteItem(NamedTuple):
    """Texts to compare by log-likelihood."""

    id: str
    group: str
    """Type of bias, or group of people."""
    cluster: str
    """Items of the same cluster are resampled together."""
    texts: tuple[Continuation, ...]
    measure: Callable[[FloatArray, FloatArray], Stats]
    """Computes statistics from -log p in nats and the token counts, (texts,) each."""
    question: str = ""
    """Question whose options are the texts, for models that are asked to choose."""


class Suite(NamedTuple):
    """A benchmark suite: loader, metrics and provenance."""

    load: Callable[[Path | None], list[SuiteItem]]
    metrics: tuple[str, ...]
    source: str
    flaws: str
    """Known flaws, shown next to the scores."""
    needs_path: bool = True
    by_letter: bool = False
    """Whether a model without log-likelihoods can answer by letter instead."""
    generates: bool = False
    """Whether generated continuations are scored instead of log-likelihoods."""
    control: str = ""
    """Packaged control questions, if a model can be asked to choose instead of being scored."""
    closed_book: bool = False
    """Whether questions are answered in words and matched with the accepted answers."""
    worked: bool = False
    """Whether such an answer may begin with its working, so that only what it states at its end counts."""
    runs_code: bool = False
    """Whether such an answer is code that is run, which takes the user's consent."""
