"""Whether an encoder understands the documents: how much words and meaning count in the search.

An encoder that wasn't trained on a language puts texts of it close to each other for no reason. So both rankings are
tried on the documents themselves: the end of a passage is a question, and the beginning of the same passage is right.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sizewise.retrieval.meaning import TextEncoder
from sizewise.retrieval.passages import Passage
from sizewise.retrieval.term_index import TermIndex
from sizewise.retrieval.terms import terms_of
from sizewise.text import count_words, sentences_of

MAX_PAIRS, MIN_PAIRS = 96, 24
MIN_PART_WORDS, MIN_SKILL = 5, 0.1
SHARES = ((0.9, 0.3), (0.6, 0.6))
"""Least ratio of the mean reciprocal ranks above chance, by meaning over by words, and the weight of the words from
there on."""
FEW, UNSUITED = 0.6, 0.9
"""Weight of the words with too few passages to tell, and with an encoder that doesn't understand them."""

Array = npt.NDArray[np.float64]


def choose_words_share(
    passages: Sequence[Passage],
    documents: Mapping[str, Sequence[int]],
    encoder: TextEncoder,
    stop_words: frozenset[str],
) -> float:
    """Choose the weight of the words from how well the encoder matches halves of passages.

    Args:
        passages: the passages.
        documents: positions of the passages of each document, which take turns.
        encoder: the encoder.
        stop_words: words that are not indexed.
    """
    halves = _halves(passages, documents)
    if len(halves) < MIN_PAIRS:
        return FEW
    beginnings, ends = [first for first, _ in halves], [second for _, second in halves]
    index = TermIndex.of_terms(terms_of(text, stop_words) for text in beginnings)
    by_words = np.array([index.scores(terms_of(text, stop_words, is_query=True)) for text in ends])
    by_meaning = np.asarray(encoder.encode(ends) @ encoder.encode_passages(beginnings).T, dtype=np.float64)
    chance = float((1 / np.arange(1, len(halves) + 1)).mean())
    skill = _mean_reciprocal_rank(by_words) - chance
    if skill < MIN_SKILL:
        return FEW
    ratio = (_mean_reciprocal_rank(by_meaning) - chance) / skill
    return next((share for least, share in SHARES if ratio >= least), UNSUITED)


def _halves(passages: Sequence[Passage], documents: Mapping[str, Sequence[int]]) -> list[tuple[str, str]]:
    """Return beginnings and ends of passages, without title and heading; documents take turns."""
    rng = random.Random(0)
    names = sorted(name for name, positions in documents.items() if len(positions))
    left = {name: list(documents[name]) for name in rng.sample(names, len(names))}
    halves: list[tuple[str, str]] = []
    while left and len(halves) < MAX_PAIRS:
        for name, positions in list(left.items()):
            sentences = sentences_of(passages[positions.pop(rng.randrange(len(positions)))].text)
            middle = (len(sentences) + 1) // 2
            parts = " ".join(sentences[:middle]), " ".join(sentences[middle:])
            if min(map(count_words, parts)) >= MIN_PART_WORDS:
                halves.append(parts)
            if not positions:
                del left[name]
            if len(halves) == MAX_PAIRS:
                break
    return halves


def _mean_reciprocal_rank(scores: Array) -> float:
    """Return the mean reciprocal rank of the diagonal of (questions, texts) scores; ties count as a half."""
    right = scores.diagonal()[:, None]
    ranks = 1 + (scores > right).sum(axis=1) + ((scores == right).sum(axis=1) - 1) / 2
    return float((1 / ranks).mean())
