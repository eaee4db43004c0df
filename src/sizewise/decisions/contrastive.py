"""A sentence encoder fine-tuned for the labels, pooled with TF-IDF of words and characters.

Fine-tuning needs torch; the saved classifier runs on onnxruntime.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logsumexp

from sizewise.decisions import linear
from sizewise.decisions.files import check_layer, read_arrays, read_json, write_arrays, write_json
from sizewise.decisions.linear import LinearScorer, spread_out
from sizewise.decisions.pools import MIN_VALIDATION, WordPool, choose_share, load_pool, make_pool
from sizewise.decisions.scorers import FloatArray, IntArray, Material, Settings, encoding
from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.progress import Reporter
from sizewise.records import Question
from sizewise.retrieval import Encoder

if TYPE_CHECKING:
    from sizewise.decisions.onnx_classifier import ProbabilityGraph
    from sizewise.lm.encoder_training import TuningPlan

EPOCHS = 3
"""Times that each training text is seen, if the time allows."""
BATCH, MIN_BATCH = 64, 8
"""Texts in a step; fewer if there are few, so that they aren't seen too often."""
MIN_STEPS = 60
"""Steps with few texts, which are seen more often."""
PAIRED_TEXTS = 8
"""Texts of an option up to which the contrastive loss is used."""
REGULARIZATION = 10.0
"""Inverse strength of the penalty of the first head."""
DEFAULT_SHARE = 0.3
"""Share of the linear model with too few validation texts to choose one."""
DISTANCES = (0.5, 0.25, 0.75, 1.0)
"""Shares of the way from the first to the last weights that are tried on the validation split, as far as the time
allows; the first one is taken with too few validation texts."""
MAX_CHOOSING_SHARE = 0.4
"""Maximum share of the time after encoding that is kept for choosing a distance."""
DISTANCE_S = 1.0
"""Seconds to write and open an encoder."""
MODEL_FILES = ("*.json", "*.txt", "*/config.json")
"""Files of an encoder besides its weights and config.json: tokenizer, pooling."""
SETTINGS, WEIGHTS, ENCODER = "contrastive.json", "head.safetensors", "encoder"


class Fitted(NamedTuple):
    """Parts of a fine-tuned classifier besides its encoder and its linear model."""

    weights: npt.NDArray[np.float32]
    """(options with examples, width) head over the encoder's vectors."""
    offsets: npt.NDArray[np.float32]
    """(options with examples,)."""
    known: IntArray
    """Columns of the options with examples."""
    options: int
    """Number of options."""
    independent: bool
    """Whether each option has a probability of its own."""
    notes: tuple[str, ...]
    """Notes for readers."""


class ContrastiveScorer:
    """A fine-tuned encoder with a linear head, pooled with a linear model over TF-IDF features."""

    engine = "onnxruntime"

    def __init__(self, encoder: Encoder, pool: WordPool, fitted: Fitted) -> None:
        self._encoder, self._pool, self._fitted = encoder, pool, fitted
        head = int(fitted.weights.size + fitted.offsets.size)
        self.parameters = encoder.parameters + pool.parameters + head
        self.trained_parameters = self.parameters
        self.memory_bytes = encoder.memory_bytes + pool.memory_bytes + 4 * head
        self.notes = fitted.notes

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Compute the probability of each option."""
        if not len(texts):
            return np.zeros((0, self._fitted.options))
        return self._pool.add_to(head_probabilities(self._encoder.encode(texts), self._fitted), texts)

    @property
    def encoder(self) -> Encoder:
        """The fine-tuned sentence encoder."""
        return self._encoder

    def add_to_graph(self, graph: ProbabilityGraph, vectors: str) -> str:
        """Add the head and the pool to an ONNX graph, and return the name of the probabilities."""
        fitted = self._fitted
        product = graph.linear(vectors, fitted.weights)
        logits = graph.graph.add("Add", product, graph.graph.constant(fitted.offsets))
        return self._pool.add_to_graph(graph, graph.of_margins(logits, len(fitted.weights), fitted.known))

    def save(self, folder: Path) -> None:
        """Write the encoder in the format of transformers, the head and the linear model."""
        fitted = self._fitted
        arrays: dict[str, npt.NDArray[Any]] = {"weights": fitted.weights, "offsets": fitted.offsets}
        write_arrays(folder / WEIGHTS, {**arrays, "known": fitted.known})
        self._pool.save(folder)
        if self._encoder.folder != folder / ENCODER:
            shutil.copytree(self._encoder.folder, folder / ENCODER, dirs_exist_ok=True)
        written = {name: getattr(fitted, name) for name in ("options", "independent", "notes")}
        write_json(folder / SETTINGS, {**written, "share": self._pool.share})


def load(folder: Path, question: Question, base: Path | None) -> ContrastiveScorer:
    """Load a fine-tuned classifier that was saved; its base model isn't needed."""
    settings, arrays = read_json(folder / SETTINGS), read_arrays(folder / WEIGHTS)
    fitted = Fitted(
        arrays["weights"],
        arrays["offsets"],
        arrays["known"],
        len(question.values),
        question.type == "multi",
        tuple(settings["notes"]),
    )
    encoder = Encoder.open(folder / ENCODER)
    check_layer(folder / WEIGHTS, fitted.weights, fitted.offsets, fitted.known, fitted.options, encoder.width)
    pool = load_pool(folder, question, settings["share"], fitted.independent)
    return ContrastiveScorer(encoder, pool, fitted)


