"""How much more data? The same training on a part of the documents, half of them, and all."""

from __future__ import annotations

import math

from sizewise.progress import Reporter, Silent
from sizewise.records import CurveStep, LearningCurve, Range, Recipe, fingerprint
from sizewise.store import Saved, Store
from sizewise.training.training import train

SHARES = (0.25, 0.5, 1.0)


def train_learning_curve(
    recipe: Recipe, data: str, *, store: Store | None = None, reporter: Reporter | None = None
) -> Saved[LearningCurve]:
    """Train on 25, 50 and 100 % of the documents, each to its own best validation, and look ahead to twice as many.

    The token budget is the same for all, so that fewer documents are seen more often; early stopping and the best
    weights keep a small share from being judged by its overfitting.

    Args:
        recipe: with a token budget.
        data: dataset id.
        store: where records live.
        reporter: told how far it is.
    """
    store, reporter = store or Store(), reporter or Silent()
    curve_id = f"curve-{fingerprint([recipe.model_dump(mode='json'), data, SHARES])}"
    if store.exists("curve", curve_id):
        return store.get(LearningCurve, curve_id)
    steps = []
    for share in SHARES:
        reporter.say(f"training on {share:.0%} of the documents")
        made = train(recipe.model_copy(update={"document_share": share}), data, store=store, reporter=reporter)
        steps.append(
            CurveStep(share=share, run=made.id, tokens=made.record.tokens, bits_per_byte=made.record.best_bits_per_byte)
        )
    twice = look_ahead([step.bits_per_byte for step in steps])
    with store.lock("curve", curve_id):
        record = LearningCurve(data=data, steps=tuple(steps), twice=twice, summary=_sentence(steps, twice))
        return store.write(curve_id, record)


def look_ahead(bits: list[float]) -> Range:
    """Look one doubling ahead of three bits per byte at 25, 50 and 100 % of the documents.

    Expected: the gain shrinks from doubling to doubling as it did between the two that were seen (a power law with a
    floor), and at least by a third. Hopeful: the last gain comes once more. Cautious: nothing more comes.
    """
    first, second = bits[0] - bits[1], bits[1] - bits[2]
    if second <= 0:
        return Range(lower=bits[2], expected=bits[2], upper=bits[2])
    shrinks = min(second / first, 2 / 3) if first > 0 else 2 / 3
    return Range(lower=bits[2] - second, expected=bits[2] - second * shrinks, upper=bits[2])


def _sentence(steps: list[CurveStep], twice: Range) -> str:
    now = steps[-1].bits_per_byte
    gain = (now - twice.expected) / now
    seen = ", ".join(f"{step.share:.0%}: {step.bits_per_byte:.4f}" for step in steps)
    if math.isclose(now, twice.lower):
        return (
            f"Bits per byte by share of the documents: {seen}. The last doubling brought nothing: more of the same "
            "kind will not help."
        )
    return (
        f"Bits per byte by share of the documents: {seen}. Twice as many documents would bring about {gain:.1%} fewer "
        f"(between 0 and {(now - twice.lower) / now:.1%}), if they are of the same kind."
    )
