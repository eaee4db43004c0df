"""Separate sentences that can answer a question from boilerplate.

A line of metadata (`Original KB number: 3137323`) or one repeated in many documents (`Was this helpful?`) answers
nothing, however well it matches. A field such as `Opening hours: 9 to 17` does, if the question asks for it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, Self
from zlib import crc32

from sizewise.retrieval.passages import Passage
from sizewise.retrieval.spellings import index_terms
from sizewise.text import count_words, fold_text, sentences_of

MIN_DOCUMENTS, MIN_SHARE = 3, 0.02
MAX_KEY_WORDS, MAX_VALUE_WORDS = 5, 12
CACHED_PASSAGES = 4_096
SKETCH, MAX_COMPARED, SIMILARITY = 32, 8, 0.6
# A colon between digits is part of a time or a ratio, in front of a slash or another colon of an address or a name.
_COLON = r"(?:(?<!\d)[:\uff1a]|[:\uff1a](?!\d))(?!//|[:\\])"
_FIELD = re.compile(rf"^(?P<key>[^:\uff1a.!?\u3002]{{1,60}}){_COLON}(?P<value>.*)$", re.DOTALL)
_MARKUP = re.compile(r"&\w+;|[*_`>|#]+|^\s*[-+\u2022]\s+")
_DIGITS = re.compile(r"\d+")


class _Sentence(NamedTuple):
    """A sentence, and which questions it can answer."""

    text: str
    """The sentence."""
    terms: frozenset[str] | None
    """Terms, at least one of which a question needs; None: no condition, empty: it never answers one."""
    recurs: bool
    """Whether it is a field that recurs in documents, such as the author."""


class Lines:
    """Detects boilerplate: lines and fields that recur across documents.

    Args:
        lines: lines that recur.
        keys: fields that recur.
    """

    def __init__(self, lines: Iterable[str], keys: Iterable[str]) -> None:
        self.lines, self.keys = frozenset(lines), frozenset(keys)
        self._sentences = lru_cache(maxsize=CACHED_PASSAGES)(self._read_sentences)

    @classmethod
    def of_passages(cls, passages: Iterable[Passage]) -> Self:
        """Find what recurs in passages; versions of a document count as one, because they repeat what it says."""
        lines: dict[str, set[str]] = defaultdict(set)
        keys: dict[str, set[str]] = defaultdict(set)
        of_document: dict[str, set[str]] = defaultdict(set)
        for passage in passages:
            for sentence in sentences_of(passage.text):
                plain = _without_markup(sentence)
                lines[_pattern(plain)].add(passage.document)
                of_document[passage.document].add(_pattern(plain))
                if field := field_of(plain):
                    keys[field[0]].add(passage.document)
        first = _first_versions(of_document)
        min_documents = max(MIN_DOCUMENTS, MIN_SHARE * len(set(first.values())))

        def count(documents: set[str]) -> int:
            return len({first[document] for document in documents})

        return cls(
            (line for line, found_in in lines.items() if count(found_in) >= min_documents),
            (key for key, found_in in keys.items() if count(found_in) >= MIN_DOCUMENTS),
        )

    def answers_in(self, passage: Passage, question: Collection[str]) -> list[str]:
        """Return the sentences of a passage that could answer a question with these terms.

        Fields such as `Monday: 9 to 17` also answer a question for the heading above them, `Opening hours`; fields that
        recur in documents do only if nothing else under that heading answers.
        """
        sentences = self._sentences(passage.text)
        of_heading = any(one.terms for one in sentences) and _asks_for_heading(passage, question)
        found = [
            one.text
            for one in sentences
            if one.terms is None or not one.terms.isdisjoint(question) or (of_heading and one.terms and not one.recurs)
        ]
        return found or [one.text for one in sentences if of_heading and one.terms]

    def _read_sentences(self, text: str) -> list[_Sentence]:
        """Split a text into sentences; what follows the heading of a list, `Opening hours:`, answers for it too."""
        found: list[_Sentence] = []
        of_list: frozenset[str] = frozenset()
        for sentence in sentences_of(text):
            plain = _without_markup(sentence)
            field = field_of(plain)
            terms = self._required_terms(plain, field)
            if field is None:
                of_list = frozenset()
            elif not field[1]:
                of_list = terms or frozenset()
            elif terms is not None:
                terms |= of_list
            found.append(_Sentence(sentence, terms, field is not None and field[0] in self.keys))
        return found

    def _required_terms(self, plain: str, field: tuple[str, str] | None) -> frozenset[str] | None:
        """Return terms, at least one of which a question needs for a sentence to answer it; None: no condition.

        An empty set means that the sentence never answers a question.
        """
        if field is None:
            informative = any(letter.isalnum() for letter in plain) and _pattern(plain) not in self.lines
            return None if informative else frozenset()
        has_words = any(word.isalpha() and word.islower() and len(word) > 1 for word in re.findall(r"\w+", field[1]))
        unspaced = any(unicodedata.category(letter) == "Lo" for letter in field[1])
        return None if field[0] not in self.keys and (has_words or unspaced) else frozenset(index_terms(field[0]))


def _asks_for_heading(passage: Passage, question: Collection[str]) -> bool:
    """Check whether a question has a term of a passage's heading, unless that is the title of the whole document."""
    if not passage.heading or fold_text(passage.heading) == fold_text(passage.title):
        return False
    return any(term in question for term in index_terms(passage.heading))


def _first_versions(lines: Mapping[str, set[str]]) -> dict[str, str]:
    """Map each document to the first one that has most of its lines, or to itself.

    Documents are compared by the smallest hashes of their lines (Broder, 1997), with a few that share one.
    """
    first: dict[str, str] = {}
    sketches: dict[str, set[int]] = {}
    with_hash: dict[int, list[str]] = defaultdict(list)
    for document, of_document in lines.items():
        sketch = set(sorted(crc32(line.encode("utf-8", "surrogatepass")) for line in of_document)[:SKETCH])
        near = dict.fromkeys(other for value in sorted(sketch) for other in with_hash[value])
        versions = (other for other in near if _is_version(sketch, sketches[other]))
        first[document] = next(versions, document)
        if first[document] == document:
            sketches[document] = sketch
            for value in sketch:
                if len(with_hash[value]) < MAX_COMPARED:
                    with_hash[value].append(document)
    return first


def _is_version(one: set[int], other: set[int]) -> bool:
    smallest = set(sorted(one | other)[:SKETCH])
    return len(smallest & one & other) >= SIMILARITY * len(smallest)


def _without_markup(sentence: str) -> str:
    return " ".join(_MARKUP.sub(" ", sentence).split()).strip()


def _pattern(plain: str) -> str:
    """Return the key by which lines count as repeated: short lines (`Page 3 of 12`) are compared without their numbers.

    In a whole sentence, the number is often what differs between documents and what a question asks for.
    """
    return _DIGITS.sub("0", plain) if count_words(plain) <= MAX_KEY_WORDS else plain


def split_field(plain: str) -> tuple[str, str] | None:
    """Split a short line `key: value` as it is written, or return None for other lines, such as `Monday 9:00 to 17:00`.

    The value can be empty, as in the heading of a list.
    """
    found = _FIELD.match(plain)
    if found is None or count_words(found["key"]) > MAX_KEY_WORDS or count_words(found["value"]) > MAX_VALUE_WORDS:
        return None
    return found["key"].strip(), found["value"].strip()


def field_of(plain: str) -> tuple[str, str] | None:
    """Split a line like `split_field`, with the key in lower case."""
    found = split_field(plain)
    return None if found is None else (found[0].casefold(), found[1])
