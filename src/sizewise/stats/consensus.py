"""Estimate the true label of items from the votes of several raters of unknown accuracy.

Source: Dawid and Skene (1979), Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm. With many
labels and few raters their full confusion matrices are poorly determined: on committees of three or four classifiers,
one accuracy per rater, with errors spread evenly over the other labels, gave likelier labels on Banking77 and SMS spam.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Method = Literal["vote", "accuracy", "confusion"]
MAX_STEPS, TOLERANCE = 100, 1e-5
PRIOR_RIGHT, PRIOR_WRONG = 4.0, 1.0
"""Imagined votes of each rater, right and wrong: raters are better than chance, and none is certain."""
FLOOR = 1e-3
"""Least probability that a stated one counts as: no rater rules a label out."""


class Consensus(NamedTuple):
    """Estimated labels of items, and how accurate each rater is."""

    probabilities: FloatArray
    """(items, labels) probability of each label."""
    accuracies: FloatArray
    """(raters,) estimated share of a rater's votes that are right."""


def estimate_labels(votes: Places, labels: int, method: Method = "accuracy", known: Places | None = None) -> Consensus:
    """Estimate the true labels of items and the accuracy of the raters.

    Args:
        votes: (items, raters) label that each rater voted for, -1 for no vote.
        labels: Number of labels.
        method: `vote` counts all raters alike; `accuracy` estimates one accuracy per rater; `confusion` is Dawid and
            Skene's model.
        known: (items,) label that people settled, -1 where they did not.
    """
    raters = votes.shape[1]
    counts = np.zeros((len(votes), labels))
    for rater in range(raters):
        voted = np.flatnonzero(votes[:, rater] >= 0)
        counts[voted, votes[voted, rater]] += 1
    probabilities = counts + 1e-9
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    fixed = np.flatnonzero(known >= 0) if known is not None else np.zeros(0, np.int64)
    settled = np.eye(labels)[known[fixed]] if known is not None else np.zeros((0, labels))
    probabilities[fixed] = settled
    for _ in range(MAX_STEPS if method != "vote" else 0):
        before = probabilities
        sizes = probabilities.sum(axis=0) + 1
        logs = _log_likelihoods(votes, probabilities, method) + np.log(sizes / sizes.sum())
        probabilities = np.exp(logs - logs.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        probabilities[fixed] = settled
        if np.abs(probabilities - before).max(initial=0) < TOLERANCE:
            break
    accuracies = np.array([_share_right(votes[:, rater], probabilities) for rater in range(raters)])
    return Consensus(probabilities, accuracies)


def _share_right(votes: Places, probabilities: FloatArray) -> float:
    voted = np.flatnonzero(votes >= 0)
    right = float(probabilities[voted, votes[voted]].sum())
    return (right + PRIOR_RIGHT) / (len(voted) + PRIOR_RIGHT + PRIOR_WRONG)


def _log_likelihoods(votes: Places, probabilities: FloatArray, method: Method) -> FloatArray:
    """Compute the log-likelihood of the votes for each possible label, up to a constant of each item."""
    labels = probabilities.shape[1]
    found = np.zeros(probabilities.shape)
    for rater in range(votes.shape[1]):
        voted = np.flatnonzero(votes[:, rater] >= 0)
        given = votes[voted, rater]
        if method == "confusion":
            table = np.zeros((labels, labels))  # (vote, true label)
            np.add.at(table, given, probabilities[voted])
            table += PRIOR_WRONG / labels + np.eye(labels) * PRIOR_RIGHT / labels
            found[voted] += np.log(table / table.sum(axis=0))[given]
        else:
            share = _share_right(votes[:, rater], probabilities)
            found[voted, given] += np.log(share * max(1, labels - 1) / (1 - share))
    return found


def with_stated(consensus: Consensus, stated: FloatArray, known: Places | None = None) -> Consensus:
    """Combine the estimate from votes with the probabilities that raters stated themselves.

    Args:
        consensus: The estimate from votes.
        stated: (items, labels) mean of the stated probabilities; zero in all columns where none was stated.
        known: (items,) label that people settled, -1 where they did not.
    """
    has_any = (stated.sum(axis=1) > 0) & (known < 0 if known is not None else True)
    product = (consensus.probabilities + FLOOR) * (stated + FLOOR)
    product /= product.sum(axis=1, keepdims=True)
    return consensus._replace(probabilities=np.where(has_any[:, None], product, consensus.probabilities))


def choose_batch(values: FloatArray, similar: FloatArray | None, size: int) -> list[int]:
    """Choose items of high value that aren't alike: the value of an item shrinks with its similarity to those chosen.

    Args:
        values: (items,) value of settling each item.
        similar: (items, items) similarity from 0 to 1; None if it doesn't matter.
        size: Number of items to choose.
    """
    left = values.astype(np.float64).copy()
    chosen: list[int] = []
    while len(chosen) < min(size, len(values)):
        best = int(left.argmax())
        if left[best] <= 0:
            break
        chosen.append(best)
        if similar is not None:
            left *= 1 - similar[best]
        left[best] = 0
    return chosen
