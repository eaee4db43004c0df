"""A frozen sentence encoder with logistic regression, pooled with TF-IDF of words and characters.

The vectors are whitened by the covariance within options (Hatch, Kajarekar and Stolcke, 2006), so that directions in
which texts of one option differ count less. The regularization with the least log loss on texts that the model wasn't
fitted on is kept.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.decisions import linear
from sizewise.decisions.files import read_arrays, read_json, write_arrays, write_json
from sizewise.decisions.folds import make_folds
from sizewise.decisions.linear import LinearScorer, probabilities_of, spread_out
from sizewise.decisions.pools import MIN_VALIDATION, WordPool, choose_share, load_pool, make_pool, scaled_loss
from sizewise.decisions.scorers import FloatArray, IntArray, Material, Settings, encoding
from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.records import Question
from sizewise.retrieval import Encoder

if TYPE_CHECKING:
    from sizewise.decisions.onnx_classifier import ProbabilityGraph

REGULARIZATION = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Inverse strengths of the penalty that are tried, from strong to weak."""
MIN_SHRINKAGE, TEXTS_PER_DIMENSION = 0.5, 10
"""Share of the identity in the covariance. It is larger with fewer texts, which estimate the covariance badly."""
FOLDS = 3
"""Folds of the training split, which choose where the validation split has too few texts."""
WORSE = 1.02
"""Ratio of losses from which weaker regularization isn't tried."""
ENCODING_SHARE = 0.8
"""Share of the training time in which texts are encoded; the rest is for the regression."""
FIRST_TEXTS = 256
SETTINGS, WEIGHTS = "embedding.json", "embedding.safetensors"

Vectors = npt.NDArray[np.float32]


class Head(NamedTuple):
    """A linear model over the encoder's vectors."""

    weights: npt.NDArray[np.float32]
    """(options with examples, width); one row for two options."""
    intercepts: npt.NDArray[np.float32]
    """(options with examples,)."""
    known: IntArray
    """Columns of the options with examples."""
    options: int
    """Number of options."""
    independent: bool
    """Whether each option has a probability of its own."""

    def probabilities(self, vectors: Vectors) -> FloatArray:
        """Compute the probability of each option from (texts, width) vectors."""
        if len(self.known) == 1 and not self.independent:
            return spread_out(np.ones((len(vectors), 1)), self.known, self.options)
        margins = np.asarray(vectors @ self.weights.T, dtype=np.float64) + self.intercepts
        return spread_out(probabilities_of(margins, self.independent), self.known, self.options)


class Measured(NamedTuple):
    """A regularization on texts that the model wasn't fitted on."""

    loss: float
    """Log loss at the best temperature."""
    rows: FloatArray
    """(texts, options) probabilities."""


