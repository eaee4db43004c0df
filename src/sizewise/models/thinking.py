"""Room for thoughts: a limit on an answer must not be spent on what a model thinks before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sizewise.records import Completion, Request

THINKING_TOKENS = 16_384


def cut_in_thought(answer: Completion) -> bool:
    """Tell whether an answer reached its limit after thoughts, so that they may have taken its room."""
    return answer.finish == "length" and bool(answer.reasoning or answer.reasoning_tokens)


class RoomToThink:
    """Gives a model room for its thoughts beside the limit of an answer, from the first time that it is seen to think.

    What a model is called says little of whether it thinks, and a model that doesn't would only write on.
    """

    def __init__(self) -> None:
        self._seen = False

    def complete(
        self, requests: Sequence[Request], complete: Callable[[Sequence[Request]], Iterator[Completion]]
    ) -> Iterator[Completion]:
        """Answer requests; those whose thoughts took the room of their answer are answered anew, with more."""
        asked = {request.id: request for request in requests}
        again: list[Request] = []
        known = self._seen
        for answer in complete([_widened(request) for request in requests] if known else requests):
            if not known and cut_in_thought(answer):
                self._seen = True
                again.append(_widened(asked[answer.id]))
            else:
                yield answer
        if again:
            yield from complete(again)


def _widened(request: Request) -> Request:
    return request.model_copy(update={"max_tokens": request.max_tokens + THINKING_TOKENS, "fit": True})
