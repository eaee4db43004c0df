"""The newest measurements of models, from evaluations and load tests in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sizewise.comparison.likeness import LETTER
from sizewise.errors import SizewiseError
from sizewise.metrics import METRICS
from sizewise.metrics.display import measure_of
from sizewise.models.resolving import find_entry
from sizewise.records import Dataset, Evaluation, LoadTest, ModelCell, ModelRow, Score
from sizewise.store import Saved, Store
from sizewise.studies.model_subjects import Subject

QUALITY, COST = "Context and expertise", "Resources and cost"
FAIRNESS, SPEED = "Bias and fairness", "Speed for one user and under load"
GROUPS = {
    "usd_per_1000": COST,
    "memory_bytes": COST,
    "disk_bytes": COST,
    "latency_s": SPEED,
    "requests_per_s": SPEED,
    "choice_control": FAIRNESS,
}
BY_PROMPTING = "|by prompting"
"""Ending of a suite's name where the model was asked to choose: such scores aren't comparable with log-likelihoods."""
LEFT_OUT = ("parameters", "prompt_tokens", "completion_tokens")
UNDER_LOAD = ("p95_ttft_s", "p95_latency_s", "tokens_per_s", "requests_per_s", "within_limits")
NOT_MEASURED = "not measured here"


class Measured(NamedTuple):
    """A score, and the record that holds it."""

    score: Score
    data: str
    """Id of the dataset, or name of the suite."""
    record: str
    """Id of the record."""
    day: str
    """Day on which it was saved (ISO date)."""


class Evaluated(NamedTuple):
    """The evaluations of the models to compare, oldest first."""

    of: tuple[tuple[Saved[Evaluation], ...], ...]
    """Evaluations of each model."""


def evaluations_of(subjects: Sequence[Subject], store: Store) -> Evaluated:
    """Read the complete evaluations of each model, oldest first."""
    saved = [one for one in store.saved(Evaluation) if not one.record.unanswered]
    return Evaluated(
        tuple(tuple(one for one in saved if subject.matches(one.record.model, one.record.name)) for subject in subjects)
    )


def evaluation_rows(subjects: Sequence[Subject], evaluated: Evaluated, store: Store) -> list[ModelRow]:
    """Build a row for each metric that was measured for at least one of the models."""
    by_metric: dict[str, list[list[Measured]]] = {}
    for i, evaluations in enumerate(evaluated.of):
        for saved in evaluations:
            for metric, score in saved.record.scores.items():
                if "@" in metric or "#" in metric or metric in LEFT_OUT or score.value is None:
                    continue
                cells = by_metric.setdefault(metric, [[] for _ in subjects])
                cells[i].append(Measured(score, _data_of(saved.record, score), saved.id, saved.created[:10]))
    rows = [_row_of_metric(metric, found, store) for metric, found in by_metric.items()]
    order = {name: i for i, name in enumerate((*METRICS, *GROUPS))}
    return sorted(rows, key=lambda row: (row.group, order.get(row.title, len(order)), row.title))


def _row_of_metric(metric: str, found: list[list[Measured]], store: Store) -> ModelRow:
    """Build the row of a metric: on the data that most of the models were measured on, the newest measurement."""
    counts = Counter(data for of_model in found for data in {one.data for one in of_model})
    newest = {one.data: one.day for of_model in found for one in of_model}
    data = max(counts, key=lambda one: (counts[one], newest[one], one))
    cells, others = [], False
    for of_model in found:
        same = [one for one in of_model if one.data == data]
        if not of_model:
            cells.append(unknown(NOT_MEASURED))
            continue
        chosen = (same or of_model)[-1]
        others = others or not same
        text = "" if same else f"on other data, {_name_of(chosen.data, store)}: not comparable"
        cells.append(_cell(chosen, text))
    return ModelRow(
        group=_group_of(metric),
        title=measure_of(metric).heading,
        cells=tuple(cells),
        note=f"measured on {_name_of(data, store)}" + ("; cells on other data aren't comparable" if others else ""),
    )


def _group_of(metric: str) -> str:
    known = METRICS.get(metric)
    if known is not None and known.needs == "suite" and known.better == "lower":
        return FAIRNESS
    return GROUPS.get(metric, QUALITY)


def _data_of(record: Evaluation, score: Score) -> str:
    return record.data + (BY_PROMPTING if record.data.startswith("suite:") and LETTER in score.signature else "")


def _name_of(data: str, store: Store) -> str:
    """Return a dataset's name with its id; a suite's name as it is."""
    if data.startswith("suite:"):
        asked = ", by prompting" if data.endswith(BY_PROMPTING) else ""
        return f"the suite {data.split(':')[1]}{asked}"
    try:
        return f"{store.read(Dataset, data).name} ({data})"
    except SizewiseError:
        return data


def _cell(found: Measured, text: str = "") -> ModelCell:
    return ModelCell(kind="measured", score=found.score, text=text, source=found.record, as_of=found.day)


def unknown(why: str) -> ModelCell:
    """Build the cell of an unknown point."""
    return ModelCell(kind="unknown", text=why)


def load_rows(subjects: Sequence[Subject], store: Store) -> list[ModelRow]:
    """Build rows for one user and for the largest number of users that most of the models were tested with."""
    saved = list(store.saved(LoadTest))
    tests = [_newest_test(subject, saved) for subject in subjects]
    levels = [
        {level.concurrent_users: level for level in test.record.levels if level.concurrent_users} if test else {}
        for test in tests
    ]
    counts = Counter(count for of_model in levels for count in of_model)
    if not counts:
        return []
    several = [count for count in counts if count > 1]
    largest = max(several, key=lambda count: (counts[count], count), default=None)
    rows = []
    for count in filter(None, (1 if 1 in counts else None, largest)):
        for metric in UNDER_LOAD:
            cells = []
            for test, of_model in zip(tests, levels, strict=True):
                score = of_model[count].scores.get(metric) if count in of_model else None
                if test is None or score is None or score.value is None:
                    cells.append(unknown(NOT_MEASURED if test is None else f"not tested with {count} users"))
                    continue
                cells.append(_cell(Measured(score, "", test.id, test.created[:10]), _where(test.record)))
            if any(cell.score for cell in cells):
                title = f"{measure_of(metric).heading}, {count} user{'s' * (count > 1)}"
                rows.append(ModelRow(group=SPEED, title=title, cells=tuple(cells), note="load test"))
    return rows


def _where(test: LoadTest) -> str:
    """Name the machine of a load test, without which its speed says little."""
    return test.machine or ("" if test.url == "in this process" else test.url)


def _newest_test(subject: Subject, saved: Sequence[Saved[LoadTest]]) -> Saved[LoadTest] | None:
    """Find the newest load test of a model: of its engine here, or of an endpoint that names it."""
    found = [one for one in saved if _is_of(subject, one.record)]
    return found[-1] if found else None


def _is_of(subject: Subject, test: LoadTest) -> bool:
    if test.uri in subject.uris or test.model in subject.uris or f"run:{test.model}" in subject.uris:
        return True
    if subject.entry is None or (test.uri or "").startswith("run:"):
        return False
    entry = find_entry(test.uri or test.model)
    return entry is not None and entry.name == subject.entry.name
