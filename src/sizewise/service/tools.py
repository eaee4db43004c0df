"""Tool calling for every chat model: functions are described in the system message, calls are JSON between tags.

The tags are those of the Hermes and Qwen formats, which many open models were trained on. Other models can still be
forced to call a function, because constrained decoding allows no other output.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from sizewise.records import Message, Request
from sizewise.service.schemas import APIError, ChatMessage, ChatRequest, FunctionSpec, NamedTool

BEGIN, END = "<tool_call>", "</tool_call>"
RESULT_BEGIN, RESULT_END = "<tool_response>", "</tool_response>"
_DESCRIBED = "Each function is described by one line of JSON between <tools> and </tools>. "
_OPTIONAL_CALL = (
    f"You may call functions to help with the request. {_DESCRIBED}To call one, write a JSON object with its name and "
    f'its arguments between {BEGIN} and {END}, as in\n{BEGIN}\n{{"name": "NAME", "arguments": {{}}}}\n{END}\n'
    f"What it gives back follows between {RESULT_BEGIN} and {RESULT_END}. Where no function helps, answer in words."
)
_FORCED_CALL = (
    f"Call the function below for the request. {_DESCRIBED}Write its arguments as a JSON object, and nothing else."
)
_FORCED_CHOICE = (
    f"Call one of the functions below for the request. {_DESCRIBED}Write a JSON object with its name and its "
    'arguments, as in {"name": "NAME", "arguments": {}}, and nothing else.'
)


class Call(NamedTuple):
    """A function call by a model."""

    name: str
    arguments: str
    """Arguments as JSON."""


class Tools:
    """The functions that a model may call.

    Args:
        functions: at least one function.
        forced: names of functions one of which must be called; empty: the model decides.
        parallel: whether an answer may contain several calls.
    """

    def __init__(self, functions: Sequence[FunctionSpec], forced: Sequence[str] = (), parallel: bool = True) -> None:
        self._functions = {function.name: function for function in functions}
        self._forced, self._parallel = tuple(forced), parallel

    @classmethod
    def from_request(cls, body: ChatRequest, lenient: bool) -> Tools | None:
        """Read the tools of a request; None if it has none.

        Raises:
            APIError: tool_choice names an unknown function, or a parameter cannot be combined with tools.
        """
        if not body.tools or body.tool_choice == "none":
            return None
        functions = [tool.function for tool in body.tools]
        names = [function.name for function in functions]
        forced: list[str] = []
        if isinstance(body.tool_choice, NamedTool):
            forced = [name for name in names if name == body.tool_choice.function.name]
            if not forced and not lenient:
                raise APIError("tool_choice names a function that is not in tools.", "tool_choice")
        elif body.tool_choice == "required":
            forced = names
        if not lenient:
            if len(set(names)) < len(names):
                raise APIError("Two tools have the same name.", "tools")
            if body.logprobs:
                raise APIError("logprobs cannot be combined with tools.", "logprobs")
            if (body.response_format or {}).get("type", "text") != "text":
                raise APIError("response_format cannot be combined with tools.", "response_format")
        return cls(functions, list(dict.fromkeys(forced)), body.parallel_tool_calls is not False)

    def optional(self) -> Tools:
        """Return the same tools without a forced call."""
        return Tools(list(self._functions.values()), (), self._parallel)

    @property
    def schema(self) -> str | None:
        """JSON schema of a forced call; if one function is forced, of its arguments only. None: no call is forced."""
        if not self._forced:
            return None
        if len(self._forced) == 1:
            return json.dumps(_parameters(self._functions[self._forced[0]]))
        definitions: dict[str, Any] = {}
        calls = []
        for name in self._forced:
            parameters, local = _namespaced(_parameters(self._functions[name]), name)
            definitions |= local
            calls.append(
                {
                    "type": "object",
                    "properties": {"name": {"const": name}, "arguments": parameters},
                    "required": ["name", "arguments"],
                    "additionalProperties": False,
                }
            )
        return json.dumps({"anyOf": calls} | ({"$defs": definitions} if definitions else {}))

    def add_to(self, request: Request) -> Request:
        """Add the description of the functions to the system message of a conversation."""
        if not self._forced:
            instructions = _OPTIONAL_CALL
        else:
            instructions = _FORCED_CALL if len(self._forced) == 1 else _FORCED_CHOICE
        described = (
            json.dumps(function.model_dump(exclude_none=True), ensure_ascii=False) for function in self.described
        )
        system = "\n".join([instructions, "<tools>", *described, "</tools>"])
        messages = request.messages
        if messages and messages[0].role == "system":
            first, messages = messages[0], messages[1:]
            system = f"{first.content}\n\n{system}"
        schema = self.schema or request.json_schema
        with_tools = (Message(role="system", content=system), *messages)
        return request.model_copy(update={"messages": with_tools, "json_schema": schema})

    @property
    def described(self) -> list[FunctionSpec]:
        """The functions described to the model; if a call is forced, only the allowed ones."""
        return [function for name, function in self._functions.items() if not self._forced or name in self._forced]

    def parse(self, text: str) -> tuple[str, list[Call]]:
        """Split an answer into text and calls; an invalid call remains part of the text."""
        if self._forced:
            call = self._forced_call(text)
            return ("", [call]) if call else (text, [])
        content, calls = "", []
        rest = text
        while BEGIN in rest:
            before, _, rest = rest.partition(BEGIN)
            inside, _, after = rest.partition(END)
            call = self._call(_parse_json(inside))
            if call is None:
                content += before + BEGIN
                continue
            content += before
            calls.append(call)
            rest = after
        calls = calls if self._parallel else calls[:1]
        return content + rest, calls

    def _forced_call(self, text: str) -> Call | None:
        parsed = _parse_json(text)
        if len(self._forced) > 1:
            return self._call(parsed)
        return Call(self._forced[0], json.dumps(parsed, ensure_ascii=False)) if isinstance(parsed, dict) else None

    def _call(self, parsed: Any) -> Call | None:
        name = parsed.get("name") if isinstance(parsed, dict) else None
        if not isinstance(name, str) or name not in self._functions:
            return None
        arguments = parsed.get("arguments", parsed.get("parameters", {}))
        return Call(name, json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None

    def stream_parser(self) -> StreamParser:
        """Create a parser for a streamed answer."""
        return StreamParser(self, bool(self._forced))


class StreamParser:
    """Passes on the text of a streamed answer, and buffers what may be a call.

    Args:
        tools: the tools.
        forced: whether the whole answer is a call.
    """

    def __init__(self, tools: Tools, forced: bool) -> None:
        self._tools, self._buffer, self._in_call = tools, "", forced

    def feed(self, text: str) -> str:
        """Add a piece, and return the text that can be sent."""
        self._buffer += text
        if self._in_call:
            return ""
        position = self._buffer.find(BEGIN)
        if position < 0:
            sizes = range(min(len(BEGIN) - 1, len(self._buffer)), 0, -1)
            partial_tag = next((size for size in sizes if self._buffer.endswith(BEGIN[:size])), 0)
            position = len(self._buffer) - partial_tag
        else:
            self._in_call = True
        ready, self._buffer = self._buffer[:position], self._buffer[position:]
        return ready

    def end(self) -> tuple[str, list[Call]]:
        """Return the buffered text and the calls."""
        return self._tools.parse(self._buffer)


def format_calls(calls: Sequence[Call], streamed: bool = False) -> list[dict[str, Any]]:
    """Format calls like OpenAI."""
    return [
        ({"index": index} if streamed else {})
        | {
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for index, call in enumerate(calls)
    ]


def result_text(content: str) -> str:
    """Format the result of a call for the prompt; a closing tag inside it is escaped."""
    escaped = content.replace(RESULT_END, RESULT_END.replace("/", "\\/"))
    return f"{RESULT_BEGIN}\n{escaped}\n{RESULT_END}"


def call_text(message: ChatMessage, content: str) -> str:
    """Format an assistant message with calls for the prompt."""
    calls = [
        json.dumps(
            {"name": call.function.name, "arguments": _parse_json(call.function.arguments, call.function.arguments)},
            ensure_ascii=False,
        )
        for call in message.tool_calls or ()
    ]
    return "\n".join(part for part in (content, *(f"{BEGIN}\n{call}\n{END}" for call in calls)) if part)


def _namespaced(schema: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a schema from its definitions, and prefix their names so that several schemas can be combined."""
    sections = [section for section in (schema.get("$defs"), schema.get("definitions")) if isinstance(section, dict)]
    local = {key: value for section in sections for key, value in section.items()}
    if not local:
        return schema, {}

    def renamed(part: Any) -> Any:
        if isinstance(part, dict):
            return {
                key: f"#/$defs/{name}.{value.rpartition('/')[2]}"
                if key == "$ref" and isinstance(value, str) and value.rpartition("/")[2] in local
                else renamed(value)
                for key, value in part.items()
            }
        return [renamed(item) for item in part] if isinstance(part, list) else part

    rest = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    return renamed(rest), {f"{name}.{key}": renamed(value) for key, value in local.items()}


def _parameters(function: FunctionSpec) -> dict[str, Any]:
    return function.parameters or {"type": "object", "properties": {}}


def _parse_json(text: str, default: Any = None) -> Any:
    try:
        # Not strict, because restored personal data may contain line breaks.
        return json.loads(text, parse_constant=_reject_constant, strict=False)
    except (ValueError, RecursionError):
        return default


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")
