"""Rewrites texts for other groups of people: the same question, with another gender, name or origin in each copy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from sizewise.records import Example, ItemRow

# Before these words "her" corresponds to "him"; before any other word it corresponds to "his".
_AFTER_HIM = {
    "and", "or", "but", "to", "in", "on", "at", "for", "with", "from", "by", "that",
    "when", "if", "as", "was", "is", "were", "are", "had", "has", "who", "because", "the",
    "a", "an", "some", "any", "this", "these", "it", "them", "my", "your",
}  # fmt: skip


SEPARATOR = "\n---\n"
"""Between the answers to the variants of a question, in the completion of a row."""


class Attribute(NamedTuple):
    """A protected attribute, such as religion, with the words that name its groups."""

    name: str
    groups: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Corresponding words, one per group in each row."""
    prefixes: tuple[str, ...]
    """Adjective per group to put before a person; empty if the attribute has none."""


class Variant(NamedTuple):
    """An example rewritten for one group."""

    prompt: str
    answer: str


@lru_cache(maxsize=1)
def word_lists() -> dict[str, Any]:
    """Load the packaged word lists."""
    return tomllib.loads(
        (resources.files("sizewise.evaluation") / "data" / "counterfactuals.toml").read_text(encoding="utf-8")
    )


def attributes() -> tuple[Attribute, ...]:
    """Load all protected attributes from the packaged word lists."""
    return tuple(
        Attribute(name, tuple(table["groups"]), tuple(map(tuple, table["rows"])), tuple(table.get("prefixes", ())))
        for name, table in word_lists().items()
        if isinstance(table, dict) and "groups" in table
    )


def group_words(attribute: Attribute) -> set[str]:
    """Return the words that name a group of an attribute, and those put before a person."""
    return {word for row in attribute.rows for word in row} | {word for word in attribute.prefixes if word}


@lru_cache(maxsize=16)
def _pattern(attribute: Attribute) -> re.Pattern[str]:
    words = sorted({word for row in attribute.rows for word in row}, key=len, reverse=True)
    return re.compile(r"(?<![\w'])(?:" + "|".join(map(re.escape, words)) + r")(?![\w'])", re.IGNORECASE)


def make_variants(attribute: Attribute, prompt: str, answer: str) -> list[Variant]:
    """Rewrite an example once for each group of an attribute; return an empty list if the prompt mentions no person.

    Args:
        attribute: protected attribute.
        prompt: question of the example.
        answer: its reference answer, in which the same words are replaced.
    """
    if attribute.rows and _pattern(attribute).search(prompt):
        return [
            Variant(_for_group(attribute, index, prompt), _for_group(attribute, index, answer))
            for index in range(len(attribute.groups))
        ]
    person = re.search(rf"\b(?:{'|'.join(word_lists()['people'])})\b", prompt, re.IGNORECASE)
    if not attribute.prefixes or person is None:
        return []
    head, tail = prompt[: person.start()], prompt[person.start() :]
    return [Variant(_append_word(head, f"{word} " if word else "") + tail, answer) for word in attribute.prefixes]


def _append_word(head: str, word: str) -> str:
    """Append a word, and adjust an indefinite article before it."""
    if not word:
        return head
    article = "an" if word[0].lower() in "aeiou" else "a"
    return re.sub(r"\b(a)n?( )$", lambda m: f"{m.group(1)}{article[1:]} ", head, flags=re.IGNORECASE) + word


def _for_group(attribute: Attribute, index: int, text: str) -> str:
    """Replace each word of the attribute by the one for the group at `index`, with its capitalization kept."""

    def replacement(match: re.Match[str]) -> str:
        word = match.group()
        rows = [row for row in attribute.rows if word.lower() in row]
        row = rows[0]
        if word.lower() == "her":
            after = re.match(r"\s+([A-Za-z]+)", text[match.end() :])
            possessive = after is not None and after.group(1).lower() not in _AFTER_HIM
            row = next(row for row in rows if row[0] == ("his" if possessive else "him"))
        new = row[index]
        if new == word.lower():
            return word
        return new.upper() if word.isupper() and len(word) > 1 else new.title() if word[0].isupper() else new

    return _pattern(attribute).sub(replacement, text)


class Case(NamedTuple):
    """An example with its variants."""

    id: str
    attribute: Attribute
    example: Example
    variants: list[Variant]


def swapped_cases(examples: Sequence[Example], max_cases: int) -> Iterator[Case]:
    """Yield the examples that mention a person, once for each attribute, at most so many for each."""
    for attribute in attributes():
        count = 0
        for example in examples:
            usable = len(example.messages) == 1 and example.references
            variants = make_variants(attribute, example.prompt, example.references[0]) if usable else []
            if variants and count < max_cases:
                count += 1
                yield Case(f"{attribute.name}:{example.id}", attribute, example, variants)


def group_gaps(metric: str, attribute: Attribute, values: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Compute each group's difference from the mean over groups, as additive statistics."""
    gaps = values - values.mean()
    return {
        f"{metric}#{attribute.name}: {group}": (float(v), 1.0) for group, v in zip(attribute.groups, gaps, strict=True)
    }


def case_row(
    case: Case, kind: Any, stats: dict[str, tuple[float, ...]], error: str | None, completion: str = ""
) -> ItemRow:
    """Build the row of a case."""
    return ItemRow(
        item=case.id,
        kind=kind,
        cluster=case.example.source,
        uncontaminated=True,
        prompt=case.variants[0].prompt,
        references=tuple(variant.answer for variant in case.variants),
        completion=completion or None,
        error=error,
        stats=stats,
    )
