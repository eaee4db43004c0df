"""Requests that are passed on to a backend as they are, guarded, limited and charged like all others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from time import monotonic
from typing import Any, TypeVar

import httpx2
from fastapi.responses import Response
from starlette.requests import Request as HttpRequest

from sizewise.records import Completion
from sizewise.service import schemas, sse
from sizewise.service.admission import Busy
from sizewise.service.api_keys import Key
from sizewise.service.backends import EMBEDDINGS, RESPONSES, Backend, Tokens
from sizewise.service.budgets import Charge
from sizewise.service.failures import failure_of_backend
from sizewise.service.forwarded_answers import Answer, parse_answer, requested_tokens, with_max_tokens, with_usage
from sizewise.service.jobs import logged
from sizewise.service.model_runner import STARTING_RETRY_S, ModelRunner
from sizewise.service.payloads import Restorer, find_unchecked, prompt_tokens, spoken_texts, texts_in
from sizewise.service.prompts import busy_error
from sizewise.service.replicas import MAX_BROKEN_ANSWERS, Replica, ReplicaFailed
from sizewise.service.responses import JSONText, to_json
from sizewise.service.schemas import APIError
from sizewise.service.sse import DONE, Event, EventTooLong, format_event, read_events
from sizewise.service.state import State
from sizewise.service.tracing import upstream_span
from sizewise.service.waiting import CLIENT_CLOSED, TIMED_OUT, DeadlineStream, begun, while_connected

MAX_ANSWER_BYTES = 64_000_000
MAX_ERROR_BYTES = 64_000
ABANDONED_TOKENS_PER_S = 100
"""Tokens a second that are charged for an answer whose client had left, because its usage is never known."""
CHARGED_TOKENS = 32
"""Tokens of a stream after which a key is charged."""
REST_S = 0.1
"""Most seconds to wait for the end of a response after its last event."""
CLOCK_S = 0.05
"""How much earlier than its time a deadline may be found to be up."""
_STATEFUL = ("previous_response_id", "conversation", "background")
_HOSTED = ("web_search_options", "audio")
END = format_event(DONE)
BUSY = (429, 502, 503, 529)
"""Statuses with which a server refuses a request that another may answer."""
T = TypeVar("T")


class Forward:
    """One HTTP request that is passed on.

    Args:
        state: state of the service.
        runner: the model.
        key: API key of the client.
        http: the HTTP request.
        path: path below the backend's base URL.
    """

    def __init__(self, state: State, runner: ModelRunner, key: Key | None, http: HttpRequest, path: str) -> None:
        assert runner.backend is not None
        self._state, self._runner, self._key, self._http, self._path = state, runner, key, http, path
        self._backend: Backend = runner.backend
        self._started = monotonic()
        self._deadline = self._started + state.settings.timeout_s
        self._ttft_s: float | None = None
        self._recorded = False
        self._charges: list[Charge] = []
        self._sent = False
        self._headers: dict[str, str] = {}
        self._prompt_tokens = 0
        self._restorer = Restorer({})
        self._answer = Answer(path, runner.name)

    async def respond(self, body: dict[str, Any]) -> Response:
        """Pass a request on, and return the answer.

        Args:
            body: the request's JSON.

        Raises:
            APIError: the request is not allowed, or the backend failed.
        """
        self._backend.check(self._path, body)
        if not self._backend.settings.hosted_tools:
            _reject_hosted(body)
        stream = body.get("stream") is True
        self._answer = Answer(self._path, self._runner.name, with_usage(body), self._backend.outside)
        slot = AsyncExitStack()  # a stream closes it itself
        slot.callback(self._end)
        try:
            sent, signals = await self._guarded(body)
            response = await (self._stream(sent, slot) if stream else self._complete(sent, slot))
        except BaseException as error:
            await slot.aclose()
            self._record(error.status if isinstance(error, APIError) else 500)
            raise
        response.headers.update(self._headers)
        if signals:
            response.headers["X-Sizewise-Signals"] = ", ".join(signals)
        return response

    async def _guarded(self, body: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Check a request, and mask personal data in it.

        Raises:
            APIError: it is confidential, can't be checked, or shows signs of prompt injection.
        """
        guard, runner = self._state.guard, self._runner
        signals = await guard.check_texts(spoken_texts(body))
        outside = self._backend.outside
        if outside:
            await guard.block_texts([*texts_in(body)], runner.name)
        if outside or guard.masks_always:
            unchecked = find_unchecked(body)
            if unchecked and guard.checks and not self._backend.settings.unchecked_content:
                place = "is outside" if outside else "gets masked text only"
                raise APIError(
                    f"{runner.name} {place}, and {unchecked} can't be checked for personal data.",
                    "messages",
                    "unchecked_content",
                )
            if self._path == EMBEDDINGS and guard.masks:
                raise APIError(
                    f"Personal data would be masked for {runner.name} first, which changes the embeddings.", "model"
                )
            body, values = await guard.mask_payload(body, runner.name)
            self._restorer = Restorer(values)
        self._prompt_tokens = prompt_tokens(body)
        return body, signals

    async def _enter(self, body: dict[str, Any], slot: AsyncExitStack) -> dict[str, Any]:
        """Reserve budgets and a slot, and return the request with what is left of the budget as its limit.

        Raises:
            APIError: a budget is used up, or the queue is full.
        """
        budgets, runner, key = self._state.budgets, self._runner, self._key
        runner.check_ready()
        answers, limit = requested_tokens(self._path, body)
        size = self._prompt_tokens + answers * limit
        cost = self._backend.max_cost(self._prompt_tokens, answers * limit, key)
        await budgets.admit(key, answers - 1)
        charge = await budgets.reserve(key, size, self._prompt_tokens, cost, runner.name)
        self._charges.append(charge)
        if self._backend.account.has_limits:
            try:
                own = await budgets.reserve(self._backend.account, size, 0, cost, runner.name)
            except APIError as error:
                message = f"The budget of {runner.name} is used up."
                raise APIError(message, None, "model_budget", 503, error.headers) from None
            self._charges.append(own)
        client = key.name if key else (self._http.client.host if self._http.client else "")
        try:
            await slot.enter_async_context(runner.admission.slot(client, size))
        except Busy as busy:
            raise busy_error(busy) from None
        if charge.tokens < size:
            per_answer = max(1, (charge.tokens - self._prompt_tokens) // answers)
            self._headers["X-Sizewise-Max-Tokens"] = str(per_answer)
            body = with_max_tokens(self._path, body, per_answer, self._backend.kind)
        return body

    async def _from_any(self, attempt: Callable[[Replica], Awaitable[T]]) -> T:
        """Try the servers of the model, until one begins an answer; only what the client hasn't seen is repeated.

        Raises:
            APIError: no server works, or all fail.
        """
        tried: list[Replica] = []
        broken, last = 0, None
        while True:
            server = self._backend.replicas.pick(tried)
            if server is None:
                raise last or no_server(self._runner.name)
            try:
                return await attempt(server)
            except asyncio.CancelledError:
                if monotonic() > self._deadline - CLOCK_S:
                    server.stall()
                raise
            except ReplicaFailed as failed:
                last = failed.error
                if failed.down:
                    server.fail(failed.down)
                broken += failed.sent
                if failed.sent and (broken >= MAX_BROKEN_ANSWERS or not self._backend.may_repeat):
                    raise last from None
                tried.append(server)
                self._state.metrics.count_retry(self._runner.name)

    async def _send(self, server: Replica, body: dict[str, Any]) -> httpx2.Response:
        """Send the request; the prompt is charged from here on.

        Raises:
            ReplicaFailed: the server can't be reached, or is busy or broken.
            APIError: it answers with another error.
        """
        self._charge()
        self._sent = True
        try:
            with upstream_span(self._runner.name, server.place, self._path) as traced:
                headers = traced if self._backend.may_repeat else {}  # providers don't continue our traces
                sent = body | {"model": server.model}
                request = server.client.build_request("POST", self._path, json=sent, headers=headers)
                response = await server.client.send(request, stream=True)
        except (httpx2.TransportError, httpx2.InvalidURL, OSError) as error:
            never_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
            self._charge(nothing=never_sent)
            failure = failure_of_backend(503, {}, b"", True, self._path)
            raise ReplicaFailed(failure, sent=not never_sent, down=str(error) or type(error).__name__) from None
        if response.status_code != 200:
            self._charge(nothing=True)
            text = b""
            try:
                async with asyncio.timeout(5):
                    text = await _read(response, MAX_ERROR_BYTES)
            except (httpx2.HTTPError, TimeoutError, EventTooLong):
                pass
            finally:
                await response.aclose()
            outside = self._backend.outside
            failure = failure_of_backend(response.status_code, response.headers, text, outside, self._path)
            if response.status_code in BUSY:
                raise ReplicaFailed(failure, sent=False)
            raise failure
        return response

    # -- whole answers ------------------------------------------------------------------------------------

    async def _complete(self, body: dict[str, Any], slot: AsyncExitStack) -> Response:
        async def work() -> bytes:
            sent = await self._enter(body, slot)
            text = await self._from_any(lambda server: self._whole(server, sent))
            try:
                answer = self._answer.whole(await asyncio.to_thread(parse_answer, text))
                return to_json(self._restorer.whole(answer)).encode()
            except (ValueError, RecursionError):
                raise unreadable() from None

        try:
            answer = await while_connected(self._http, self._deadline, work())
        except APIError as error:
            if error.status in (CLIENT_CLOSED, 504) and self._sent:
                self._answer.completion_tokens = int(ABANDONED_TOKENS_PER_S * (monotonic() - self._started))
                self._charge()
            raise
        self._charge()
        await slot.aclose()
        self._record(200)
        for charge in self._charges:
            await charge.saved()
        return JSONText(answer, media_type="application/json")

    async def _whole(self, server: Replica, body: dict[str, Any]) -> bytes:
        """Send the request to a server, and read its answer.

        Raises:
            ReplicaFailed: the server fails.
            APIError: it answers with another error, or with too much.
        """
        with server.busy():
            response = await self._send(server, body)
            try:
                text = await _read(response, MAX_ANSWER_BYTES)
            except httpx2.HTTPError as error:
                raise ReplicaFailed(unreadable(), sent=True, down=str(error) or type(error).__name__) from None
            except EventTooLong:
                raise unreadable() from None
            finally:
                await response.aclose()
            server.answer()
            return text

    # -- streams ------------------------------------------------------------------------------------------

    async def _stream(self, body: dict[str, Any], slot: AsyncExitStack) -> Response:
        if self._path == EMBEDDINGS:
            raise APIError("Embeddings can't be streamed.", "stream")
        events = self._events(body, slot)
        first = asyncio.ensure_future(anext(events))

        async def close() -> None:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await events.aclose()
            await slot.aclose()
            self._record(CLIENT_CLOSED)

        try:
            await while_connected(self._http, self._deadline, begun(first, sse.PING_S))
        except BaseException as error:
            self._record(error.status if isinstance(error, APIError) else 500)
            await close()
            raise
        return DeadlineStream(self._told(first, events), self._deadline, close)

    async def _told(
        self, first: asyncio.Future[bytes], events: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """Pass events on; errors become events, because the status has been sent."""
        try:
            async with asyncio.timeout(max(0.0, self._deadline - monotonic())):
                event = await first
            yield event
            while True:
                async with asyncio.timeout(max(0.0, self._deadline - monotonic())):
                    try:
                        event = await anext(events)
                    except StopAsyncIteration:
                        return
                yield event
        except (APIError, TimeoutError) as error:
            failure = error if isinstance(error, APIError) else APIError(TIMED_OUT, None, "timeout", 504)
            self._record(failure.status)
            told = schemas.error_body(failure.message, failure.status, failure.param, failure.code)
            is_response = self._path == RESPONSES
            yield format_event(
                json.dumps(told | ({"type": "error"} if is_response else {})), "error" if is_response else None
            )
            if not is_response:
                yield END

    async def _events(self, body: dict[str, Any], slot: AsyncExitStack) -> AsyncGenerator[bytes, None]:
        """Send the request, and yield the events of the answer with our name and the values that were masked.

        Raises:
            APIError: the backend fails before or during its answer, or ends it too early.
        """
        options = self._answer.stream_options(body, self._backend.kind)
        sent = await self._enter(body | options, slot)
        charged = 0
        async with AsyncExitStack() as open_answer:
            received, event = await self._from_any(lambda server: self._begun(server, sent, open_answer))
            try:
                while event is not None and event.data != DONE:
                    self._ttft_s = self._ttft_s or monotonic() - self._started
                    for payload, name in self._answer.event(event, self._restorer):
                        yield format_event(to_json(payload), name)
                    if self._answer.completion_tokens - charged >= CHARGED_TOKENS:
                        charged = self._answer.completion_tokens
                        self._charge()
                    event = await anext(received, None)
                await _read_rest(received)
            except (httpx2.HTTPError, EventTooLong):
                raise APIError("The provider broke off its answer.", None, "provider_failed", 502) from None
            finally:
                self._charge()  # also if the client left
        if not self._answer.finished:
            raise APIError("The provider ended its answer too early.", None, "provider_failed", 502)
        await slot.aclose()
        self._record(200)
        for charge in self._charges:
            await charge.saved()
        if self._path != RESPONSES:
            yield END

    async def _begun(
        self, server: Replica, body: dict[str, Any], open_answer: AsyncExitStack
    ) -> tuple[AsyncGenerator[Event, None], Event | None]:
        """Send the request to a server, and wait for the first event of its answer.

        Args:
            server: the server.
            body: the request.
            open_answer: closes the answer when it has been read.

        Raises:
            ReplicaFailed: the server fails before the first event.
            APIError: it answers with another error, or doesn't stream.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(server.busy())
            response = await self._send(server, body)
            stack.push_async_callback(response.aclose)
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise APIError("The provider doesn't stream this answer.", "stream", "provider_failed", 502)
            received = await stack.enter_async_context(aclosing(read_events(response.aiter_bytes())))
            try:
                event = await anext(received, None)
            except httpx2.HTTPError as error:
                failure = APIError("The provider broke off its answer.", None, "provider_failed", 502)
                raise ReplicaFailed(failure, sent=True, down=str(error) or type(error).__name__) from None
            except EventTooLong:
                raise unreadable() from None
            server.answer()
            open_answer.push_async_exit(stack.pop_all())
            return received, event

    # -- accounts -----------------------------------------------------------------------------------------

    def _charge(self, nothing: bool = False) -> None:
        """Charge what the answer has used so far."""
        tokens = Tokens() if nothing else self._answer.tokens(self._prompt_tokens)
        cost = self._backend.cost(tokens) or 0.0
        for charge in self._charges:
            charge.update(0, tokens.input_tokens + tokens.output_tokens, cost)

    def _end(self) -> None:
        for charge in self._charges:
            charge.end()

    def _record(self, status: int) -> None:
        """Record the outcome, once."""
        if self._recorded:
            return
        self._recorded = True
        tokens = self._answer.tokens(self._prompt_tokens)
        completion = None
        if status == 200:
            completion = Completion(
                id="",
                text="",
                prompt_tokens=tokens.input_tokens,
                completion_tokens=tokens.output_tokens,
                seconds=monotonic() - self._started,
                ttft_s=self._ttft_s,
                finish="stop",
                usd=self._backend.cost(tokens),
            )
        self._http.state.logged = logged(self._runner.name, [completion] if completion else ())
        self._runner.record(self._started, status, completion, self._ttft_s)
        latency_s = monotonic() - self._started
        self._state.metrics.observe(self._runner.name, status, latency_s, self._ttft_s, completion)


def unreadable() -> APIError:
    """Return the error of an answer that can't be read."""
    return APIError("The provider's answer can't be read.", None, "provider_failed", 502)


def no_server(name: str) -> APIError:
    """Return the error of a model none of whose servers works."""
    retry = {"Retry-After": str(STARTING_RETRY_S)}
    return APIError(f"{name} is not available: none of its servers answers.", None, "unavailable", 503, retry)


def _reject_hosted(body: dict[str, Any]) -> None:
    """Reject what a provider runs, stores or charges for beside the tokens of this request.

    Raises:
        APIError: the request asks for it.
    """
    for field in (*_STATEFUL, *_HOSTED):
        if body.get(field):
            raise APIError(f"This service doesn't pass on {field}.", field, "unsupported_parameter")
    if body.get("service_tier") not in (None, "auto", "default"):
        raise APIError("This service passes on the default service_tier only.", "service_tier", "unsupported_parameter")
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if not isinstance(tool, dict) or tool.get("type") not in ("function", "custom"):
            raise APIError("This service passes on tools of type 'function' and 'custom' only.", "tools")


async def _read_rest(events: AsyncIterator[Event]) -> None:
    """Read to the end of the response, which follows the last event at once: only then can its connection be kept."""
    with suppress(TimeoutError, httpx2.HTTPError, EventTooLong):
        async with asyncio.timeout(REST_S):
            async for _ in events:
                pass


async def _read(response: httpx2.Response, max_bytes: int) -> bytes:
    """Read a body.

    Raises:
        EventTooLong: it is too long.
    """
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise EventTooLong
    return b"".join(parts)
