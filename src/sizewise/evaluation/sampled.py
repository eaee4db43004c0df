"""Several sampled answers per item: their requests, rows, pass@k, and the split of the variance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import isfinite, sqrt

import numpy as np

from sizewise.errors import UsageError
from sizewise.evaluation.options import EvaluationOptions
from sizewise.metrics import Metric, find_metric
from sizewise.metrics.base import Mean
from sizewise.metrics.pass_rates import PassAt, pass_at, pass_at_parts
from sizewise.records import ItemRow, ModelDescription, Noise, Request, Sample, Sampling

PASS_AT = (1, 5, 10, 100)
"""Values of k that are reported where there are more samples, besides the number of samples itself."""
SMALL_SHARE = 0.2
"""Below this share of sampling in the variance, more samples per item narrow an interval by at most 11%."""


def check_sampling(options: EvaluationOptions, description: ModelDescription, names: Sequence[str]) -> None:
    """Check that samples and temperature are valid and that the model can sample answers.

    Raises:
        UsageError: a value is invalid, the model can't sample, or no metric needs answers.
    """
    for name in filter(pass_at_parts, names):
        base, k = pass_at_parts(name) or (name, 1)
        hint = f"--metrics {base} --samples {max(2, k)}"
        raise UsageError(
            f"The metric {name} is computed from several samples.", "its base metric, with --samples", hint
        )
    if options.samples < 1:
        raise UsageError(f"The number of samples is {options.samples}.", "at least 1", "--samples 5")
    if options.temperature is not None and not 0 <= options.temperature <= 2:
        raise UsageError(f"The temperature is {options.temperature:g}.", "0 to 2", "--temperature 0.7")
    if options.samples > 1 and options.temperature == 0:
        raise UsageError(
            f"{options.samples} samples at temperature 0 are all the same answer.",
            "a temperature above 0",
            f"--samples {options.samples} --temperature 0.7",
        )
    if options.sampling is None:
        return
    if "sampling" not in description.offers:
        raise UsageError(
            f"{description.uri} can't sample answers: its engine is {description.engine}.",
            "a model that generates answers, or one greedy answer per item",
            f"sizewise evaluate {description.uri} without --samples and --temperature",
        )
    if names and not any(find_metric(name).needs == "answers" for name in names):
        raise UsageError(
            f"No answers are needed for {', '.join(names)}.", "a metric of answers", "--metrics exact_match --samples 5"
        )


def sample_requests(requests: Sequence[Request], sampling: Sampling, number: int, seed: int) -> list[Request]:
    """Build the requests of one sample; every item and sample has its own sampling seed."""
    return [
        request.model_copy(
            update={"temperature": sampling.temperature, "seed": sampling_seed(seed, request.id, number)}
        )
        for request in requests
    ]


def sampling_seed(seed: int, item: str, number: int) -> int:
    """Derive the sampling seed of one answer, as a number below 2 ** 31."""
    return int.from_bytes(hashlib.sha256(f"{seed} {item} {number}".encode()).digest()[:4], "big") >> 1


def merge_samples(rows: Sequence[ItemRow], metrics: Sequence[Metric]) -> ItemRow:
    """Merge the rows of one item's samples into one, whose statistics are means over the samples.

    Metrics that call every answer right or wrong also get pass@k.
    """
    samples = tuple(
        Sample(completion=row.completion, finish=row.finish, error=row.error, stats=row.stats) for row in rows
    )
    answered = next((row for row in rows if row.error is None), rows[0])
    stats: dict[str, tuple[float, ...]] = {}
    for metric in metrics:
        scored = [sample.stats[metric.name] for sample in samples if metric.name in sample.stats]
        if scored:
            stats[metric.name] = tuple(np.mean(scored, axis=0).tolist())
    return answered.model_copy(update={"samples": samples, "stats": stats})


def with_pass_at(
    rows: Sequence[ItemRow], metrics: Sequence[Metric], samples: int
) -> tuple[list[ItemRow], list[Metric]]:
    """Add pass@k to the rows, for every quality metric that calls each answer right or wrong.

    Returns:
        The rows, and the pass@k metrics that were added.
    """
    added: list[Metric] = []
    found = list(rows)
    for metric in metrics if samples > 1 else ():
        scored = [stats for row in rows for stats in _stats_of(row, metric.name)]
        if not (_is_mean(metric) and metric.stands_for_quality and metric.better == "higher" and _is_binary(scored)):
            continue
        for k in sorted({k for k in PASS_AT if k < samples} | {samples}):
            passing = PassAt(metric, k)
            added.append(passing)
            for i, row in enumerate(found):
                answers = [stats[0] for stats in _stats_of(row, metric.name)]
                if len(answers) >= k:
                    value = (pass_at(len(answers), round(sum(answers)), k), 1.0)
                    found[i] = row.model_copy(update={"stats": row.stats | {passing.name: value}})
    return found, added


def _stats_of(row: ItemRow, metric: str) -> list[tuple[float, ...]]:
    return [sample.stats[metric] for sample in row.samples if metric in sample.stats]


def _is_mean(metric: Metric) -> bool:
    """Check whether a metric is a ratio of two sums, so that every answer has a score of its own."""
    return isinstance(metric, Mean) and type(metric).value is Mean.value


def _is_binary(scored: Sequence[tuple[float, ...]]) -> bool:
    return bool(scored) and all(stats[0] in (0.0, 1.0) and stats[1] == 1.0 for stats in scored)


def noise_of(metric: Metric, rows: Sequence[ItemRow]) -> Noise | None:
    """Split the variance of a metric's mean into sampling of answers and choice of items; None if it can't be split.

    Source: Miller (2024), Adding error bars to evals, sections 2.2 (clusters) and 3.1 (resampling answers).
    """
    groups = [(row.cluster, np.array(stats)) for row in rows if (stats := _stats_of(row, metric.name))]
    clusters = sorted({cluster for cluster, _ in groups})
    if not _is_mean(metric) or len(clusters) < 2:
        return None
    means = np.array([stats[:, :2].mean(axis=0) for _, stats in groups])
    counts = np.array([len(stats) for _, stats in groups])
    rate, size = means[:, 0].sum() / means[:, 1].sum(), means[:, 1].mean()
    if not isfinite(rate):
        return None
    # Residuals of a ratio; for a plain mean they are the score minus the mean.
    each = [(stats[:, 0] - rate * stats[:, 1]) / size for _, stats in groups]
    repeated = [residuals.var(ddof=1) for residuals in each if len(residuals) > 1]
    if not repeated:
        return None
    within, items = float(np.mean(repeated)), len(groups)
    residuals = np.array([one.mean() for one in each])
    sampling = within * float((1 / counts).mean())
    sums = np.zeros(len(clusters))
    np.add.at(sums, np.searchsorted(clusters, [cluster for cluster, _ in groups]), residuals)
    variance = len(clusters) / (len(clusters) - 1) * float(np.square(sums).sum()) / items**2
    return Noise(
        metric=metric.name,
        items=items,
        clusters=len(clusters),
        samples=float(counts.mean()),
        within=within,
        between=max(0.0, float(residuals.var(ddof=1)) - sampling) if items > 1 else 0.0,
        standard_error=sqrt(variance),
        sampling_share=min(1.0, sampling / items / variance) if variance > 0 else 0.0,
    )


def noise_note(noise: Sequence[Noise], samples: int) -> list[str]:
    """Describe where the noise comes from, and whether more samples per item would help."""
    if not noise:
        return []
    listed = ", ".join(f"{one.metric} {one.sampling_share:.0%}" for one in noise)
    text = f"Share of the variance that comes from sampling answers: {listed}."
    most = max(noise, key=lambda one: one.sampling_share)
    if most.sampling_share < SMALL_SHARE:
        narrower = 1 - sqrt(1 - most.sampling_share)
        advice = (
            "Most of the noise is between items: more samples per item narrow the intervals by at most "
            f"{narrower:.0%}, more test items by more."
        )
    else:
        narrower = 1 - sqrt(1 - most.sampling_share / 2)
        advice = f"--samples {2 * samples} would narrow the interval of {most.metric} by about {narrower:.0%}."
    return [f"{text} {advice}"]
