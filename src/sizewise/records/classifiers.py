"""Records of classifiers: how one is trained, how its probabilities are calibrated, and the trained one."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from sizewise.records.base import Record
from sizewise.records.questions import Question
from sizewise.records.scores import Score
from sizewise.seeds import MAX_SEED

ClassifierMethod = Literal["frequent", "linear", "embedding", "contrastive", "options", "head"]
CalibrationMethod = Literal["auto", "none", "temperature", "platt", "isotonic"]


class ClassifierRecipe(Record):
    """All settings of a classifier."""

    start: str
    """`tfidf` for a linear model of words and characters, else the URI of an encoder or a language model."""
    method: ClassifierMethod
    """frequent: class frequencies only; linear: TF-IDF and a linear model; embedding: logistic regression on the
    embeddings of a frozen encoder; contrastive: an encoder fine-tuned for the labels; options: the likelihoods that a
    language model gives the options; head: a language model fine-tuned with a classification head."""
    minutes: float = Field(default=10.0, gt=0)
    """Maximum training time of methods that fine-tune a network."""
    calibration: CalibrationMethod = "auto"
    """How probabilities are calibrated on the validation split; auto takes the method with the least log loss there."""
    shots: int = Field(default=0, ge=0)
    """Training examples shown in the prompt of a language model (method options)."""
    max_examples: int | None = Field(default=None, gt=0)
    """Maximum training examples of each class, for learning curves; by default all."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of samples, folds and initial weights."""


class Calibrator(Record):
    """A map from the probabilities of a model to calibrated ones, fitted on the validation split.

    Sources: Guo et al. (2017), On calibration of modern neural networks (temperature); Platt (1999), Probabilistic
    outputs for support vector machines; Zadrozny and Elkan (2002), Transforming classifier scores into accurate
    multiclass probability estimates (isotonic regression, one class against the rest).
    """

    method: Literal["none", "temperature", "platt", "isotonic"]
    """none leaves probabilities as they are."""
    labels: tuple[str, ...]
    """Options that it was fitted for; probabilities of others are refused."""
    independent: bool = False
    """Whether each option has a probability of its own (multi), instead of one that sums to 1 with the others."""
    temperature: float = Field(default=1.0, gt=0)
    """Divisor of the log-odds; above 1 makes probabilities less extreme."""
    slopes: tuple[float, ...] = ()
    """Of each option, the factor of its log-odds (platt)."""
    offsets: tuple[float, ...] = ()
    """Of each option, what is added to its log-odds (platt)."""
    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()
    """Of each option, probabilities in ascending order and what each becomes (isotonic); interpolated in between."""
    n: int = 0
    """Number of validation examples that it was fitted on."""
    log_loss: dict[str, float] = Field(default_factory=dict)
    """Method -> log loss on validation examples that it wasn't fitted on, by cross-validation."""

    @model_validator(mode="after")
    def _parameters_fit_the_options(self) -> Self:
        """Refuse parameters of other options, which would turn probabilities into wrong ones."""
        count = len(self.labels)
        if self.method == "platt" and not len(self.slopes) == len(self.offsets) == count:
            raise ValueError(f"{len(self.slopes)} slopes and {len(self.offsets)} offsets for {count} options")
        if self.method == "isotonic" and len(self.knots) != count:
            raise ValueError(f"knots of {len(self.knots)} options for {count} options")
        if not all(map(math.isfinite, (self.temperature, *self.slopes, *self.offsets))):
            raise ValueError("a parameter of the calibration isn't finite")
        if min(self.slopes, default=0.0) < 0:
            raise ValueError("a slope below 0 turns the order of probabilities around")
        for xs, ys in self.knots:
            if not (len(xs) == len(ys) > 0 and list(xs) == sorted(xs) and all(0 <= one <= 1 for one in (*xs, *ys))):
                raise ValueError("the knots of an option aren't ascending probabilities with one value each")
        return self


class Classifier(Record):
    """A trained classifier; its weights lie in the folder `model/` next to this record."""

    recipe: ClassifierRecipe
    """Settings."""
    data: str
    """Id of the training dataset."""
    question: Question
    """The question that it answers, with its options."""
    counts: dict[str, int]
    """Option -> number of training examples."""
    unseen: tuple[str, ...] = ()
    """Options without a training example, which it can't learn."""
    uncalibrated: tuple[str, ...] = ()
    """Options without a validation example, so that nothing shows whether their probabilities are right."""
    n: int
    """Number of training examples."""
    validation: int
    """Number of validation examples, on which choices and calibration rest."""
    parameters: int
    """Number of parameters, those of the encoder or language model included."""
    trained_parameters: int
    """Parameters that training changed."""
    memory_bytes: int
    """Memory of the weights."""
    disk_bytes: int
    """Size of the files in `model/`, in bytes; an encoder or language model that isn't changed isn't copied there."""
    engine: str
    """Software that runs it."""
    calibrator: Calibrator
    """Calibration of its probabilities."""
    scores: dict[str, Score] = Field(default_factory=dict)
    """Scores on the validation split, calibrated by cross-validation. Choices were made on it, so they flatter."""
    seconds: float
    """Wall time of training and calibration, in seconds."""
    origin: str
    """Where the weights come from."""
    license: str
    """License that applies to the weights."""
    notes: tuple[str, ...] = ()
    """Notes for readers."""
    versions: dict[str, str]
    """Versions of the relevant packages."""


class DecidedItem(Record):
    """Probabilities of a classifier on one validation example, stored in validation.jsonl next to the classifier."""

    item: str
    """Id of the example."""
    cluster: str
    """Id of its source document."""
    labels: tuple[str, ...]
    """The correct options; one, except for questions of type multi."""
    probabilities: dict[str, float]
    """Option -> calibrated probability, from a calibration that wasn't fitted on this example."""
    group: str = ""
    """Group of people that the example is about, if the data say so."""
