"""Count personal data in documents and examples, and mask or drop it before training."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal, get_args

from sizewise.documents.lookalikes import is_lookalike
from sizewise.errors import MissingExtraError, UsageError
from sizewise.guard import Found, find_personal
from sizewise.records import Document, Example, Message

PersonalDataChoice = Literal["keep", "mask", "drop"]
CHOICES: tuple[PersonalDataChoice, ...] = get_args(PersonalDataChoice)
KINDS = ("email", "phone", "iban", "card", "national_id", "address", "ip")
"""Kinds that are counted and masked. Dates are not among them, because a date alone doesn't identify a person."""
MAX_WINDOWS, WINDOW = 4, 80
"""Places of a document that are checked when personal data is only counted, and the characters around each."""
CHUNK = 50_000
MAX_SHORT = 200
MASKED = "documents and examples whose personal data was masked"
DROPPED = "documents and examples left out because they hold personal data"
DOCUMENT_FIELDS = ("id", "title", "text", "origin", "license", "group")
EXAMPLE_FIELDS = (
    *("id", "references", "tags", "source", "copy_text", "choices", "answer_schema", "label", "group", "rejected"),
    "tools",
)
JSON_FIELDS = ("answer_schema", "tools")
_UTF8 = ("utf-8", "surrogatepass")
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+\-]*')
_BARE_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")|([-\d.eE+]*\[[A-Z_]+_\d+\][-\d.eE+]*)')
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
            found += [Found(start + one.start, start + one.end, one.kind) for one in _find(part)]
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
    return {one.kind for one in _find("\n\n".join(windows))} if windows else set()


def _find(text: str) -> Sequence[Found]:
    return _find_in_short(text) if len(text) <= MAX_SHORT else _found(text)


@lru_cache(maxsize=4_096)
def _find_in_short(text: str) -> Sequence[Found]:
    """Find personal data in a text that many rows may share, such as an id, a label or a group."""
    return tuple(_found(text))


def _found(text: str) -> Sequence[Found]:
    return [one for one in find_personal(text) if one.kind in KINDS and not is_lookalike(text, one)]


def texts_of(example: Example) -> Iterator[str]:
    """Yield all texts of an example that a model sees."""
    for message in example.messages:
        yield message.content
        for call in message.tool_calls:
            yield call.arguments
    yield from example.references
    yield from example.rejected


def other_fields(record: Document | Example) -> Iterator[str]:
    """Yield the fields of a record besides its texts, such as its id, source and label; personal data may be there."""
    for name in DOCUMENT_FIELDS if isinstance(record, Document) else EXAMPLE_FIELDS:
        value = getattr(record, name)
        if name not in ("text", "references", "rejected"):
            yield from [value] if isinstance(value, str) else value
    if isinstance(record, Example):
        for message in record.messages:
            yield from (message.name, message.tool_call_id, *message.images)
            for call in message.tool_calls:
                yield from (call.id, call.name)


