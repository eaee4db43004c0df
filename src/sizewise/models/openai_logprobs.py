"""Score text with servers that echo the prompt, like vLLM: `/v1/completions` with `echo` and `logprobs`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sizewise.errors import SizewiseError
from sizewise.models.answering import UNFINISHED
from sizewise.models.base import ScoredText

TIMEOUT_S = 300.0
ATTEMPTS = 4
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

    @classmethod
    def find(cls, address: str, name: str, key: str) -> EchoScorer | None:
        """Probe a server with a few words; return None if it provides no log-likelihoods."""
        scorer = cls(address, name, key)
        try:
            return scorer if len(scorer._request(PROBE, attempts=1).nats) > 1 else None
        except (SizewiseError, KeyError, TypeError, IndexError, ValueError):
            return None

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return "echo of the server|first token:left out"

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Score texts, each in one request.

        Raises:
            SizewiseError: the server doesn't answer, or rejects a text, for example because of its length.
        """
        for text in texts:
            yield self._request(text, ATTEMPTS)

    def _request(self, text: str, attempts: int) -> ScoredText:
        import httpx2

        body = {"model": self._name, "prompt": text, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
        reason = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(2.0**attempt)
            try:
                answer = httpx2.post(
                    f"{self._address}/completions",
                    json=body,
                    headers={"Authorization": f"Bearer {self._key}"},
                    timeout=TIMEOUT_S,
                )
            except httpx2.HTTPError as error:
                reason = str(error) or type(error).__name__
                continue
            if answer.status_code == 200:
                return _read(answer.json(), text)
            reason = f"{answer.status_code} {answer.text[:300]}"
            if answer.status_code < 500 and answer.status_code != 429:
                break
        raise SizewiseError(
            f"The server failed to score a text of {len(text):,} characters: {reason}",
            "a server that echoes log-likelihoods, and texts that fit its context",
            "run sizewise read with shorter documents, or use metrics without likelihoods (--metrics bleu)",
        )


def _read(body: dict[str, Any], text: str) -> ScoredText:
    """Extract the prompt's tokens from a response; the tokens after them were generated."""
    logprobs = body["choices"][0]["logprobs"]
    tokens, offsets, values = logprobs["tokens"], logprobs["text_offset"], logprobs["token_logprobs"]
    count = (body.get("usage") or {}).get("prompt_tokens") or sum(start < len(text) for start in offsets)
    starts = _starts(text, tokens[:count], offsets[:count])
    kept = [(-float(value), start) for value, start in zip(values[:count], starts, strict=True) if value is not None]
    if not kept:
        raise ValueError("no log-likelihoods")
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
