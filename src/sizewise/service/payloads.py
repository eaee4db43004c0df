"""Texts in the JSON of OpenAI's API: found, masked on the way to a backend, and restored on the way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sizewise.guard import Unmask

CHARACTERS_PER_TOKEN = 3
TOKENS_PER_FILE = 1_500
"""Estimated tokens of an image, a sound or a file."""
_STRUCTURE = frozenset(
    {"model", "role", "type", "id", "object", "tool_call_id", "call_id", "detail", "encoding_format", "tool_choice"}
    | {"finish_reason", "status", "service_tier", "required", "pattern", "format", "$ref", "created_by"}
)
"""Fields whose strings are no text of a person."""
_FILES = frozenset({"url", "data", "file_data", "file_url", "image_url", "file_id"})
_UNCHECKED = frozenset(
    {"image_url", "input_image", "image", "input_audio", "audio", "file", "input_file", "video_url", "input_video"}
)
_PROMPT_FIELDS = ("messages", "prompt", "input", "instructions", "tools", "functions", "response_format", "text")
_STREAMED = ("content", "reasoning_content", "reasoning", "refusal")


def texts_in(payload: Any, field: str = "") -> Iterator[str]:
    """Find all texts of a payload, without names of fields, types and files."""
    if isinstance(payload, str):
        yield payload
    elif isinstance(payload, Mapping):
        for key, value in payload.items():
            if not _is_structure(payload, key, value):
                yield from texts_in(value, key)
    elif isinstance(payload, list):
        for item in payload:
            yield from texts_in(item, field)


def map_texts(payload: Any, change: Callable[[str], str]) -> Any:
    """Change all texts that `texts_in` finds."""
    if isinstance(payload, str):
        return change(payload)
    if isinstance(payload, Mapping):
        return {
            key: value if _is_structure(payload, key, value) else map_texts(value, change)
            for key, value in payload.items()
        }
    return [map_texts(item, change) for item in payload] if isinstance(payload, list) else payload


def _is_structure(parent: Mapping[str, Any], key: str, value: Any) -> bool:
    if key in _STRUCTURE and not isinstance(value, Mapping):
        return True
    if key == "name":  # of a function, but not of a person who speaks
        return "role" not in parent
    return key in _FILES and isinstance(value, str)


def find_unchecked(payload: Any) -> str:
    """Return the kind of content in which no guard can look for text: an image, a sound, a file or token ids."""
    if isinstance(payload, Mapping):
        kind = payload.get("type")
        if isinstance(kind, str) and kind in _UNCHECKED:
            return kind
        for key in ("prompt", "input"):
            found = payload.get(key)
            if isinstance(found, list) and any(isinstance(item, int | list) for item in found):
                return "token ids"
        return next((found for found in map(find_unchecked, payload.values()) if found), "")
    if isinstance(payload, list):
        return next((found for found in map(find_unchecked, payload) if found), "")
    return ""


def prompt_tokens(payload: Mapping[str, Any]) -> int:
    """Estimate the tokens of a prompt from its characters, numbers and files."""
    characters = numbers = files = 0
    pending: list[Any] = [payload.get(field) for field in _PROMPT_FIELDS]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            characters += len(item)
        elif isinstance(item, Mapping):
            files += item.get("type") in _UNCHECKED if isinstance(item.get("type"), str) else 0
            pending += [value for key, value in item.items() if key == "name" or not _is_structure(item, key, value)]
        elif isinstance(item, list):
            pending += item
        else:
            numbers += isinstance(item, int)
    return characters // CHARACTERS_PER_TOKEN + numbers + files * TOKENS_PER_FILE


def spoken_texts(body: Mapping[str, Any]) -> list[str]:
    """Return what others than the operator wrote: all but system messages, instructions and tools."""
    messages = body.get("messages", body.get("input", body.get("prompt")))
    if not isinstance(messages, list):
        return [messages] if isinstance(messages, str) else []
    spoken = [
        item
        for item in messages
        if not isinstance(item, Mapping) or item.get("role") not in ("system", "developer", "assistant")
    ]
    return list(texts_in(spoken))


class Restorer:
    """Restores masked values in whole and streamed answers.

    Args:
        values: token without brackets -> original value.
    """

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._escaped = {token: json.dumps(value, ensure_ascii=False)[1:-1] for token, value in values.items()}
        self._channels: dict[tuple[Any, ...], Unmask] = {}

    def whole(self, payload: Any, field: str = "") -> Any:
        """Restore the values in a whole answer; arguments of tools are JSON in a string, so they are escaped there."""
        if not self._values:
            return payload
        if isinstance(payload, str):
            return Unmask(self._escaped if field == "arguments" else self._values).restore(payload)
        if isinstance(payload, Mapping):
            return {key: self.whole(value, key) for key, value in payload.items()}
        return [self.whole(item, field) for item in payload] if isinstance(payload, list) else payload

    def chunk(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Restore the values in a chunk of a streamed chat or text completion; what may be a token is held back."""
        if not self._values:
            return payload
        for choice in payload.get("choices") or ():
            if isinstance(choice, dict):
                self._choice(choice, choice.get("index"), choice.get("finish_reason") is not None)
        return payload

    def _choice(self, choice: dict[str, Any], index: Any, ended: bool) -> None:
        delta = choice.get("delta")
        for fields, names in ((choice, ("text",)), (delta, _STREAMED)):
            if not isinstance(fields, dict):
                continue
            for name in names:
                found = self._feed((index, name), fields.get(name), ended)
                if found is not None:
                    fields[name] = found
        if not isinstance(delta, dict):
            return
        legacy = delta.get("function_call")
        if isinstance(legacy, dict) or (ended and (index, "arguments", None) in self._channels):
            fields = legacy if isinstance(legacy, dict) else {}
            fed = self._feed((index, "arguments", None), fields.get("arguments"), ended)
            if fed or "arguments" in fields:
                delta["function_call"] = fields | {"arguments": fed or ""}
        calls = delta.get("tool_calls") or []
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and "arguments" in function:
                fed = self._feed((index, "arguments", call.get("index")), function["arguments"], False)
                function["arguments"] = fed if fed is not None else function["arguments"]
        open_calls = [key for key in self._channels if key[:2] == (index, "arguments") and key[2] is not None]
        rests = {key[2]: self._finish(key) for key in open_calls if ended}
        more = [{"index": number, "function": {"arguments": rest}} for number, rest in rests.items() if rest]
        if more:
            delta["tool_calls"] = [*calls, *more]

    def event(self, payload: dict[str, Any]) -> list[dict[str, Any]]:
        """Restore the values in an event of /v1/responses, and return it after what was held back before it."""
        kind = str(payload.get("type", ""))
        if not self._values:
            return [payload]
        place = tuple(payload.get(name) for name in ("item_id", "output_index", "content_index", "summary_index"))
        if kind.endswith(".delta") and isinstance(payload.get("delta"), str):
            name = "arguments" if "arguments" in kind else "delta"
            return [payload | {"delta": self._feed((kind, name, *place), payload["delta"], False)}]
        events = [self.whole(payload)]
        if kind.endswith(".done"):
            begun = kind.removesuffix(".done") + ".delta"
            for key in [key for key in self._channels if key[0] == begun and key[2:] == place]:
                rest = self._finish(key)
                if rest:
                    held = {name: value for name, value in payload.items() if name.endswith(("_id", "_index"))}
                    number = {name: payload[name] for name in ("sequence_number",) if name in payload}
                    events.insert(0, held | number | {"type": begun, "delta": rest})
        return events

    def _feed(self, channel: tuple[Any, ...], text: Any, ended: bool) -> str | None:
        """Add a text to its channel; None if there is nothing to send."""
        known = channel in self._channels
        if not isinstance(text, str) and not (ended and known):
            return None
        unmask = self._channels.setdefault(
            channel, Unmask(self._escaped if "arguments" in channel[:2] else self._values)
        )
        sent = unmask.feed(text) if isinstance(text, str) else ""
        sent += unmask.finish() if ended else ""
        return sent if sent or isinstance(text, str) else None

    def _finish(self, channel: tuple[Any, ...]) -> str:
        return self._channels.pop(channel).finish()
