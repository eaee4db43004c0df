"""Personal data leaves as tokens and comes back as itself.

A token is `[EMAIL_1_7KQX]`: its kind, its number, and letters drawn anew for each request, which do not stand in the
text anyway: text that only looks like a token is never replaced. The same value has the same token, so that a model can
tell who is who. What a model changes in a token beyond its case, brackets and joins stays as the model wrote it.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Sequence

from sizewise.guard.finding import find_personal

LETTERS, NONCE = "BCDFGHJKLMNPQRSTVWXZ2346789", 4
DRAWS = 100


class Mask:
    """The tokens of one request.

    Args:
        texts: all texts that will leave; tokens are drawn that stand in none of them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        whole = "\n".join(texts).upper()
        self._nonce = _nonce()
        for _ in range(DRAWS):
            if self._nonce not in whole:
                break
            self._nonce = _nonce()
        self._tokens: dict[tuple[str, str], str] = {}
        self.values: dict[str, str] = {}
        """Token in its plain form, as `EMAIL_1_7KQX`, -> what stood there."""
        self.counts: Counter[str] = Counter()
        """Kind -> places masked."""

    def hide(self, text: str) -> str:
        """Replace personal data of a text by tokens."""
        parts, end = [], 0
        for found in find_personal(text):
            parts += [text[end : found.start], self._token(found.kind, text[found.start : found.end])]
            self.counts[found.kind] += 1
            end = found.end
        return "".join([*parts, text[end:]])

    def _token(self, kind: str, value: str) -> str:
        known = self._tokens.get((kind, value))
        if known is None:
            number = 1 + sum(other == kind for other, _ in self._tokens)
            known = f"{kind.upper()}_{number}_{self._nonce}"
            self._tokens[kind, value] = known
            self.values[known] = value
        return f"[{known}]"


def _nonce() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(NONCE))


class Unmask:
    """Puts values back into an answer, however its pieces are cut.

    Args:
        values: token in its plain form -> value.
    """

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._held = ""
        self.restored: Counter[str] = Counter()
        """Kind -> places restored."""
        forms = sorted((_loose(token) for token in values), key=len, reverse=True)
        inner = "|".join(forms)
        self._pattern = re.compile(rf"\[(?:{inner})\]|(?:{inner})", re.IGNORECASE | re.ASCII) if forms else None
        self._longest = 2 + max((len(token) for token in values), default=0)

    def feed(self, piece: str) -> str:
        """Give what can be said so far; the begin of a token waits for its rest."""
        if self._pattern is None:
            return piece
        text = self._held + piece
        cut = self._safe(text)
        self._held = text[cut:]
        return self._pattern.sub(self._value, text[:cut])

    def rest(self) -> str:
        """Give what still waited when the answer ended."""
        held, self._held = self._held, ""
        return self._pattern.sub(self._value, held) if self._pattern else held

    def whole(self, text: str) -> str:
        """Restore a whole text."""
        return self.feed(text) + self.rest()

    def _safe(self, text: str) -> int:
        """Give the place before which no token can still be growing."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            tail = _plain(text[start:])
            bare = tail.removeprefix("[")
            if any(token.startswith(bare) and (len(bare) < len(token) or tail != bare) for token in self._values):
                return start
        return len(text)

    def _value(self, match: re.Match[str]) -> str:
        token = _plain(match[0]).strip("[]")
        self.restored[token.rsplit("_", 2)[0].lower()] += 1
        return self._values[token]


def _plain(text: str) -> str:
    return re.sub(r"[ \-]", "_", text.upper())


def _loose(token: str) -> str:
    return re.escape(token).replace("_", r"[_ \-]")
