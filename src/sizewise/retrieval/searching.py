"""Search passages, estimate whether they answer a question, and find the passage that supports a sentence.

Search uses BM25 (Robertson and Zaragoza, 2009). The probability that the documents contain an answer is learned from
the documents alone. A sentence taken out of a passage serves as a question that the rest of the passage answers; with
its whole document hidden, the same sentence is a question without an answer. This needs no labels and no model.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.retrieval.lines import Lines
from sizewise.retrieval.passages import Passage
from sizewise.retrieval.terms import number_sets, numbers_of, stop_words_of, terms_of
from sizewise.text import count_words, pieces_of, sentences_of
from sizewise.text.scripts import BIGRAM_SCRIPTS, TRIGRAM_SCRIPTS

MAX_HITS, BEST, TENTH = 60, 3, 9
MAX_QUESTIONS, MIN_QUESTIONS = 400, 20
MIN_CLAUSE_OVERLAP = 0.5
SENTENCE_WORDS, SHORT_QUESTION_WORDS = (5, 40), (4, 10)
# An address ends where a script without spaces, or punctuation of full width, begins.
_LINK_CHARACTER = f"[^\\s\u3000-\u303f\uff00-\uffef{BIGRAM_SCRIPTS}{TRIGRAM_SCRIPTS}]"
_ADDRESS = re.compile(
    rf"https?://{_LINK_CHARACTER}+|www\.{_LINK_CHARACTER}+|{_LINK_CHARACTER}+@{_LINK_CHARACTER}+\.\w+"
)
_AFTER_ADDRESS = ".,;:!?)]}\"'\u00bb\u201d"
# Words that negate a sentence and have no other meaning in another of these languages.
_NEGATION = re.compile(
    r"(?i)\b(?:no|not|never|none|nor|neither|without|cannot|nobody|nothing|nicht|kein\w*|nie|niemals|ohne|weder|pas|jamais"
    r"|aucune?|sans|non|niet|geen|nunca|jam\u00e1s|n\u00e3o|sem|nem|ei|eiv\u00e4t|ilman|\u043d\u0435|\u043d\u0435\u0442"
    r"|\u0644\u0627|\u0644\u0645|\u0644\u0646|\u0644\u064a\u0633|\u0644\u064a\u0633\u062a|\u0628\u062f\u0648\u0646)\b"
    r"|n['\u2019]t\b|\u0928\u0939\u0940\u0902|\u4e0d(?!\u540c|\u4ec5|\u4f46|\u8fc7|\u65ad|\u5c11|\u9519)"
    r"|\u6ca1|\u307e\u305b\u3093|(?<!\u5c11)\u306a\u3044"
)

_CLAUSE = re.compile(r"[,;:\u2013\u2014\u060c\u061b\u3001\uff0c\uff1b\uff1a]\s*(?!\d)")

Array = npt.NDArray[np.float64]


class Hit(NamedTuple):
    """A search result."""

    passage: Passage
    score: float
    """BM25 score."""


class Finding(NamedTuple):
    """The search results for a question."""

    hits: tuple[Hit, ...]
    """Best hit first; empty if no document contains a content word of the question."""
    probability: float | None
    """Probability that the documents contain the answer; None if it wasn't learned or there are too few documents."""
    covered: float = 0.0
    """Share of the question's content words (IDF-weighted) that occur in a single document."""
    in_passage: float = 0.0
    """The same share for a single passage, including its title and heading."""
    content_words: int = 0
    """Number of distinct content words in the question."""


