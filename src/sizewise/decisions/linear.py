"""TF-IDF of words and characters with a linear model: a support vector machine or logistic regression.

The machine's margins become probabilities by a softmax whose temperature is fitted on out-of-fold margins. The model
with the least log loss on the validation split is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp

from sizewise.decisions.calibrators import log_loss, smoothed
from sizewise.decisions.features import feature_characters
from sizewise.decisions.files import check_layer, damaged, read_arrays, read_json, write_arrays, write_json
from sizewise.decisions.folds import make_folds
from sizewise.decisions.scorers import FloatArray, IntArray, Material, Settings
from sizewise.errors import MissingExtraError
from sizewise.records import Question, fingerprint

if TYPE_CHECKING:
    from sizewise.decisions.onnx_classifier import ProbabilityGraph

MAX_FEATURES = 200_000
"""Most frequent words and word pairs, and as many runs of characters."""
MAX_CHARACTERS = 20_000
"""Characters of a text that are read."""
FOLDS = 3
REGRESSION_CELLS = 60_000_000
"""Texts x options x features per text up to which logistic regression is tried; above it takes minutes."""
SETTINGS, VOCABULARY, WEIGHTS = "linear.json", "vocabulary.json", "linear.safetensors"


class Weights(NamedTuple):
    """A linear model over the features."""

    coefficients: npt.NDArray[np.float32]
    """(options with examples, features); one row for two options."""
    intercepts: npt.NDArray[np.float32]
    """(options with examples,)."""
    scale: float
    """Factor of the margins before the softmax."""


class Attribution(NamedTuple):
    """The log-odds of an option, and what each character of a text adds to them."""

    characters: FloatArray
    """(characters,) in nats."""
    log_odds: float
    """Of the option; the intercept, and how many other options are likely, make up the difference to the sum."""


class LinearScorer:
    """A linear model over TF-IDF features."""

    engine = "scikit-learn"
    encoder = None

    def __init__(
        self, features: Any, weights: Weights, known: IntArray, count: int, independent: bool, notes: tuple[str, ...]
    ) -> None:
        self._features, self._weights, self._known = features, weights, known
        self._count, self._independent, self.notes = count, independent, notes
        self._transposed = np.ascontiguousarray(weights.coefficients.T)
        self.parameters = self.trained_parameters = int(weights.coefficients.size + weights.intercepts.size)
        self.memory_bytes = int(weights.coefficients.nbytes + weights.intercepts.nbytes)

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Compute the probability of each option."""
        if not len(texts):
            return np.zeros((0, self._count))
        rows = self._features.transform([text[:MAX_CHARACTERS] for text in texts])
        margins = np.asarray(rows @ self._transposed, dtype=np.float64) + self._weights.intercepts
        return spread_out(probabilities_of(margins * self._weights.scale, self._independent), self._known, self._count)

    def knows(self, text: str) -> bool:
        """Check whether a word or a run of characters of a text occurred in training."""
        return bool(self._features.transform([text[:MAX_CHARACTERS]]).nnz)

    def attribute(self, text: str, option: int) -> Attribution | None:
        """Attribute the log-odds of an option to the characters of a text; None for an option without examples.

        With more than two options, a feature counts for the option as far as it counts less for the others, each
        weighted by its probability.
        """
        place = np.flatnonzero(self._known == option)
        if not len(place):
            return None
        read = text[:MAX_CHARACTERS]
        row = self._features.transform([read]).tocsr()
        weights = np.asarray(self._transposed[row.indices], dtype=np.float64)
        margins = (row.data @ weights + self._weights.intercepts) * self._weights.scale
        slopes, log_odds = margin_direction(margins, int(place[0]), self._independent)
        found = row.data * (weights @ slopes) * self._weights.scale
        values = dict(zip(row.indices.tolist(), found.tolist(), strict=True))
        parts = [part for _, part in self._features.transformer_list]
        characters = feature_characters(read, [part.vocabulary_ for part in parts], values)
        return Attribution(np.pad(characters, (0, len(text) - len(read))), log_odds)

    def add_to_graph(self, graph: ProbabilityGraph, vectors: str = "") -> str:
        """Add TF-IDF and the linear model to an ONNX graph, and return the name of the probabilities."""
        words, characters = (part for _, part in self._features.transformer_list)
        coefficients, split = self._weights.coefficients * self._weights.scale, len(words.idf_)
        parts = (
            graph.linear(graph.word_features(words.vocabulary_, words.idf_), coefficients[:, :split]),
            graph.linear(graph.character_features(characters.vocabulary_, characters.idf_), coefficients[:, split:]),
        )
        offsets = graph.graph.constant(self._weights.intercepts * self._weights.scale)
        margins = graph.graph.add("Add", graph.graph.add("Add", *parts), offsets)
        return graph.of_margins(margins, len(coefficients), self._known)

    def save(self, folder: Path) -> None:
        """Write vocabulary, weights and settings."""
        words = [_words_of(part) for _, part in self._features.transformer_list]
        write_json(folder / VOCABULARY, words)
        arrays = {f"idf{i}": part.idf_ for i, (_, part) in enumerate(self._features.transformer_list)}
        weights = {"coefficients": self._weights.coefficients, "intercepts": self._weights.intercepts}
        write_arrays(folder / WEIGHTS, {**arrays, **weights, "known": self._known})
        written = {"scale": self._weights.scale, "count": self._count, "notes": self.notes}
        checked = {"independent": self._independent, "vocabulary": fingerprint(words, 64)}
        write_json(folder / SETTINGS, written | checked)