def head_probabilities(vectors: npt.NDArray[np.float32], fitted: Fitted) -> FloatArray:
    """Compute the head's probability of each option from (texts, width) unit vectors."""
    logits = np.asarray(vectors @ fitted.weights.T, dtype=np.float64) + fitted.offsets
    if fitted.independent:
        found: FloatArray = expit(logits)
    else:
        found = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    return spread_out(found, fitted.known, fitted.options)


def fit(train: Material, validation: Material, settings: Settings) -> ContrastiveScorer:
    """Fine-tune the encoder, and choose the linear model's share in the pool on the validation split.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        SizewiseError: the base model is no sentence encoder.
    """
    if settings.base is None:
        raise SizewiseError("The method contrastive starts from no encoder.", "a sentence encoder", "use pkg:minilm")
    training = _training()
    deadline = time.monotonic() + 60 * settings.minutes
    words = linear.fit(train, validation, settings)
    base = Encoder.open(settings.base)
    independent, count = settings.question.type == "multi", train.targets.shape[1]
    known = np.arange(count) if independent else np.flatnonzero(train.targets.sum(axis=0) > 0)
    targets = train.targets[:, known]
    vectors, choosing_s = _encoded(base, train.texts, validation, settings.reporter)
    start = first_head(vectors, targets, independent)
    plan = plan_for(training.TuningPlan(steps=1, seed=settings.seed), targets, independent)
    work = None if settings.work is None else settings.work / "tuning"
    tuned = training.tune_encoder(
        training.open_encoder(settings.base),
        training.Head(*start),
        training.Labeled(base.token_ids(train.texts), targets, independent),
        plan,
        pooling=base.settings.pooling,
        minutes=_left_minutes(deadline, choosing_s),
        work=work,
        reporter=settings.reporter,
    )
    folder = Path(tempfile.mkdtemp(prefix="sizewise-encoder-"))
    shape = Fitted(np.zeros((0, 0), np.float32), np.zeros(0, np.float32), known, count, independent, ())
    choice = _Choice(training, tuned, settings.base, folder, deadline)
    chosen = choice.make(shape, words, validation)
    fitted = chosen.fitted._replace(notes=(_tuning_note(tuned, plan, len(train.texts)), chosen.note))
    scorer = ContrastiveScorer(chosen.encoder, make_pool(words, chosen.share, independent), fitted)
    weakref.finalize(scorer, shutil.rmtree, folder, ignore_errors=True)
    return scorer


def _left_minutes(deadline: float, choosing_s: float) -> float:
    """Compute the time for the steps: what is left, without the time for choosing a distance."""
    left = max(0.0, deadline - time.monotonic())
    return (left - min(choosing_s, MAX_CHOOSING_SHARE * left)) / 60


class _Point(NamedTuple):
    """A fine-tuned encoder at some distance between its first and its last weights, and its share in the pool."""

    distance: float
    loss: float
    encoder: Encoder
    fitted: Fitted
    share: float
    note: str


class _Choice:
    """Chooses how far to follow the fine-tuning, and the linear model's share."""

    def __init__(self, training: Any, tuned: Any, base: Path, folder: Path, deadline: float) -> None:
        self._training, self._tuned, self._base, self._folder, self._deadline = training, tuned, base, folder, deadline

    def make(self, shape: Fitted, words: LinearScorer, validation: Material) -> _Point:
        """Choose on the validation split, or take the defaults if it has too few texts."""
        few = len(validation.texts) < MIN_VALIDATION
        return self._default(shape, len(validation.texts)) if few else self._best(shape, words, validation)

    def _default(self, shape: Fitted, examples: int) -> _Point:
        """Take the default distance and share."""
        encoder, fitted = self._at(DISTANCES[0], shape)
        note = f"With {examples} validation examples, TF-IDF has the default share {DEFAULT_SHARE:.0%}."
        return _Point(DISTANCES[0], 0.0, encoder, fitted, DEFAULT_SHARE, note)

    def _best(self, shape: Fitted, words: LinearScorer, validation: Material) -> _Point:
        """Try distances and shares on the validation split until the time is up; the first distance always is."""
        other = words.probabilities(validation.texts)
        found: list[_Point] = []
        longest = 0.0
        for distance in DISTANCES:
            begun = time.monotonic()
            if found and begun + longest > self._deadline:
                break
            encoder, fitted = self._at(distance, shape)
            own = head_probabilities(encoder.encode(validation.texts), fitted)
            share, losses = choose_share(own, other, validation.targets, fitted.independent)
            note = (
                f"Validation prefers {distance:.0%} of the way of the fine-tuning, and TF-IDF with a share of "
                f"{share:.0%} (log loss {losses[share]:.3f}; encoder alone {losses[0.0]:.3f})."
            )
            found.append(_Point(distance, losses[share], encoder, fitted, share, note))
            longest = max(longest, time.monotonic() - begun)
        best = min(found, key=lambda point: point.loss)
        for point in found:
            if point is not best:
                shutil.rmtree(self._place(point.distance))
        if len(found) == len(DISTANCES):
            return best
        return best._replace(note=f"{best.note} The time allowed {len(found)} of {len(DISTANCES)} distances.")

    def _place(self, distance: float) -> Path:
        return self._folder / f"{distance:.2f}"

    def _at(self, distance: float, shape: Fitted) -> tuple[Encoder, Fitted]:
        head = self._tuned.move(distance)
        _write_encoder(self._training, self._tuned.network, self._base, self._place(distance))
        fitted = shape._replace(weights=head.weights.astype(np.float32), offsets=head.offsets.astype(np.float32))
        return Encoder.open(self._place(distance)), fitted


