"""Which passages answer a question, how likely it is that they do, and which of them support a sentence.

BM25 (Robertson and Zaragoza, 2009) finds. Whether the documents hold an answer at all is a chance that is learnt from
the documents alone: sentences taken out of them are questions that the rest of their passage answers; with the whole
document hidden they are questions that nothing answers. No label and no model is needed.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.retrieval.lines import Lines
from sizewise.retrieval.passages import Passage, sentences_of
from sizewise.retrieval.words import number_sets, numbers_of, size_of, stop_words_of, units_of

LOOKED_AT, BEST, TENTH = 60, 3, 9
QUESTIONS, LEAST_QUESTIONS = 400, 20
SENTENCE_WORDS, SHORT_WORDS = (5, 40), (4, 10)
_ADDRESS = re.compile(r"https?://\S+|www\.\S+|\S+@\S+\.\w+")
_DENIES = re.compile(r"(?i)\b(?:no|not|never|none|nor|neither|without|cannot|nobody|nothing)\b|n['\u2019]t\b")

Array = npt.NDArray[np.float64]


class Hit(NamedTuple):
    """A passage that was found."""

    passage: Passage
    score: float
    """BM25."""


class Finding(NamedTuple):
    """What a library has for a question."""

    hits: tuple[Hit, ...]
    """The best first; none where no word of the question stands anywhere."""
    probability: float | None
    """Chance that the documents hold the answer; None where there are too few to tell, or it was not learnt."""
    covered: float = 0.0
    """Share of the question's telling words, by their rarity, that stand in one document."""
    in_passage: float = 0.0
    """The same of one passage with its title and heading."""
    telling: int = 0
    """Telling words of the question."""


class Library:
    """Passages that can be searched.

    Args:
        passages: at least one.
        seed: seed of the questions that the chance is learnt from.
        learn: learn the chance that the passages hold an answer; else it is not known.

    Raises:
        SizewiseError: there are none.
        MissingExtraError: bm25s is not installed.
    """

    def __init__(self, passages: Sequence[Passage], seed: int = 0, learn: bool = True) -> None:
        self._index = _Index(passages)
        self._lines = Lines(passages)
        self._chance = _learn(passages, self._index.stop, random.Random(seed)) if learn else None

    def __len__(self) -> int:
        return len(self._index.passages)

    def find(self, question: str, most: int = 4) -> Finding:
        """Find the passages that fit best.

        Args:
            question: what is asked, in the asker's words.
            most: passages to give.
        """
        found = self._index.search(question)
        asked = self._index.weights(question)
        hits = list(islice(self._with_text(found, asked), most))
        if not hits:
            return Finding((), 0.0)
        probability = None if self._chance is None else self._chance.of(self._index.look(question, found))
        in_passage = max(self._index.covers_in(asked, hit.passage) for hit in hits)
        return Finding(tuple(hits), probability, self._index.covers(asked, hits), in_passage, len(asked))

    def _with_text(self, found: Iterable[Hit], asked: Collection[str]) -> Iterator[Hit]:
        """Give hits whose text may be an answer; for one that holds marks of its document alone, what comes next."""
        given: set[int] = set()
        for hit in found:
            passage = hit.passage
            if not self._lines.answers_in(passage, asked):
                others = (one for one in self._index.of_document(passage.document) if id(one) not in given)
                passage = next((one for one in others if self._lines.answers_in(one, asked)), passage)
            if id(passage) not in given and self._lines.answers_in(passage, asked):
                given.add(id(passage))
                yield Hit(passage, hit.score)

    def answers_in(self, passage: Passage, question: str) -> list[str]:
        """Return the sentences of a passage's text that may be an answer to a question: no marks of the document."""
        return self._lines.answers_in(passage, self._index.weights(question))

    def support(self, sentence: str, passages: Sequence[Passage]) -> tuple[int, float]:
        """Give which passage supports a sentence best, and the share of its telling words that stand there.

        Each word counts by its rarity in these documents. A number or an address that does not stand in a passage
        counts as no support at all, and neither does a sentence that denies what the nearest one there says, or says
        what it denies.
        """
        told = self._index.weights(sentence)
        found = [0.0 if self._at_odds(sentence, one) else self._index.share(told, whole(one)) for one in passages]
        best = max(range(len(found)), key=found.__getitem__)
        return best, found[best]

    def _at_odds(self, sentence: str, passage: Passage) -> bool:
        there = whole(passage)
        numbers = numbers_of(there)
        if not all(one & numbers for one in number_sets(sentence)):
            return True
        if any(address not in there for address in _ADDRESS.findall(sentence)):
            return True
        nearest = max(sentences_of(passage.text), key=lambda one: self.overlap(sentence, one), default="")
        return bool(_DENIES.search(sentence)) != bool(_DENIES.search(nearest))

    def overlap(self, question: str, text: str) -> float:
        """Give the share of a question's telling words, by their rarity, that stand in a text."""
        return self._index.share(self._index.weights(question), text)


