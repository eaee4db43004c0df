"""Models without weights: for tests, documentation, and the trivial baseline in each table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from sizewise.errors import UsageError
from sizewise.models.base import ScoredText
from sizewise.records import Completion, ModelDescription, Request

NAMES = {
    "echo": "repeats the question; every byte equally likely",
    "copy": "copies what the question gives away: the trivial baseline",
    "silent": "answers nothing; every byte equally likely",
}


class FakeModel:
    """Answers by a fixed rule; gives each byte the probability 1/256.

    Args:
        name: one of NAMES.

    Raises:
        UsageError: there is no such rule.
    """

    def __init__(self, name: str) -> None:
        if name not in NAMES:
            raise UsageError(f"There is no fake model '{name}'.", ", ".join(f"fake:{known}" for known in NAMES), "")
        self._name = name

    def describe(self) -> ModelDescription:
        """Say what the rule is."""
        copy = self._name == "copy"
        return ModelDescription(
            uri=f"fake:{self._name}",
            origin=NAMES[self._name],
            licence="Apache-2.0",
            engine="rule",
            precision="none",
            attention="none",
            parameters=0,
            memory_bytes=0,
            disk_bytes=0,
            can_score=not copy,
            can_chat=True,
            role="baseline" if copy else "candidate",
        )

    def signature(self) -> str:
        """Say how log-likelihoods are computed."""
        return "uniform over 256 bytes"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer by the rule."""
        for request in requests:
            question = request.text if request.text is not None else request.messages[-1].content
            text = {"echo": question, "copy": request.copy_text or question, "silent": ""}[self._name]
            yield Completion(
                id=request.id,
                text=text,
                prompt_tokens=len(question.split()),
                completion_tokens=len(text.split()),
                seconds=0.0,
                finish="stop",
            )

    def score(self, texts: Sequence[str]) -> Iterator[ScoredText]:
        """Give each byte log 256 nats; a token is a byte."""
        for text in texts:
            starts = [i for i, letter in enumerate(text) for _ in letter.encode("utf-8")]
            yield ScoredText(np.full(len(starts), math.log(256)), np.array(starts, dtype=np.int64))

    def close(self) -> None:
        """Nothing to free."""
