"""Models behind an API: OpenAI, Anthropic, Google, DeepSeek, Mistral, and any server that speaks OpenAI's format.

The official clients do the talking (through pydantic-ai); what is added here is what a measurement needs: requests at
once that adapt to what the provider allows, patience with faults, a budget, and answers that are never paid for twice.
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
from sizewise.models.conversations import client_messages, read_image
from sizewise.models.openai_logprobs import EchoScorer
from sizewise.models.patience import MOST_AT_ONCE, Fault, Gate, fault_of, wait_s
from sizewise.models.spending import Budget, cost_of, most_cost
from sizewise.models.thinking import THINKING_TOKENS, cut_in_thought
from sizewise.records import Completion, ModelDescription, Request, fingerprint
from sizewise.store import Ledger, offline

TIMEOUT_S = 120.0
ATTEMPTS = 6
FAILED_IN_A_ROW = 20  # requests given up one after the other: the service is down
TOPIC, ROOMY_TOPIC = "answers", "answers with room for thoughts"
LEAST_ROOM = 1_024  # tokens for thoughts; a server that does not give so many gets none


class Provider(NamedTuple):
    """Where a kind of URI is served."""

    title: str
    key: str
    """Environment variable with the key."""
    address: str
    """Environment variable with another address than the provider's own."""
    default: str | None
    """Address, where the client does not know it."""


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
        uri: `openai:gpt-4o` and the like, or `http://host:port/v1#name`.
        answers: file of answers that were given before.
        max_usd: most that may be spent while it is open; None for no bound.

    Raises:
        UsageError: the URI names no model.
        SizewiseError: the key is missing, there is no price for a budget, or connections are forbidden.
        MissingExtraError: the clients are not installed.
    """

    def __init__(self, uri: str, answers: Path, max_usd: float | None = None) -> None:
        kind, name, address, key = _where(uri)
        self._uri, self._kind, self._name, self._address = uri, kind, name, address
        self._client, self._disconnect = _client(kind, name, address, key)
        self._budget = Budget(max_usd)
        self._room = THINKING_TOKENS if _thinks(self._client) else 0
        if max_usd is not None and most_cost(kind, name, Request(id="", text=""), 1000) is None:
            raise SizewiseError(
                f"No price is known for {uri}, so --max-usd cannot be kept.",
                "a model with a list price (genai-prices)",
                "the same command without --max-usd",
            )
        self._echo = EchoScorer.find(address, name, key) if kind in ("http", "https") else None
        self._ledger = Ledger(answers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=uri, daemon=True)
        self._thread.start()
        self._gate = self._run(_make_gate())
        self._given_up = 0
        self._anew = False

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
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
            offers=("sampling",),
            can_see="image" in known.modalities if known and known.modalities else True,
            local=_is_loopback(self._address),
            api=True,
        )

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return self._echo.signature() if self._echo else "none"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer requests as answers arrive; one that was answered before costs nothing.

        Raises:
            SizewiseError: the key is refused, the model is not known, the budget ends, or the service is down. Answers
                that were given are kept.
        """
        todo = []
        for request in requests:
            known = self._known(request)
            if known is None:
                todo.append(request)
            else:
                yield known
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

    def bypass_kept_answers(self) -> None:
        """Use no answers that were kept, and keep none."""
        self._anew = True

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Begin to answer; what arrives is passed on at once, and nothing is kept."""

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
        """Give token log-likelihoods where the server gives them (`echo` with `logprobs`).

        Raises:
            SizewiseError: it gives none, as the providers' own chat APIs.
        """
        if self._echo is None:
            raise SizewiseError(f"{self._uri} gives no log-likelihoods of text.", "a model that runs here", "")
        yield from self._echo.score(texts, prefix=prefix)

    def close(self) -> None:
        """Close connections and files."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()
        self._ledger.close()

    async def _end(self) -> None:
        await self._disconnect()
        await self._loop.shutdown_asyncgens()
        await asyncio.sleep(0.01)  # sockets close in the turns after

    @property
    def spent_usd(self) -> float:
        """US dollars spent since it was opened, by list prices."""
        return self._budget.spent

    def _key(self, request: Request) -> str:
        asked = request.model_dump(mode="json", exclude={"id", "copy_text"}, exclude_defaults=True)
        shown = [
            hashlib.sha256(raw).hexdigest()
            for message in request.messages
            for raw, _ in map(read_image, message.images)
        ]
        return fingerprint([self._kind, self._name, self._address, asked, *shown])

    def _known(self, request: Request) -> Completion | None:
        """Return the answer that was given before; one whose thoughts took its room is none."""
        for topic in () if self._anew else (ROOMY_TOPIC, TOPIC):
            known = self._ledger.entry(topic, self._key(request))
            if known is not None:
                answer = Completion.model_validate({"kept_from": "an unknown day"} | known | {"id": request.id})
                if topic == ROOMY_TOPIC or not _cut_before_its_end(answer):
                    return answer
        return None

    def _keep(self, request: Request, answer: Completion) -> None:
        if self._anew:
            return
        key = self._key(request)
        topic = ROOMY_TOPIC if self._ledger.entry(TOPIC, key) or _cut_before_its_end(answer) else TOPIC
        today = datetime.now(UTC).date().isoformat()
        self._ledger.append(topic, key, answer.model_dump(mode="json") | {"kept_from": today})

    # -- in the loop's thread -----------------------------------------------------------------------

    async def _answer_all(
        self, requests: Sequence[Request], tell: Callable[[Completion | BaseException], None]
    ) -> None:
        """Answer requests with as many workers as may ever be under way, so that memory does not grow with them.

        After a failure that ends all, what is under way is still waited for: it is paid for.
        """
        left = iter(requests)
        failures: list[BaseException] = []

        async def work() -> None:
            for request in left:
                if failures:
                    return
                try:
                    tell(await self._answer(request))
                except Exception as error:
                    failures.append(error)

        await asyncio.gather(*(work() for _ in range(min(MOST_AT_ONCE, len(requests)))))
        if failures:
            tell(failures[0])

    async def _answer(self, request: Request, deliver: Deliver | None = None) -> Completion:
        """Answer a request; where nothing is delivered its limit is that of the answer: thoughts have their own room.

        Whether a model thinks is not always known before: an answer that its thoughts cut is asked for again.
        """
        if deliver is not None:
            return await self._patiently(request, 0, deliver)
        room = self._room
        while True:
            answer = await self._patiently(request, room)
            if not room and _cut_before_its_end(answer):
                self._room = room = self._room or THINKING_TOKENS
            elif room and answer.error is not None and _OF_TOKENS.search(answer.error):
                room = room // 4 if room // 4 >= LEAST_ROOM else 0  # the server's own limit is lower
                self._room = min(self._room, room)
                if not room:
                    return await self._patiently(request, 0)
            else:
                return answer

    async def _patiently(self, request: Request, room: int, deliver: Deliver | None = None) -> Completion:
        """Answer a request, with patience while nothing of the answer was passed on."""
        dearest = most_cost(self._kind, self._name, request, request.max_tokens + room) or 0.0
        reserved, cost = await self._budget.reserve(dearest), None
        passed_on, reason, held = 0, "", True

        def told(text: str) -> None:
            nonlocal passed_on
            passed_on += len(text)
            if deliver:
                deliver(Piece(text))

        try:
            for attempt in range(ATTEMPTS):
                before = passed_on
                async with self._gate:
                    got = await self._try(request, room, told)
                if isinstance(got, Completion):
                    self._gate.went_well()
                    self._given_up = 0
                    cost = dearest if got.usd is None else got.usd
                    return got
                if passed_on > before:  # what breaks off is billed, too; a token has one letter or more
                    cost = most_cost(self._kind, self._name, request, passed_on - before)
                if not got.passing or (deliver and passed_on):
                    return failed(request, got.reason, transient=got.passing)
                reason, wait = got.reason, wait_s(attempt, got.wait_s)
                if got.too_many:
                    self._gate.too_many(wait)
                if attempt + 1 < ATTEMPTS:
                    await asyncio.sleep(wait)
                    if cost is not None:
                        held = False
                        await self._budget.settle(reserved, cost)
                        reserved, cost, held = await self._budget.reserve(dearest), None, True
            self._given_up += 1
            if self._given_up >= FAILED_IN_A_ROW:
                raise SizewiseError(
                    f"{self._uri} gave up {FAILED_IN_A_ROW} requests in a row, each {ATTEMPTS} times: {reason}",
                    "a service that answers; all answers so far are kept",
                    "run the same command again later",
                )
            return failed(request, f"given up after {ATTEMPTS} attempts: {reason}", transient=True)
        finally:
            if held:
                await self._budget.settle(reserved, cost)

    async def _try(self, request: Request, room: int, told: Callable[[str], None]) -> Completion | Fault:
        """Ask once.

        Raises:
            SizewiseError: no other request would be answered either.
        """
        from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior

        try:
            return await self._ask(request, room, told)
        except ModelAPIError as error:
            self._refuse_fatal(error)
            return fault_of(error)
        except (UnexpectedModelBehavior, OSError, ValueError) as error:
            return fault_of(error)

    async def _ask(self, request: Request, room: int, told: Callable[[str], None]) -> Completion:
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
        async with model_request_stream(self._client, client_messages(request), model_settings=settings) as stream:
            async for event in stream:
                first = first or time.perf_counter() - begun
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart) and event.part.content:
                    told(event.part.content)
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    told(event.delta.content_delta)
            response = stream.get()
        seconds = time.perf_counter() - begun
        text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
        thought = "".join(part.content for part in response.parts if isinstance(part, ThinkingPart))
        ended = response.finish_reason or (response.provider_details or {}).get("finish_reason")
        if not ended and (not (text or thought) or self._kind in PROVIDERS):  # other servers may not tell why
            raise UnexpectedModelBehavior("the stream ended before the answer did")
        usage = response.usage
        counted = usage.input_tokens or usage.output_tokens
        usd = cost_of(self._kind, self._name, usage) if counted else None
        if response.finish_reason == "content_filter":
            held = failed(request, "the provider's content filter held the answer back")
            return held.model_copy(update={"usd": usd})
        return Completion(
            id=request.id,
            text=text,
            reasoning=thought,
            reasoning_tokens=int(usage.details.get("reasoning_tokens") or usage.details.get("thoughts_tokens") or 0),
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            seconds=seconds,
            ttft_s=first,
            usd=usd,
            finish="length" if response.finish_reason == "length" else "stop",
        )

    def _refuse_fatal(self, error: Exception) -> None:
        """Stop for what no other request would escape either."""
        from pydantic_ai.exceptions import ModelAuthenticationError, ModelNotFoundError, ModelQuotaExceededError

        key = PROVIDERS[self._kind].key if self._kind in PROVIDERS else "SIZEWISE_API_KEY"
        if isinstance(error, ModelAuthenticationError):
            raise SizewiseError(f"The key in {key} was refused: {error}", "a key that is valid", f"export {key}=...")
        if isinstance(error, ModelQuotaExceededError):
            raise SizewiseError(f"{self._uri}: the account's quota is used up: {error}", "credit with the provider", "")
        if isinstance(error, ModelNotFoundError):
            names = [model.uri for model in load_catalog().values() if model.uri.startswith(f"{self._kind}:")]
            raise UsageError(
                f"{self._uri} is not known there: {error}",
                " or ".join(names) or "a model of the server",
                "sizewise models",
            )


