"""Render conversations with the model's own chat template, tools and tool calls included.

A template that describes tools, and whose calls can be read back, gets them as they are. For other templates, tools,
calls and results are written as text first. A system message becomes the beginning of the first user message where
the template has no place for it. Training, evaluation and service all render here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sizewise.errors import SizewiseError
from sizewise.lm.control_tokens import Rendered, control_tokens, hide, hide_answer, shown
from sizewise.lm.template_dates import dated
from sizewise.records import Message, ToolCall, split_thoughts
from sizewise.records.tool_calls import (
    arguments_of,
    calls_of,
    calls_text,
    definitions_of,
    find_calls,
    names_in,
    results_in_order,
    text_turns,
    types_in,
    uses_tools,
)

Spans = list[tuple[int, int]]
"""First and last character (exclusive) of parts of a text."""
_PROBE_TOOLS = (
    '[{"type": "function", "function": {"name": "probe_tool", "description": "probe description", "parameters": '
    '{"type": "object", "properties": {"place": {"type": "string", "description": "probe place"}}}}}]'
)
_PROBE_CALL = ToolCall(id="1", name="probe_tool", arguments='{"place": "Bonn", "days": [1, 2]}')
_GENERATION = re.compile(r"{%-?\s*generation\b")
_known: WeakKeyDictionary[Any, tuple[Any, bool]] = WeakKeyDictionary()
_systems: WeakKeyDictionary[Any, tuple[Any, bool, bool]] = WeakKeyDictionary()
_headers: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()
_parts: WeakKeyDictionary[Any, tuple[Any, frozenset[str]]] = WeakKeyDictionary()


def render_chat(
    tokenizer: Any,
    messages: Sequence[Message],
    answer: str | None = None,
    prompt: bool | None = None,
    tools: str = "",
    effort: str = "",
    date: str = "",
) -> Rendered:
    """Render a conversation with the model's own chat template (sandboxed by transformers).

    Args:
        tokenizer: the model's tokenizer.
        messages: the conversation.
        answer: the assistant's answer; None ends the text where the assistant begins. In a conversation with tools,
            the canonical JSON of calls is rendered as calls.
        prompt: whether to end with the generation prompt; by default only without an answer.
        tools: definitions of tools, as a JSON list.
        effort: how much the model is asked to reason, for templates with such a switch; empty for their default.
        date: ISO date that a template which states one writes; by default the pinned date.

    Returns:
        The rendered text. Control tokens in message contents are hidden in it, see `control_tokens`.

    Raises:
        SizewiseError: the template rejects the conversation.
    """
    turns = tuple(messages)
    with_tools = uses_tools(turns, tools)
    if answer is not None:
        content, calls = find_calls(answer, names_in(tools), types_in(tools)) if with_tools else ("", calls_of(answer))
        said = content.strip() if calls else answer
        turns += (Message(role="assistant", content=said, tool_calls=tuple(calls)),)
        with_tools = with_tools or bool(calls)
    turns, tools = _written(tokenizer, turns, tools, with_tools)
    generate = answer is None if prompt is None else prompt
    text = _apply(tokenizer, turns, tools, generate, effort, date)
    return Rendered(text + _absent_header(tokenizer)) if generate else text


def _written(
    tokenizer: Any, turns: tuple[Message, ...], tools: str, with_tools: bool
) -> tuple[tuple[Message, ...], str]:
    """Write as text what the chat template has no form for: tools with calls and results, and a system message."""
    if with_tools and not has_tool_format(tokenizer):
        turns, tools = text_turns(turns, tools), ""
    if any(turn.role == "system" for turn in turns[1:]) and not _has_system_role(tokenizer, later=True):
        turns = _without_later_systems(turns)
    if turns and turns[0].role == "system" and not has_system_role(tokenizer):
        turns = _without_system(turns)
    return turns, tools if with_tools else ""


def _apply(
    tokenizer: Any, messages: Sequence[Message], tools: str, generate: bool, effort: str = "", date: str = ""
) -> Rendered:
    ids: dict[str, str] = {}
    parts = roles_in_parts(tokenizer)
    turns = [_turn(tokenizer, message, ids, parts) for message in results_in_order(messages)]
    more: dict[str, Any] = {"tools": _hidden(tokenizer, definitions_of(tools))} if tools else {}
    if effort:
        more |= {"enable_thinking": effort != "none", "thinking": effort != "none", "reasoning_effort": effort}
    try:
        with dated(tokenizer, date):
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generate, **more)
        return Rendered(text)
    except Exception as error:  # a template may fail in any way, such as by recursion or a division by zero
        reason = (shown(tokenizer, str(error)).strip() or type(error).__name__).splitlines()[0]
        raise SizewiseError(
            f"The model's chat template rejects this conversation: {reason}",
            "roles in an order that the template supports",
            "choose another model: sizewise models",
        ) from error


def _turn(tokenizer: Any, message: Message, ids: dict[str, str], parts: frozenset[str]) -> dict[str, Any]:
    """Convert a message to the form of templates, with control tokens hidden.

    Ids of calls are numbered, because a random id is nothing to learn and some templates require nine letters.
    """
    hidden = hide_answer if message.role == "assistant" else hide
    content = str(hidden(tokenizer, message.content))
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if message.role in parts:
        turn["content"] = [{"type": "text", "text": content}]
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": ids.setdefault(call.id, f"call{len(ids):05d}") if call.id else f"call{len(ids):05d}",
                "type": "function",
                "function": _hidden(tokenizer, {"name": call.name, "arguments": arguments_of(call)}),
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        turn["tool_call_id"] = ids.get(message.tool_call_id, f"call{max(0, len(ids) - 1):05d}")
        turn["name"] = str(hide(tokenizer, message.name))
    return turn


def roles_in_parts(tokenizer: Any) -> frozenset[str]:
    """Return the roles whose content the chat template reads as a list of parts, such as text and images.

    Such templates write nothing of a plain text: the question would be missing in the prompt.

    Raises:
        SizewiseError: the template doesn't write the user's message in either form.
    """
    known = _parts.get(tokenizer)
    if known is None or known[0] != tokenizer.chat_template:
        known = _parts[tokenizer] = (tokenizer.chat_template, _find_roles_in_parts(tokenizer))
    return known[1]


def _find_roles_in_parts(tokenizer: Any) -> frozenset[str]:
    def writes(user_in_parts: bool, answer_in_parts: bool | None = None) -> bool | None:
        """Check whether the last message is in a rendered conversation; None if the template rejects it."""
        turns, text = [_probe_turn("user", "probe question", user_in_parts)], "probe question"
        if answer_in_parts is not None:
            turns, text = [*turns, _probe_turn("assistant", "probe answer", answer_in_parts)], "probe answer"
        try:
            with dated(tokenizer):
                written = tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=answer_in_parts is None
                )
        except Exception:  # a template may fail in any way
            return None
        return text in str(written).lower()

    plain = writes(False)
    in_parts = not plain and bool(writes(True))
    if plain is False and not in_parts:
        raise SizewiseError(
            "The model's chat template doesn't write the user's message, so it would be missing in the prompt.",
            "a template that writes the content of messages, as a text or as a list of parts",
            "choose another model: sizewise models",
        )
    answers = not writes(in_parts, False) and bool(writes(in_parts, True))
    return frozenset(("user", "system", "tool") * in_parts + ("assistant",) * answers)


def _probe_turn(role: str, text: str, in_parts: bool) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}] if in_parts else text}


def _hidden(tokenizer: Any, value: Any) -> Any:
    """Hide control tokens in all texts of a JSON value, keys included."""
    if isinstance(value, str):
        return str(hide(tokenizer, value))
    if isinstance(value, list):
        return [_hidden(tokenizer, one) for one in value]
    if isinstance(value, dict):
        return {_hidden(tokenizer, key): _hidden(tokenizer, one) for key, one in value.items()}
    return value


def learned_spans(tokenizer: Any, messages: Sequence[Message], tools: str = "") -> tuple[Rendered, Spans | None]:
    """Render a conversation that ends with an answer, and find what the template marks as the assistant's.

    Args:
        tokenizer: the model's tokenizer.
        messages: the conversation.
        tools: definitions of tools, as a JSON list.

    Returns:
        The text, and (start, end) of each part inside `{% generation %}` blocks; None if the template has none.

    Raises:
        SizewiseError: the template rejects the conversation.
    """
    full = render_chat(tokenizer, messages, prompt=False, tools=tools)
    turns, tools = _written(tokenizer, tuple(messages), tools, uses_tools(messages, tools))
    template = tokenizer.get_chat_template(tools=definitions_of(tools) if tools else None)  # there may be several
    if not _GENERATION.search(template):
        return full, None
    from transformers.utils import chat_template_utils

    ids: dict[str, str] = {}
    with dated(tokenizer):
        texts, spans = chat_template_utils.render_jinja_template(
            conversations=[[_turn(tokenizer, message, ids, roles_in_parts(tokenizer)) for message in turns]],
            tools=_hidden(tokenizer, definitions_of(tools)) if tools else None,
            chat_template=template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    return full, spans[0] if str(texts[0]) == str(full) else None


def has_system_role(tokenizer: Any) -> bool:
    """Check whether the chat template writes a system message; Gemma's first templates, for example, reject it."""
    return _has_system_role(tokenizer, later=False)


