"""calibrate(): learn a router from labeled prompts and choose a threshold for a stated risk.

Two logistic models predict from the prompt's text whether the small and the large model will answer well. The
difference of their probabilities gives the probability that the small model's answer is as good as the large one's:
where both fail, the large model is not worth its price. Models are cross-fitted, so each prompt is scored by one that
has not seen it. Duplicates of a prompt stay in one fold and count as one observation in bounds and intervals; otherwise
the model would know the prompts it is scored on, and repetition would pass for evidence. APGR and CPT follow RouteLLM
(Ong et al., 2024). The threshold controls the risk with 95 % confidence (stats/selective.py). Decisions need no model
and no network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit

from sizewise.errors import SizewiseError, UsageError
from sizewise.records import AfterAnswer, Calibration, LargeModelFit, RiskPoint, Score
from sizewise.routing.features import VOCABULARY, center_of, feature_matrix, hashed_ngrams
from sizewise.routing.labeled import (
    MIN_PROMPTS,
    Array,
    IntArray,
    group_duplicates,
    hash_prompt,
    read_labeled,
    share_of,
)
from sizewise.routing.logistic import (
    FOLDS,
    assign_folds,
    cross_fit,
    fit_comparison,
    fit_logistic,
    logit_of,
    predict,
)
from sizewise.routing.reliability import SIGNATURE, calibration_error
from sizewise.stats import percentile_interval
from sizewise.stats.selective import choose_share, effective_items, risk_upper_bound

RESAMPLES = 1_000
CONFIDENCE = 0.98
"""Confidence at which bounds are computed so that the promised 95 % holds. The policy's weights are fitted on all
prompts, whereas the bound comes from models fitted on four fifths of them; with 0.95 the risk held in only 93 % of 200
splits (benchmarks/routing.py)."""
CURVE_POINTS = 51
QUANTILES, MIN_SPREAD = 201, 0.05


class PromptFeatures(NamedTuple):
    """What the router computes from a prompt before generation."""

    probability: float
    """Probability that the small model's answer is as good as the large model's."""
    similarity: float
    """Cosine similarity of the text to the center of the calibration prompts."""


def prompt_features(calibration: Calibration, prompt: str) -> PromptFeatures:
    """Compute the features of a prompt; needs no model."""
    features = hashed_ngrams(prompt)
    similarity = sum(calibration.centre.get(i, 0.0) * value for i, value in features.items())
    probability = _probability(calibration.weights, calibration.offset, features)
    large = calibration.large
    if large is not None:
        advantage = probability - _probability(large.weights, large.offset, features)
        probability = float(expit(large.slope * advantage + large.intercept))
    return PromptFeatures(probability, similarity)


def _probability(weights: Mapping[int, float], offset: float, features: Mapping[int, float]) -> float:
    """Compute the probability that one of the models answers well."""
    return float(expit(offset + sum(weights.get(i, 0.0) * value for i, value in features.items())))


class Samples(NamedTuple):
    """Labels and predictions of the calibration prompts, one entry per row."""

    probabilities: Array
    """Predicted probability of an answer as good as the large model's, by a model that has not seen the prompt."""
    weak: Array
    """1 where the small model answered well."""
    strong: Array
    """1 where the large model answered well."""
    group: IntArray
    """Index of the row's distinct prompt."""

    @property
    def as_good(self) -> Array:
        """1 where the small model's answer is as good as the large model's."""
        found: Array = (self.weak >= self.strong).astype(np.float64)
        return found

    @property
    def distinct(self) -> int:
        """Number of distinct prompts."""
        return int(self.group.max()) + 1


class Learned(NamedTuple):
    """Models of both models' answers."""

    samples: Samples
    weights: Array
    """(features + 1,) weights of the model of a good small answer; the last is the intercept."""
    large: LargeModelFit | None
    """Model of a good large answer; None if the large model always answers well."""


