from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sizewise.errors import SizewiseError
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import memorization, train


def test_secrets_are_drawn_by_the_seed_and_half_stand_often() -> None:
    secrets = memorization.plant(6, 1)
    assert secrets == memorization.plant(6, 1)
    assert [secret.times for secret in secrets] == [1, 16] * 3
    assert len({secret.start for secret in memorization.plant(64, 1)}) == 64
    assert secrets != memorization.plant(6, 2)


def test_auc_equals_counting_pairs() -> None:
    random_numbers = np.random.default_rng(0)
    loss, known = random_numbers.integers(0, 9, 60) / 3, random_numbers.random(60) < 0.4
    pairs = [(a < b) + 0.5 * (a == b) for a in loss[known] for b in loss[~known]]
    assert memorization._auc(loss, known) == pytest.approx(np.mean(pairs))


def test_secrets_seen_often_are_remembered_better(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(
        {
            "start": "scratch",
            "method": "full",
            "parameters": 500_000,
            "context": 64,
            "tokens": 30_000,
            "canaries": 4,
            "max_epochs": 50,
            "patience": 0,
        }
    )
    stored = train(recipe, dataset.id, store=store)
    found = stored.record.memorization
    assert found is not None
    assert found.canaries == 4
    assert found.exposure["16"] > found.exposure["1"]
    assert found.exposure["16"] <= np.log2(found.candidates)
    assert found.membership_auc.value is not None
    assert found.membership_auc.ci_low is not None
    assert found.membership_auc.ci_low <= found.membership_auc.value
    assert found.membership_tpr.missing_reason is not None  # too few held-out passages for 1 %
    card = (Path(stored.path).parent / "model" / "README.md").read_text(encoding="utf-8")
    extracted = found.extracted_scores["16"]
    assert extracted.value == found.extracted["16"]
    assert extracted.ci_low is not None
    assert found.exposure_scores["16"].value == pytest.approx(found.exposure["16"])
    assert found.exposure_scores["16"].n == 2
    assert "exposure of canaries that were in the text 16 time(s)" in card
    assert found.weights in card
    assert train(recipe, dataset.id, store=store).record == stored.record
    weights = stored.path.parent / "model" / "model.safetensors"
    raw = weights.read_bytes()
    weights.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(SizewiseError, match="about other weights"):
        train(recipe, dataset.id, store=store)


def test_membership_rates_have_intervals_over_documents() -> None:
    rng = np.random.default_rng(2)
    known = np.arange(400) < 200
    sources = np.array([f"d{i // 5}" for i in range(400)])
    loss = rng.normal(size=400) - 0.8 * known
    (auc_low, auc_high), (rate_low, rate_high) = memorization._intervals(loss, known, sources, 0)
    assert auc_low < memorization._auc(loss, known) < auc_high
    assert rate_low <= memorization._rate_at_one_percent(loss, known) <= rate_high
