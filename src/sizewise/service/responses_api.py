"""OpenAI's Responses API for models of our own: requests read as chat completions, answers written as items and events.

Nothing is stored: a response can't be fetched, continued by its id or run in the background, and a request that asks
for that is refused. Clients send the whole conversation as `input`, with the items of earlier answers.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from sizewise.models.thinking import with_counted_reasoning
from sizewise.records import Completion
from sizewise.service.responses import ChatForm
from sizewise.service.schemas import (
    FIRST_ERROR,
    MAX_MESSAGES,
    MAX_TOOLS,
    WITHOUT_EFFECT,
    APIError,
    ChatRequest,
    RequestBody,
)
from sizewise.service.sse import format_event
from sizewise.service.tools import Tools

Item = dict[str, Any]
_TEXT_PARTS = ("input_text", "output_text", "text", "refusal")
_ROLES = ("user", "assistant", "system", "developer")
_NAMES = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "messages": "input",
    "response_format": "text.format",
}
_STORED = ("previous_response_id", "conversation", "background", "prompt")
NOT_KEPT = "This service keeps no responses. Send the whole conversation as input, and store=false."


class ResponsesRequest(RequestBody):
    """A body of /v1/responses."""

    model: str
    input: str | Annotated[list[Item], FIRST_ERROR] = Field("", max_length=8_000_000)
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=10**7)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    tools: Annotated[list[Item], FIRST_ERROR] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: str | Item | None = None
    parallel_tool_calls: bool | None = None
    text: Item | None = None
    store: bool | None = None
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    metadata: dict[str, str] | None = Field(None, max_length=16)
    user: str | None = None

    def to_chat(self, lenient: bool) -> ChatRequest:
        """Read the request as a chat completion.

        Raises:
            APIError: it asks for something that isn't supported.
        """
        if not lenient:
            self._reject_unsupported()
        if not self.input:
            raise APIError("input is empty.", "input")
        items = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        messages = [{"role": "system", "content": self.instructions}] if self.instructions else []
        messages += _messages(items, lenient)
        if not 0 < len(messages) <= MAX_MESSAGES:
            raise APIError(f"A request must have between 1 and {MAX_MESSAGES:,} messages.", "input")
        given = {
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stream": self.stream,
            "tools": [_tool(tool, lenient) for tool in self.tools or ()] or None,
            "tool_choice": _tool_choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": _format(self.text),
            "user": self.user,
        }
        unknown = {name: value for name, value in (self.model_extra or {}).items() if name not in WITHOUT_EFFECT}
        unknown = {name: value for name, value in unknown.items() if name not in ChatRequest.model_fields}
        try:
            return ChatRequest.model_validate(unknown | {name: one for name, one in given.items() if one is not None})
        except ValidationError as error:
            first = error.errors()[0]
            place = own_name(".".join(str(part) for part in first["loc"]))
            raise APIError(f"{place}: {first['msg'].removeprefix('Value error, ')}", place, "invalid_value") from None

    def _reject_unsupported(self) -> None:
        extra = self.model_extra or {}
        for field in _STORED:
            if extra.get(field):
                raise APIError(f"{field} is not supported. {NOT_KEPT}", field, "unsupported_parameter")
        if self.store:
            raise APIError(f"store=true is not supported. {NOT_KEPT}", "store", "unsupported_parameter")
        if self.include:
            raise APIError(f"include is not supported: {self.include[0][:100]!r}.", "include", "unsupported_parameter")
        if self.truncation == "auto":
            raise APIError(
                "truncation must be 'disabled': no items are dropped.", "truncation", "unsupported_parameter"
            )
        if self.top_logprobs:
            raise APIError("top_logprobs is not supported.", "top_logprobs", "unsupported_parameter")
        unknown = next((name for name in extra if name not in WITHOUT_EFFECT and extra[name] is not None), None)
        if unknown is not None and unknown not in _STORED:
            raise APIError(f"Unknown parameter: {unknown[:100]!r}.", unknown[:100], "unknown_parameter")


def own_name(parameter: str) -> str:
    """Return the name that a parameter of chat completions has in this API."""
    first, dot, rest = parameter.partition(".")
    return _NAMES.get(first, first) + dot + rest


def _messages(items: Sequence[Item], lenient: bool) -> list[Item]:
    """Convert items of a conversation to messages of a chat; an answer's calls belong to one message."""
    messages: list[Item] = []
    for number, item in enumerate(items):
        place = f"input[{number}]"
        kind = item.get("type", "message" if "role" in item else "")
        if kind == "message":
            if item.get("role") not in _ROLES:
                raise APIError(f"The role must be one of {', '.join(_ROLES)}.", f"{place}.role")
            messages.append({"role": item["role"], "content": _text(item.get("content"), f"{place}.content", lenient)})
        elif kind == "function_call":
            name, arguments, call_id = (_string(item, field, place) for field in ("name", "arguments", "call_id"))
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            messages[-1].setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            output = _text(item.get("output"), f"{place}.output", lenient)
            messages.append({"role": "tool", "tool_call_id": _string(item, "call_id", place), "content": output})
        elif kind == "item_reference":
            raise APIError(f"Items can't be referred to by their ids. {NOT_KEPT}", place, "unsupported_parameter")
        elif kind != "reasoning" and not lenient:  # models don't read their earlier reasoning
            raise APIError(f"This server doesn't accept items of type {str(kind)[:50]!r}.", f"{place}.type")
    return messages


