"""agreement() and plan(): how far raters agree, and how many votes a round needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from math import ceil, isfinite, sqrt
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from scipy.stats import norm

from sizewise.errors import SizewiseError, UsageError
from sizewise.judging.labels import MISSING, look_alikes, read_labels
from sizewise.judging.vote_files import DOCUMENT_COLUMNS, ITEM_COLUMNS, RATER_COLUMNS, read_rows
from sizewise.judging.vote_scores import codes_of, raters_note, vote_score
from sizewise.records import Agreement, JudgePlan, Score
from sizewise.stats import MIN_CLUSTERS
from sizewise.stats import agreement as coefficients
from sizewise.stats.agreement import Level
from sizewise.stats.crossed import MIN_RATERS

FEW_GROUPS = 20
REPEAT_SHARE = 0.1
_ROUNDING = 1e-9
MIN_DETECT = 1e-4
"""Smallest difference that a round is planned for; it takes over a hundred million votes."""


def agreement(path: Path, level: Level = "nominal", seed: int = 0) -> Agreement:
    """Compute how far raters agree beyond chance.

    Args:
        path: CSV with `rater`, `item`, `label`, and optionally `document`, where several items come from one; or
            columns with other usual names, see `vote_files`.
        level: level of measurement of the labels.
        seed: has no effect, as nothing is drawn at random.

    Raises:
        SizewiseError: the file doesn't have this form, or no item was rated by two raters.
    """
    if level not in get_args(Level):
        raise UsageError(f"'{level}' is not a level of measurement.", " or ".join(get_args(Level)), "--level nominal")
    names = {"rater": RATER_COLUMNS, "item": ITEM_COLUMNS, "document": DOCUMENT_COLUMNS}
    read = list(read_rows(path, (RATER_COLUMNS, ITEM_COLUMNS, "label")))
    rows = [
        {"label": row["label"]}
        | {unit: next((row[name] for name in columns if row.get(name)), "") for unit, columns in names.items()}
        for row in read
        if row["label"].casefold() not in MISSING
    ]
    if not rows:
        raise SizewiseError(
            f"{path.name} has no ratings: every label is a missing value.",
            "at least one rating",
            f"fill in the column 'label' of {path.name}",
        )
    used = next((name for name in DOCUMENT_COLUMNS if any(row.get(name) for row in read)), None)
    found = agree_rows(rows, path.name, level)
    independent = (
        f"items with the same value in column '{used}' are one document"
        if used
        else "no column 'document': every item is treated as independent of the others"
    )
    without = len(read) - len(rows)
    left_out = [f"rows whose label is a missing value, such as NaN, were left out: {without}"] if without else []
    return found.model_copy(update={"notes": (*found.notes, *left_out, independent)})


class _Ratings(NamedTuple):
    """Ratings as arrays, one element per rating."""

    raters: np.ndarray
    """(raters,) names."""
    rater: np.ndarray
    """(ratings,) index of the rater."""
    item: np.ndarray
    """(ratings,) index of the item."""
    label: np.ndarray
    """(ratings,) index of the label."""
    counts: np.ndarray
    """(items, labels) number of ratings."""
    document: np.ndarray
    """(items,) index of the source document."""


def agree_rows(rows: list[dict[str, str]], source: str, level: Level = "nominal") -> Agreement:
    """Compute how far raters agree beyond chance; see `agreement`.

    Args:
        rows: rater, item, label; optionally document.
        source: where the ratings come from, for messages.
        level: level of measurement of the labels.
    """
    given = Counter((row["rater"], row["item"]) for row in rows)
    if len(given) < len(rows):
        (by, of), times = given.most_common(1)[0]
        raise SizewiseError(
            f"{source} has {times} ratings of item {of} by {by}.", "one rating per rater and item", "delete the others"
        )
    raters, rater = np.unique([row["rater"] for row in rows], return_inverse=True)
    items, item = np.unique([row["item"] for row in rows], return_inverse=True)
    labels = read_labels({row["label"] for row in rows}, level, source)
    label = np.array([labels.place[row["label"]] for row in rows])
    counts = np.zeros((len(items), len(labels.names)))
    np.add.at(counts, (item, label), 1)
    several = counts.sum(axis=1) > 1
    if not several.any():
        raise SizewiseError(
            f"No item of {source} was rated twice, so agreement can't be measured.",
            "items with two ratings or more",
            "have a second person rate the same items",
        )
    of_item = _documents(rows, source)
    document = codes_of([of_item.get(str(name), ("", str(name))) for name in items])
    ratings = _Ratings(raters, rater, item, label, counts, document)
    return Agreement(
        source=source,
        ratings=len(rows),
        raters=len(raters),
        items=int(several.sum()),
        labels=tuple(labels.names),
        level=level,
        scores=_coefficients(ratings, level, labels.values),
        against_the_rest=_against_the_rest(ratings),
        notes=(*_agreement_notes(ratings, len(np.unique(document[several]))), *labels.notes),
    )


def _documents(rows: list[dict[str, str]], source: str) -> dict[str, str]:
    """Find the document of each item that names one."""
    found: dict[str, str] = {}
    for row in rows:
        document = row.get("document")
        if document and found.setdefault(row["item"], document) != document:
            raise SizewiseError(
                f"{source} names two documents of item {row['item']}: {found[row['item']]} and {document}.",
                "one document per item",
                f"correct the item in {source}",
            )
    return found


def _agreement_notes(ratings: _Ratings, independent: int) -> Iterable[str]:
    if independent < MIN_CLUSTERS:
        yield (
            f"{independent} different items are too few for intervals; at least {MIN_CLUSTERS} are needed, "
            f"so {MIN_CLUSTERS - independent} more"
        )
    elif independent < FEW_GROUPS:
        yield f"only {independent} items: intervals are wide"
    if (ratings.counts.sum(axis=0) > 0).sum() == 1:
        yield "there is only one label, so agreement beyond chance can't be measured"
    if note := raters_note(len(ratings.raters)):
        yield note
    yield from look_alikes(map(str, ratings.raters), "raters")


def _coefficients(ratings: _Ratings, level: Level, values: np.ndarray) -> dict[str, Score]:
    alpha = partial(coefficients.alpha, level=level, values=values)
    of_counts: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
        f"krippendorff_alpha|{level}": (coefficients.alpha_sums, alpha),
        "fleiss_kappa": (coefficients.fleiss_sums, coefficients.fleiss),
        "gwet_ac1": (coefficients.fleiss_sums, coefficients.gwet),
    }
    scores = {
        signature.partition("|")[0]: _of_counts(ratings, signature, sums_of, value)
        for signature, (sums_of, value) in of_counts.items()
    }
    if len(ratings.raters) == 2:
        both = [np.full(len(ratings.counts), -1) for _ in ratings.raters]
        for r, i, k in zip(ratings.rater, ratings.item, ratings.label, strict=True):
            both[r][i] = k
        common = (both[0] >= 0) & (both[1] >= 0)
        tables = coefficients.cohen_sums(both[0][common], both[1][common], ratings.counts.shape[1])
        point = float(coefficients.cohen(tables.sum(axis=0)))
        ends = None
        if isfinite(point) and len(documents := np.unique(ratings.document[common])) >= MIN_CLUSTERS:
            sums = _by_document(tables, np.searchsorted(documents, ratings.document[common]))
            ends = coefficients.agreement_interval(sums, coefficients.imagined_tables(tables), coefficients.cohen)
        scores["cohen_kappa"] = _coefficient("cohen_kappa", point, ends, int(common.sum()), "documents")
    return scores


def _of_counts(
    ratings: _Ratings,
    signature: str,
    sums_of: Callable[[np.ndarray], np.ndarray],
    value: Callable[[np.ndarray], np.ndarray],
) -> Score:
    """Compute a coefficient that is a function of the counts of each item, with its interval."""
    counts = ratings.counts
    sums = sums_of(counts)
    point = float(value(sums.sum(axis=0))) if counts.shape[1] > 1 else float("nan")
    several = counts.sum(axis=1) > 1
    documents = np.unique(ratings.document[several])
    ends, clusters = None, "documents"
    if isfinite(point) and len(documents) >= MIN_CLUSTERS:
        without, effective = None, 0.0
        if len(ratings.raters) >= MIN_RATERS:
            without = np.stack([_added_by(ratings, rater, sums, sums_of) for rater in range(len(ratings.raters))])
            cast = np.bincount(ratings.rater).astype(np.float64)
            effective, clusters = float(cast.sum() ** 2 / np.square(cast).sum()), "raters x documents"
        imagined = sums_of(coefficients.imagined_counts(counts))
        by_document = _by_document(sums[several], np.searchsorted(documents, ratings.document[several]))
        by_document[0] += sums[~several].sum(axis=0)  # labels of items with one rating count in some coefficients
        ends = coefficients.agreement_interval(by_document, imagined, value, without, effective)
    return _coefficient(signature, point, ends, int(several.sum()), clusters)


def _added_by(
    ratings: _Ratings, rater: int, sums: np.ndarray, sums_of: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Compute what a rater's ratings add to the sums."""
    mine = ratings.rater == rater
    rated = ratings.item[mine]
    others = ratings.counts[rated].copy()
    others[np.arange(len(rated)), ratings.label[mine]] -= 1
    added: np.ndarray = sums[rated].sum(axis=0) - sums_of(others).sum(axis=0)
    return added


