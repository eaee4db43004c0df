"""Answers that a model declines: the probabilities that they are ordered by, and the sentence that sums them up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sizewise.metrics import Metric
from sizewise.metrics.abstention import ANSWERED, RISK_COVERAGE
from sizewise.records import ItemRow, ModelDescription, Request


def with_logprobs(
    requests: Sequence[Request], metrics: Iterable[Metric], description: ModelDescription
) -> list[Request]:
    """Ask for the probabilities of the answers' tokens, if a metric needs them and the model returns them.

    Args:
        requests: requests of the test examples.
        metrics: metrics of answers.
        description: description of the model.
    """
    needed = "logprobs" in description.offers and any(metric.name == RISK_COVERAGE for metric in metrics)
    return [request.model_copy(update={"logprobs": True}) for request in requests] if needed else list(requests)


def abstention_notes(rows: Sequence[ItemRow]) -> list[str]:
    """Sum up how much a model declines, and how often it is right when it answers; empty if that wasn't measured."""
    measured = [row.stats[ANSWERED] for row in rows if ANSWERED in row.stats and not row.samples]
    given = [match for match, count in measured if count]
    if not measured or not given:
        return [f"The model declines all {len(measured)} questions."] if measured else []
    declined = len(measured) - len(given)
    return [
        f"The model declines {declined} of {len(measured)} questions ({declined / len(measured):.0%}) and is right in "
        f"{sum(given) / len(given):.0%} of what it answers."
    ]