# How servers say that more tokens were asked for than they give.
_OF_TOKENS = re.compile(r"max\w*[ _]?tokens|maximum (?:context|output)|context[ _](?:length|window)", re.IGNORECASE)


def _thinks(client: Any) -> bool:
    """Tell whether a model is known to think before it answers, unless it is told not to."""
    known = dict(client.profile or {})
    return bool(known.get("thinking_always_enabled") or known.get("thinking_enabled_by_default"))


def _cut_before_its_end(answer: Completion) -> bool:
    """Tell whether thoughts may have taken the room of an answer; some providers show nothing of them."""
    return cut_in_thought(answer) or (answer.finish == "length" and not answer.text.strip())


async def _make_gate() -> Gate:
    return Gate()


def _where(uri: str) -> tuple[str, str, str, str]:
    """Give kind, model name, address and key of a URI."""
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
                f"{provider.title} wants a key, and {provider.key} is not set.",
                f"a key in {provider.key}; answers you already have (recorded:FILE) and models that run here need none",
                f"export {provider.key}=...",
            )
    if not name:
        raise UsageError(f"'{uri}' names no model.", "openai:gpt-4o or http://host:port/v1#name", "sizewise models")
    if offline() and not _is_loopback(address):
        raise SizewiseError(
            f"SIZEWISE_OFFLINE forbids the connection to {urlsplit(address).netloc} that {uri} needs.",
            "a model that runs here",
            "unset SIZEWISE_OFFLINE",
        )
    return kind, name, address, key


def _is_loopback(address: str) -> bool:
    return (urlsplit(address).hostname or "") in ("127.0.0.1", "localhost", "::1")


def _client(kind: str, name: str, address: str, key: str) -> tuple[Any, Callable[[], Coroutine[Any, Any, None]]]:
    """Build the official client, and what closes it; it shall not try again by itself: patience is ours."""
    # Models that think choose their own temperature; the client says so at every request.
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

        talk = AsyncOpenAI(api_key=key, base_url=address, max_retries=0)
        provider = DeepSeekProvider(openai_client=talk) if kind == "deepseek" else OpenAIProvider(openai_client=talk)
        return OpenAIChatModel(name, provider=provider), talk.close
    except ImportError as error:
        raise MissingExtraError("pydantic-ai-slim", "remote") from error
