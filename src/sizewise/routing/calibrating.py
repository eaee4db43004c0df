"""calibrate(): learn a router from labeled prompts and choose a threshold for a stated risk.

A logistic model predicts from the prompt's text whether the small model will answer well. It is cross-fitted, so each
prompt is scored by a model that has not seen it. Duplicates of a prompt stay in one fold and count as one observation
in bounds and intervals; otherwise the model would know the prompts it is scored on, and repetition would pass for
evidence. APGR and CPT follow RouteLLM (Ong et al., 2024). The threshold controls the risk with 95 % confidence (Bates
et al., 2021, Distribution-free, risk-controlling prediction sets). Decisions need no model and no network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit, logit
from scipy.stats import beta

from sizewise.errors import SizewiseError, UsageError
from sizewise.records import AfterAnswer, Calibration, RiskPoint, Score
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
from sizewise.stats import percentile_interval

FOLDS, RESAMPLES, CALIBRATION_BINS = 5, 1_000, 10
CONFIDENCE = 0.98
"""Confidence at which bounds are computed so that the promised 95 % holds. The policy's weights are fitted on all
prompts, whereas the bound comes from models fitted on four fifths of them; with 0.95 the risk held in only 93 % of 200
splits (benchmarks/routing.py)."""
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1_000.0)
CURVE_POINTS = 51
QUANTILES, MIN_SPREAD = 201, 0.05


class PromptFeatures(NamedTuple):
    """What the router computes from a prompt before generation."""

    probability: float
    """Probability that the small model answers well."""
    similarity: float
    """Cosine similarity of the text to the center of the calibration prompts."""


def prompt_features(calibration: Calibration, prompt: str) -> PromptFeatures:
    """Compute the features of a prompt; needs no model."""
    score, similarity = calibration.offset, 0.0
    for i, value in hashed_ngrams(prompt).items():
        score += calibration.weights.get(i, 0.0) * value
        similarity += calibration.centre.get(i, 0.0) * value
    return PromptFeatures(float(expit(score)), similarity)


class _Samples(NamedTuple):
    """Labels and predictions of the calibration prompts, one entry per row."""

    probabilities: Array
    """Predicted probability of a good small answer, by a model that has not seen the prompt."""
    weak: Array
    """1 where the small model answered well."""
    strong: Array
    """1 where the large model answered well."""
    group: IntArray
    """Index of the row's distinct prompt."""

    @property
    def distinct(self) -> int:
        """Number of distinct prompts."""
        return int(self.group.max()) + 1


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
    probabilities, weights = _cross_fit(matrix, weak, group, seed)
    samples = _Samples(probabilities, weak, strong, group)
    chosen = None if risk is None else _choose_threshold(risk, samples)
    bound = None if risk is None else _risk_upper_bound(0, count)
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
        calibration_error=score("calibration_error"),
        risk=risk,
        bound=bound,
        chosen=chosen,
        curve=tuple(_curve(samples)),
        spread=_quantiles(probabilities),
        centre={int(i): float(center[i]) for i in np.flatnonzero(center)},
        similarity=(float(similarity.mean()), float(similarity.std(ddof=1))),
        vocabulary=VOCABULARY,
        weights={int(i): float(weights[i]) for i in np.flatnonzero(np.abs(weights[:-1]) > 1e-9)},
        offset=float(weights[-1]),
        after=None if logprobs is None else _calibrate_after(samples, logprobs, risk, seed),
        marks=tuple(sorted({hash_prompt(prompt) for prompt in prompts})),
        notes=tuple(_notes(samples, risk, bound, chosen)),
    )


def _check_count(source: str, count: int, rows: int) -> None:
    if count < MIN_PROMPTS:
        raise SizewiseError(
            f"{source} has {count} distinct prompts in {rows} rows, which is too few.",
            f"at least {MIN_PROMPTS} distinct prompts; a few hundred are better",
            "",
        )


def _notes(samples: _Samples, risk: float | None, bound: float | None, chosen: RiskPoint | None) -> list[str]:
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


