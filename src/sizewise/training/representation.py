"""Representation of groups of people in the training text: counts, reweighting and counterfactual augmentation.

The word lists are specific to Sizewise. Counterfactual augmentation follows Zhao et al. (2018), Gender Bias in
Coreference Resolution; measuring a model on swapped held-out text follows HELM (Liang et al., 2022).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from sizewise.evaluation.references import document_language
from sizewise.lm.score import bits_per_byte
from sizewise.records import Document, Representation
from sizewise.text import language_name

# Attribute -> group -> words; words at the same position replace each other when groups are swapped.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "gender": {
        "male": (
            "he", "him", "his", "himself", "man", "men", "boy", "boys", "father", "fathers", "son", "sons",
            "brother", "brothers", "husband", "husbands", "male", "males", "mr",
        ),
        "female": (
            "she", "her", "her", "herself", "woman", "women", "girl", "girls", "mother", "mothers", "daughter",
            "daughters", "sister", "sisters", "wife", "wives", "female", "females", "ms",
        ),
    },
    "age": {
        "young": ("young", "younger", "youngest", "child", "children", "teenager", "teenagers", "youth"),
        "old": ("old", "older", "oldest", "elder", "elders", "pensioner", "pensioners", "seniority"),
    },
    "religion": {
        "christian": ("christian", "christians", "church", "churches", "bible"),
        "muslim": ("muslim", "muslims", "mosque", "mosques", "quran"),
        "jewish": ("jewish", "jews", "synagogue", "synagogues", "torah"),
        "hindu": ("hindu", "hindus", "mandir", "mandirs", "vedas"),
    },
    "origin": {
        "african": ("african", "africans", "africa"),
        "american": ("american", "americans", "america"),
        "asian": ("asian", "asians", "asia"),
        "european": ("european", "europeans", "europe"),
    },
    "disability": {
        "disabled": ("disabled", "blind", "deaf"),
        "not disabled": ("able", "sighted", "hearing"),
    },
}  # fmt: skip
# The attribute whose groups are swapped; those with more than two groups or ambiguous words are only counted.
SWAPPED = "gender"
_WORD = re.compile(r"[A-Za-z]+")
MIN_MENTIONS = 20
MAX_CHARACTERS = 20_000_000  # of text that is counted; more wouldn't change the shares


@lru_cache(maxsize=1)
def _swaps() -> dict[str, str]:
    male, female = (GROUPS[SWAPPED][group] for group in ("male", "female"))
    return {**dict(zip(female, male, strict=True)), **dict(zip(male, female, strict=True)), "her": "his"}


def _first(texts: Iterable[str], characters: int) -> Iterable[str]:
    """Yield texts up to a number of characters."""
    for text in texts:
        yield text
        characters -= len(text)
        if characters <= 0:
            return


def count_groups(texts: Iterable[str]) -> tuple[int, dict[str, dict[str, int]]]:
    """Count all words in the first 20 million characters of texts, and the words that name each group."""
    of_word = {
        word: (attribute, group)
        for attribute, groups in GROUPS.items()
        for group, words in groups.items()
        for word in words
    }
    counts = {attribute: dict.fromkeys(groups, 0) for attribute, groups in GROUPS.items()}
    total = 0
    for text in _first(texts, MAX_CHARACTERS):
        for found in _WORD.finditer(text):
            total += 1
            named = of_word.get(found.group().lower())
            if named:
                counts[named[0]][named[1]] += 1
    return total, counts


def swap_groups(text: str) -> str:
    """Swap the genders that a text names, keeping capitalization; a text that names none is returned unchanged."""

    def other(found: re.Match[str]) -> str:
        word = found.group()
        swapped = _swaps().get(word.lower())
        if swapped is None:
            return word
        return (
            swapped.upper() if word.isupper() and len(word) > 1 else swapped.title() if word[0].isupper() else swapped
        )

    return _WORD.sub(other, text)


def rarer_group(counts: dict[str, dict[str, int]]) -> str | None:
    """Return the gender with fewer mentions; None if there are too few mentions or both have the same number."""
    groups = counts[SWAPPED]
    if sum(groups.values()) < MIN_MENTIONS or len(set(groups.values())) == 1:
        return None
    return min(groups, key=lambda group: groups[group])


def names_group(text: str, group: str) -> bool:
    """Check whether a text names a gender at least as often as the other gender."""
    _, counts = count_groups([text])
    mentions = counts[SWAPPED][group]
    return mentions > 0 and mentions >= max(counts[SWAPPED].values())


def gendered_sentences(texts: Iterable[str], limit: int = 100) -> list[str]:
    """Collect sentences that change when genders are swapped."""
    found: list[str] = []
    for text in _first(texts, MAX_CHARACTERS // 10):
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            if 20 < len(sentence) < 400 and swap_groups(sentence) != sentence:
                found.append(sentence)
                if len(found) == limit:
                    return found
    return found


def counterfactual_gap(network: Any, tokenizer: Any, sentences: Sequence[str], context: int) -> float:
    """Compute the mean absolute change in bits per byte when the genders of a sentence are swapped."""
    return float(
        np.mean(
            [
                abs(
                    bits_per_byte(network, tokenizer, [sentence], context)
                    - bits_per_byte(network, tokenizer, [swap_groups(sentence)], context)
                )
                for sentence in sentences
            ]
        )
    )


def foreign_language(documents: Sequence[Document]) -> str:
    """Return the name of the language that documents are written in if it isn't English, whose words are counted."""
    language = document_language(documents)
    return language_name(language) if language not in ("", "en") else ""


def count_representation(documents: Sequence[Document], balance: str) -> Representation | None:
    """Count the groups that the training text names; None for text in another language than English."""
    if foreign_language(documents):
        return None
    words, counts = count_groups(document.text for document in documents)
    return Representation(words=words, counts=counts, balance=balance)
