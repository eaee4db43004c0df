"""Turn tokens into text as they arrive, without broken characters or partial stop texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sizewise.records import AnswerFinder

UNFINISHED = "\ufffd"  # stands for a character whose bytes haven't all arrived
KEPT = 6  # earlier tokens that are decoded together with new ones: some tokenizers join words


class Text:
    """Incremental decoder of one answer's tokens.

    Args:
        decode: turns tokens into text.
        stops: texts that end the answer and aren't part of it.
        thought: reasoning tag with which the text begins, or "" if it may begin with one itself; stop texts then act
            after the reasoning. None: they act from the beginning.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = (), thought: str | None = None
    ) -> None:
        self._decode, self._stops = decode, tuple(stop for stop in stops if stop)
        self._answer = AnswerFinder(thought) if thought is not None and self._stops else None
        self._ids: list[int] = []
        self._begins = [0]  # places between characters; the first is where decoding begins
        self._before = ""  # text of the tokens from there that have been read
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
        self._read(final)
        end = len(self._decoded)
        begin = self._answer.find(self._decoded, final) if self._answer else 0
        if begin is None:
            return ""
        starts = [max(begin, self._returned - len(stop)) for stop in self._stops]
        found = [self._decoded.find(stop, start) for stop, start in zip(self._stops, starts, strict=True)]
        if cuts := [cut for cut in found if cut >= 0]:
            end, self.stopped = min(cuts), True
        elif not final:
            tails = zip(self._stops, starts, strict=True)
            end -= max((_overlap(self._decoded[start:], stop) for stop, start in tails), default=0)
        text = self._decoded[self._returned : end]
        self._returned = max(self._returned, end)
        return text

    def _read(self, final: bool) -> None:
        """Decode the new tokens, if they end with a whole character.

        Decoding never begins inside a character: a decoder then breaks all bytes that follow it directly.
        """
        now = self._decode(self._ids[self._begins[0] :])
        if now.endswith(UNFINISHED) and not final:
            return
        known = self._begins[-1]
        self._decoded += now[len(self._before) :] if now.startswith(self._before) else self._decode(self._ids[known:])
        self._before = now
        self._begins.append(len(self._ids))
        if len(self._ids) - self._begins[0] > 2 * KEPT:
            kept = [place for place in self._begins if place <= len(self._ids) - KEPT]
            self._begins = self._begins[len(kept) - 1 :]
            self._before = self._decode(self._ids[self._begins[0] :])


def token_texts(tokenizer: Any, ids: Sequence[int], *, of_text: bool = False) -> list[str]:
    """Return the text of each token, so that the concatenation is the full text.

    A token that contains only the first bytes of a character gets no text; the character belongs to its last token.

    Args:
        tokenizer: the model's tokenizer.
        ids: token ids.
        of_text: whether the ids encode plain text; if so, beginning-of-text tokens get no text.
    """
    from sizewise.lm.tokenizer import begin_ids

    def decode(some_ids: Sequence[int]) -> str:
        return str(tokenizer.decode(some_ids, clean_up_tokenization_spaces=False))

    text = Text(decode)
    before = begin_ids(tokenizer) if of_text else []
    begins = len(before) if list(ids[: len(before)]) == before else 0
    found = [""] * begins + [text.push([token]) for token in ids[begins:]]
    if found:
        found[-1] += text.end()
    return found


def _overlap(text: str, stop: str) -> int:
    """Count the trailing characters of a text that may be the start of a stop text."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
