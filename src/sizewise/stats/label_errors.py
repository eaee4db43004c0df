"""Find likely label errors by confident learning, and estimate how many labels are wrong.

Source: Northcutt, Jiang and Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


class LabelErrors(NamedTuple):
    """Examples whose label is likely wrong, the surest first."""

    places: Places
    """(errors,) index of each example."""
    suggested: Places
    """(errors,) column of the label that the probabilities suggest."""
    margins: FloatArray
    """(errors,) probability of the given label minus that of the suggested one; the lowest first."""
    joint: FloatArray
    """(labels, labels) estimated number of examples by given label (row) and true label (column)."""

    @property
    def estimated(self) -> float:
        """Estimated number of examples with a wrong label."""
        return float(self.joint.sum() - np.trace(self.joint))


def label_thresholds(probabilities: FloatArray, labels: Places) -> FloatArray:
    """Compute the threshold of each label: its mean probability among the examples that have it.

    Args:
        probabilities: (examples, labels) out-of-fold probabilities.
        labels: (examples,) column of the given label.

    Returns:
        (labels,) thresholds; infinite for a label that no example has.
    """
    count = probabilities.shape[1]
    sizes = np.bincount(labels, minlength=count)
    own = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=count)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sizes > 0, own / sizes, np.inf)


def confident_labels(probabilities: FloatArray, labels: Places) -> Places:
    """Return the label that each example is confidently counted under, -1 if none reaches its threshold."""
    above = probabilities >= label_thresholds(probabilities, labels)
    likeliest = np.where(above, probabilities, -1.0).argmax(axis=1)
    return np.where(above.any(axis=1), likeliest, -1).astype(np.int64)


def confident_joint(confident: Places, labels: Places, count: int) -> FloatArray:
    """Count examples by given and confident label, calibrated to the number of examples of each given label.

    Args:
        confident: (examples,) result of `confident_labels`.
        labels: (examples,) column of the given label.
        count: Number of labels.

    Returns:
        (labels, labels) estimated number of examples; each row sums to the examples that have this label.
    """
    counted = confident >= 0
    joint = np.zeros((count, count))
    np.add.at(joint, (labels[counted], confident[counted]), 1)
    sizes = np.bincount(labels, minlength=count).astype(np.float64)
    empty = joint.sum(axis=1) == 0
    joint[empty, empty.nonzero()[0]] = 1  # no example is confident: the labels are taken as they are
    found: FloatArray = joint / joint.sum(axis=1, keepdims=True) * sizes[:, None]
    return found


def find_label_errors(probabilities: FloatArray, labels: Places) -> LabelErrors:
    """Find the examples that are confidently another label than the given one, ranked by margin.

    Args:
        probabilities: (examples, labels) probabilities by models that did not see the example.
        labels: (examples,) column of the given label.
    """
    confident = confident_labels(probabilities, labels)
    places = np.flatnonzero((confident >= 0) & (confident != labels))
    suggested = confident[places]
    margins = probabilities[places, labels[places]] - probabilities[places, suggested]
    joint = confident_joint(confident, labels, probabilities.shape[1])
    # A label below its threshold may be likelier than a confident one; such an example isn't an error.
    wrong = margins < 0
    places, suggested, margins = places[wrong], suggested[wrong], margins[wrong]
    order = np.lexsort((places, margins))
    return LabelErrors(places[order], suggested[order], margins[order], joint)