class EmbeddingScorer:
    """A frozen sentence encoder with a linear model, pooled with TF-IDF. The encoder's files aren't copied."""

    engine = "onnxruntime"

    def __init__(self, encoder: Encoder, head: Head, pool: WordPool, notes: tuple[str, ...]) -> None:
        self._encoder, self._head, self._pool, self.notes = encoder, head, pool, notes
        own = int(head.weights.size + head.intercepts.size)
        self.trained_parameters = own + pool.parameters
        self.parameters = encoder.parameters + self.trained_parameters
        self.memory_bytes = encoder.memory_bytes + 4 * own + pool.memory_bytes

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Compute the probability of each option."""
        if not len(texts):
            return np.zeros((0, self._head.options))
        return self._pool.add_to(self._head.probabilities(self._encoder.encode(texts)), texts)

    @property
    def encoder(self) -> Encoder:
        """The sentence encoder."""
        return self._encoder

    def add_to_graph(self, graph: ProbabilityGraph, vectors: str) -> str:
        """Add the head and the pool to an ONNX graph, and return the name of the probabilities."""
        head = self._head
        margins = graph.graph.add("Add", graph.linear(vectors, head.weights), graph.graph.constant(head.intercepts))
        return self._pool.add_to_graph(graph, graph.of_margins(margins, len(head.weights), head.known))

    def save(self, folder: Path) -> None:
        """Write the linear models and the fingerprint of the encoder."""
        head = self._head
        write_arrays(folder / WEIGHTS, {"weights": head.weights, "intercepts": head.intercepts, "known": head.known})
        self._pool.save(folder)
        written = {"encoder": self._encoder.fingerprint, "options": head.options, "independent": head.independent}
        write_json(folder / SETTINGS, {**written, "share": self._pool.share, "notes": self.notes})


def load(folder: Path, question: Question, base: Path | None) -> EmbeddingScorer:
    """Load a classifier that was saved.

    Raises:
        SizewiseError: a file is damaged, or the encoder isn't the one that the classifier was trained on.
    """
    settings, arrays = read_json(folder / SETTINGS), read_arrays(folder / WEIGHTS)
    encoder = Encoder.open(_encoder_folder(base))
    if encoder.fingerprint != settings["encoder"]:
        raise SizewiseError(
            f"The encoder in {encoder.folder} has the fingerprint {encoder.fingerprint}.",
            f"the encoder {settings['encoder']} that the classifier was trained on",
            "restore the encoder's files, or train the classifier again: sizewise train",
        )
    head = Head(arrays["weights"], arrays["intercepts"], arrays["known"], settings["options"], settings["independent"])
    pool = load_pool(folder, question, settings["share"], head.independent)
    return EmbeddingScorer(encoder, head, pool, tuple(settings["notes"]))


def _encoder_folder(base: Path | None) -> Path:
    if base is None:
        raise SizewiseError("The method embedding starts from no encoder.", "a sentence encoder", "use pkg:minilm")
    return base


def fit(train: Material, validation: Material, settings: Settings) -> EmbeddingScorer:
    """Encode the texts, choose the regularization and TF-IDF's share in the pool, and fit both models.

    Raises:
        MissingExtraError: onnxruntime or scikit-learn is not installed.
        SizewiseError: the base model is no sentence encoder.
    """
    encoder = Encoder.open(_encoder_folder(settings.base))
    independent = settings.question.type == "multi"
    kept, vectors, notes = _encode(encoder, train, settings)
    train = _part(train, kept)
    if len(validation.texts) >= MIN_VALIDATION:
        where, targets = "validation split", validation.targets
        measured = _on_validation(vectors, train.targets, encoder.encode(validation.texts), validation, independent)
        words = _fit_words(train, validation, settings)
        others = None if words is None else words.probabilities(validation.texts)
    else:
        where, targets = "folds of the training split", train.targets
        folds = make_folds(train.labels, train.clusters, FOLDS, settings.seed)
        measured = _out_of_fold(vectors, train, folds, independent)
        words = _fit_words(train, validation, settings)
        others = None if words is None or not measured else _words_out_of_fold(train, folds, settings)
    best, share = min(measured, key=lambda strength: measured[strength].loss, default=REGULARIZATION[1]), 0.0
    if measured:
        notes = (
            *notes,
            f"The {where} chose the regularization C={best:g} (log loss {measured[best].loss:.3f}).",
        )
    if others is not None and measured:
        share, losses = choose_share(measured[best].rows, others, targets, independent)
        notes = (
            *notes,
            f"TF-IDF has a share of {share:.0%} (log loss {losses[share]:.3f}; encoder alone {losses[0.0]:.3f}).",
        )
    head = fit_head(vectors, train.targets, independent, best)
    pool = WordPool(None, 0.0, independent) if words is None else make_pool(words, share, independent)
    return EmbeddingScorer(encoder, head, pool, notes)


def _part(material: Material, rows: IntArray) -> Material:
    return Material([material.texts[i] for i in rows], material.targets[rows], [material.clusters[i] for i in rows])


def _fit_words(train: Material, validation: Material, settings: Settings) -> LinearScorer | None:
    """Fit the linear model of the words; None if all texts have the same option."""
    if settings.question.type != "multi" and np.count_nonzero(train.targets.sum(axis=0)) < 2:
        return None
    return linear.fit(train, validation, settings)


def _words_out_of_fold(train: Material, folds: IntArray, settings: Settings) -> FloatArray | None:
    """Compute the linear model's probabilities of texts that it wasn't fitted on; None if there are too few."""
    rows = np.zeros_like(train.targets)
    nothing = _part(train, np.zeros(0, dtype=np.int64))
    for fold in np.unique(folds):
        held_out = np.flatnonzero(folds == fold)
        words = _fit_words(_part(train, np.flatnonzero(folds != fold)), nothing, settings)
        if words is None:
            return None
        rows[held_out] = words.probabilities(_part(train, held_out).texts)
    return rows


def _encode(encoder: Encoder, train: Material, settings: Settings) -> tuple[IntArray, Vectors, tuple[str, ...]]:
    """Encode the training texts, or as many of them as the time allows.

    Returns:
        Indices of the texts, their vectors, and notes.
    """
    n = len(train.texts)
    settings.reporter.say(f"Encoding {n:,} texts.")
    order = np.random.default_rng(settings.seed).permutation(n)
    begun = time.monotonic()
    first = encoder.read([train.texts[i] for i in order[:FIRST_TEXTS]], done=encoding(settings.reporter, n=n))
    seconds = max(time.monotonic() - begun, 1e-9)
    possible = max(FIRST_TEXTS, int(settings.minutes * 60 * ENCODING_SHARE * min(n, FIRST_TEXTS) / seconds))
    order = order[:possible]
    later = encoding(settings.reporter, len(first.vectors), len(order))
    rest = encoder.read([train.texts[i] for i in order[FIRST_TEXTS:]], done=later)
    vectors = np.concatenate([first.vectors, rest.vectors])
    cut = int(first.truncated.sum() + rest.truncated.sum())
    notes = []
    if possible < n:
        notes.append(f"{possible:,} of {n:,} training texts were used: the time allowed no more.")
    if cut:
        notes.append(
            f"{cut:,} of {len(order):,} texts have more than {encoder.max_tokens} tokens; their ends aren't read."
        )
    back = np.argsort(order, kind="stable")
    return order[back], vectors[back], tuple(notes)


def _on_validation(
    vectors: Vectors, targets: FloatArray, held_out: Vectors, validation: Material, independent: bool
) -> dict[float, Measured]:
    """Measure regularizations on the validation split, from strong to weak, until one is clearly worse."""
    found: dict[float, Measured] = {}
    for strength in REGULARIZATION:
        rows = fit_head(vectors, targets, independent, strength).probabilities(held_out)
        found[strength] = Measured(scaled_loss(rows, validation.targets, independent), rows)
        if found[strength].loss > WORSE * min(one.loss for one in found.values()):
            break
    return found


def _out_of_fold(vectors: Vectors, train: Material, folds: IntArray, independent: bool) -> dict[float, Measured]:
    """Measure each regularization on folds of the training split; nothing if there is only one fold."""
    if len(np.unique(folds)) < 2:
        return {}
    found: dict[float, Measured] = {}
    for strength in REGULARIZATION:
        rows = np.zeros_like(train.targets)
        for fold in np.unique(folds):
            part = folds == fold
            rows[part] = fit_head(vectors[~part], train.targets[~part], independent, strength).probabilities(
                vectors[part]
            )
        found[strength] = Measured(scaled_loss(rows, train.targets, independent), rows)
    return found


def fit_head(vectors: Vectors, targets: FloatArray, independent: bool, strength: float) -> Head:
    """Fit logistic regression on whitened vectors, and return it as a model of the vectors themselves.

    Args:
        vectors: (texts, width) unit vectors.
        targets: (texts, options) 1 or a share where the option is correct.
        independent: whether each option is a decision of its own.
        strength: inverse strength of the penalty.
    """
    count = targets.shape[1]
    known = np.arange(count) if independent else np.flatnonzero(targets.sum(axis=0) > 0)
    center = vectors.mean(axis=0, dtype=np.float64)
    whitening = _whitening(vectors, targets)
    features = np.asarray((vectors - center) @ whitening, dtype=np.float32)
    if independent:
        rows = [_regression(features, targets[:, [option]], strength, one=True) for option in range(count)]
        weights, intercepts = np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])
    else:
        weights, intercepts = _regression(features, targets[:, known], strength)
    weights = weights @ whitening.T
    intercepts = intercepts - weights @ center
    return Head(weights.astype(np.float32), intercepts.astype(np.float32), known, count, independent)


def _whitening(vectors: Vectors, targets: FloatArray) -> FloatArray:
    """Return (width, width) factors that make the covariance within options, shrunk to a sphere, the identity."""
    width = vectors.shape[1]
    totals = np.maximum(targets.sum(axis=0), 1e-9)
    means = (targets.T @ vectors) / totals[:, None]
    residuals = vectors - (targets / np.maximum(targets.sum(axis=1, keepdims=True), 1e-9)) @ means
    covariance = residuals.T @ residuals / max(1, len(vectors))
    variance = max(float(np.trace(covariance)) / width, 1e-6)  # 0 if each option has one text
    freedom = len(vectors) - np.count_nonzero(targets.sum(axis=0))
    share = max(MIN_SHRINKAGE, 1 - freedom / (TEXTS_PER_DIMENSION * width))
    sphere = variance * np.eye(width)
    values, directions = np.linalg.eigh((1 - share) * covariance + share * sphere)
    factors: FloatArray = directions / np.sqrt(values)
    return factors


def _regression(
    features: Vectors, targets: FloatArray, strength: float, one: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Fit a softmax over options, or a sigmoid for one or two; return (rows, width) weights and (rows,) intercepts.

    A text whose annotators disagreed counts for each of its options with its share.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "study") from error
    if one:
        targets = np.concatenate([1 - targets, targets], axis=1)
    texts, options = np.nonzero(targets)
    width, present = features.shape[1], np.unique(options)
    if len(present) < 2:  # the only answer in the training split
        sign = 10.0 if one and present.tolist() == [1] else -10.0
        return np.zeros((1, width)), np.full(1, sign if one else 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: the loss hardly changes any more
        model = LogisticRegression(C=strength, max_iter=300)
        model.fit(features[texts], options, sample_weight=targets[texts, options])
    return np.asarray(model.coef_, dtype=np.float64), np.asarray(model.intercept_, dtype=np.float64)
