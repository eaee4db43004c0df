"""The protocol that every model keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sizewise.records import Completion, ModelDescription, Request


class ScoredText(NamedTuple):
    """Log-likelihoods of one text."""

    nats: npt.NDArray[np.float64]
    """(tokens,) negative log-likelihood of each token."""
    starts: npt.NDArray[np.int64]
    """(tokens,) first character of each token."""


class Model(Protocol):
    """Answers requests; scores texts where it can (`describe().can_score`)."""

    def describe(self) -> ModelDescription:
        """Say what the model is."""
        ...

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer requests, in any order, as answers arrive."""
        ...

    def score(self, texts: Sequence[str]) -> Iterator[ScoredText]:
        """Give token log-likelihoods of texts, in order.

        Raises:
            SizewiseError: this model gives none.
        """
        ...

    def signature(self) -> str:
        """Say how log-likelihoods are computed: window, prefix, precision."""
        ...

    def close(self) -> None:
        """Free memory."""
        ...
