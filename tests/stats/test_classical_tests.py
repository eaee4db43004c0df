from __future__ import annotations

import numpy as np
import pytest

from sizewise.metrics import AnswerItem, find_metric, stats_array
from sizewise.records import ItemRow
from sizewise.stats.classical_tests import bootstrap_p, mcnemar_p, randomization_p

WORDS = [
    "the",
    "patient",
    "has",
    "had",
    "no",
    "fever",
    "since",
    "monday",
    "and",
    "takes",
    "one",
    "tablet",
    "with",
    "water",
]


def texts(rng: np.random.Generator, wrong: float) -> tuple[list[str], list[str]]:
    references, answers = [], []
    for _ in range(40):
        words = list(rng.choice(WORDS, rng.integers(4, 15)))
        references.append(" ".join(words))
        answers.append(" ".join(str(rng.choice(WORDS)) if rng.random() < wrong else word for word in words))
    return references, answers


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
@pytest.mark.parametrize("seed", [0, 1])
def test_p_values_are_sacrebleus(name: str, seed: int) -> None:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER
    from sacrebleu.significance import PairedTest

    rng = np.random.default_rng(seed)
    references, left = texts(rng, 0.2)
    right = [" ".join(reversed(one.split())) if rng.random() < 0.5 else one for one in left]
    metric = find_metric(name)
    theirs = {"bleu": BLEU(), "chrf": CHRF(), "ter": TER()}[name]
    stats = []
    for answers in (left, right):
        rows = [
            ItemRow(
                item=str(i),
                kind="example",
                cluster=str(i),
                uncontaminated=True,
                stats={name: metric.measure(AnswerItem(answer, (reference,), ""))},
            )
            for i, (answer, reference) in enumerate(zip(answers, references, strict=True))
        ]
        stats.append(stats_array(metric, rows))
    for test, ours, rounds in (("ar", randomization_p, 500), ("bs", bootstrap_p, 500)):
        _, known = PairedTest(
            [("left", left), ("right", right)], {name: theirs}, [references], test_type=test, n_samples=rounds
        )()
        (known_result,) = [result for key, results in known.items() if key != "System" for result in results[1:]]
        assert ours(stats[0], stats[1], metric.value, rounds) == pytest.approx(known_result.p_value, abs=1e-12)


def test_mcnemar_is_the_exact_binomial() -> None:
    left = np.array([1.0] * 8 + [0.0] * 1 + [1.0] * 5)
    right = np.array([0.0] * 8 + [1.0] * 1 + [1.0] * 5)
    assert mcnemar_p(left, right) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar_p(left, left) == 1


@pytest.mark.parametrize("differing", [1, 2, 5])
def test_a_few_differing_items_are_no_proof(differing: int) -> None:
    metric = find_metric("bleu")
    rng = np.random.default_rng(3)
    references, left = texts(rng, 0.3)
    right = [*references[:differing], *left[differing:]]
    stats = []
    for answers in (left, right):
        rows = [
            ItemRow(
                item=str(i),
                kind="example",
                cluster=str(i),
                uncontaminated=True,
                stats={"bleu": metric.measure(AnswerItem(answer, (reference,), ""))},
            )
            for i, (answer, reference) in enumerate(zip(answers, references, strict=True))
        ]
        stats.append(stats_array(metric, rows))
    # Every swap of one item has the same difference, so nothing is known; of k items, 2 in 2 ** k are as extreme.
    assert randomization_p(stats[0], stats[1], metric.value) >= 2 / 2**differing
    assert bootstrap_p(stats[0], stats[1], metric.value) >= 2 / 2**differing
