"""Rank passages for a question, by words (BM25) and by meaning (vectors), and describe how well they match."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError
from sizewise.retrieval.fusion import CANDIDATES, best_first, fuse
from sizewise.retrieval.meaning import Meaning, TextEncoder, Vectors
from sizewise.retrieval.passages import Passage
from sizewise.retrieval.spellings import QueryTerms, index_terms, query_terms
from sizewise.retrieval.suitability import choose_words_share
from sizewise.retrieval.term_index import TermIndex
from sizewise.retrieval.terms import stop_words_of

BEST, TENTH = 3, 9

Array = npt.NDArray[np.float64]


class Ranking(NamedTuple):
    """Passages ranked for a question."""

    positions: npt.NDArray[np.int64]
    """Positions of the passages, best first."""
    scores: Array
    """Their scores."""
    words: Array
    """(all passages,) BM25 scores."""
    similarities: Array | None
    """(all passages,) cosine similarities; None if passages are ranked by words only."""


_NEVER = frozenset(("",))  # no term is empty


class Weights(dict[str, float]):
    """IDF of each term of a question.

    Args:
        weights: the weights.
        parts: compound among the terms, such as `checkin` -> its parts, as in "check in".
    """

    def __init__(self, weights: Mapping[str, float], parts: Mapping[str, frozenset[str]]) -> None:
        super().__init__(weights)
        self.parts = {term: found for term, found in parts.items() if found}

    @property
    def all_terms(self) -> frozenset[str]:
        """The terms and the parts of compounds."""
        return frozenset(self).union(*self.parts.values())


class SearchIndex:
    """Passages with their terms and vectors.

    Args:
        passages: the passages, in memory or read from disk one at a time.
        stop_words: words that are not indexed.
        terms: terms of the passages.
        documents: positions of the passages of each document.
        meaning: vectors of the passages; None to search by words only.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        stop_words: frozenset[str],
        terms: TermIndex,
        documents: Mapping[str, Sequence[int]],
        meaning: Meaning | None = None,
    ) -> None:
        self.passages, self.stop_words, self.documents = passages, stop_words, documents
        self.term_index, self.meaning = terms, meaning

    @classmethod
    def of_passages(
        cls, passages: Sequence[Passage], stop_words: frozenset[str] | None = None, meaning: Meaning | None = None
    ) -> Self:
        """Index passages in memory.

        Raises:
            SizewiseError: there are no passages.
            MissingExtraError: bm25s is not installed.
        """
        if not passages:
            raise SizewiseError("There is no text to search.", "a folder of documents", "sizewise read FOLDER")
        if stop_words is None:
            stop_words = stop_words_of(passage.text for passage in passages)
        documents: dict[str, list[int]] = {}
        for position, passage in enumerate(passages):
            documents.setdefault(passage.document, []).append(position)
        index = TermIndex.of_terms(index_terms(passage.full_text, stop_words) for passage in passages)
        return cls(list(passages), stop_words, index, documents, meaning)

    def add_meaning(self, encoder: TextEncoder, vectors: Vectors) -> Meaning:
        """Search by meaning from now on, by the weight that suits the documents."""
        share = choose_words_share(self.passages, self.documents, encoder, self.stop_words)
        self.meaning = Meaning(encoder, vectors, share)
        return self.meaning

    def query_terms(self, text: str) -> list[str]:
        """Split a question or a sentence to look up into terms, in order."""
        return self._read_query(text).terms

    def _read_query(self, text: str) -> QueryTerms:
        return query_terms(text, self.stop_words, self.term_index.__contains__, self.term_index.spelling)

    def similarities(self, question: str) -> Array | None:
        """Compute the similarity of each passage to a question; None if passages have no vectors."""
        return None if self.meaning is None else self.meaning.similarities(question)

    def rank(self, question: str, similarities: Array | None, hidden: Collection[str] = ()) -> Ranking:
        """Rank passages, excluding those of hidden documents."""
        asked = self._read_query(question)
        parts = [term for of_compound in asked.parts.values() for term in sorted(of_compound)]
        words = self.term_index.scores([*asked.terms, *parts])
        if hidden:
            places = [place for document in sorted(hidden) for place in self.documents[document]]
            words[places] = 0.0
            if similarities is not None:
                similarities = similarities.copy()
                similarities[places] = -1.0
        share = 1.0 if self.meaning is None else self.meaning.words_share
        return Ranking(*fuse(words, similarities, share), words, similarities)

    def weights(self, text: str) -> Weights:
        """Map the terms of a text to their IDF; terms that occur in no document get the highest."""
        asked = self._read_query(text)
        return Weights({term: self.term_index.idf(term) for term in asked.terms}, asked.parts)

    def passage_coverage(self, weights: Weights, position: int) -> float:
        """Compute the weighted share of terms that occur in a passage, its title or its heading."""
        return weighted_share(weights, frozenset(self.term_index.terms_of(position)))

    def document_coverage(self, weights: Weights, positions: Sequence[int]) -> float:
        """Compute the weighted share of terms that occur in one of the documents of the best passages."""
        best = dict.fromkeys(self.passages[position].document for position in positions[:BEST])
        terms = weights.all_terms
        return max(
            weighted_share(weights, self.term_index.terms_in(terms, self.documents[document])) for document in best
        )

    def coverage(self, weights: Weights, text: str) -> float:
        """Compute the weighted share of terms that occur in a text."""
        return weighted_share(weights, frozenset(index_terms(text, self.stop_words)))

    @property
    def feature_count(self) -> int:
        """Number of `features`."""
        return 6 if self.meaning is None else 8

    def features(self, question: str, ranking: Ranking) -> Array:
        """Compute the features that predict an answer.

        These are BM25 score, coverage of terms and term pairs, lead over the tenth passage, and length of the question;
        with vectors, also the largest similarity and its lead.
        """
        weights = self.weights(question)
        terms = self.query_terms(question)
        pairs = list(pairwise(terms))
        positions = ranking.positions[:BEST].tolist()
        best = [self.term_index.terms_of(position) for position in positions]
        covered = max(weighted_share(weights, frozenset(words)) for words in best)
        known_pairs = [set(pairwise(words)) for words in best]
        joined = max(sum(pair in known for pair in pairs) for known in known_pairs) / max(1, len(pairs))
        top = ranking.words[best_first(ranking.words, CANDIDATES)]
        top = top[top > 0]
        share, lead = 0.0, 0.0
        if len(top):
            share = float(top[0]) / (sum(weights.values()) or 1.0)
            lead = math.log(top[0] / top[min(TENTH, len(top) - 1)])
        found = [share, covered, self.document_coverage(weights, positions), lead, joined, math.log1p(len(terms))]
        if ranking.similarities is not None:
            near = ranking.similarities[best_first(ranking.similarities, TENTH + 1)]
            found += [float(near[0]), float(near[0] - near[-1])]
        return np.array(found)


def weighted_share(weights: Weights, terms: frozenset[str]) -> float:
    """Compute the share of the weights whose terms are among the given ones; a compound may be there in its parts."""
    total = sum(weights.values())
    found = (weight for term, weight in weights.items() if term in terms or weights.parts.get(term, _NEVER) <= terms)
    return sum(found) / total if total else 0.0
