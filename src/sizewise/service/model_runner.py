"""A served model: its admission queue, readiness, request history and guard."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import cache
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.models import Model
from sizewise.models.base import Cancel, Deliver, Piece
from sizewise.models.wrapper import PromptWrapper
from sizewise.records import Completion, Request
from sizewise.routing import TrainingDrift
from sizewise.service.admission import Admission
from sizewise.service.guarding import ExternalRequest, Guard
from sizewise.service.schemas import APIError
from sizewise.service.series import Series

if TYPE_CHECKING:
    from sizewise.service.backends import Backend

MAX_RUNNING = 64
REMOTE_MAX_RUNNING = 200
REMOTE_MAX_TOKENS = 2_000_000
QUEUE_FRACTION = 0.5
"""Tokens that may be queued, as a fraction of those that may run."""
MAX_QUEUED_PER_KEY = 4
MAX_HISTORY = 50_000
RETRY_START_S = 30.0
STARTING_RETRY_S = 5
CHARACTERS_PER_TOKEN = 3
TOKENS_PER_MESSAGE = 8
MAX_INLINE_CHARACTERS = 2_000
"""Prompts up to this length are rendered and tokenized on the event loop."""
MAX_STARTERS = 4
_LOG = logging.getLogger("sizewise.service")


@cache
def _starters() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_STARTERS, "start")


async def _started(start: Callable[[Request, Deliver], Cancel], request: Request, deliver: Deliver) -> Cancel:
    """Start an answer; a long prompt is rendered and tokenized in a thread, so that it delays no other answer."""
    if sum(map(len, request.texts())) + len(request.text or "") + len(request.tools or "") <= MAX_INLINE_CHARACTERS:
        return start(request, deliver)
    work = asyncio.get_running_loop().run_in_executor(_starters(), start, request, deliver)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_cancel_started)
        raise


def _cancel_started(work: asyncio.Future[Cancel]) -> None:
    """Stop an answer whose client left while it was being started."""
    if not work.cancelled() and work.exception() is None:
        work.result()()


class RequestRecord(NamedTuple):
    """A finished request, without its text."""

    at: float
    """Unix time of the end."""
    model: str
    status: int
    """HTTP status; 499 if the client disconnected."""
    latency_s: float
    ttft_s: float | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


def _innermost(model: Model) -> Model:
    return model.innermost if isinstance(model, PromptWrapper) else model


class ModelRunner:
    """A served model.

    Args:
        name: client-facing name.
        model: the model.
        guard: checks and masks text for external models.
    """

    def __init__(self, name: str, model: Model, guard: Guard) -> None:
        self.name, self.model = name, model
        self.guard = guard
        self.description = model.describe()
        tokens = self.description.cache_tokens or REMOTE_MAX_TOKENS
        running = MAX_RUNNING if self.description.cache_tokens else REMOTE_MAX_RUNNING
        self.admission = Admission(running, tokens, int(tokens * QUEUE_FRACTION), MAX_QUEUED_PER_KEY)
        self.drift: TrainingDrift | None = None
        """Compares prompts with the training distribution; None if that is unknown."""
        self.history: deque[RequestRecord] = deque(maxlen=MAX_HISTORY)
        self.series: Series | None = None
        """Figures over time, kept over restarts."""
        self.since = time()
        """Unix time of the beginning of the history."""
        self._usd_per_token = 0.0
        self.backend: Backend | None = None
        """Server to which requests are passed on as they are; None: requests are converted for the model."""
        self.outside = not self.description.local or self.description.uri.startswith(("http:", "https:"))
        """Whether the guard protects what the model receives. A loopback address may be a proxy, so the operator
        declares which servers are inside."""
        self.ready = False
        self.start_failure = ""
        """Why the model did not start."""

    @property
    def failure(self) -> str:
        """Why the model cannot answer now; empty if it can, or if it is still starting."""
        if not self.ready:
            return self.start_failure
        if self.backend is not None:
            return self.backend.replicas.failure
        model = _innermost(self.model)
        stalled: Callable[[], str] | None = getattr(model, "trouble", None)
        return stalled() if stalled else ""

    def check_ready(self) -> None:
        """Check that the model can answer.

        Raises:
            APIError: it is starting, or has failed.
        """
        if not self.ready:
            raise APIError(
                f"{self.name} is not available: {self.failure or 'it is still starting'}.",
                None,
                "unavailable",
                503,
                {"Retry-After": str(STARTING_RETRY_S)},
            )

    def size_of(self, request: Request) -> int:
        """Estimate the tokens of a request, prompt and maximum answer, without tokenizing it."""
        context = self.description.context
        size = self.prompt_size(request) + request.max_tokens
        return min(size, context) if context and request.fit else size

    def prompt_size(self, request: Request) -> int:
        """Estimate the tokens of a prompt."""
        if isinstance(self.model, PromptWrapper):
            request = self.model.sized(request)
        if request.ids is not None:
            return len(request.ids)
        characters = len(request.text) if request.text else sum(map(len, request.texts()))
        return characters // CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE * len(request.messages)

    def estimate_cost(self, tokens: int) -> float:
        """Estimate the cost of tokens in US dollars, at the highest price per token seen so far."""
        return tokens * self._usd_per_token

    def learn_price(self, completion: Completion) -> None:
        """Update the price per token from a completion."""
        tokens = completion.prompt_tokens + completion.completion_tokens
        if completion.usd and tokens:
            self._usd_per_token = max(self._usd_per_token, completion.usd / tokens)

    def unwrapped(self) -> ModelRunner:
        """Return the same model without its prompt wrapper, for prompts other than the measured task."""
        if not isinstance(self.model, PromptWrapper):
            return self
        runner = ModelRunner(self.name, self.model.innermost, self.guard)
        runner.share(self)
        return runner

    def share(self, base: ModelRunner) -> None:
        """Use the queue, the history and the zone of another runner of the same model, which is ready."""
        self.admission, self.history, self.drift = base.admission, base.history, base.drift
        self.series = base.series
        self.outside, self.ready = base.outside, True

    def is_same(self, other: ModelRunner) -> bool:
        """Whether another runner has the same model in memory."""
        return type(self) is type(other) and _innermost(self.model) is _innermost(other.model)

    def keep(self, earlier: ModelRunner) -> None:
        """Go on with the queue and the history of a runner of the same model before a reload."""
        self.history, self.drift, self.ready = earlier.history, earlier.drift, earlier.ready
        self.since = earlier.since
        self.start_failure, self._usd_per_token = earlier.start_failure, earlier._usd_per_token
        limit, earlier_limit = self.backend and self.backend.settings, earlier.backend and earlier.backend.settings
        if limit == earlier_limit:
            self.admission = earlier.admission

    @property
    def takes_tools(self) -> bool:
        """Whether the model accepts tools; a model behind a prompt wrapper does not."""
        return not isinstance(self.model, PromptWrapper)

    def watch_drift(self, request: Request) -> None:
        """Add a prompt to the drift detector; for a conversation, its last message."""
        prompt = request.messages[-1].content if request.messages else request.text
        if self.drift is not None and prompt:
            self.drift.add_prompt(prompt)

    async def block_confidential(self, requests: Sequence[Request]) -> None:
        """Reject confidential requests to an external model.

        Raises:
            APIError: a request is confidential.
        """
        if self.outside:
            await self.guard.block_confidential(requests, self.name)

    async def answer(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Generate an answer piece by piece, with masked values restored.

        Raises:
            APIError: the request is confidential and the model is external, or the model rejects the request.
        """
        if isinstance(self.model, PromptWrapper):  # the guard must also check what the wrapper adds
            request = await asyncio.to_thread(self.model.rewritten, request)
        await self.block_confidential([request])
        external: ExternalRequest | None = None
        if self.outside or self.guard.masks_always:
            external = await self.guard.mask(request, self.name)
        async with aclosing(self._generate(external.masked if external else request)) as pieces:
            async for piece in pieces:
                for restored in [piece] if external is None else external.restore(piece):
                    yield restored

    async def _generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Generate an answer to a request that has its final form; generation stops when this generator is closed."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece] = asyncio.Queue()

        def deliver(piece: Piece) -> None:
            with suppress(RuntimeError):  # the event loop is closed: the service has stopped
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        start = self.model.start_rewritten if isinstance(self.model, PromptWrapper) else self.model.start
        try:
            cancel = await _started(start, request, deliver)
        except SizewiseError as error:
            raise APIError(error.what) from error
        try:
            while True:
                piece = await pieces.get()
                yield piece
                if piece.end is not None:
                    return
        finally:
            cancel()

    def record(self, started: float, status: int, completion: Completion | None, ttft_s: float | None) -> None:
        """Add a finished request to the history."""
        record = RequestRecord(
            at=time(),
            model=self.name,
            status=status,
            latency_s=monotonic() - started,
            ttft_s=ttft_s,
            prompt_tokens=completion.prompt_tokens if completion else 0,
            completion_tokens=completion.completion_tokens if completion else 0,
            cost_usd=completion.usd if completion else None,
        )
        self.history.append(record)
        if self.series is not None:
            self.series.add(record, self.admission.queued)

    async def start(self) -> None:
        """Warm up until it succeeds, so that the first client does not wait longer than the others."""
        while not self.ready:
            try:
                self.start_failure = await self.warm_up() or ""
            except Exception as error:  # any failure: the other models keep serving
                self.start_failure = f"{type(error).__name__}: {error}"
            if not self.start_failure:
                self.ready = True
                return
            _LOG.error("%s failed to start: %s", self.name, self.start_failure)
            await asyncio.sleep(RETRY_START_S)

    async def warm_up(self) -> str | None:
        """Generate a short answer, and return the error message if that fails."""
        if self.description.api:
            return ""
        request = Request(id="warm-up", text="One two three", max_tokens=2)
        if self.description.offers == ("embeddings",):
            await asyncio.to_thread(_innermost(self.model).embed, [request])  # type: ignore[attr-defined]
            return ""
        error = ""
        async with aclosing(self.answer(request)) as pieces:
            async for piece in pieces:
                error = (piece.end.error or "") if piece.end is not None else ""
        return error
