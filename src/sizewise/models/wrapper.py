"""A model whose requests are rewritten before they reach it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sizewise.models.base import (
    Cancel,
    Deliver,
    Model,
    ScoredPrompt,
    ScoredText,
    bypass_cache,
    count_tokens,
)
from sizewise.records import Completion, ModelDescription, Request


class PromptWrapper(Model):
    """Rewrites requests and passes them on to a model. Subclasses define how.

    A guard must see the prompt that reaches the model: `rewritten` returns it, and `start_rewritten` answers a request
    that is already rewritten.

    Args:
        model: model that answers; may itself be a wrapper.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def rewrite(self, request: Request) -> Request:
        """Rewrite a request for the wrapped model."""
        return request

    def wrap_deliver(self, request: Request, deliver: Deliver) -> Deliver:
        """Return the receiver of an answer's pieces; subclasses may edit pieces on their way."""
        return deliver

    @property
    def innermost(self) -> Model:
        """The model inside all wrappers."""
        return self._model.innermost if isinstance(self._model, PromptWrapper) else self._model

    def rewritten(self, request: Request) -> Request:
        """Rewrite a request into the form that reaches the innermost model."""
        request = self.rewrite(request)
        return self._model.rewritten(request) if isinstance(self._model, PromptWrapper) else request

    def sized(self, request: Request) -> Request:
        """Rewrite a request into one of about the same size as the rewritten one, without slow work."""
        return self.inner_sized(self.rewrite(request))

    def inner_sized(self, request: Request) -> Request:
        """Rewrite a request as the wrapped model would, to the same size."""
        return self._model.sized(request) if isinstance(self._model, PromptWrapper) else request

    def start_rewritten(self, request: Request, deliver: Deliver) -> Cancel:
        """Start answering a request from `rewritten`."""
        wrapped = self.wrap_deliver(request, deliver)
        if isinstance(self._model, PromptWrapper):
            return self._model.start_rewritten(request, wrapped)
        return self._model.start(request, wrapped)

    def describe(self) -> ModelDescription:
        """Describe the wrapped model."""
        return self._model.describe()

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate answers to the rewritten requests."""
        return self._model.complete([self.rewrite(request) for request in requests])

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Start answering a request."""
        return self.start_rewritten(self.rewritten(request), deliver)

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Compute log-likelihoods of texts, which are not rewritten."""
        return self._model.score(texts, prefix=prefix)

    def bypass_cache(self) -> None:
        """Make the wrapped model answer again instead of returning cached answers."""
        bypass_cache(self._model)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of texts, which are not rewritten."""
        return count_tokens(self._model, texts)

    def embed(self, requests: Sequence[Request]) -> tuple[list[list[float]], int]:
        """Compute embeddings, if the model offers them. Requests are not rewritten."""
        embedded: tuple[list[list[float]], int] = self._model.embed(requests)  # type: ignore[attr-defined]
        return embedded

    def score_prompts(self, requests: Sequence[Request]) -> list[ScoredPrompt]:
        """Compute log-likelihoods of prompt tokens, if the model offers them. Prompts are not rewritten."""
        scored: list[ScoredPrompt] = self._model.score_prompts(requests)  # type: ignore[attr-defined]
        return scored

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return self._model.signature()

    def close(self) -> None:
        """Close the wrapped model."""
        self._model.close()
