"""rank(), agreement() and plan(): votes and ratings from any CSV file."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, isfinite, sqrt
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from scipy.stats import norm

from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics.proportion import proportion_score
from sizewise.records import Agreement, JudgePlan, Ranked, Ranking, Score
from sizewise.stats import agreement as coefficients
from sizewise.stats import percentile_interval
from sizewise.stats.agreement import Level
from sizewise.stats.ranking import PRIOR, bradley_terry, ranks_of, resampled_strengths, win_matrix

ROUNDS = 1_000
FEW_GROUPS = 20
SHARES = {"left": 1.0, "right": 0.0, "tie": 0.5, "both_bad": 0.5}
RATER_COLUMNS = ("rater", "worker", "annotator", "judge")
PROMPT_COLUMNS = ("item", "prompt", "question")
MAX_LABELS = 200
REPEAT_SHARE = 0.1


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file and check that it has the required columns.

    White space around a value and the Unicode composition of its letters are normalized, so that they never create a
    second label or name.

    Raises:
        SizewiseError: the file can't be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            absent = [name for name in needed if name not in (reader.fieldnames or ())]
            if absent:
                raise ValueError(f"it has no column {' or '.join(absent)}, but {', '.join(reader.fieldnames or ())}")
            rows = []
            for read in reader:
                row = {key: _normalized(value) for key, value in read.items() if key is not None}
                if any(not row[name] for name in needed):
                    raise ValueError(f"line {reader.line_num} has no {next(n for n in needed if not row[n])}")
                rows.append(row)
    except (OSError, ValueError, csv.Error) as error:
        raise SizewiseError(
            f"{path} cannot be read: {error}.", f"a CSV file with the columns {', '.join(needed)}", ""
        ) from error
    if not rows:
        raise SizewiseError(f"{path} has no rows.", "at least one vote or rating", "")
    return rows


def _normalized(value: str | None) -> str:
    return unicodedata.normalize("NFC", (value or "").strip())


def _groups(rows: list[dict[str, str]], names: Sequence[str]) -> np.ndarray | None:
    """Number the group of each row by the first of these columns that every row fills in; None if there is none."""
    name = next((name for name in names if all(row.get(name) for row in rows)), None)
    if name is None:
        return None
    return np.unique([row[name] for row in rows], return_inverse=True)[1].astype(np.int64)


def rank(path: Path, seed: int = 0) -> Ranking:
    """Rank candidates by pairwise votes, with Bradley-Terry strengths.

    Args:
        path: CSV with `left`, `right`, `winner` (left, right, tie or both_bad), and optionally `rater` and `item`.
        seed: seed of the resampling.

    Raises:
        SizewiseError: the file doesn't have this form.
    """
    return rank_rows(_rows(path, ("left", "right", "winner")), path.name, seed)


class _PairVotes(NamedTuple):
    """Votes on pairs as arrays, one element per vote."""

    names: np.ndarray
    """(candidates,) names."""
    left: np.ndarray
    """(votes,) index of the left candidate."""
    right: np.ndarray
    """(votes,) index of the right candidate."""
    share: np.ndarray
    """(votes,) 1 where the left one won, 0 where it lost, 0.5 for a tie."""


def _parse_votes(rows: list[dict[str, str]], source: str) -> _PairVotes:
    wrong = next((row["winner"] for row in rows if row["winner"] not in SHARES), None)
    if wrong is not None:
        raise SizewiseError(f"{source} has the winner '{wrong}'.", " or ".join(SHARES), "")
    names, index = np.unique([row["left"] for row in rows] + [row["right"] for row in rows], return_inverse=True)
    left, right = index[: len(rows)].astype(np.int64), index[len(rows) :].astype(np.int64)
    if (left == right).any():
        raise SizewiseError(
            f"{source} compares {names[left[left == right][0]]} with itself.", "two different candidates", ""
        )
    return _PairVotes(names, left, right, np.array([SHARES[row["winner"]] for row in rows]))


def rank_rows(rows: list[dict[str, str]], source: str, seed: int = 0) -> Ranking:
    """Rank candidates by pairwise votes; see `rank`.

    Args:
        rows: left, right, winner; optionally rater and item.
        source: where the votes come from, for messages.
        seed: seed of the resampling.
    """
    votes = _parse_votes(rows, source)
    wins = win_matrix(votes.left, votes.right, votes.share, np.ones(len(rows)), len(votes.names))
    linked = _connected(wins)
    raters, prompts = _groups(rows, RATER_COLUMNS), _groups(rows, PROMPT_COLUMNS)
    known = [(word, group) for word, group in (("raters", raters), ("prompts", prompts)) if group is not None]
    clustered = [(word, group) for word, group in known if group.max() > 0]
    notes = [
        f"only {int(group.max()) + 1} {word}: intervals are rough"
        for word, group in clustered
        if group.max() + 1 < FEW_GROUPS
    ]
    if not linked:
        notes.append("the votes don't link all candidates, so some strengths can't be compared")
    if not clustered:
        notes.append("no rater or prompt column: every vote is treated as independent of the others")
    decided = int((votes.share != 0.5).sum())
    return Ranking(
        source=source,
        votes=len(rows),
        ties=len(rows) - decided,
        both_bad=sum(row["winner"] == "both_bad" for row in rows),
        raters=None if raters is None else int(raters.max()) + 1,
        prompts=None if prompts is None else int(prompts.max()) + 1,
        resampled=tuple(word for word, _ in clustered) or ("votes",),
        left_share=proportion_score(
            "left_share",
            int((votes.share == 1).sum()),
            decided,
            signature="wilson|ties left out",
            missing_reason="all votes are ties",
        ),
        table=tuple(_ranked(votes, wins, linked, clustered, seed)),
        notes=tuple(notes),
    )


def _ranked(
    votes: _PairVotes, wins: np.ndarray, linked: bool, clustered: Sequence[tuple[str, np.ndarray]], seed: int
) -> list[Ranked]:
    """Estimate strengths and ranks with intervals, the strongest candidate first."""
    count = len(votes.names)
    # An unbeaten candidate would get all the strength: the weak prior of the resamples keeps it inside its interval.
    strengths = bradley_terry(wins if linked else wins + PRIOR * (1 - np.eye(count)))
    groups = tuple(group for _, group in clustered)
    samples = resampled_strengths(votes.left, votes.right, votes.share, groups, count, ROUNDS, seed)
    sampled_ranks, ranks = ranks_of(samples), ranks_of(strengths)
    counts, won = wins.sum(axis=1) + wins.sum(axis=0), wins.sum(axis=1)
    signature = f"ties:half|bootstrap:{'x'.join(word for word, _ in clustered) or 'votes'}"
    table = []
    for i in np.argsort(-strengths):
        ci_low, ci_high = percentile_interval(samples[:, i])
        first, last = np.quantile(sampled_ranks[:, i], [0.025, 0.975], method="nearest")
        table.append(
            Ranked(
                name=str(votes.names[i]),
                score=Score(
                    metric="bradley_terry",
                    value=float(strengths[i]),
                    ci_low=float(ci_low),
                    ci_high=float(ci_high),
                    n=int(counts[i]),
                    unit="share of strength",
                    signature=signature,
                ),
                rank=int(ranks[i]),
                ranks=(int(first), int(last)),
                win_rate=proportion_score("win_rate", float(won[i]), int(counts[i])),
            )
        )
    return table


def _connected(wins: np.ndarray) -> bool:
    """Check for a chain of wins from each candidate to every other; without one, some strengths are infinite."""
    from scipy.sparse.csgraph import connected_components

    return int(connected_components(wins > 0, directed=True, connection="strong")[0]) == 1


def agreement(path: Path, level: Level = "nominal", seed: int = 0) -> Agreement:
    """Compute how far raters agree beyond chance.

    Args:
        path: CSV with `rater`, `item`, `label`.
        level: level of measurement of the labels.
        seed: seed of the resampling.

    Raises:
        SizewiseError: the file doesn't have this form, or no item was rated by two raters.
    """
    if level not in get_args(Level):
        raise UsageError(f"'{level}' is not a level of measurement.", " or ".join(get_args(Level)), "")
    return agree_rows(_rows(path, ("rater", "item", "label")), path.name, level, seed)


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


def agree_rows(rows: list[dict[str, str]], source: str, level: Level = "nominal", seed: int = 0) -> Agreement:
    """Compute how far raters agree beyond chance; see `agreement`.

    Args:
        rows: rater, item, label.
        source: where the ratings come from, for messages.
        level: level of measurement of the labels.
        seed: seed of the resampling.
    """
    if len({(row["rater"], row["item"]) for row in rows}) < len(rows):
        raise SizewiseError(f"{source} has two ratings of one item by one rater.", "one rating per rater and item", "")
    raters, rater = np.unique([row["rater"] for row in rows], return_inverse=True)
    items, item = np.unique([row["item"] for row in rows], return_inverse=True)
    labels, values = _ordered_labels(sorted({row["label"] for row in rows}), level, source)
    index = {name: i for i, name in enumerate(labels)}
    label = np.array([index[row["label"]] for row in rows])
    counts = np.zeros((len(items), len(labels)))
    np.add.at(counts, (item, label), 1)
    several = int((counts.sum(axis=1) > 1).sum())
    if not several:
        raise SizewiseError(
            f"No item of {source} was rated twice, so agreement can't be measured.",
            "items with two ratings or more",
            "",
        )
    ratings = _Ratings(raters, rater, item, label, counts)
    notes = [f"only {several} items: intervals are rough"] if several < FEW_GROUPS else []
    if (counts.sum(axis=0) > 0).sum() == 1:
        notes.append("there is only one label, so agreement beyond chance can't be measured")
    return Agreement(
        source=source,
        ratings=len(rows),
        raters=len(raters),
        items=several,
        labels=tuple(labels),
        level=level,
        scores=_coefficients(ratings, level, values, seed),
        against_the_rest=_against_the_rest(ratings),
        notes=tuple(notes),
    )


def _coefficients(ratings: _Ratings, level: Level, values: np.ndarray, seed: int) -> dict[str, Score]:
    counts = ratings.counts
    several = int((counts.sum(axis=1) > 1).sum())
    alpha = partial(coefficients.alpha, level=level, values=values)
    shares = coefficients.fleiss_sums(counts)
    scores = {
        "krippendorff_alpha": _coefficient(
            f"krippendorff_alpha|{level}", coefficients.alpha_sums(counts), alpha, several, seed
        ),
        "fleiss_kappa": _coefficient("fleiss_kappa", shares, coefficients.fleiss, several, seed),
        "gwet_ac1": _coefficient("gwet_ac1", shares, coefficients.gwet, several, seed),
    }
    if len(ratings.raters) == 2:
        both = [np.full(len(counts), -1) for _ in ratings.raters]
        for r, i, k in zip(ratings.rater, ratings.item, ratings.label, strict=True):
            both[r][i] = k
        common = (both[0] >= 0) & (both[1] >= 0)
        tables = coefficients.cohen_sums(both[0][common], both[1][common], counts.shape[1])
        scores["cohen_kappa"] = _coefficient("cohen_kappa", tables, coefficients.cohen, int(common.sum()), seed)
    return scores


def _against_the_rest(ratings: _Ratings) -> dict[str, Score]:
    """Compute how often each rater's labels match the other ratings of the same items."""
    found = {}
    for index, name in enumerate(ratings.raters):
        mine = ratings.rater == index
        labels = ratings.label[mine]
        others = ratings.counts[ratings.item[mine]]
        others[np.arange(mine.sum()), labels] -= 1
        if total := int(others.sum()):
            same = float(others[np.arange(mine.sum()), labels].sum())
            found[str(name)] = proportion_score("same_as_others", same, total)
    return found


