"""The protocol that every model keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sizewise.records import Completion, ModelDescription, Request

BYTES_A_TOKEN = 2
"""Cautious: English has about four bytes a token, Chinese three, scripts that a tokenizer hardly knows fewer."""


class ScoredText(NamedTuple):
    """Log-likelihoods of one text."""

    nats: npt.NDArray[np.float64]
    """(tokens,) negative log-likelihood of each token."""
    starts: npt.NDArray[np.int64]
    """(tokens,) first character of each token."""


class Piece(NamedTuple):
    """A part of an answer, as it is written; the last one has no text and carries the whole."""

    text: str = ""
    tokens: tuple[str, ...] = ()
    """Its tokens as text, where log-likelihoods were asked for."""
    logprobs: tuple[float, ...] = ()
    """Log-likelihood of each of them."""
    end: Completion | None = None
    """The whole answer; only with the last piece."""


class ScoredPrompt(NamedTuple):
    """A prompt's tokens with their log-likelihoods."""

    tokens: list[str]
    logprobs: list[float]
    """Of all but the first."""
    likeliest: list[tuple[str, float] | None] | None
    """For all but the first: the token that was likelier, with its log-likelihood, None where it is the likeliest
    itself; None for all where the engine does not tell."""


Deliver = Callable[[Piece], None]
"""Takes a piece; called from any thread."""
Cancel = Callable[[], None]
"""Ends an answer early; harmless afterwards."""


class Model(Protocol):
    """Answers requests; scores texts where it can (`describe().can_score`)."""

    def describe(self) -> ModelDescription:
        """Say what the model is."""
        ...

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer requests, in any order, as answers arrive."""
        ...

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Begin to answer one request and return at once; its pieces are delivered as they are written."""
        ...

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Give token log-likelihoods of texts, in order.

        Args:
            texts: each begins anew.
            prefix: lead each text by a token, so that its first one is predicted too; else only where the tokenizer
                does so itself. A server follows its own rule, see `signature`.

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


def answer_whole(model: Model, request: Request, deliver: Deliver) -> Cancel:
    """Deliver an answer in one piece: `start` of models that do not stream."""
    (answer,) = model.complete([request])
    if answer.text:
        deliver(Piece(answer.text))
    deliver(Piece(end=answer))
    return lambda: None


def complete_all(model: Model, requests: Sequence[Request]) -> Iterator[Completion]:
    """Start requests all at once and give their answers as they end: `complete` of models that batch by themselves."""
    ended: SimpleQueue[Completion] = SimpleQueue()

    def keep(piece: Piece) -> None:
        if piece.end is not None:
            ended.put(piece.end)

    cancels = [model.start(request, keep) for request in requests]
    try:
        for _ in requests:
            yield ended.get()
    finally:
        for cancel in cancels:
            cancel()


def ask_anew(model: Model) -> None:
    """Let a model use no answers that it kept; models of this machine keep none."""
    forget: Callable[[], None] | None = getattr(model, "ask_anew", None)
    if forget:
        forget()


def count_tokens(model: Model, texts: Sequence[str]) -> list[int]:
    """Count the tokens of texts in the model's own, where it has a tokenizer here; else estimate them from bytes."""
    counted: Callable[[Sequence[str]], list[int]] | None = getattr(model, "count_tokens", None)
    return counted(texts) if counted else estimate_tokens(texts)


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """Estimate the tokens of texts from their bytes, rather too many than too few."""
    return [-(-len(text.encode()) // BYTES_A_TOKEN) for text in texts]


def failed(request: Request, reason: str, prompt_tokens: int = 0, *, transient: bool = False) -> Completion:
    """Report that a request has no answer.

    Args:
        request: what was asked.
        reason: why there is none.
        prompt_tokens: tokens of the prompt.
        transient: whether the same request may be answered later.
    """
    return Completion(
        id=request.id,
        text="",
        prompt_tokens=prompt_tokens,
        completion_tokens=0,
        seconds=0.0,
        finish="error",
        error=reason,
        transient=transient,
    )