def learn(matrix: csr_matrix, weak: Array, strong: Array, group: IntArray, seed: int) -> Learned:
    """Learn where the small model's answer is as good as the large model's.

    Args:
        matrix: (prompts, features) text features.
        weak: (prompts,) 1 where the small model answered well.
        strong: (prompts,) 1 where the large model answered well.
        group: (prompts,) number of each row's distinct prompt.
        seed: seed of the folds.
    """
    small, weights = cross_fit(matrix, weak, group, seed)
    if strong.all():
        return Learned(Samples(small, weak, strong, group), weights, None)
    strong_probabilities, strong_weights = cross_fit(matrix, strong, group, seed)
    advantage = small - strong_probabilities
    slope, intercept = fit_comparison(advantage, (weak >= strong).astype(np.float64))
    large = LargeModelFit(
        weights=_sparse(strong_weights), offset=float(strong_weights[-1]), slope=slope, intercept=intercept
    )
    return Learned(Samples(expit(slope * advantage + intercept), weak, strong, group), weights, large)


def calibrate(path: Path, risk: float | None = None, seed: int = 0) -> Calibration:
    """Learn a router from a CSV file and choose its threshold.

    Args:
        path: CSV file with `prompt`, `weak_ok`, `strong_ok` (0 or 1), and optionally `weak_logprob`, the mean
            log-likelihood of the tokens of the small model's answer in nats.
        risk: maximum fraction of all prompts whose answer may be worse than the large model's.
        seed: seed of the folds and of resampling.

    Raises:
        UsageError: the risk is not between 0 and 1.
        SizewiseError: the file has wrong columns or values, or too few prompts.
    """
    if risk is not None and not 0 < risk < 1:
        raise UsageError(f"The risk must be between 0 and 1, not {risk}.", "for example 0.02", "--risk 0.02")
    labeled = read_labeled(path)
    return calibrate_rows(labeled.prompts, labeled.weak, labeled.strong, path.name, risk, seed, labeled.logprobs)


def calibrate_rows(
    prompts: list[str],
    weak: Array,
    strong: Array,
    source: str,
    risk: float | None = None,
    seed: int = 0,
    logprobs: Array | None = None,
) -> Calibration:
    """Learn a router from labeled prompts; see `calibrate`.

    Args:
        prompts: at least 20 distinct prompts.
        weak: (prompts,) 1 where the small model answered well.
        strong: (prompts,) 1 where the large model answered well.
        source: where the prompts come from.
        risk: maximum fraction of all prompts whose answer may be worse than the large model's.
        seed: seed of the folds and of resampling.
        logprobs: (prompts,) mean log-likelihood of the tokens of the small model's answer, in nats; None: unknown.

    Raises:
        SizewiseError: there are too few prompts.
    """
    group = group_duplicates(prompts)
    count = len(np.unique(group))
    _check_count(source, count, len(prompts))
    matrix = feature_matrix(prompts)
    samples, weights, large = learn(matrix, weak, strong, group, seed)
    chosen = None if risk is None else choose_threshold(risk, samples)
    bound = None if risk is None else risk_upper_bound(0.0, effective_items(group), level=1 - CONFIDENCE)
    center, similarity = center_of(matrix)
    score = _scorer(samples, seed)
    return Calibration(
        source=source,
        prompts=count,
        small_quality=share_of("small_quality", weak.mean(), count),
        large_quality=share_of("large_quality", strong.mean(), count),
        oracle_quality=share_of("oracle_quality", np.maximum(weak, strong).mean(), count),
        apgr=score("apgr"),
        cpt50=score("cpt50"),
        cpt80=score("cpt80"),
        calibration_error=_score_calibration(samples),
        risk=risk,
        bound=bound,
        chosen=chosen,
        curve=tuple(_curve(samples)),
        spread=_quantiles(samples.probabilities),
        centre={int(i): float(center[i]) for i in np.flatnonzero(center)},
        similarity=(float(similarity.mean()), float(similarity.std(ddof=1))),
        vocabulary=VOCABULARY,
        weights=_sparse(weights),
        offset=float(weights[-1]),
        large=large,
        after=None if logprobs is None else _calibrate_after(samples, logprobs, risk, seed),
        marks=tuple(sorted({hash_prompt(prompt) for prompt in prompts})),
        notes=tuple(_notes(samples, risk, bound, chosen)),
    )


def _sparse(weights: Array) -> dict[int, float]:
    """Return the weights of features that matter, without the intercept."""
    return {int(i): float(weights[i]) for i in np.flatnonzero(np.abs(weights[:-1]) > 1e-9)}


