"""calibrate(): a threshold for a stated risk, from anybody's prompts and what both models made of them.

The chance that the small model does is a logistic model of the prompt's text, fitted in folds, so that each prompt is
judged by a model that has not seen it. Rows with the same prompt lie in one fold and are one observation in bounds and
intervals: otherwise a model knows the prompts that it is judged on, and repeats are taken for evidence. APGR and CPT
are those of RouteLLM (Ong et al., 2024); the threshold is chosen so that the risk is kept with a confidence of 95 %
(Bates et al., 2021, Distribution-free, risk-controlling prediction sets). The decision needs no model and no network.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit, logit
from scipy.stats import beta

from sizewise.errors import SizewiseError, UsageError
from sizewise.records import AfterAnswer, Calibration, RiskPoint, Score
from sizewise.routing.labelled import LEAST, Array, Whole, groups_of, mark_of, normal_form, read_answers, share_of
from sizewise.stats import percentile_interval

VOCABULARY = 2**12
LETTERS = (3, 4)
FOLDS, ROUNDS, PARTS = 5, 1_000, 10
CONFIDENCE = 0.98
"""What bounds are computed at so that the promised 95 % holds: the policy's own weights are learnt from all prompts,
the bound from models of four fifths, and at 0.95 the risk was kept in 93 % of 200 splits (benchmarks/routing.py)."""
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1_000.0)
CURVE_POINTS = 51
SPREAD_POINTS, LEAST_SPREAD = 201, 0.05
MOST_LETTERS = 4_000


def features_of(prompt: str) -> dict[int, float]:
    """Count the letter sequences of a prompt, hashed, with its length; the vector has length one besides the length."""
    text = normal_form(prompt)[:MOST_LETTERS]
    counts: Counter[int] = Counter()
    for size in LETTERS:
        for start in range(len(text) - size + 1):
            counts[zlib.crc32(text[start : start + size].encode("utf-8", "replace")) % VOCABULARY] += 1
    damped = {i: 1 + math.log(n) for i, n in counts.items()}
    norm = math.sqrt(sum(value**2 for value in damped.values())) or 1.0
    return {i: value / norm for i, value in damped.items()} | {VOCABULARY: math.log1p(len(text)) / 5}


def _matrix(prompts: list[str]) -> csr_matrix:
    rows, columns, values = [], [], []
    for row, prompt in enumerate(prompts):
        for column, value in features_of(prompt).items():
            rows.append(row)
            columns.append(column)
            values.append(value)
    return csr_matrix((values, (rows, columns)), shape=(len(prompts), VOCABULARY + 1))


def _fit(matrix: csr_matrix | Array, labels: Array, penalty: float) -> Array:
    """Fit a logistic model with a squared penalty; the last weight is the constant."""

    def loss(weights: Array) -> tuple[float, Array]:
        scores = matrix @ weights[:-1] + weights[-1]
        signed = np.where(labels > 0, scores, -scores)
        value = float(np.logaddexp(0, -signed).sum() + 0.5 * penalty * (weights[:-1] ** 2).sum())
        wrong = expit(scores) - labels
        return value, np.append(matrix.T @ wrong + penalty * weights[:-1], wrong.sum())

    found: Array = minimize(loss, np.zeros(matrix.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return found


def _chances(matrix: csr_matrix | Array, weights: Array) -> Array:
    found: Array = expit(matrix @ weights[:-1] + weights[-1])
    return found


class Look(NamedTuple):
    """What is seen of a prompt before it is answered."""

    probability: float
    """Chance that the small model answers it well."""
    similarity: float
    """Cosine between its letters and the mean of the prompts that the router was learnt from."""


def look_at(calibration: Calibration, prompt: str) -> Look:
    """Look at a prompt; needs no model."""
    score, similarity = calibration.offset, 0.0
    for i, value in features_of(prompt).items():
        score += calibration.weights.get(i, 0.0) * value
        similarity += calibration.centre.get(i, 0.0) * value
    return Look(float(expit(score)), similarity)


def _spread(probabilities: Array) -> tuple[float, ...]:
    """Give the quantiles of chances; none where all are alike.

    Each was stated by a model of four fifths of the prompts. Where the prompts tell nothing, those models differ by
    luck alone, and the one of all prompts states one chance: that is no drift.
    """
    ci_low, ci_high = np.quantile(probabilities, [0.05, 0.95])
    if ci_high - ci_low < LEAST_SPREAD:
        return ()
    return tuple(float(one) for one in np.quantile(probabilities, np.linspace(0, 1, SPREAD_POINTS)))


class Likeness(NamedTuple):
    """How like each other prompts are."""

    centre: Mapping[int, float]
    """Feature -> its part in their mean direction."""
    mean: float
    """Mean cosine of each with the mean of the others."""
    spread: float
    """Its standard deviation."""
    prompts: int

    def of(self, prompt: str) -> float:
        """Give the cosine of a prompt with their mean direction."""
        return float(sum(self.centre.get(i, 0.0) * value for i, value in features_of(prompt).items()))


def likeness_of(prompts: Sequence[str]) -> Likeness:
    """Learn how like each other prompts are.

    Raises:
        SizewiseError: there are too few.
    """
    if len(prompts) < LEAST:
        raise SizewiseError(f"There are {len(prompts)} prompts.", f"at least {LEAST}", "")
    centre, similarity = _centre(_matrix(list(prompts)))
    kept = {int(i): float(centre[i]) for i in np.flatnonzero(centre)}
    return Likeness(kept, float(similarity.mean()), float(similarity.std(ddof=1)), len(prompts))


def _centre(matrix: csr_matrix) -> tuple[Array, Array]:
    """Give the mean direction of prompts' letters, and the cosine of each prompt with that of the others."""
    letters = matrix[:, :VOCABULARY]
    total = np.asarray(letters.sum(axis=0)).ravel()
    length = float(np.linalg.norm(total))
    own = np.asarray(letters.multiply(letters).sum(axis=1)).ravel()  # one, or nothing where there are no letters
    along = letters @ total
    others = np.sqrt(np.maximum(length**2 - 2 * along + own, 1e-12))
    return total / (length or 1.0), (along - own) / others


