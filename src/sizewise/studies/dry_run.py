"""outlook(): what a study will take and what its data can show, told before anything is trained or paid for."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable

import numpy as np

from sizewise import datasets
from sizewise.datasets.sampling import sample_documents, sample_examples
from sizewise.errors import SizewiseError
from sizewise.models import PACKAGED, PROVIDERS, model_size, price_of
from sizewise.models.prompts import mean_answer_tokens
from sizewise.models.size import available_bytes
from sizewise.progress import Reporter, Silent
from sizewise.records import Candidate, CandidateEstimate, Dataset, DryRun, Example, Range
from sizewise.stats import detectable_difference
from sizewise.store import Store, offline
from sizewise.studies.config import StudyConfig
from sizewise.text import words_of
from sizewise.training.preflight import PROCESS_BYTES
from sizewise.training.preflight import memory_bytes as training_memory

FEW_ITEMS, FEW_DOCUMENTS = 30, 10
LITTLE_TEXT = 200_000  # bytes, a few books' chapters
BYTES_A_TOKEN = 4.0
# Share of the machine's speed in one large matrix product that reading and writing reach, measured on the demo study.
READING, WRITING = 0.5, 0.06
SPREAD = (0.5, 2.0)  # of the arithmetic
TRIED = 60  # answers to validation prompts, to choose the form of the prompt
PROMPT_TOKENS_MORE = 120  # worked examples and the chat template
WHEEL_BYTES = 1.1  # of the weights as packaged and as kept: 4 bits fetched, 16 bits written


def outlook(config: StudyConfig, *, store: Store | None = None, reporter: Reporter | None = None) -> DryRun:
    """Read the data of a study and say what the rest will take.

    Args:
        config: what the study file says.
        store: where records live; by default SIZEWISE_HOME.
        reporter: told how far it is.

    Raises:
        SizewiseError: the documents or examples cannot be read.
    """
    store, reporter = store or Store(), reporter or Silent()
    sources = [*config.documents, *config.examples]
    reporter.say(f"reading {', '.join(sources)}")
    data = datasets.read(sources, store=store, name=config.name, domain=config.domain, seed=config.seed)
    contents = datasets.load(store, data.id)
    asked = sample_examples(contents.examples["test"], config.limit, config.seed)
    documents, _ = sample_documents(contents.documents["test"], config.limit, config.seed)
    passages = sum(len(datasets.passages(document)) for document in documents)
    passage_bytes = sum(len(document.text.encode()) for document in documents)
    uncontaminated = [
        one
        for one in asked
        if one.id not in contents.contamination_entries or contents.contamination_entries[one.id].uncontaminated
    ]
    clusters = {one.source for one in uncontaminated} if asked else {one.id for one in documents}
    train_bytes = sum(len(d.text.encode()) for d in contents.documents["train"])
    speed = _speed()
    reporter.say(f"this machine multiplies {speed / 1e9:,.0f} billion fp32 numbers a second in large products")
    work = _Work(
        read=(passage_bytes + sum(len(one.prompt.encode()) for one in asked)) / BYTES_A_TOKEN
        + (len(asked) + TRIED * bool(asked)) * PROMPT_TOKENS_MORE,
        written=(len(asked) + TRIED * bool(asked)) * mean_answer_tokens(contents.examples["train"]) if asked else 0.0,
        prompts=len(asked) + TRIED * bool(asked),
        speed=speed,
    )
    rows = [_candidate(one, work, store) for one in config.candidates]
    blockers = [f"{row.name}: {note}" for row in rows for note in row.notes if note.startswith("blocked")]
    blockers += [
        f"{row.name} needs {(row.memory_bytes or 0) / 1e9:.1f} GB of memory" for row in rows if row.fits is False
    ]
    minutes = [row.measure_minutes or Range(lower=0, expected=0, upper=0) for row in rows]
    training = sum(row.train_minutes or 0 for row in rows)
    paid = [row.usd for row in rows if row.usd]
    return DryRun(
        dataset=data.id,
        train_documents=len(contents.documents["train"]),
        train_bytes=train_bytes,
        test_passages=passages,
        test_examples=len(asked),
        uncontaminated_examples=len(uncontaminated),
        test_documents=len(clusters),
        can_show=_can_show(len(uncontaminated), len(clusters)) if asked else None,
        candidates=tuple(rows),
        minutes=Range(
            lower=training + sum(one.lower for one in minutes),
            expected=training + sum(one.expected for one in minutes),
            upper=training * 1.3 + sum(one.upper for one in minutes),
        ),
        usd=_sum(paid),
        disk_bytes=sum(_disk(one, store) for one in config.candidates),
        blockers=tuple(blockers),
        warnings=tuple(_warnings(config, contents.record, train_bytes, asked, uncontaminated, len(clusters))),
    )


class _Work:
    """Tokens that each candidate reads and writes, and how fast this machine is.

    Args:
        read: tokens to read.
        written: tokens to write.
        prompts: answers to give.
        speed: floating-point operations a second in a large product.
    """

    def __init__(self, read: float, written: float, prompts: int, speed: float) -> None:
        self.read, self.written, self.prompts, self.speed = read, written, prompts, speed

    def minutes(self, parameters: int) -> Range:
        """Give the time to measure a model of this size."""
        work = 2 * parameters * (self.read / READING + self.written / WRITING)
        minutes = work / self.speed / 60
        return Range(lower=minutes * SPREAD[0], expected=minutes, upper=minutes * SPREAD[1])

    def usd(self, read: float, written: float) -> Range:
        """Give the price of all answers, at US dollars for a million tokens."""
        money = (self.read * read + self.written * written) / 1e6
        return Range(lower=money * SPREAD[0], expected=money, upper=money * SPREAD[1])


def _can_show(items: int, documents: int) -> Range | None:
    """Give the least difference between two shares near one half that would be shown in four of five studies."""
    if items < 2 or documents < 2:
        return None

    def least(n: int) -> float:
        half = 1.96 * math.sqrt(0.5 / n)  # two models that are right on half of the items, each on its own ones
        return min(1.0, detectable_difference(-half, half))

    return Range(lower=least(items), expected=least(round(math.sqrt(items * documents))), upper=least(documents))


def _candidate(candidate: Candidate, work: _Work, store: Store) -> CandidateEstimate:
    kind, _, name = candidate.model.partition(":")
    notes: list[str] = []
    if kind in PROVIDERS:
        return _remote(candidate, kind, work)
    if kind in ("fake", "recorded"):
        free = Range(lower=0, expected=0, upper=0)
        return CandidateEstimate(
            name=candidate.name, model=candidate.model, parameters=None, memory_bytes=None, fits=None,
            train_minutes=None, measure_minutes=free, usd=None,
        )  # fmt: skip
    parameters = None
    if candidate.model == "scratch" and candidate.train:
        parameters = candidate.train.parameters
    elif kind == "pkg" and name in PACKAGED:
        parameters = PACKAGED[name].parameters
    elif kind in ("http", "https"):
        notes.append("a server: its speed is not known before it is asked")
    else:
        try:
            parameters = model_size(candidate.model, store=store)[0].parameters
        except SizewiseError as error:
            notes.append(f"blocked: {error.what}")
    if kind == "pkg" and not store.weights_folder(name).is_dir():
        if offline():
            notes.append("blocked: its weights are not here, and SIZEWISE_OFFLINE forbids fetching them")
        else:
            notes.append("its weights are fetched with pip first")
    memory = None if parameters is None else round(4.0 * parameters + PROCESS_BYTES)
    if parameters is not None and candidate.train is not None:
        memory = round(_memory_to_train(candidate, parameters) + PROCESS_BYTES)
    free_bytes = available_bytes()
    return CandidateEstimate(
        name=candidate.name,
        model=candidate.model,
        parameters=parameters,
        memory_bytes=memory,
        fits=None if memory is None or free_bytes is None else memory <= free_bytes,
        train_minutes=_train_minutes(candidate, parameters, work),
        measure_minutes=work.minutes(parameters) if parameters is not None else None,
        usd=None,
        notes=tuple(notes),
    )


def _remote(candidate: Candidate, kind: str, work: _Work) -> CandidateEstimate:
    price = price_of(candidate.model)
    notes = ["text leaves this machine"]
    if price is None:
        notes.append("no list price is known")
    if offline():
        notes.append("blocked: SIZEWISE_OFFLINE forbids asking it")
    elif not os.environ.get(PROVIDERS[kind].key):
        notes.append(f"blocked: no key in {PROVIDERS[kind].key}")
    return CandidateEstimate(
        name=candidate.name,
        model=candidate.model,
        parameters=None,
        memory_bytes=None,
        fits=None,
        train_minutes=None,
        measure_minutes=None,
        usd=work.usd(price.read, price.written) if price else None,
        notes=tuple(notes),
    )


def _memory_to_train(candidate: Candidate, parameters: int) -> float:
    """Give the memory of training from the size alone: the shape is taken to be as that of usual small networks."""
    from sizewise.training.preflight import Shape

    recipe = candidate.train
    assert recipe is not None
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
    if recipe is None:
        return None
    if recipe.tokens is None:
        return recipe.minutes
    return None if parameters is None else 6 * parameters * recipe.tokens / (READING * work.speed) / 60


def _disk(candidate: Candidate, store: Store) -> int:
    kind, _, name = candidate.model.partition(":")
    size = 0.0
    if kind == "pkg" and name in PACKAGED and not store.weights_folder(name).is_dir():
        size += PACKAGED[name].parameters * (2 + 0.6) * WHEEL_BYTES
    if candidate.train is not None:
        parameters = candidate.train.parameters if candidate.model == "scratch" else 0
        size += 4 * parameters or 60e6
    return round(size)


def _warnings(
    config: StudyConfig,
    record: Dataset,
    train_bytes: int,
    asked: list[Example],
    uncontaminated: list[Example],
    documents: int,
) -> Iterable[str]:
    if record.derived:
        yield "no examples of the job: only familiarity with the text is measured; give examples = FILE in [data]"
    if asked and len(uncontaminated) < FEW_ITEMS:
        some = f"{len(uncontaminated)} of {len(asked)} test examples share nothing with training"
        few = f"{len(asked)} test examples" if len(uncontaminated) == len(asked) else some
        yield f"only {few}: {FEW_ITEMS} are needed"
    if documents < FEW_DOCUMENTS:
        yield f"only {documents} source documents in the test: intervals will be wide; {FEW_DOCUMENTS} or more help"
    trained = [one for one in config.candidates if one.train is not None]
    if trained and train_bytes < LITTLE_TEXT:
        yield (
            f"only {train_bytes / 1e3:,.0f} kB to train on: the model as it is, with a good prompt or retrieval, may "
            "do as well; keep it among the candidates"
        )
    if len(config.candidates) < 2:
        yield "one candidate only: the verdict can compare it with nothing but the baseline"
    if config.needs.min_quality is None:
        yield "no least quality in [needs]: the best can be found, but not whether it is good enough"
    answers = [len(words_of(one.references[0])) for one in asked]
    if answers and float(np.median(answers)) < 4 and not any(one.choices for one in asked):
        yield "answers of a word or two: give choices with the examples, and accuracy is measured by likelihood too"


def _sum(ranges: list[Range]) -> Range:
    return Range(
        lower=sum(one.lower for one in ranges),
        expected=sum(one.expected for one in ranges),
        upper=sum(one.upper for one in ranges),
    )


def _speed() -> float:
    """Measure the floating-point operations a second of a large product, for about a third of a second."""
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
