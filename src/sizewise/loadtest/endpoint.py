"""load_test(): sends concurrent requests to any OpenAI-compatible endpoint and measures latency and throughput."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.loadtest.levels import (
    Limits,
    TimedAnswer,
    check_users,
    interval_notes,
    level_of,
    max_users_within_limits,
)
from sizewise.network import async_client
from sizewise.progress import Reporter, Silent
from sizewise.records import LoadLevel, LoadTest, fingerprint
from sizewise.store import Saved, Store, offline, versions

TIMEOUT_S = 300.0
"""Longest silence of a server within a request."""
REQUEST_S = 600.0
"""Longest request, however steadily the server sends; one that never ends its answer counts as failed."""
MIN_REQUESTS, REQUESTS_PER_USER = 24, 4
MIN_GAIN = 1.05  # ratio by which throughput must grow from one level to the next
NO_ENGINE = "not stated"
REASONING = ("reasoning_content", "reasoning")
"""Keys of a streamed delta that hold reasoning; servers use either."""
GENERATED = ("content", *REASONING, "refusal", "tool_calls")
"""Keys of a streamed delta that hold generated tokens."""
STORY = (
    "A small town keeps a library, a market and a school beside the river. Every morning the baker opens first, and "
    "the smell of bread draws people into the square before the bells ring. "
)


@dataclass(frozen=True)
class LoadOptions:
    """What a load test sends, and how."""

    model: str | None = None
    """Model to query; by default the first one that the endpoint lists."""
    rate: float | None = None
    """Requests per second with Poisson arrivals (open loop), instead of users that wait for answers (closed loop)."""
    requests: int | None = None
    """Requests per level; by default four per user and at least 24. To verify a limit on p95, 72 are needed."""
    max_tokens: int = 64
    """Token limit per answer."""
    key: str = ""
    """API key."""
    prompts: Sequence[str] = ()
    """Prompts to send in turn; by default distinct stories of about 40 words."""
    seed: int = 0
    """Seed of the arrival times."""


def load_test(
    url: str,
    concurrent_users: Sequence[int] = (1, 8, 32),
    *,
    options: LoadOptions | None = None,
    limits: Limits | None = None,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Saved[LoadTest]:
    """Load-test an OpenAI-compatible endpoint at one or more levels of concurrency, or at a request rate.

    Args:
        url: base URL, with or without `/v1`.
        concurrent_users: numbers of concurrent users, tried in ascending order until throughput stops growing.
        options: model, rate, prompts and size of the requests.
        limits: latency limits of a request, for goodput.
        store: where the record is kept; SIZEWISE_HOME by default.
        reporter: receives progress.

    Raises:
        UsageError: the URL, the numbers of users, the rate or the model is invalid.
        SizewiseError: the endpoint doesn't respond.
    """
    try:
        import httpx2
    except ImportError as error:
        raise MissingExtraError("httpx2", "loadtest") from error
    options, limits = options or LoadOptions(), limits or Limits()
    base = url.rstrip("/").removesuffix("/v1")
    _check(url, base, concurrent_users, options)
    progress = reporter or Silent()

    async def run() -> LoadTest:
        headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
        pool = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        async with async_client(timeout=TIMEOUT_S, limits=pool, headers=headers) as client:
            load = _LoadGenerator(client, base, options, limits)
            model, engine = await load.connect()
            levels, skipped = await load.run_levels(concurrent_users, progress)
            return LoadTest(
                url=base,
                model=model,
                engine=engine,
                max_tokens=options.max_tokens,
                prompt_words=float(np.mean([len(text.split()) for text in load.prompts])),
                ttft_slo_s=limits.ttft_s,
                tpot_slo_s=limits.tpot_s,
                levels=tuple(levels),
                max_concurrent_users=max_users_within_limits(levels),
                notes=(*_notes(skipped, load.only_reasoning, options.max_tokens, engine), *interval_notes(levels)),
                versions=versions("httpx2"),
            )

    record = asyncio.run(run())
    return (store or Store()).write(f"loadtest-{fingerprint(record.model_dump(mode='json'))}", record)


def _check(url: str, base: str, concurrent_users: Sequence[int], options: LoadOptions) -> None:
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).netloc:
        raise UsageError(f"'{url}' isn't a URL.", "http://host:port", "sizewise loadtest http://127.0.0.1:8000")
    if options.rate is not None and not 0 < options.rate < math.inf:
        raise UsageError(f"The request rate is {options.rate:g}.", "a positive number", "--rate poisson:5")
    if options.rate is None:
        check_users(concurrent_users)
    if options.requests is not None and options.requests < 1:
        raise UsageError(f"The number of requests is {options.requests}.", "at least 1", "--requests 24")
    if offline() and urlsplit(base).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise SizewiseError(
            f"SIZEWISE_OFFLINE forbids the connection to {base}.", "a server on this machine", "unset SIZEWISE_OFFLINE"
        )


def _notes(skipped: int, only_reasoning: int, max_tokens: int, engine: str) -> list[str]:
    notes = []
    if skipped:
        notes.append(f"Throughput stopped growing, so {skipped} higher levels were skipped.")
    if only_reasoning:
        notes.append(
            f"{only_reasoning} answers contained only reasoning, cut at {max_tokens} tokens before the answer began. "
            "Latencies cover the reasoning; raise --max-tokens to time the answers."
        )
    if engine == NO_ENGINE:
        notes.append("The endpoint doesn't report its engine, so these results describe this deployment only.")
    return notes


def _saturated(before: LoadLevel, after: LoadLevel, limit_s: float) -> bool:
    """Check whether more users only add waiting time: throughput no longer grows, and p95 TTFT exceeds the limit."""
    throughput = [level.scores["tokens_per_s"].value or 0.0 for level in (before, after)]
    ttft = after.scores["p95_ttft_s"].value
    return throughput[1] < MIN_GAIN * throughput[0] and (ttft is None or ttft > limit_s)


def _has_tokens(event: Mapping[str, Any], keys: Sequence[str] = GENERATED) -> bool:
    """Check whether a stream event holds generated tokens under one of the keys."""
    choices = event.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return any(delta.get(key) for key in keys)


class _LoadGenerator:
    """Sends requests to an endpoint and times the streamed answers."""

    def __init__(self, client: Any, base: str, options: LoadOptions, limits: Limits) -> None:
        self._client, self._base, self._options, self._limits = client, base, options, limits
        self._random = random.Random(options.seed)
        self.prompts = list(options.prompts) or [
            f"Story {i}: {STORY}Tell what happened on day {i * 37 % 365} of the year." for i in range(200)
        ]
        self._sent = 0
        self._model = ""
        self.only_reasoning = 0  # answers cut before their visible text began

    async def connect(self) -> tuple[str, str]:
        """Find the model and its engine, and send a warm-up request.

        Raises:
            UsageError: the endpoint doesn't serve the model.
            SizewiseError: the endpoint doesn't respond, or the warm-up request failed.
        """
        import httpx2

        try:
            listed = (await self._client.get(f"{self._base}/v1/models")).json()["data"]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise SizewiseError(
                f"Listing the models of {self._base} failed: {str(error) or type(error).__name__}",
                "a running OpenAI-compatible server",
                "sizewise serve MODEL --port 8000",
            ) from error
        wanted = self._options.model
        names = [str(entry["id"]) for entry in listed]
        if not names:
            raise UsageError(
                f"{self._base} lists no models.", "a server with a model", "sizewise serve MODEL --port 8000"
            )
        if wanted and wanted not in names:
            raise UsageError(f"{self._base} has no model '{wanted}'.", " or ".join(names), f"--model {names[0]}")
        self._model = wanted or names[0]
        entry = listed[names.index(self._model)]
        engine = f"{entry['engine']}, {entry.get('precision')}" if entry.get("engine") else NO_ENGINE
        warmup = await self._time_request()
        if warmup.error:
            raise SizewiseError(
                f"The warm-up request to {self._base} failed: {warmup.error}",
                "a streamed answer",
                "look at the log of the server; if it asks for a key, export SIZEWISE_API_KEY=...",
            )
        return self._model, engine

    async def run_levels(self, concurrent_users: Sequence[int], reporter: Reporter) -> tuple[list[LoadLevel], int]:
        """Run one open-loop level if a rate is set, else closed-loop levels; return them and the number skipped."""
        requests = self._options.requests
        if self._options.rate is not None:
            return [await self._open_loop(self._options.rate, requests or MIN_REQUESTS * 4, reporter)], 0
        levels: list[LoadLevel] = []
        counts = sorted(set(concurrent_users))
        for count in counts:
            number = requests or max(MIN_REQUESTS, REQUESTS_PER_USER * count)
            levels.append(await self._closed_loop(count, number, reporter))
            if len(levels) > 1 and _saturated(levels[-2], levels[-1], self._limits.ttft_s):
                break
        return levels, len(counts) - len(levels)

    async def _closed_loop(self, concurrent_users: int, requests: int, reporter: Reporter) -> LoadLevel:
        """Run concurrent users, each of which sends its next request when the previous one is answered."""
        answers: list[TimedAnswer] = []
        pending = iter(range(requests))

        async def user() -> None:
            for _ in pending:
                answer = await self._time_request()
                answers.append(answer._replace(ended_s=perf_counter() - begun))
                reporter.advance(f"Load test, {concurrent_users} users", len(answers), requests)

        begun = perf_counter()
        await asyncio.gather(*(user() for _ in range(concurrent_users)))
        return level_of(answers, perf_counter() - begun, self._limits, concurrent_users=concurrent_users)

    async def _open_loop(self, rate: float, requests: int, reporter: Reporter) -> LoadLevel:
        """Send requests with Poisson arrivals, whether or not earlier ones are answered."""
        answers: list[TimedAnswer] = []

        async def send() -> None:
            answer = await self._time_request()
            answers.append(answer._replace(ended_s=perf_counter() - begun))
            reporter.advance(f"Load test, {rate:g} requests/s", len(answers), requests)

        begun = perf_counter()
        tasks = []
        for _ in range(requests):
            tasks.append(asyncio.create_task(send()))
            await asyncio.sleep(self._random.expovariate(rate))
        await asyncio.gather(*tasks)
        return level_of(answers, perf_counter() - begun, self._limits, rate=rate)

    async def _time_request(self) -> TimedAnswer:
        import httpx2

        begun = perf_counter()
        try:
            async with asyncio.timeout(REQUEST_S):
                return await self._stream(begun)
        except (httpx2.HTTPError, ValueError, TimeoutError) as error:
            return TimedAnswer(type(error).__name__, 0.0, perf_counter() - begun, 0, ())

    async def _stream(self, begun: float) -> TimedAnswer:
        """Send the next prompt and time the pieces of the streamed answer."""
        self._sent += 1
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": self.prompts[self._sent % len(self.prompts)]}],
            "max_tokens": self._options.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        ttft, last, pieces, tokens, answered = 0.0, begun, 0, 0, False
        gaps: list[float] = []
        async with self._client.stream("POST", f"{self._base}/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                return TimedAnswer(f"status {response.status_code}", 0.0, perf_counter() - begun, 0, ())
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                if not data or data == "[DONE]":
                    continue
                event = json.loads(data)
                if "error" in event:
                    return TimedAnswer("error in the stream", 0.0, perf_counter() - begun, 0, ())
                tokens = (event.get("usage") or {}).get("completion_tokens") or tokens
                if _has_tokens(event):
                    answered = answered or not _has_tokens(event, REASONING)
                    now = perf_counter()
                    if pieces:
                        gaps.append(now - last)
                    else:
                        ttft = now - begun
                    pieces, last = pieces + 1, now
        if not pieces:
            kind = response.headers.get("content-type", "").partition(";")[0]
            why = f"the answer came as {kind}, not as a stream" if kind == "application/json" else "empty answer"
            return TimedAnswer(why, 0.0, perf_counter() - begun, 0, ())
        self.only_reasoning += not answered
        return TimedAnswer(None, ttft, last - begun, tokens or pieces, tuple(gaps))
