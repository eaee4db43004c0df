"""rank(): a ranking of candidates from pairwise votes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sizewise.errors import SizewiseError
from sizewise.judging.labels import look_alikes
from sizewise.judging.vote_files import (
    Clusters,
    IntArray,
    cluster_votes,
    column_name,
    columns_of,
    read_rows,
    repeated_votes,
)
from sizewise.judging.vote_scores import clustering, rater_notes, raters_note, sampled_raters, vote_score
from sizewise.records import Ranked, Ranking, Score
from sizewise.stats import MIN_CLUSTERS
from sizewise.stats.crossed import Reading
from sizewise.stats.ranking import Votes, fit_strengths, needs_prior, ranks_of, win_matrix

SHARES = {"left": 1.0, "right": 0.0, "tie": 0.5, "both_bad": 0.5}
FEW_GROUPS = 20
MIN_CHANGED = 6
"""Votes on pairs shown in both orders from which on always choosing one side says something about a rater."""


def rank(path: Path, seed: int = 0) -> Ranking:
    """Rank candidates by pairwise votes, with Bradley-Terry strengths.

    Args:
        path: CSV with `left`, `right`, `winner` (left, right, tie or both_bad), and optionally `rater` and `item`
            (and `document`, where several items come from one), or columns with other usual names, see
            `vote_files`. A soft preference is a number from 0 to 1, the share of the vote that goes to the left side,
            as `winner` or `preference`.
        seed: has no effect, as nothing is drawn at random.

    Raises:
        SizewiseError: the file doesn't have this form.
    """
    votes = _parse_votes(read_rows(path, ("left", "right", ("winner", "preference"))), path.name)
    found = _rank_votes(votes, path.name, "once")
    notes = (*found.notes, *votes.notes, *_people_notes(votes), *_column_notes(votes.clusters))
    return found.model_copy(update={"notes": notes})


class _PairVotes(NamedTuple):
    """Votes on pairs as arrays, one element per vote."""

    names: list[str]
    """Candidates, sorted."""
    left: IntArray
    """Index of the left candidate."""
    right: IntArray
    """Index of the right candidate."""
    share: np.ndarray
    """1 where the left one won, 0 where it lost, 0.5 for a tie."""
    both_bad: int
    clusters: Clusters
    notes: tuple[str, ...] = ()

    @property
    def raters(self) -> IntArray | None:
        """Rater of each vote, if they are named."""
        return self.clusters.raters

    @property
    def documents(self) -> IntArray | None:
        """Source document of each vote, if they are named."""
        return self.clusters.documents


def _parse_votes(rows: Iterable[Mapping[str, str]], source: str) -> _PairVotes:
    columns = columns_of(rows)[0]
    sides = columns["left"], columns["right"]
    used = {sides[i].values[code] for i in (0, 1) for code in np.unique(sides[i].codes)}
    names = sorted(used)
    place = {name: i for i, name in enumerate(names)}
    left, right = (np.array([place.get(name, 0) for name in side.values])[side.codes] for side in sides)
    if (left == right).any():
        raise SizewiseError(
            f"{source} compares {names[left[left == right][0]]} with itself.",
            "two different candidates in each row",
            f"correct {source}",
        )
    share, both_bad, notes = np.full(len(left), 0.5), 0, []
    said = [columns[name] for name in ("winner", "preference") if name in columns]
    for column in said:
        read = np.array([0.5] + [_share(value, source) for value in column.values[1:]])[column.codes]
        both = column.codes > 0
        if column is not said[0]:
            both &= said[0].codes > 0
            _check_contradictions(share, read, both, source)
            if both.any():
                notes.append(f"votes with both a winner and a preference: {int(both.sum())}; the preference counts")
        share = np.where(column.codes > 0, read, share)
        bad = [i for i, value in enumerate(column.values) if column_name(value) == "both_bad"]
        both_bad += sum(int((column.codes == i).sum()) for i in bad)
    pairs = np.minimum(left, right) * len(names) + np.maximum(left, right)
    if again := repeated_votes(columns, pairs):
        notes.append(f"votes on an item and pair that the same rater had judged before: {again:,}; all of them count")
    return _PairVotes(names, left, right, share, both_bad, cluster_votes(columns), tuple(notes))


def _check_contradictions(winner: np.ndarray, preference: np.ndarray, both: np.ndarray, source: str) -> None:
    """Refuse votes whose winner and preference name different sides.

    Args:
        winner: share of each vote for the left side by its winner.
        preference: the same by its preference.
        both: which votes have both.
        source: where the votes come from.
    """
    opposite = np.flatnonzero(both & ((winner - 0.5) * (preference - 0.5) < 0))
    if len(opposite):
        first = int(opposite[0])
        side = "left" if winner[first] > 0.5 else "right"
        raise SizewiseError(
            f"Vote {first + 1} of {source} has the winner {side}, but its preference {preference[first]:g} is for the "
            f"other side; votes that contradict themselves: {len(opposite)}.",
            "a preference above 0.5 where the left side won, and below where the right one did",
            f"correct {source}, or remove one of the two columns",
        )


def _share(winner: str, source: str) -> float:
    """Return the share of a vote that goes to the left side."""
    if (word := column_name(winner)) in SHARES:
        return SHARES[word]
    try:
        share = float(winner.replace(",", "."))  # the decimal sign of many spreadsheets
    except ValueError:
        share = float("nan")
    if not 0 <= share <= 1:
        raise SizewiseError(
            f"{source} has the winner '{winner}'.", f"{', '.join(SHARES)}, or a number from 0 to 1", f"correct {source}"
        )
    return share


def rank_rows(rows: Iterable[Mapping[str, str]], source: str, reading: Reading = "once") -> Ranking:
    """Rank candidates by pairwise votes; see `rank`.

    Args:
        rows: left, right, winner (or preference); optionally rater, and item or document.
        source: where the votes come from, for messages.
        reading: "open" if more votes are coming in, so that the ranking is read more than once.
    """
    return _rank_votes(_parse_votes(rows, source), source, reading)


def _rank_votes(votes: _PairVotes, source: str, reading: Reading) -> Ranking:
    count = len(votes.share)
    raters = None if votes.raters is None else len(np.unique(votes.raters))
    prompts = None if votes.documents is None else len(np.unique(votes.documents))
    notes = list(_notes(votes, raters, prompts, count))
    units = [word for word, number in (("raters", raters or 0), ("prompts", prompts or 0)) if number > 1]
    return Ranking(
        source=source,
        votes=count,
        ties=int((votes.share == 0.5).sum()),
        both_bad=votes.both_bad,
        raters=raters,
        prompts=prompts,
        resampled=tuple(units) or ("votes",),
        left_share=_left_share(votes, reading),
        table=tuple(_table(votes, reading)),
        notes=tuple(notes),
    )


def _notes(votes: _PairVotes, raters: int | None, prompts: int | None, count: int) -> Iterable[str]:
    independent = count if prompts is None else prompts
    if independent < MIN_CLUSTERS:
        unit = "votes" if prompts is None else "different items"
        yield (
            f"{independent} {unit} are too few for intervals or different ranks; at least {MIN_CLUSTERS} are needed, "
            f"so {MIN_CLUSTERS - independent} more"
        )
    elif independent < FEW_GROUPS and prompts is not None:
        yield f"only {prompts} items: intervals are wide"
    few = _on_few_documents(votes)
    if few and independent >= MIN_CLUSTERS:
        yield (
            f"no difference is claimed for candidates with votes on fewer than {MIN_CLUSTERS} "
            f"{'votes' if prompts is None else 'items'}: {', '.join(few)}"
        )
    if needs_prior(win_matrix(votes.left, votes.right, votes.share, len(votes.names))):
        yield (
            "the votes don't link all candidates by at least one win, so strengths rest on a weak prior: each "
            "candidate wins half a vote and loses half a vote against the others"
        )
    if raters is not None and (note := raters_note(raters)):
        yield note
    yield from _side_note(votes)


def _side_note(votes: _PairVotes) -> Iterable[str]:
    """Note pairs of which one candidate was always on the left."""
    count = len(votes.names)
    shown = np.bincount(votes.left * count + votes.right, minlength=count * count).reshape(count, count)
    fixed = np.argwhere((shown >= MIN_CLUSTERS) & (shown.T == 0))
    if len(fixed):
        pairs = ", ".join(f"{votes.names[i]} of {votes.names[j]}" for i, j in fixed[:3])
        more = f" and {len(fixed) - 3} pairs more" if len(fixed) > 3 else ""
        yield (
            f"always on the left: {pairs}{more}; a preference for the left side can't be distinguished from one for "
            "these candidates, so show each pair on both sides"
        )


def _on_few_documents(votes: _PairVotes) -> list[str]:
    """List candidates with votes on fewer than MIN_CLUSTERS documents."""
    documents = _clusters(votes)[1]
    sides = [np.unique(np.column_stack([side, documents]), axis=0) for side in (votes.left, votes.right)]
    covered = np.bincount(np.unique(np.concatenate(sides), axis=0)[:, 0], minlength=len(votes.names))
    return [name for name, count in zip(votes.names, covered, strict=True) if count < MIN_CLUSTERS]


def _people_notes(votes: _PairVotes) -> Iterable[str]:
    """Note candidates and raters whose names look alike, and raters who cast most votes or always chose one side."""
    yield from look_alikes(votes.names, "candidates")
    if votes.raters is None:
        return
    names = votes.clusters.rater_names
    cast = np.bincount(votes.raters, minlength=len(names))[: len(names)]
    yield from rater_notes({name: int(cast[i]) for i, name in enumerate(names) if i and cast[i]})
    # Pairs that a rater saw in both orders, so that no candidate explains the choices.
    count = len(votes.names)
    shown, turned = (
        (votes.raters * count + one) * count + other
        for one, other in ((votes.left, votes.right), (votes.right, votes.left))
    )
    both = (votes.raters < len(names)) & np.isin(shown, turned)
    for side, chosen in (("left", votes.share > 0.5), ("right", votes.share < 0.5)):
        decided, same, changed = (
            np.bincount(votes.raters, which & (votes.raters < len(names)), minlength=len(names))[: len(names)]
            for which in (votes.share != 0.5, chosen, both & chosen)
        )
        found = np.flatnonzero((decided >= MIN_CLUSTERS) & (same == decided) & (changed >= MIN_CHANGED))
        if len(found):
            listed = ", ".join(f"{names[i]} ({decided[i]:.0f} votes)" for i in found[:3])
            more = f" and {len(found) - 3} raters more" if len(found) > 3 else ""
            yield f"always chose the {side} side: {listed}{more}"


def _column_notes(clusters: Clusters) -> Iterable[str]:
    """Note which columns of a file name raters and documents, and what the votes may share without a column."""
    yield from clusters.notes
    if clusters.documents is None:
        yield "no column 'item' or 'document': every vote is treated as a document of its own"
    if clusters.raters is None:
        yield "no column 'rater': intervals don't cover other raters"


def _clusters(votes: _PairVotes) -> tuple[IntArray | None, IntArray]:
    """Return raters, if they are enough to be a sample, and documents; without either, each vote is its own."""
    documents = np.arange(len(votes.share)) if votes.documents is None else votes.documents
    return None if votes.raters is None else sampled_raters(votes.raters), documents


def _left_share(votes: _PairVotes, reading: Reading) -> Score:
    decided = votes.share != 0.5
    raters, documents = _clusters(votes)
    return vote_score(
        "left_share",
        (votes.share > 0.5)[decided].astype(np.float64),
        np.zeros(int(decided.sum())) if raters is None else raters[decided],
        documents[decided],
        reading=reading,
        missing_reason="all votes are ties",
    )


def _table(votes: _PairVotes, reading: Reading) -> list[Ranked]:
    """Estimate strengths and ranks with intervals, the strongest candidate first."""
    count = len(votes.names)
    raters, documents = _clusters(votes)
    fitted = fit_strengths(Votes(votes.left, votes.right, votes.share, raters, documents), count, reading)
    ranks = ranks_of(fitted.strengths)
    signature = f"ties:half|sandwich:{clustering(raters is not None, reading)}"
    table = []
    for i in np.argsort(-fitted.strengths, kind="stable"):
        won = _win_rate(votes, int(i), raters, documents, reading)
        score = Score(
            metric="bradley_terry",
            value=float(fitted.strengths[i]),
            ci_low=float(fitted.ci_low[i]) if fitted.certain[i] else None,
            ci_high=float(fitted.ci_high[i]) if fitted.certain[i] else None,
            n=won.n,
            unit="share of strength",
            signature=signature,
            clusters=won.clusters,
        )
        between = (int(fitted.first[i]), int(fitted.last[i]))
        table.append(Ranked(name=votes.names[i], score=score, rank=int(ranks[i]), ranks=between, win_rate=won))
    return table


def _win_rate(
    votes: _PairVotes, candidate: int, raters: IntArray | None, documents: IntArray, reading: Reading
) -> Score:
    """Compute the share of a candidate's votes that it won."""
    on_left, on_right = votes.left == candidate, votes.right == candidate
    mine = on_left | on_right
    won = np.where(on_left, votes.share, 1 - votes.share)[mine]
    by = np.zeros(int(mine.sum())) if raters is None else raters[mine]
    return vote_score("win_rate", won, by, documents[mine], reading=reading)
