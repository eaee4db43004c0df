"""load(): many users against any endpoint of OpenAI's format."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.loadtest.levels import Limits, TimedAnswer, level_of
from sizewise.progress import Reporter, Silent
from sizewise.records import LoadLevel, LoadTest, fingerprint
from sizewise.store import Saved, Store, offline, versions

TIMEOUT_S = 300.0
LEAST_REQUESTS, REQUESTS_A_USER = 24, 4
WITHIN = 0.95
GAIN = 1.05  # throughput must grow by so much for more users to be worth a try
THOUGHTS = ("reasoning_content", "reasoning")
"""Parts of a streamed answer that are thoughts before it; servers name them in two ways."""
WRITTEN = ("content", *THOUGHTS, "refusal", "tool_calls")
"""All parts that a model writes token by token."""
SHARED_STORY = (
    "A small town keeps a library, a market and a school beside the river. Every morning the baker opens first, and "
    "the smell of bread draws people into the square before the bells ring. "
)


def load_test(
    url: str,
    concurrent_users: Sequence[int] = (1, 8, 32),
    *,
    model: str | None = None,
    rate: float | None = None,
    requests: int | None = None,
    max_tokens: int = 64,
    ttft_slo_s: float = 1.0,
    tpot_slo_s: float = 0.1,
    key: str = "",
    prompts: Sequence[str] = (),
    store: Store | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Saved[LoadTest]:
    """Ask an endpoint as many users would, and keep how it did.

    Args:
        url: base URL, with or without `/v1`.
        concurrent_users: numbers of users at once, tried from few to many until more of them bring nothing.
        model: model to ask; by default the first that the endpoint names.
        rate: requests a second at random times instead of users that wait for answers.
        requests: requests at each level; by default four a user and at least 24.
        max_tokens: longest answer.
        ttft_slo_s: longest time to the first token that users bear.
        tpot_slo_s: longest time of a further token that users bear.
        key: API key.
        prompts: what is asked, in turns; by default stories of 40 words that all differ.
        store: where the record lives.
        seed: seed of the times and the resampling.
        reporter: told how far it is.

    Raises:
        UsageError: there are no users, or no such URL.
        SizewiseError: nothing answers there.
    """
    try:
        import httpx2
    except ImportError as error:
        raise MissingExtraError("httpx2", "loadtest") from error
    base = url.rstrip("/").removesuffix("/v1")
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).netloc:
        raise UsageError(f"'{url}' is no address.", "http://host:port", "sizewise loadtest http://127.0.0.1:8000")
    if (
        (rate is None and (not concurrent_users or min(concurrent_users) < 1))
        or (rate is not None and not 0 < rate < math.inf)
        or (requests or 1) < 1
    ):
        raise UsageError("There is nobody to ask.", "--concurrency 1,8,32 or --rate poisson:5", "")
    if offline() and urlsplit(base).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise SizewiseError(f"SIZEWISE_OFFLINE forbids the connection to {base}.", "this machine", "")
    reporter = reporter or Silent()

    async def run() -> LoadTest:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        pool = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, limits=pool, headers=headers) as client:
            limits = Limits(ttft_slo_s, tpot_slo_s)
            crowd = _Crowd(client, base, max_tokens, prompts, seed, limits)
            name, engine = await crowd.meet(model)
            levels = []
            if rate is not None:
                levels.append(await crowd.at_rate(rate, requests or LEAST_REQUESTS * 4, reporter))
            for count in sorted(set(concurrent_users)) if rate is None else ():
                number = requests or max(LEAST_REQUESTS, REQUESTS_A_USER * count)
                levels.append(await crowd.together(count, number, reporter))
                if len(levels) > 1 and _saturated(levels[-2], levels[-1], ttft_slo_s):
                    break
            skipped = len(set(concurrent_users)) - len(levels) if rate is None else 0
            notes = [f"stopped here: more users bring no more answers ({skipped} levels left out)"] if skipped else []
            if crowd.only_thought:
                notes.append(
                    f"{crowd.only_thought} answers were thoughts only: {max_tokens} tokens ended them before the "
                    "answer began. Times are those of what was written; raise --max-tokens to time answers."
                )
            if engine == "not stated":
                notes.append("the endpoint does not name its engine: compare it as deployed only")
            good = [
                one.concurrent_users
                for one in levels
                if one.concurrent_users and (one.scores["within_limits"].value or 0) >= WITHIN
            ]
            return LoadTest(
                url=base,
                model=name,
                engine=engine,
                max_tokens=max_tokens,
                prompt_words=float(np.mean([len(text.split()) for text in crowd.prompts])),
                ttft_slo_s=ttft_slo_s,
                tpot_slo_s=tpot_slo_s,
                levels=tuple(levels),
                max_concurrent_users=max(good) if good else None,
                notes=tuple(notes),
                versions=versions("httpx2"),
            )

    record = asyncio.run(run())
    return (store or Store()).write(f"loadtest-{fingerprint(record.model_dump(mode='json'))}", record)


def _saturated(before: LoadLevel, now: LoadLevel, limit_s: float) -> bool:
    """Tell whether more users bring no more answers, only longer waiting."""
    rate = [one.scores["tokens_per_s"].value or 0.0 for one in (before, now)]
    first = now.scores["p95_ttft_s"].value
    return rate[1] < GAIN * rate[0] and (first is None or first > limit_s)


def _writes(event: Mapping[str, Any], parts: Sequence[str] = WRITTEN) -> bool:
    """Tell whether an event of a stream holds text: of an answer, of thoughts before it, or of a call of a tool."""
    choices = event.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return any(delta.get(part) for part in parts)


class _Crowd:
    """The users of an endpoint."""

    def __init__(
        self,
        client: Any,
        base: str,
        max_tokens: int,
        prompts: Sequence[str],
        seed: int,
        limits: Limits,
    ) -> None:
        self._client, self._base, self._max_tokens = client, base, max_tokens
        self._limits = limits
        self._random, self._seed = random.Random(seed), seed
        self.prompts = list(prompts) or [
            f"Story {i}: {SHARED_STORY}Tell what happened on day {i * 37 % 365} of the year." for i in range(200)
        ]
        self._asked = 0
        self._model = ""
        self.only_thought = 0  # answers that ended before they began

    async def meet(self, model: str | None) -> tuple[str, str]:
        """Find the model and what runs it.

        Raises:
            SizewiseError: nothing answers there, or not this model.
        """
        import httpx2

        try:
            found = (await self._client.get(f"{self._base}/v1/models")).json()["data"]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise SizewiseError(
                f"{self._base} does not say which models it has: {str(error) or type(error).__name__}",
                "a running server of OpenAI's format",
                "sizewise serve MODEL --port 8000",
            ) from error
        names = [str(one["id"]) for one in found]
        if not names or (model and model not in names):
            raise UsageError(f"{self._base} has no model '{model or ''}'.", " or ".join(names) or "a model", "")
        self._model = model or names[0]
        told = found[names.index(self._model)]
        engine = f"{told['engine']}, {told.get('precision')}" if told.get("engine") else "not stated"
        warm = await self._ask()
        if warm.error:
            raise SizewiseError(f"{self._base} does not answer: {warm.error}", "an answer", "")
        return self._model, engine

    async def together(self, concurrent_users: int, requests: int, reporter: Reporter) -> LoadLevel:
        """Let so many users ask, each again when it is answered."""
        answers: list[TimedAnswer] = []
        left = iter(range(requests))

        async def user() -> None:
            for _ in left:
                answers.append(await self._ask())
                reporter.advance(f"{concurrent_users} users", len(answers), requests)

        begun = perf_counter()
        await asyncio.gather(*(user() for _ in range(concurrent_users)))
        return level_of(
            answers, perf_counter() - begun, self._limits, concurrent_users=concurrent_users, seed=self._seed
        )

    async def at_rate(self, rate: float, requests: int, reporter: Reporter) -> LoadLevel:
        """Send requests at random times, whether or not the earlier ones are answered."""
        answers: list[TimedAnswer] = []

        async def one() -> None:
            answers.append(await self._ask())
            reporter.advance(f"{rate:g} requests a second", len(answers), requests)

        begun = perf_counter()
        tasks = []
        for _ in range(requests):
            tasks.append(asyncio.create_task(one()))
            await asyncio.sleep(self._random.expovariate(rate))
        await asyncio.gather(*tasks)
        return level_of(answers, perf_counter() - begun, self._limits, rate=rate, seed=self._seed)

    async def _ask(self) -> TimedAnswer:
        import httpx2

        self._asked += 1
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": self.prompts[self._asked % len(self.prompts)]}],
            "max_tokens": self._max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        begun = perf_counter()
        first, last, pieces, counted, answered = 0.0, begun, 0, 0, False
        gaps: list[float] = []
        try:
            async with self._client.stream("POST", f"{self._base}/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    return TimedAnswer(f"status {answer.status_code}", 0.0, perf_counter() - begun, 0, ())
                async for line in answer.aiter_lines():
                    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if not data or data == "[DONE]":
                        continue
                    event = json.loads(data)
                    if "error" in event:
                        return TimedAnswer("error in the stream", 0.0, perf_counter() - begun, 0, ())
                    counted = (event.get("usage") or {}).get("completion_tokens") or counted
                    if _writes(event):
                        answered = answered or not _writes(event, THOUGHTS)
                        now = perf_counter()
                        if pieces:
                            gaps.append(now - last)
                        else:
                            first = now - begun
                        pieces, last = pieces + 1, now
        except (httpx2.HTTPError, ValueError) as error:
            return TimedAnswer(type(error).__name__, 0.0, perf_counter() - begun, 0, ())
        if not pieces:
            return TimedAnswer("empty answer", 0.0, perf_counter() - begun, 0, ())
        self.only_thought += not answered
        return TimedAnswer(None, first, last - begun, counted or pieces, tuple(gaps))
