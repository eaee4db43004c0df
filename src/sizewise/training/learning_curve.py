"""Learning curve: the same training on a quarter, half and all of the documents, extrapolated to twice as many."""

from __future__ import annotations

import math

from sizewise.lm.packing import ROWS_VERSION
from sizewise.progress import Reporter, Silent
from sizewise.records import CurveStep, LearningCurve, Range, Recipe, fingerprint
from sizewise.store import Saved, Store
from sizewise.training.training import train

SHARES = (0.25, 0.5, 1.0)
UNCERTAINTY = (
    "Each share was trained once, so the noise between training runs is unknown and the steps have no interval. Train "
    "with other seeds to see it."
)


def train_learning_curve(
    recipe: Recipe, data: str, *, store: Store | None = None, reporter: Reporter | None = None
) -> Saved[LearningCurve]:
    """Train on 25, 50 and 100 % of the documents, and extrapolate the validation loss to twice as many.

    All runs have the same token budget, so fewer documents are seen more often. Early stopping and the best weights
    keep overfitting out of the comparison.

    Args:
        recipe: settings of the runs, with a token budget.
        data: dataset id.
        store: where records live.
        reporter: receives progress.
    """
    store, reporter = store or Store(), reporter or Silent()
    curve_id = f"curve-{fingerprint([recipe.model_dump(mode='json'), data, SHARES, ROWS_VERSION])}"
    if store.exists("curve", curve_id):
        return store.get(LearningCurve, curve_id)
    steps = []
    for share in SHARES:
        reporter.say(f"Learning curve: training on {share:.0%} of the documents")
        made = train(recipe.model_copy(update={"document_share": share}), data, store=store, reporter=reporter)
        steps.append(
            CurveStep(share=share, run=made.id, tokens=made.record.tokens, bits_per_byte=made.record.best_bits_per_byte)
        )
    twice = extrapolate([step.bits_per_byte for step in steps])
    with store.lock("curve", curve_id):
        record = LearningCurve(
            data=data, steps=tuple(steps), twice=twice, summary=_summary(steps, twice), uncertainty=UNCERTAINTY
        )
        return store.write(curve_id, record)


def extrapolate(bits: list[float]) -> Range:
    """Extrapolate bits per byte at 25, 50 and 100 % of the documents to 200 %.

    Expected: the gain per doubling keeps shrinking at the observed rate (a power law with a floor), by at least a
    third. Optimistic: the last gain repeats. Pessimistic: there is no further gain.
    """
    first, second = bits[0] - bits[1], bits[1] - bits[2]
    if second <= 0:
        return Range(lower=bits[2], expected=bits[2], upper=bits[2])
    shrinks = min(second / first, 2 / 3) if first > 0 else 2 / 3
    return Range(lower=bits[2] - second, expected=bits[2] - second * shrinks, upper=bits[2])


def _summary(steps: list[CurveStep], twice: Range) -> str:
    now = steps[-1].bits_per_byte
    gain = (now - twice.expected) / now
    seen = ", ".join(f"{step.share:.0%}: {step.bits_per_byte:.4f}" for step in steps)
    if math.isclose(now, twice.lower):
        return (
            f"Bits per byte by share of the documents: {seen}. The last doubling didn't help, so more documents of the "
            "same kind won't either."
        )
    return (
        f"Bits per byte by share of the documents: {seen}. Twice as many documents of the same kind would lower it by "
        f"about {gain:.1%} (0 to {(now - twice.lower) / now:.1%})."
    )
