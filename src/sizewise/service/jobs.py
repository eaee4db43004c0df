"""The answers to one HTTP request: a place first, then the work, which ends when nobody listens any more."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import Request as HttpRequest
from starlette.types import Receive, Scope, Send

from sizewise.errors import SizewiseError
from sizewise.models.base import Piece, ScoredPrompt, failed
from sizewise.models.openvino.engine import NO_SCHEMA, RESTARTED
from sizewise.records import Completion, Request
from sizewise.service import responses, schemas
from sizewise.service.admission import Busy
from sizewise.service.api_keys import Key
from sizewise.service.budgets import Charge, tokens_of_piece
from sizewise.service.model_runner import ModelRunner
from sizewise.service.responses import ChatForm
from sizewise.service.schemas import EmbeddingRequest, Refused, TextRequest
from sizewise.service.state import State

CLIENT_LEFT = 499
STARTING_RETRY_S = 5
PROVIDER_RETRY_S = 10
CONTENT_FILTER = "content filter held the answer back"
_UPSTREAM = re.compile(r"\bstatus_code: (\d{3})\b")
LISTENS_EVERY_S = 0.25
WRITING_S = 1.0
"""Time beyond that of an answer in which what was written of it may still be sent."""
T = TypeVar("T")
ENCODE = json.JSONEncoder(ensure_ascii=False).encode


def numbered(request: Request, number: int) -> Request:
    """Give a request its place among several, and a seed of its own."""
    seed = request.seed + number if request.seed is not None else None
    return request.model_copy(update={"id": str(number), "seed": seed})


class _Stream(StreamingResponse):
    """A stream that ends at its time, also where the client takes nothing, and then frees its place at once.

    Args:
        events: what is sent.
        deadline: end, in seconds of the monotonic clock.
        close: frees the place.
    """

    def __init__(
        self, events: AsyncGenerator[bytes, None], deadline: float, close: Callable[[], Awaitable[None]]
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._deadline, self._close = deadline, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            with suppress(TimeoutError):  # the connection is cut when this returns
                async with asyncio.timeout(max(0.0, self._deadline - monotonic())):
                    await super().__call__(scope, receive, send)
        finally:
            await self._close()


class Job:
    """The answers to one HTTP request."""

    def __init__(
        self, state: State, one: ModelRunner, key: Key | None, requests: list[Request], http: HttpRequest
    ) -> None:
        self._state, self._one, self._key, self._requests, self._http = state, one, key, requests, http
        self._begun = monotonic()
        self._deadline = self._begun + state.settings.timeout_s
        self._first: float | None = None
        self._kept = False
        self._size = sum(one.size_of(request) for request in requests)
        self._charge = Charge(state.budgets, None)
        self._headers: dict[str, str] = {}

    async def whole(self, form: ChatForm) -> Response:
        """Answer in one piece; the work ends when the client goes away."""
        async with AsyncExitStack() as place:
            place.callback(lambda: self._charge.end())
            await self._listening(self._enter(place))
            choices, ends = await self._listening(self._collect(form))
        body = responses.base(form.whole, responses.new_id(form.prefix), form.model) | {
            "choices": choices,
            "usage": form.usage(ends),
        }
        self._keep(200, ends)
        return JSONResponse(body | _besides(ends), headers=self._headers)

    async def _listening(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work, but no longer than the client waits for it, and its time.

        Raises:
            Refused: the client went away, or it takes too long.
        """
        task, gone = asyncio.create_task(work), asyncio.create_task(self._gone())
        try:
            left = max(0.0, self._deadline - monotonic())
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED, timeout=left)
            if task.done():
                return await task
            status = CLIENT_LEFT if gone.done() else 504
            self._keep(status, None)
            raise Refused("The answer took too long." if status == 504 else "The client went away.", status=status)
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    async def _gone(self) -> None:
        while not await self._http.is_disconnected():
            await asyncio.sleep(LISTENS_EVERY_S)

    async def _collect(self, form: ChatForm) -> tuple[list[dict[str, Any]], list[Completion]]:
        async def one(index: int, request: Request) -> tuple[dict[str, Any], Completion]:
            parts: list[str] = []
            tokens: list[str] = []
            values: list[float] = []
            async with aclosing(self._answer(index, request)) as pieces:
                async for piece in pieces:
                    if piece.end is not None:
                        if piece.end.error:
                            raise _failure(piece.end)
                        return form.choice(index, "".join(parts), piece.end.finish, tokens, values), piece.end
                    self._first = self._first or monotonic() - self._begun
                    parts.append(piece.text)
                    tokens += piece.tokens
                    values += piece.logprobs
            raise Refused("The engine gave no end.", status=500)

        try:
            found = await asyncio.gather(*(one(i, request) for i, request in enumerate(self._requests)))
        except Refused as error:
            self._keep(error.status, None)
            raise
        return [choice for choice, _ in found], [end for _, end in found]

    async def stream(self, form: ChatForm) -> Response:
        """Answer piece by piece. What is refused is refused before the stream begins."""
        place = AsyncExitStack()
        place.callback(lambda: self._charge.end())
        events = self._events(form)
        try:
            await self._listening(self._enter(place))
            first = await self._listening(_first_of(events))
        except BaseException:
            await events.aclose()
            await place.aclose()
            raise

        async def body() -> AsyncGenerator[bytes, None]:
            yield first
            async for event in events:
                yield event

        async def close() -> None:
            await events.aclose()
            await place.aclose()

        response = _Stream(body(), self._deadline + WRITING_S, close)
        response.headers.update(self._headers)
        return response

    async def _events(self, form: ChatForm) -> AsyncGenerator[bytes, None]:
        """Give the stream's events; the first only when an engine has begun, so that its refusal has a status."""
        base = responses.base(form.piece, responses.new_id(form.prefix), form.model)
        queue: asyncio.Queue[tuple[int, Piece | Refused]] = asyncio.Queue()

        pumps = [asyncio.create_task(self._pump(i, request, queue)) for i, request in enumerate(self._requests)]
        ends: list[Completion] = []
        begun: set[int] = set()
        status = CLIENT_LEFT
        try:
            while len(ends) < len(pumps):
                async with asyncio.timeout(max(0.0, self._deadline - monotonic())):
                    index, piece = await queue.get()
                refusal = _refusal(piece)
                if refusal is not None:
                    status = 500 if begun else refusal.status
                    if not begun:
                        raise refusal
                    yield _event(schemas.error_body(refusal.message, 500))
                    return
                assert isinstance(piece, Piece)
                choices = [] if index in begun else form.first(index)
                begun.add(index)
                if piece.end is not None:
                    ends.append(piece.end)
                    choices += form.last(index, piece.end.finish)
                else:
                    self._first = self._first or monotonic() - self._begun
                    choices += form.delta(index, piece.text, piece.tokens, piece.logprobs)
                for choice in choices:
                    yield _event(base | {"choices": [choice]})
            if form.wants_usage:
                yield _event(base | {"choices": [], "usage": form.usage(ends)} | _besides(ends))
            status = 200
            yield b"data: [DONE]\n\n"
        except TimeoutError:
            status = 504
            yield _event(schemas.error_body("The answer took too long.", 504))
        finally:
            # Nothing is awaited here: whoever left may have cancelled every await.
            self._keep(status, ends)
            for task in pumps:
                task.cancel()

    async def _answer(self, index: int, request: Request) -> AsyncGenerator[Piece, None]:
        """Give the pieces of an answer, and charge the key for them as they come."""
        used = self._one.read_of(request)
        self._charge.used(index, used, self._one.usd_of(used))
        async with aclosing(self._one.answer(request)) as pieces:
            async for piece in pieces:
                end = piece.end
                if end is None:
                    used += tokens_of_piece(piece.text, len(piece.tokens))
                    self._charge.used(index, used, self._one.usd_of(used))
                elif not end.error:
                    self._one.learn_price(end)
                    self._charge.used(index, end.prompt_tokens + end.completion_tokens, end.usd or 0.0)
                yield piece

    async def _pump(self, index: int, request: Request, queue: asyncio.Queue[tuple[int, Piece | Refused]]) -> None:
        """Put the pieces of an answer into a queue; whatever goes wrong is its end, so that nobody waits for it."""
        try:
            async with aclosing(self._answer(index, request)) as pieces:
                async for piece in pieces:
                    await queue.put((index, piece))
        except Refused as error:
            await queue.put((index, error))
        except Exception as error:
            await queue.put((index, Piece(end=failed(request, f"{type(error).__name__} in the service."))))

    async def _enter(self, place: AsyncExitStack) -> None:
        """Take a place before any work is done."""
        one = self._one
        one.keep_back(self._requests)
        if not one.ready:
            wait = {"Retry-After": str(STARTING_RETRY_S)}
            raise Refused(
                f"{one.name} is not ready: {one.trouble or 'it is starting'}.", None, "unavailable", 503, wait
            )
        try:
            _refuse_too_long(one, self._requests, self._size)
        except Refused:
            self._keep(400, None)
            raise
        self._set_aside()
        who = self._key.name if self._key else (self._http.client.host if self._http.client else "")
        try:
            await place.enter_async_context(one.admission.place(who, self._size))
        except Busy as busy:
            self._keep(429, None)
            wait = {"Retry-After": str(busy.retry_s)}
            raise Refused(f"All places are taken; try again in {busy.retry_s} s.", None, "busy", 429, wait) from None

    def _set_aside(self) -> None:
        """Set aside what the answers may use; where less is left than they may have, they are shorter."""
        budgets, key = self._state.budgets, self._key
        if key is None:
            return
        budgets.admit(key, len(self._requests) - 1)  # one was counted when it came
        read = sum(self._one.read_of(request) for request in self._requests)
        self._charge = budgets.reserve(key, self._size, read, self._one.usd_of(self._size))
        each = max(1, (self._charge.tokens - read) // len(self._requests))
        if self._charge.tokens < self._size:
            self._headers = {"X-Sizewise-Max-Tokens": str(each)}
            self._requests = [
                one.model_copy(update={"max_tokens": min(one.max_tokens, each)}) for one in self._requests
            ]

    def _keep(self, status: int, ends: list[Completion] | None) -> None:
        """Keep how it ended, once."""
        if self._kept:
            return
        self._kept = True
        for end in ends or [None]:  # type: ignore[list-item]
            self._one.keep(self._begun, status, end, self._first)
            self._state.counts.count(self._one.name, status, monotonic() - self._begun, self._first, end)
        self._charge.end()


async def _first_of(events: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(events)


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + ENCODE(body).encode("utf-8") + b"\n\n"


def _besides(ends: Sequence[Completion]) -> dict[str, Any]:
    """Say what clients of OpenAI do not know: the engine's own time to the first token, documents cited, money."""
    told: dict[str, Any] = {"ttft_s": [end.ttft_s for end in ends]}
    if any(end.sources for end in ends):
        told["sources"] = [list(end.sources) for end in ends]
    paid = [end.usd for end in ends if end.usd is not None]
    if paid:
        told["usd"] = sum(paid)
    return {"sizewise": told}


def _refusal(piece: Piece | Refused) -> Refused | None:
    """Give the error that a piece is, if it is one."""
    if isinstance(piece, Refused):
        return piece
    return _failure(piece.end) if piece.end is not None and piece.end.error else None


def _failure(end: Completion) -> Refused:
    """Turn an answer that failed into an error: too long is the client's, the rest the engine's."""
    message = end.error or "The engine failed."
    if "more than the context" in message:
        return Refused(message, "messages", "context_length_exceeded")
    if NO_SCHEMA in message:
        return Refused(message, "response_format", "invalid_schema")
    if CONTENT_FILTER in message:
        return Refused("The provider's content filter held the answer back.", "messages", "content_filter")
    upstream = _UPSTREAM.search(message)
    if upstream is not None:
        return _of_provider(int(upstream[1]))
    if RESTARTED in message:
        wait = {"Retry-After": str(STARTING_RETRY_S)}
        return Refused(message, None, "engine_restarted", 503, wait)
    return Refused(message, None, "engine_failed", 500)


def _of_provider(status: int) -> Refused:
    """Pass on how a provider failed, not its words: they may tell of the account behind the service."""
    wait = {"Retry-After": str(PROVIDER_RETRY_S)}
    if status in (402, 429):
        return Refused("The provider takes no more requests for now (429).", None, "provider_busy", 429, wait)
    if status in (408, 500, 502, 503, 504, 529):
        return Refused(f"The provider does not answer for now ({status}).", None, "provider_unavailable", 503, wait)
    if status in (400, 413, 415, 422):
        return Refused(f"The provider calls this request wrong ({status}).", None, "provider_refused")
    if status in (401, 403):
        return Refused(
            f"The provider refuses the key of this service ({status}); whoever runs it can mend that.",
            None,
            "provider_key_refused",
            502,
        )
    return Refused(f"The provider answered with status {status}.", None, "provider_failed", 502)


async def embed(state: State, one: ModelRunner, key: Key | None, body: EmbeddingRequest) -> Response:
    """Give texts as vectors."""
    if "embeddings" not in one.description.offers:
        raise Refused(f"{one.description.engine} gives no embeddings.", "model", "unsupported_parameter")
    asked = body.requests()
    one.keep_back(asked)
    if not one.description.local and state.guard.masks:
        raise Refused(f"{one.name} is not on this machine, and what is masked has other vectors.", "model")
    if body.dimensions is not None and not state.settings.lenient:
        raise Refused("The vectors have the width of the model; dimensions is not taken.", "dimensions")
    if any(request.ids is not None for request in asked) and "ids" not in one.description.offers:
        raise Refused(f"{one.description.engine} takes text, not tokens.", "input")
    begun = monotonic()
    read: Callable[[list[Request]], tuple[list[list[float]], int]] = one.model.embed  # type: ignore[attr-defined]
    charge = _reserved(state, one, key, asked)
    try:
        async with one.admission.place(key.name if key else "", sum(one.size_of(request) for request in asked)):
            charge.used(0, charge.tokens)  # until it is known
            vectors, tokens = await asyncio.to_thread(read, asked)
            charge.used(0, tokens)
    except Busy as busy:
        raise Refused("All places are taken.", None, "busy", 429, {"Retry-After": str(busy.retry_s)}) from None
    except SizewiseError as error:
        charge.used(0, 0)
        raise Refused(error.what, "input", "context_length_exceeded") from error
    finally:
        charge.end()
    one.keep(begun, 200, None, None)
    return JSONResponse(schemas.embedding_body(body, vectors, tokens))


def _refuse_too_long(one: ModelRunner, asked: Sequence[Request], size: int) -> None:
    """Refuse what can never be served, before its tokens are counted.

    Raises:
        Refused: it is longer than all places together, or far longer than the context.
    """
    context = one.description.context
    longest = max(one.read_of(request) if request.fit else one.size_of(request) for request in asked)
    if size > one.admission.most_tokens or (context and longest > 8 * context):
        raise Refused(
            f"About {max(size, longest):,} tokens are asked for; {one.name} holds {one.admission.most_tokens:,} "
            + (f"for all users, {context:,} for one." if context else "for all users."),
            "max_tokens",
            "context_length_exceeded",
        )


def _reserved(state: State, one: ModelRunner, key: Key | None, asked: Sequence[Request]) -> Charge:
    """Set aside what texts that are read use."""
    size = sum(one.size_of(request) for request in asked)
    _refuse_too_long(one, asked, size)
    state.budgets.admit(key, len(asked) - 1)
    return state.budgets.reserve(key, size, size, one.usd_of(size))


class _Written(NamedTuple):
    """What was written after a prompt that is echoed."""

    text: str
    tokens: list[str]
    logprobs: list[float]
    finish: str


async def _write(one: ModelRunner, request: Request) -> _Written:
    """Write on after a prompt.

    Raises:
        Refused: the answer failed.
    """
    text, finish = "", "length"
    tokens: list[str] = []
    likely: list[float] = []
    async with aclosing(one.answer(request.model_copy(update={"logprobs": True}))) as pieces:
        async for piece in pieces:
            if piece.end is not None:
                if piece.end.error:
                    raise _failure(piece.end)
                finish = piece.end.finish
            text += piece.text
            tokens += piece.tokens
            likely += piece.logprobs
    return _Written(text, tokens, likely, finish)


async def echo(state: State, one: ModelRunner, key: Key | None, body: TextRequest, asked: list[Request]) -> Response:
    """Give prompts back with the log-likelihood of their tokens, and one token after each if it is asked for."""
    if "echo" not in one.description.offers:
        raise Refused(f"{one.description.engine} gives no log-likelihoods of prompts.", "echo", "unsupported_parameter")
    weigh: Callable[[list[Request]], list[ScoredPrompt]] = one.model.score_prompts  # type: ignore[attr-defined]
    one.keep_back(asked)
    if not one.description.local and state.guard.masks:
        raise Refused(f"{one.name} is not on this machine, so what is sent is masked and not echoed.", "echo")
    begun = monotonic()
    charge = _reserved(state, one, key, asked)
    try:
        async with one.admission.place(key.name if key else "", sum(one.size_of(request) for request in asked)):
            charge.used(0, charge.tokens)  # until it is known
            read = await asyncio.to_thread(weigh, asked)
            context = one.description.context
            longest = max(len(scored.tokens) for scored in read)
            if context and longest > context:
                raise Refused(f"The prompt has {longest} tokens, the context {context}.", "prompt")
            nothing = _Written("", [], [], "length")
            written = [nothing] * len(asked)
            if body.max_tokens:
                async with asyncio.TaskGroup() as group:  # where one fails, the others end too
                    tasks = [group.create_task(_write(one, request)) for request in asked]
                written = [task.result() for task in tasks]
            asked_tokens, answered = (sum(len(some.tokens) for some in part) for part in (read, written))
            charge.used(0, asked_tokens + answered)
    except Busy as busy:
        raise Refused("All places are taken.", None, "busy", 429, {"Retry-After": str(busy.retry_s)}) from None
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    finally:
        charge.end()
    choices = []
    for index, (scored, after) in enumerate(zip(read, written, strict=True)):
        shown = responses.echo_logprobs(scored, after.tokens, after.logprobs, greedy=not body.temperature)
        choices.append(
            {
                "index": index,
                "text": "".join(scored.tokens) + after.text,
                "logprobs": shown if body.logprobs is not None else None,
                "finish_reason": after.finish,
            }
        )
    one.keep(begun, 200, None, None)
    total = asked_tokens + answered
    usage = {"prompt_tokens": asked_tokens, "completion_tokens": answered, "total_tokens": total}
    return JSONResponse(
        responses.base("text_completion", responses.new_id("cmpl"), one.name) | {"choices": choices, "usage": usage}
    )
