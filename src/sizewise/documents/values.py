"""Texts, ids and conversations out of JSON values: what is no text is refused, never spelled out by Python."""

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
_HALF = re.compile("[\ud800-\udfff]")
_KINDS = ((dict, "an object"), (list, "a list"), (type(None), "null"), (str, "a text"), (bool, "true or false"))


class BadRow(ValueError):
    """A row that cannot be used; the message says why."""


def reason_of(error: Exception) -> str:
    """Return why a row cannot be used, in one line."""
    said = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
    return str(mended(said.removeprefix("Value error, ").split("\n")[0]))


class Written(float):
    """A number with a point, that keeps how it was written: 4.50 is a price and 1.10 a version."""

    said: str

    def __new__(cls, said: str) -> Self:
        """Read a number."""
        made = super().__new__(cls, said)
        made.said = said
        return made


def kind_of(value: Any) -> str:
    """Return what JSON calls a value."""
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "a number")


def text_of(value: Any, name: str) -> str:
    """Return a text; a number as it was written, true or false as JSON writes them.

    Raises:
        BadRow: it is null, a list or an object, or holds half a character.
    """
    if isinstance(value, str):
        half = _HALF.search(value)
        if half:
            raise BadRow(f"{name} holds half a character (\\u{ord(half.group()):04x}), cut off by another program")
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value.said if isinstance(value, Written) else json.dumps(value)
    raise BadRow(f"{name} is {'no number' if isinstance(value, float) else kind_of(value)}, not a text")


def texts_of(value: Any, name: str) -> tuple[str, ...]:
    """Return the texts of a list, or the one text given; nulls and blank texts are left out.

    Raises:
        BadRow: something in it is no text, or none is left.
    """
    given = value if isinstance(value, list) else [value]
    found = tuple(text.strip() for one in given if one is not None and (text := text_of(one, name)).strip())
    if not found:
        raise BadRow(f"{name} is {'null' if value is None else 'empty'}")
    return found


def id_of(row: Mapping[str, Any], keys: Sequence[str] = ID_KEYS) -> str | None:
    """Return the id of a row, of which 0 is one; None if it has none."""
    for key in keys:
        if row.get(key) not in (None, ""):
            return text_of(row[key], key)
    return None


def mended(value: Any) -> Any:
    """Return JSON with U+FFFD in place of every half character."""
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [mended(one) for one in value]
    if isinstance(value, dict):
        return {mended(key): mended(one) for key, one in value.items()}
    return value


def content_of(content: Any) -> str:
    """Return what a message says: a text, or the texts of its parts joined by line ends.

    Raises:
        BadRow: a part is no text.
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
            said = part.get("type") if isinstance(part, dict) else kind_of(part)
            raise BadRow(f"content has a part of the type '{said}', not a text (give pictures as files in 'images')")
    return "\n".join(texts)


def conversation(value: Any, name: str = "messages") -> tuple[Message, ...]:
    """Read turns of `role` and `content`, or of `from` and `value`; calls of tools and their results as text.

    A call is part of what the assistant says, a result what is said to it: every model can be shown that.

    Raises:
        BadRow: it is no list of turns, or a turn cannot be read.
    """
    if not isinstance(value, list) or not value:
        raise BadRow(f"{name} is {'empty' if value == [] else kind_of(value)}, not a list of messages")
    turns: list[Message] = []
    results = False
    for number, turn in enumerate(value, start=1):
        try:
            role, text = _turn(turn)
            images = turn.get("images") or ()
            if role == "tool" and results:
                turns[-1] = turns[-1].model_copy(update={"content": f"{turns[-1].content}\n{text}"})
            else:
                spoken = {"tool": "user", "call": "assistant"}.get(role, role)
                turns.append(Message.model_validate({"role": spoken, "content": text, "images": images}))
        except BadRow as error:
            raise BadRow(f"message {number}: {error}") from error
        results = role == "tool"
    return tuple(turns)


def ends_with_call(value: Sequence[Any]) -> bool:
    """Tell whether a conversation that `conversation` has read ends with a call of a tool without any text."""
    last = value[-1]
    return bool(_calls(last)) and last.get("content") in (None, "", [])


def _turn(turn: Any) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise BadRow(f"{kind_of(turn)}, not an object with role and content")
    given = turn.get("role", turn.get("from"))
    role = ROLES.get(str(given).lower())
    if role is None:
        raise BadRow(f"the role is {json.dumps(given)}, not system, user, assistant or tool")
    content = turn.get("content", turn.get("value", turn.get("text")))
    calls = _calls(turn)
    if role == "call":
        return role, f"Tool call: {content_of(content)}"
    if role == "tool":
        named = f" ({text_of(turn['name'], 'name')})" if turn.get("name") else ""
        return role, f"Tool result{named}: {content_of(content)}"
    if calls:
        said = [content_of(content)] if content else []
        return role, "\n".join([*said, *(f"Tool call: {call}" for call in calls)])
    return role, content_of(content)


def _calls(turn: Mapping[str, Any]) -> list[str]:
    found: list[Any] = list(turn.get("tool_calls") or ())
    if turn.get("function_call"):
        found.append({"function": turn["function_call"]})
    return [_call(one) for one in found]


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRow("a call of a tool has no name")
    arguments = function.get("arguments", {})
    said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{text_of(function['name'], 'name')} {text_of(said, 'arguments')}".strip()


def one_of(keys: Iterable[str], row: Mapping[str, Any]) -> str | None:
    """Return the first key that has a value in a row."""
    return next((key for key in keys if row.get(key) not in (None, "", [], {})), None)
