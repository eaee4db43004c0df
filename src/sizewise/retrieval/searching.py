"""Search passages, estimate whether they answer a question, and find the passage that supports a sentence."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, Self

from sizewise.records import fingerprint
from sizewise.retrieval.answerability import AnswerProbability, Asked, learn_answerability
from sizewise.retrieval.lines import Lines
from sizewise.retrieval.meaning import TextEncoder, encode_passages
from sizewise.retrieval.passages import Passage
from sizewise.retrieval.search_index import SearchIndex
from sizewise.retrieval.suitability import UNSUITED
from sizewise.retrieval.terms import number_sets, numbers_of
from sizewise.text import fold_text, sentences_of
from sizewise.text.scripts import BIGRAM_SCRIPTS, TRIGRAM_SCRIPTS

MIN_CLAUSE_OVERLAP, MIN_RELATED = 0.5, 0.6
SEARCH_VERSION = 3
"""Incremented when other passages are found for a question, or they look different."""
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


class Hit(NamedTuple):
    """A search result."""

    passage: Passage
    score: float
    """BM25 score; with an encoder, a combined score from 0 to 1."""


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
        encoder: Encodes passages and questions, so that they are found by meaning too; None to search by words only.
        done: Called with the number of encoded passages and of all passages.
        asked: Questions that people asked; with enough of them, the probability is learned from them.

    Raises:
        SizewiseError: There are no passages.
        MissingExtraError: bm25s is not installed.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        seed: int = 0,
        learn: bool = True,
        encoder: TextEncoder | None = None,
        done: Callable[[int, int], None] | None = None,
        asked: Sequence[Asked] = (),
    ) -> None:
        self._index = SearchIndex.of_passages(passages)
        if encoder is not None:
            self._index.add_meaning(encoder, encode_passages(encoder, passages, done))
        self._lines = Lines.of_passages(passages)
        self._probability = learn_answerability(self._index, random.Random(seed), asked) if learn else None

    @classmethod
    def of_index(cls, index: SearchIndex, lines: Lines, probability: AnswerProbability | None) -> Self:
        """Return a library whose parts were made before."""
        library = cls.__new__(cls)
        library._index, library._lines, library._probability = index, lines, probability
        return library

    def __len__(self) -> int:
        return len(self._index.passages)

    @property
    def searches_by_meaning(self) -> bool:
        """Whether passages are found by meaning too, or by words only."""
        return self._index.meaning is not None

    @property
    def documents(self) -> int:
        """Number of documents that have a passage."""
        return len(self._index.documents)

    @property
    def search_state(self) -> str:
        """What decides which passages are found, besides the documents."""
        meaning = self._index.meaning
        by = "words" if meaning is None else fingerprint([meaning.words_share, meaning.encoder.fingerprint])
        return f"{SEARCH_VERSION}-{by}"

    @property
    def found_by(self) -> str:
        """How passages are found, in words."""
        meaning = self._index.meaning
        if meaning is None:
            return "words"
        if meaning.words_share < UNSUITED:
            return "words and meaning"
        return "words, and hardly by meaning, because the encoder doesn't understand these documents"

    def titles(self, limit: int) -> list[str]:
        """Return the titles of the first documents."""
        passages = (self._index.passages[place] for place in range(len(self._index.passages)))
        return list(dict.fromkeys(passage.title for passage in islice(passages, 20 * limit)))[:limit]

    def find(self, question: str, limit: int = 4) -> Finding:
        """Find the passages that match a question best.

        Args:
            question: The user's question.
            limit: Maximum number of passages.
        """
        ranking = self._index.rank(question, self._index.similarities(question))
        weights = self._index.weights(question)
        ranked = zip(ranking.positions.tolist(), ranking.scores.tolist(), strict=True)
        found = list(islice(self._with_answers(ranked, weights.all_terms), limit))
        if not found:
            return Finding((), 0.0)
        probability = None
        if self._probability is not None:
            probability = self._probability.predict(self._index.features(question, ranking))
        positions = [position for position, _ in found]
        in_passage = max(self._index.passage_coverage(weights, position) for position in positions)
        covered = self._index.document_coverage(weights, positions)
        hits = tuple(Hit(self._index.passages[position], score) for position, score in found)
        return Finding(hits, probability, covered, in_passage, len(weights))

    def _with_answers(
        self, ranked: Iterable[tuple[int, float]], question: Collection[str]
    ) -> Iterator[tuple[int, float]]:
        """Keep hits that could answer; replace a boilerplate hit with another passage of the same document.

        Of passages with the same text, as in versions of a document, the first one is kept.
        """
        used: set[int] = set()
        texts: set[str] = set()
        for position, score in ranked:
            if not self._answers(position, question):
                others = (i for i in self._index.documents[self._index.passages[position].document] if i not in used)
                position = next((i for i in others if self._answers(i, question)), position)
            text = fold_text(self._index.passages[position].text)
            if position not in used and text not in texts and self._answers(position, question):
                used.add(position)
                texts.add(text)
                yield position, score

    def _answers(self, position: int, question: Collection[str]) -> bool:
        return bool(self._lines.answers_in(self._index.passages[position], question))

    def answers_in(self, passage: Passage, question: str) -> list[str]:
        """Return the sentences of a passage that could answer a question, without boilerplate."""
        return self._lines.answers_in(passage, self._index.weights(question).all_terms)

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

    def is_related(self, answer: str, source: Passage, other: Passage) -> bool:
        """Check whether a passage has most words of an answer, or of the passage that the answer is from.

        It then states the answer, or something else in its place, as another version of a document does: it is not a
        passage without an answer.
        """
        text = other.full_text
        return self.overlap(answer, text) >= MIN_RELATED or self.overlap(source.text, text) >= MIN_RELATED

    def rarity(self, word: str) -> float:
        """Return the IDF of the rarest term of a word; 0 for a stop word."""
        return max(self._index.weights(word).values(), default=0.0)

    def overlap(self, question: str, text: str) -> float:
        """Compute the share of a question's content words (IDF-weighted) that occur in a text."""
        return self._index.coverage(self._index.weights(question), text)