def _by_document(sums: np.ndarray, documents: np.ndarray) -> np.ndarray:
    found = np.zeros((int(documents.max()) + 1, *sums.shape[1:]))
    np.add.at(found, documents, sums)
    return found


def _against_the_rest(ratings: _Ratings) -> dict[str, Score]:
    """Compute how often each rater's labels match the other ratings of the same items."""
    found = {}
    for index, name in enumerate(ratings.raters):
        mine = ratings.rater == index
        others = ratings.counts[ratings.item[mine]]
        others[np.arange(mine.sum()), ratings.label[mine]] -= 1
        total = others.sum(axis=1)
        if (shared := total > 0).any():
            same = others[np.arange(mine.sum()), ratings.label[mine]][shared] / total[shared]
            documents = ratings.document[ratings.item[mine]][shared]
            found[str(name)] = vote_score("same_as_others", same, np.zeros(len(same)), documents)
    return found


def _coefficient(signature: str, point: float, ends: tuple[float, float] | None, n: int, clusters: str) -> Score:
    name = signature.partition("|")[0]
    known = isfinite(point)
    return Score(
        metric=name,
        value=point if known else None,
        ci_low=ends[0] if ends else None,
        ci_high=ends[1] if ends else None,
        n=n,
        unit="agreement",
        signature=f"{signature}|jackknife:{clusters}" if ends else signature,
        missing_reason=None if known else "there is only one label",
    )