def _ordered_labels(labels: list[str], level: Level, source: str) -> tuple[list[str], np.ndarray]:
    """Sort labels, by value if all are numbers, and return them with their numeric values."""
    if len(labels) > MAX_LABELS:
        raise SizewiseError(f"{source} has {len(labels)} different labels.", f"at most {MAX_LABELS}", "")
    try:
        numbers = sorted((float(label), label) for label in labels)
        if not all(isfinite(number) for number, _ in numbers):
            raise ValueError("not a number")
    except ValueError:
        if level != "nominal":
            raise SizewiseError(
                f"{source} has labels that are not numbers.",
                f"numbers, for agreement of {level} labels",
                "--level nominal",
            ) from None
        return labels, np.arange(len(labels), dtype=np.float64)
    return [label for _, label in numbers], np.array([number for number, _ in numbers])


def _coefficient(
    signature: str,
    sums: np.ndarray,
    value: Callable[[np.ndarray], np.ndarray],
    n: int,
    seed: int,
) -> Score:
    name = signature.partition("|")[0]
    point = float(value(sums.sum(axis=0)))
    if not isfinite(point):
        return Score(
            metric=name,
            n=n,
            unit="agreement",
            signature=signature,
            missing_reason="there is only one label",
        )
    ci_low, ci_high = percentile_interval(coefficients.resampled(sums, value, ROUNDS, seed))
    return Score(
        metric=name,
        value=point,
        ci_low=ci_low if isfinite(ci_low) else None,
        ci_high=ci_high if isfinite(ci_high) else None,
        n=n,
        unit="agreement",
        signature=f"{signature}|bootstrap:items",
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
    design effect of Kish (1965) accounts for.

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
    if not 0 < detect < 0.5 or not 0 < power < 1 or not 0 < alpha < 1 or not 0 <= tie_share < 1:
        raise UsageError(
            f"Can't plan a round with detect={detect:g}, power={power:g}, alpha={alpha:g} and {tie_share:g} ties.",
            "0 < detect < 0.5, and shares between 0 and 1",
            "sizewise judge plan --detect 0.1",
        )
    if votes_per_item > raters or min(raters, votes_per_item) < 1:
        raise UsageError(
            f"Each item needs {votes_per_item} raters, but there are {raters}.",
            "at least as many raters as votes on an item",
            "",
        )
    variance = (1 - tie_share) / 4
    variance_if_different = max(variance - detect**2, 0.0)
    z_alpha, z_power = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))
    effective = ((z_alpha * sqrt(variance) + z_power * sqrt(variance_if_different)) / detect) ** 2
    votes = ceil(effective * (1 + (votes_per_item - 1) * item_correlation))
    items = ceil(votes / votes_per_item)
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
