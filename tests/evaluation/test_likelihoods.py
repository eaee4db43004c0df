"""Scores of passages from the log-likelihoods of their tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sizewise.documents.reading import make_document
from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.evaluation.likelihoods import _by_passage
from sizewise.models.base import ScoredText
from sizewise.models.local import LocalModel
from sizewise.records import Dataset
from sizewise.store import Saved, Store
from tests.languages import PASSAGES


def test_each_passage_has_the_mean_of_its_own_least_likely_tokens() -> None:
    document = make_document("d", "", "abcdefghij\n\nklmnopqrst", "")
    nats = np.array([1.0] * 8 + [5.0, 3.0] + [0.5] * 2 + [0.1] * 9 + [0.9])
    scored = ScoredText(nats, np.arange(len(nats), dtype=np.int64))
    first, second = _by_passage(document, scored)
    assert first[:3] == ("d#0", pytest.approx(17.0), 12)
    assert first[4:] == (1, pytest.approx(-4.0))
    assert second[2] == 10
    assert second[5] == pytest.approx(-0.5)


@pytest.mark.parametrize(("language", "words"), [("de", 51), ("th", 190)])
def test_words_of_word_perplexity_are_characters_without_spaces(language: str, words: int) -> None:
    document = make_document("d", "", PASSAGES[language][0].text, "")
    count = len(document.text)
    (row,) = _by_passage(document, ScoredText(np.ones(count), np.arange(count, dtype=np.int64)))
    assert row[4] == pytest.approx(words, rel=0.1)


def test_min_k_of_a_uniform_model(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f'{{"text": "Note {i}: {"x" * i} and the rest."}}\n' for i in range(12)), encoding="utf-8")
    score = evaluate("fake:echo", path, "min_k_percent,bits_per_byte", store=store).record.scores["min_k_percent@all"]
    assert score.value == pytest.approx(-math.log(256))
    assert score.unit == "nats/token"
    assert "k:20" in score.signature


def test_a_model_whose_likelihoods_are_no_numbers_is_an_error(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: LocalModel, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        yield from (ScoredText(np.full(3, np.nan), np.arange(3, dtype=np.int64)) for _ in texts)

    monkeypatch.setattr(LocalModel, "score", broken)
    with pytest.raises(SizewiseError, match=r"log-likelihoods in .* that aren't numbers") as error:
        evaluate(str(tiny_folder), dataset.id, "bits_per_byte", store=store)
    assert "--precision fp32" in error.value.next_step
