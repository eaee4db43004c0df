"""Separate reasoning from the answer when a model writes both into one text."""

from __future__ import annotations

import re

# Reasoning delimiters of Qwen, DeepSeek, GLM and most others; Magistral; Kimi; Seed; Open-Thoughts; Cohere;
# MedGemma; LongCat.
_PAIRS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|think|>", "<|/think|>"),
    ("<unused94>", "<unused95>"),
    ("<longcat_think>", "</longcat_think>"),
)
# Plain markup that an answer may contain too, so it only counts at the beginning or after a short opening.
_LEADING = (
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|channel>thought", "<channel|>"),
)
THOUGHT_PAIRS = (*_PAIRS, *_LEADING)
"""Marks between which a model writes its reasoning at the beginning of an output."""
# gpt-oss: with its special tokens, and without them where the tokenizer skipped them.
_HARMONY = re.compile(
    r"\s*(?:<\|start\|>assistant)?"
    r"(?:(?:<\|channel\|>(?:analysis|commentary)[^<]*<\|message\|>(?P<marked>.*?))?<\|channel\|>final[^<]*<\|message\|>"
    r"|analysis(?P<bare>.*?)assistantfinal)(?P<answer>.*)",
    re.DOTALL,
)
# gpt-oss, cut off before its answer began.
_HARMONY_OPEN = re.compile(
    r"\s*(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)[^<]*<\|message\|>(?P<marked>.*)"
    r"|\s*analysis(?=[A-Z])(?P<bare>.*)",
    re.DOTALL,
)
THOUGHT_MARKS = frozenset(
    (
        *(mark for pair in (*_PAIRS, *_LEADING) for mark in pair),
        *("<|channel>", "<channel|>", "<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|return|>"),
        *("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|begin_of_solution|>", "<|end_of_solution|>"),
    )
)
"""Control tokens that separate reasoning from answers, so they have to stay in a model's output until it is split."""
_AROUND = re.compile(
    r"<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>|<\|(?:end|return)\|>|<\|start\|>assistant"
)


def opened_thought(prompt: str) -> str:
    """Return the opening reasoning delimiter at the end of a prompt; empty if the prompt doesn't end with one."""
    end = prompt.rstrip()
    return next((begin for begin, _ in (*_PAIRS, *_LEADING) if end.lower().endswith(begin.lower())), "")


def closing_thought(prompt: str) -> str:
    """Return what closes the reasoning that a prompt leaves open, as Qwen3 writes it; empty if it leaves none open."""
    begin = opened_thought(prompt)
    return f"\n{dict(THOUGHT_PAIRS)[begin]}\n\n" if begin else ""


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
        thought = found["marked"] or found["bare"] or ""
        return _AROUND.sub("", found["answer"]).strip(), _AROUND.sub("", thought).strip()
    cut = _HARMONY_OPEN.fullmatch(text)
    if cut:
        thought = cut["marked"] if cut["marked"] is not None else cut["bare"]
        return "", _AROUND.sub("", thought).strip()
    answer, thoughts = text, list[str]()
    for begin, end in (*_LEADING, *_PAIRS):
        if begin.lower() in answer.lower() or end.lower() in answer.lower():
            answer = _cut(answer, begin, end, (begin, end) in _LEADING, thoughts)
    if not thoughts:
        return text, ""
    return _AROUND.sub("", answer).strip(), "\n".join(part.strip() for part in thoughts if part.strip())


def _closing(end: str) -> re.Pattern[str]:
    """Return a pattern of what ends reasoning; some models mix up two of the tags."""
    return re.compile(r"</think(?:ing)?>" if end in ("</think>", "</thinking>") else re.escape(end), re.IGNORECASE)