def probabilities_of(margins: FloatArray, independent: bool) -> FloatArray:
    """Turn margins into probabilities: a softmax, or a sigmoid for two options or independent ones.

    Args:
        margins: (texts, options), or (texts, 1) for two options.
        independent: whether each option has a probability of its own.
    """
    if independent:
        found: FloatArray = expit(margins)
        return found
    if margins.shape[1] == 1:
        positive = expit(margins[:, 0])
        return np.stack([1 - positive, positive], axis=1)
    shared: FloatArray = np.exp(margins - logsumexp(margins, axis=1, keepdims=True))
    return shared


def margin_direction(margins: FloatArray, option: int, independent: bool) -> tuple[FloatArray, float]:
    """Return the slopes of an option's log-odds over the margins, and the log-odds.

    Args:
        margins: (options,), or (1,) for two options.
        option: index of the option.
        independent: whether each option has a probability of its own.
    """
    if len(margins) == 1 and not independent:
        sign = 1.0 if option else -1.0
        return np.array([sign]), sign * float(margins[0])
    slopes = np.zeros(len(margins))
    slopes[option] = 1.0
    if independent:
        return slopes, float(margins[option])
    others = margins.copy()
    others[option] = -np.inf
    total = logsumexp(others)
    return slopes - np.exp(others - total), float(margins[option] - total)


def spread_out(probabilities: FloatArray, known: IntArray, count: int) -> FloatArray:
    """Place the columns of the options with training examples among all options; the others get probability 0."""
    if probabilities.shape[1] == count:
        return probabilities
    found = np.zeros((len(probabilities), count))
    found[:, known] = probabilities
    return found


def _words_of(vectorizer: Any) -> list[str]:
    return sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.get)


def _features(vocabularies: Sequence[list[str] | None]) -> Any:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import FeatureUnion
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "study") from error
    shared: dict[str, Any] = {"sublinear_tf": True, "dtype": np.float32, "max_features": MAX_FEATURES}
    words, characters = vocabularies
    word_pattern = r"(?u)\b\w+\b"
    return FeatureUnion([
        ("words", TfidfVectorizer(ngram_range=(1, 2), token_pattern=word_pattern, vocabulary=words, **shared)),
        ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), vocabulary=characters, **shared)),
    ])  # fmt: skip


def fit(train: Material, validation: Material, settings: Settings) -> LinearScorer:
    """Fit both linear models and keep the one that validation prefers; without validation texts, the first."""
    independent = settings.question.type == "multi"
    features = _features((None, None))
    texts = [text[:MAX_CHARACTERS] for text in train.texts]
    rows = _fit_features(features, texts)
    known = np.flatnonzero(train.targets.sum(axis=0) > 0) if not independent else np.arange(train.targets.shape[1])
    count = train.targets.shape[1]
    fitted = _models(rows, train, known, independent, settings)
    cut = sum(len(text) > MAX_CHARACTERS for part in (train, validation) for text in part.texts)
    noted = (f"Only the first {MAX_CHARACTERS:,} characters of a text are read; longer texts: {cut:,}.",) if cut else ()
    scorers = {name: LinearScorer(features, one, known, count, independent, noted) for name, one in fitted.items()}
    if len(scorers) == 1 or not len(validation.texts):
        return next(iter(scorers.values()))
    tried = {
        name: log_loss(scorer.probabilities(validation.texts), validation.targets, independent)
        for name, scorer in scorers.items()
    }
    best = min(tried, key=lambda name: tried[name])
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in tried.items())
    scorers[best].notes += (f"The validation split prefers the {best} (log loss: {losses}).",)
    return scorers[best]


def _fit_features(features: Any, texts: Sequence[str]) -> Any:
    """Learn the vocabulary and return (texts, features).

    A word that occurs once tells labels apart only by chance, but few texts leave no others.
    """
    least = 2 if len(texts) >= 200 else 1
    for _, part in features.transformer_list:
        part.set_params(min_df=least)
    try:
        return features.fit_transform(texts)
    except ValueError:  # no word occurs twice, or the texts are empty
        for _, part in features.transformer_list:
            part.set_params(min_df=1)
        features.fit([*texts, "empty"])  # a vocabulary needs a word, but texts may be empty, or of signs alone
        return features.transform(texts)


