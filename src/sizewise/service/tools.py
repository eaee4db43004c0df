"""Tools in OpenAI's form for every chat model: told of in the conversation, called by JSON between marks.

The marks are those that many open models were trained with (Hermes, Qwen). A model that was not may still call: where a
call is demanded, the engine's grammar lets it write nothing else.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from sizewise.records import Message, Request
from sizewise.service.schemas import ChatMessage, ChatRequest, FunctionSpec, NamedTool, Refused

BEGIN, END = "<tool_call>", "</tool_call>"
ANSWER_BEGIN, ANSWER_END = "<tool_response>", "</tool_response>"
_DESCRIBED = "Each function is described by one line of JSON between <tools> and </tools>. "
_ORDERS = (
    f"You may call functions to help with the request. {_DESCRIBED}To call one, write a JSON object with its name and "
    f'its arguments between {BEGIN} and {END}, as in\n{BEGIN}\n{{"name": "NAME", "arguments": {{}}}}\n{END}\n'
    f"What it gives back follows between {ANSWER_BEGIN} and {ANSWER_END}. Where no function helps, answer in words."
)
_ONE = f"Call the function below for the request. {_DESCRIBED}Write its arguments as a JSON object, and nothing else."
_SEVERAL = (
    f"Call one of the functions below for the request. {_DESCRIBED}Write a JSON object with its name and its "
    'arguments, as in {"name": "NAME", "arguments": {}}, and nothing else.'
)


class Call(NamedTuple):
    """A function that a model calls."""

    name: str
    arguments: str
    """Its arguments as JSON."""


class Tools:
    """The functions that a conversation may call.

    Args:
        functions: what there is, at least one.
        forced: names of which one must be called; none: the model is free.
        parallel: several may be called in one answer.
    """

    def __init__(self, functions: Sequence[FunctionSpec], forced: Sequence[str] = (), parallel: bool = True) -> None:
        self._functions = {one.name: one for one in functions}
        self._forced, self._parallel = tuple(forced), parallel

    @classmethod
    def of(cls, asked: ChatRequest, lenient: bool) -> Tools | None:
        """Give what a request may call; None where it may call nothing.

        Raises:
            Refused: the choice names no tool, or something else is asked for that cannot stand beside tools.
        """
        if not asked.tools or asked.tool_choice == "none":
            return None
        functions = [one.function for one in asked.tools]
        names = [one.name for one in functions]
        forced: list[str] = []
        if isinstance(asked.tool_choice, NamedTool):
            forced = [name for name in names if name == asked.tool_choice.function.name]
            if not forced and not lenient:
                raise Refused("tool_choice names a function that is not among the tools.", "tool_choice")
        elif asked.tool_choice == "required":
            forced = names
        if not lenient:
            if len(set(names)) < len(names):
                raise Refused("Two tools have the same name.", "tools")
            if asked.logprobs:
                raise Refused("Log-likelihoods are not given beside tools.", "logprobs")
            if (asked.response_format or {}).get("type", "text") != "text":
                raise Refused("An answer either fits a schema or may call tools.", "response_format")
        return cls(functions, list(dict.fromkeys(forced)), asked.parallel_tool_calls is not False)

    def free(self) -> Tools:
        """Give the same tools, none of which must be called."""
        return Tools(list(self._functions.values()), (), self._parallel)

    @property
    def schema(self) -> str | None:
        """The JSON schema of a call where one is demanded: of the arguments alone where there is one function."""
        if not self._forced:
            return None
        if len(self._forced) == 1:
            return json.dumps(_parameters(self._functions[self._forced[0]]))
        definitions: dict[str, Any] = {}
        calls = []
        for name in self._forced:
            parameters, own = _apart(_parameters(self._functions[name]), name)
            definitions |= own
            calls.append(
                {
                    "type": "object",
                    "properties": {"name": {"const": name}, "arguments": parameters},
                    "required": ["name", "arguments"],
                    "additionalProperties": False,
                }
            )
        return json.dumps({"anyOf": calls} | ({"$defs": definitions} if definitions else {}))

    def told_in(self, asked: Request) -> Request:
        """Put what may be called before a conversation, into its system message if it has one."""
        orders = _ORDERS if not self._forced else _ONE if len(self._forced) == 1 else _SEVERAL
        described = (json.dumps(one.model_dump(exclude_none=True), ensure_ascii=False) for one in self.shown)
        told = "\n".join([orders, "<tools>", *described, "</tools>"])
        messages = asked.messages
        if messages and messages[0].role == "system":
            first, messages = messages[0], messages[1:]
            told = f"{first.content}\n\n{told}"
        schema = self.schema or asked.json_schema
        changed = (Message(role="system", content=told), *messages)
        return asked.model_copy(update={"messages": changed, "json_schema": schema})

    @property
    def shown(self) -> list[FunctionSpec]:
        """The functions that the model is told of."""
        return [one for name, one in self._functions.items() if not self._forced or name in self._forced]

    def read(self, text: str) -> tuple[str, list[Call]]:
        """Part an answer into words and calls; what is no call that can be made stays among the words."""
        if self._forced:
            call = self._forced_call(text)
            return ("", [call]) if call else (text, [])
        words, calls = "", []
        rest = text
        while BEGIN in rest:
            before, _, rest = rest.partition(BEGIN)
            inside, _, after = rest.partition(END)
            call = self._call(_loaded(inside))
            if call is None:
                words += before + BEGIN
                continue
            words += before
            calls.append(call)
            rest = after
        calls = calls if self._parallel else calls[:1]
        return words + rest, calls

    def _forced_call(self, text: str) -> Call | None:
        told = _loaded(text)
        if len(self._forced) > 1:
            return self._call(told)
        return Call(self._forced[0], json.dumps(told, ensure_ascii=False)) if isinstance(told, dict) else None

    def _call(self, told: Any) -> Call | None:
        name = told.get("name") if isinstance(told, dict) else None
        if not isinstance(name, str) or name not in self._functions:
            return None
        arguments = told.get("arguments", told.get("parameters", {}))
        return Call(name, json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None

    def watch(self) -> Watch:
        """Follow an answer that is streamed."""
        return Watch(self, bool(self._forced))


class Watch:
    """Lets the words of a streamed answer pass and keeps what may be a call.

    Args:
        tools: what may be called.
        all_of_it: the whole answer is a call.
    """

    def __init__(self, tools: Tools, all_of_it: bool) -> None:
        self._tools, self._kept, self._keeps = tools, "", all_of_it

    def feed(self, text: str) -> str:
        """Take a piece; give the words that may be shown."""
        self._kept += text
        if self._keeps:
            return ""
        place = self._kept.find(BEGIN)
        if place < 0:
            sizes = range(min(len(BEGIN) - 1, len(self._kept)), 0, -1)
            place = len(self._kept) - next((size for size in sizes if self._kept.endswith(BEGIN[:size])), 0)
        else:
            self._keeps = True
        shown, self._kept = self._kept[:place], self._kept[place:]
        return shown

    def end(self) -> tuple[str, list[Call]]:
        """Give the words that were kept, and the calls."""
        return self._tools.read(self._kept)


def written(calls: Sequence[Call], streamed: bool = False) -> list[dict[str, Any]]:
    """Write calls as OpenAI does."""
    return [
        ({"index": index} if streamed else {})
        | {
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": one.name, "arguments": one.arguments},
        }
        for index, one in enumerate(calls)
    ]


def answer_text(content: str) -> str:
    """Write what a call gave as a model reads it; what stands in it cannot end it."""
    inside = content.replace(ANSWER_END, ANSWER_END.replace("/", "\\/"))
    return f"{ANSWER_BEGIN}\n{inside}\n{ANSWER_END}"


def calling_text(message: ChatMessage, content: str) -> str:
    """Write a message that calls as a model reads it."""
    calls = [
        json.dumps(
            {"name": one.function.name, "arguments": _loaded(one.function.arguments, one.function.arguments)},
            ensure_ascii=False,
        )
        for one in message.tool_calls or ()
    ]
    return "\n".join(part for part in (content, *(f"{BEGIN}\n{call}\n{END}" for call in calls)) if part)


def _apart(schema: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take a schema's definitions out of it, under names that those of other schemas do not have."""
    parts = [part for part in (schema.get("$defs"), schema.get("definitions")) if isinstance(part, dict)]
    own = {key: value for part in parts for key, value in part.items()}
    if not own:
        return schema, {}

    def renamed(part: Any) -> Any:
        if isinstance(part, dict):
            return {
                key: f"#/$defs/{name}.{value.rpartition('/')[2]}"
                if key == "$ref" and isinstance(value, str) and value.rpartition("/")[2] in own
                else renamed(value)
                for key, value in part.items()
            }
        return [renamed(one) for one in part] if isinstance(part, list) else part

    rest = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    return renamed(rest), {f"{name}.{key}": renamed(value) for key, value in own.items()}


def _parameters(function: FunctionSpec) -> dict[str, Any]:
    return function.parameters or {"type": "object", "properties": {}}


def _loaded(text: str, otherwise: Any = None) -> Any:
    try:
        # Not strict: what was masked and is put back may hold a line's end.
        return json.loads(text, parse_constant=_no_number, strict=False)
    except (ValueError, RecursionError):
        return otherwise


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
