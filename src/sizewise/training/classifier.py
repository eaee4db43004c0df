"""train_classifier(): fit a classifier on the labels of a dataset, and calibrate it on the validation split."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sizewise import datasets
from sizewise.datasets.questions import is_labeled
from sizewise.decisions.calibrators import FOLDS, fit_calibrator
from sizewise.decisions.files import write_json
from sizewise.decisions.folds import make_folds
from sizewise.decisions.scorers import STARTS, FloatArray, Material, Scorer, Settings, fit_scorer
from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics import AnswerItem, CannotMeasure, ReferenceSet, find_metric, total
from sizewise.models.classifier import READING, decided_text, text_of
from sizewise.models.opening import resolve_folder, revision_of
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Calibrator,
    Classifier,
    ClassifierRecipe,
    Dataset,
    DecidedItem,
    Example,
    ItemRow,
    Question,
    Score,
    fingerprint,
)
from sizewise.store import Saved, Store, id_of, make_folder, seal, versions
from sizewise.text import legible_text

CLASSIFIER_VERSION = 3
"""Raised when the same recipe makes another classifier; part of its id."""
MODEL, VALIDATION, WORK = "model", "validation.jsonl", "work"
MIN_VALIDATION = 10
VALIDATION_SHARE = 0.15
VALIDATION_METRICS = ("accuracy", "macro_f1", "log_loss", "brier", "ece")
MIN_OF_A_LABEL = 2
MAX_OPTION_SCORES, MIN_SCORED = 15_000, 100
"""Validation texts x options that the method options scores, and the texts that it scores in any case. A language model
scores about fifty options in a second."""


class _Base(NamedTuple):
    """The model that a classifier starts from."""

    folder: Path | None
    origin: str
    license: str


class _Labeled(NamedTuple):
    """Labeled examples of a dataset, as a classifier is fitted on them."""

    question: Question
    train: Sequence[Example]
    validation: Sequence[Example]
    notes: list[str]


def train_classifier(
    recipe: ClassifierRecipe,
    data: str | Saved[Dataset],
    *,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Saved[Classifier]:
    """Train and calibrate a classifier.

    The same recipe on the same data is the same classifier; if it exists, its record is returned.

    Args:
        recipe: settings.
        data: dataset whose examples have labels, or its id.
        store: where records live; by default SIZEWISE_HOME.
        reporter: receives progress.

    Raises:
        UsageError: the method can't start from this model.
        SizewiseError: the data aren't a classification, or only one label has examples.
    """
    store, reporter, data_id = store or Store(), reporter or Silent(), id_of(data)
    name = classifier_id(recipe, data_id)
    if store.exists("classifier", name):
        return store.get(Classifier, name)
    base = _base(recipe, store, reporter)
    labeled = _labeled(recipe, data_id, store)
    with store.lock("classifier", name):
        if store.exists("classifier", name):
            return store.get(Classifier, name)
        run = _Run(recipe, data_id, base, labeled, store.folder("classifier", name))
        record = run.fit(reporter)
        store.write_rows(run.folder, VALIDATION, run.decided())
        saved = store.write(name, record)
        shutil.rmtree(run.folder / WORK, ignore_errors=True)
        return saved


class _Run:
    """One training of a classifier."""

    def __init__(self, recipe: ClassifierRecipe, data: str, base: _Base, labeled: _Labeled, folder: Path) -> None:
        self.recipe, self.data, self.base, self.labeled, self.folder = recipe, data, base, labeled, folder
        self._held_out: FloatArray = np.zeros((0, 0))

    def fit(self, reporter: Reporter) -> Classifier:
        """Fit, calibrate and save the model, and return its record."""
        recipe, question = self.recipe, self.labeled.question
        begun = time.monotonic()
        reporter.say(f"Training {recipe.start} ({recipe.method}) on {len(self.labeled.train):,} examples")
        work = self.folder / WORK
        make_folder(work)
        settings = Settings(
            question, self.base.folder, recipe.minutes, recipe.shots, recipe.seed, work=work, reporter=reporter
        )
        train, validation = (_material(part, question) for part in (self.labeled.train, self.labeled.validation))
        scorer = fit_scorer(recipe.method, train, validation, settings)
        calibrator = self._calibrate(scorer, validation)
        counts = dict(zip(question.values, train.targets.sum(axis=0).tolist(), strict=True))
        return Classifier(
            recipe=recipe,
            data=self.data,
            question=question,
            counts={value: round(count) for value, count in counts.items()},
            unseen=tuple(value for value, count in counts.items() if not count),
            uncalibrated=_uncalibrated(question, validation),
            n=len(train.texts),
            validation=len(validation.texts),
            parameters=scorer.parameters,
            trained_parameters=scorer.trained_parameters,
            memory_bytes=scorer.memory_bytes,
            disk_bytes=_save_model(scorer, self.folder / MODEL),
            engine=scorer.engine,
            calibrator=calibrator,
            scores=_scores(self.labeled.validation, self._held_out, question),
            seconds=time.monotonic() - begun,
            origin=self.base.origin,
            license=self.base.license,
            notes=(*self.labeled.notes, *_calibration_notes(question, validation), *scorer.notes),
            versions=versions("scikit-learn", "onnxruntime", "torch", "transformers", "numpy"),
        )

    def _calibrate(self, scorer: Scorer, validation: Material) -> Calibrator:
        question = self.labeled.question
        calibrator, self._held_out = fit_calibrator(
            scorer.probabilities(validation.texts),
            validation.targets,
            question.values,
            make_folds(validation.labels, validation.clusters, FOLDS, self.recipe.seed),
            method=self.recipe.calibration,
            independent=question.type == "multi",
        )
        return calibrator

    def decided(self) -> list[DecidedItem]:
        """Return the probabilities of the validation examples."""
        values = self.labeled.question.values
        return [
            DecidedItem(
                item=example.id,
                cluster=example.source,
                labels=_answers(example),
                probabilities=dict(zip(values, row.tolist(), strict=True)),
                group=example.group,
            )
            for example, row in zip(self.labeled.validation, self._held_out, strict=True)
        ]


def classifier_id(recipe: ClassifierRecipe, data: str) -> str:
    """Compute the id of a classifier from everything that determines it."""
    parts = [recipe.model_dump(mode="json"), data, revision_of(recipe.start), CLASSIFIER_VERSION]
    return f"classifier-{fingerprint(parts)}"


def _base(recipe: ClassifierRecipe, store: Store, reporter: Reporter) -> _Base:
    """Resolve the model that the method starts from."""
    only = STARTS.get(recipe.method)
    if only is not None:
        if recipe.start != only:
            raise UsageError(
                f"The method {recipe.method} starts from {only}, not from {recipe.start}.",
                f"{only}, or another method: embedding, contrastive, options, head",
                f"sizewise train {only} --method {recipe.method} --data ID",
            )
        return _Base(None, "trained on the examples alone", "as the training text")
    if recipe.start in STARTS.values():
        raise UsageError(
            f"The method {recipe.method} can't start from {recipe.start}.",
            "the URI of an encoder or a language model",
            f"sizewise train pkg:minilm --method {recipe.method} --data ID",
        )
    return _Base(*resolve_folder(recipe.start, store, reporter.say))


def _labeled(recipe: ClassifierRecipe, data: str, store: Store) -> _Labeled:
    """Collect the labeled examples of a dataset.

    Raises:
        SizewiseError: the data aren't a classification, or only one label has examples.
    """
    contents = datasets.load(store, data)
    question = contents.record.question
    if question is None:
        named = {one.label for split in contents.examples.values() for one in split if one.label}
        if len(named) == 1:
            raise SizewiseError(
                f"All labeled examples of {data} have the label '{named.pop()[:50]}', so there is nothing to decide.",
                "examples of at least two labels",
                "add examples of another label; then sizewise read FILE",
            )
        raise SizewiseError(
            f"{data} has no labels to learn: its examples aren't answered with a few repeated labels.",
            "a text and a label in each row, and at least two labels",
            "sizewise read FILE --prompt COLUMN --label COLUMN",
        )
    notes: list[str] = []
    train, validation = (
        [one for one in contents.examples[split] if one.labels or is_labeled(one)] for split in ("train", "validation")
    )
    if len(validation) < MIN_VALIDATION <= len(train) // 2:
        folds = make_folds(
            np.array([question.values.index(_answers(one)[0]) for one in train]),
            [one.source for one in train],
            round(1 / VALIDATION_SHARE),
            recipe.seed,
        )
        notes.append(
            f"The validation split has {len(validation)} labeled examples, so {int((folds == 0).sum())} training "
            "examples were set aside to calibrate on."
        )
        validation = [*validation, *(one for one, fold in zip(train, folds, strict=True) if fold == 0)]
        train = [one for one, fold in zip(train, folds, strict=True) if fold != 0]
    train = _limited(train, recipe)
    if recipe.method == "options":
        validation = list(_affordable(validation, question, recipe.seed, notes))
    counts = Counter(value for one in train for value in _answers(one))
    if len(counts) < 2:
        raise SizewiseError(
            f"{data} has training examples of {len(counts)} label, so there is nothing to decide.",
            "training examples of at least two labels",
            "add examples of another label; then sizewise read FILE",
        )
    rare = [value for value in question.values if counts[value] < MIN_OF_A_LABEL]
    if rare:
        shown = ", ".join(f"'{value}'" for value in rare[:5]) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
        notes.append(f"{len(rare)} of {len(question.values)} labels have at most one training example: {shown}.")
    return _Labeled(question, train, validation, notes)


def _affordable(validation: Sequence[Example], question: Question, seed: int, notes: list[str]) -> list[Example]:
    """Keep as many validation examples as a language model scores in a few minutes, chosen at random by the seed."""
    most = max(MIN_SCORED, MAX_OPTION_SCORES // len(question.values))
    if len(validation) <= most:
        return list(validation)
    notes.append(
        f"{most:,} of {len(validation):,} validation examples are used, chosen at random, because a language model "
        f"scores {len(question.values)} options for each."
    )
    chosen = np.random.default_rng(seed).permutation(len(validation))[:most]
    return [validation[i] for i in sorted(chosen)]


def _answers(example: Example) -> tuple[str, ...]:
    """Return the labels of an example: one, or several where several may apply."""
    return example.labels or ((example.label,) if example.label else ())


def _limited(train: Sequence[Example], recipe: ClassifierRecipe) -> list[Example]:
    """Keep at most `max_examples` of each label, chosen at random by the seed.

    Where several labels may apply, an example is kept while one of its labels has fewer.
    """
    if recipe.max_examples is None:
        return list(train)
    kept: Counter[str] = Counter()
    chosen = []
    for i in np.random.default_rng(recipe.seed).permutation(len(train)):
        labels = _answers(train[i])
        if any(kept[label] < recipe.max_examples for label in labels):
            kept.update(labels)
            chosen.append(int(i))
    return [train[i] for i in sorted(chosen)]


def _material(examples: Sequence[Example], question: Question) -> Material:
    seen = next((example for example in examples if any(message.images for message in example.messages)), None)
    if seen is not None:
        raise SizewiseError(
            f"The example {seen.id} has images, which classifiers don't read.",
            "examples whose text alone decides",
            "remove the images from the data if the text is enough, then sizewise read PATH...",
        )
    place = {value: i for i, value in enumerate(question.values)}
    targets = np.zeros((len(examples), len(place)))
    for row, example in enumerate(examples):
        for value, share in _shares(example, question).items():
            targets[row, place[value]] = share
    texts = [legible_text(text_of(one.messages)) for one in examples]
    return Material(texts, targets, [one.source for one in examples])


def _uncalibrated(question: Question, validation: Material) -> tuple[str, ...]:
    """List the options without a validation example."""
    seen = validation.targets.sum(axis=0) if len(validation.texts) else np.zeros(len(question.values))
    return tuple(value for value, count in zip(question.values, seen, strict=True) if not count)


def _calibration_notes(question: Question, validation: Material) -> list[str]:
    """Note options without a validation example."""
    found = _uncalibrated(question, validation)
    if not found or not len(validation.texts):
        return []
    shown = ", ".join(f"'{value[:50]}'" for value in found[:5]) + (f" and {len(found) - 5} more" if found[5:] else "")
    return [
        f"The validation split has no example of {len(found)} of {len(question.values)} labels, so nothing shows "
        f"whether their probabilities are right: {shown}."
    ]


def _shares(example: Example, question: Question) -> dict[str, float]:
    """Return how far each option is the correct one: several may be, and annotators may disagree."""
    if question.type == "multi":
        return dict.fromkeys(_answers(example), 1.0)
    known = {value: share for value, share in example.distribution.items() if value in question.values and share > 0}
    total = sum(known.values())
    return {value: share / total for value, share in known.items()} if total else {example.label: 1.0}


def _save_model(scorer: Scorer, folder: Path) -> int:
    """Write the model in place of an interrupted one, and return the bytes of its files."""
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    scorer.save(folder)
    write_json(folder / READING, {"legible": True})
    seal(folder)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _scores(examples: Sequence[Example], probabilities: FloatArray, question: Question) -> dict[str, Score]:
    """Score the validation split, with probabilities of a calibration that wasn't fitted on the same examples."""
    several = question.type == "multi"
    references = ReferenceSet(
        [one.references for one in examples], labels=() if several else question.values, several=several
    )
    found = {}
    for name in VALIDATION_METRICS if examples else ():
        rows = []
        try:
            metric = find_metric(name).prepared(references)
            for example, row in zip(examples, probabilities, strict=True):
                chances = dict(zip(question.values, row.tolist(), strict=True))
                item = AnswerItem(decided_text(chances, question), example.references, probabilities=chances)
                stats = {name: metric.measure(item)}
                rows.append(
                    ItemRow(
                        item=example.id, kind="example", cluster=example.source, uncontaminated=True, stats=stats
                    )
                )  # fmt: skip
        except CannotMeasure as reason:
            found[name] = Score(metric=name, n=0, unit="share", signature="", missing_reason=str(reason))
            continue
        found[name] = total(metric, rows, name=name, signature="items:validation")
    return found
