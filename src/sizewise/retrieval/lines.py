"""Separate sentences that can answer a question from boilerplate.

A line of metadata (`Original KB number: 3137323`) or one repeated in many documents (`Was this helpful?`) answers
nothing, however well it matches. A field such as `Opening hours: 9 to 17` does, if the question asks for it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Self

from sizewise.retrieval.passages import Passage
from sizewise.retrieval.terms import terms_of
from sizewise.text import count_words, sentences_of

MIN_DOCUMENTS, MIN_SHARE = 3, 0.02
MAX_KEY_WORDS, MAX_VALUE_WORDS = 5, 12
CACHED_PASSAGES = 4_096
_FIELD = re.compile(r"^(?P<key>[^:\uff1a.!?\u3002]{1,60})[:\uff1a](?P<value>.*)$", re.DOTALL)
_MARKUP = re.compile(r"&\w+;|[*_`>|#]+|^\s*[-+\u2022]\s+")
_DIGITS = re.compile(r"\d+")


class Lines:
    """Detects boilerplate: lines and fields that recur across documents.

    Args:
        lines: lines that recur.
        keys: fields that recur.
    """

    def __init__(self, lines: Iterable[str], keys: Iterable[str]) -> None:
        self.lines, self.keys = frozenset(lines), frozenset(keys)
        self._sentences = lru_cache(maxsize=CACHED_PASSAGES)(self._required_terms_of)

    @classmethod
    def of_passages(cls, passages: Iterable[Passage]) -> Self:
        """Find what recurs in passages."""
        lines: dict[str, set[str]] = defaultdict(set)
        keys: dict[str, set[str]] = defaultdict(set)
        documents = set()
        for passage in passages:
            documents.add(passage.document)
            for sentence in sentences_of(passage.text):
                plain = _without_markup(sentence)
                lines[_pattern(plain)].add(passage.document)
                if field := field_of(plain):
                    keys[field[0]].add(passage.document)
        min_documents = max(MIN_DOCUMENTS, MIN_SHARE * len(documents))
        return cls(
            (line for line, found_in in lines.items() if len(found_in) >= min_documents),
            (key for key, found_in in keys.items() if len(found_in) >= MIN_DOCUMENTS),
        )

    def answers_in(self, passage: Passage, question: Collection[str]) -> list[str]:
        """Return the sentences of a passage that could answer a question with these terms."""
        sentences = self._sentences(passage.text)
        return [sentence for sentence, terms in sentences if terms is None or not terms.isdisjoint(question)]

    def _required_terms_of(self, text: str) -> list[tuple[str, frozenset[str] | None]]:
        return [(sentence, self._required_terms(sentence)) for sentence in sentences_of(text)]

    def _required_terms(self, sentence: str) -> frozenset[str] | None:
        """Return terms, at least one of which a question needs for this sentence to answer it; None: no condition.

        An empty set means that the sentence never answers a question.
        """
        plain = _without_markup(sentence)
        field = field_of(plain)
        if field is None:
            informative = any(letter.isalnum() for letter in plain) and _pattern(plain) not in self.lines
            return None if informative else frozenset()
        has_words = any(word.isalpha() and word.islower() and len(word) > 1 for word in re.findall(r"\w+", field[1]))
        unspaced = any(unicodedata.category(letter) == "Lo" for letter in field[1])
        return None if field[0] not in self.keys and (has_words or unspaced) else frozenset(terms_of(field[0]))


def _without_markup(sentence: str) -> str:
    return " ".join(_MARKUP.sub(" ", sentence).split()).strip()


def _pattern(plain: str) -> str:
    """Return the key by which lines count as repeated: short lines (`Page 3 of 12`) are compared without their numbers.

    In a whole sentence, the number is often what differs between documents and what a question asks for.
    """
    return _DIGITS.sub("0", plain) if count_words(plain) <= MAX_KEY_WORDS else plain


def field_of(plain: str) -> tuple[str, str] | None:
    """Split a short line `key: value`, or return None for other lines. The value can be empty, as in a list heading."""
    found = _FIELD.match(plain)
    if found is None or count_words(found["key"]) > MAX_KEY_WORDS or count_words(found["value"]) > MAX_VALUE_WORDS:
        return None
    return found["key"].strip().casefold(), found["value"].strip()
