"""Learning curve: the same training on a quarter, half and all of the documents, extrapolated to twice as many."""

from __future__ import annotations

import math

import numpy as np

from sizewise.lm.packing import ROWS_VERSION
from sizewise.metrics.display import value_text
from sizewise.progress import Reporter, Silent
from sizewise.records import CurveStep, LearningCurve, Range, Recipe, Score, fingerprint
from sizewise.stats import MIN_CLUSTERS
from sizewise.store import Saved, Store
from sizewise.training.held_out import Measured, load_items, score_difference
from sizewise.training.identity import inputs_of
from sizewise.training.training import train

SHARES = (0.25, 0.5, 1.0)
CURVE_VERSION = 2
"""Part of the id of a learning curve. Increase it when it is measured in another way."""
RESAMPLES = 1_000
UNCERTAINTY = (
    "The intervals are over the held-out items. Each share was trained once, so the noise between training runs is "
    "unknown. Train with other seeds to see it."
)


def train_learning_curve(
    recipe: Recipe, data: str, *, store: Store | None = None, reporter: Reporter | None = None
) -> Saved[LearningCurve]:
    """Train on 25, 50 and 100 % of the documents, and extrapolate the validation loss to twice as many.

    All runs have the same token budget, so fewer documents are seen more often, and are measured on the same held-out
    items. Early stopping and the best weights keep overfitting out of the comparison.

    Args:
        recipe: settings of the runs, with a token budget.
        data: dataset id.
        store: where records live.
        reporter: receives progress.
    """
    store, reporter = store or Store(), reporter or Silent()
    curve_id = f"curve-{fingerprint([*inputs_of(recipe, data), SHARES, ROWS_VERSION, CURVE_VERSION])}"
    if store.exists("curve", curve_id):
        return store.get(LearningCurve, curve_id)
    steps: list[CurveStep] = []
    items: list[Measured | None] = []
    measured_on = ""
    for share in SHARES:
        reporter.say(f"Learning curve: training on {share:.0%} of the documents")
        made = train(recipe.model_copy(update={"document_share": share}), data, store=store, reporter=reporter)
        found = load_items(store.folder("checkpoint", made.id))
        before = items[-1] if items else None
        change = score_difference(before, found, "change of bits_per_byte") if before and found else None
        items.append(found)
        if made.record.validation:
            measured_on = made.record.validation.kind
        steps.append(
            CurveStep(
                share=share,
                run=made.id,
                tokens=made.record.tokens,
                bits_per_byte=made.record.best_bits_per_byte,
                change=change,
            )
        )
    twice, gain = extrapolate([step.bits_per_byte for step in steps]), expected_gain(items)
    with store.lock("curve", curve_id):
        record = LearningCurve(
            data=data,
            steps=tuple(steps),
            twice=twice,
            summary=_summary(steps, twice, gain),
            uncertainty=UNCERTAINTY,
            gain=gain,
            validation=measured_on,
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


def expected_gain(items: list[Measured | None]) -> Score | None:
    """Score the expected change with twice as many documents, with an interval from resampled sources.

    Returns:
        The score; None if the steps weren't measured on the same items.
    """
    steps = [one for one in items if one is not None]
    if len(steps) != len(SHARES) or len({(tuple(one.sizes), tuple(one.sources)) for one in steps}) > 1:
        return None
    names, place = np.unique(steps[0].sources, return_inverse=True)
    bits = np.zeros((len(names), len(steps)))
    np.add.at(bits, place, np.stack([np.asarray(one.nats) / math.log(2) for one in steps], axis=1))
    sizes = np.bincount(place, np.asarray(steps[0].sizes, float), len(names))

    def change(weights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        found = (weights @ bits / (weights @ sizes)).tolist()
        return extrapolate(found).expected - float(found[-1])

    value = change(np.ones(len(names)))
    score = Score(
        metric="change of bits_per_byte with twice the documents",
        value=value,
        n=len(steps[0].sizes),
        unit="bits/byte",
        signature=f"power law with a floor|sources resampled {RESAMPLES} times",
    )
    if len(names) < MIN_CLUSTERS:
        reason = f"the items come from {len(names)} sources; {MIN_CLUSTERS} are needed"
        return score.model_copy(update={"ci_missing_reason": reason})
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES).astype(float)
    ci_low, ci_high = np.quantile([change(weights) for weights in drawn], [0.025, 0.975])
    return score.model_copy(update={"ci_low": float(ci_low), "ci_high": float(ci_high)})


def _summary(steps: list[CurveStep], twice: Range, gain: Score | None) -> str:
    now = steps[-1].bits_per_byte
    expected = (now - twice.expected) / now
    seen = ", ".join(f"{step.share:.0%}: {step.bits_per_byte:.4f}" for step in steps)
    last = steps[-1].change
    if last is not None and last.ci_low is not None and last.ci_high is not None and last.ci_low < 0 <= last.ci_high:
        return (
            f"Bits per byte by share of the documents: {seen}. Whether the last doubling helped isn't clear "
            f"(change {value_text(last)}), so neither is whether more documents would."
        )
    if math.isclose(now, twice.lower):
        return (
            f"Bits per byte by share of the documents: {seen}. The last doubling didn't help, so more documents of the "
            "same kind won't either."
        )
    between = ""
    if gain is not None:
        unknown = f", no interval because {gain.ci_missing_reason}" if gain.ci_missing_reason else ""
        between = f"; change {value_text(gain)}{unknown}"
    return (
        f"Bits per byte by share of the documents: {seen}. Twice as many documents of the same kind would lower it by "
        f"about {expected:.1%} (0 to {(now - twice.lower) / now:.1%}{between})."
    )
