"""Count personal data in documents and examples, and mask or drop it before training."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal, get_args

from sizewise.errors import MissingExtraError, UsageError
from sizewise.guard import Found, find_personal
from sizewise.records import Document, Example, Message

PersonalDataChoice = Literal["keep", "mask", "drop"]
CHOICES: tuple[PersonalDataChoice, ...] = get_args(PersonalDataChoice)
KINDS = ("email", "phone", "iban", "card", "national_id", "address", "ip")
"""Kinds that are counted and masked; dates alone identify nobody."""
MAX_WINDOWS, WINDOW = 4, 80
"""Places of a document that are checked when personal data is only counted, and the characters around each."""
CHUNK = 50_000
MASKED = "documents and examples whose personal data was masked"
DROPPED = "documents and examples left out because they hold personal data"
# Personal data that the guard finds contains a digit of some script or an at sign, possibly written as an escape. An
# exception would be a number in letters, which the guard doesn't find either.
_NUMERIC = "\\d@\uff20\u00b2\u00b3\u00b9\u2070-\u2089\u2460-\u249b\u2776-\u2793\U0001d7ce-\U0001d7ff"
_POSSIBLE = re.compile(rf"[{_NUMERIC}]")
_LIKELY = re.compile(
    "\\w[@\uff20]\\w|" r"\w[@(\[]at[)\]]\w|(?:\d[ ().\-/]{0,2}){7}|\b[A-Z]{2}\d{2}[ A-Z0-9]{10}|\d+\.\d+\.\d+\.\d+"
)


def can_find() -> bool:
    """Return whether the packages that find personal data are installed."""
    return find_spec("presidio_analyzer") is not None


def check_choice(choice: str) -> PersonalDataChoice:
    """Check the choice of what becomes of personal data.

    Raises:
        UsageError: It is none of `CHOICES`.
        MissingExtraError: Masking or dropping needs the extra [guard].
    """
    for known in CHOICES:
        if choice == known:
            if known != "keep" and not can_find():
                raise MissingExtraError("presidio-analyzer", "guard")
            return known
    raise UsageError(
        f"The choice for personal data is {choice!r}.", "keep, mask or drop", "sizewise read PATH --personal-data mask"
    )


def find_all(text: str) -> list[Found]:
    """Find all personal data in a text of any length; paragraphs that cannot hold any are skipped."""
    found = []
    for start, part in _chunks(text):
        if _POSSIBLE.search(part):
            found += [
                Found(start + one.start, start + one.end, one.kind) for one in find_personal(part) if one.kind in KINDS
            ]
    return found


def kinds_at_a_glance(text: str) -> set[str]:
    """Return the kinds of personal data at the first places of a text that look like some.

    At most `MAX_WINDOWS` places are checked, so that a gigabyte takes minutes; what is found is a lower bound.
    """
    windows, end = [], 0
    for match in _LIKELY.finditer(text):
        if match.start() >= end:
            end = match.end() + WINDOW
            windows.append(text[max(0, match.start() - WINDOW) : end])
            if len(windows) == MAX_WINDOWS:
                break
    return {one.kind for one in find_personal("\n\n".join(windows)) if one.kind in KINDS} if windows else set()


def texts_of(example: Example) -> Iterator[str]:
    """Yield all texts of an example that a model sees."""
    for message in example.messages:
        yield message.content
        for call in message.tool_calls:
            yield call.arguments
    yield from example.references
    yield from example.rejected


class PersonalData:
    """Masks personal data in documents and examples, or drops the ones that hold any.

    Args:
        choice: What becomes of personal data.
        counts: What was done -> number of documents and examples; counted up.
    """

    def __init__(self, choice: PersonalDataChoice = "keep", counts: Counter[str] | None = None) -> None:
        self.choice = choice
        self._counts: Counter[str] = Counter() if counts is None else counts

    def document(self, document: Document) -> Document | None:
        """Return the document to train on, None if it is dropped."""
        if self.choice == "keep":
            return document
        tokens: dict[tuple[str, str], str] = {}
        text, title = self._hidden(document.text, tokens), self._hidden(document.title, tokens)
        if not self._keeps(tokens):
            return None
        if not tokens:
            return document
        sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return document.model_copy(update={"text": text, "title": title, "sha256": sha256})

    def example(self, example: Example) -> Example | None:
        """Return the example to train and measure on, None if it is dropped; equal values get equal tokens."""
        if self.choice == "keep":
            return example
        tokens: dict[tuple[str, str], str] = {}
        messages = tuple(self._message(message, tokens) for message in example.messages)
        masked = {
            name: tuple(self._hidden(text, tokens) for text in getattr(example, name))
            for name in ("references", "rejected", "choices")
        }
        copy_text = self._hidden(example.copy_text, tokens)
        if not self._keeps(tokens):
            return None
        if not tokens:
            return example
        return example.model_copy(update={"messages": messages, "copy_text": copy_text, **masked})

    def _message(self, message: Message, tokens: dict[tuple[str, str], str]) -> Message:
        calls = tuple(
            call.model_copy(update={"arguments": self._hidden(call.arguments, tokens)}) for call in message.tool_calls
        )
        return message.model_copy(update={"content": self._hidden(message.content, tokens), "tool_calls": calls})

    def _hidden(self, text: str, tokens: dict[tuple[str, str], str]) -> str:
        parts, end = [], 0
        for found in find_all(text):
            value = text[found.start : found.end]
            number = sum(kind == found.kind for kind, _ in tokens) + 1
            token = tokens.setdefault((found.kind, value), f"[{found.kind.upper()}_{number}]")
            parts += [text[end : found.start], token]
            end = found.end
        return "".join([*parts, text[end:]]) if parts else text

    def _keeps(self, tokens: dict[tuple[str, str], str]) -> bool:
        if not tokens:
            return True
        if self.choice == "drop":
            self._counts[DROPPED] += 1
        for kind in {kind for kind, _ in tokens}:
            if self.choice == "mask":
                self._counts[f"{MASKED} ({kind})"] += 1
        return self.choice == "mask"


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """Cut a text at blank lines, or line breaks or spaces if there are none, into pieces of moderate length."""
    start = 0
    while start < len(text):
        end = len(text)
        if end - start > CHUNK:
            end = next(
                (
                    cut + len(mark)
                    for mark in ("\n\n", "\n", " ")
                    if (cut := text.rfind(mark, start + CHUNK // 2, start + CHUNK)) > 0
                ),
                start + CHUNK,
            )
        for paragraph in re.finditer(r"(?:[^\n]|\n(?!\n))+", text[start:end]):
            yield start + paragraph.start(), paragraph[0]
        start = end