class _Index:
    """BM25 over passages, and what is seen of a question in it."""

    def __init__(self, passages: Sequence[Passage], stop: frozenset[str] | None = None) -> None:
        if not passages:
            raise SizewiseError("There is no text to search.", "a folder of documents", "sizewise read FOLDER")
        try:
            from bm25s import BM25
        except ImportError as error:
            raise MissingExtraError("bm25s", "serve") from error
        self.passages = list(passages)
        self.stop = stop_words_of(one.text for one in passages) if stop is None else stop
        words = [self.units(whole(one)) for one in passages]
        self._words = words
        counts = Counter(word for one in words for word in set(one))
        self._rarity = {word: math.log(1 + len(words) / count) for word, count in counts.items()}
        self._unknown = math.log(1 + 2 * len(words))  # rarer than any that is there
        self._places = {id(passage): place for place, passage in enumerate(self.passages)}
        self._documents: dict[str, list[Passage]] = defaultdict(list)
        self._words_in: dict[str, set[str]] = defaultdict(set)
        for passage, own in zip(self.passages, words, strict=True):
            self._documents[passage.document].append(passage)
            self._words_in[passage.document].update(own)
        self._bm25: Any = BM25()
        self._bm25.index(words, show_progress=False)

    def units(self, text: str) -> list[str]:
        """Return what a text is searched by, in its order."""
        return units_of(text, self.stop)

    def of_document(self, document: str) -> list[Passage]:
        """Return the passages of a document in their order."""
        return self._documents[document]

    def search(self, question: str, hidden: str | None = None) -> list[Hit]:
        """Find passages, the best first, without those of a hidden document."""
        words = [word for word in self.units(question) if word in self._rarity]
        if not words:
            return []
        places, scores = self._bm25.retrieve([words], k=min(LOOKED_AT, len(self.passages)), show_progress=False)
        found = (Hit(self.passages[place], float(score)) for place, score in zip(places[0], scores[0], strict=True))
        return [hit for hit in found if hit.score > 0 and hit.passage.document != hidden]

    def weights(self, text: str) -> dict[str, float]:
        """Give the words of a text with their rarity; words that stand nowhere are the rarest."""
        return {word: self._rarity.get(word, self._unknown) for word in self.units(text)}

    def covers_in(self, weights: dict[str, float], passage: Passage) -> float:
        """Return the share of weighted words that stand in a passage, its title or its heading."""
        return _share(weights, frozenset(self._words[self._places[id(passage)]]))

    def covers(self, weights: dict[str, float], hits: Sequence[Hit]) -> float:
        """Return the share of weighted words that stand in one of the documents of the best hits."""
        best = dict.fromkeys(hit.passage.document for hit in hits[:BEST])
        return max(_share(weights, self._words_in[document]) for document in best)

    def share(self, weights: dict[str, float], text: str) -> float:
        """Return the share of weighted words that stand in a text."""
        return _share(weights, frozenset(self.units(text)))

    def look(self, question: str, hits: Sequence[Hit]) -> Array:
        """Give what tells an answered question from another: score, words and pairs covered, lead, length."""
        weights = self.weights(question)
        asked = self.units(question)
        pairs = list(pairwise(asked))
        best = [self._words[self._places[id(hit.passage)]] for hit in hits[:BEST]]
        covered = max(_share(weights, frozenset(words)) for words in best)
        there = [set(pairwise(words)) for words in best]
        joined = max(sum(pair in one for pair in pairs) for one in there) / max(1, len(pairs))
        lead = hits[0].score / hits[min(TENTH, len(hits) - 1)].score
        share = hits[0].score / (sum(weights.values()) or 1.0)
        return np.array([share, covered, self.covers(weights, hits), math.log(lead), joined, math.log1p(len(asked))])


