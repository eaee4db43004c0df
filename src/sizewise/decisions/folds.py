"""Folds of labeled texts: those of one source document stay together, and labels are spread evenly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sizewise.decisions.scorers import IntArray


def make_folds(labels: IntArray, clusters: Sequence[str], count: int, seed: int) -> IntArray:
    """Assign texts to folds.

    Clusters are dealt by their most frequent label, in random order within each label, so that every fold holds about
    the same share of each label.

    Args:
        labels: index of the correct option of each text.
        clusters: source document of each text.
        count: number of folds; fewer are used if there are fewer clusters.
        seed: seed of the order.

    Returns:
        (texts,) fold of each text; all 0 if there is only one cluster.
    """
    names, members = np.unique(np.array(list(clusters), dtype=object), return_inverse=True)
    if not len(names):
        return np.zeros(0, dtype=np.int64)
    main = np.zeros(len(names), dtype=np.int64)
    order = np.lexsort((labels, members))
    starts = np.searchsorted(members[order], np.arange(len(names)))
    for cluster, (start, end) in enumerate(zip(starts, np.append(starts[1:], len(order)), strict=True)):
        main[cluster] = np.bincount(labels[order[start:end]]).argmax()
    shuffled = np.random.default_rng(seed).permutation(len(names))
    dealt = shuffled[np.argsort(main[shuffled], kind="stable")]
    folds = np.empty(len(names), dtype=np.int64)
    folds[dealt] = np.arange(len(names)) % max(1, min(count, len(names)))
    found: IntArray = folds[members]
    return found
