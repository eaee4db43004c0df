"""Separate token limits for reasoning and answer, so that reasoning doesn't use up the limit of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sizewise.records import Completion, Request

THINKING_TOKENS = 16_384


def cut_by_reasoning(answer: Completion) -> bool:
    """Check whether an answer with reasoning hit its limit, so that the reasoning may have used it up."""
    return answer.finish == "length" and bool(answer.reasoning or answer.reasoning_tokens)


class ReasoningRoom:
    """Raises the token limit of requests once a model is known to reason.

    A model's name doesn't reliably show whether it reasons, and without reasoning a higher limit only invites rambling.
    The limit is therefore raised after the first answer that contains reasoning.
    """

    def __init__(self) -> None:
        self._seen = False

    def complete(
        self, requests: Sequence[Request], complete: Callable[[Sequence[Request]], Iterator[Completion]]
    ) -> Iterator[Completion]:
        """Generate answers. Requests whose answer was cut off by reasoning are repeated with a higher limit."""
        by_id = {request.id: request for request in requests}
        repeated: list[Request] = []
        known = self._seen
        for answer in complete([_widened(request) for request in requests] if known else requests):
            if not known and cut_by_reasoning(answer):
                self._seen = True
                repeated.append(_widened(by_id[answer.id]))
            else:
                yield answer
        if repeated:
            yield from complete(repeated)


def _widened(request: Request) -> Request:
    return request.model_copy(update={"max_tokens": request.max_tokens + THINKING_TOKENS, "fit": True})
