"""Log-likelihoods of given text from servers that echo it: `/v1/completions` with `echo` and `logprobs`, as vLLM."""

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
NEAR = 32  # characters in which a token is looked up behind halves of characters


class EchoScorer:
    """A server that gives the log-likelihoods of a prompt's tokens.

    The first token of a text has no likelihood there: it is left out, and its bytes count as if it were free.

    Args:
        address: base URL, as `http://host:port/v1`.
        name: model.
        key: bearer token.
    """

    def __init__(self, address: str, name: str, key: str) -> None:
        self._address, self._name, self._key = address.rstrip("/"), name, key

    @classmethod
    def find(cls, address: str, name: str, key: str) -> EchoScorer | None:
        """Ask a server for the likelihoods of a few words; None if it gives none."""
        scorer = cls(address, name, key)
        try:
            return scorer if len(scorer._ask(PROBE, attempts=1).nats) > 1 else None
        except (SizewiseError, KeyError, TypeError, IndexError, ValueError):
            return None

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return "echo of the server|first token:left out"

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Score texts, each whole.

        Raises:
            SizewiseError: the server refuses a text, for example for its length, or does not answer.
        """
        for text in texts:
            yield self._ask(text, ATTEMPTS)

    def _ask(self, text: str, attempts: int) -> ScoredText:
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
            f"The server does not score a text of {len(text):,} characters: {reason}",
            "a server that echoes log-likelihoods, and texts within its context",
            "sizewise read with shorter documents, or metrics that need no likelihood (--metrics bleu)",
        )


def _read(body: dict[str, Any], text: str) -> ScoredText:
    """Read the prompt's part of an answer: what lies behind the text was written by the model."""
    told = body["choices"][0]["logprobs"]
    tokens, offsets, values = told["tokens"], told["text_offset"], told["token_logprobs"]
    count = (body.get("usage") or {}).get("prompt_tokens") or sum(start < len(text) for start in offsets)
    starts = _starts(text, tokens[:count], offsets[:count])
    kept = [(-float(value), start) for value, start in zip(values[:count], starts, strict=True) if value is not None]
    if not kept:
        raise ValueError("no log-likelihoods")
    nats, places = zip(*kept, strict=True)
    return ScoredText(np.array(nats, dtype=np.float64), np.array(places, dtype=np.int64))


def _starts(text: str, tokens: Sequence[str], offsets: Sequence[int]) -> list[int]:
    """Return the first character of each token.

    Servers add up the lengths of tokens, and that of half a character is told as a whole one: such offsets run ahead of
    the text. Then tokens are looked up in it, and one that holds half a character stands where the last one ended.
    """
    if UNFINISHED not in "".join(tokens) or UNFINISHED in text:
        return [min(int(start), max(0, len(text) - 1)) for start in offsets]
    found, end = [], 0
    for token in tokens:
        place = text.find(token, end, end + len(token) + NEAR) if token and UNFINISHED not in token else -1
        found.append(min(place if place >= 0 else end, max(0, len(text) - 1)))
        end = place + len(token) if place >= 0 else end
    return found
