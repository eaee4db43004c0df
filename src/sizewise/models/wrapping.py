"""Changed: a model of which every request is changed before it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sizewise.models.base import Cancel, Deliver, Model, ScoredText
from sizewise.records import Completion, ModelDescription, Request


class Changed:
    """Passes requests on to a model in another form; what derives from it says in which.

    Args:
        model: what answers.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def change(self, request: Request) -> Request:
        """Give the form in which the model is asked."""
        return request

    def describe(self) -> ModelDescription:
        """Say what the model is."""
        return self._model.describe()

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer requests."""
        return self._model.complete([self.change(request) for request in requests])

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Begin to answer one request."""
        return self._model.start(self.change(request), deliver)

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Give log-likelihoods of texts, which are not changed."""
        return self._model.score(texts, prefix=prefix)

    def embed(self, requests: Sequence[Request]) -> tuple[list[list[float]], int]:
        """Give vectors of texts, where the model offers them; they are not changed."""
        given: tuple[list[list[float]], int] = self._model.embed(requests)  # type: ignore[attr-defined]
        return given

    def signature(self) -> str:
        """Say how log-likelihoods are computed."""
        return self._model.signature()

    def close(self) -> None:
        """Free memory."""
        self._model.close()
