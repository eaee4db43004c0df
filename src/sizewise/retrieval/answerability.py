"""Estimate the probability that documents contain the answer to a question, learned from the documents alone.

A sentence taken out of a passage serves as a question that the rest of the passage answers; with its whole document
hidden, the same sentence is a question without an answer. This needs no labels and no model.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from sizewise.retrieval.meaning import Meaning, encode_passages
from sizewise.retrieval.passages import Passage
from sizewise.retrieval.search_index import BEST, SearchIndex
from sizewise.text import count_words, pieces_of, sentences_of

MAX_QUESTIONS, MIN_QUESTIONS = 400, 20
MAX_PASSAGES = 20_000
"""Passages that it is learned from; of larger collections, a sample of the documents."""
SENTENCE_WORDS, SHORT_QUESTION_WORDS = (5, 40), (4, 10)

Array = npt.NDArray[np.float64]


class AnswerProbability(NamedTuple):
    """Logistic regression on standardized features of a question."""

    mean: Array
    std: Array
    weights: Array
    """(features + 1,) The intercept comes last."""

    def predict(self, features: Array) -> float:
        """Estimate the probability that the question is answered."""
        return float(expit((features - self.mean) / self.std @ self.weights[:-1] + self.weights[-1]))

    def as_lists(self) -> dict[str, list[float]]:
        """Return the numbers, to write them."""
        return {name: values.tolist() for name, values in self._asdict().items()}

    @classmethod
    def of_lists(cls, written: Mapping[str, Any]) -> Self:
        """Return what `as_lists` wrote."""
        return cls(*(np.array(written[name], dtype=np.float64) for name in cls._fields))


def learn_answerability(index: SearchIndex, rng: random.Random) -> AnswerProbability | None:
    """Fit the probability on sentences taken out of the passages; None if there are too few documents."""
    documents = sorted(index.documents)
    if len(index.passages) > MAX_PASSAGES:
        share = MAX_PASSAGES / len(index.passages)
        documents = sorted(rng.sample(documents, max(1, int(share * len(documents)))))
    kept = [position for document in documents for position in index.documents[document]]
    passages = [index.passages[position] for position in kept]
    thinned, questions = hold_out_sentences(passages, rng)
    if len(questions) < MIN_QUESTIONS:
        return None
    changed = [i for i, passage in enumerate(thinned) if passage is not passages[i]]
    meaning = index.meaning
    if meaning is not None:
        vectors = np.array(meaning.vectors[kept], dtype=np.float32)
        vectors[changed] = encode_passages(meaning.encoder, [thinned[i] for i in changed])
        meaning = Meaning(meaning.encoder, vectors, meaning.words_share)
    without = SearchIndex.of_passages(thinned, index.stop_words, meaning)
    rows, labels = [], []
    for question, document in questions:
        similarities = without.similarities(question)
        for hidden in (None, document):
            ranking = without.rank(question, similarities, hidden)
            if len(ranking.positions):
                rows.append(without.features(question, ranking))
                labels.append(1.0 if hidden is None else -1.0)
    return _fit(np.array(rows), np.array(labels))


def _fit(features: Array, signs: Array) -> AnswerProbability:
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-9
    scaled = (features - mean) / std

    def loss(weights: Array) -> float:
        margins = signs * (scaled @ weights[:-1] + weights[-1])
        return float(np.logaddexp(0, -margins).sum() + 0.5 * (weights[:-1] ** 2).sum())

    return AnswerProbability(mean, std, minimize(loss, np.zeros(features.shape[1] + 1)).x)


def hold_out_sentences(passages: Sequence[Passage], rng: random.Random) -> tuple[list[Passage], list[tuple[str, str]]]:
    """Take one sentence out of a passage of each document; half of them are shortened to the length of a question.

    Returns:
        The passages without those sentences, and (sentence, document) pairs.
    """
    positions: dict[str, list[int]] = {}
    for position, passage in enumerate(passages):
        positions.setdefault(passage.document, []).append(position)
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
