"""Parse the messages of conversations, with tool calls and images, in the formats of common tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from sizewise.documents.values import BadRow, Decimal, json_text, text_of, type_of
from sizewise.records import Message, ToolCall

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
    "ai": "assistant",
    "aimessagechunk": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_call": "call",
    "tool_call": "call",
}
TEXT_PARTS = ("text", "input_text", "output_text")
IMAGE_PARTS = ("image", "image_url", "input_image")
THOUGHT_PARTS = ("thinking", "reasoning", "redacted_thinking")
CALL_PARTS = ("functionCall", "function_call", "toolUse")
RESULT_PARTS = ("functionResponse", "function_response", "toolResult")


class Content(NamedTuple):
    """The parts of a message."""

    text: str
    images: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    results: tuple[Message, ...] = ()
    """Results of tools that a user message holds."""


def content_of(content: Any) -> str:
    """Return the text of a message's content: a text, or the texts of its parts joined by line breaks.

    Raises:
        BadRow: A part isn't text.
    """
    parts = _content(content)
    if parts.images or parts.calls or parts.results:
        raise BadRow("content has parts other than text")
    return parts.text


def conversation(value: Any, name: str = "messages") -> tuple[Message, ...]:
    """Parse messages with `role` and `content`, or `from` and `value`, with their tool calls, results and images.

    Raises:
        BadRow: The value isn't a list of messages, or a message cannot be read.
    """
    if not isinstance(value, list) or not value:
        raise BadRow(f"{name} is {'empty' if value == [] else type_of(value)}, not a list of messages")
    turns: list[Message] = []
    for number, turn in enumerate(value, start=1):
        try:
            turns += _turns(turn)
        except BadRow as error:
            raise BadRow(f"message {number}: {error}") from error
    return tuple(turns)


def is_call(message: Message) -> bool:
    """Check whether a message is a tool call without text."""
    return bool(message.tool_calls) and not message.content.strip()


def tools_of(value: Any) -> str:
    """Return the definitions of tools as a JSON list; empty if there are none.

    Raises:
        BadRow: The value is neither a list of objects nor such a list as text.
    """
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise BadRow(f"tools is text, but not a JSON list ({error})") from error
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise BadRow(f"tools is {type_of(value)}, not a list of objects")
    return json_text(value) if value else ""


def _turns(turn: Any) -> list[Message]:
    """Parse a message; the results of tools in a user message come before its text."""
    if not isinstance(turn, dict):
        raise BadRow(f"{type_of(turn)}, not an object with role and content")
    turn = _of_langchain(turn)
    given = turn.get("role", turn.get("from", turn.get("type")))
    role = ROLES.get(given.lower()) if isinstance(given, str) else None
    if role is None:
        raise BadRow(f"the role is {json.dumps(given)}, not system, user, assistant or tool")
    content = next((turn[key] for key in ("content", "value", "text", "parts") if key in turn), None)
    if role == "call":
        return [Message(role="assistant", content="", tool_calls=_calls_in_text(content))]
    calls = _calls(turn)
    parts = _content(content, needed=not calls)
    images = (*_paths(turn.get("images")), *parts.images)
    calls = (*calls, *parts.calls)
    if calls and role != "assistant":
        raise BadRow(f"a tool call in a message of the {role}")
    if parts.results and not parts.text and not images:
        return list(parts.results)
    message: dict[str, Any] = {"role": role, "content": parts.text, "images": images, "tool_calls": calls}
    if role == "assistant" and turn.get("weight") == 0:
        message["excluded"] = True
    if role == "tool":
        for key in ("tool_call_id", "name"):
            message[key] = text_of(turn[key], key) if turn.get(key) else ""
    return [*parts.results, Message.model_validate(message)]


def _of_langchain(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message as LangChain writes it with its fields at the top: `data` of a type, or `kwargs` of a class."""
    if isinstance(turn.get("data"), dict) and "type" in turn:
        return {"role": turn["type"], **turn["data"]}
    path = turn.get("id")
    if isinstance(turn.get("kwargs"), dict) and isinstance(path, list) and path and isinstance(path[-1], str):
        return {"role": path[-1].removesuffix("Chunk").removesuffix("Message"), **turn["kwargs"]}
    return turn


def _content(content: Any, *, needed: bool = True) -> Content:
    """Parse the content of a message, a text or a list of parts."""
    if content is None and not needed:
        return Content("")
    if not isinstance(content, list):
        return Content(text_of(content, "content"))
    texts: list[str] = []
    images: list[str] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for part in content:
        kind = _kind_of(part) if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(text_of(part, "content"))
        elif not isinstance(part, dict):
            raise BadRow(f"content has a part of type '{type_of(part)}', not text")
        elif kind in TEXT_PARTS:
            texts.append(text_of(part.get("text", part.get("content")), "content"))
        elif kind in IMAGE_PARTS:
            images.append(_image(part))
        elif kind in ("tool_use", "tool_call"):
            calls.append(_call(_inner(part, CALL_PARTS)))
        elif kind in ("tool_result", "tool_call_response"):
            results.append(_result(_inner(part, RESULT_PARTS)))
        elif kind not in THOUGHT_PARTS:
            raise BadRow(f"content has a part of type '{kind}', not text or an image")
    return Content("\n".join(texts), tuple(images), tuple(calls), tuple(results))


