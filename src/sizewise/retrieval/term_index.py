"""BM25 over numbered terms (Robertson and Zaragoza, 2009), in arrays that can be read from disk where they are."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sizewise.errors import MissingExtraError
from sizewise.retrieval.spellings import without_accents

VOCABULARY, STARTS, IDS, SCORES = "vocabulary.json", "term_starts.npy", "term_ids.npy", "bm25"

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]
Starts = npt.NDArray[np.int64]


class TermIndex:
    """The terms of passages and their BM25 scores.

    Use `TermIndex.of_terms`, `TermIndex.of_ids` or `TermIndex.open`.
    """

    def __init__(self, vocabulary: Sequence[str], starts: Starts, ids: Ids, bm25: Any) -> None:
        self.vocabulary = vocabulary
        """Terms by number."""
        self.starts, self.ids = starts, ids
        """(passages + 1,) where each passage begins in the (terms,) numbers of its terms, in order."""
        self._bm25 = bm25
        self._numbers = {term: number for number, term in enumerate(vocabulary)}
        self._counts = np.diff(bm25.scores["indptr"])  # passages with each term

    @classmethod
    def of_terms(cls, passages: Iterable[Sequence[str]]) -> Self:
        """Index passages given as lists of terms."""
        numbers: dict[str, int] = {}
        lengths = [0]
        ids: list[npt.NDArray[np.int32]] = []
        for terms in passages:
            ids.append(np.array([numbers.setdefault(term, len(numbers)) for term in terms], dtype=np.int32))
            lengths.append(len(terms))
        joined = np.concatenate(ids) if ids else np.zeros(0, np.int32)
        return cls.of_ids(list(numbers), np.cumsum(np.array(lengths, dtype=np.int64)), joined)

    @classmethod
    def of_ids(cls, vocabulary: Sequence[str], starts: Starts, ids: Ids) -> Self:
        """Index passages given as numbers of terms.

        Args:
            vocabulary: terms by number; those in no passage are left out.
            starts: (passages + 1,) where each passage begins in `ids`.
            ids: (terms,) the numbers.

        Raises:
            MissingExtraError: bm25s is not installed.
        """
        used, ids = _renumbered(ids, len(vocabulary))
        words = [vocabulary[number] for number in used]
        try:
            from bm25s import BM25
        except ImportError as error:
            raise MissingExtraError("bm25s", "serve") from error
        bm25 = BM25()
        # One number more than there are terms: BM25 needs at least one.
        bm25.index(_Numbered(_Rows(starts, ids), {str(i): i for i in range(len(words) + 1)}), False, False)
        return cls(words, starts, ids, bm25)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __contains__(self, term: object) -> bool:
        return term in self._numbers

    def spelling(self, term: str) -> str:
        """Return a term in the spelling of the passages, which may have accents that it lacks or lack its accents."""
        if term in self._numbers:
            return term
        plain = without_accents(term)
        return plain if plain in self._numbers else self._accented.get(plain, term)

    @cached_property
    def _accented(self) -> dict[str, str]:
        """Terms with accents by their form without; of several, the one that most passages have."""
        found: dict[str, str] = {}
        for number in np.argsort(self._counts[: len(self.vocabulary)], kind="stable").tolist():
            term = self.vocabulary[number]
            if not term.isascii() and (plain := without_accents(term)) != term:
                found[plain] = term
        return found

    def scores(self, terms: Sequence[str]) -> Array:
        """Return the (passages,) BM25 scores for the terms of a question."""
        known = [self._numbers[term] for term in terms if term in self._numbers]
        if not known:
            return np.zeros(len(self))
        return np.asarray(self._bm25.get_scores_from_ids(known), dtype=np.float64)

    def idf(self, term: str) -> float:
        """Return how rare a term is; one that occurs in no passage is rarer than any other."""
        number = self._numbers.get(term)
        return math.log(1 + (2 * len(self) if number is None else len(self) / int(self._counts[number])))

    def terms_of(self, passage: int) -> list[str]:
        """Return the terms of a passage, in order."""
        return [self.vocabulary[number] for number in self.ids[self.starts[passage] : self.starts[passage + 1]]]

    def terms_in(self, terms: Collection[str], passages: Sequence[int]) -> frozenset[str]:
        """Return those terms that some of the passages have; a document may have 100,000 passages."""
        known = [term for term in terms if term in self._numbers]
        if not known or not passages:
            return frozenset()
        if passages[-1] - passages[0] + 1 == len(passages):
            ids = self.ids[self.starts[passages[0]] : self.starts[passages[-1] + 1]]
        else:
            ids = np.concatenate([self.ids[self.starts[i] : self.starts[i + 1]] for i in passages])
        found = np.isin([self._numbers[term] for term in known], ids)
        return frozenset(term for term, there in zip(known, found.tolist(), strict=True) if there)

    def save(self, folder: Path) -> None:
        """Write the index into a folder."""
        (folder / VOCABULARY).write_text(json.dumps(list(self.vocabulary), ensure_ascii=False), encoding="utf-8")
        np.save(folder / STARTS, self.starts)
        np.save(folder / IDS, self.ids)
        self._bm25.save(folder / SCORES, show_progress=False)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open an index; its arrays stay on disk.

        Raises:
            OSError, ValueError, KeyError: a file is missing or damaged.
            MissingExtraError: bm25s is not installed.
        """
        try:
            from bm25s import BM25
        except ImportError as error:
            raise MissingExtraError("bm25s", "serve") from error
        vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        starts, ids = np.load(folder / STARTS), np.load(folder / IDS, mmap_mode="r")
        bm25 = BM25.load(folder / SCORES, mmap=True, load_vocab=False, show_progress=False)
        if len(starts) < 2 or starts[-1] != len(ids) or bm25.scores["num_docs"] != len(starts) - 1:
            raise ValueError("the terms don't fit the passages")
        if len(bm25.scores["indptr"]) != len(vocabulary) + 2:
            raise ValueError("the terms don't fit the scores")
        return cls(vocabulary, starts, ids, bm25)


class _Numbered(NamedTuple):
    """Numbered terms in the form that bm25s takes."""

    ids: Sequence[list[int]]
    vocab: dict[str, int]


class _Rows(Sequence[list[int]]):
    """Lists of numbers that are made when they are read: 100,000 of them would take gigabytes."""

    def __init__(self, starts: Starts, ids: Ids) -> None:
        self._starts, self._ids = starts, ids

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._ids[self._starts[index] : self._starts[index + 1]].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        return (self[index] for index in range(len(self)))


def _renumbered(ids: Ids, size: int) -> tuple[npt.NDArray[np.int64], Ids]:
    """Return the numbers in use, and the ids renumbered to be without gaps."""
    used = np.flatnonzero(np.bincount(ids, minlength=size)) if len(ids) else np.zeros(0, np.int64)
    places = np.zeros(size, dtype=np.int32)
    places[used] = np.arange(len(used), dtype=np.int32)
    return used, places[ids]
