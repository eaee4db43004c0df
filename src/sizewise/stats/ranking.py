"""Bradley-Terry ranking from pairwise votes.

Source: Bradley and Terry (1952), Rank analysis of incomplete block designs. Standard errors are sandwich estimates as
in arena-rank, with votes clustered by rater and by document (`stats.crossed`). Ranks come from simultaneous intervals
of all differences: Tukey (1953) and Kramer (1956), conservative for unequal variances (Hayter, 1984).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, pinvh
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, logsumexp, softmax
from scipy.stats import studentized_range

from sizewise.stats.crossed import Crossed, Quantile, Reading, crossed, quantile
from sizewise.stats.inference import LEVEL, MIN_CLUSTERS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MAX_STEPS, TOLERANCE = 200, 1e-12
PRIOR = 0.5
"""Imagined wins, and as many losses, of each item against the average of the others."""
MIN_EFFECTIVE = MIN_CLUSTERS / 2
"""Effective number of source documents below which no difference is claimed: with fewer, their spread is unknown."""
MAX_GROUPS = 1_000
"""Number of groups that documents are dealt to for their effective number."""
FREEDOMS = (1.0, 2.0, 4.0, 10.0, 40.0, 1e6)
"""Degrees of freedom between which quantiles of the studentized range are interpolated."""


def win_matrix(left: IntArray, right: IntArray, share: FloatArray, items: int) -> FloatArray:
    """Sum votes into a matrix of how often the row won against the column, (items, items).

    Args:
        left: (votes,) index of the left item.
        right: (votes,) index of the right item.
        share: (votes,) share of the vote that went to the left item: 1 if it won, 0.5 for a tie.
        items: number of ranked items.
    """
    won = np.bincount(left * items + right, share, items * items)
    won += np.bincount(right * items + left, 1 - share, items * items)
    return won.reshape(items, items).astype(np.float64)


def linked(wins: FloatArray, least: float = 0.0) -> bool:
    """Check for a chain of wins from each item to every other; without one, some strengths are infinite.

    Args:
        wins: (items, items) how often the row won against the column.
        least: number of wins that a link of the chain takes; by default any share of a vote.
    """
    links = wins > 0 if least <= 0 else wins > least - 1e-9
    return int(connected_components(links, directed=True, connection="strong")[0]) == 1


def needs_prior(wins: FloatArray) -> bool:
    """Check whether strengths rest on `prior_wins`: some items won less than one vote against all others.

    Soft preferences near 0 and 1 leave fractions of wins. Without the prior they would make strengths nearly infinite,
    and their intervals unbounded, although they say the same as votes that one side always won.
    """
    return not linked(wins, 1.0)


def prior_wins(items: int) -> FloatArray:
    """Return imagined wins that keep strengths finite: each item wins and loses PRIOR in all."""
    return PRIOR / (items - 1) * (1 - np.eye(items))


def bradley_terry(wins: FloatArray) -> FloatArray:
    """Fit maximum-likelihood strengths that sum to one, (items, items) -> (items,).

    The probability that i beats j is its share of their combined strength. Newton's method, with steps that are halved
    until the likelihood grows.

    Raises:
        ValueError: some item never won or never lost against the others, so that the strengths are infinite.
    """
    if not linked(wins):
        raise ValueError("bradley_terry needs a chain of wins from each item to every other; add prior_wins")
    games = wins + wins.T

    def log_likelihood(logs: FloatArray) -> float:
        return float((wins * -np.logaddexp(0, logs[None, :] - logs[:, None])).sum())

    logs = np.zeros(len(wins))
    reached = log_likelihood(logs)
    for _ in range(MAX_STEPS):
        probability = expit(logs[:, None] - logs[None, :])
        gradient = wins.sum(axis=1) - (games * probability).sum(axis=1)
        # The likelihood doesn't depend on the mean of the logs; adding ones fixes it.
        step = cho_solve(cho_factor(_information(games, probability) + 1 / len(wins)), gradient)
        step *= min(1.0, 3 / max(float(np.abs(step).max()), 1e-300))
        while (there := log_likelihood(logs + step)) < reached - 1e-9 * abs(reached):
            step /= 2
        logs, reached = logs + step, there
        if np.abs(step).max() < TOLERANCE:
            break
    return np.asarray(softmax(logs), dtype=np.float64)


def _information(games: FloatArray, probability: FloatArray) -> FloatArray:
    weights = games * probability * (1 - probability)
    return np.asarray(np.diag(weights.sum(axis=1)) - weights, dtype=np.float64)


class Fitted(NamedTuple):
    """Strengths with their uncertainty."""

    strengths: FloatArray
    """(items,) strengths that sum to one."""
    ci_low: FloatArray
    ci_high: FloatArray
    first: IntArray
    """(items,) best rank of each item that the votes don't rule out."""
    last: IntArray
    """(items,) worst rank."""
    standard_errors: FloatArray
    """(items,) of the logarithms of the strengths, whose mean is zero."""
    certain: npt.NDArray[np.bool_]
    """(items,) whether enough source documents are behind the interval."""


