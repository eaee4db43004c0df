"""Changed: a model of which every request is changed before it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sizewise.models.base import Cancel, Deliver, Model, ScoredPrompt, ScoredText, ask_anew, count_tokens
from sizewise.records import Completion, ModelDescription, Request


class Changed:
    """Passes requests on to a model in another form; what derives from it says in which.

    A guard in front of a model must see what the model sees: `formed` gives the whole form, `start_formed` asks in it.

    Args:
        model: what answers; it may be one whose requests are changed too.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def change(self, request: Request) -> Request:
        """Give the form in which the model is asked."""
        return request

    def told(self, request: Request, deliver: Deliver) -> Deliver:
        """Give what takes the pieces of an answer, where they are changed on their way."""
        return deliver

    @property
    def innermost(self) -> Model:
        """The model whose requests are not changed."""
        return self._model.innermost if isinstance(self._model, Changed) else self._model

    def formed(self, request: Request) -> Request:
        """Give the form in which the innermost model is asked."""
        changed = self.change(request)
        return self._model.formed(changed) if isinstance(self._model, Changed) else changed

    def start_formed(self, request: Request, deliver: Deliver) -> Cancel:
        """Begin to answer a request that has its form already."""
        heard = self.told(request, deliver)
        if isinstance(self._model, Changed):
            return self._model.start_formed(request, heard)
        return self._model.start(request, heard)

    def describe(self) -> ModelDescription:
        """Say what the model is."""
        return self._model.describe()

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer requests."""
        return self._model.complete([self.change(request) for request in requests])

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Begin to answer one request."""
        return self.start_formed(self.formed(request), deliver)

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Give log-likelihoods of texts, which are not changed."""
        return self._model.score(texts, prefix=prefix)

    def ask_anew(self) -> None:
        """Let the model use no answers that it kept."""
        ask_anew(self._model)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of texts, which are not changed."""
        return count_tokens(self._model, texts)

    def embed(self, requests: Sequence[Request]) -> tuple[list[list[float]], int]:
        """Give vectors of texts, where the model offers them; they are not changed."""
        given: tuple[list[list[float]], int] = self._model.embed(requests)  # type: ignore[attr-defined]
        return given

    def score_prompts(self, requests: Sequence[Request]) -> list[ScoredPrompt]:
        """Give log-likelihoods of prompts' tokens, where the model offers them; prompts are not changed."""
        given: list[ScoredPrompt] = self._model.score_prompts(requests)  # type: ignore[attr-defined]
        return given

    def signature(self) -> str:
        """Say how log-likelihoods are computed."""
        return self._model.signature()

    def close(self) -> None:
        """Free memory."""
        self._model.close()