_SHORT = 80  # characters of an opening, such as "Let me think about it."
# A mark counts at the start of a line, after a sentence or attached to a word, and not where a sentence names it.
_BEFORE = r"(?:\A\s*|\n[ \t]*|(?<=[.!?>\]\u25b7\u3002\uff01\uff1f])[ \t]*|(?<=\w))"
_LINE = r"(?:\A\s*|\n[ \t]*|(?<=\w))"


# Beginning of reasoning -> what ends it, the header of the answer included.
_CLOSINGS = (
    *((begin.lower(), _closing(end)) for begin, end in THOUGHT_PAIRS),
    *((begin, re.compile(r"<\|channel\|>final[^<]*<\|message\|>")) for begin in ("<|channel|>", "<|start|>assistant")),
)
_LONGEST = 200  # characters of what ends reasoning
_MAX_BLANK = 16  # blanks before reasoning


class AnswerFinder:
    """Finds where the answer begins in a growing output that may begin with reasoning.

    Args:
        opened: reasoning tag that the prompt leaves open; empty if there is none.
    """

    def __init__(self, opened: str = "") -> None:
        self._closing = next((closing for begin, closing in _CLOSINGS if begin == opened.lower()), None)
        self._searched = 0
        self._begin: int | None = None

    def find(self, text: str, final: bool = False) -> int | None:
        """Return where the answer begins; in reasoning, the end of the text. None while a tag may be incomplete.

        Args:
            text: the output so far.
            final: whether nothing follows.
        """
        if self._begin is not None:
            return self._begin
        if self._closing is None:
            start = text.lstrip()
            blank, start = len(text) - len(start), start.lower()
            self._closing = next((closing for begin, closing in _CLOSINGS if start.startswith(begin)), None)
            if self._closing is None:
                may_begin = blank <= _MAX_BLANK and any(begin.startswith(start) for begin, _ in _CLOSINGS)
                if final or not may_begin:
                    self._begin = 0
                return self._begin
        closed = self._closing.search(text, self._searched)
        answer = text[closed.end() :].lstrip() if closed else ""
        if answer:
            self._begin = len(text) - len(answer)
        self._searched = closed.start() if closed else max(0, len(text) - _LONGEST)
        return len(text) - len(answer)


def _cut(answer: str, begin: str, end: str, leading: bool, thoughts: list[str]) -> str:
    """Remove the reasoning between two marks from an answer, and add it to the thoughts."""
    closing = _closing(end).pattern
    opened = re.compile(f"(?P<before>{_BEFORE}){re.escape(begin)}(?P<thought>.*?){closing}", re.DOTALL | re.IGNORECASE)
    place = 0
    while match := opened.search(answer, place):
        if _is_quoted(answer, match.start("thought")) or (leading and match.start() > _SHORT):
            place = match.start("thought")
            continue
        thoughts.append(match["thought"])
        answer = answer[: match.end("before")] + answer[match.end() :]
        place = match.end("before")
    if not leading:
        closed = re.compile(rf"{_BEFORE}{closing}|{closing}(?=[ \t]*\n)", re.IGNORECASE)
        orphan = next((one for one in closed.finditer(answer) if not _is_named(answer, begin, one)), None)
        if orphan:
            thoughts.insert(0, answer[: orphan.start()])
            answer = answer[orphan.end() :]
    cut = re.search((r"\A\s*" if leading else _LINE) + re.escape(begin), answer, re.IGNORECASE)
    if cut and not _is_quoted(answer, cut.start()):
        thoughts.append(answer[cut.end() :])
        answer = answer[: cut.start()]
    return answer


def _is_named(answer: str, begin: str, end: re.Match[str]) -> bool:
    """Check whether an end mark belongs to a beginning that the same line of prose names."""
    line = answer[: end.start()].rpartition("\n")[2] if not end[0].startswith("\n") else ""
    return _is_quoted(answer, end.start()) or begin.lower() in line.lower()


def _is_quoted(answer: str, place: int) -> bool:
    """Check whether a place is inside a code fence."""
    return answer.count("```", 0, place) % 2 == 1
