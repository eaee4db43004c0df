"""Pools of an encoder's and a linear model's probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sizewise.decisions import linear
from sizewise.decisions.pools import SHARES, choose_share, load_pool, make_pool, pool
from sizewise.decisions.scorers import Settings
from tests.decisions.test_linear import TOPICS, material, question


def test_the_pool_is_between_its_parts_and_prefers_the_better_one() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    targets = np.eye(4)[labels]
    good, noise = rng.dirichlet(np.ones(4), 400), rng.dirichlet(np.ones(4), 400)
    good = (good + 2 * targets) / (good + 2 * targets).sum(axis=1, keepdims=True)
    assert np.allclose(pool(good, noise, 0.0, False), good, atol=1e-5)
    assert np.allclose(pool(good, noise, 1.0, False), noise, atol=1e-5)
    assert choose_share(good, noise, targets, False)[0] <= 0.1
    assert choose_share(noise, good, targets, False)[0] == max(SHARES)


def test_two_models_whose_mistakes_differ_are_better_together() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 600)
    targets = np.eye(3)[labels]
    one, two = (np.exp(1.2 * targets + rng.normal(size=(600, 3))) for _ in range(2))
    one, two = one / one.sum(axis=1, keepdims=True), two / two.sum(axis=1, keepdims=True)
    share, losses = choose_share(one, two, targets, False)
    assert 0.3 <= share <= 0.7
    assert losses[share] < losses[0.0] - 0.05
    both = pool(one, two, share, False)
    assert (both.argmax(axis=1) == labels).mean() > (one.argmax(axis=1) == labels).mean() + 0.03


def test_a_model_without_a_share_is_neither_kept_nor_saved(tmp_path: Path) -> None:
    asked, held = question(*TOPICS), material(9, 1)
    words = linear.fit(material(60, 0), held, Settings(asked))
    own = np.full((9, 3), 1 / 3)
    without = make_pool(words, 0.0, False)
    assert np.array_equal(without.add_to(own, held.texts), own)
    without.save(tmp_path)
    assert not list(tmp_path.iterdir())
    assert (without.parameters, without.memory_bytes) == (0, 0)
    kept = make_pool(words, 0.4, False)
    kept.save(tmp_path)
    again = load_pool(tmp_path, asked, 0.4, False)
    assert np.array_equal(again.add_to(own, held.texts), kept.add_to(own, held.texts))
    assert again.parameters == kept.parameters == words.parameters
