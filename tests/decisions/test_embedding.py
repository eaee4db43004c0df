"""Classifiers on a frozen encoder: they learn, survive odd data, and load to the same probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sizewise.decisions.embedding import EmbeddingScorer, fit_head
from sizewise.decisions.pools import MIN_VALIDATION, pool, scaled_loss
from sizewise.decisions.scorers import Material, Settings, fit_scorer, load_scorer
from sizewise.errors import SizewiseError
from tests.decisions.test_linear import TOPICS, material, question
from tests.retrieval.encoders import write_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def test_it_learns_topics_and_loads_to_the_same_probabilities(tmp_path: Path, encoder: Path) -> None:
    train, held = material(240, 0), material(100, 1)
    asked = question(*TOPICS)
    scorer = fit_scorer("embedding", train, material(60, 2), Settings(asked, encoder))
    found = scorer.probabilities(held.texts)
    assert (found.argmax(axis=1) == held.labels).mean() > 0.95
    assert np.allclose(found.sum(axis=1), 1)
    assert np.allclose(scorer.probabilities(held.texts[:1]), found[:1], atol=1e-5)
    assert "The validation split chose" in scorer.notes[0]
    scorer.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - {"linear"} == {"embedding.json", "embedding.safetensors"}
    again = load_scorer("embedding", tmp_path, asked, encoder)
    assert np.array_equal(again.probabilities(held.texts), found)
    assert (again.notes, again.parameters) == (scorer.notes, scorer.parameters)
    assert again.probabilities([]).shape == (0, 3)


def test_words_that_the_encoder_does_not_know_have_a_share_of_the_pool(tmp_path: Path, encoder: Path) -> None:
    asked, rng = question("a", "b"), np.random.default_rng(0)

    def coded(n: int) -> Material:
        """Make texts whose option a word outside the encoder's vocabulary tells."""
        labels = rng.integers(0, 2, n)
        texts = [f"my card {('xqz', 'wvk')[label]}{rng.integers(0, 9)} please" for label in labels]
        return Material(texts, np.eye(2)[labels], [f"d{i}" for i in range(n)])

    train, held = coded(200), coded(100)
    scorer = fit_scorer("embedding", train, coded(MIN_VALIDATION), Settings(asked, encoder))
    assert isinstance(scorer, EmbeddingScorer)
    share = scorer._pool.share
    assert share > 0
    assert f"TF-IDF has a share of {share:.0%} (log loss" in scorer.notes[1]
    found = scorer.probabilities(held.texts)
    assert (found.argmax(axis=1) == held.labels).mean() > 0.95
    own = scorer._head.probabilities(scorer._encoder.encode(held.texts))
    assert (own.argmax(axis=1) == held.labels).mean() < 0.8
    assert scorer._pool.words is not None
    assert np.array_equal(found, pool(own, scorer._pool.words.probabilities(held.texts), share, False))
    assert scorer.trained_parameters == 33 + scorer._pool.parameters
    scorer.save(tmp_path)
    assert np.array_equal(load_scorer("embedding", tmp_path, asked, encoder).probabilities(held.texts), found)
    folds = fit_scorer("embedding", train, coded(5), Settings(asked, encoder))
    assert isinstance(folds, EmbeddingScorer)
    assert folds._pool.share > 0


def test_another_encoder_is_refused(tmp_path: Path, encoder: Path) -> None:
    asked = question(*TOPICS)
    fit_scorer("embedding", material(60, 0), material(0, 1), Settings(asked, encoder)).save(tmp_path)
    other = write_encoder(tmp_path / "other", seed=1)
    with pytest.raises(SizewiseError, match="fingerprint"):
        load_scorer("embedding", tmp_path, asked, other)
    with pytest.raises(SizewiseError, match="no encoder"):
        load_scorer("embedding", tmp_path, asked, None)


def test_without_validation_folds_of_the_training_split_choose(encoder: Path) -> None:
    few = material(MIN_VALIDATION - 1, 1)
    scorer = fit_scorer("embedding", material(90, 0), few, Settings(question(*TOPICS), encoder))
    assert "folds of the training split chose" in scorer.notes[0]
    held = material(60, 2)
    assert (scorer.probabilities(held.texts).argmax(axis=1) == held.labels).mean() > 0.9


