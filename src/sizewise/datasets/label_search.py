"""Search labeled examples for likely label errors: confident learning on the scores of a linear classifier.

The classifier is a linear support vector machine on TF-IDF of words and pairs of words. It scores each example without
having seen it or another example with the same text; one temperature turns its scores into probabilities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from sizewise.datasets.keys import folded_prompt, key_hash
from sizewise.errors import install_command
from sizewise.records import Example
from sizewise.stats.label_errors import LabelErrors, find_label_errors
from sizewise.text import words_of

FOLDS = 5
MIN_EXAMPLES, MIN_PER_LABEL = 100, FOLDS
MAX_EXAMPLES = 20_000
MAX_CELLS = 2_000_000
"""Examples times labels that are searched at most: the time grows with both."""
MAX_CHARACTERS = 4_000
REGULARIZATION = 0.3
"""Of 0.1, 0.3 and 1, the value with the best precision among the first hundred planted errors of Banking77."""
FloatArray = npt.NDArray[np.float64]


class Search(NamedTuple):
    """Result of a search."""

    examples: list[int]
    """Place of each searched example among those given."""
    labels: list[str]
    """Labels in the order of the columns."""
    errors: LabelErrors | None
    """Likely errors; places count the searched examples."""
    accuracy: float
    """Share of the labels that the classifier predicts."""
    reason: str = ""
    """Why nothing was searched."""


def search(example_at: Callable[[int], Example], labels: Sequence[str], seed: int = 0) -> Search:
    """Search examples for likely label errors.

    Args:
        example_at: Returns the example at a place.
        labels: The label of the example at each place; empty if it has none.
        seed: Seed of the sample, if there are too many examples.
    """
    chosen, names = _chosen(labels, seed)
    if len(chosen) < MIN_EXAMPLES or len(names) < 2:
        reason = (
            f"a search for label errors needs at least {MIN_EXAMPLES} examples of at least two labels with "
            f"{MIN_PER_LABEL} examples each; there are {len(chosen):,} of {len(names):,}"
        )
        return Search([], [], None, float("nan"), reason)
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return Search([], [], None, float("nan"), f"scikit-learn isn't installed: {install_command('study')}")
    column = {name: place for place, name in enumerate(names)}
    wanted = np.array([column[labels[place]] for place in chosen], np.int64)
    found = [example_at(place) for place in chosen]
    groups = np.array([key_hash(folded_prompt(example)) for example in found], np.uint64)
    probabilities = out_of_fold([_text(example) for example in found], wanted, groups, len(names))
    errors = find_label_errors(probabilities, wanted)
    return Search(chosen, names, errors, float((probabilities.argmax(axis=1) == wanted).mean()))


def _text(example: Example) -> str:
    return "\n".join(message.content for message in example.messages)[-MAX_CHARACTERS:]


def _chosen(labels: Sequence[str], seed: int) -> tuple[list[int], list[str]]:
    """Sample the examples that are searched; return their places and their labels, rare ones left out."""
    counts = Counter(labels)
    frequent = sorted(label for label, count in counts.items() if label and count >= MIN_PER_LABEL)
    kept = set(frequent)
    places = [place for place, label in enumerate(labels) if label in kept]
    size = min(MAX_EXAMPLES, MAX_CELLS // max(1, len(frequent)))
    if len(places) <= size:
        return places, frequent
    order = np.random.default_rng(seed).permutation(len(places))[:size]
    sampled = sorted(places[i] for i in order.tolist())
    counts = Counter(labels[place] for place in sampled)
    frequent = [label for label in frequent if counts[label] >= MIN_PER_LABEL]
    kept = set(frequent)
    return [place for place in sampled if labels[place] in kept], frequent


def assign_folds(labels: npt.NDArray[np.int64], groups: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Assign examples to folds: each label is spread evenly, and equal texts share a fold."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort((groups[first], labels[first]))
    fold = np.empty(len(first), np.int64)
    starts = np.flatnonzero(np.diff(labels[first][order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    fold[order] = rank % FOLDS
    return fold[inverse.reshape(-1)]


def out_of_fold(
    texts: Sequence[str], labels: npt.NDArray[np.int64], groups: npt.NDArray[np.uint64], count: int
) -> FloatArray:
    """Compute probabilities of each label by classifiers that did not see the example.

    Args:
        texts: (examples,) texts.
        labels: (examples,) column of each label.
        groups: (examples,) equal for equal texts.
        count: Number of labels.

    Returns:
        (examples, labels) probabilities.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=_features, sublinear_tf=True, dtype=np.float64)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return np.full((len(texts), count), 1 / count)
    scores = np.full((len(texts), count), np.nan)
    folds = assign_folds(labels, groups)
    for fold in range(FOLDS):
        held = folds == fold
        known = np.unique(labels[~held])
        if held.any() and len(known) > 1:
            scores[np.ix_(held, known)] = _scores(features, labels, held)
    # A label that is in no other fold gets the lowest score that any label has for this example.
    lowest = np.where(np.isnan(scores).all(axis=1), 0.0, np.nanmin(np.nan_to_num(scores, nan=np.inf), axis=1))
    scores = np.where(np.isnan(scores), np.where(np.isfinite(lowest), lowest, 0.0)[:, None], scores)
    probabilities: FloatArray = softmax(scores * _sharpness(scores, labels), axis=1)
    return probabilities


def _features(text: str) -> list[str]:
    words = list(words_of(text))
    return [*words, *(f"{one} {other}" for one, other in pairwise(words))]


def _scores(features: Any, labels: npt.NDArray[np.int64], held: npt.NDArray[np.bool_]) -> FloatArray:
    from sklearn.svm import LinearSVC

    fitted = LinearSVC(C=REGULARIZATION, random_state=0).fit(features[~held], labels[~held])
    found: FloatArray = fitted.decision_function(features[held])
    return np.column_stack([-found, found]) if found.ndim == 1 else found


def _sharpness(scores: FloatArray, labels: npt.NDArray[np.int64]) -> float:
    """Return the factor of the scores (one over the temperature) with the highest likelihood of the labels."""
    own = np.arange(len(labels))

    def loss(log_factor: float) -> float:
        return -float(log_softmax(scores * np.exp(log_factor), axis=1)[own, labels].mean())

    found = minimize_scalar(loss, bounds=(-4.0, 5.0), method="bounded", options={"xatol": 0.01})
    return float(np.exp(found.x))
