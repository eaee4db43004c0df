"""Generation for one HTTP request: reserve a slot, run the model, stream or collect, stop if the client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing
from time import monotonic
from typing import Any, TypeVar

from fastapi.responses import JSONResponse, Response
from starlette.requests import Request as HttpRequest

from sizewise.models.base import Piece, failed
from sizewise.records import Completion, Request
from sizewise.service import schemas, sse
from sizewise.service.admission import Busy
from sizewise.service.api_keys import Key
from sizewise.service.budgets import Charge, estimate_tokens
from sizewise.service.drafts import Discarded, Draft
from sizewise.service.failures import failure_of
from sizewise.service.model_runner import ModelRunner
from sizewise.service.prompts import reject_too_long
from sizewise.service.responses import ChatForm
from sizewise.service.schemas import APIError
from sizewise.service.state import State
from sizewise.service.waiting import CLIENT_CLOSED, TIMED_OUT, DeadlineStream, begun, while_connected

T = TypeVar("T")


class Job:
    """The completions of one HTTP request.

    Args:
        state: state of the service.
        runner: the model.
        key: API key of the client.
        requests: one request per completion.
        http: the HTTP request.
    """

    def __init__(
        self, state: State, runner: ModelRunner, key: Key | None, requests: list[Request], http: HttpRequest
    ) -> None:
        self._state, self._runner, self._key, self._requests, self._http = state, runner, key, requests, http
        self._started = monotonic()
        self._deadline = self._started + state.settings.timeout_s
        self._ttft_s: float | None = None
        self._recorded = False
        self._size = sum(runner.size_of(request) for request in requests)
        self._charge = Charge(state.budgets, None)
        self._headers: dict[str, str] = {}

    async def complete(self, form: ChatForm) -> Response:
        """Generate the whole response; generation is cancelled if the client disconnects."""
        async with AsyncExitStack() as slot:
            slot.callback(lambda: self._charge.end())
            await self._while_connected(self._enter(slot))
            choices, completions = await self._while_connected(self._collect(form))
            self._record(200, completions)
            await self._charge.saved()
        return JSONResponse(form.whole(choices, completions, _extension(completions)), headers=self._headers)

    async def _while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work, but stop when the client disconnects or the response times out.

        Raises:
            APIError: the client disconnected, or the response timed out.
        """
        try:
            return await while_connected(self._http, self._deadline, work)
        except APIError as error:
            if error.status in (CLIENT_CLOSED, 504):
                self._record(error.status, None)
            raise

    async def _collect(self, form: ChatForm) -> tuple[list[dict[str, Any]], list[Completion]]:
        async def collect_one(index: int, request: Request) -> tuple[dict[str, Any], Completion]:
            parts: list[str] = []
            tokens: list[str] = []
            logprobs: list[float] = []
            async with aclosing(self._generate(index, request)) as pieces:
                async for piece in pieces:
                    if piece.end is not None:
                        if piece.end.error:
                            raise failure_of(piece.end)
                        made = (index, "".join(parts), piece.end.finish, tokens, logprobs)
                        choice = await asyncio.to_thread(form.choice, *made) if form.takes_time else form.choice(*made)
                        return choice, piece.end
                    self._ttft_s = self._ttft_s or monotonic() - self._started
                    parts.append(piece.text)
                    tokens += piece.tokens
                    logprobs += piece.logprobs
            raise APIError("The engine stopped without finishing the answer.", status=500)

        try:
            results = await asyncio.gather(*(collect_one(i, request) for i, request in enumerate(self._requests)))
        except APIError as error:
            self._record(error.status, None)
            raise
        return [choice for choice, _ in results], [completion for _, completion in results]

    async def stream(self, form: ChatForm) -> Response:
        """Stream the response as server-sent events; errors before the first event keep their HTTP status.

        If the first event takes longer than a proxy may wait, the stream begins with comments. A draft may still be
        discarded, so its stream never begins early.
        """
        slot = AsyncExitStack()
        slot.callback(lambda: self._charge.end())
        events = self._events(form)

        async def begin() -> bytes:
            await self._enter(slot)
            return await anext(events)

        first = asyncio.create_task(begin())

        async def close() -> None:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            self._record(CLIENT_CLOSED, None)
            await events.aclose()
            await slot.aclose()

        async def body() -> AsyncGenerator[bytes, None]:
            try:
                async with asyncio.timeout(max(0.0, self._deadline - monotonic())):
                    event = await first
                yield event
            except TimeoutError:
                self._record(504, None)
                yield form.broken(schemas.error_body(TIMED_OUT, 504, None, "timeout"))
                return
            except APIError as error:
                yield form.broken(schemas.error_body(error.message, error.status, None, error.code))
                return
            async for event in events:
                yield event

        try:
            patience_s = self._state.settings.timeout_s if isinstance(self._runner, Draft) else sse.PING_S
            await self._while_connected(begun(first, patience_s))
        except BaseException as error:
            self._record(error.status if isinstance(error, APIError) else 500, None)
            await close()
            raise
        response = DeadlineStream(body(), self._deadline, close)
        response.headers.update(self._headers)
        return response

    async def _events(self, form: ChatForm) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events, the first only after an engine has started, so that errors keep their status."""
        queue: asyncio.Queue[tuple[int, Piece | APIError]] = asyncio.Queue()

        pumps = [asyncio.create_task(self._pump(i, request, queue)) for i, request in enumerate(self._requests)]
        completions: list[Completion] = []
        started: set[int] = set()
        status = CLIENT_CLOSED
        try:
            while len(completions) < len(pumps):
                async with asyncio.timeout(max(0.0, self._deadline - monotonic())):
                    index, piece = await queue.get()
                error = _error_of(piece)
                if error is not None:
                    status = 500 if started else error.status
                    completions += [error.completion] if isinstance(error, Discarded) else []
                    if not started:
                        raise error
                    yield form.broken(schemas.error_body(error.message, 500))
                    return
                assert isinstance(piece, Piece)
                choices = [] if index in started else form.first(index)
                started.add(index)
                if piece.end is not None:
                    completions.append(piece.end)
                    choices += form.last(index, piece.end.finish)
                else:
                    self._ttft_s = self._ttft_s or monotonic() - self._started
                    choices += form.delta(index, piece.text, piece.tokens, piece.logprobs)
                for choice in choices:
                    if event := form.sent(choice):
                        yield event
            if summary := form.summary(completions, _extension(completions)):
                yield summary
            status = 200
            self._record(status, completions)
            await self._charge.saved()
            if form.end:
                yield form.end
        except TimeoutError:
            status = 504
            yield form.broken(schemas.error_body(TIMED_OUT, 504))
        finally:
            # No await in this block: a client that disconnected may have cancelled the task.
            self._record(status, completions)
            for task in pumps:
                task.cancel()

    async def _generate(self, index: int, request: Request) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of an answer, and charge the key as they arrive."""
        runner = self._runner
        tokens = runner.prompt_size(request)
        self._charge.update(index, tokens, runner.estimate_cost(tokens))
        async with aclosing(runner.answer(request)) as pieces:
            async for piece in pieces:
                completion = piece.end
                if completion is None:
                    tokens += estimate_tokens(piece.text, len(piece.tokens))
                    self._charge.update(index, tokens, runner.estimate_cost(tokens))
                elif not completion.error:
                    self._charge_for(index, completion)
                yield piece

    def _charge_for(self, index: int, completion: Completion) -> None:
        """Charge the key for a complete answer."""
        self._runner.learn_price(completion)
        total = completion.prompt_tokens + completion.completion_tokens
        self._charge.update(index, total, completion.usd or 0.0)

    async def _pump(self, index: int, request: Request, queue: asyncio.Queue[tuple[int, Piece | APIError]]) -> None:
        """Put the pieces of an answer into a queue; any exception becomes the last entry, so the reader never hangs."""
        try:
            async with aclosing(self._generate(index, request)) as pieces:
                async for piece in pieces:
                    await queue.put((index, piece))
        except APIError as error:
            if isinstance(error, Discarded):
                self._charge_for(index, error.completion)
            await queue.put((index, error))
        except Exception as error:
            message = f"Internal server error ({type(error).__name__})."
            await queue.put((index, Piece(end=failed(request, message))))

    async def _enter(self, slot: AsyncExitStack) -> None:
        """Reserve budget and a slot before any work starts.

        Raises:
            APIError: the request is not allowed, too long, over budget, or the queue is full.
        """
        runner = self._runner
        await runner.block_confidential(self._requests)
        runner.check_ready()
        try:
            reject_too_long(runner, self._requests, self._size)
        except APIError:
            self._record(400, None)
            raise
        await self._reserve_budget()
        client = self._key.name if self._key else (self._http.client.host if self._http.client else "")
        try:
            await slot.enter_async_context(runner.admission.slot(client, self._size))
        except Busy as busy:
            self._record(429, None)
            retry = {"Retry-After": str(busy.retry_s)}
            message = f"All slots are in use. Try again in {busy.retry_s} s."
            raise APIError(message, None, "busy", 429, retry) from None

    async def _reserve_budget(self) -> None:
        """Reserve budget for the answers, and lower max_tokens if less is left than they may use."""
        budgets, key = self._state.budgets, self._key
        if key is None:
            return
        await budgets.admit(key, len(self._requests) - 1)  # the first was counted on arrival
        prompt_tokens = sum(self._runner.prompt_size(request) for request in self._requests)
        cost = self._runner.estimate_cost(self._size)
        self._charge = await budgets.reserve(key, self._size, prompt_tokens, cost, self._runner.name)
        per_answer = max(1, (self._charge.tokens - prompt_tokens) // len(self._requests))
        if self._charge.tokens < self._size:
            self._headers = {"X-Sizewise-Max-Tokens": str(per_answer)}
            self._requests = [
                request.model_copy(update={"max_tokens": min(request.max_tokens, per_answer)})
                for request in self._requests
            ]

    def _record(self, status: int, completions: list[Completion] | None) -> None:
        """Record the outcome in the history and the metrics, once."""
        if self._recorded:
            return
        self._recorded = True
        runner = self._runner
        self._http.state.logged = logged(runner.name, completions or ())
        for completion in completions or [None]:  # type: ignore[list-item]
            runner.record(self._started, status, completion, self._ttft_s)
            latency_s = monotonic() - self._started
            self._state.metrics.observe(runner.name, status, latency_s, self._ttft_s, completion)
        self._charge.end()


def logged(model: str, completions: Sequence[Completion]) -> dict[str, Any]:
    """Return what the log line of a request says about its answers."""
    tokens = {
        field: sum(getattr(found, field) for found in completions) for field in ("prompt_tokens", "completion_tokens")
    }
    return {"model": model} | tokens


def _extension(completions: Sequence[Completion]) -> dict[str, Any]:
    """Build the `sizewise` field, which extends OpenAI's format: engine TTFT, cited documents and cost."""
    extension: dict[str, Any] = {"ttft_s": [completion.ttft_s for completion in completions]}
    if any(completion.sources for completion in completions):
        extension["sources"] = [list(completion.sources) for completion in completions]
    costs = [completion.usd for completion in completions if completion.usd is not None]
    if costs:
        extension["usd"] = sum(costs)
    return {"sizewise": extension}


def _error_of(piece: Piece | APIError) -> APIError | None:
    """Return the error that a queue entry carries, if any."""
    if isinstance(piece, APIError):
        return piece
    return failure_of(piece.end) if piece.end is not None and piece.end.error else None