def _fit(matrix: csr_matrix | Array, labels: Array, penalty: float) -> Array:
    """Fit an L2-regularized logistic regression; the last weight is the intercept."""

    def loss(weights: Array) -> tuple[float, Array]:
        scores = matrix @ weights[:-1] + weights[-1]
        signed = np.where(labels > 0, scores, -scores)
        value = float(np.logaddexp(0, -signed).sum() + 0.5 * penalty * (weights[:-1] ** 2).sum())
        residual = expit(scores) - labels
        return value, np.append(matrix.T @ residual + penalty * weights[:-1], residual.sum())

    weights: Array = minimize(loss, np.zeros(matrix.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return weights


def _predict(matrix: csr_matrix | Array, weights: Array) -> Array:
    probabilities: Array = expit(matrix @ weights[:-1] + weights[-1])
    return probabilities


def _quantiles(probabilities: Array) -> tuple[float, ...]:
    """Compute quantiles of the predicted probabilities for drift tests; empty if they hardly vary.

    Each probability comes from a model fitted on four fifths of the prompts. If the text predicts nothing, these models
    differ by chance while the model fitted on all prompts predicts a constant, which must not be taken for drift.
    """
    lower, upper = np.quantile(probabilities, [0.05, 0.95])
    if upper - lower < MIN_SPREAD:
        return ()
    return tuple(float(value) for value in np.quantile(probabilities, np.linspace(0, 1, QUANTILES)))


def _scorer(samples: _Samples, seed: int) -> Callable[[str], Score]:
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
        signature = f"parts:{CALIBRATION_BINS}|{signature}" if name == "calibration_error" else signature
        if not np.isfinite(point[name]):
            reason = "the large model is no better than the small one"
            return Score(metric=name, n=count, unit="share", signature=signature, missing_reason=reason)
        ci_low, ci_high = percentile_interval(np.array([metrics[name] for metrics in resampled]))
        return Score(
            metric=name, value=point[name], ci_low=ci_low, ci_high=ci_high, n=count, unit="share", signature=signature
        )

    return score


def _calibrate_after(samples: _Samples, logprobs: Array, risk: float | None, seed: int) -> AfterAnswer | None:
    """Calibrate the decision after the small model has answered, from the log-likelihood of its answer."""
    weak, group = samples.weak, samples.group
    mean, spread = float(logprobs.mean()), float(logprobs.std())
    if len(set(weak)) == 1 or not spread:
        return None
    table = np.column_stack([_logit(samples.probabilities), (logprobs - mean) / spread])
    fold = _assign_folds(group, seed + 1)
    probabilities = np.zeros(len(weak))
    for held_out in range(FOLDS):
        test = fold == held_out
        probabilities[test] = _predict(table[test], _fit(table[~test], weak[~test], 1.0))
    weights = _fit(table, weak, 1.0)
    after = samples._replace(probabilities=probabilities)
    score = _scorer(after, seed)
    return AfterAnswer(
        weight_before=float(weights[0]),
        weight_likely=float(weights[1]),
        offset=float(weights[2]),
        mean=mean,
        spread=spread,
        apgr=score("apgr"),
        calibration_error=score("calibration_error"),
        chosen=None if risk is None else _choose_threshold(risk, after),
        curve=tuple(_curve(after)),
    )


def probability_after(after: AfterAnswer, before: float, logprob: float) -> float:
    """Compute the probability of a good small answer after it was generated.

    Args:
        after: the calibration.
        before: probability before generation.
        logprob: mean log-likelihood of the answer's tokens, in nats.
    """
    prior = float(_logit(np.array([before]))[0])
    standardized = (logprob - after.mean) / after.spread
    return float(expit(after.weight_before * prior + after.weight_likely * standardized + after.offset))


def _assign_folds(group: IntArray, seed: int) -> IntArray:
    """Assign a fold to each row: (rows,), the same for duplicates."""
    folds: IntArray = np.random.default_rng(seed).permutation(int(group.max()) + 1) % FOLDS
    return folds[group]


def _cross_fit(matrix: csr_matrix, labels: Array, group: IntArray, seed: int) -> tuple[Array, Array]:
    """Predict each prompt with a model that has not seen it, and fit the final model on all prompts."""
    count = len(labels)
    if len(set(labels)) == 1:
        constant = np.zeros(matrix.shape[1] + 1)
        constant[-1] = math.log((labels.sum() + 1) / (count - labels.sum() + 1))
        return np.full(count, float(expit(constant[-1]))), constant
    fold = _assign_folds(group, seed)
    by_penalty: dict[float, Array] = {}
    for penalty in PENALTIES:
        probabilities = np.zeros(count)
        for held_out in range(FOLDS):
            train = fold != held_out
            probabilities[~train] = _predict(matrix[~train], _fit(matrix[train], labels[train], penalty))
        by_penalty[penalty] = probabilities

    def log_loss(probabilities: Array) -> float:
        clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)
        return float(-np.where(labels > 0, np.log(clipped), np.log(1 - clipped)).mean())

    best = min(PENALTIES, key=lambda penalty: log_loss(by_penalty[penalty]))
    slope, offset = _platt_scale(by_penalty[best], labels)
    weights = _fit(matrix, labels, best) * slope
    weights[-1] += offset
    return expit(slope * _logit(by_penalty[best]) + offset), weights


def _logit(probabilities: Array) -> Array:
    scores: Array = logit(np.clip(probabilities, 1e-6, 1 - 1e-6))
    return scores


def _platt_scale(probabilities: Array, labels: Array) -> tuple[float, float]:
    """Fit Platt scaling (1999) with a slope of at most 1: it corrects overconfidence only."""
    scores = _logit(probabilities)
    signs = 2 * labels - 1

    def loss(parameters: Array) -> float:
        slope, offset = parameters
        return float(np.logaddexp(0, -signs * (slope * scores + offset)).sum() + 0.5 * (slope - 1) ** 2)

    slope, offset = minimize(loss, np.array([1.0, 0.0]), bounds=[(0, 1), (None, None)]).x
    return float(slope), float(offset)


def _curve(samples: _Samples) -> list[RiskPoint]:
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


def _choose_threshold(risk: float, samples: _Samples) -> RiskPoint | None:
    """Choose the lowest threshold from which on every threshold controls the risk with 95 % confidence.

    The risk is monotone in the threshold, so one bound per threshold is enough (Bates et al., 2021). Each distinct
    prompt is one observation. The bound covers the larger of two proportions: of rows, which applies if prompts repeat
    as often as in the sample, and of distinct prompts, which applies to new prompts.
    """
    probabilities, group = samples.probabilities, samples.group
    worse = (samples.strong > samples.weak).astype(float)
    rows = np.bincount(group)
    count = len(rows)
    chosen = None
    for threshold in np.unique(probabilities)[::-1]:
        small = probabilities >= threshold
        lost = worse * small
        share = max(float(lost.mean()), float((np.bincount(group, lost) / rows).mean()))
        if _risk_upper_bound(math.ceil(share * count - 1e-9), count) > risk:
            break
        chosen = RiskPoint(
            threshold=float(threshold),
            small_share=float(small.mean()),
            quality=float(np.where(small, samples.weak, samples.strong).mean()),
            worse=float(lost.mean()),
        )
    return chosen


def _risk_upper_bound(bad: int, count: int) -> float:
    """Compute the one-sided upper confidence bound of a proportion (Clopper and Pearson, 1934)."""
    return 1.0 if bad >= count else float(beta.ppf(CONFIDENCE, bad + 1, count - bad))


def min_prompts_for(risk: float) -> int:
    """Compute how many distinct prompts are needed to guarantee a risk if none of their answers is worse."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - risk))


def _metrics(probabilities: Array, weak: Array, strong: Array) -> dict[str, float]:
    """Compute APGR, CPT and the calibration error of one sample."""
    count = len(probabilities)
    order = np.argsort(probabilities, kind="stable")  # the least confident prompts go to the large model first
    gained = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / count
    gap = gained[-1]
    metrics = {"calibration_error": calibration_error(probabilities, weak)}
    if gap <= 0:
        return metrics | dict.fromkeys(("apgr", "cpt50", "cpt80"), math.nan)
    recovered = gained / gap
    share = np.arange(count + 1) / count
    metrics["apgr"] = float(np.trapezoid(recovered, share))
    for name, target in (("cpt50", 0.5), ("cpt80", 0.8)):
        metrics[name] = float(share[np.argmax(recovered >= target)])
    return metrics


def calibration_error(probabilities: Array, labels: Array) -> float:
    """Compute the expected calibration error (ECE) with bins of equal size."""
    order = np.argsort(probabilities, kind="stable")
    bins = [rows for rows in np.array_split(order, CALIBRATION_BINS) if len(rows)]
    gaps = (len(rows) * abs(probabilities[rows].mean() - labels[rows].mean()) for rows in bins)
    return float(sum(gaps) / len(probabilities))
