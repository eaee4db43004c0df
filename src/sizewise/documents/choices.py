"""The answer choices of a row and which of them is the answer: a text, a number from 0, or a letter."""

from __future__ import annotations

import re
from typing import Any

from sizewise.documents.cells import REFERENCE_KEYS, Cells
from sizewise.documents.values import BadRow, first_key, text_of, texts_of

_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")


def choices_of(cells: Cells, references: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the choices of a row, and its references with the text of the choice that a number or letter stands for.

    An integer is always a number of a choice, counted from 0 (MMLU), unless the choices are numbers themselves. Texts
    are choices if they are among them, or else labels of choices (ARC), numbers or letters.

    Raises:
        BadRow: The number or letter is none of the choices.
    """
    given = cells.get("choices")
    if not given:
        return (), references
    labels: tuple[str, ...] = ()
    if isinstance(given, dict):
        labels = texts_of(given.get("label", given.get("labels")), "the labels of the choices")
        given = given.get("text", given.get("texts"))
    choices = texts_of(given, "choices")
    if len(references) != 1:
        return choices, tuple(text.strip() for text in references)
    key = first_key(REFERENCE_KEYS, cells.values)
    answer, text = cells.values.get(key) if key else None, references[0].strip()
    numbers = isinstance(given, list) and all(isinstance(choice, int | float) for choice in given)
    place = _place(answer, text, choices, labels, numbers=numbers)
    return choices, (choices[place] if place is not None else text,)


def _place(answer: Any, text: str, choices: tuple[str, ...], labels: tuple[str, ...], *, numbers: bool) -> int | None:
    """Return the number of the choice, None if the answer is the text of a choice."""
    if len(labels) == len(choices) and text in labels:
        return labels.index(text)
    if isinstance(answer, list) and len(answer) == 1:
        (answer,) = answer
    is_number = isinstance(answer, int) and not isinstance(answer, bool)
    if text in choices and not (is_number and not numbers and int(text) < len(choices)):
        return None
    letter = _LETTER.fullmatch(text)
    number = int(text) if text.isdecimal() else ord(letter[1].upper()) - ord("A") if letter else None
    if number is None:
        return None
    if not 0 <= number < len(choices):
        raise BadRow(f"the answer is {text_of(answer, 'the answer')!r}, but there are {len(choices)} choices")
    return number
