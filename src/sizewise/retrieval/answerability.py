"""Estimate the probability that documents contain the answer to a question.

It is learned from questions that people asked about the documents, where there are enough: with its document hidden, a
question has no answer. Without them, a sentence taken out of a passage serves as a question that the rest of the
passage answers. Neither needs a model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from sizewise.retrieval.meaning import Meaning, encode_passages
from sizewise.retrieval.passages import Passage
from sizewise.retrieval.search_index import BEST, SearchIndex
from sizewise.stats import wilson
from sizewise.text import count_words, pieces_of, sentences_of

MAX_QUESTIONS, MIN_QUESTIONS = 400, 20
MAX_ASKED, FOLDS, MAX_REFUSED = 2_000, 5, 0.05
"""Questions that people asked of which it is learned, parts of the documents for cross-validation, and share of the
answered questions that may be declined by mistake."""
MIN_AUC, COPY = 0.6, 0.7
"""Chance that a question with its document gets a higher probability than one without, below which questions teach
nothing; and share of terms in common from which a document is a version of another."""
SURE, PASSAGES = 0.5, 3
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


class Asked(NamedTuple):
    """A question that people asked."""

    question: str
    document: str
    """Id of the document that answers it."""


class Share(NamedTuple):
    """A share of questions with its 95 % Wilson interval."""

    value: float
    ci_low: float
    ci_high: float


class QuestionCheck(NamedTuple):
    """How well the index answers questions that people asked, by cross-validation over documents."""

    questions: int
    first: Share
    """The document that answers, or a version of it, comes first."""
    among_three: Share
    """It is among the first three documents."""
    refused: Share
    """Questions declined though their document is there, at a probability of 0.5."""
    declined: Share
    """Questions declined when their document is hidden, at the same probability."""
    threshold: float
    """Probability below which about `MAX_REFUSED` of the questions are declined by mistake, rounded down."""
    refused_there: Share
    """Questions declined at that probability though their document is there."""
    declined_there: Share
    """Questions declined at that probability when their document is hidden."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values, shares as objects."""
        return {name: one._asdict() if isinstance(one, Share) else one for name, one in self._asdict().items()}


def question_check_of(written: Mapping[str, Any] | None) -> QuestionCheck | None:
    """Return what `as_json` wrote."""
    if not written:
        return None
    values: dict[str, Any] = {name: Share(**one) if isinstance(one, dict) else one for name, one in written.items()}
    return QuestionCheck(**values)


class Taught(NamedTuple):
    """What questions taught."""

    probability: AnswerProbability
    check: QuestionCheck


def learn_answerability(
    index: SearchIndex, rng: random.Random, asked: Sequence[Asked] = ()
) -> AnswerProbability | None:
    """Fit the probability on questions, or on sentences taken out of the passages; None if there are too few.

    Args:
        index: the passages.
        rng: chooses documents and sentences.
        asked: questions that people asked; those that teach nothing (see `teach`) are replaced by sentences.
    """
    taught = teach(index, asked)
    return taught.probability if isinstance(taught, Taught) else _learn_from_sentences(index, rng)


def teach(index: SearchIndex, asked: Sequence[Asked]) -> Taught | str:
    """Fit the probability on questions that people asked, and measure it on documents that it didn't learn from.

    Returns:
        What was learned, or why nothing was.
    """
    known = [one for one in dict.fromkeys(asked) if one.question.strip() and index.documents.get(one.document)]
    known = known if len(known) <= MAX_ASKED else random.Random(0).sample(known, MAX_ASKED)
    documents = sorted({one.document for one in known})
    if len(known) < MIN_QUESTIONS or len(documents) < FOLDS:
        needed = f"{MIN_QUESTIONS} of {FOLDS} documents are needed"
        return f"{len(known):,} different questions of {len(documents):,} documents; {needed}"
    features, signs, ranks = _of_questions(index, known)
    random.Random(0).shuffle(documents)
    fold = {document: i % FOLDS for i, document in enumerate(documents)}
    folds = np.repeat([fold[one.document] for one in known], 2)
    chance = np.zeros(len(features))
    for number in range(FOLDS):
        held = folds == number
        learned = _fit(features[~held], signs[~held])
        chance[held] = [learned.predict(row) for row in features[held]]
    there, hidden = chance[::2], chance[1::2]
    above, equal = there[:, None] > hidden, there[:, None] == hidden
    if float((above + 0.5 * equal).mean()) < MIN_AUC:
        return "search finds as much for the questions with their documents hidden as with them there"
    threshold = math.floor(100 * float(np.quantile(there, MAX_REFUSED, method="lower"))) / 100
    check = QuestionCheck(
        len(known), _share(ranks < 1), _share(ranks < PASSAGES), _share(there < SURE), _share(hidden < SURE),
        threshold, _share(there < threshold), _share(hidden < threshold),
    )  # fmt: skip
    return Taught(_fit(features, signs), check)


def _of_questions(index: SearchIndex, asked: Sequence[Asked]) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    """Compute the features of each question, with its document and with it and its versions hidden.

    Returns:
        (2 questions, features), (2 questions,) 1 or -1, and how many documents come before the one that answers.
    """
    rows, signs, ranks = [], [], []
    terms_of = lru_cache(MAX_ASKED)(lambda name: _terms_of(index, name))
    for question, document in asked:
        similarities = index.similarities(question)
        ranking = index.rank(question, similarities)
        best = [index.passages[place].document for place in ranking.positions[: 10 * PASSAGES].tolist()]
        found = list(dict.fromkeys(best))
        versions = {document, *(one for one in found if _are_versions(terms_of(one), terms_of(document)))}
        ranks.append(next((i for i, one in enumerate(found) if one in versions), len(found) + PASSAGES))
        for one, sign in ((ranking, 1.0), (index.rank(question, similarities, versions), -1.0)):
            rows.append(index.features(question, one) if len(one.positions) else np.zeros(index.feature_count))
            signs.append(sign)
    return np.array(rows), np.array(signs), np.array(ranks)


def _are_versions(first: set[str], second: set[str]) -> bool:
    """Check whether two documents have most of their terms in common."""
    return len(first & second) >= COPY * len(first | second)


def _terms_of(index: SearchIndex, document: str) -> set[str]:
    return {term for place in index.documents[document] for term in index.term_index.terms_of(place)}


def _share(hits: npt.NDArray[np.bool_]) -> Share:
    return Share(float(hits.mean()), *wilson(float(hits.sum()), len(hits)))


def _learn_from_sentences(index: SearchIndex, rng: random.Random) -> AnswerProbability | None:
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
        for hidden in ((), (document,)):
            ranking = without.rank(question, similarities, hidden)
            if len(ranking.positions):
                rows.append(without.features(question, ranking))
                labels.append(-1.0 if hidden else 1.0)
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