def _string(item: Item, field: str, place: str) -> str:
    value = item.get(field)
    if not isinstance(value, str):
        raise APIError(f"{field} must be a string.", f"{place}.{field}", "invalid_value")
    return value


def _text(content: Any, place: str, lenient: bool) -> str:
    """Return the text of a content; parts of a text are joined with a line break."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise APIError("The content must be a text or a list of parts.", place, "invalid_value")
    texts = []
    for part in content:
        kind = part.get("type")
        text = part.get("refusal" if kind == "refusal" else "text")
        if kind in _TEXT_PARTS and isinstance(text, str):
            texts.append(text)
        elif not lenient:
            raise APIError(f"This server accepts text only, not {str(kind)[:50]}.", place)
    return "\n".join(texts)


def _tool(tool: Item, lenient: bool) -> Item:
    if tool.get("type") != "function" and not lenient:
        raise APIError(f"Tools must have the type 'function', not {str(tool.get('type'))[:50]!r}.", "tools")
    fields = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in fields if tool.get(name) is not None}}


def _tool_choice(choice: str | Item | None) -> Any:
    if not isinstance(choice, dict):
        if choice not in (None, "none", "auto", "required"):
            raise APIError("tool_choice must be none, auto, required or a function.", "tool_choice", "invalid_value")
        return choice
    if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
        raise APIError("tool_choice must be none, auto, required or a function.", "tool_choice", "invalid_value")
    return {"type": "function", "function": {"name": choice["name"]}}


def _format(text: Item | None) -> Item | None:
    """Convert the form of the answer; the schema stands one level higher than in chat completions."""
    asked = (text or {}).get("format")
    if asked is None:
        return None
    if not isinstance(asked, dict):
        raise APIError("text.format must be an object.", "text.format", "invalid_value")
    if asked.get("type") != "json_schema":
        return asked
    return {"type": "json_schema", "json_schema": {name: value for name, value in asked.items() if name != "type"}}


class ResponsesForm(ChatForm):
    """Format of responses, whole or as events.

    Args:
        model: name of the model.
        body: the request.
        chat: the request as a chat completion.
        tools: tools the model may call.
    """

    end = b""

    def __init__(self, model: str, body: ResponsesRequest, chat: ChatRequest, tools: Tools | None = None) -> None:
        super().__init__(model, chat, tools)
        self._body, self._id, self._created = body, _new_id("resp"), int(time.time())
        self._output: list[Item] = []
        self._open: Item | None = None  # the item that is being streamed
        self._number = 0
        self._finish = "stop"

    def response(self, status: str, usage: dict[str, Any] | None = None) -> Item:
        """Return the response object as it is now."""
        body = self._body
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        asked = {"format": {"type": "text"}} | (body.text or {})
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": cut,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": self.model,
            "output": [dict(item) for item in self._output],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": body.temperature or 0.0,
            "text": asked,
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "usage": usage,
            "user": body.user,
            "metadata": body.metadata or {},
        }

    def whole(self, choices: list[dict[str, Any]], completions: Sequence[Completion], extension: Item) -> Item:
        """Format a whole response."""
        message = choices[0]["message"]
        if message.get("reasoning_content"):
            self._output.append(_reasoning(message["reasoning_content"]))
        if message["content"] or not message.get("tool_calls"):
            self._output.append(_message(message["content"] or ""))
        self._output += [_call(call["id"], **call["function"]) for call in message.get("tool_calls", ())]
        status = self._status(choices[0]["finish_reason"])
        if status == "incomplete" and self._output[-1]["type"] != "function_call":  # calls are whole
            self._output[-1]["status"] = status
        return self.response(status, self._usage(completions)) | extension

    @staticmethod
    def _status(finish: str) -> str:
        return "incomplete" if finish == "length" else "completed"

    def _usage(self, completions: Sequence[Completion]) -> dict[str, Any]:
        used, reasoned = self.usage(completions), map(with_counted_reasoning, completions)
        return {
            "input_tokens": used["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": used["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": sum(one.reasoning_tokens for one in reasoned)},
            "total_tokens": used["total_tokens"],
        }

    # -- events -------------------------------------------------------------------------------------------

    def sent(self, choice: dict[str, Any]) -> bytes:
        """Format a chunk of an answer as events."""
        delta: dict[str, Any] = choice["delta"]
        events = b""
        if "role" in delta:
            begun = self.response("in_progress")
            events += self._event("response.created", response=begun)
            events += self._event("response.in_progress", response=begun)
        if delta.get("reasoning_content"):
            events += self._add("reasoning", delta["reasoning_content"])
        if delta.get("content"):
            events += self._add("message", delta["content"])
        for call in delta.get("tool_calls", ()):
            events += self._close() + self._called(_call(call["id"], **call["function"]))
        if choice["finish_reason"] is not None:
            self._finish = choice["finish_reason"]
            if not any(item["type"] in ("message", "function_call") for item in self._output):
                events += self._close() + self._begin("message")
            events += self._close(self._status(self._finish))
        return events

    def summary(self, completions: Sequence[Completion], extension: Item) -> bytes:
        """Format the last event, which holds the whole response."""
        status = self._status(self._finish)
        response = self.response(status, self._usage(completions)) | extension
        return self._event(f"response.{status}", response=response)

    def broken(self, body: dict[str, Any]) -> bytes:
        """Format an error after the status was sent."""
        error = body["error"]
        told = {"code": error["code"] or error["type"], "message": error["message"], "param": error["param"]}
        return self._event("error", **told, error=error)

    def _event(self, kind: str, **fields: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._number} | fields
        self._number += 1
        return format_event(json.dumps(event, ensure_ascii=False), kind)

    def _add(self, kind: str, text: str) -> bytes:
        """Add text to the open item, or to a new one."""
        events = b""
        if self._open is None or self._open["type"] != kind:
            events = self._close() + self._begin(kind)
        assert self._open is not None
        self._open["content"][0]["text"] += text
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        return events + self._event(f"{_PART_EVENTS[kind]}.delta", **self._place(), delta=text, **more)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1, "content_index": 0}

    def _begin(self, kind: str) -> bytes:
        item = _message("", "in_progress") if kind == "message" else _reasoning("", "in_progress")
        self._open = item
        self._output.append(item)
        index = len(self._output) - 1
        return self._event("response.output_item.added", output_index=index, item=item | {"content": []}) + self._event(
            "response.content_part.added", **self._place(), part=dict(item["content"][0])
        )

    def _close(self, status: str = "completed") -> bytes:
        """End the open item, if there is one."""
        item, self._open = self._open, None
        if item is None:
            return b""
        item["status"] = status
        part = item["content"][0]
        more: dict[str, Any] = {"logprobs": []} if item["type"] == "message" else {}
        return (
            self._event(f"{_PART_EVENTS[item['type']]}.done", **self._place(), text=part["text"], **more)
            + self._event("response.content_part.done", **self._place(), part=dict(part))
            + self._event("response.output_item.done", output_index=len(self._output) - 1, item=dict(item))
        )

    def _called(self, item: Item) -> bytes:
        """Format a call, which is complete when it is known."""
        self._output.append(item)
        index = len(self._output) - 1
        place = {"item_id": item["id"], "output_index": index}
        begun = item | {"arguments": "", "status": "in_progress"}
        kind = "response.function_call_arguments"
        return (
            self._event("response.output_item.added", output_index=index, item=begun)
            + self._event(f"{kind}.delta", **place, delta=item["arguments"])
            + self._event(f"{kind}.done", **place, name=item["name"], arguments=item["arguments"])
            + self._event("response.output_item.done", output_index=index, item=item)
        )


_PART_EVENTS = {"message": "response.output_text", "reasoning": "response.reasoning_text"}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


def _message(text: str, status: str = "completed") -> Item:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "id": _new_id("msg"), "status": status, "role": "assistant", "content": [part]}


def _reasoning(text: str, status: str = "completed") -> Item:
    part = {"type": "reasoning_text", "text": text}
    return {"type": "reasoning", "id": _new_id("rs"), "status": status, "summary": [], "content": [part]}


def _call(call_id: str, name: str, arguments: str) -> Item:
    made = {"type": "function_call", "id": _new_id("fc"), "status": "completed", "call_id": call_id}
    return made | {"name": name, "arguments": arguments}