class Library:
    """A searchable collection of passages.

    Args:
        passages: At least one passage.
        seed: Seed of the questions that the answer probability is learned from.
        learn: Learn to estimate the probability that the passages answer a question.

    Raises:
        SizewiseError: There are no passages.
        MissingExtraError: bm25s is not installed.
    """

    def __init__(self, passages: Sequence[Passage], seed: int = 0, learn: bool = True) -> None:
        self._index = _Index(passages)
        self._lines = Lines(passages)
        self._probability = _learn(passages, self._index.stop_words, random.Random(seed)) if learn else None

    def __len__(self) -> int:
        return len(self._index.passages)

    def find(self, question: str, limit: int = 4) -> Finding:
        """Find the passages that match a question best.

        Args:
            question: The user's question.
            limit: Maximum number of passages.
        """
        ranked = self._index.search(question)
        weights = self._index.weights(question)
        hits = list(islice(self._with_answers(ranked, weights), limit))
        if not hits:
            return Finding((), 0.0)
        probability = None
        if self._probability is not None:
            probability = self._probability.predict(self._index.features(question, ranked))
        in_passage = max(self._index.passage_coverage(weights, hit.passage) for hit in hits)
        return Finding(tuple(hits), probability, self._index.document_coverage(weights, hits), in_passage, len(weights))

    def _with_answers(self, hits: Iterable[Hit], question: Collection[str]) -> Iterator[Hit]:
        """Keep hits that could answer; replace a boilerplate hit with another passage of the same document."""
        used: set[int] = set()
        for hit in hits:
            passage = hit.passage
            if not self._lines.answers_in(passage, question):
                others = (other for other in self._index.of_document(passage.document) if id(other) not in used)
                passage = next((other for other in others if self._lines.answers_in(other, question)), passage)
            if id(passage) not in used and self._lines.answers_in(passage, question):
                used.add(id(passage))
                yield Hit(passage, hit.score)

    def answers_in(self, passage: Passage, question: str) -> list[str]:
        """Return the sentences of a passage that could answer a question, without boilerplate."""
        return self._lines.answers_in(passage, self._index.weights(question))

    def support(self, sentence: str, passages: Sequence[Passage]) -> tuple[int, float]:
        """Find the passage that supports a sentence best.

        The support is the share of the sentence's content words that occur in the passage, weighted by IDF. It is 0
        if the sentence has a number or an address that the passage lacks, or if exactly one of the two is
        negated: the sentence, or the closest sentence in the passage.

        Returns:
            The index of the best passage, and its support.
        """
        weights = self._index.weights(sentence)
        supports = [
            0.0 if self._contradicts(sentence, passage) else self._index.coverage(weights, passage.full_text)
            for passage in passages
        ]
        best = max(range(len(supports)), key=supports.__getitem__)
        return best, supports[best]

    def _contradicts(self, sentence: str, passage: Passage) -> bool:
        text = passage.full_text
        numbers = numbers_of(text)
        if not all(values & numbers for values in number_sets(sentence)):
            return True
        if any(address.rstrip(_AFTER_ADDRESS) not in text for address in _ADDRESS.findall(sentence)):
            return True
        return self._negates(sentence, max(sentences_of(passage.text), key=partial(self.overlap, sentence), default=""))

    def _negates(self, sentence: str, nearest: str) -> bool:
        """Check whether one of two sentences is negated: by clauses, of those that have most words in common."""
        clauses = _CLAUSE.split(nearest)
        pairs = [(clause, max(clauses, key=partial(self.overlap, clause))) for clause in _CLAUSE.split(sentence)]
        alike = [pair for pair in pairs if self.overlap(*pair) >= MIN_CLAUSE_OVERLAP] or [(sentence, nearest)]
        return any(bool(_NEGATION.search(one)) != bool(_NEGATION.search(other)) for one, other in alike)

    def overlap(self, question: str, text: str) -> float:
        """Compute the share of a question's content words (IDF-weighted) that occur in a text."""
        return self._index.coverage(self._index.weights(question), text)


class _Index:
    """A BM25 index with the features of a question that predict whether it is answered."""

    def __init__(self, passages: Sequence[Passage], stop_words: frozenset[str] | None = None) -> None:
        if not passages:
            raise SizewiseError("There is no text to search.", "a folder of documents", "sizewise read FOLDER")
        try:
            from bm25s import BM25
        except ImportError as error:
            raise MissingExtraError("bm25s", "serve") from error
        self.passages = list(passages)
        self.stop_words = stop_words_of(passage.text for passage in passages) if stop_words is None else stop_words
        self._terms = [self.terms(passage.full_text) for passage in passages]
        counts = Counter(term for terms in self._terms for term in set(terms))
        self._idf = {term: math.log(1 + len(self._terms) / count) for term, count in counts.items()}
        self._unknown_idf = math.log(1 + 2 * len(self._terms))  # rarer than any term of the documents
        self._positions = {id(passage): position for position, passage in enumerate(self.passages)}
        self._documents: dict[str, list[Passage]] = defaultdict(list)
        self._document_terms: dict[str, set[str]] = defaultdict(set)
        for passage, terms in zip(self.passages, self._terms, strict=True):
            self._documents[passage.document].append(passage)
            self._document_terms[passage.document].update(terms)
        self._bm25: Any = BM25()
        self._bm25.index(self._terms, show_progress=False)

    def terms(self, text: str) -> list[str]:
        """Split a text into index terms, in order."""
        return terms_of(text, self.stop_words)

    def query_terms(self, text: str) -> list[str]:
        """Split a question or a sentence to look up into terms, in order."""
        return terms_of(text, self.stop_words, is_query=True)

    def of_document(self, document: str) -> list[Passage]:
        """Return the passages of a document, in order."""
        return self._documents[document]

    def search(self, question: str, hidden: str | None = None) -> list[Hit]:
        """Rank passages by BM25 score, excluding those of a hidden document."""
        terms = [term for term in self.query_terms(question) if term in self._idf]
        if not terms:
            return []
        positions, scores = self._bm25.retrieve([terms], k=min(MAX_HITS, len(self.passages)), show_progress=False)
        hits = (Hit(self.passages[i], float(score)) for i, score in zip(positions[0], scores[0], strict=True))
        return [hit for hit in hits if hit.score > 0 and hit.passage.document != hidden]

    def weights(self, text: str) -> dict[str, float]:
        """Map the terms of a text to their IDF; terms that occur in no document get the highest."""
        return {term: self._idf.get(term, self._unknown_idf) for term in self.query_terms(text)}

    def passage_coverage(self, weights: dict[str, float], passage: Passage) -> float:
        """Compute the weighted share of terms that occur in a passage, its title or its heading."""
        return _coverage(weights, frozenset(self._terms[self._positions[id(passage)]]))

    def document_coverage(self, weights: dict[str, float], hits: Sequence[Hit]) -> float:
        """Compute the weighted share of terms that occur in one of the documents of the best hits."""
        best = dict.fromkeys(hit.passage.document for hit in hits[:BEST])
        return max(_coverage(weights, self._document_terms[document]) for document in best)

    def coverage(self, weights: dict[str, float], text: str) -> float:
        """Compute the weighted share of terms that occur in a text."""
        return _coverage(weights, frozenset(self.terms(text)))

    def features(self, question: str, hits: Sequence[Hit]) -> Array:
        """Compute the features that predict an answer: score, coverage of terms and term pairs, lead, and length."""
        weights = self.weights(question)
        terms = self.query_terms(question)
        pairs = list(pairwise(terms))
        best = [self._terms[self._positions[id(hit.passage)]] for hit in hits[:BEST]]
        covered = max(_coverage(weights, frozenset(words)) for words in best)
        known_pairs = [set(pairwise(words)) for words in best]
        joined = max(sum(pair in known for pair in pairs) for known in known_pairs) / max(1, len(pairs))
        lead = hits[0].score / hits[min(TENTH, len(hits) - 1)].score
        share = hits[0].score / (sum(weights.values()) or 1.0)
        document = self.document_coverage(weights, hits)
        return np.array([share, covered, document, math.log(lead), joined, math.log1p(len(terms))])