def _has_system_role(tokenizer: Any, later: bool) -> bool:
    """Check whether the chat template writes the first system message, or one that comes later as well."""
    known = _systems.get(tokenizer)
    if known is None or known[0] != tokenizer.chat_template:
        begin = (Message(role="system", content="probe rules"), Message(role="user", content="probe question"))
        more = (Message(role="assistant", content="probe answer"), Message(role="system", content="probe change"))
        found = []
        for turns, texts in ((begin, ["probe rules"]), (begin + more + begin[1:], ["probe rules", "probe change"])):
            try:
                written = _apply(tokenizer, turns, "", True)
                found.append(all(text in written for text in texts))
            except SizewiseError:
                found.append(False)
        known = _systems[tokenizer] = (tokenizer.chat_template, found[0], found[1])
    return known[2] if later else known[1]


def _absent_header(tokenizer: Any) -> str:
    """Return what a template without a generation prompt writes before an answer, such as `ASSISTANT: `; or "".

    Without it, a model would have to begin each answer with the name of its role. White space, as in Mistral's
    templates, belongs to the answer.
    """
    known = _headers.get(tokenizer)
    if known is None or known[0] != tokenizer.chat_template:
        known = _headers[tokenizer] = (tokenizer.chat_template, _find_absent_header(tokenizer))
    return known[1]