class Votes(NamedTuple):
    """Votes as arrays, one element per vote."""

    left: IntArray
    """Index of the left item."""
    right: IntArray
    """Index of the right item."""
    share: FloatArray
    """Share of the vote that went to the left item."""
    raters: IntArray | None
    """Rater; None if raters are not a sample."""
    documents: IntArray
    """Source document."""


def fit_strengths(votes: Votes, items: int, reading: Reading = "once") -> Fitted:
    """Fit strengths, with an interval and a range of ranks for each item.

    Memory and time don't grow with votes times rounds: the votes enter as win matrix and as sums by cluster. Items that
    the votes don't link by wins, directly or through others, get strengths from a weak prior, see `needs_prior`.

    Args:
        votes: the votes.
        items: number of ranked items.
        reading: how often the ranking is read, see `stats.crossed`.
    """
    wins = win_matrix(votes.left, votes.right, votes.share, items)
    imagined = prior_wins(items)
    if needs_prior(wins):
        wins = wins + imagined
    strengths = bradley_terry(wins)
    logs = np.log(strengths)
    probability = expit(logs[:, None] - logs[None, :])
    bread: FloatArray = np.asarray(pinvh(_information(wins + wins.T, probability)), dtype=np.float64)
    residual = votes.share - probability[votes.left, votes.right]
    places = np.arange(len(residual))
    contributions = csr_array(
        (
            np.concatenate([residual, -residual]),
            (np.concatenate([places, places]), np.concatenate([votes.left, votes.right])),
        ),
        shape=(len(residual), items),
    )
    found = crossed(contributions, votes.raters, votes.documents, _prior_variance(imagined, probability))
    links = _links(votes, probability)
    # Contrast i is the logit of strength i, whose interval stays within 0 and 1.
    others = strengths / (1 - strengths)[:, None]
    contrasts = np.where(np.eye(items) > 0, 1.0, -others) @ bread
    documents = links.documents_behind(contrasts)
    variance, freedom = found.variance(contrasts, documents)
    by = quantile(found, freedom, reading)
    half = by.errors * np.sqrt(variance)
    logit = logs - np.array([logsumexp(np.delete(logs, i)) for i in range(items)])
    centered = np.eye(items) - 1 / items
    first, last = _ranks(logs, bread, found, links, reading)
    return Fitted(
        strengths,
        np.minimum(expit(logit - half), strengths),
        np.maximum(expit(logit + half), strengths),
        first,
        last,
        np.sqrt(found.variance(centered @ bread)[0]),
        links.suffices & (documents >= MIN_EFFECTIVE),
    )


def _prior_variance(imagined: FloatArray, probability: FloatArray) -> FloatArray:
    """Compute the squared contributions of the imagined votes, (items, items)."""
    squares = imagined * (1 - probability) ** 2
    squares = squares + squares.T
    return np.asarray(np.diag(squares.sum(axis=1)) - squares, dtype=np.float64)


