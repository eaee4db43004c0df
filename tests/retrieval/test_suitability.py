"""Words count more where the encoder doesn't understand the documents; ranking is the same wherever ties stand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("bm25s")

from sizewise.retrieval import Library, Passage
from sizewise.retrieval.fusion import best_first, fuse
from sizewise.retrieval.suitability import FEW, UNSUITED, choose_words_share
from tests.languages import PASSAGES
from tests.retrieval.test_stored import WordEncoder


class Noise(WordEncoder):
    """Vectors that have nothing to do with the text, all close to each other."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng([sum(map(ord, text)) for text in texts])
        vectors = (1 + 0.1 * rng.standard_normal((len(texts), self.width))).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_passages = encode


def passages(language: str) -> list[Passage]:
    return [Passage(f"{language}{i}", f"{language}{i}", "", one.text) for i, one in enumerate(PASSAGES[language])]


@pytest.mark.parametrize("language", PASSAGES)
def test_words_find_the_answer_beside_an_encoder_that_understands_nothing(language: str) -> None:
    library = Library(passages(language), learn=False, encoder=Noise())
    right = [library.find(one.question).hits[0].passage.document for one in PASSAGES[language]]
    assert sum(name == f"{language}{i}" for i, name in enumerate(right)) >= 11


def halves(count: int) -> tuple[list[Passage], dict[str, list[int]]]:
    text = "The alpha{0} of beta{0} was painted gamma{0}. And yet alpha{0} of beta{0} is not gamma{0}."
    names = ["".join(chr(97 + (i * step) % 26) for step in (1, 3, 7)) for i in range(count)]
    found = [Passage(f"d{i}", f"d{i}", "", text.format(name)) for i, name in enumerate(names)]
    return found, {passage.document: [i] for i, passage in enumerate(found)}


def test_the_weight_of_words_depends_on_how_the_encoder_matches_halves_of_passages() -> None:
    encoder = WordEncoder()
    encoder.width = 4_096
    assert choose_words_share(*halves(40), encoder, frozenset()) < FEW
    assert choose_words_share(*halves(40), Noise(), frozenset()) == UNSUITED
    assert choose_words_share(*halves(20), Noise(), frozenset()) == FEW  # too few to tell
    assert "doesn't understand" in Library(halves(40)[0], learn=False, encoder=Noise()).found_by
    assert Library(halves(40)[0], learn=False, encoder=encoder).found_by == "words and meaning"
    alike = [
        Passage(f"d{i}", f"d{i}", "", "One and the same text here. One and the same text here.") for i in range(40)
    ]
    assert choose_words_share(alike, halves(40)[1], encoder, frozenset()) == FEW  # words tell nothing either


def test_equal_scores_keep_their_order() -> None:
    scores = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
    assert best_first(scores, 4).tolist() == [1, 3, 2, 4]
    assert best_first(scores, 99).tolist() == [1, 3, 2, 4, 5, 0]
    assert best_first(np.zeros(0), 3).tolist() == []


def test_fusion_ranks_what_either_ranking_finds() -> None:
    words = np.array([0.0, 4.0, 0.0, 2.0, 0.0])
    similarities = np.array([0.9, 0.1, 0.2, 0.6, 0.1])
    positions, scores = fuse(words, similarities, 0.5)
    assert positions.tolist() == [3, 0, 1]  # 2 and 4 have neither a word nor enough similarity
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    assert fuse(words, similarities, 0.0)[0].tolist() == [0, 3, 1]
    assert fuse(words, None)[0].tolist() == [1, 3]
    nothing = fuse(np.zeros(3), np.full(3, 0.1))
    assert len(nothing[0]) == len(nothing[1]) == 0
    assert fuse(np.zeros(2), np.full(2, 0.5))[0].tolist() == [0, 1]  # all alike: no division by zero
