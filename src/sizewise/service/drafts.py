"""Drafts of the small model: answers that are kept or discarded once they are complete.

A draft collects the log-likelihoods of the small model's answer. For a streamed response it also withholds the text,
because what a client has received cannot be taken back: the stream starts when the answer is complete and kept. The
policy was calibrated with the mean log-likelihood of whole answers, so a decision after the first tokens would have no
calibrated probability.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from sizewise.models.base import Piece
from sizewise.records import Completion, Request
from sizewise.service.model_runner import ModelRunner
from sizewise.service.schemas import APIError

EMPTY_ANSWER_LOGPROB = -20.0
Keep = Callable[[float], bool]


class Discarded(APIError):
    """The small model's answer is not good enough, so the large model has to answer.

    Args:
        completion: the discarded answer, which is charged and recorded nevertheless.
    """

    def __init__(self, completion: Completion) -> None:
        super().__init__("The small model's answer was discarded.", status=200)
        self.completion = completion


class Draft(ModelRunner):
    """The small model for one routed request; collects the log-likelihood of its answers.

    Args:
        base: the small model.
        answers: number of answers to the request.
        keep: decides from the mean log-likelihood whether withheld answers are kept; None: nothing is withheld.
    """

    def __init__(self, base: ModelRunner, answers: int = 1, keep: Keep | None = None) -> None:
        super().__init__(base.name, base.model, base.guard)
        self.share(base)
        self._base, self._answers, self._keep = base, answers, keep
        self._logprobs: list[float] = []
        self._withheld: dict[str, list[Piece]] = {}
        self._decided = asyncio.Event()
        self._kept = False
        self.completed: list[tuple[Request, Completion]] = []
        """Requests and their completions."""

    @property
    def mean_logprob(self) -> float:
        """Mean log-likelihood of the generated tokens, in nats; very low if no token was generated."""
        return sum(self._logprobs) / len(self._logprobs) if self._logprobs else EMPTY_ANSWER_LOGPROB

    async def answer(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Generate an answer with log-probabilities, and remove them if the client didn't request them.

        Raises:
            Discarded: the answers were withheld and are not kept.
        """
        if self._decided.is_set():  # the large model failed: repeat what was withheld
            for piece in self._withheld[request.id]:
                yield piece
            return
        withheld = self._withheld.setdefault(request.id, [])
        async with aclosing(self._base.answer(request.model_copy(update={"logprobs": True}))) as pieces:
            async for piece in pieces:
                self._logprobs += [value for value in piece.logprobs if not math.isnan(value)]
                shown = piece if request.logprobs else piece._replace(tokens=(), logprobs=())
                failed = piece.end is not None and bool(piece.end.error)
                if piece.end is not None:
                    self.completed.append((request, piece.end))
                if self._keep is None or failed:
                    yield shown
                else:
                    withheld.append(shown)
        if self._keep is None or not withheld or withheld[-1].end is None:
            return
        await self._decide(self._keep)
        if not self._kept:
            raise Discarded(withheld[-1].end)
        for piece in withheld:
            yield piece

    async def _decide(self, keep: Keep) -> None:
        """Decide once all answers to the request are complete."""
        if len(self.completed) == self._answers:
            self._kept = keep(self.mean_logprob)
            self._decided.set()
        await self._decided.wait()
