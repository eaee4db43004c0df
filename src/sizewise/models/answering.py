"""Stream answers: pieces of text with their tokens, as they arrive."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from sizewise.lm.text_stream import Text
from sizewise.models.base import Deliver, Piece, Token
from sizewise.models.thinking import with_reasoning_tokens
from sizewise.records import Completion, Request


class Answer:
    """An answer in progress that delivers its text as tokens arrive.

    Args:
        tokenizer: the model's tokenizer.
        request: the request.
        prompt_tokens: number of prompt tokens.
        deliver: receives the pieces.
        opened: reasoning tag that the prompt leaves open.
    """

    def __init__(
        self, tokenizer: Any, request: Request, prompt_tokens: int, deliver: Deliver, opened: str = ""
    ) -> None:
        from sizewise.lm.control_tokens import answer_text

        decode = partial(answer_text, tokenizer)
        self.request = request
        self.cancelled = threading.Event()
        self._tokenizer, self._prompt_tokens, self._deliver, self._opened = tokenizer, prompt_tokens, deliver, opened
        self._text = Text(decode, request.stop, opened if request.messages else None)
        self._unsent = opened if request.messages else ""
        self._begun = time.perf_counter()
        self._first: float | None = None
        self._count = 0
        self._nats, self._scored = 0.0, 0
        self._ended = False
        self._ended_by: int | None = None  # token that ended the answer and isn't part of it
        self._tells_first = True

    def take(self, ids: Sequence[int], nats: Sequence[float] = ()) -> bool:
        """Add tokens with their negative log-likelihoods; return whether the answer has ended."""
        if self._ended:
            return True
        if ids:
            self._first = self._first or time.perf_counter() - self._begun
            self._count += len(ids)
        self._note(nats)
        self._send(self._begin() + self._text.push(ids), ids, nats)
        if self._text.stopped:
            self.end("stop")
        return self._ended

    def _begin(self) -> str:
        """Return the reasoning tag that the prompt leaves open, once: the text after it is reasoning."""
        begin, self._unsent = self._unsent, ""
        return begin

    def take_one(self, ends: Collection[int], token: int, logprob: float) -> bool:
        """Add one token from a batch; return whether the answer has ended."""
        if self.cancelled.is_set():
            self.end("stop")
        elif token in ends:
            self._count += 1
            self._note([-logprob])
            self._ended_by = token
            self._send("", [token], [-logprob])
            self.end("stop")
        elif not self.take([token], [-logprob]) and self._count >= self.request.max_tokens:
            self.end("length")
        return self._ended

    def _note(self, nats: Sequence[float]) -> None:
        """Add the negative log-likelihoods of tokens to the confidence of the answer."""
        known = [one for one in nats if not math.isnan(one)]
        self._nats += sum(known)
        self._scored += len(known)

    def end(self, finish: str) -> None:
        """End the answer with `stop`, `length` or an error message."""
        if self._ended:
            return
        self._ended = True
        self._send(self._text.end(), (), ())
        is_error = finish not in ("stop", "length")
        completion = Completion(
            id=self.request.id,
            text="" if is_error else self._opened + self._text.returned.strip(),
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._count,
            seconds=time.perf_counter() - self._begun,
            ttft_s=self._first,
            finish="error" if is_error else "length" if finish == "length" else "stop",
            error=finish if is_error else None,
            confidence=None if is_error or not self._scored else math.exp(-self._nats / self._scored),
        )
        self._deliver(Piece(end=with_reasoning_tokens(completion, self._tokenizer)))

    def _send(self, text: str, ids: Sequence[int], nats: Sequence[float]) -> None:
        tokens = tuple(map(self._told, ids)) if self.request.logprobs else ()
        if text or tokens:
            self._deliver(Piece(text, tokens, tuple(-nat for nat in nats) if tokens else ()))

    def _told(self, token: int) -> Token:
        """Return the text of a token with the bytes that it adds to the answer."""
        from sizewise.lm.control_tokens import answer_text
        from sizewise.lm.token_bytes import bytes_in_answer

        if token == self._ended_by:
            return Token(str(self._tokenizer.decode([token])), b"")
        data = bytes_in_answer(self._tokenizer, token)
        if self._tells_first and data.startswith(b" ") and not answer_text(self._tokenizer, [token]).startswith(" "):
            data = data[1:]  # some tokenizers drop the blank before a text
        self._tells_first = False
        return Token(data.decode("utf-8", "replace") if data else str(self._tokenizer.decode([token])), data)
