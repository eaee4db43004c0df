"""Extract texts, ids and conversations from JSON values; other types are rejected rather than stringified."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from pydantic import ValidationError

from sizewise.records import Message

ID_KEYS = ("id", "custom_id")
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_call": "call",
    "tool_call": "call",
}
TEXT_PARTS = ("text", "input_text", "output_text")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TYPES = ((dict, "an object"), (list, "a list"), (type(None), "null"), (str, "a string"), (bool, "true or false"))


class BadRow(ValueError):
    """A row that cannot be used; the message is the reason."""


def reason_of(error: Exception) -> str:
    """Return in one line why a row cannot be used."""
    message = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
    return str(without_surrogates(message.removeprefix("Value error, ").split("\n")[0]))


class Decimal(float):
    """A JSON number with a decimal point that keeps its spelling: 4.50 can be a price and 1.10 a version."""

    spelling: str

    def __new__(cls, spelling: str) -> Self:
        """Parse a number."""
        number = super().__new__(cls, spelling)
        number.spelling = spelling
        return number


def type_of(value: Any) -> str:
    """Return the JSON type of a value, with its article."""
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "a number")


def text_of(value: Any, name: str) -> str:
    """Return a value as text; numbers keep their spelling, booleans are written as in JSON.

    Raises:
        BadRow: The value is null, a list or an object, or has an unpaired surrogate.
    """
    if isinstance(value, str):
        surrogate = _SURROGATE.search(value)
        if surrogate:
            code = f"\\u{ord(surrogate.group()):04x}"
            raise BadRow(f"{name} has an unpaired surrogate ({code}): another program cut a character in half")
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value.spelling if isinstance(value, Decimal) else json.dumps(value)
    raise BadRow(f"{name} is {'NaN or infinite' if isinstance(value, float) else type_of(value)}, not text")


def texts_of(value: Any, name: str) -> tuple[str, ...]:
    """Return the texts of a list, or a single text as a tuple; nulls and blank texts are dropped.

    Raises:
        BadRow: A value isn't text, or no text is left.
    """
    values = value if isinstance(value, list) else [value]
    texts = tuple(text.strip() for item in values if item is not None and (text := text_of(item, name)).strip())
    if not texts:
        raise BadRow(f"{name} is {'null' if value is None else 'empty'}")
    return texts


def id_of(row: Mapping[str, Any], keys: Sequence[str] = ID_KEYS) -> str | None:
    """Return the id of a row, or None; 0 is a valid id."""
    for key in keys:
        if row.get(key) not in (None, ""):
            return text_of(row[key], key)
    return None


def without_surrogates(value: Any) -> Any:
    """Replace unpaired surrogates in a JSON value with U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


def content_of(content: Any) -> str:
    """Return the content of a message: its text, or the texts of its parts joined by line breaks.

    Raises:
        BadRow: A part isn't text.
    """
    if not isinstance(content, list):
        return text_of(content, "content")
    texts = []
    for part in content:
        if isinstance(part, dict) and part.get("type", "text") in TEXT_PARTS:
            texts.append(text_of(part.get("text"), "content"))
        elif isinstance(part, str):
            texts.append(text_of(part, "content"))
        else:
            part_type = part.get("type") if isinstance(part, dict) else type_of(part)
            raise BadRow(f"content has a part of type '{part_type}', not text (list image files in 'images')")
    return "\n".join(texts)


def conversation(value: Any, name: str = "messages") -> tuple[Message, ...]:
    """Parse messages with `role` and `content`, or `from` and `value`; tool calls and results become text.

    A tool call becomes part of the assistant's message and a result a user message, which every chat template supports.

    Raises:
        BadRow: The value isn't a list of messages, or a message cannot be read.
    """
    if not isinstance(value, list) or not value:
        raise BadRow(f"{name} is {'empty' if value == [] else type_of(value)}, not a list of messages")
    turns: list[Message] = []
    after_result = False
    for number, turn in enumerate(value, start=1):
        try:
            role, text = _turn(turn)
            images = turn.get("images") or ()
            if role == "tool" and after_result:
                turns[-1] = turns[-1].model_copy(update={"content": f"{turns[-1].content}\n{text}"})
            else:
                chat_role = {"tool": "user", "call": "assistant"}.get(role, role)
                turns.append(Message.model_validate({"role": chat_role, "content": text, "images": images}))
        except BadRow as error:
            raise BadRow(f"message {number}: {error}") from error
        after_result = role == "tool"
    return tuple(turns)


def ends_with_call(value: Sequence[Any]) -> bool:
    """Check whether a conversation that `conversation` has parsed ends with a tool call without text."""
    last = value[-1]
    return bool(_calls(last)) and last.get("content") in (None, "", [])


def _turn(turn: Any) -> tuple[str, str]:
    """Parse a message into its role and text."""
    if not isinstance(turn, dict):
        raise BadRow(f"{type_of(turn)}, not an object with role and content")
    given = turn.get("role", turn.get("from"))
    role = ROLES.get(str(given).lower())
    if role is None:
        raise BadRow(f"the role is {json.dumps(given)}, not system, user, assistant or tool")
    content = turn.get("content", turn.get("value", turn.get("text")))
    calls = _calls(turn)
    if role == "call":
        return role, f"Tool call: {content_of(content)}"
    if role == "tool":
        tool = f" ({text_of(turn['name'], 'name')})" if turn.get("name") else ""
        return role, f"Tool result{tool}: {content_of(content)}"
    if calls:
        texts = [content_of(content)] if content else []
        return role, "\n".join([*texts, *(f"Tool call: {call}" for call in calls)])
    return role, content_of(content)


def _calls(turn: Mapping[str, Any]) -> list[str]:
    calls: list[Any] = list(turn.get("tool_calls") or ())
    if turn.get("function_call"):
        calls.append({"function": turn["function_call"]})
    return [_call(call) for call in calls]


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRow("a tool call has no name")
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{text_of(function['name'], 'name')} {text_of(text, 'arguments')}".strip()


def first_key(keys: Iterable[str], row: Mapping[str, Any]) -> str | None:
    """Return the first of the keys that has a value in the row."""
    return next((key for key in keys if row.get(key) not in (None, "", [], {})), None)