def _check_count(source: str, count: int, rows: int) -> None:
    if count < MIN_PROMPTS:
        raise SizewiseError(
            f"{source} has {count} distinct prompts in {rows} rows, which is too few.",
            f"at least {MIN_PROMPTS} distinct prompts; a few hundred are better",
            "label more prompts, then run the same command again",
        )


def _notes(samples: Samples, risk: float | None, bound: float | None, chosen: RiskPoint | None) -> list[str]:
    """Write the caveats of a calibration."""
    notes = []
    rows, count = len(samples.group), samples.distinct
    if count < rows:
        notes.append(
            f"{rows:,} rows contain {count:,} distinct prompts, ignoring case, whitespace and Unicode variants; "
            "duplicates count as one observation in the bound and the intervals"
        )
    if len(set(samples.weak)) == 1:
        outcome = "always" if samples.weak[0] else "never"
        notes.append(f"the small model {outcome} answers well, so the prompts cannot tell good answers from bad ones")
    if risk is not None and bound is not None and chosen is None:
        notes.append(
            f"{count} prompts are too few for a risk of {risk:.1%}; the lowest risk they can guarantee is {bound:.1%}"
            if risk < bound
            else f"no threshold keeps the risk at or below {risk:.1%}; all prompts would go to the large model"
        )
    if samples.strong.mean() <= samples.weak.mean():
        notes.append("the large model is no better on these prompts, so the small model alone is enough")
    return notes


def _quantiles(probabilities: Array) -> tuple[float, ...]:
    """Compute quantiles of the predicted probabilities for drift tests; empty if they hardly vary.

    Each probability comes from a model fitted on four fifths of the prompts. If the text predicts nothing, these models
    differ by chance while the model fitted on all prompts predicts a constant, which must not be taken for drift.
    """
    lower, upper = np.quantile(probabilities, [0.05, 0.95])
    if upper - lower < MIN_SPREAD:
        return ()
    return tuple(float(value) for value in np.quantile(probabilities, np.linspace(0, 1, QUANTILES)))


def _scorer(samples: Samples, seed: int) -> Callable[[str], Score]:
    """Return a function that computes a metric with a bootstrap interval; duplicates are resampled together."""
    group, count = samples.group, samples.distinct
    draws: Sequence[IntArray] = list(np.random.default_rng(seed).integers(0, count, (RESAMPLES, count)))
    if count < len(group):
        rows_of = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
        draws = [np.concatenate([rows_of[prompt] for prompt in draw]) for draw in draws]
    columns = (samples.probabilities, samples.weak, samples.strong)
    resampled = [_metrics(*(column[rows] for column in columns)) for rows in draws]
    point = _metrics(*columns)

    def score(name: str) -> Score:
        signature = f"folds:{FOLDS}|bootstrap:prompts"
        if not np.isfinite(point[name]):
            reason = "the large model is no better than the small one"
            return Score(metric=name, n=count, unit="share", signature=signature, missing_reason=reason)
        ci_low, ci_high = percentile_interval(np.array([metrics[name] for metrics in resampled]))
        return Score(
            metric=name, value=point[name], ci_low=ci_low, ci_high=ci_high, n=count, unit="share", signature=signature
        )

    return score


def _score_calibration(samples: Samples) -> Score:
    """Score how far the predicted probabilities are from what happened."""
    if len(set(samples.as_good)) == 1:
        reason = "the small model's answers are all equally good, so there is nothing to predict"
        return Score(
            metric="calibration_error", n=samples.distinct, unit="share", signature=SIGNATURE, missing_reason=reason
        )
    value, ci_low, ci_high = calibration_error(samples.probabilities, samples.as_good, samples.group)
    signature = f"{SIGNATURE}|folds:{FOLDS}"
    known = math.isfinite(ci_low) and math.isfinite(ci_high)
    return Score(
        metric="calibration_error",
        value=value,
        ci_low=ci_low if known else None,
        ci_high=ci_high if known else None,
        n=samples.distinct,
        unit="share",
        signature=signature,
        ci_missing_reason="" if known else "the prompts are too few, or their answers don't differ",
    )


