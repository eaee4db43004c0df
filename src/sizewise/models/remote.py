"""Models behind an API: OpenAI, Anthropic, Google, DeepSeek, Mistral, and any server with an OpenAI-compatible API.

The official clients, through pydantic-ai, send the requests. This module adds what evaluations need: concurrency that
adapts to the provider's limits, retries, a budget, and a ledger of answers, so that no answer is paid for twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.models.base import Cancel, Deliver, Model, Piece, ScoredText, failed
from sizewise.models.catalog import find_model, load_catalog
from sizewise.models.conversations import client_messages, client_text, client_tools, read_image
from sizewise.models.openai_logprobs import EchoScorer
from sizewise.models.patience import MAX_CONCURRENCY, Fault, Gate, fault_of, wait_s
from sizewise.models.spending import Budget, cost_of, max_cost
from sizewise.models.thinking import THINKING_TOKENS, cut_by_reasoning
from sizewise.records import Completion, ModelDescription, Request, fingerprint
from sizewise.store import Ledger, offline

TIMEOUT_S = 120.0
ATTEMPTS = 6
MAX_FAILURES_IN_A_ROW = 20  # after this many failed requests, the service counts as down
TOPIC, ROOMY_TOPIC = "answers", "answers with room for thoughts"
MIN_ROOM = 1_024  # tokens for reasoning; a server that allows fewer gets no extra tokens


class Provider(NamedTuple):
    """API of a URI scheme."""

    title: str
    key: str
    """Environment variable of the API key."""
    address: str
    """Environment variable of an alternative base URL."""
    default: str | None
    """Default base URL."""


PROVIDERS = {
    "openai": Provider("OpenAI", "OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "anthropic": Provider("Anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "google": Provider(
        "Google", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", "https://generativelanguage.googleapis.com"
    ),
    "deepseek": Provider("DeepSeek", "DEEPSEEK_API_KEY", "DEEPSEEK_BASE_URL", "https://api.deepseek.com"),
    "mistral": Provider("Mistral", "MISTRAL_API_KEY", "MISTRAL_BASE_URL", "https://api.mistral.ai/v1"),
}


class RemoteModel(Model):
    """A model behind an API.

    Args:
        uri: `openai:gpt-4o` or another provider's model, or `http://host:port/v1#name`.
        answers: file that caches answers.
        max_usd: budget while the model is open; None for no limit.

    Raises:
        UsageError: the URI names no model.
        SizewiseError: the API key is missing, no price is known for the budget, or connections are forbidden.
        MissingExtraError: the API clients are not installed.
    """

    def __init__(self, uri: str, answers: Path, max_usd: float | None = None) -> None:
        kind, name, address, key = _resolve(uri)
        self._uri, self._kind, self._name, self._address = uri, kind, name, address
        self._client, self._disconnect = _client(kind, name, address, key)
        self._budget = Budget(max_usd)
        self._room = THINKING_TOKENS if _reasons(self._client) else 0
        if max_usd is not None and max_cost(kind, name, Request(id="", text=""), 1000) is None:
            raise SizewiseError(
                f"No price is known for {uri}, so --max-usd can't be enforced.",
                "a model with a list price (genai-prices)",
                "run the same command without --max-usd",
            )
        self._echo = EchoScorer.find(address, name, key) if kind in ("http", "https") else None
        self._ledger = Ledger(answers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=uri, daemon=True)
        self._thread.start()
        self._gate = self._await(_make_gate())
        self._failures_in_a_row = 0
        self._bypass_kept = False

    def _await(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def describe(self) -> ModelDescription:
        """Describe the model."""
        known = find_model(self._uri)
        title = PROVIDERS[self._kind].title if self._kind in PROVIDERS else urlsplit(self._address).netloc
        return ModelDescription(
            uri=self._uri,
            origin=f"{self._name}, served by {title}",
            license=(known.license if known and known.license else "terms of the provider"),
            engine=f"API of {title}",
            precision="not published",
            attention=(known.attention if known and known.attention else "not published"),
            context=known.context if known else None,
            parameters=known.parameters if known else None,
            can_score=self._echo is not None,
            can_chat=True,
            offers=("sampling", "tools"),
            can_see="image" in known.modalities if known and known.modalities else True,
            local=_is_loopback(self._address),
            api=True,
        )

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return self._echo.signature() if self._echo else "none"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate answers and yield them as they arrive. Cached answers cost nothing.

        Raises:
            SizewiseError: the key is rejected, the model is unknown, the budget is used up, or the service is down.
                Answers received before the error are kept.
        """
        todo = []
        for request in requests:
            kept = self._kept(request)
            if kept is None:
                todo.append(request)
            else:
                yield kept
        arrived: SimpleQueue[Completion | BaseException] = SimpleQueue()
        work = asyncio.run_coroutine_threadsafe(self._answer_all(todo, arrived.put), self._loop)
        by_id = {request.id: request for request in todo}
        try:
            for _ in todo:
                answer = arrived.get()
                if isinstance(answer, BaseException):
                    raise answer
                if answer.error is None:
                    self._keep(by_id[answer.id], answer)
                yield answer
        finally:
            work.cancel()

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

        work = asyncio.run_coroutine_threadsafe(answer(), self._loop)

        def cancel() -> None:
            work.cancel()

        return cancel

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Compute token log-likelihoods, if the server supports `echo` with `logprobs`.

        Raises:
            SizewiseError: the server doesn't support it; no provider's chat API does.
        """
        if self._echo is None:
            raise SizewiseError(f"{self._uri} provides no log-likelihoods of text.", "a local model", "")
        yield from self._echo.score(texts, prefix=prefix)

    def close(self) -> None:
        """Close connections and files."""
        self._await(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()
        self._ledger.close()

    async def _end(self) -> None:
        await self._disconnect()
        await self._loop.shutdown_asyncgens()
        await asyncio.sleep(0.01)  # sockets close in the next iterations of the loop

    @property
    def spent_usd(self) -> float:
        """US dollars spent since the model was opened, at list prices."""
        return self._budget.spent

    def _key(self, request: Request) -> str:
        fields = request.model_dump(mode="json", exclude={"id", "copy_text"}, exclude_defaults=True)
        images = [
            hashlib.sha256(raw).hexdigest()
            for message in request.messages
            for raw, _ in map(read_image, message.images)
        ]
        return fingerprint([self._kind, self._name, self._address, fields, *images])

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
        if self._bypass_kept:
            return
        key = self._key(request)
        topic = ROOMY_TOPIC if self._ledger.entry(TOPIC, key) or _cut_before_answer(answer) else TOPIC
        today = datetime.now(UTC).date().isoformat()
        self._ledger.append(topic, key, answer.model_dump(mode="json") | {"kept_from": today})

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
                self._room = room = self._room or THINKING_TOKENS
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
        delivered_length, reason, is_reserved = 0, "", True

        def on_text(text: str) -> None:
            nonlocal delivered_length
            delivered_length += len(text)
            if deliver:
                deliver(Piece(text))

        try:
            for attempt in range(ATTEMPTS):
                before = delivered_length
                async with self._gate:
                    result = await self._try(request, room, on_text)
                if isinstance(result, Completion):
                    self._gate.record_success()
                    self._failures_in_a_row = 0
                    cost = highest_cost if result.usd is None else result.usd
                    return result
                if delivered_length > before:  # aborted answers are billed too; each token has at least one character
                    cost = max_cost(self._kind, self._name, request, delivered_length - before)
                if not result.retryable or (deliver and delivered_length):
                    return failed(request, result.reason, transient=result.retryable)
                reason, wait = result.reason, wait_s(attempt, result.wait_s)
                if result.too_many:
                    self._gate.back_off(wait)
                if attempt + 1 < ATTEMPTS:
                    await asyncio.sleep(wait)
                    if cost is not None:
                        is_reserved = False
                        await self._budget.settle(reserved, cost)
                        reserved, cost, is_reserved = await self._budget.reserve(highest_cost), None, True
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise SizewiseError(
                    f"{MAX_FAILURES_IN_A_ROW} requests in a row to {self._uri} failed, each {ATTEMPTS} times: {reason}",
                    "a service that answers; all answers so far are kept",
                    "run the same command again later",
                )
            return failed(request, f"gave up after {ATTEMPTS} attempts: {reason}", transient=True)
        finally:
            if is_reserved:
                await self._budget.settle(reserved, cost)

    async def _try(self, request: Request, room: int, on_text: Callable[[str], None]) -> Completion | Fault:
        """Send a request once.

        Raises:
            SizewiseError: all other requests would fail too.
        """
        from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior

        try:
            return await self._send(request, room, on_text)
        except ModelAPIError as error:
            self._raise_if_fatal(error)
            return fault_of(error)
        except (UnexpectedModelBehavior, OSError, ValueError) as error:
            return fault_of(error)

    async def _send(self, request: Request, room: int, on_text: Callable[[str], None]) -> Completion:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.exceptions import UnexpectedModelBehavior
        from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta, ThinkingPart
        from pydantic_ai.settings import ModelSettings

        settings = ModelSettings(
            max_tokens=request.max_tokens + room,
            temperature=request.temperature,
            top_p=request.top_p,
            timeout=TIMEOUT_S,
        )
        if request.top_p == 1.0:
            del settings["top_p"]
        if request.seed is not None:
            settings["seed"] = request.seed
        if request.stop:
            settings["stop_sequences"] = list(request.stop)
        begun = time.perf_counter()
        first = None
        more: dict[str, Any] = {"model_request_parameters": client_tools(request.tools)} if request.tools else {}
        messages = client_messages(request)
        async with model_request_stream(self._client, messages, model_settings=settings, **more) as stream:
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
        ended = response.finish_reason or (response.provider_details or {}).get("finish_reason")
        if not ended and (not (text or reasoning) or self._kind in PROVIDERS):  # other servers may omit the reason
            raise UnexpectedModelBehavior("the stream ended before the answer was complete")
        usage = response.usage
        counted = usage.input_tokens or usage.output_tokens
        usd = cost_of(self._kind, self._name, usage) if counted else None
        if response.finish_reason == "content_filter":
            withheld = failed(request, "the provider's content filter withheld the answer")
            return withheld.model_copy(update={"usd": usd})
        return Completion(
            id=request.id,
            text=text,
            reasoning=reasoning,
            reasoning_tokens=int(usage.details.get("reasoning_tokens") or usage.details.get("thoughts_tokens") or 0),
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            seconds=seconds,
            ttft_s=first,
            usd=usd,
            finish="length" if response.finish_reason == "length" else "stop",
        )

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
            names = [model.uri for model in load_catalog().values() if model.uri.startswith(f"{self._kind}:")]
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


def _resolve(uri: str) -> tuple[str, str, str, str]:
    """Return scheme, model name, base URL and API key of a URI."""
    kind, _, name = uri.partition(":")
    if kind in ("http", "https"):
        address, _, name = uri.partition("#")
        if not urlsplit(address).netloc:
            raise UsageError(f"'{uri}' names no server.", "http://host:port/v1#model", "sizewise models")
        key = os.environ.get("SIZEWISE_API_KEY") or "none"
    else:
        provider = PROVIDERS[kind]
        address = os.environ.get(provider.address) or provider.default or ""
        key = os.environ.get(provider.key, "")
        if not key and name:
            raise SizewiseError(
                f"{provider.title} needs an API key, but {provider.key} is not set.",
                f"a key in {provider.key}; recorded answers (recorded:FILE) and local models need none",
                f"export {provider.key}=...",
            )
    if not name:
        raise UsageError(f"'{uri}' names no model.", "openai:gpt-4o or http://host:port/v1#name", "sizewise models")
    if offline() and not _is_loopback(address):
        raise SizewiseError(
            f"SIZEWISE_OFFLINE forbids the connection to {urlsplit(address).netloc} that {uri} needs.",
            "a local model",
            "unset SIZEWISE_OFFLINE",
        )
    return kind, name, address, key


def _is_loopback(address: str) -> bool:
    return (urlsplit(address).hostname or "") in ("127.0.0.1", "localhost", "::1")


def _client(kind: str, name: str, address: str, key: str) -> tuple[Any, Callable[[], Coroutine[Any, Any, None]]]:
    """Build the API client and the function that closes it. The client must not retry; this module does."""
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
        from openai import AsyncOpenAI
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.deepseek import DeepSeekProvider
        from pydantic_ai.providers.openai import OpenAIProvider

        openai = AsyncOpenAI(api_key=key, base_url=address, max_retries=0)
        provider = (
            DeepSeekProvider(openai_client=openai) if kind == "deepseek" else OpenAIProvider(openai_client=openai)
        )
        return OpenAIChatModel(name, provider=provider), openai.close
    except ImportError as error:
        raise MissingExtraError("pydantic-ai-slim", "remote") from error
