"""Stream answers: turn tokens into pieces of text without broken characters or partial stop texts."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from sizewise.models.base import Deliver, Piece
from sizewise.records import Completion, Request

UNFINISHED = "\ufffd"  # stands for a character whose bytes haven't all arrived
KEPT = 6  # earlier tokens that are decoded together with new ones: some tokenizers join words


class Text:
    """Incremental decoder of one answer's tokens.

    Args:
        decode: turns tokens into text.
        stops: texts that end the answer and aren't part of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stop for stop in stops if stop)
        self._ids: list[int] = []
        self._read = 0  # number of tokens whose text is in `_decoded`
        self._returned = 0  # number of characters returned so far
        self._decoded = ""
        self.stopped = False

    def push(self, ids: Sequence[int]) -> str:
        """Add tokens and return the text that is final."""
        self._ids += ids
        return self._release(final=False)

    def end(self) -> str:
        """Return the text held back so far."""
        return self._release(final=True)

    @property
    def returned(self) -> str:
        """All text returned so far."""
        return self._decoded[: self._returned]

    def _release(self, final: bool) -> str:
        if self.stopped:
            return ""
        begin = max(0, self._read - KEPT)
        before = self._decode(self._ids[begin : self._read])
        now = self._decode(self._ids[begin:])
        if not now.endswith(UNFINISHED) or final:
            self._decoded += now[len(before) :]
            self._read = len(self._ids)
        end = len(self._decoded)
        cuts = [
            cut
            for cut in (self._decoded.find(stop, max(0, self._returned - len(stop))) for stop in self._stops)
            if cut >= 0
        ]
        if cuts:
            end, self.stopped = min(cuts), True
        elif not final:
            end -= max((_overlap(self._decoded, stop) for stop in self._stops), default=0)
        text = self._decoded[self._returned : end]
        self._returned = max(self._returned, end)
        return text


def token_texts(tokenizer: Any, ids: Sequence[int], *, of_text: bool = False) -> list[str]:
    """Return the text of each token, so that the concatenation is the full text.

    A token that contains only the first bytes of a character gets no text; the character belongs to its last token.

    Args:
        tokenizer: the model's tokenizer.
        ids: token ids.
        of_text: whether the ids encode plain text; if so, beginning-of-text tokens get no text.
    """

    def decode(some_ids: Sequence[int]) -> str:
        return str(tokenizer.decode(some_ids, clean_up_tokenization_spaces=False))

    text = Text(decode)
    from sizewise.lm.tokenizer import begin_ids

    before = begin_ids(tokenizer) if of_text else []
    begins = len(before) if list(ids[: len(before)]) == before else 0
    found = [""] * begins + [text.push([token]) for token in ids[begins:]]
    if found:
        found[-1] += text.end()
    return found


def _overlap(text: str, stop: str) -> int:
    """Count the trailing characters of a text that may be the start of a stop text."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


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
        self._text, self._unsent = Text(decode, request.stop), opened if request.messages else ""
        self._begun = time.perf_counter()
        self._first: float | None = None
        self._count = 0
        self._nats, self._scored = 0.0, 0
        self._ended = False

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
            self._send("", [token], [-logprob])
            self.end("stop")
        elif not self.take([token], [-logprob]) and self._count >= self.request.max_tokens:
            self.end("length")
        return self._ended

    def _note(self, nats: Sequence[float]) -> None:
        """Add the negative log-likelihoods of tokens to the confidence of the answer."""
        self._nats += sum(nats)
        self._scored += len(nats)

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
        self._deliver(Piece(end=completion))

    def _send(self, text: str, ids: Sequence[int], nats: Sequence[float]) -> None:
        tokens = tuple(str(self._tokenizer.decode([token])) for token in ids) if self.request.logprobs else ()
        if text or tokens:
            self._deliver(Piece(text, tokens, tuple(-nat for nat in nats) if tokens else ()))