def _kind_of(part: Mapping[str, Any]) -> Any:
    """Return the type of a part of a message; Gemini and Bedrock state it by the name of the key."""
    if any(part.get(key) is not None for key in CALL_PARTS):
        return "tool_call"
    if any(part.get(key) is not None for key in RESULT_PARTS):
        return "tool_result"
    if part.get("thought") is True or "reasoningContent" in part or "cachePoint" in part:
        return "thinking"
    named = next((key for key in ("inlineData", "inline_data", "fileData", "file_data") if key in part), "text")
    return part.get("type", named)


def _inner(part: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """Return what a part holds under the name of its kind, as Gemini and Bedrock write it; else the part itself."""
    return next((part[key] for key in keys if part.get(key) is not None), part)


def _paths(images: Any) -> tuple[str, ...]:
    given = [] if images is None else images if isinstance(images, list | tuple) else [images]
    return tuple(_image(image) for image in given)


def _image(given: Any) -> str:
    """Return the path of an image, which may be a part of a message."""
    while isinstance(given, dict):
        given = next((given[key] for key in ("image_url", "url", "path", "image", "source") if given.get(key)), None)
    if not isinstance(given, str):
        raise BadRow(f"an image is {type_of(given)}, not the path of a file")
    if given.startswith("data:"):
        raise BadRow("an image is embedded as data; save it as a file and give its path")
    address = urlsplit(given)
    if address.scheme in ("http", "https"):
        raise BadRow(f"the image {given[:80]} is an address; download it and give the path of the file")
    return unquote(address.path) if address.scheme == "file" else given


def _result(part: Any) -> Message:
    if not isinstance(part, dict):
        raise BadRow(f"the result of a tool is {type_of(part)}, not an object")
    content = next((part[key] for key in ("content", "response", "result") if key in part), "")
    text = _content(content).text if isinstance(content, str | list) else json_text(content)
    call = part.get("tool_use_id", part.get("toolUseId", part.get("id")))
    return Message(role="tool", content=text, tool_call_id=text_of(call, "the id of a tool call") if call else "")


def _calls(turn: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    kwargs = turn.get("additional_kwargs")
    more = kwargs if isinstance(kwargs, dict) else {}
    given = turn.get("tool_calls") or more.get("tool_calls") or []
    if not isinstance(given, list):
        raise BadRow(f"tool_calls is {type_of(given)}, not a list")
    function = turn.get("function_call") or (None if given else more.get("function_call"))
    old = [{"function": function}] if function else []
    return tuple(_call(call) for call in [*given, *old])


def _calls_in_text(content: Any) -> tuple[ToolCall, ...]:
    """Parse a turn that is a tool call, or several, as JSON text."""
    try:
        value = json.loads(content, parse_float=Decimal) if isinstance(content, str) else content
    except (ValueError, RecursionError) as error:
        raise BadRow(f"a tool call isn't JSON ({error})") from error
    return tuple(_call(call) for call in (value if isinstance(value, list) else [value]))


def _call(call: Any) -> ToolCall:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise BadRow("a tool call has no name")
    key = next((key for key in ("arguments", "args", "input", "parameters") if function.get(key) is not None), None)
    arguments = function[key] if key else {}
    text = arguments if isinstance(arguments, str) else json_text(arguments)
    name = call.get("id") or call.get("toolUseId")
    return ToolCall(
        id=text_of(name, "the id of a tool call") if name else "",
        name=text_of(function["name"], "the name of a tool"),
        arguments=text_of(text, "the arguments of a tool call") or "{}",
    )


def text_turns(text: str) -> list[Message]:
    """Parse a dialogue written as text, with turns that begin with Human: and Assistant:; empty if it is none."""
    marks = ("\n\nHuman:", "\n\nAssistant:")
    if not text.lstrip().startswith("Human:"):
        return []
    rest, turns = "\n\n" + text.lstrip(), list[Message]()
    while rest:
        role = "user" if rest.startswith(marks[0]) else "assistant"
        body = rest[len(marks[0] if role == "user" else marks[1]) :]
        end = min((place for mark in marks if (place := body.find(mark)) >= 0), default=len(body))
        turns.append(Message.model_validate({"role": role, "content": body[:end].strip()}))
        rest = body[end:]
    return turns


def same_turns(left: Sequence[Message], right: Sequence[Message]) -> bool:
    """Check whether two conversations have the same turns, apart from white space at the ends of texts."""
    return [(turn.role, turn.content.strip()) for turn in left] == [(turn.role, turn.content.strip()) for turn in right]
