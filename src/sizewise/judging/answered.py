"""What candidates answered, as raters will see it, and who answered nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sizewise.errors import SizewiseError
from sizewise.records import Evaluation, ItemRow
from sizewise.store import Store

MOST_SHOWN = 20_000  # characters of a text
MOST_ERROR = 120  # characters of an error that a message quotes


class Answered(NamedTuple):
    """The answers of some candidates to the examples that share nothing with training."""

    data: str
    """Dataset id."""
    rows: dict[str, ItemRow]
    """Example -> what was asked."""
    texts: dict[str, dict[str, str]]
    """Candidate -> example -> the answer as shown, where it has text; only candidates with an answer."""
    left_out: dict[str, str]
    """Candidate without any -> why."""

    def distinct(self, item: str, names: Sequence[str]) -> list[str]:
        """Return those of the candidates that answered an example, of two with the same text the first."""
        first: dict[str, str] = {}
        for name in names:
            if item in self.texts[name]:
                first.setdefault(self.texts[name][item], name)
        return list(first.values())


def read_answered(evaluations: Mapping[str, str], plain: bool, store: Store) -> Answered:
    """Read what the candidates answered.

    Args:
        evaluations: candidate -> evaluation id.
        plain: even out typography.
        store: where records live.

    Raises:
        SizewiseError: the evaluations are of different data, or hold no example that shares nothing with training.
    """
    records = {name: store.read(Evaluation, one) for name, one in evaluations.items()}
    data = sorted({record.data for record in records.values()})
    if len(data) > 1:
        raise SizewiseError(
            f"These were measured on different data: {', '.join(data)}.", "evaluations of one dataset", ""
        )
    asked = {
        name: [
            row
            for row in store.read_rows(store.folder("evaluation", one), "items.jsonl", ItemRow)
            if row.kind == "example"
        ]
        for name, one in evaluations.items()
    }
    uncontaminated = {name: [row for row in rows if row.uncontaminated] for name, rows in asked.items()}
    if not any(uncontaminated.values()):
        count = max(map(len, asked.values()))
        raise SizewiseError(
            f"There is no example to judge: all {count:,} that {', '.join(asked)} answered share text with training."
            if count
            else f"There is no example to judge: {', '.join(asked)} were measured without being asked for answers.",
            "evaluations with answers to examples that share nothing with training",
            f"sizewise evaluate MODEL --data {data[0]} --metrics chrf",
        )
    texts = {
        name: {row.item: text for row in rows if not row.error and has_text(text := shown(row.completion or "", plain))}
        for name, rows in uncontaminated.items()
    }
    return Answered(
        data[0],
        {row.item: row for rows in uncontaminated.values() for row in rows},
        {name: own for name, own in texts.items() if own},
        {name: _why_silent(uncontaminated[name]) for name, own in texts.items() if not own},
    )


def _why_silent(rows: Sequence[ItemRow]) -> str:
    if not rows:
        return "it was not asked for answers"
    failed = [row.error for row in rows if row.error]
    if len(failed) == len(rows):
        return f"all of its {len(rows):,} answers failed ({failed[0][:MOST_ERROR]})"
    return f"none of its {len(rows):,} answers has text" + (f", {len(failed):,} of them failed" if failed else "")


def has_text(text: str) -> bool:
    """Whether there is anything to see."""
    return any(one.isprintable() and not one.isspace() for one in text)


def letters_of(text: str) -> str:
    """Return the words of a text alone: two texts with the same words say the same, whatever their case and marks."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text


_MARKS = re.compile(r"(?m)^\s{0,3}(#{1,6}\s+|[-*+]\s+|>\s?)|\*\*|__|`+")
_LINES = re.compile(r"\n{3,}")
_EVEN = str.maketrans(
    {
        "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'", "\u2013": "-", "\u2014": "-",
        "\u2026": "...", "\u00a0": " ",
    }
)  # fmt: skip


def shown(text: str, plain: bool) -> str:
    """Return a text as raters see it: cut at what a page can hold, and with even typography where that is asked."""
    text = text[:MOST_SHOWN] + (" [cut]" if len(text) > MOST_SHOWN else "")
    if not plain:
        return text.strip()
    return _LINES.sub("\n\n", _MARKS.sub("", text).translate(_EVEN)).strip()
