"""A model that is served: its name, its places, and how it did."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from time import monotonic, time
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.models import Model
from sizewise.models.base import Piece
from sizewise.models.wrapper import PromptWrapper
from sizewise.records import Completion, Request
from sizewise.routing import DomainWatch
from sizewise.service.admission import Admission
from sizewise.service.guarding import Guard
from sizewise.service.schemas import Refused

RUNNING = 64
REMOTE_RUNNING = 200
REMOTE_TOKENS = 2_000_000
WAITING_SHARE = 0.5  # tokens that may wait, as a share of those that may run
WAITING_EACH = 4  # requests of one key that may wait
KEPT = 5_000
BEGIN_AGAIN_S = 30.0
_LOG = logging.getLogger("sizewise.service")
LETTERS_A_TOKEN = 3
MESSAGE_TOKENS = 8


class Done(NamedTuple):
    """A request that has ended, without its text."""

    at: float
    """Unix time."""
    model: str
    status: int
    """HTTP status; 499 where the client went away."""
    seconds: float
    ttft_s: float | None
    read: int
    written: int
    usd: float | None


class ModelRunner:
    """A model that is served.

    Args:
        name: what clients call it.
        model: the model.
        guard: stands in front of it where it is not on this machine.
    """

    def __init__(self, name: str, model: Model, guard: Guard) -> None:
        self.name, self.model = name, model
        self.guard = guard
        self.description = model.describe()
        tokens = self.description.cache_tokens or REMOTE_TOKENS
        running = RUNNING if self.description.cache_tokens else REMOTE_RUNNING
        self.admission = Admission(running, tokens, int(tokens * WAITING_SHARE), WAITING_EACH)
        self.domain: DomainWatch | None = None
        """Looks whether what is asked is like what the model was trained for, where that is known."""
        self.done: deque[Done] = deque(maxlen=KEPT)
        self._usd_a_token = 0.0
        self.ready = False
        self.failed = ""
        """Why it did not begin."""

    @property
    def trouble(self) -> str:
        """Why it cannot answer now; nothing where it can, or is about to begin."""
        if not self.ready:
            return self.failed
        model = self.model.innermost if isinstance(self.model, PromptWrapper) else self.model
        stalled: Callable[[], str] | None = getattr(model, "trouble", None)
        return stalled() if stalled else ""

    def size_of(self, request: Request) -> int:
        """Estimate the tokens of a request, prompt and longest answer, before anything is done for it."""
        context = self.description.context
        longest = self.read_of(request) + request.max_tokens
        return min(longest, context) if context and request.fit else longest

    def read_of(self, request: Request) -> int:
        """Estimate the tokens of a prompt."""
        if isinstance(self.model, PromptWrapper):
            request = self.model.rewritten(request)
        if request.ids is not None:
            return len(request.ids)
        letters = len(request.text) if request.text else sum(len(one.content) for one in request.messages)
        return letters // LETTERS_A_TOKEN + MESSAGE_TOKENS * len(request.messages)

    def usd_of(self, tokens: int) -> float:
        """Estimate what tokens cost, by the dearest answer so far."""
        return tokens * self._usd_a_token

    def learn_price(self, end: Completion) -> None:
        """Learn what a token costs from an answer."""
        tokens = end.prompt_tokens + end.completion_tokens
        if end.usd and tokens:
            self._usd_a_token = max(self._usd_a_token, end.usd / tokens)

    def bare(self) -> ModelRunner:
        """Give the same model without what is put around its requests: for orders that are no task of its own."""
        if not isinstance(self.model, PromptWrapper):
            return self
        one = ModelRunner(self.name, self.model.innermost, self.guard)
        one.admission, one.done, one.ready = self.admission, self.done, True
        return one

    @property
    def takes_tools(self) -> bool:
        """Whether tools may stand in what it is asked: not where that is put into another form."""
        return not isinstance(self.model, PromptWrapper)

    def watch(self, request: Request) -> None:
        """Look whether a request is like what the model was trained for; a conversation by its last message."""
        asked = request.messages[-1].content if request.messages else request.text
        if self.domain is not None and asked:
            self.domain.add_prompt(asked)

    def keep_back(self, requests: Sequence[Request]) -> None:
        """Stop what is confidential, where this model is not on this machine.

        Raises:
            Refused: something is.
        """
        if not self.description.local:
            self.guard.keep_back(requests, self.name)

    async def answer(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Give an answer piece by piece, with what the guard masked put back.

        Raises:
            Refused: it is confidential, and this model is not on this machine; or the model cannot be asked this.
        """
        if isinstance(self.model, PromptWrapper):  # what is put around a request must pass the guard too
            request = await asyncio.to_thread(self.model.rewritten, request)
        self.keep_back([request])
        crossing = None if self.description.local else await self.guard.cross(request, self.name)
        async with aclosing(self._pieces(crossing.request if crossing else request)) as pieces:
            async for piece in pieces:
                for one in [piece] if crossing is None else crossing.back(piece):
                    yield one

    async def _pieces(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Give an answer as the model gives it to a rewritten request; when nobody listens any more, the work ends."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece] = asyncio.Queue()

        def deliver(piece: Piece) -> None:
            with suppress(RuntimeError):  # the service has stopped, and nobody listens any more
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        start = self.model.start_rewritten if isinstance(self.model, PromptWrapper) else self.model.start
        try:
            cancel = start(request, deliver)
        except SizewiseError as error:
            raise Refused(error.what) from error
        try:
            while True:
                piece = await pieces.get()
                yield piece
                if piece.end is not None:
                    return
        finally:
            cancel()

    def keep(self, begun: float, status: int, end: Completion | None, first: float | None) -> None:
        """Keep how a request went."""
        self.done.append(
            Done(
                time(),
                self.name,
                status,
                monotonic() - begun,
                first,
                end.prompt_tokens if end else 0,
                end.completion_tokens if end else 0,
                end.usd if end else None,
            )
        )

    async def begin(self) -> None:
        """Answer one request, so that the first client does not wait longer than the others; try until it succeeds."""
        while not self.ready:
            try:
                self.failed = await self.warm_up() or ""
            except Exception as error:  # whatever it is, the other models do without it
                self.failed = f"{type(error).__name__}: {error}"
            if not self.failed:
                self.ready = True
                return
            _LOG.error("%s cannot answer: %s", self.name, self.failed)
            await asyncio.sleep(BEGIN_AGAIN_S)

    async def warm_up(self) -> str | None:
        """Answer one request; give what went wrong."""
        if self.description.api:
            return ""
        asked = Request(id="warm-up", text="One two three", max_tokens=2)
        said = ""
        async with aclosing(self.answer(asked)) as pieces:
            async for piece in pieces:
                said = (piece.end.error or "") if piece.end is not None else ""
        return said


def summary(served: list[ModelRunner], since_s: float) -> dict[str, Any]:
    """Sum up what went on in the last seconds, model by model, for the monitor."""
    now = time()
    found: dict[str, Any] = {}
    for one in served:
        rows = [done for done in one.done if done.at >= now - since_s]
        good = [done for done in rows if done.status == 200]
        firsts = sorted(done.ttft_s for done in good if done.ttft_s is not None)
        seconds = sorted(done.seconds for done in good)
        paid = [done.usd for done in good if done.usd is not None]
        found[one.name] = {
            "engine": one.description.engine,
            "precision": one.description.precision,
            "ready": one.ready,
            "requests": len(rows),
            "answered": len(good),
            "refused": sum(done.status == 429 for done in rows),
            "failed": sum(done.status >= 500 for done in rows),
            "left": sum(done.status == 499 for done in rows),
            "wrong": sum(400 <= done.status < 500 and done.status not in (429, 499) for done in rows),
            "ttft_s": _middle_and_p95(firsts),
            "seconds": _middle_and_p95(seconds),
            "tokens_per_s": sum(done.written for done in good) / since_s,
            "tokens_read": sum(done.read for done in good),
            "tokens_written": sum(done.written for done in good),
            "usd": sum(paid) if paid else None,
            "domain": {"p": one.domain.p, "drifted": one.domain.drifted, "seen": one.domain.seen}
            if one.domain
            else None,
            "running": one.admission.running,
            "waiting": one.admission.waiting,
            "tokens_held": one.admission.tokens,
            "tokens_most": one.admission.most_tokens,
        }
    return found


def _middle_and_p95(ordered: list[float]) -> list[float] | None:
    if not ordered:
        return None
    return [ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]]
