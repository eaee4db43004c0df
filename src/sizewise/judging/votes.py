"""rank(), agreement() and plan(): anybody's votes, from a CSV file."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, isfinite, sqrt
from pathlib import Path
from typing import get_args

import numpy as np
from scipy.stats import norm

from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Agreement, JudgePlan, Ranked, Ranking, Score
from sizewise.stats import agreement as coefficients
from sizewise.stats import percentile_interval, wilson
from sizewise.stats.agreement import Level
from sizewise.stats.ranking import PRIOR, bradley_terry, ranks_of, resampled_strengths, win_matrix

ROUNDS = 1_000
FEW_GROUPS = 20
SHARES = {"left": 1.0, "right": 0.0, "tie": 0.5, "both_bad": 0.5}
RATER_COLUMNS = ("rater", "worker", "annotator", "judge")
PROMPT_COLUMNS = ("item", "prompt", "question")
MOST_LABELS = 200
REPEAT_SHARE = 0.1


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file with the columns that are needed.

    Blanks around a value, and how its letters are composed, make no other label or name.

    Raises:
        SizewiseError: it cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"it has no column {' or '.join(missing)}, but {', '.join(reader.fieldnames or ())}")
            rows = []
            for read in reader:
                row = {key: _plain(value) for key, value in read.items() if key is not None}
                if any(not row[name] for name in needed):
                    raise ValueError(f"line {reader.line_num} has no {next(n for n in needed if not row[n])}")
                rows.append(row)
    except (OSError, ValueError, csv.Error) as error:
        raise SizewiseError(
            f"{path} cannot be read: {error}.", f"a CSV file with the columns {', '.join(needed)}", ""
        ) from error
    if not rows:
        raise SizewiseError(f"{path} has no rows.", "votes", "")
    return rows


def _plain(value: str | None) -> str:
    return unicodedata.normalize("NFC", (value or "").strip())


def _groups(rows: list[dict[str, str]], names: Sequence[str]) -> np.ndarray | None:
    """Give the group of each row by the first column that is there and filled; None without."""
    name = next((name for name in names if all(row.get(name) for row in rows)), None)
    if name is None:
        return None
    return np.unique([row[name] for row in rows], return_inverse=True)[1].astype(np.int64)


def rank(path: Path, seed: int = 0) -> Ranking:
    """Rank what was compared in pairs.

    Args:
        path: CSV with `left`, `right`, `winner` (left, right, tie or both_bad), perhaps `rater` and `item`.
        seed: seed of the resampling.

    Raises:
        SizewiseError: the file is not of this form.
    """
    return rank_rows(_rows(path, ("left", "right", "winner")), path.name, seed)


def rank_rows(rows: list[dict[str, str]], source: str, seed: int = 0) -> Ranking:
    """Rank what was compared in pairs; see `rank`.

    Args:
        rows: left, right, winner; perhaps rater and item.
        source: where they come from.
        seed: seed of the resampling.
    """
    wrong = next((row["winner"] for row in rows if row["winner"] not in SHARES), None)
    if wrong is not None:
        raise SizewiseError(f"{source} has the winner '{wrong}'.", " or ".join(SHARES), "")
    names, places = np.unique([row["left"] for row in rows] + [row["right"] for row in rows], return_inverse=True)
    left, right = places[: len(rows)].astype(np.int64), places[len(rows) :].astype(np.int64)
    if (left == right).any():
        raise SizewiseError(f"{source} compares {names[left[left == right][0]]} with itself.", "two different ones", "")
    share = np.array([SHARES[row["winner"]] for row in rows])
    wins = win_matrix(left, right, share, np.ones(len(rows)), len(names))
    linked = _connected(wins)
    # Somebody unbeaten would have all strength: the weak prior of the resamples keeps it within its interval.
    strengths = bradley_terry(wins if linked else wins + PRIOR * (1 - np.eye(len(names))))
    raters, prompts = _groups(rows, RATER_COLUMNS), _groups(rows, PROMPT_COLUMNS)
    known = [(word, group) for word, group in (("raters", raters), ("prompts", prompts)) if group is not None]
    kept = [(word, group) for word, group in known if group.max() > 0]
    notes = [
        f"only {int(group.max()) + 1} {word}: intervals are rough"
        for word, group in kept
        if group.max() + 1 < FEW_GROUPS
    ]
    if not linked:
        notes.append("not all are linked by votes: some strengths cannot be compared")
    if not kept:
        notes.append("raters and prompts are not named: every vote is taken as independent of the others")
    samples = resampled_strengths(left, right, share, tuple(group for _, group in kept), len(names), ROUNDS, seed)
    sampled_ranks = ranks_of(samples)
    ranks = ranks_of(strengths)
    counts, won = wins.sum(axis=1) + wins.sum(axis=0), wins.sum(axis=1)
    table = []
    for i in np.argsort(-strengths):
        ci_low, ci_high = percentile_interval(samples[:, i])
        first, last = np.quantile(sampled_ranks[:, i], [0.025, 0.975], method="nearest")
        rate_low, rate_high = wilson(float(won[i]), int(counts[i]))
        table.append(
            Ranked(
                name=str(names[i]),
                score=_score(
                    "bradley_terry", float(strengths[i]), ci_low, ci_high, int(counts[i]), "share of strength", kept
                ),
                rank=int(ranks[i]),
                ranks=(int(first), int(last)),
                win_rate=_score("win_rate", won[i] / counts[i], rate_low, rate_high, int(counts[i]), "share", []),
            )
        )
    decided = int((share != 0.5).sum())
    left_won = int((share == 1).sum())
    side = wilson(left_won, decided) if decided else None
    return Ranking(
        source=source,
        votes=len(rows),
        ties=len(rows) - decided,
        both_bad=sum(row["winner"] == "both_bad" for row in rows),
        raters=None if raters is None else int(raters.max()) + 1,
        prompts=None if prompts is None else int(prompts.max()) + 1,
        resampled=tuple(word for word, _ in kept) or ("votes",),
        left_share=Score(metric="left_share", n=0, unit="share", signature="wilson", missing_reason="all votes are ties")
        if side is None
        else Score(
            metric="left_share", value=left_won / decided, ci_low=side[0], ci_high=side[1], n=decided, unit="share",
            signature="wilson|ties left out",
        ),
        table=tuple(table),
        notes=tuple(notes),
    )  # fmt: skip


def _score(
    name: str, value: float, ci_low: float, ci_high: float, n: int, unit: str, kept: Sequence[tuple[str, object]]
) -> Score:
    way = f"ties:half|bootstrap:{'x'.join(word for word, _ in kept) or 'votes'}" if name != "win_rate" else "wilson"
    return Score(
        metric=name, value=float(value), ci_low=float(ci_low), ci_high=float(ci_high), n=n, unit=unit, signature=way
    )


def _connected(wins: np.ndarray) -> bool:
    """Tell whether there is a chain of wins from each to each: only then all strengths are finite."""
    from scipy.sparse.csgraph import connected_components

    return int(connected_components(wins > 0, directed=True, connection="strong")[0]) == 1


def agreement(path: Path, level: Level = "nominal", seed: int = 0) -> Agreement:
    """Say how far raters agree.

    Args:
        path: CSV with `rater`, `item`, `label`.
        level: what a difference between labels means.
        seed: seed of the resampling.

    Raises:
        SizewiseError: the file is not of this form, or nobody rated what another did.
    """
    if level not in get_args(Level):
        raise UsageError(f"'{level}' is no level.", " or ".join(get_args(Level)), "")
    return agree_rows(_rows(path, ("rater", "item", "label")), path.name, level, seed)


def agree_rows(rows: list[dict[str, str]], source: str, level: Level = "nominal", seed: int = 0) -> Agreement:
    """Say how far raters agree; see `agreement`.

    Args:
        rows: rater, item, label.
        source: where they come from.
        level: what a difference between labels means.
        seed: seed of the resampling.
    """
    if len({(row["rater"], row["item"]) for row in rows}) < len(rows):
        raise SizewiseError(f"{source} has two ratings of one item by one rater.", "one rating each", "")
    raters, rater = np.unique([row["rater"] for row in rows], return_inverse=True)
    items, item = np.unique([row["item"] for row in rows], return_inverse=True)
    labels, values = _ordered_labels(sorted({row["label"] for row in rows}), level, source)
    place = {name: i for i, name in enumerate(labels)}
    label = np.array([place[row["label"]] for row in rows])
    counts = np.zeros((len(items), len(labels)))
    np.add.at(counts, (item, label), 1)
    several = int((counts.sum(axis=1) > 1).sum())
    if not several:
        raise SizewiseError(
            f"No item of {source} was rated twice: agreement cannot be seen.", "items with two ratings or more", ""
        )
    alpha = partial(coefficients.alpha, level=level, values=values)
    shares = coefficients.fleiss_sums(counts)
    scores = {
        "krippendorff_alpha": _coefficient(
            f"krippendorff_alpha|{level}", coefficients.alpha_sums(counts), alpha, several, seed
        ),
        "fleiss_kappa": _coefficient("fleiss_kappa", shares, coefficients.fleiss, several, seed),
        "gwet_ac1": _coefficient("gwet_ac1", shares, coefficients.gwet, several, seed),
    }
    if len(raters) == 2:
        both = [np.full(len(items), -1) for _ in raters]
        for r, i, k in zip(rater, item, label, strict=True):
            both[r][i] = k
        common = (both[0] >= 0) & (both[1] >= 0)
        tables = coefficients.cohen_sums(both[0][common], both[1][common], len(labels))
        scores["cohen_kappa"] = _coefficient("cohen_kappa", tables, coefficients.cohen, int(common.sum()), seed)
    rest = {}
    for r, name in enumerate(raters):
        own = rater == r
        others = counts[item[own]]
        others[np.arange(own.sum()), label[own]] -= 1
        total = int(others.sum())
        same = float(others[np.arange(own.sum()), label[own]].sum())
        if total:
            ci_low, ci_high = wilson(same, total)
            rest[str(name)] = Score(
                metric="same_as_others",
                value=same / total,
                ci_low=ci_low,
                ci_high=ci_high,
                n=total,
                unit="share",
                signature="wilson",
            )
    notes = [f"only {several} items: intervals are rough"] if several < FEW_GROUPS else []
    if (counts.sum(axis=0) > 0).sum() == 1:
        notes.append("there is one label only: agreement beyond chance cannot be seen")
    return Agreement(
        source=source,
        ratings=len(rows),
        raters=len(raters),
        items=several,
        labels=tuple(labels),
        level=level,
        scores=scores,
        against_the_rest=rest,
        notes=tuple(notes),
    )


def _ordered_labels(labels: list[str], level: Level, source: str) -> tuple[list[str], np.ndarray]:
    """Give labels in their order, and their numbers."""
    if len(labels) > MOST_LABELS:
        raise SizewiseError(f"{source} has {len(labels)} different labels.", f"at most {MOST_LABELS}", "")
    try:
        numbers = sorted((float(label), label) for label in labels)
        if not all(isfinite(number) for number, _ in numbers):
            raise ValueError("not a number")
    except ValueError:
        if level != "nominal":
            raise SizewiseError(
                f"{source} has labels that are no numbers.",
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
            missing_reason="there is one label only",
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


def plan(
    detect: float,
    power: float = 0.8,
    *,
    alpha: float = 0.05,
    raters: int = 3,
    votes_an_item: int = 1,
    tie_share: float = 0.3,
    item_correlation: float = 0.2,
    seconds_a_vote: float = 20.0,
) -> JudgePlan:
    """Say how many votes on pairs are needed.

    The test is that of a win rate against one half, a tie counting one half; votes on one item are alike, which the
    design effect of Kish (1965) accounts for.

    Args:
        detect: how far from one half the win rate must be to be found: 0.1 is a win rate of 60 %.
        power: chance of finding it.
        alpha: chance of finding one where there is none.
        raters: number of raters.
        votes_an_item: raters that see each item.
        tie_share: share of ties.
        item_correlation: correlation between two votes on one item.
        seconds_a_vote: time of a vote.

    Raises:
        UsageError: a number is out of its range.
    """
    if not 0 < detect < 0.5 or not 0 < power < 1 or not 0 < alpha < 1 or not 0 <= tie_share < 1:
        raise UsageError(
            "There is no such plan.", "0 < detect < 0.5, and shares between 0 and 1", "sizewise judge plan --detect 0.1"
        )
    if votes_an_item > raters or min(raters, votes_an_item) < 1:
        raise UsageError(f"{votes_an_item} of {raters} raters cannot see each item.", "at least as many raters", "")
    even = (1 - tie_share) / 4
    apart = max(even - detect**2, 0.0)
    z_alpha, z_power = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))
    effective = ((z_alpha * sqrt(even) + z_power * sqrt(apart)) / detect) ** 2
    votes = ceil(effective * (1 + (votes_an_item - 1) * item_correlation))
    items = ceil(votes / votes_an_item)
    votes = items * votes_an_item
    repeats = ceil(votes * REPEAT_SHARE)
    return JudgePlan(
        detect=detect,
        power=power,
        alpha=alpha,
        tie_share=tie_share,
        item_correlation=item_correlation,
        raters=raters,
        votes_per_item=votes_an_item,
        items=items,
        votes=votes,
        repeats=repeats,
        seconds_per_vote=seconds_a_vote,
        minutes_per_rater=(votes + repeats) * seconds_a_vote / 60 / raters,
    )
