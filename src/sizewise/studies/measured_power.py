"""Detectable difference of a study, from the variances that earlier evaluations of the same data measured."""

from __future__ import annotations

from math import sqrt
from statistics import median
from typing import NamedTuple

from sizewise.errors import SizewiseError
from sizewise.metrics import find_metric
from sizewise.records import Comparison, Evaluation
from sizewise.stats import MIN_CLUSTERS, detectable_difference
from sizewise.store import Store

PREFERRED = ("accuracy", "exact_match", "token_f1", "rouge_l", "chrf", "bits_per_byte")


class MeasuredPower(NamedTuple):
    """Minimum detectable difference (80% power): for the family of a comparison, or for one pair of evaluations."""

    metric: str
    difference: float
    unit: str
    source: str
    """Id of the comparison or evaluation whose variance was used."""


def measured_power(data: str, quality: str | None, limit: int | None, store: Store) -> MeasuredPower | None:
    """Find the detectable difference in the newest comparison of the same data, or derive it from an evaluation.

    The items of two models are paired in a comparison, so its variance is that of a study. From evaluations alone, the
    models count as independent, and the result is an upper bound.

    Args:
        data: dataset id.
        quality: metric that the study decides by; None for the first common one.
        limit: maximum number of examples of the study.
        store: where records are kept.
    """
    wanted = (quality,) if quality else PREFERRED
    for compared in reversed([one for one in store.saved(Comparison) if one.record.data == data]):
        if any(store.read(Evaluation, one).limit != limit for one in compared.record.evaluations.values()):
            continue
        for metric in wanted:
            found = [
                (one.detectable, one.unit)
                for one in compared.record.differences
                if one.metric == metric and one.detectable and one.clusters >= MIN_CLUSTERS
            ]
            if found:
                return MeasuredPower(metric, median(size for size, _ in found), found[0][1], compared.id)
    return _from_evaluations(data, wanted, limit, store)


def _from_evaluations(data: str, wanted: tuple[str, ...], limit: int | None, store: Store) -> MeasuredPower | None:
    for measured in reversed(list(store.saved(Evaluation))):
        record = measured.record
        if record.data != data or record.limit != limit or record.stopped is not None or not _is_known(record):
            continue
        for metric in wanted:
            score = record.scores.get(metric)
            if score is None or score.ci_low is None or score.ci_high is None or score.ci_low == score.ci_high:
                continue
            if (score.clusters or score.n) >= MIN_CLUSTERS:
                half = (score.ci_high - score.ci_low) / 2 * sqrt(2)
                return MeasuredPower(metric, detectable_difference(-half, half), score.unit, measured.id)
    return None


def _is_known(record: Evaluation) -> bool:
    """Check whether all metrics of an evaluation still exist; plug-ins may be gone."""
    try:
        return all(find_metric(name) for name in record.metrics)
    except SizewiseError:
        return False
