"""Answers of the candidates as raters will see them, and candidates without any."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sizewise.errors import SizewiseError
from sizewise.records import Evaluation, Example, ItemRow
from sizewise.records.tool_calls import answer_of
from sizewise.store import Store
from sizewise.text import normalize_text, visible_text, words_of

MAX_CHARACTERS = 20_000  # of a text on the page
MAX_ERROR_CHARACTERS = 120  # of an error that a message quotes
ROLES = {"system": "Instructions", "user": "User", "assistant": "Assistant", "tool": "Tool result"}
"""Role of a turn -> its name in text for raters and judge models."""


class Answered(NamedTuple):
    """Candidates' answers to the uncontaminated examples."""

    data: str
    """Dataset id."""
    rows: dict[str, ItemRow]
    """Example id -> its row, with prompt and reference answers."""
    texts: dict[str, dict[str, str]]
    """Candidate -> example id -> answer as shown; empty answers and candidates without any answer are left out."""
    left_out: dict[str, str]
    """Candidate without any answer -> reason."""

    def distinct(self, item: str, names: Sequence[str]) -> list[str]:
        """Return the candidates that answered an example; of several with the same text, only the first."""
        first: dict[str, str] = {}
        for name in names:
            if item in self.texts[name]:
                first.setdefault(normalize_text(visible_text(self.texts[name][item])), name)
        return list(first.values())


def read_answered(evaluations: Mapping[str, str], plain: bool, store: Store) -> Answered:
    """Read the candidates' answers to the uncontaminated examples.

    Args:
        evaluations: candidate -> evaluation id.
        plain: normalize typography.
        store: where records live.

    Raises:
        SizewiseError: the evaluations use different data, or have no uncontaminated example.
    """
    records = {name: store.read(Evaluation, evaluation) for name, evaluation in evaluations.items()}
    data = sorted({record.data for record in records.values()})
    if len(data) > 1:
        raise SizewiseError(
            f"These evaluations use different data: {', '.join(data)}.",
            "evaluations on one dataset",
            f"sizewise evaluate MODEL --data {data[0]}",
        )
    asked = {
        name: [
            row
            for row in store.read_rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
            if row.kind == "example"
        ]
        for name, evaluation in evaluations.items()
    }
    uncontaminated = {name: [row for row in rows if row.uncontaminated] for name, rows in asked.items()}
    if not any(uncontaminated.values()):
        count = max(map(len, asked.values()))
        raise SizewiseError(
            f"No example to judge: all {count:,} that {', '.join(asked)} answered share text with the training data."
            if count
            else f"No example to judge: the evaluations of {', '.join(asked)} contain no answers.",
            "evaluations with answers to uncontaminated examples",
            f"sizewise evaluate MODEL --data {data[0]} --metrics chrf",
        )
    texts = {
        name: {row.item: text for row in rows if not row.error and has_text(text := shown(row.completion or "", plain))}
        for name, rows in uncontaminated.items()
    }
    return Answered(
        data[0],
        {row.item: row for rows in uncontaminated.values() for row in rows},
        {name: answers for name, answers in texts.items() if answers},
        {name: _why_left_out(uncontaminated[name]) for name, answers in texts.items() if not answers},
    )


def _why_left_out(rows: Sequence[ItemRow]) -> str:
    if not rows:
        return "its evaluation contains no answers"
    failed = [row.error for row in rows if row.error]
    if len(failed) == len(rows):
        return f"all of its {len(rows):,} answers failed ({failed[0][:MAX_ERROR_CHARACTERS]})"
    return f"none of its {len(rows):,} answers has text" + (f", {len(failed):,} of them failed" if failed else "")


def turns_of(row: ItemRow, example: Example | None, plain: bool) -> tuple[tuple[str, str], ...]:
    """Return the turns that an answer continues, as role and text; empty if the prompt is the only one.

    Args:
        row: row of the evaluation.
        example: the row's example, if the dataset is known; without it the turns can't be told apart and are one.
        plain: normalize typography.
    """
    if example is None:
        return (("user", shown(row.conversation, plain)),) if row.conversation else ()
    if len(example.messages) == 1:
        return ()
    return tuple((message.role, shown(answer_of(message), plain)) for message in example.messages)


def conversation_text(turns: Sequence[tuple[str, str]]) -> str:
    """Write turns as text, each after the name of its role."""
    return "\n\n".join(f"{ROLES[role]}: {text}" for role, text in turns)


def has_text(text: str) -> bool:
    """Check whether a text has any visible character."""
    return any(character.isprintable() and not character.isspace() for character in text)


def same_answer(one: str, other: str) -> bool:
    """Check whether two answers are the same text, apart from Unicode forms and white space."""
    return one == other or normalize_text(visible_text(one)) == normalize_text(visible_text(other))


def letters_of(text: str) -> str:
    """Return the words of a text, ignoring case and punctuation, to compare the content of two texts."""
    return " ".join(words_of(text)) or text


_MARKS = re.compile(r"(?m)^\s{0,3}(#{1,6}\s+|[-*+]\s+|>\s?)|\*\*|__|`+")
_LINES = re.compile(r"\n{3,}")
_PLAIN = str.maketrans(
    {
        "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'", "\u2013": "-", "\u2014": "-",
        "\u2026": "...", "\u00a0": " ",
    }
)  # fmt: skip


def shown(text: str, plain: bool) -> str:
    """Format a text for raters: cut to fit on a page, and with normalized typography if `plain`."""
    text = text[:MAX_CHARACTERS] + (" [cut]" if len(text) > MAX_CHARACTERS else "")
    if not plain:
        return text.strip()
    return _LINES.sub("\n\n", _MARKS.sub("", text).translate(_PLAIN)).strip()
