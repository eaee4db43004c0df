"""Tool calls as text: the canonical JSON of a call, calls in a model's answer, and conversations without tool roles.

The tags are those of the Hermes and Qwen formats, which many open models were trained on. Other models read them as
ordinary text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

from sizewise.records.text import Example, Message, ToolCall

BEGIN, END = "<tool_call>", "</tool_call>"
RESULT_BEGIN, RESULT_END = "<tool_response>", "</tool_response>"
MAX_ENDS = 16  # closing tags that are tried
# A call as Qwen 3.5 and Qwen3-Coder write it.
_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*)</function>\s*", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
Types = Mapping[str, Mapping[str, Any]]
"""Name of a function -> name of a parameter -> its type in the JSON schema."""
_DESCRIBED = "Each function is described by one line of JSON between <tools> and </tools>. "
OPTIONAL_CALL = (
    f"You may call functions to help with the request. {_DESCRIBED}To call one, write a JSON object with its name and "
    f'its arguments between {BEGIN} and {END}, as in\n{BEGIN}\n{{"name": "NAME", "arguments": {{}}}}\n{END}\n'
    f"What it gives back follows between {RESULT_BEGIN} and {RESULT_END}. Where no function helps, answer in words."
)
FORCED_CALL = (
    f"Call the function below for the request. {_DESCRIBED}Write its arguments as a JSON object, and nothing else."
)
FORCED_CHOICE = (
    f"Call one of the functions below for the request. {_DESCRIBED}Write a JSON object with its name and its "
    'arguments, as in {"name": "NAME", "arguments": {}}, and nothing else.'
)


def call_json(call: ToolCall) -> str:
    """Format a call as canonical JSON, the form of a reference answer: {"name": ..., "arguments": {...}}."""
    return json.dumps({"name": call.name, "arguments": arguments_of(call)}, ensure_ascii=False)


def calls_json(calls: Sequence[ToolCall]) -> str:
    """Format calls as a reference answer: the JSON of one call, or a list if there are several."""
    one = [call_json(call) for call in calls]
    return one[0] if len(one) == 1 else f"[{', '.join(one)}]"


def answer_of(message: Message) -> str:
    """Return an assistant message as an answer: its text, the JSON of its calls, or the text followed by the calls."""
    if not message.tool_calls:
        return message.content
    if not message.content.strip():
        return calls_json(message.tool_calls)
    return calls_text(message.content, message.tool_calls)


def arguments_of(call: ToolCall) -> Any:
    """Return the parsed arguments of a call; a text that isn't JSON is returned as it is."""
    return parse_json(call.arguments or "{}", call.arguments)


def calls_of(text: str) -> list[ToolCall]:
    """Read a text that is nothing but the JSON of calls; empty if it isn't."""
    parsed = parse_json(text) if text.lstrip()[:1] in ("{", "[") else None
    listed = parsed if isinstance(parsed, list) else [parsed]
    found = [_call(one) if isinstance(one, dict) and len(one) > 1 else None for one in listed]
    return [call for call in found if call] if found and all(found) else []


def find_calls(
    text: str, names: Collection[str] | None = None, types: Types | None = None
) -> tuple[str, list[ToolCall]]:
    """Split an answer into text and calls: JSON or marked parameters between tags, or nothing but JSON.

    An invalid call remains text.

    Args:
        text: the answer.
        names: names of the functions that may be called; None allows any name.
        types: types of their parameters, for calls that don't tell texts from numbers; see `types_in`.
    """

    def known(call: ToolCall | None) -> bool:
        return call is not None and (names is None or call.name in names)

    whole = calls_of(text)
    if whole and all(map(known, whole)):
        return "", whole
    content, calls = "", []
    rest = text
    while BEGIN in rest:
        before, _, rest = rest.partition(BEGIN)
        inside, after = _up_to_end(rest)
        call = _call(parse_json(inside)) or _marked_call(inside, types or {})
        if call is None or not known(call):
            content += before + BEGIN
            continue
        content += before
        calls.append(call)
        rest = after
    return content + rest, calls


def _up_to_end(text: str) -> tuple[str, str]:
    """Split at the closing tag; one inside a string of the JSON doesn't count."""
    place = text.find(END)
    if place < 0:
        return text, ""
    ends = [found.start() for found in islice(re.finditer(re.escape(END), text), MAX_ENDS)]
    place = next((end for end in ends if parse_json(text[:end]) is not None), place)
    return text[:place], text[place + len(END) :]


def definitions_of(tools: str) -> list[dict[str, Any]]:
    """Parse the tools of an example into definitions in OpenAI's form: {"type": "function", "function": {...}}."""
    parsed = parse_json(tools) if tools else None
    listed = parsed if isinstance(parsed, list) else [parsed] if isinstance(parsed, dict) else []
    return [
        tool if isinstance(tool.get("function"), dict) else {"type": "function", "function": tool}
        for tool in listed
        if isinstance(tool, dict)
    ]


def names_in(tools: str) -> set[str] | None:
    """Return the names of the tools of an example; None if it defines none."""
    names = {tool["function"].get("name") for tool in definitions_of(tools)}
    return {name for name in names if isinstance(name, str)} or None


def types_in(tools: str) -> Types:
    """Return the types of the parameters of tools."""
    found: dict[str, dict[str, Any]] = {}
    for tool in definitions_of(tools):
        schema = tool["function"].get("parameters")
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if isinstance(properties, dict):
            kinds = {name: one.get("type") for name, one in properties.items() if isinstance(one, dict)}
            found[str(tool["function"].get("name"))] = kinds
    return found


