"""Which sentences of the documents may be an answer, and which are no more than marks of a document.

A line that says a thing of the document itself (`Original KB number: 3137323`), or that stands in many documents (`Was
this helpful?`), answers nothing, however well it fits. A line `Opening hours: 9 to 17` does, where that is asked.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence

from sizewise.retrieval.passages import Passage, sentences_of
from sizewise.retrieval.words import size_of, units_of

LEAST_DOCUMENTS, SHARE = 3, 0.02
KEY_WORDS, VALUE_WORDS = 5, 12
_FIELD = re.compile(r"^(?P<key>[^:\uff1a.!?\u3002]{1,60})[:\uff1a](?P<value>.*)$", re.DOTALL)
_MARKUP = re.compile(r"&\w+;|[*_`>|#]+|^\s*[-+\u2022]\s+")
_DIGITS = re.compile(r"\d+")


class Lines:
    """Knows which lines come again in document after document.

    Args:
        passages: all of them.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        lines: dict[str, set[str]] = defaultdict(set)
        keys: dict[str, set[str]] = defaultdict(set)
        for passage in passages:
            for sentence in sentences_of(passage.text):
                plain = _plain(sentence)
                lines[_pattern(plain)].add(passage.document)
                if field := _field(plain):
                    keys[field[0]].add(passage.document)
        documents = len({passage.document for passage in passages})
        often = max(LEAST_DOCUMENTS, SHARE * documents)
        self._lines = {line for line, where in lines.items() if len(where) >= often}
        self._keys = {key for key, where in keys.items() if len(where) >= LEAST_DOCUMENTS}

        self._known = {
            id(passage): [(one, self._asks(one)) for one in sentences_of(passage.text)] for passage in passages
        }

    def answers_in(self, passage: Passage, asked: Collection[str]) -> list[str]:
        """Return the sentences of a passage that may be an answer to a question with these units."""
        sentences = self._known.get(id(passage)) or [(one, self._asks(one)) for one in sentences_of(passage.text)]
        return [one for one, asks in sentences if asks is None or not asks.isdisjoint(asked)]

    def _asks(self, sentence: str) -> frozenset[str] | None:
        """Return of which units a question must have one, for a sentence to answer it; None: it need not."""
        plain = _plain(sentence)
        field = _field(plain)
        if field is None:
            says = any(one.isalnum() for one in plain) and _pattern(plain) not in self._lines
            return None if says else frozenset()
        told = any(one.isalpha() and one.islower() and len(one) > 1 for one in re.findall(r"\w+", field[1]))
        unspaced = any(unicodedata.category(one) == "Lo" for one in field[1])
        return None if field[0] not in self._keys and (told or unspaced) else frozenset(units_of(field[0]))


def _plain(sentence: str) -> str:
    """Return a line without markup."""
    return " ".join(_MARKUP.sub(" ", sentence).split()).strip()


def _pattern(plain: str) -> str:
    """Return what makes two lines the same: of short ones (`Page 3 of 12`) not their numbers, which tell nothing.

    In a whole sentence the numbers are what differs from document to document, and may be just what is asked.
    """
    return _DIGITS.sub("0", plain) if size_of(plain) <= KEY_WORDS else plain


def _field(plain: str) -> tuple[str, str] | None:
    """Split a short line `key: value`; None where it is none. A key alone announces what follows, and is one."""
    found = _FIELD.match(plain)
    if found is None or size_of(found["key"]) > KEY_WORDS or size_of(found["value"]) > VALUE_WORDS:
        return None
    return found["key"].strip().casefold(), found["value"].strip()
