"""Tool calling for every chat model: requests, answers and streams with tools.

Models that take tools get them as they are. For others, functions are described in the system message, and calls are
JSON between tags (see `records.tool_calls`). Models that weren't trained on tools can still be forced to call a
function, because constrained decoding allows no other output.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from sizewise.records import Request, ToolCall
from sizewise.records.tool_calls import (
    BEGIN,
    END,
    FORCED_CALL,
    FORCED_CHOICE,
    OPTIONAL_CALL,
    find_calls,
    parse_json,
    text_turns,
    types_in,
    uses_tools,
)
from sizewise.service.schemas import APIError, ChatRequest, FunctionSpec, NamedTool


class Tools:
    """The functions that a model may call.

    Args:
        functions: at least one function.
        forced: names of functions one of which must be called; empty: the model decides.
        parallel: whether an answer may contain several calls.
    """

    def __init__(self, functions: Sequence[FunctionSpec], forced: Sequence[str] = (), parallel: bool = True) -> None:
        self._functions = {function.name: function for function in functions}
        self._types = types_in(json.dumps([function.model_dump(exclude_none=True) for function in functions]))
        self._forced, self._parallel = tuple(forced), parallel

    @classmethod
    def from_request(cls, body: ChatRequest, lenient: bool) -> Tools | None:
        """Read the tools of a request; None if it has none.

        Raises:
            APIError: tool_choice demands an impossible call, or a parameter cannot be combined with tools.
        """
        if not body.tools and body.tool_choice not in (None, "none", "auto") and not lenient:
            raise APIError("tool_choice demands a call, but there are no tools.", "tool_choice")
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

    def add_to(self, request: Request, takes_tools: bool = False) -> Request:
        """Add the functions to a request, as they are or, for a forced call or another model, in the system message."""
        functions = [function.model_dump(exclude_none=True) for function in self.described]
        listed = json.dumps([{"type": "function", "function": one} for one in functions], ensure_ascii=False)
        if takes_tools and not self._forced:
            return request.model_copy(update={"tools": listed})
        forced = FORCED_CALL if len(self._forced) == 1 else FORCED_CHOICE
        instructions = forced if self._forced else OPTIONAL_CALL
        schema = self.schema or request.json_schema
        messages = text_turns(request.messages, listed, instructions)
        return request.model_copy(update={"messages": messages, "json_schema": schema})

    @property
    def described(self) -> list[FunctionSpec]:
        """The functions described to the model; if a call is forced, only the allowed ones."""
        return [function for name, function in self._functions.items() if not self._forced or name in self._forced]

    def parse(self, text: str, cut: bool = False) -> tuple[str, list[ToolCall]]:
        """Split an answer into text and calls; an invalid call remains part of the text.

        Args:
            text: the answer.
            cut: whether the answer was cut at its limit; a half-written call after whole ones is then dropped.
        """
        if self._forced:
            call = self._forced_call(text)
            return ("", [call]) if call else (text, [])
        content, calls = find_calls(text, self._functions, self._types)
        last = content.rfind(BEGIN)
        if cut and calls and last >= 0 and END not in content[last:]:
            content = content[:last]
        return content, calls if self._parallel else calls[:1]

    def _forced_call(self, text: str) -> ToolCall | None:
        parsed = parse_json(text)
        if len(self._forced) > 1:
            calls = find_calls(text, self._functions, self._types)[1]
            return calls[0] if calls else None
        arguments = json.dumps(parsed, ensure_ascii=False)
        return ToolCall(name=self._forced[0], arguments=arguments) if isinstance(parsed, dict) else None

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
        self._tools, self._buffer, self._in_call, self._sent = tools, "", forced, False

    def feed(self, text: str) -> str:
        """Add a piece, and return the text that can be sent."""
        self._buffer += text
        if not self._sent and self._buffer.lstrip()[:1] in ("{", "["):
            self._in_call = True  # perhaps a call without tags
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
        self._sent = self._sent or bool(ready.strip())
        return ready

    def end(self, cut: bool = False) -> tuple[str, list[ToolCall]]:
        """Return the buffered text and the calls; see `Tools.parse`."""
        return self._tools.parse(self._buffer, cut)


def format_calls(calls: Sequence[ToolCall], streamed: bool = False) -> list[dict[str, Any]]:
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


def without_tools(request: Request, takes_tools: bool) -> Request:
    """Write the tool calls and results of earlier turns as text, unless the model takes them as they are."""
    if takes_tools or not uses_tools(request.messages):
        return request
    return request.model_copy(update={"messages": text_turns(request.messages)})


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
