"""A sample of the small model's answers is checked by the large one, and the stated risk looked at again.

The large model is asked whether the question could clearly have been answered better. It is a judge, not the truth, and
what it says stands in the monitor as that: the risk looked at is the risk as it sees it. Looks come at 20, 40, 80, ...
checks, each at half of the level of the one before: however often one looks, a judge that is right raises a false alarm
in at most one of twenty services.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from scipy.stats import beta

from sizewise.models.base import Piece
from sizewise.records import Completion, Message, Request
from sizewise.service.admission import Busy
from sizewise.service.model_runner import ModelRunner
from sizewise.service.schemas import Refused

FIRST_LOOK, LEVEL = 20, 0.05
MOST_AT_ONCE = 4
NOTHING_WRITTEN = -20.0
_WORD = re.compile(r"[a-z]+")
QUESTION = "Would a better informed person have answered this clearly better? yes or no"
_ORDERS = "You check answers. You reply with one word: yes or no."


class Shadow:
    """Checks a share of the small model's answers.

    Args:
        large: who checks.
        share: share of the small answers that is checked.
        risk: most share of all answers that may be worse; None: nothing is concluded.
        seed: seed of the sample; None: another each time.
    """

    def __init__(self, large: ModelRunner, share: float, risk: float | None, seed: int | None = None) -> None:
        self._large, self._share, self._risk = large, share, risk
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._look, self._level = FIRST_LOOK, LEVEL / 2
        self.small = self.all = self.checked = self.bad = self.unclear = 0
        self.least: float | None = None
        """Lower bound of the share of all answers that are the small model's and called worse, at the last look."""
        self.broken = False
        """Whether the stated risk is shown to be exceeded."""

    def heard(self, request: Request, answer: Completion) -> None:
        """Take an answer of the small model; some of them are checked, beside what goes on."""
        cut = answer.error or answer.finish == "length"  # an answer cut short is no worse for who wanted it so
        if cut or len(self._tasks) >= MOST_AT_ONCE or self._random.random() >= self._share:
            return
        task = asyncio.get_running_loop().create_task(self._check(request, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def decided(self, small: bool) -> None:
        """Count who was chosen."""
        self.all += 1
        self.small += small

    async def _check(self, request: Request, answer: Completion) -> None:
        said = "\n".join(f"{one.role}: {one.content}" for one in request.messages) or (request.text or "")
        text = f"{said}\n\nAnswer:\n{answer.text}\n\n{QUESTION}"
        asked = Request(
            id="shadow",
            messages=(Message(role="system", content=_ORDERS), Message(role="user", content=text)),
            max_tokens=8,
            fit=True,
        )
        reply = ""
        try:
            async with (
                self._large.admission.place("shadow", self._large.size_of(asked)),
                aclosing(self._large.answer(asked)) as pieces,
            ):
                async for piece in pieces:
                    if piece.end is not None and not piece.end.error:
                        reply = piece.end.text
        except (Busy, Refused):  # no place is left, or the answer itself is confidential
            return
        word = next(iter(_WORD.findall(reply.lower())), "")
        if word in ("yes", "no"):
            self.add(word == "no")
        else:
            self.unclear += 1

    def close(self) -> None:
        """End checks under way."""
        for task in self._tasks:
            task.cancel()

    def add(self, good: bool) -> None:
        """Count a check, and look again where it is time."""
        self.checked += 1
        self.bad += not good
        if self.checked < self._look:
            return
        share = self.small / max(1, self.all)
        ci_low = float(beta.ppf(self._level, self.bad, self.checked - self.bad + 1)) if self.bad else 0.0
        self.least = ci_low * share
        self.broken = self.broken or (self._risk is not None and self.least > self._risk)
        self._look, self._level = 2 * self._look, self._level / 2

    def summary(self) -> dict[str, Any]:
        """Say how it stands, for the monitor."""
        return {
            "share": self._share,
            "checked": self.checked,
            "called_worse": self.bad,
            "unclear": self.unclear,
            "worse_at_least": self.least,
            "broken": self.broken,
        }


class Watched(ModelRunner):
    """The small model as `auto` asks it: its answers may be checked.

    Args:
        base: the small model.
        heard: told each request with its answer.
    """

    def __init__(self, base: ModelRunner, heard: Callable[[Request, Completion], None]) -> None:
        super().__init__(base.name, base.model, base.guard)
        self.admission, self.done, self.domain, self.ready = base.admission, base.done, base.domain, True
        self._base, self._heard = base, heard

    async def answer(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Answer as the model does."""
        async with aclosing(self._base.answer(request)) as pieces:
            async for piece in pieces:
                if piece.end is not None:
                    self._heard(request, piece.end)
                yield piece


class Tried(ModelRunner):
    """The small model for one request, with how likely its answers were to it.

    Args:
        base: the small model.
    """

    def __init__(self, base: ModelRunner) -> None:
        super().__init__(base.name, base.model, base.guard)
        self.admission, self.done, self.domain, self.ready = base.admission, base.done, base.domain, True
        self._base = base
        self._logprobs: list[float] = []
        self.ended: list[tuple[Request, Completion]] = []
        """Requests with their answers."""

    @property
    def likely(self) -> float:
        """Mean log-likelihood of all tokens written, in nats; nothing written is as unlikely as can be."""
        return sum(self._logprobs) / len(self._logprobs) if self._logprobs else NOTHING_WRITTEN

    async def answer(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Answer as the model does; likelihoods that were not asked for are not passed on."""
        async with aclosing(self._base.answer(request.model_copy(update={"logprobs": True}))) as pieces:
            async for piece in pieces:
                self._logprobs += piece.logprobs
                if piece.end is not None:
                    self.ended.append((request, piece.end))
                yield piece if request.logprobs else piece._replace(tokens=(), logprobs=())