def _models(rows: Any, train: Material, known: IntArray, independent: bool, settings: Settings) -> dict[str, Weights]:
    """Fit the models that the amount of data allows."""
    found = {"linear SVM": _support_vectors(rows, train, known, independent, settings)}
    if rows.nnz * len(known) <= REGRESSION_CELLS and not independent:
        found["logistic regression"] = _regression(rows, train.targets[:, known])
    return found


def _support_vectors(rows: Any, train: Material, known: IntArray, independent: bool, settings: Settings) -> Weights:
    from sklearn.svm import LinearSVC

    seed = settings.seed

    def fitted(part: Any, targets: Any) -> tuple[FloatArray, FloatArray]:
        if independent:
            each = [
                LinearSVC(C=1.0, random_state=seed).fit(part, targets[:, i] > 0.5)
                if 0 < (targets[:, i] > 0.5).sum() < len(targets)
                else None
                for i in range(targets.shape[1])
            ]
            width = part.shape[1]
            coefficients = np.stack([np.zeros(width) if one is None else one.coef_[0] for one in each])
            intercepts = np.array([
                (10.0 if targets[:, i].all() else -10.0) if one is None else one.intercept_[0]
                for i, one in enumerate(each)
            ])  # fmt: skip
            return coefficients, intercepts
        with _few_examples():
            model = LinearSVC(C=1.0, random_state=seed).fit(*shared_out(part, targets))
        return model.coef_, model.intercept_

    targets = train.targets[:, known]
    folds = make_folds(train.labels, train.clusters, FOLDS, seed)
    margins = np.full((len(train.texts), len(known) if independent or len(known) > 2 else 1), np.nan)

    def measure(fold: int) -> None:
        part = folds == fold
        if part.all() or (not independent and not targets[~part].any(axis=0).all()):
            return  # a label without other examples can't be measured
        coefficients, intercepts = fitted(rows[~part], targets[~part])
        margins[part] = rows[part] @ coefficients.T + intercepts

    # One after the other: all fits of a process share liblinear's random numbers, so two at once are never the same.
    parts = np.unique(folds)
    for done, fold in enumerate(parts, start=1):
        measure(fold)
        settings.reporter.advance("Fitting linear models", done, len(parts) + 1)
    coefficients, intercepts = fitted(rows, targets)
    scale = _scale_of(margins, targets, independent)
    return Weights(coefficients.astype(np.float32), intercepts.astype(np.float32), scale)


def shared_out(rows: Any, targets: FloatArray) -> tuple[Any, IntArray, FloatArray]:
    """Repeat each row for every option that annotators gave it, weighted by the option's share.

    Args:
        rows: (texts, features).
        targets: (texts, options) shares.

    Returns:
        (pairs, features) rows, the option of each, and its weight.
    """
    texts, options = np.nonzero(targets)
    alone = np.array_equal(texts, np.arange(len(targets)))
    return rows if alone else rows[texts], options, targets[texts, options]


def _scale_of(margins: FloatArray, targets: FloatArray, independent: bool) -> float:
    """Fit the factor of the margins with the least log loss on texts that the model wasn't fitted on."""
    measured = np.isfinite(margins).all(axis=1)
    if measured.sum() < 10:
        return 2.0
    margins, targets = margins[measured], smoothed(targets[measured], independent)

    def loss(log_scale: float) -> float:
        return log_loss(probabilities_of(margins * np.exp(log_scale), independent), targets, independent)

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 4.0), method="bounded").x))


@contextmanager
def _few_examples() -> Iterator[None]:
    """Keep scikit-learn from asking whether labels with hardly any examples are numbers; a note counts such labels."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        yield


def _regression(rows: Any, targets: FloatArray) -> Weights:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with _few_examples():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the loss hardly changes any more
        model = LogisticRegression(C=20.0, max_iter=60, tol=1e-3).fit(*shared_out(rows, targets))
    return Weights(model.coef_.astype(np.float32), model.intercept_.astype(np.float32), 1.0)


def load(folder: Path, question: Question, base: Path | None) -> LinearScorer:
    """Load a linear model that was saved."""
    settings, arrays = read_json(folder / SETTINGS), read_arrays(folder / WEIGHTS)
    words = read_json(folder / VOCABULARY)
    if settings.get("vocabulary", fingerprint(words, 64)) != fingerprint(words, 64):  # older ones have no checksum
        raise damaged(folder / VOCABULARY, ValueError("its checksum isn't the one of the training"))
    features = _features(words)
    for i, (_, part) in enumerate(features.transformer_list):
        part.set_params(max_features=None)
        part.idf_ = arrays[f"idf{i}"]
    coefficients, known = arrays["coefficients"], arrays["known"]
    width = sum(len(arrays[f"idf{i}"]) for i in range(len(features.transformer_list)))
    check_layer(folder / WEIGHTS, coefficients, arrays["intercepts"], known, len(question.values), width)
    weights = Weights(coefficients, arrays["intercepts"], float(settings["scale"]))
    independent = question.type == "multi"
    return LinearScorer(features, weights, known, len(question.values), independent, tuple(settings["notes"]))