def _find_absent_header(tokenizer: Any) -> str:
    asked = (Message(role="user", content="probe question"),)
    answered = (*asked, Message(role="assistant", content="probe answer"))
    try:
        prompt, plain, full = (
            str(_apply(tokenizer, turns, "", generate))
            for turns, generate in ((asked, True), (asked, False), (answered, False))
        )
    except SizewiseError:
        return ""
    header, found, _ = full.removeprefix(plain).partition("probe answer")
    known = prompt != plain or not full.startswith(plain) or not found
    return "" if known or not header.strip() else header


def _without_system(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Move the system message to the beginning of the first user message, as Gemma 3's template does."""
    system, *others = turns
    place = next((i for i, turn in enumerate(others) if turn.role == "user"), None)
    if place is None or not system.content.strip():
        return turns if place is None else tuple(others)
    asked = others[place]
    others[place] = asked.model_copy(update={"content": f"{system.content}\n\n{asked.content}"})
    return tuple(others)


def _without_later_systems(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Move system messages other than the first to the beginning of the user message that follows."""
    found: list[Message] = []
    waiting: list[str] = []
    for number, turn in enumerate(turns):
        if number and turn.role == "system":
            waiting.append(turn.content)
        elif waiting and turn.role == "user":
            found.append(turn.model_copy(update={"content": "\n\n".join([*waiting, turn.content])}))
            waiting = []
        else:
            found.append(turn)
    return (*found, Message(role="user", content="\n\n".join(waiting))) if waiting else tuple(found)


def has_tool_format(tokenizer: Any) -> bool:
    """Check whether the chat template describes tools, writes results, and writes calls that can be read back."""
    known = _known.get(tokenizer)
    if known is None or known[0] != tokenizer.chat_template:
        known = _known[tokenizer] = (tokenizer.chat_template, _probe(tokenizer))
    return known[1]


def _probe(tokenizer: Any) -> bool:
    asked = (Message(role="user", content="probe question"),)
    called = (*asked, Message(role="assistant", content="", tool_calls=(_PROBE_CALL,)))
    result = (*called, Message(role="tool", content="probe result", tool_call_id="1", name="probe_tool"))
    rules = (Message(role="system", content="probe rules"), *asked)
    try:
        prompt = _apply(tokenizer, asked, _PROBE_TOOLS, True)
        full = _apply(tokenizer, called, _PROBE_TOOLS, False)
        after, system = _apply(tokenizer, result, _PROBE_TOOLS, True), _apply(tokenizer, rules, _PROBE_TOOLS, True)
    except Exception:  # a template may fail in any way on what it doesn't support
        return False
    described = all(part in prompt for part in ("probe_tool", "probe description", "probe place"))
    if not described or "probe result" not in after or "probe rules" not in system or not full.startswith(prompt):
        return False
    text = full[len(prompt) :]
    for mark in control_tokens(tokenizer):
        text = text.replace(mark, "")
    content, calls = find_calls(split_thoughts(text)[0].strip())
    return not content.strip() and calls_text("", calls) == calls_text("", [_PROBE_CALL])