def calibrate(path: Path, risk: float | None = None, seed: int = 0) -> Calibration:
    """Learn a router and choose its threshold.

    Args:
        path: CSV with `prompt`, `weak_ok`, `strong_ok` (0 or 1), and `weak_logprob` where the log-likelihood of the
            small model's answer is known (mean of its tokens, in nats).
        risk: most share of all prompts whose answer may be worse than the large model's.
        seed: seed of the folds and of the resampling.

    Raises:
        UsageError: the risk is no share.
        SizewiseError: the file is not of this form, or has too few prompts.
    """
    if risk is not None and not 0 < risk < 1:
        raise UsageError(f"A risk of {risk} is no share.", "for example 0.02", "--risk 0.02")
    read = read_answers(path)
    return calibrate_rows(read.prompts, read.weak, read.strong, path.name, risk, seed, read.likely)


def calibrate_rows(
    prompts: list[str],
    weak: Array,
    strong: Array,
    source: str,
    risk: float | None = None,
    seed: int = 0,
    likely: Array | None = None,
) -> Calibration:
    """Learn a router from prompts and what both models made of them; see `calibrate`.

    Args:
        prompts: what was asked, at least 20.
        weak: (prompts,) 1 where the small model did well.
        strong: (prompts,) 1 where the large one did.
        source: where they come from.
        risk: most share of all prompts whose answer may be worse than the large model's.
        seed: seed of the folds and of the resampling.
        likely: (prompts,) mean log-likelihood of the tokens of the small model's answer, in nats; None: not known.

    Raises:
        SizewiseError: there are too few prompts.
    """
    group = groups_of(prompts)
    count = len(np.unique(group))
    if count < LEAST:
        raise SizewiseError(
            f"{source} has {count} different prompts in {len(prompts)} rows.",
            f"at least {LEAST} different prompts; a few hundred are better",
            "",
        )
    notes = []
    if count < len(prompts):
        notes.append(
            f"{len(prompts):,} rows hold {count:,} different prompts (case, blanks and forms of a letter aside): rows "
            "with the same prompt are one observation in the bound and in the intervals"
        )
    matrix = _matrix(prompts)
    probabilities, weights = _cross_fitted(matrix, weak, group, seed)
    if len(set(weak)) == 1:
        notes.append("the small model is always right, or never: there is nothing to learn from the prompts")
    centre, similarity = _centre(matrix)
    order = np.argsort(-probabilities, kind="stable")
    curve = _curve(probabilities[order], weak[order], strong[order])
    worse_if_small = (strong > weak).astype(float)
    chosen, bound = None, None
    if risk is not None:
        bound = _risk_at_most(0, count)
        chosen = _within(risk, probabilities, worse_if_small, weak, strong, group)
        if chosen is None:
            notes.append(
                f"{count} prompts cannot vouch for a risk of {risk:.1%}: the least they can is {bound:.1%}"
                if risk < bound
                else f"no threshold keeps the risk at {risk:.1%}: everything would go to the large model"
            )
    score = _scorer(probabilities, weak, strong, group, seed)
    gap = float(strong.mean() - weak.mean())
    if gap <= 0:
        notes.append("the large model is no better on these prompts: use the small one alone")

    after = None if likely is None else _after(probabilities, likely, weak, strong, group, risk, seed)
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
        curve=tuple(curve),
        spread=_spread(probabilities),
        centre={int(i): float(centre[i]) for i in np.flatnonzero(centre)},
        similarity=(float(similarity.mean()), float(similarity.std(ddof=1))),
        vocabulary=VOCABULARY,
        weights={int(i): float(weights[i]) for i in np.flatnonzero(np.abs(weights[:-1]) > 1e-9)},
        offset=float(weights[-1]),
        after=after,
        marks=tuple(sorted({mark_of(prompt) for prompt in prompts})),
        notes=tuple(notes),
    )