class _AnswerProbability(NamedTuple):
    """Logistic regression on standardized features of a question."""

    mean: Array
    std: Array
    weights: Array
    """(features + 1,) The intercept comes last."""

    def predict(self, features: Array) -> float:
        """Estimate the probability that the question is answered."""
        return float(expit((features - self.mean) / self.std @ self.weights[:-1] + self.weights[-1]))


def _learn(passages: Sequence[Passage], stop_words: frozenset[str], rng: random.Random) -> _AnswerProbability | None:
    """Fit the probability on sentences taken out of the passages; None if there are too few documents."""
    thinned, questions = _hold_out_sentences(passages, rng)
    if len(questions) < MIN_QUESTIONS:
        return None
    index = _Index(thinned, stop_words)
    rows, labels = [], []
    for question, document in questions:
        for hidden in (None, document):
            hits = index.search(question, hidden)
            if hits:
                rows.append(index.features(question, hits))
                labels.append(1.0 if hidden is None else -1.0)
    features, signs = np.array(rows), np.array(labels)
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-9
    scaled = (features - mean) / std

    def loss(weights: Array) -> float:
        margins = signs * (scaled @ weights[:-1] + weights[-1])
        return float(np.logaddexp(0, -margins).sum() + 0.5 * (weights[:-1] ** 2).sum())

    return _AnswerProbability(mean, std, minimize(loss, np.zeros(features.shape[1] + 1)).x)


def _hold_out_sentences(passages: Sequence[Passage], rng: random.Random) -> tuple[list[Passage], list[tuple[str, str]]]:
    """Take one sentence out of a passage of each document; half of them are shortened to the length of a question.

    Returns:
        The passages without those sentences, and (sentence, document) pairs.
    """
    positions = defaultdict(list)
    for position, passage in enumerate(passages):
        positions[passage.document].append(position)
    thinned, questions = list(passages), []
    documents = sorted(positions)
    for document in rng.sample(documents, min(MAX_QUESTIONS, len(documents))):
        position = rng.choice(positions[document])
        text = passages[position].text
        sentences = sentences_of(text)
        suitable = [
            sentence for sentence in sentences if SENTENCE_WORDS[0] <= count_words(sentence) <= SENTENCE_WORDS[1]
        ]
        if len(sentences) < BEST or not suitable:
            continue
        chosen = rng.choice(suitable)
        thinned[position] = passages[position]._replace(text=text.replace(chosen, ""))
        words = pieces_of(chosen)
        if rng.random() < 0.5:
            size = rng.randint(*SHORT_QUESTION_WORDS)
            if len(words) > 2 * len(chosen.split()):  # characters of a script without spaces
                size *= 2
            start = rng.randint(0, max(0, len(words) - size))
            words = words[start : start + size]
        questions.append(("".join(words).strip(), document))
    return thinned, questions


def _coverage(weights: dict[str, float], terms: Collection[str]) -> float:
    total = sum(weights.values())
    return sum(weight for term, weight in weights.items() if term in terms) / total if total else 0.0
