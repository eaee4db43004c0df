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
_REST = re.compile(r"_(?:\d*|\d+_(\w*))", re.ASCII)  # of a token, after its kind


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
        self._numbers: Counter[str] = Counter()
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
            self._numbers[kind] += 1
            known = f"{kind.upper()}_{self._numbers[kind]}_{self._nonce}"
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
        parts = [token.rsplit("_", 2) for token in values]
        self._kinds = sorted({kind for kind, _, _ in parts})
        self._nonces = sorted({nonce for _, _, nonce in parts})
        kinds = "|".join(re.escape(kind).replace("_", r"[_ \-]") for kind in self._kinds)
        form = rf"(?:{kinds})[_ \-]\d+[_ \-](?:{'|'.join(self._nonces)})"
        self._pattern = re.compile(rf"\[{form}\]|{form}", re.IGNORECASE | re.ASCII) if values else None
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
            if self._grows(bare) or (tail != bare and bare in self._values):
                return start
        return len(text)

    def _grows(self, begun: str) -> bool:
        """Tell whether more letters could make a token of this."""
        for kind in self._kinds:
            if kind.startswith(begun):
                return True
            rest = _REST.fullmatch(begun, len(kind)) if begun.startswith(kind) else None
            if rest and (rest[1] is None or any(one.startswith(rest[1]) and one != rest[1] for one in self._nonces)):
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
