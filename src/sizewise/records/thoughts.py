"""Separate reasoning from the answer when a model writes both into one text."""

from __future__ import annotations

import re

# Reasoning delimiters of Qwen, DeepSeek, GLM and most others; Magistral; Kimi; Seed; Open-Thoughts; Cohere.
_PAIRS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
# Plain markup that an answer may contain too, so it only counts at the beginning.
_LEADING = (
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|channel>thought", "<channel|>"),
)
# gpt-oss: with its special tokens, and without them where the tokenizer skipped them.
_HARMONY = re.compile(
    r"\s*(?:<\|channel\|>analysis<\|message\|>(?P<marked>.*?)<\|channel\|>final<\|message\|>"
    r"|analysis(?P<bare>.*?)assistantfinal)(?P<answer>.*)",
    re.DOTALL,
)
_AROUND = re.compile(
    r"<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>|<\|(?:end|return)\|>|<\|start\|>assistant"
)


def opened_thought(prompt: str) -> str:
    """Return the opening reasoning delimiter at the end of a prompt; empty if the prompt doesn't end with one."""
    end = prompt.rstrip()
    return next((begin for begin, _ in (*_PAIRS, *_LEADING) if end.lower().endswith(begin.lower())), "")


def begins_with_thought(text: str) -> bool:
    """Check whether a text begins with reasoning, instead of writing about it.

    The end of reasoning without a beginning counts if the answer follows on a new line, as DeepSeek-R1 writes it.
    """
    begin = text.lstrip().lower()
    if any(begin.startswith(opening.lower()) for opening, _ in (*_PAIRS, *_LEADING)) or _HARMONY.fullmatch(text):
        return True
    return any(re.search(rf"{re.escape(end)}[ \t]*\n", text, re.IGNORECASE) for _, end in _PAIRS)


def split_thoughts(text: str) -> tuple[str, str]:
    """Split the output of a model into answer and reasoning; an output without reasoning is returned unchanged.

    Reasoning without an end was cut off, so there is no answer. An end without a beginning closes reasoning that the
    prompt opened, as the chat template of DeepSeek-R1 does.
    """
    found = _HARMONY.fullmatch(text)
    if found:
        thought = found["marked"] if found["marked"] is not None else found["bare"]
        return _AROUND.sub("", found["answer"]).strip(), _AROUND.sub("", thought).strip()
    answer, thoughts = text, []
    for begin, end in (*_PAIRS, *_LEADING):
        leading = (begin, end) in _LEADING
        if end.lower() not in answer.lower() and not answer.lstrip().lower().startswith(begin.lower()):
            continue
        opening = (r"\A\s*" if leading else "") + re.escape(begin)
        closed = re.compile(f"{opening}(.*?){re.escape(end)}", re.DOTALL | re.IGNORECASE)
        while match := closed.search(answer):
            thoughts.append(match[1])
            answer = answer[: match.start()] + answer[match.end() :]
        if not leading and (orphan := re.search(re.escape(end), answer, re.IGNORECASE)):
            thoughts.insert(0, answer[: orphan.start()])
            answer = answer[orphan.end() :]
        if answer.lstrip().lower().startswith(begin.lower()):
            thoughts.append(answer.lstrip()[len(begin) :])
            answer = ""
    if not thoughts:
        return text, ""
    return _AROUND.sub("", answer).strip(), "\n".join(part.strip() for part in thoughts if part.strip())