def _training() -> Any:
    try:
        from sizewise.lm import encoder_training
    except ImportError as error:
        raise MissingExtraError("torch", "study") from error
    return encoder_training


def _encoded(
    encoder: Encoder, texts: Sequence[str], validation: Material, reporter: Reporter
) -> tuple[npt.NDArray[np.float32], float]:
    """Encode the training texts, and estimate from that the seconds that choosing a distance will take."""
    reporter.say(f"Encoding {len(texts):,} texts.")
    begun = time.monotonic()
    encoded = encoder.read(texts, done=encoding(reporter))
    a_token = (time.monotonic() - begun) / max(1, int(encoded.tokens.sum()))
    if len(validation.texts) < MIN_VALIDATION:
        return encoded.vectors, DISTANCE_S
    each = DISTANCE_S + a_token * sum(encoder.count_tokens(validation.texts))
    return encoded.vectors, len(DISTANCES) * each


def first_head(
    vectors: npt.NDArray[np.float32], targets: FloatArray, independent: bool
) -> tuple[FloatArray, FloatArray]:
    """Fit logistic regression on the vectors of the encoder as it is.

    Args:
        vectors: (texts, width) unit vectors.
        targets: (texts, options) shares; each option has a text unless independent.
        independent: whether each option is a decision of its own.

    Returns:
        (options, width) weights and (options,) offsets.
    """
    from sklearn.linear_model import LogisticRegression

    def fitted(labels: Any) -> tuple[FloatArray, FloatArray]:
        model = LogisticRegression(C=REGULARIZATION, max_iter=200).fit(vectors, labels)
        return model.coef_, model.intercept_

    width, count = vectors.shape[1], targets.shape[1]
    if independent:
        rows = [_one_against_rest(fitted, targets[:, option] > 0.5, width) for option in range(count)]
        return np.stack([weights for weights, _ in rows]), np.array([offset for _, offset in rows])
    if count < 2:
        return np.zeros((count, width)), np.zeros(count)
    labels = targets.argmax(axis=1)
    if len(np.unique(labels)) < count:  # an option that is never the most likely one
        return np.zeros((count, width)), np.log(targets.mean(axis=0))
    weights, offsets = fitted(labels)
    if count == 2:  # one row of log-odds becomes two of logits
        return np.concatenate([-weights, weights]) / 2, np.concatenate([-offsets, offsets]) / 2
    return weights, offsets


def _one_against_rest(fitted: Any, correct: npt.NDArray[np.bool_], width: int) -> tuple[FloatArray, float]:
    if correct.all() or not correct.any():
        return np.zeros(width), 5.0 if correct.all() else -5.0
    weights, offsets = fitted(correct)
    return weights[0], float(offsets[0])


def plan_for(plan: TuningPlan, targets: FloatArray, independent: bool) -> TuningPlan:
    """Set the steps, and the contrastive loss if options have few texts.

    Args:
        plan: settings with the seed.
        targets: (texts, options) shares.
        independent: whether each option is a decision of its own.
    """
    n, count = targets.shape
    steps = max(MIN_STEPS, EPOCHS * math.ceil(n / BATCH))
    few = not independent and n <= PAIRED_TEXTS * count
    return replace(plan, steps=steps, batch=min(BATCH, max(MIN_BATCH, n // MIN_BATCH)), contrastive=1.0 if few else 0.0)


def _write_encoder(training: Any, network: Any, base: Path, folder: Path) -> None:
    """Write the tuned encoder with the tokenizer and the pooling of its base."""
    for pattern in MODEL_FILES:
        for path in base.glob(pattern):
            target = folder / path.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    training.save_encoder(network, folder)


def _tuning_note(tuned: Any, wanted: TuningPlan, n: int) -> str:
    seen = tuned.plan.steps * tuned.plan.batch / max(1, n)
    short = "" if tuned.plan.steps == wanted.steps else f"; the time allowed {tuned.plan.steps} of {wanted.steps}"
    return f"Fine-tuned in {tuned.plan.steps} steps ({seen:.1f} times each text{short})."