def test_odd_data(encoder: Path) -> None:
    one_each = Material(["my card", "my loan"], np.eye(2), ["a", "b"])
    found = fit_scorer("embedding", one_each, one_each, Settings(question("card", "loan"), encoder))
    assert found.probabilities(["my card", "my loan", ""]).argmax(axis=1).tolist()[:2] == [0, 1]
    labels = ("card", "loan", "nothing", "transfer")
    scorer = fit_scorer(
        "embedding", material(90, 0, labels), material(0, 0, labels), Settings(question(*labels), encoder)
    )
    rows = scorer.probabilities(["my card", "\U0001f600", "", "\u4f60\u597d", "loan " * 200])
    assert np.allclose(rows.sum(axis=1), 1)
    assert (rows[:, 2] < 1e-5).all()
    single = Material(["my card", "the card"], np.array([[1.0, 0.0], [1.0, 0.0]]), ["a", "b"])
    sure = fit_scorer("embedding", single, single, Settings(question("card", "loan"), encoder))
    assert sure.probabilities(["my pin"]).tolist() == [[1.0, 0.0]]
    long = Material(["loan " * 100, "card"] * 5, np.eye(2)[[0, 1] * 5], list("abcdefghij"))
    assert "5 of 10 texts have more than 24 tokens" in fit_scorer(
        "embedding", long, long, Settings(question("loan", "card"), encoder)
    ).notes[0]  # fmt: skip


def test_several_options_may_be_correct_and_annotators_may_disagree(encoder: Path) -> None:
    asked = question(*TOPICS, kind="multi")
    texts = ["my card and the loan", "my card please", "the loan please", "my transfer", "good day"] * 20
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]] * 20, dtype=float)
    several = Material(texts, targets, [f"d{i}" for i in range(100)])
    scorer = fit_scorer("embedding", several, several, Settings(asked, encoder))
    assert ((scorer.probabilities(texts[:5]) > 0.5) == (targets[:5] > 0.5)).all()
    shared = Material(["card", "loan"] * 40, np.array([[0.75, 0.25], [0.0, 1.0]] * 40), [f"d{i}" for i in range(80)])
    both = fit_scorer("embedding", shared, shared, Settings(question("a", "b"), encoder))
    assert both.probabilities(["card"])[0] == pytest.approx([0.75, 0.25], abs=0.06)


def test_a_short_time_uses_fewer_texts(encoder: Path) -> None:
    train = material(600, 0)
    scorer = fit_scorer("embedding", train, material(60, 1), Settings(question(*TOPICS), encoder, minutes=1e-9))
    assert scorer.notes[0] == "256 of 600 training texts were used: the time allowed no more."
    again = fit_scorer("embedding", train, material(60, 1), Settings(question(*TOPICS), encoder, minutes=1e-9))
    assert np.array_equal(scorer.probabilities(train.texts[:9]), again.probabilities(train.texts[:9]))


def test_the_order_of_texts_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    vectors = (rng.normal(size=(200, 8)) + 2 * np.eye(8)[labels]).astype(np.float32)
    targets = np.eye(3)[labels]
    turned = rng.permutation(200)
    one, two = fit_head(vectors, targets, False, 0.1), fit_head(vectors[turned], targets[turned], False, 0.1)
    found = one.probabilities(vectors)
    assert np.abs(found - two.probabilities(vectors)).max() < 1e-2
    assert scaled_loss(found, targets, False) == pytest.approx(scaled_loss(found**2 / (found**2).sum(1)[:, None],
                                                                           targets, False), abs=1e-3)  # fmt: skip


class _Ending:
    """A reporter that ends a job at its next report of a kind, as a study does whose time is up."""

    def __init__(self, what: str) -> None:
        self.what, self.seen = what, list[tuple[str, float, float]]()

    def say(self, line: str) -> None:
        """Ignore a line."""

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """End at the first report of the kind that isn't the last one."""
        self.seen.append((what, done, total))
        if what == self.what and done < total:
            raise SizewiseError("The time is up.", "", "")


@pytest.mark.parametrize("what", ["Encoding texts", "Fitting linear models"])
def test_a_training_ends_within_its_steps_when_its_time_is_up(encoder: Path, what: str) -> None:
    ending, train, held, asked = _Ending(what), material(600, 0), material(60, 2), question(*TOPICS)
    with pytest.raises(SizewiseError, match="time is up"):
        fit_scorer("embedding", train, held, Settings(asked, encoder, reporter=ending))
    assert ending.seen[-1][0] == what
    if what == "Encoding texts":
        assert ending.seen[-1][1:] < (600, 600), "after one batch, not after all of them"
        whole = _Ending("")
        fit_scorer("embedding", train, held, Settings(asked, encoder, reporter=whole))
        encoded = [row for row in whole.seen if row[0] == what]
        assert [row[1] for row in encoded] == sorted(row[1] for row in encoded)
        assert encoded[-1][1:] == (600, 600)
