"""Models behind an API: OpenAI, Anthropic, Google, DeepSeek, Mistral, and any server with an OpenAI-compatible API.

The official clients, through pydantic-ai, send the requests. This module adds what evaluations need: concurrency that
adapts to the provider's limits, retries, a budget, and a ledger of answers, so that no answer is paid for twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.models.background import BackgroundLoop
from sizewise.models.base import Cancel, Deliver, Model, Piece, ScoredText, failed, next_of
from sizewise.models.conversations import client_messages, client_text, client_tools, read_image
from sizewise.models.endings import ending_of, with_message
from sizewise.models.fingerprints import expect_response, last_body, read_response
from sizewise.models.identity import describe_identity, identify
from sizewise.models.names import is_proxied
from sizewise.models.openai_logprobs import EchoScorer
from sizewise.models.patience import MAX_CONCURRENCY, Fault, Gate, fault_of, wait_s
from sizewise.models.providers import PROVIDERS, is_loopback, resolve_service
from sizewise.models.remote_decisions import makes_decisions, send_decision
from sizewise.models.resolving import is_retired, known_models
from sizewise.models.spending import Budget, cost_of, max_cost
from sizewise.models.thinking import (
    THINKING_TOKENS,
    Reasoning,
    cut_by_reasoning,
    reasoning_settings,
    split_reasoning,
    with_counted_reasoning,
)
from sizewise.network import check_certificates
from sizewise.records import Completion, ModelDescription, Request, StatedFacts, fingerprint
from sizewise.store import Ledger

TIMEOUT_S = 120.0
"""Longest silence of a service within a request."""
REQUEST_S = 600.0
"""Time that a service has for one request, all attempts together and however slowly it sends; waits don't count."""
ATTEMPTS = 6
MAX_FAILURES_IN_A_ROW = 20  # after this many failed requests, the service counts as down
TOPIC, ROOMY_TOPIC = "answers", "answers with room for thoughts"
MIN_ROOM = 1_024  # tokens for reasoning; a server that allows fewer gets no extra tokens