class PlanAssumptions(NamedTuple):
    """Assumptions about votes that have not been cast yet."""

    tie_share: float = 0.3
    """Share of ties."""
    item_correlation: float = 0.2
    """Correlation between two votes on one item."""
    seconds_per_vote: float = 20.0
    """Time that a rater takes for a vote."""


def plan(
    detect: float,
    power: float = 0.8,
    *,
    alpha: float = 0.05,
    raters: int = 3,
    votes_per_item: int = 1,
    assumptions: PlanAssumptions | None = None,
) -> JudgePlan:
    """Compute how many pairwise votes are needed to detect a difference.

    The test compares a win rate with one half, a tie counting as one half. Votes on one item are correlated, which the
    design effect of Kish (1965) accounts for. Without the added z squared, rounds of 13 to 30 votes that were planned
    for a power of 80 % had 72 to 80 %. A round never has fewer than MIN_CLUSTERS items, which a claim needs.

    Args:
        detect: smallest distance of the win rate from one half to detect: 0.1 is a win rate of 60 %.
        power: probability of detecting it.
        alpha: probability of a false positive.
        raters: number of raters.
        votes_per_item: raters who see each item.
        assumptions: ties, correlation and time per vote.

    Raises:
        UsageError: a number is out of range.
    """
    tie_share, item_correlation, seconds_per_vote = assumptions or PlanAssumptions()
    _check_plan(detect, power, alpha, tie_share)
    if votes_per_item > raters or min(raters, votes_per_item) < 1:
        raise UsageError(
            f"Each item needs {votes_per_item} raters, but there are {raters}.",
            "at least as many raters as votes on an item",
            f"--raters {votes_per_item}",
        )
    variance = (1 - tie_share) / 4
    variance_if_different = max(variance - detect**2, 0.0)
    z_alpha, z_power = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))
    effective = ((z_alpha * sqrt(variance) + z_power * sqrt(variance_if_different)) / detect) ** 2
    effective += z_alpha**2  # the spread of few votes is an estimate, and they move in steps
    votes = ceil(effective * (1 + (votes_per_item - 1) * item_correlation))
    items = max(ceil(votes / votes_per_item), MIN_CLUSTERS)
    votes = items * votes_per_item
    repeats = ceil(votes * REPEAT_SHARE)
    return JudgePlan(
        detect=detect,
        power=power,
        alpha=alpha,
        tie_share=tie_share,
        item_correlation=item_correlation,
        raters=raters,
        votes_per_item=votes_per_item,
        items=items,
        votes=votes,
        repeats=repeats,
        seconds_per_vote=seconds_per_vote,
        minutes_per_rater=(votes + repeats) * seconds_per_vote / 60 / raters,
    )


def _check_plan(detect: float, power: float, alpha: float, tie_share: float) -> None:
    """Refuse numbers that are out of range, and win rates that the ties rule out."""
    if not MIN_DETECT <= detect < 0.5 or not 0 < power < 1 or not 0 < alpha < 1 or not 0 <= tie_share < 1:
        raise UsageError(
            f"Can't plan a round with detect={detect:g}, power={power:g}, alpha={alpha:g} and {tie_share:g} ties.",
            f"{MIN_DETECT:g} <= detect < 0.5, and shares between 0 and 1",
            "sizewise judge plan --detect 0.1",
        )
    if detect > (1 - tie_share) / 2 + _ROUNDING:
        raise UsageError(
            f"A win rate of {0.5 + detect:.4g} is impossible with a share of {tie_share:g} ties, each of which counts "
            "as one half.",
            f"at most {max(0.0, 1 - 2 * detect):.4g} ties, or a detect of at most {(1 - tie_share) / 2:.4g}",
            f"sizewise judge plan --detect {detect:g} --ties {max(0.0, 1 - 2 * detect):.4g}",
        )
