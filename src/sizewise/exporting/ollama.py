"""A chat template for Ollama, which does not read Jinja: learnt from what the model's own template writes."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from sizewise.records import Message

_MARKS = {"system": "\u2045S\u2046", "user": "\u2045U\u2046", "assistant": "\u2045A\u2046"}


class Turns(NamedTuple):
    """What a template writes around the turns of a conversation."""

    opening: str
    """Before a conversation that begins with a user."""
    around: dict[str, tuple[str, str]]
    """Role -> what stands before and after what it says."""
    generation: str
    """Before the model's answer."""


def learn_turns(tokenizer: Any) -> Turns | None:
    """Learn what a template writes around turns; None if it is more than that (then no simple template is right)."""
    system, user, assistant = (Message(role=role, content=mark) for role, mark in _MARKS.items())
    conversations = ([user], [system, user], [user, assistant, user], [system, user, assistant, user, assistant])
    try:
        plain = [_written(tokenizer, messages, False) for messages in conversations]
        asked = [_written(tokenizer, messages, True) for messages in conversations[:3]]
    except Exception:  # a template may refuse a role or an order
        return None
    alone, led, _, longest = (_cut(text) for text in plain)
    if (len(alone), len(led), len(longest)) != (2, 3, 6):
        return None
    end_user, end_assistant = alone[1], longest[5]
    before_user = longest[3].removeprefix(end_assistant)
    turns = Turns(
        alone[0].removesuffix(before_user),
        {
            "system": (led[0], led[1].removesuffix(before_user)),
            "user": (before_user, end_user),
            "assistant": (longest[2].removeprefix(end_user), end_assistant),
        },
        _cut(asked[0])[1].removeprefix(end_user),
    )
    right = all(write(turns, list(c)) == text for c, text in zip(conversations, plain, strict=True)) and all(
        write(turns, list(c), True) == text for c, text in zip(conversations, asked, strict=False)
    )
    return turns if right else None


def _written(tokenizer: Any, messages: list[Message], generate: bool) -> str:
    turns = [message.model_dump() for message in messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generate))


def _cut(text: str) -> list[str]:
    """Cut a text at the marks of what was said."""
    return re.split("|".join(map(re.escape, _MARKS.values())), text)


def write(turns: Turns, messages: list[Message], generate: bool = False) -> str:
    """Write a conversation as the learnt template does."""
    opening = "" if messages[0].role == "system" else turns.opening
    text = "".join(turns.around[m.role][0] + m.content + turns.around[m.role][1] for m in messages)
    return opening + text + (turns.generation if generate else "")


def modelfile(file: str, turns: Turns | None, tokenizer: Any, adds_bos: bool, ends: Collection[int]) -> str:
    """Write Ollama's Modelfile.

    Args:
        file: name of the GGUF file beside it.
        turns: what the chat template writes; None: Ollama takes what the GGUF file brings.
        tokenizer: the model's tokenizer.
        adds_bos: whether the reader puts the first token there itself.
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
            word = "if" if number == 0 else "else if"
            body += f'{{{{- {word} eq .Role "{role}" }}}}{_go(before)}{{{{ .Content }}}}{_go(turns.around[role][1])}'
        body += "{{- end }}{{- end }}" + _go(turns.generation)
        lines.append(f'TEMPLATE """{body}"""')
    texts = dict.fromkeys(str(tokenizer.convert_ids_to_tokens(end)) for end in sorted(ends))
    lines += [f"PARAMETER stop {_quoted(text)}" for text in texts]
    lines.append("PARAMETER temperature 0")
    return "\n".join(lines) + "\n"


def _go(text: str) -> str:
    """Write text as a Go template's string, so that no space or line break of it is lost."""
    return f"{{{{ {_quoted(text)} }}}}" if text else ""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