def _scorer(probabilities: Array, weak: Array, strong: Array, group: Whole, seed: int) -> Callable[[str], Score]:
    """Give what turns the name of a figure into its value with an interval, prompts resampled with all their rows."""
    count = int(group.max()) + 1
    samples: Sequence[Whole] = list(np.random.default_rng(seed).integers(0, count, (ROUNDS, count)))
    if count < len(group):
        rows_of = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
        samples = [np.concatenate([rows_of[one] for one in sample]) for sample in samples]
    drawn = [_summary(probabilities[rows], weak[rows], strong[rows]) for rows in samples]
    point = _summary(probabilities, weak, strong)

    def score(name: str) -> Score:
        way = f"folds:{FOLDS}|bootstrap:prompts"
        way = f"parts:{PARTS}|{way}" if name == "calibration_error" else way
        if not np.isfinite(point[name]):
            why = "there is no gap between the models"
            return Score(metric=name, n=count, unit="share", signature=way, missing_reason=why)
        ci_low, ci_high = percentile_interval(np.array([one[name] for one in drawn]))
        return Score(
            metric=name, value=point[name], ci_low=ci_low, ci_high=ci_high, n=count, unit="share", signature=way
        )

    return score


def _after(
    before: Array, likely: Array, weak: Array, strong: Array, group: Whole, risk: float | None, seed: int
) -> AfterAnswer | None:
    """Learn what the likelihood of the small answer adds to the chance before it; in folds, as that was."""
    mean, spread = float(likely.mean()), float(likely.std())
    if len(set(weak)) == 1 or not spread:
        return None
    table = np.column_stack([_logit(before), (likely - mean) / spread])
    fold = _folds(group, seed + 1)
    probabilities = np.zeros(len(weak))
    for one in range(FOLDS):
        probabilities[fold == one] = _chances(table[fold == one], _fit(table[fold != one], weak[fold != one], 1.0))
    weights = _fit(table, weak, 1.0)
    order = np.argsort(-probabilities, kind="stable")
    score = _scorer(probabilities, weak, strong, group, seed)
    return AfterAnswer(
        weight_before=float(weights[0]),
        weight_likely=float(weights[1]),
        offset=float(weights[2]),
        mean=mean,
        spread=spread,
        apgr=score("apgr"),
        calibration_error=score("calibration_error"),
        chosen=None
        if risk is None
        else _within(risk, probabilities, (strong > weak).astype(float), weak, strong, group),
        curve=tuple(_curve(probabilities[order], weak[order], strong[order])),
    )


def chance_after(after: AfterAnswer, before: float, likely: float) -> float:
    """Give the chance of a good small answer once it is there.

    Args:
        after: what was learnt.
        before: chance before the answer.
        likely: mean log-likelihood of the answer's tokens, in nats.
    """
    known = float(_logit(np.array([before]))[0])
    return float(
        expit(after.weight_before * known + after.weight_likely * (likely - after.mean) / after.spread + after.offset)
    )


def _folds(group: Whole, seed: int) -> Whole:
    """Give each row its fold: (rows,), the same for all rows of a prompt."""
    drawn: Whole = np.random.default_rng(seed).permutation(int(group.max()) + 1) % FOLDS
    return drawn[group]