class RemoteModel(Model):
    """A model behind an API.

    Args:
        uri: `openai:gpt-4o` or another provider's model, or `http://host:port/v1#name`.
        answers: file that caches answers.
        max_usd: budget while the model is open; None for no limit.
        api_key: API key of this service; empty: that of the environment.

    Raises:
        UsageError: the URI names no model.
        SizewiseError: the API key is missing, no price is known for the budget, or connections are forbidden.
        MissingExtraError: the API clients are not installed.
    """

    def __init__(self, uri: str, answers: Path, max_usd: float | None = None, api_key: str = "") -> None:
        bare, self._asked = split_reasoning(uri)
        kind, name, address, key = resolve_service(bare, api_key)
        self._uri, self._kind, self._name, self._address = uri, kind, name, address
        self._client, self._disconnect = _client(kind, name, address, key)
        self._budget = Budget(max_usd)
        reasons = self._asked.asked or (_reasons(self._client) and not self._asked.off)
        self._room = self._asked.room if reasons else 0
        self._takes_budget = not dict(self._client.profile or {}).get("anthropic_disallows_budget_thinking")
        self._reasoning_settings(self._room + 1)  # refuses what the provider doesn't take
        if max_usd is not None and max_cost(kind, name, Request(id="", text=""), 1000) is None:
            raise SizewiseError(
                f"No price is known for {uri}, so --max-usd can't be enforced.",
                "a model with a list price (genai-prices)",
                "run the same command without --max-usd",
            )
        self._echo = EchoScorer.find(address, name, key) if kind in ("http", "https") else None
        self._ledger = Ledger(answers)
        self._loop = BackgroundLoop(uri)
        self._gate = self._loop.wait(_make_gate())
        self._failures_in_a_row = 0
        self._bypass_kept = False

    def describe(self) -> ModelDescription:
        """Describe the model."""
        title = PROVIDERS[self._kind].title if self._kind in PROVIDERS else urlsplit(self._address).netloc
        who = identify(split_reasoning(self._uri)[0] if self._kind in PROVIDERS else self._name)
        # An address on this machine may be a proxy, as for closed weights, and where the name states a provider.
        local = is_loopback(self._address) and not (self._kind in PROVIDERS or who.closed or is_proxied(self._name))
        known = describe_identity(who, StatedFacts(local=local)) | {"prices": ()}
        if self._kind in PROVIDERS:
            known |= {"hosted_by": title, "prices": who.prices}
        elif not local:
            known["hosted_by"] = who.host if is_loopback(self._address) else title
        sees = who.entry is None or not who.entry.modalities or "image" in who.entry.modalities
        return ModelDescription(
            uri=self._uri,
            origin=f"{self._name}, served by {title}",
            engine=f"API of {title}",
            precision="not published",
            can_score=self._echo is not None,
            can_chat=True,
            offers=("sampling", "tools", *(("decisions",) if makes_decisions(self._kind, self._name) else ())),
            can_see=sees,
            api=True,
            price_basis="list prices (genai-prices)" if known["prices"] else "",
            reasoning_effort=self._asked.effort,
            reasoning_tokens=self._asked.tokens,
            **known,
        )

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return self._echo.signature() if self._echo else "none"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate answers and yield them as they arrive. Cached answers cost nothing.

        Raises:
            SizewiseError: the key is rejected, the model is unknown, the budget is used up, or the service is down.
                Answers received before the error are kept, also if the wait is ended from outside.
        """
        todo = []
        for request in requests:
            kept = self._kept(request)
            if kept is None:
                todo.append(request)
            else:
                yield kept
        arrived: SimpleQueue[Completion | BaseException] = SimpleQueue()
        work = self._loop.start(self._answer_all(todo, arrived.put))
        by_id = {request.id: request for request in todo}
        try:
            for _ in todo:
                answer = next_of(arrived)
                if isinstance(answer, BaseException):
                    raise answer
                self._keep(by_id[answer.id], answer)
                yield answer
        finally:
            work.cancel()
            self._keep_rest(arrived, by_id)

    def bypass_cache(self) -> None:
        """From now on, neither return cached answers nor cache new ones."""
        self._bypass_kept = True

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Start answering. Text is delivered as it arrives, and the answer isn't cached."""

        async def answer() -> None:
            try:
                deliver(Piece(end=await self._answer(request, deliver)))
            except SizewiseError as error:
                deliver(Piece(end=failed(request, error.what)))
            except asyncio.CancelledError:
                deliver(Piece(end=failed(request, "cancelled")))

        work = self._loop.start(answer())

        def cancel() -> None:
            work.cancel()

        return cancel

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Compute token log-likelihoods, if the server supports `echo` with `logprobs`.

        Raises:
            SizewiseError: the server doesn't support it; no provider's chat API does.
        """
        if self._echo is None:
            raise SizewiseError(f"{self._uri} provides no log-likelihoods of text.", "a local model", "--metrics chrf")
        yield from self._echo.score(texts, prefix=prefix)

    def close(self) -> None:
        """Cancel running requests, and close connections and files."""
        self._loop.close(self._disconnect())
        self._ledger.close()

    @property
    def spent_usd(self) -> float:
        """US dollars spent since the model was opened, at list prices."""
        return self._budget.spent

    def _key(self, request: Request) -> str:
        fields = request.model_dump(mode="json", exclude={"id", "copy_text", "date"}, exclude_defaults=True)
        images = [
            hashlib.sha256(raw).hexdigest()
            for message in request.messages
            for raw, _ in map(read_image, message.images)
        ]
        asked = [list(self._asked)] if self._asked != Reasoning() else []
        return fingerprint([self._kind, self._name, self._address, fields, *images, *asked])

    def _kept(self, request: Request) -> Completion | None:
        """Return the cached answer to a request, unless reasoning used up its limit."""
        for topic in () if self._bypass_kept else (ROOMY_TOPIC, TOPIC):
            known = self._ledger.entry(topic, self._key(request))
            if known is not None:
                answer = Completion.model_validate({"kept_from": "an unknown day"} | known | {"id": request.id})
                if topic == ROOMY_TOPIC or not _cut_before_answer(answer):
                    return answer
        return None

    def _keep(self, request: Request, answer: Completion) -> None:
        if self._bypass_kept or answer.error is not None:
            return
        key = self._key(request)
        topic = ROOMY_TOPIC if self._ledger.entry(TOPIC, key) or _cut_before_answer(answer) else TOPIC
        today = datetime.now(UTC).date().isoformat()
        self._ledger.append(topic, key, answer.model_dump(mode="json") | {"kept_from": today})

    def _keep_rest(self, arrived: SimpleQueue[Completion | BaseException], by_id: dict[str, Request]) -> None:
        """Keep the answers that arrived but that nothing waits for any more."""
        while True:
            try:
                answer = arrived.get_nowait()
            except Empty:
                return
            if isinstance(answer, Completion):
                self._keep(by_id[answer.id], answer)

    # -- on the event loop's thread -----------------------------------------------------------------------

    async def _answer_all(
        self, requests: Sequence[Request], report: Callable[[Completion | BaseException], None]
    ) -> None:
        """Answer requests with a fixed number of workers, so that memory doesn't grow with the number of requests.

        After a fatal failure, running requests are still awaited, because they are billed anyway.
        """
        left = iter(requests)
        failures: list[BaseException] = []

        async def work() -> None:
            for request in left:
                if failures:
                    return
                try:
                    report(await self._answer(request))
                except Exception as error:
                    failures.append(error)

        await asyncio.gather(*(work() for _ in range(min(MAX_CONCURRENCY, len(requests)))))
        if failures:
            report(failures[0])

    async def _answer(self, request: Request, deliver: Deliver | None = None) -> Completion:
        """Answer a request. Without streaming, its limit applies to the answer alone and reasoning gets extra tokens.

        Whether a model reasons isn't always known in advance, so a request is repeated if reasoning cut off its answer.
        """
        if deliver is not None:
            return await self._with_retries(request, 0, deliver)
        room = self._room
        while True:
            answer = await self._with_retries(request, room)
            if not room and _cut_before_answer(answer):
                self._room = room = self._room or self._asked.room or THINKING_TOKENS
            elif room and answer.error is not None and _TOKEN_LIMIT.search(answer.error):
                room = room // 4 if room // 4 >= MIN_ROOM else 0  # the server's limit is lower
                self._room = min(self._room, room)
                if not room:
                    return await self._with_retries(request, 0)
            else:
                return answer

    async def _with_retries(self, request: Request, room: int, deliver: Deliver | None = None) -> Completion:
        """Answer a request and retry after errors, unless part of the answer has already been delivered."""
        highest_cost = max_cost(self._kind, self._name, request, request.max_tokens + room) or 0.0
        reserved, cost = await self._budget.reserve(highest_cost), None
        delivered_length, reason, is_reserved, left_s, attempts = 0, "", True, REQUEST_S, 0

        def on_text(text: str) -> None:
            nonlocal delivered_length
            delivered_length += len(text)
            if deliver:
                deliver(Piece(text))

        try:
            while attempts < ATTEMPTS and left_s > 0:
                before = delivered_length
                async with self._gate:
                    begun = time.monotonic()
                    result = await self._try(request, room, on_text, left_s)
                    left_s -= time.monotonic() - begun
                attempts += 1
                if isinstance(result, Completion):
                    self._gate.record_success()
                    self._failures_in_a_row = 0
                    cost = highest_cost if result.usd is None else result.usd
                    return result
                if delivered_length > before:  # aborted answers are billed too; each token has at least one character
                    cost = max_cost(self._kind, self._name, request, delivered_length - before)
                if not result.retryable or (deliver and delivered_length):
                    return failed(request, result.reason, transient=result.retryable)
                reason, wait = result.reason, wait_s(attempts - 1, result.wait_s)
                if result.too_many:
                    self._gate.back_off(wait)
                if attempts < ATTEMPTS and left_s > 0:
                    await asyncio.sleep(wait)
                    if cost is not None:
                        is_reserved = False
                        await self._budget.settle(reserved, cost)
                        reserved, cost, is_reserved = await self._budget.reserve(highest_cost), None, True
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise SizewiseError(
                    f"{MAX_FAILURES_IN_A_ROW} requests in a row to {self._uri} failed, each {attempts} times: {reason}",
                    "a service that answers; all answers so far are kept",
                    "run the same command again later",
                )
            tried = f"{attempts} attempts" if attempts > 1 else "1 attempt"
            return failed(request, f"gave up after {tried}: {reason}", transient=True)
        finally:
            if is_reserved:
                await self._budget.settle(reserved, cost)

    async def _try(
        self, request: Request, room: int, on_text: Callable[[str], None], longest_s: float
    ) -> Completion | Fault:
        """Send a request once, and wait at most so long for the whole answer.

        Raises:
            SizewiseError: all other requests would fail too.
        """
        from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior

        limit = asyncio.timeout(longest_s)
        try:
            async with limit:
                return await self._send(request, room, on_text)
        except TimeoutError:
            why = f"the answer wasn't complete after {REQUEST_S:g} s" if limit.expired() else "the service timed out"
            return Fault(why, retryable=True)
        except ModelAPIError as error:
            self._raise_if_fatal(error)
            return with_message(fault_of(error), last_body())
        except (UnexpectedModelBehavior, OSError, ValueError) as error:
            return with_message(fault_of(error), last_body())

    async def _send(self, request: Request, room: int, on_text: Callable[[str], None]) -> Completion:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta, ThinkingPart

        if request.question is not None and makes_decisions(self._kind, self._name):
            return await send_decision(self._client.client, self._name, request, TIMEOUT_S)
        begun, first = time.perf_counter(), None
        more: dict[str, Any] = {"model_request_parameters": client_tools(request.tools)} if request.tools else {}
        messages, seen = client_messages(request), expect_response()
        async with model_request_stream(
            self._client, messages, model_settings=self._settings(request, room), **more
        ) as stream:
            async for event in stream:
                first = first or time.perf_counter() - begun
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart) and event.part.content:
                    on_text(event.part.content)
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    on_text(event.delta.content_delta)
            response = stream.get()
        seconds = time.perf_counter() - begun
        spoken = "".join(part.content for part in response.parts if isinstance(part, TextPart))
        text = client_text(response.parts)
        if len(text) > len(spoken):  # calls arrive as a whole
            on_text(text[len(spoken) :])
        reasoning = "".join(part.content for part in response.parts if isinstance(part, ThinkingPart))
        # Other servers may omit the reason.
        may_omit = bool(text or reasoning) and self._kind not in PROVIDERS
        ended = ending_of(response, may_omit=may_omit)
        usage = response.usage
        counted = usage.input_tokens or usage.output_tokens
        usd = cost_of(self._kind, self._name, usage) if counted else None
        if ended == "withheld":
            withheld = failed(request, "the provider's content filter withheld the answer")
            return withheld.model_copy(update={"usd": usd})
        answer = Completion(
            id=request.id,
            text=text,
            reasoning=reasoning,
            reasoning_tokens=int(usage.details.get("reasoning_tokens") or usage.details.get("thoughts_tokens") or 0),
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            seconds=seconds,
            ttft_s=first,
            usd=usd,
            finish=ended,
            served_model=response.model_name or "",
            fingerprint=seen.fingerprint,
        )
        return with_counted_reasoning(answer)

    def _settings(self, request: Request, room: int) -> Any:
        """Return the parameters of a request in the client's form."""
        from pydantic_ai.settings import ModelSettings

        settings = ModelSettings(
            max_tokens=request.max_tokens + room,
            temperature=request.temperature,
            top_p=request.top_p,
            timeout=TIMEOUT_S,
        )
        if request.top_p == 1.0:
            del settings["top_p"]
        if room or self._asked.off:
            settings.update(self._reasoning_settings(request.max_tokens + room))  # type: ignore[typeddict-item]
        if self._kind == "anthropic" and self._asked.asked:  # with thinking, the API takes no other temperature
            settings.pop("temperature")
        if request.seed is not None:
            settings["seed"] = request.seed
        if request.stop:
            settings["stop_sequences"] = list(request.stop)
        return settings

    def _reasoning_settings(self, max_tokens: int) -> dict[str, Any]:
        return reasoning_settings(self._kind, self._asked, max_tokens, self._takes_budget)

    def _raise_if_fatal(self, error: Exception) -> None:
        """Raise an error for failures that all other requests would share."""
        from pydantic_ai.exceptions import ModelAuthenticationError, ModelNotFoundError, ModelQuotaExceededError

        key = PROVIDERS[self._kind].key if self._kind in PROVIDERS else "SIZEWISE_API_KEY"
        if isinstance(error, ModelAuthenticationError):
            raise SizewiseError(f"The key in {key} was rejected: {error}", "a valid key", f"export {key}=...")
        if isinstance(error, ModelQuotaExceededError):
            raise SizewiseError(
                f"The account's quota for {self._uri} is used up: {error}", "credit with the provider", ""
            )
        if isinstance(error, ModelNotFoundError):
            offered = [model for model in known_models().values() if model.uri.startswith(f"{self._kind}:")]
            names = [model.uri for model in offered if not is_retired(model)][:8]
            raise UsageError(
                f"The provider doesn't know {self._uri}: {error}",
                " or ".join(names) or "a model that this server offers",
                "sizewise models",
            )


