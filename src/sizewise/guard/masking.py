"""Replace personal data with tokens in requests, and restore it in answers.

A token such as `[EMAIL_1_7KQX]` has a kind, a number, and letters drawn for each request that don't occur in its text,
so text that only looks like a token is never replaced. Equal values get equal tokens, which lets a model tell people
apart. A model may change a token's case, brackets and separators; a token changed in other ways is not restored.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sizewise.guard.detectors import Detector
from sizewise.guard.finding import find_personal

NONCE_LETTERS, NONCE_LENGTH = "BCDFGHJKLMNPQRSTVWXZ2346789", 4
MAX_DRAWS = 100
_REST = re.compile(r"_(?:\d*|\d+_(\w*))", re.ASCII)  # the rest of a token after its kind


class Mask:
    """Masks the personal data of one request.

    Args:
        texts: All texts of the request; tokens are chosen that don't occur in them.
        detectors: Detectors beside the patterns.
    """

    def __init__(self, texts: Sequence[str], detectors: Sequence[Detector] = ()) -> None:
        self._detectors = detectors
        joined = "\n".join(texts).upper()
        self._nonce = _nonce()
        for _ in range(MAX_DRAWS):
            if self._nonce not in joined:
                break
            self._nonce = _nonce()
        self._tokens: dict[tuple[str, str], str] = {}
        self._numbers: Counter[str] = Counter()
        self.values: dict[str, str] = {}
        """Token without brackets, such as `EMAIL_1_7KQX` -> original value."""
        self.counts: Counter[str] = Counter()
        """Kind -> number of occurrences masked."""

    def hide(self, text: str) -> str:
        """Replace the personal data in a text with tokens."""
        parts, end = [], 0
        for found in find_personal(text, self._detectors):
            parts += [text[end : found.start], self._token(found.kind, text[found.start : found.end])]
            self.counts[found.kind] += 1
            end = found.end
        return "".join([*parts, text[end:]])

    def _token(self, kind: str, value: str) -> str:
        token = self._tokens.get((kind, value))
        if token is None:
            self._numbers[kind] += 1
            token = f"{kind.upper()}_{self._numbers[kind]}_{self._nonce}"
            self._tokens[kind, value] = token
            self.values[token] = value
        return f"[{token}]"


class Masked(NamedTuple):
    """The masked texts of a request."""

    texts: dict[str, str]
    """Text -> masked text."""
    values: dict[str, str]
    """Token without brackets -> original value."""
    counts: dict[str, int]
    """Kind -> number of occurrences masked."""


def mask_texts(texts: Sequence[str], detectors: Sequence[Detector] = ()) -> Masked:
    """Mask all texts of a request; a text that occurs several times is searched once.

    Raises:
        SizewiseError: a text is too long for a detector.
    """
    mask = Mask(texts, detectors)
    hidden: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for text, times in Counter(texts).items():
        mask.counts.clear()
        hidden[text] = mask.hide(text)
        counts.update({kind: times * count for kind, count in mask.counts.items()})
    return Masked(hidden, mask.values, dict(counts))


def _nonce() -> str:
    return "".join(secrets.choice(NONCE_LETTERS) for _ in range(NONCE_LENGTH))


class Unmask:
    """Restores values in a streamed answer, wherever it is split into pieces.

    Args:
        values: Token without brackets -> original value.
    """

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._pending = ""
        self.restored: Counter[str] = Counter()
        """Kind -> number of occurrences restored."""
        parts = [token.rsplit("_", 2) for token in values]
        self._kinds = sorted({kind for kind, _, _ in parts})
        self._nonces = sorted({nonce for _, _, nonce in parts})
        kinds = "|".join(re.escape(kind).replace("_", r"[_ \-]") for kind in self._kinds)
        token_pattern = rf"(?:{kinds})[_ \-]\d+[_ \-](?:{'|'.join(self._nonces)})"
        self._pattern = (
            re.compile(rf"\[{token_pattern}\]|{token_pattern}", re.IGNORECASE | re.ASCII) if values else None
        )
        self._max_length = 2 + max((len(token) for token in values), default=0)

    def feed(self, piece: str) -> str:
        """Add a piece and return the text that can be sent; the beginning of a possible token is held back."""
        if self._pattern is None:
            return piece
        text = self._pending + piece
        cut = self._sendable(text)
        self._pending = text[cut:]
        return self._pattern.sub(self._value, text[:cut])

    def finish(self) -> str:
        """Return the text held back when the answer ends."""
        pending, self._pending = self._pending, ""
        return self._pattern.sub(self._value, pending) if self._pattern else pending

    def restore(self, text: str) -> str:
        """Restore the values in a complete text."""
        return self.feed(text) + self.finish()

    def _sendable(self, text: str) -> int:
        """Return the length of the text before a token that may still be incomplete."""
        for start in range(max(0, len(text) - self._max_length + 1), len(text)):
            tail = _plain(text[start:])
            bare = tail.removeprefix("[")
            if self._may_continue(bare) or (tail != bare and bare in self._values):
                return start
        return len(text)

    def _may_continue(self, begun: str) -> bool:
        """Return whether more characters could complete this to a token."""
        for kind in self._kinds:
            if kind.startswith(begun):
                return True
            rest = _REST.fullmatch(begun, len(kind)) if begun.startswith(kind) else None
            if rest and (
                rest[1] is None or any(nonce.startswith(rest[1]) and nonce != rest[1] for nonce in self._nonces)
            ):
                return True
        return False

    def _value(self, match: re.Match[str]) -> str:
        token = _plain(match[0]).strip("[]")
        value = self._values.get(token)
        if value is None:
            return match[0]
        self.restored[token.rsplit("_", 2)[0].lower()] += 1
        return value


def _plain(text: str) -> str:
    return re.sub(r"[ \-]", "_", text.upper())
