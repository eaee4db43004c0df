"""Intervals of agreement, where few items and a frequent label leave little to agree on."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.stats.agreement import (
    agreement_interval,
    alpha,
    alpha_sums,
    cohen,
    cohen_sums,
    fleiss,
    fleiss_sums,
    gwet,
    imagined_counts,
    imagined_tables,
)


def nominal(sums: np.ndarray) -> np.ndarray:
    return alpha(sums, "nominal", np.arange(2.0))


COEFFICIENTS = {"alpha": (alpha_sums, nominal), "fleiss": (fleiss_sums, fleiss), "gwet": (fleiss_sums, gwet)}


def labels(rng: np.random.Generator, items: int, raters: int, prevalence: float, accuracy: np.ndarray) -> np.ndarray:
    """Draw (items, raters) labels 0 or 1."""
    true = rng.random(items) < prevalence
    return np.where(rng.random((items, raters)) < accuracy, true[:, None], ~true[:, None]).astype(int)


def counts_of(found: np.ndarray) -> np.ndarray:
    return np.stack([(found == label).sum(axis=1) for label in (0, 1)], axis=1).astype(float)


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize(("items", "prevalence"), [(10, 0.9), (30, 0.9), (10, 0.5)])
def test_intervals_over_items_cover_the_truth(name: str, items: int, prevalence: float) -> None:
    sums_of, value = COEFFICIENTS[name]
    rng = np.random.default_rng(0)
    accuracy = np.full(3, 0.9)
    truth = float(value(sums_of(counts_of(labels(rng, 200_000, 3, prevalence, accuracy))).sum(axis=0)))
    inside = given = 0
    while given < 250:
        counts = counts_of(labels(rng, items, 3, prevalence, accuracy))
        if (counts.sum(axis=0) == 0).any():
            continue  # with one label there is no value
        low, high = agreement_interval(sums_of(counts), sums_of(imagined_counts(counts)), value)
        assert low <= value(sums_of(counts).sum(axis=0)) <= high
        given += 1
        inside += low <= truth <= high
    assert inside / given >= 0.92


def test_intervals_over_raters_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    skills = np.clip(rng.normal(0.85, 0.1, 400), 0.5, 1)
    truth = float(np.mean([nominal(alpha_sums(counts_of(labels(rng, 4_000, 400, 0.7, skills))).sum(axis=0))]))
    inside = over_items = 0
    for _ in range(200):
        found = labels(rng, 50, 5, 0.7, rng.choice(skills, 5))
        counts = counts_of(found)
        sums, imagined = alpha_sums(counts), alpha_sums(imagined_counts(counts))
        without = []
        for rater in range(5):
            others = counts_of(np.delete(found, rater, axis=1))
            without.append(sums.sum(axis=0) - alpha_sums(others).sum(axis=0))
        low, high = agreement_interval(sums, imagined, nominal, np.array(without), 5.0)
        inside += low <= truth <= high
        low, high = agreement_interval(sums, imagined, nominal)
        over_items += low <= truth <= high
    assert inside / 200 >= 0.9
    assert over_items < inside


def test_the_interval_of_cohens_kappa_covers_the_truth() -> None:
    rng = np.random.default_rng(2)
    accuracy = np.full(2, 0.9)

    def tables(items: int) -> np.ndarray:
        found = labels(rng, items, 2, 0.8, accuracy)
        return cohen_sums(found[:, 0], found[:, 1], 2)

    truth = float(cohen(tables(200_000).sum(axis=0)))
    inside = given = 0
    while given < 200:
        drawn = tables(12)
        if not np.isfinite(cohen(drawn.sum(axis=0))):
            continue
        low, high = agreement_interval(drawn, imagined_tables(drawn), cohen)
        given += 1
        inside += low <= truth <= high
    assert inside / given >= 0.92