# Matches errors about a token limit that is too high for the server.
_TOKEN_LIMIT = re.compile(r"max\w*[ _]?tokens|maximum (?:context|output)|context[ _](?:length|window)", re.IGNORECASE)


def _reasons(client: Any) -> bool:
    """Check whether a model is known to reason by default."""
    known = dict(client.profile or {})
    return bool(known.get("thinking_always_enabled") or known.get("thinking_enabled_by_default"))


def _cut_before_answer(answer: Completion) -> bool:
    """Check whether reasoning may have used up the limit. Some providers don't report reasoning."""
    return cut_by_reasoning(answer) or (answer.finish == "length" and not answer.text.strip())


async def _make_gate() -> Gate:
    return Gate()


def _client(kind: str, name: str, address: str, key: str) -> tuple[Any, Callable[[], Coroutine[Any, Any, None]]]:
    """Build the API client and the function that closes it. The client must not retry; this module does."""
    check_certificates()
    # Reasoning models choose their own temperature, and the client warns about it on every request.
    warnings.filterwarnings("ignore", "Sampling parameters", UserWarning)
    try:
        if kind == "anthropic":
            from anthropic import AsyncAnthropic
            from pydantic_ai.models.anthropic import AnthropicModel
            from pydantic_ai.providers.anthropic import AnthropicProvider

            client = AsyncAnthropic(api_key=key, base_url=address, max_retries=0)
            return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client)), client.close
        if kind == "google":
            from httpx2 import AsyncClient
            from pydantic_ai.models.google import GoogleModel
            from pydantic_ai.providers.google import GoogleProvider

            http = AsyncClient(timeout=TIMEOUT_S)
            google = GoogleProvider(api_key=key, base_url=address, http_client=http)
            return GoogleModel(name, provider=google), http.aclose
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.deepseek import DeepSeekProvider
        from pydantic_ai.providers.openai import OpenAIProvider

        http = DefaultAsyncHttpxClient(event_hooks={"response": [read_response]})
        openai = AsyncOpenAI(api_key=key, base_url=address, max_retries=0, http_client=http)
        provider = (DeepSeekProvider if kind == "deepseek" else OpenAIProvider)(openai_client=openai)
        return OpenAIChatModel(name, provider=provider), openai.close
    except ImportError as error:
        raise MissingExtraError("pydantic-ai-slim", "remote") from error
