"""An answer under way: tokens in, pieces of text out; no broken characters, nothing of a stop text."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sizewise.models.base import Deliver, Piece
from sizewise.records import Completion, Request

UNFINISHED = "\ufffd"  # a character whose bytes have not all arrived
KEPT = 6  # tokens before new ones that are decoded with them: some tokenizers join words


class Text:
    """The text of an answer under way.

    Args:
        decode: turns tokens into text.
        stops: texts that end the answer; they are not part of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stop for stop in stops if stop)
        self._ids: list[int] = []
        self._read = 0  # tokens whose text is in `_whole`
        self._given = 0  # characters that were given out
        self._whole = ""
        self.stopped = False

    def push(self, ids: Sequence[int]) -> str:
        """Add tokens; give the text that is certain now."""
        self._ids += ids
        return self._release(final=False)

    def end(self) -> str:
        """Give what was held back."""
        return self._release(final=True)

    @property
    def whole(self) -> str:
        """All text given so far."""
        return self._whole[: self._given]

    def _release(self, final: bool) -> str:
        if self.stopped:
            return ""
        begin = max(0, self._read - KEPT)
        before = self._decode(self._ids[begin : self._read])
        now = self._decode(self._ids[begin:])
        if not now.endswith(UNFINISHED) or final:
            self._whole += now[len(before) :]
            self._read = len(self._ids)
        end = len(self._whole)
        cuts = [
            cut for cut in (self._whole.find(stop, max(0, self._given - len(stop))) for stop in self._stops) if cut >= 0
        ]
        if cuts:
            end, self.stopped = min(cuts), True
        elif not final:
            end -= max((_overlap(self._whole, stop) for stop in self._stops), default=0)
        text = self._whole[self._given : end]
        self._given = max(self._given, end)
        return text


def token_texts(tokenizer: Any, ids: Sequence[int], *, of_text: bool = False) -> list[str]:
    """Return the text of each token so that together they are the text of all.

    A token that holds only the beginning of a character has none; the character belongs to the token that ends it.

    Args:
        tokenizer: the model's tokenizer.
        ids: the tokens.
        of_text: whether they are those of a plain text, so that a token that only begins one is no part of it.
    """

    def decode(some: Sequence[int]) -> str:
        return str(tokenizer.decode(some, clean_up_tokenization_spaces=False))

    text = Text(decode)
    begins = 1 if of_text and ids and ids[0] == tokenizer.bos_token_id else 0
    found = [""] * begins + [text.push([one]) for one in ids[begins:]]
    if found:
        found[-1] += text.end()
    return found


def _overlap(text: str, stop: str) -> int:
    """Give how many of a text's last characters may be the beginning of a stop text."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


class Answer:
    """An answer under way.

    Args:
        tokenizer: the model's tokenizer.
        request: what was asked.
        read: tokens of the prompt.
        deliver: takes the pieces.
        opened: mark of a thought that the prompt has begun.
    """

    def __init__(self, tokenizer: Any, request: Request, read: int, deliver: Deliver, opened: str = "") -> None:
        def decode(ids: Sequence[int]) -> str:
            return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

        self.request = request
        self.cancelled = threading.Event()
        self._tokenizer, self._read, self._deliver, self._opened = tokenizer, read, deliver, opened
        self._text = Text(decode, request.stop)
        self._begun = time.perf_counter()
        self._first: float | None = None
        self._count = 0
        self._ended = False

    def take(self, ids: Sequence[int], nats: Sequence[float] = ()) -> bool:
        """Take tokens with their negative log-likelihoods; tell whether the answer has ended."""
        if self._ended:
            return True
        if ids:
            self._first = self._first or time.perf_counter() - self._begun
            self._count += len(ids)
        self._pass_on(self._text.push(ids), ids, nats)
        if self._text.stopped:
            self.end("stop")
        return self._ended

    def take_one(self, ends: Collection[int], token: int, logprob: float) -> bool:
        """Take one token from a batch; tell whether the answer has ended."""
        if self.cancelled.is_set():
            self.end("stop")
        elif token in ends:
            self._count += 1
            self._pass_on("", [token], [-logprob])
            self.end("stop")
        elif not self.take([token], [-logprob]) and self._count >= self.request.max_tokens:
            self.end("length")
        return self._ended

    def end(self, finish: str) -> None:
        """End the answer: `stop`, `length` or what went wrong."""
        if self._ended:
            return
        self._ended = True
        self._pass_on(self._text.end(), (), ())
        broken = finish not in ("stop", "length")
        whole = Completion(
            id=self.request.id,
            text="" if broken else self._opened + self._text.whole.strip(),
            prompt_tokens=self._read,
            completion_tokens=self._count,
            seconds=time.perf_counter() - self._begun,
            ttft_s=self._first,
            finish="error" if broken else "length" if finish == "length" else "stop",
            error=finish if broken else None,
        )
        self._deliver(Piece(end=whole))

    def _pass_on(self, text: str, ids: Sequence[int], nats: Sequence[float]) -> None:
        named = tuple(str(self._tokenizer.decode([one])) for one in ids) if self.request.logprobs else ()
        if text or named:
            self._deliver(Piece(text, named, tuple(-nat for nat in nats) if named else ()))