class _Links(NamedTuple):
    """Which votes link the items, by pair and source document."""

    pairs: IntArray
    """(pairs, 2) items of each pair with votes."""
    deviations: csr_array
    """(pairs, documents) standard deviations of the votes on each pair and document, summed."""
    suffices: npt.NDArray[np.bool_]
    """(items,) whether the votes on an item cover MIN_CLUSTERS documents."""
    component: IntArray
    """(items,) number of the set of items that votes link, directly or through others."""

    def documents_behind(self, influence: FloatArray) -> FloatArray:
        """Compute the effective number of documents behind estimates, (m, items) -> (m,).

        A document counts with the variance that its votes would add if they all agreed (Carter, Schnepel and
        Steigerwald, 2017). So where many votes link two items through one document, it counts as one, however many
        documents there are elsewhere.
        """
        weights = np.abs(influence[:, self.pairs[:, 0]] - influence[:, self.pairs[:, 1]])
        added = np.square(np.asarray((self.deviations.T @ weights.T).T, dtype=np.float64))
        largest = added.max(axis=1, keepdims=True)
        shares = added / np.where(largest > 0, largest, 1.0)
        found: FloatArray = shares.sum(axis=1) ** 2 / np.maximum(np.square(shares).sum(axis=1), 1.0)
        return found


def _links(votes: Votes, probability: FloatArray) -> _Links:
    items = len(probability)
    documents = np.unique(votes.documents, return_inverse=True)[1]
    sides = np.minimum(votes.left, votes.right), np.maximum(votes.left, votes.right)
    codes, pair = np.unique(sides[0] * items + sides[1], return_inverse=True)
    pairs = np.column_stack([codes // items, codes % items])
    weights = np.sqrt(probability * (1 - probability))[sides]
    groups = documents % MAX_GROUPS
    deviations = csr_array((weights, (pair, groups)), shape=(len(codes), int(groups.max()) + 1))
    seen = np.unique(np.concatenate([side * (documents.max() + 1) + documents for side in sides]))
    covered = np.bincount(seen // (documents.max() + 1), minlength=items)
    graph = csr_array((np.ones(len(codes)), (pairs[:, 0], pairs[:, 1])), shape=(items, items))
    component = connected_components(graph, directed=False)[1].astype(np.int64)
    return _Links(pairs, deviations, covered >= MIN_CLUSTERS, component)


def _ranks(
    logs: FloatArray, bread: FloatArray, found: Crossed, links: _Links, reading: Reading
) -> tuple[IntArray, IntArray]:
    """Compute the best and worst rank of each item from simultaneous intervals of all differences.

    No difference counts whose items have votes on fewer than MIN_CLUSTERS documents, which fewer than MIN_EFFECTIVE
    documents carry, or that no votes link.
    """
    items = len(logs)
    ahead = np.zeros((items, items), dtype=bool)
    for i in range(items):
        contrasts = (np.eye(items)[i] - np.eye(items)) @ bread
        documents = links.documents_behind(contrasts)
        variance, freedom = found.variance(contrasts, documents)
        by = quantile(found, freedom, reading)
        half = _simultaneous(by, items) * np.sqrt(variance)
        enough = links.suffices & links.suffices[i] & (links.component == links.component[i])
        ahead[i] = (logs[i] - logs > half) & enough & (documents >= MIN_EFFECTIVE)
        ahead[i, i] = False
    return 1 + ahead.sum(axis=0), items - ahead.sum(axis=1)


def _simultaneous(by: Quantile, items: int) -> FloatArray:
    """Compute how many standard errors the intervals of all differences extend at once."""
    # In 1 / df the logarithms of the quantiles are nearly straight between neighboring values.
    inverse, logs = _range_quantiles(items, LEVEL / by.p_factor)
    interpolated = np.exp(np.interp(1 / by.freedom, inverse, logs))
    return np.asarray(interpolated * by.widening, dtype=np.float64)


@cache
def _range_quantiles(items: int, level: float) -> tuple[FloatArray, FloatArray]:
    freedoms = np.array(FREEDOMS)
    quantiles = studentized_range.ppf(1 - level, items, freedoms) / np.sqrt(2)
    return 1 / freedoms[::-1], np.log(quantiles[::-1])


def ranks_of(strengths: FloatArray) -> IntArray:
    """Rank items by strength, starting at 1 for the strongest; equal items share a rank: (items,)."""
    return np.asarray(1 + (strengths[None, :] > strengths[:, None] * (1 + 1e-9)).sum(axis=1), dtype=np.int64)