class _Chance(NamedTuple):
    """A logistic model of what is seen of a question."""

    mean: Array
    spread: Array
    weights: Array

    def of(self, seen: Array) -> float:
        """Give the chance that the question is answered."""
        return float(expit((seen - self.mean) / self.spread @ self.weights[:-1] + self.weights[-1]))


def _learn(passages: Sequence[Passage], stop: frozenset[str], draw: random.Random) -> _Chance | None:
    """Learn the chance from sentences taken out of the passages; None where there are too few documents."""
    thinned, questions = _taken_out(passages, draw)
    if len(questions) < LEAST_QUESTIONS:
        return None
    index = _Index(thinned, stop)
    seen, labels = [], []
    for question, document in questions:
        for hidden in (None, document):
            hits = index.search(question, hidden)
            if hits:
                seen.append(index.look(question, hits))
                labels.append(1.0 if hidden is None else -1.0)
    table, signs = np.array(seen), np.array(labels)
    mean, spread = table.mean(axis=0), table.std(axis=0) + 1e-9
    scaled = (table - mean) / spread

    def loss(weights: Array) -> float:
        margins = signs * (scaled @ weights[:-1] + weights[-1])
        return float(np.logaddexp(0, -margins).sum() + 0.5 * (weights[:-1] ** 2).sum())

    return _Chance(mean, spread, minimize(loss, np.zeros(table.shape[1] + 1)).x)


def _taken_out(passages: Sequence[Passage], draw: random.Random) -> tuple[list[Passage], list[tuple[str, str]]]:
    """Take a sentence out of one passage of each document; half of them are shortened, as people's questions are."""
    places = defaultdict(list)
    for place, passage in enumerate(passages):
        places[passage.document].append(place)
    thinned, questions = list(passages), []
    documents = sorted(places)
    for document in draw.sample(documents, min(QUESTIONS, len(documents))):
        place = draw.choice(places[document])
        sentences = sentences_of(passages[place].text)
        fit = [one for one in sentences if SENTENCE_WORDS[0] <= size_of(one) <= SENTENCE_WORDS[1]]
        if len(sentences) < BEST or not fit:
            continue
        chosen = draw.choice(fit)
        thinned[place] = passages[place]._replace(text=passages[place].text.replace(chosen, ""))
        words = chosen.split()
        if draw.random() < 0.5:
            size = draw.randint(*SHORT_WORDS)
            start = draw.randint(0, max(0, len(words) - size))
            words = words[start : start + size]
        questions.append((" ".join(words), document))
    return thinned, questions


def whole(passage: Passage) -> str:
    """Return a passage with its title and heading, which are searched too."""
    return f"{passage.title} {passage.heading} {passage.text}"


def _share(weights: dict[str, float], there: Collection[str]) -> float:
    total = sum(weights.values())
    return sum(weight for word, weight in weights.items() if word in there) / total if total else 0.0
