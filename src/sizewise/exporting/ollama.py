"""Derive Ollama's Go chat template from the output of a model's Jinja template."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from sizewise.lm.template_dates import dated
from sizewise.records import Message

_PLACEHOLDERS = {"system": "\u2045S\u2046", "user": "\u2045U\u2046", "assistant": "\u2045A\u2046"}


class Turns(NamedTuple):
    """Text that a template writes around the turns of a conversation."""

    opening: str
    """Text before a conversation that starts with the user."""
    around: dict[str, tuple[str, str]]
    """Role -> text before and after each of its messages."""
    generation: str
    """Text before the model's answer."""


def learn_turns(tokenizer: Any) -> Turns | None:
    """Infer the text around turns; None if the template is too complex for a simple one to match it."""
    system, user, assistant = (Message(role=role, content=mark) for role, mark in _PLACEHOLDERS.items())
    conversations = ([user], [system, user], [user, assistant, user], [system, user, assistant, user, assistant])
    try:
        plain = [_render(tokenizer, messages, False) for messages in conversations]
        prompts = [_render(tokenizer, messages, True) for messages in conversations[:3]]
    except Exception:  # a template may reject a role or an order
        return None
    user_only, with_system, _, longest = (_split(text) for text in plain)
    if (len(user_only), len(with_system), len(longest)) != (2, 3, 6):
        return None
    end_user, end_assistant = user_only[1], longest[5]
    before_user = longest[3].removeprefix(end_assistant)
    turns = Turns(
        user_only[0].removesuffix(before_user),
        {
            "system": (with_system[0], with_system[1].removesuffix(before_user)),
            "user": (before_user, end_user),
            "assistant": (longest[2].removeprefix(end_user), end_assistant),
        },
        _split(prompts[0])[1].removeprefix(end_user),
    )
    reproduces = all(write(turns, list(c)) == text for c, text in zip(conversations, plain, strict=True)) and all(
        write(turns, list(c), True) == text for c, text in zip(conversations, prompts, strict=False)
    )
    return turns if reproduces else None


def _render(tokenizer: Any, messages: list[Message], generate: bool) -> str:
    turns = [message.model_dump() for message in messages]
    with dated(tokenizer):
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generate))


def _split(text: str) -> list[str]:
    """Split a text at the placeholders of message contents."""
    return re.split("|".join(map(re.escape, _PLACEHOLDERS.values())), text)


def write(turns: Turns, messages: list[Message], generate: bool = False) -> str:
    """Render a conversation with the inferred template."""
    opening = "" if messages[0].role == "system" else turns.opening
    text = "".join(turns.around[m.role][0] + m.content + turns.around[m.role][1] for m in messages)
    return opening + text + (turns.generation if generate else "")


def modelfile(file: str, turns: Turns | None, tokenizer: Any, adds_bos: bool, ends: Collection[int]) -> str:
    """Build Ollama's Modelfile.

    Args:
        file: name of the GGUF file in the same folder.
        turns: text around turns; None leaves the template to the GGUF file.
        tokenizer: the model's tokenizer.
        adds_bos: whether the reader adds the beginning-of-text token itself.
        ends: tokens that end an answer.
    """
    lines = [f"FROM ./{file}"]
    if turns is not None:
        opening = turns.opening
        before_system = turns.around["system"][0]
        if adds_bos and tokenizer.bos_token:
            opening = opening.removeprefix(tokenizer.bos_token)
            before_system = before_system.removeprefix(tokenizer.bos_token)
        body = ""
        if opening:
            body += f'{{{{- if ne (index .Messages 0).Role "system" }}}}{_go(opening)}{{{{- end }}}}'
        body += "{{- range .Messages }}"
        for number, role in enumerate(("system", "user", "assistant")):
            before = before_system if role == "system" else turns.around[role][0]
            keyword = "if" if number == 0 else "else if"
            body += f'{{{{- {keyword} eq .Role "{role}" }}}}{_go(before)}{{{{ .Content }}}}{_go(turns.around[role][1])}'
        body += "{{- end }}{{- end }}" + _go(turns.generation)
        lines.append(f'TEMPLATE """{body}"""')
    texts = dict.fromkeys(str(tokenizer.convert_ids_to_tokens(end)) for end in sorted(ends))
    lines += [f"PARAMETER stop {_quoted(text)}" for text in texts]
    lines.append("PARAMETER temperature 0")
    return "\n".join(lines) + "\n"


def _go(text: str) -> str:
    """Quote text as a Go template string, which preserves spaces and line breaks."""
    return f"{{{{ {_quoted(text)} }}}}" if text else ""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