def _calibrate_after(samples: Samples, logprobs: Array, risk: float | None, seed: int) -> AfterAnswer | None:
    """Calibrate the decision after the small model has answered, from the log-likelihood of its answer."""
    as_good, group = samples.as_good, samples.group
    mean, spread = float(logprobs.mean()), float(logprobs.std())
    if len(set(as_good)) == 1 or not spread:
        return None
    table = np.column_stack([logit_of(samples.probabilities), (logprobs - mean) / spread])
    fold = assign_folds(group, seed + 1)
    probabilities = np.zeros(len(as_good))
    for held_out in range(FOLDS):
        test = fold == held_out
        probabilities[test] = predict(table[test], fit_logistic(table[~test], as_good[~test], 1.0))
    weights = fit_logistic(table, as_good, 1.0)
    after = samples._replace(probabilities=probabilities)
    score = _scorer(after, seed)
    return AfterAnswer(
        weight_before=float(weights[0]),
        weight_likely=float(weights[1]),
        offset=float(weights[2]),
        mean=mean,
        spread=spread,
        apgr=score("apgr"),
        calibration_error=_score_calibration(after),
        chosen=None if risk is None else choose_threshold(risk, after),
        curve=tuple(_curve(after)),
    )


def probability_after(after: AfterAnswer, before: float, logprob: float) -> float:
    """Compute the probability of a good small answer after it was generated.

    Args:
        after: the calibration.
        before: probability before generation.
        logprob: mean log-likelihood of the answer's tokens, in nats.
    """
    prior = float(logit_of(np.array([before]))[0])
    standardized = (logprob - after.mean) / after.spread
    return float(expit(after.weight_before * prior + after.weight_likely * standardized + after.offset))


def _curve(samples: Samples) -> list[RiskPoint]:
    """Compute quality and risk for a range of shares of prompts sent to the small model, most confident first."""
    order = np.argsort(-samples.probabilities, kind="stable")
    probabilities, weak, strong = samples.probabilities[order], samples.weak[order], samples.strong[order]
    count = len(probabilities)
    points = []
    for small in sorted({round(i * count / (CURVE_POINTS - 1)) for i in range(CURVE_POINTS)}):
        points.append(
            RiskPoint(
                threshold=float(probabilities[small - 1]) if small else 1.0,
                small_share=small / count,
                quality=float((weak[:small].sum() + strong[small:].sum()) / count),
                worse=float((strong[:small] > weak[:small]).sum() / count),
            )
        )
    return points


def choose_threshold(risk: float, samples: Samples) -> RiskPoint | None:
    """Choose the lowest threshold from which on every threshold controls the risk with 95 % confidence.

    Each distinct prompt is one observation. The bound covers the larger of two proportions: of rows, which applies if
    prompts repeat as often as in the sample, and of distinct prompts, which applies to new prompts.
    """
    worse = 1 - samples.as_good
    found = choose_share(samples.probabilities, worse, risk, samples.group, 1 - CONFIDENCE)
    if found is None:
        return None
    small = samples.probabilities >= found.threshold
    return RiskPoint(
        threshold=found.threshold,
        small_share=float(small.mean()),
        quality=float(np.where(small, samples.weak, samples.strong).mean()),
        worse=float((worse * small).mean()),
    )


def min_prompts_for(risk: float) -> int:
    """Compute how many distinct prompts are needed to guarantee a risk if none of their answers is worse."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - risk))


def _metrics(probabilities: Array, weak: Array, strong: Array) -> dict[str, float]:
    """Compute APGR and CPT of one sample."""
    count = len(probabilities)
    order = np.argsort(probabilities, kind="stable")  # the least confident prompts go to the large model first
    gained = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / count
    gap = gained[-1]
    if gap <= 0:
        return dict.fromkeys(("apgr", "cpt50", "cpt80"), math.nan)
    recovered = gained / gap
    share = np.arange(count + 1) / count
    metrics = {"apgr": float(np.trapezoid(recovered, share))}
    for name, target in (("cpt50", 0.5), ("cpt80", 0.8)):
        metrics[name] = float(share[np.argmax(recovered >= target)])
    return metrics
