"""Separate the reasoning of a streamed answer from the answer, while it arrives."""

from __future__ import annotations

from sizewise.records import THOUGHT_PAIRS


class ReasoningParser:
    """Sends reasoning and answer apart. Only reasoning at the beginning counts, as models write it.

    What may still become a mark is held back until the next piece.
    """

    def __init__(self) -> None:
        self._held = ""
        self._end = ""  # mark that ends the reasoning; empty outside of it
        self._decided = False  # whether the answer's beginning is known to be reasoning or not
        self._fresh = False  # right after reasoning, before the answer's first letter

    def feed(self, text: str) -> tuple[str, str]:
        """Add a piece; return the reasoning and the text of the answer that can be sent."""
        self._held += text
        if not self._decided:
            begin = self._held.lstrip().lower()
            pair = next((pair for pair in THOUGHT_PAIRS if begin.startswith(pair[0].lower())), None)
            if pair is None and any(mark.lower().startswith(begin) for mark, _ in THOUGHT_PAIRS):
                return "", ""
            self._decided = True
            if pair is not None:
                self._held = self._held.lstrip()[len(pair[0]) :]
                self._end = pair[1]
        if not self._end:
            return "", self._answer()
        position = self._held.lower().find(self._end.lower())
        if position < 0:
            kept = _overlap(self._held, self._end)
            thought, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
            return thought, ""
        thought, self._held = self._held[:position], self._held[position + len(self._end) :]
        self._end, self._fresh = "", True
        return thought, self._answer()

    def end(self) -> tuple[str, str]:
        """Return what was held back."""
        held, self._held = self._held, ""
        return (held, "") if self._end else ("", held.lstrip() if self._fresh else held)

    def _answer(self) -> str:
        answer, self._held = self._held, ""
        if self._fresh:
            answer = answer.lstrip()
            self._fresh = not answer
        return answer


def _overlap(text: str, mark: str) -> int:
    """Count the trailing characters of a text that may be the start of a mark."""
    text, mark = text.lower(), mark.lower()
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0)