def uses_tools(messages: Sequence[Message], tools: str = "") -> bool:
    """Check whether a conversation has tools, calls or results, so that an answer may be a call."""
    return bool(tools) or any(message.role == "tool" or message.tool_calls for message in messages)


def as_scored(answer: str, example: Example) -> str:
    """Return an answer as it is compared with references: the canonical JSON of its calls if it has any, else its text.

    Calls are looked for if the conversation has tools or a reference answer is a call.
    """
    if not uses_tools(example.messages, example.tools) and not any(map(calls_of, example.references)):
        return answer
    calls = find_calls(answer, names_in(example.tools), types_in(example.tools))[1]
    return calls_json(calls) if calls else answer


def scored_references(example: Example) -> tuple[str, ...]:
    """Return the reference answers as answers are compared with them; see `as_scored`."""
    return tuple(as_scored(reference, example) for reference in example.references)


def calls_text(content: str, calls: Sequence[ToolCall]) -> str:
    """Format an assistant message with calls as text."""
    tagged = (f"{BEGIN}\n{call_json(call)}\n{END}" for call in calls)
    return "\n".join(part for part in (content, *tagged) if part)


def result_text(content: str) -> str:
    """Format the result of a call as text; a closing tag inside it is escaped."""
    escaped = content.replace(RESULT_END, RESULT_END.replace("/", "\\/"))
    return f"{RESULT_BEGIN}\n{escaped}\n{RESULT_END}"


def described_tools(tools: str, instructions: str = OPTIONAL_CALL) -> str:
    """Describe tools for a system message; empty without tools."""
    functions = [json.dumps(tool["function"], ensure_ascii=False) for tool in definitions_of(tools)]
    return "\n".join([instructions, "<tools>", *functions, "</tools>"]) if functions else ""


def results_in_order(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Sort the results of consecutive calls as the calls were made: most templates pair them by their places."""
    found: list[Message] = []
    order: dict[str, int] = {}
    for are_results, group in groupby(messages, key=lambda message: message.role == "tool"):
        some = list(group)
        if are_results:
            some.sort(key=lambda message: order.get(message.tool_call_id, len(order)))
        for message in some:
            order |= {call.id: len(order) + number for number, call in enumerate(message.tool_calls)}
        found += some
    return tuple(found)


def text_turns(messages: Sequence[Message], tools: str = "", instructions: str = OPTIONAL_CALL) -> tuple[Message, ...]:
    """Write tools, calls and results as text of system, assistant and user messages, which every model supports.

    The results of consecutive calls become one message in the order of the calls, because many chat templates require
    alternating roles.
    """
    turns: list[Message] = []
    results: list[str] = []
    messages = results_in_order(messages)
    for number, message in enumerate(messages):
        if message.role == "tool":
            results.append(result_text(message.content))
            if number + 1 < len(messages) and messages[number + 1].role == "tool":
                continue
            turns.append(Message(role="user", content="\n".join(results), images=message.images))
            results = []
        else:
            content = calls_text(message.content, message.tool_calls)
            turns.append(Message(role=message.role, content=content, images=message.images))
    described = described_tools(tools, instructions)
    if described and turns and turns[0].role == "system":
        turns[0] = turns[0].model_copy(update={"content": f"{turns[0].content}\n\n{described}"})
    elif described:
        turns.insert(0, Message(role="system", content=described))
    return tuple(turns)


def conversation_text(messages: Sequence[Message], tools: str = "") -> str:
    """Join a conversation into one plain text, for models without a chat template."""
    turns = text_turns(messages, tools) if uses_tools(messages, tools) else messages
    return "\n".join(turn.content for turn in turns)


def _call(parsed: Any) -> ToolCall | None:
    """Read a call in the form of Hermes, Qwen and Mistral ("arguments") or of Llama ("parameters")."""
    if not isinstance(parsed, dict) or not isinstance(parsed.get("name"), str):
        return None
    if not set(parsed) <= {"name", "arguments", "parameters", "id", "type"}:
        return None
    arguments = parsed.get("arguments", parsed.get("parameters", {} if len(parsed) == 1 else None))
    if not isinstance(arguments, dict):
        return None
    return ToolCall(name=parsed["name"], arguments=json.dumps(arguments, ensure_ascii=False))


def _marked_call(text: str, types: Types) -> ToolCall | None:
    """Read a call whose parameters stand between tags; texts are not quoted there, other values are JSON."""
    found = _FUNCTION.fullmatch(text)
    if not found or _PARAMETER.sub("", found[2]).strip():
        return None
    kinds, arguments = types.get(found[1].strip(), {}), dict[str, Any]()
    for name, value in _PARAMETER.findall(found[2]):
        parsed = {"True": True, "False": False, "None": None}.get(value, parse_json(value, value))
        arguments[name.strip()] = value if _is_text(kinds.get(name.strip()), value) else parsed
    return ToolCall(name=found[1].strip(), arguments=json.dumps(arguments, ensure_ascii=False))


def _is_text(kind: Any, value: str) -> bool:
    """Check whether a schema's type makes a value a text."""
    return kind == "string" or (isinstance(kind, list) and "string" in kind and value not in ("null", "None"))


def parse_json(text: str, default: Any = None) -> Any:
    """Parse JSON; return the default for other text. Line breaks in strings are allowed, NaN isn't."""
    try:
        return json.loads(text, parse_constant=_reject_constant, strict=False)
    except (ValueError, RecursionError):
        return default


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")
