"""Score text with servers that echo the prompt, like vLLM: `/v1/completions` with `echo` and `logprobs`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sizewise.errors import ScoringError, SizewiseError
from sizewise.lm.text_stream import UNFINISHED
from sizewise.models.background import BackgroundLoop
from sizewise.models.base import ScoredText
from sizewise.models.patience import RETRYABLE_STATUSES, requested_wait_s, wait_s
from sizewise.network import async_client

TIMEOUT_S = 300.0
"""Time for one attempt, however slowly the server sends."""
PROBE_S = 120.0
"""Time for all attempts of the probe."""
ATTEMPTS, PROBE_ATTEMPTS = 6, 3
MAX_FAILURES_IN_A_ROW = 5  # after this many texts that failed on every attempt, the server counts as down
PROBE = "One two three."
NEAR = 32  # characters to search for a token that follows a split character


class EchoScorer:
    """A server that returns the log-likelihoods of a prompt's tokens.

    Such servers don't score the first token of a text. It is left out, so its bytes count as zero bits.

    Args:
        address: base URL, for example `http://host:port/v1`.
        name: model name.
        key: bearer token.
    """

    def __init__(self, address: str, name: str, key: str) -> None:
        self._address, self._name, self._key = address.rstrip("/"), name, key
        self._failures_in_a_row = 0

    @classmethod
    def find(cls, address: str, name: str, key: str) -> EchoScorer | None:
        """Probe a server with a few words; return None if it provides no log-likelihoods."""
        scorer = cls(address, name, key)
        try:
            return scorer if len(scorer._request(PROBE, PROBE_ATTEMPTS, PROBE_S).nats) > 1 else None
        except (SizewiseError, KeyError, TypeError, IndexError, ValueError):
            return None

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return "echo of the server|first token:left out"

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Score texts, each in one request.

        Raises:
            ScoringError: the server rejects a text, for example because of its length, or failed on every attempt.
            SizewiseError: the server failed on several texts in a row.
        """
        for text in texts:
            try:
                scored = self._request(text, ATTEMPTS, ATTEMPTS * TIMEOUT_S)
            except ScoringError as error:
                self._failures_in_a_row = self._failures_in_a_row + 1 if error.transient else 0
                if self._failures_in_a_row < MAX_FAILURES_IN_A_ROW:
                    raise
                raise SizewiseError(
                    f"{self._failures_in_a_row} texts in a row failed, each {ATTEMPTS} times: {error.what}",
                    "a server that answers; all scores so far are kept",
                    "run the same command again later",
                ) from error
            self._failures_in_a_row = 0
            yield scored

    def _request(self, text: str, attempts: int, total_s: float) -> ScoredText:
        loop = BackgroundLoop("scores")
        try:
            return loop.wait(self._score(text, attempts, total_s))
        finally:
            loop.close()

    async def _score(self, text: str, attempts: int, total_s: float) -> ScoredText:
        import httpx2

        body = {"model": self._name, "prompt": text, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
        headers = {"Authorization": f"Bearer {self._key}"}
        reason, requested, retryable = "", None, True
        until = time.monotonic() + total_s
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(wait_s(attempt - 1, requested))
            requested, longest_s = None, min(TIMEOUT_S, until - time.monotonic())
            if longest_s <= 0:
                break
            try:
                async with asyncio.timeout(longest_s), async_client(timeout=longest_s) as client:
                    answer = await client.post(f"{self._address}/completions", json=body, headers=headers)
            except (httpx2.HTTPError, TimeoutError) as error:
                reason = str(error) or f"no answer within {longest_s:g} s"
                continue
            if answer.status_code == 200:
                try:
                    return _read(answer.json(), text)
                except (ValueError, KeyError, TypeError, IndexError) as error:  # a truncated body, or a proxy's page
                    reason = f"the answer can't be read: {str(error) or type(error).__name__}"
                    continue
            reason, requested = f"{answer.status_code} {answer.text[:300]}", requested_wait_s(answer.headers)
            retryable = answer.status_code >= 500 or answer.status_code in RETRYABLE_STATUSES
            if not retryable:
                break
        raise ScoringError(
            f"The server failed to score a text of {len(text):,} characters: {reason}", transient=retryable
        )


def _read(body: dict[str, Any], text: str) -> ScoredText:
    """Extract the prompt's tokens from a response; the tokens after them were generated."""
    logprobs = body["choices"][0]["logprobs"]
    tokens, offsets, values = logprobs["tokens"], logprobs["text_offset"], logprobs["token_logprobs"]
    count = (body.get("usage") or {}).get("prompt_tokens") or sum(start < len(text) for start in offsets)
    starts = _starts(text, tokens[:count], offsets[:count])
    kept = [(-float(value), start) for value, start in zip(values[:count], starts, strict=True) if value is not None]
    if not kept:
        raise ScoringError("The server returned no log-likelihoods of this text.", transient=False)
    nats, first_characters = zip(*kept, strict=True)
    return ScoredText(np.array(nats, dtype=np.float64), np.array(first_characters, dtype=np.int64))


def _starts(text: str, tokens: Sequence[str], offsets: Sequence[int]) -> list[int]:
    """Return the first character of each token.

    Servers add up token lengths and count each part of a split character as a full one, so their offsets run ahead of
    the text. In this case, tokens are searched in the text; a part of a character starts where the last token ended.
    """
    if UNFINISHED not in "".join(tokens) or UNFINISHED in text:
        return [min(int(start), max(0, len(text) - 1)) for start in offsets]
    found, end = [], 0
    for token in tokens:
        start = text.find(token, end, end + len(token) + NEAR) if token and UNFINISHED not in token else -1
        found.append(min(start if start >= 0 else end, max(0, len(text) - 1)))
        end = start + len(token) if start >= 0 else end
    return found