class Tokens:
    """Numbers personal values in the order in which they occur, so that equal values get equal tokens.

    Only hashes of the values are held.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, bytes], int] = {}
        self._counts: Counter[str] = Counter()
        self._new: list[tuple[str, str]] = []

    def token(self, kind: str, value: str) -> str:
        """Return the token of a value, such as `[EMAIL_1]`."""
        return f"[{kind.upper()}_{self._number(kind, hashlib.sha256(value.encode(*_UTF8)).digest()[:16])}]"

    def _number(self, kind: str, key: bytes) -> int:
        known = self._numbers.get((kind, key))
        if known is None:
            self._counts[kind] += 1
            known = self._numbers[kind, key] = self._counts[kind]
            self._new.append((kind, key.hex()))
        return known

    def take_new(self) -> list[tuple[str, str]]:
        """Return (kind, hash) of the values that were numbered since the last call."""
        new, self._new = self._new, []
        return new

    def restore(self, numbered: Iterable[tuple[str, str]]) -> None:
        """Number values that `take_new` returned, in the same order."""
        for kind, key in numbered:
            self._number(kind, bytes.fromhex(key))
        self._new = []


class PersonalData:
    """Masks personal data in all fields of documents and examples, or drops the ones that hold any.

    The same value gets the same token wherever it occurs in the dataset: labels stay distinct, a label still equals its
    reference answer, and examples still name their document.

    Args:
        choice: What becomes of personal data.
        counts: What was done -> number of documents and examples; counted up.
        tokens: The tokens so far, if other texts of the same dataset were masked before.
    """

    def __init__(
        self,
        choice: PersonalDataChoice = "keep",
        counts: Counter[str] | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self.choice = choice
        self._counts: Counter[str] = Counter() if counts is None else counts
        self._tokens = tokens if tokens is not None else Tokens()
        self._found: set[str] = set()

    def document(self, document: Document) -> Document | None:
        """Return the document to train on, None if it is dropped."""
        if self.choice == "keep":
            return document
        self._found = set()
        update = self._fields(document, DOCUMENT_FIELDS)
        if not self._keeps():
            return None
        if not self._found:
            return document
        update["sha256"] = hashlib.sha256(update["text"].encode("utf-8", "surrogatepass")).hexdigest()
        return document.model_copy(update=update)

    def example(self, example: Example) -> Example | None:
        """Return the example to train and measure on, None if it is dropped."""
        if self.choice == "keep":
            return example
        self._found = set()
        update = self._fields(example, EXAMPLE_FIELDS)
        update["messages"] = tuple(self._message(message) for message in example.messages)
        if not self._keeps():
            return None
        return example.model_copy(update=update) if self._found else example

    def words(self, text: str) -> str:
        """Return a remark or a name without personal data, unless that is kept."""
        return text if self.choice == "keep" else self._hidden(text)

    def _fields(self, record: Document | Example, names: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in names:
            value = getattr(record, name)
            hide = self._hidden_json if name in JSON_FIELDS else self._hidden
            found[name] = hide(value) if isinstance(value, str) else tuple(map(hide, value))
        return found

    def _message(self, message: Message) -> Message:
        calls = tuple(
            call.model_copy(
                update={
                    **{name: self._hidden(getattr(call, name)) for name in ("id", "name")},
                    "arguments": self._hidden_json(call.arguments),
                }
            )
            for call in message.tool_calls
        )
        plain = {name: self._hidden(getattr(message, name)) for name in ("content", "tool_call_id", "name")}
        return message.model_copy(
            update={**plain, "images": tuple(map(self._hidden, message.images)), "tool_calls": calls}
        )

    def _hidden(self, text: str) -> str:
        parts, end = [], 0
        for found in find_all(text):
            self._found.add(found.kind)
            parts += [text[end : found.start], self._tokens.token(found.kind, text[found.start : found.end])]
            end = found.end
        return "".join([*parts, text[end:]]) if parts else text

    def _hidden_json(self, text: str) -> str:
        """Mask JSON text so that it stays JSON: a masked number becomes a string."""
        masked = self._hidden(text)
        if masked == text or not _is_json(text) or _is_json(masked):
            return masked
        quoted = _BARE_TOKEN.sub(lambda match: match[1] or json.dumps(match[2]), masked)
        return quoted if _is_json(quoted) else _LITERAL.sub(self._hidden_literal, text)

    def _hidden_literal(self, match: re.Match[str]) -> str:
        if match[0].startswith('"'):
            return json.dumps(self._hidden(json.loads(match[0])), ensure_ascii=False)
        masked = self._hidden(match[0])
        return match[0] if masked == match[0] else json.dumps(masked)

    def _keeps(self) -> bool:
        if not self._found:
            return True
        if self.choice == "drop":
            self._counts[DROPPED] += 1
        for kind in self._found:
            if self.choice == "mask":
                self._counts[f"{MASKED} ({kind})"] += 1
        return self.choice == "mask"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


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