def _cross_fitted(matrix: csr_matrix, labels: Array, group: Whole, seed: int) -> tuple[Array, Array]:
    """Give each prompt's chance by a model that has not seen it, and the weights of a model of all."""
    count = len(labels)
    if len(set(labels)) == 1:
        constant = np.zeros(matrix.shape[1] + 1)
        constant[-1] = math.log((labels.sum() + 1) / (count - labels.sum() + 1))
        return np.full(count, float(expit(constant[-1]))), constant
    fold = _folds(group, seed)
    tried: dict[float, Array] = {}
    for penalty in PENALTIES:
        probabilities = np.zeros(count)
        for one in range(FOLDS):
            seen = fold != one
            probabilities[~seen] = _chances(matrix[~seen], _fit(matrix[seen], labels[seen], penalty))
        tried[penalty] = probabilities

    def log_loss(probabilities: Array) -> float:
        clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)
        return float(-np.where(labels > 0, np.log(clipped), np.log(1 - clipped)).mean())

    best = min(PENALTIES, key=lambda penalty: log_loss(tried[penalty]))
    slope, offset = _scaled(tried[best], labels)
    weights = _fit(matrix, labels, best) * slope
    weights[-1] += offset
    return expit(slope * _logit(tried[best]) + offset), weights


def _logit(probabilities: Array) -> Array:
    found: Array = logit(np.clip(probabilities, 1e-6, 1 - 1e-6))
    return found


def _scaled(probabilities: Array, labels: Array) -> tuple[float, float]:
    """Draw chances together where they are too sure (Platt, 1999); they are never spread further."""
    scores = _logit(probabilities)
    signs = 2 * labels - 1

    def loss(at: Array) -> float:
        return float(np.logaddexp(0, -signs * (at[0] * scores + at[1])).sum() + 0.5 * (at[0] - 1) ** 2)

    slope, offset = minimize(loss, np.array([1.0, 0.0]), bounds=[(0, 1), (None, None)]).x
    return float(slope), float(offset)


def _curve(probabilities: Array, weak: Array, strong: Array) -> list[RiskPoint]:
    """Give what each share of small answers is worth; prompts come with the surest first."""
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


def _within(
    risk: float, probabilities: Array, worse: Array, weak: Array, strong: Array, group: Whole
) -> RiskPoint | None:
    """Choose the lowest threshold whose risk is kept with a confidence of 95 %, and so are those of all above it.

    The risk only rises as the threshold falls, so one bound at each threshold is enough (Bates et al., 2021). Each
    prompt is one observation. What is bounded is the share of rows or of different prompts, whichever is greater: the
    first counts where prompts come again as often as they did, the second where new ones come.
    """
    rows = np.bincount(group)
    count = len(rows)
    kept = None
    for threshold in np.unique(probabilities)[::-1]:
        small = probabilities >= threshold
        lost = worse * small
        share = max(float(lost.mean()), float((np.bincount(group, lost) / rows).mean()))
        if _risk_at_most(math.ceil(share * count - 1e-9), count) > risk:
            break
        kept = RiskPoint(
            threshold=float(threshold),
            small_share=float(small.mean()),
            quality=float(np.where(small, weak, strong).mean()),
            worse=float(lost.mean()),
        )
    return kept


def _risk_at_most(bad: int, count: int) -> float:
    """Give the bound that a share lies below with the confidence (Clopper and Pearson, 1934, one-sided)."""
    return 1.0 if bad >= count else float(beta.ppf(CONFIDENCE, bad + 1, count - bad))


def least_for(risk: float) -> int:
    """Return how many different prompts can vouch for a risk, where no answer to them is worse."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - risk))


def _summary(probabilities: Array, weak: Array, strong: Array) -> dict[str, float]:
    """Give APGR, CPT and the calibration error of one sample."""
    count = len(probabilities)
    order = np.argsort(probabilities, kind="stable")  # the least sure go to the large model first
    gained = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / count
    gap = gained[-1]
    found = {"calibration_error": _calibration_error(probabilities, weak)}
    if gap <= 0:
        return found | dict.fromkeys(("apgr", "cpt50", "cpt80"), math.nan)
    recovered = gained / gap
    share = np.arange(count + 1) / count
    found["apgr"] = float(np.trapezoid(recovered, share))
    for name, wanted in (("cpt50", 0.5), ("cpt80", 0.8)):
        found[name] = float(share[np.argmax(recovered >= wanted)])
    return found


def _calibration_error(probabilities: Array, labels: Array) -> float:
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, PARTS) if len(part)]
    return float(sum(len(p) * abs(probabilities[p].mean() - labels[p].mean()) for p in parts) / len(probabilities))
