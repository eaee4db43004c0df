"""Scores stored answers again: the statistics of every item, from its completion and references, without a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from sizewise import datasets
from sizewise.errors import SizewiseError
from sizewise.evaluation.closed_book import knowledge_stats
from sizewise.evaluation.counterfactuals import answer_stats, sentiment
from sizewise.evaluation.forced_choice import METRICS as CHOICES
from sizewise.evaluation.forced_choice import reread
from sizewise.evaluation.problems import problem_stats
from sizewise.evaluation.references import reference_set
from sizewise.evaluation.rubric import rescore_rubric
from sizewise.evaluation.suite_run import letter_order, parse_choice
from sizewise.evaluation.suites import COUNTERFACTUALS, SUITES
from sizewise.evaluation.swapping import SEPARATOR, attributes
from sizewise.metrics import AnswerItem, CannotMeasure, Metric, ReferenceSet, find_metric
from sizewise.metrics.pass_rates import pass_at, pass_at_parts
from sizewise.metrics.registry import compares_references
from sizewise.metrics.rubric import PREFIX as RUBRIC_PREFIX
from sizewise.metrics.rubric import RUBRIC_GRADE
from sizewise.records import Evaluation, Example, ItemRow
from sizewise.records.tool_calls import scored_references
from sizewise.store import Store, versions

TOLERANCE = 1e-9
SHOWN = 5
"""Items that are named for each metric."""
Stats = Mapping[str, tuple[float, ...]]


class Rescored(NamedTuple):
    """What scoring the stored answers again showed."""

    measured: int
    """Statistics that were computed again."""
    differing: list[str]
    """Statistics, references and prompts that differ."""
    unknown: list[str]
    """Metrics whose statistics can't be computed again, and why."""


class _Source:
    """What metrics read besides the row: the conversation, the schema and the labels of the data.

    The dataset is read if the store has it, and rows are compared with it; a pack holds rows alone, which carry what
    their metrics read.
    """

    def __init__(self, store: Store, record: Evaluation, rows: Sequence[ItemRow]) -> None:
        self.examples: dict[str, Example] = {}
        references = ReferenceSet(
            [row.references for row in rows if row.kind == "example" and row.references], labels=record.labels
        )
        try:
            contents = datasets.load(store, record.data)
        except (SizewiseError, OSError):
            self.references = references
        else:
            self.examples = {example.id: example for example in contents.examples["test"]}
            self.references = reference_set(contents)

    def item(self, row: ItemRow, said: str, probabilities: dict[str, float] | None) -> AnswerItem:
        """Return what metrics score of a row."""
        example = self.examples.get(row.item)
        prompt, schema = row.conversation or row.prompt, row.answer_schema
        if example is not None:
            prompt = "\n".join(message.content for message in example.messages)
            schema = example.answer_schema
        known = (row.grade, row.passages, row.confidence)
        return AnswerItem(said, row.references, prompt, schema, probabilities, *known)

    def changes(self, row: ItemRow) -> Iterator[str]:
        """Describe where a row differs from its example."""
        example = self.examples.get(row.item)
        if example is None:
            if self.examples:
                yield f"{row.item}: not an item of the dataset"
            return
        if row.references != scored_references(example):
            yield f"references of {row.item}: {row.references!r:.80}, in the dataset {scored_references(example)!r:.80}"
        if row.prompt != example.prompt:
            yield f"prompt of {row.item}: {row.prompt!r:.80}, in the dataset {example.prompt!r:.80}"


def rescore(store: Store, record: Evaluation, rows: Sequence[ItemRow]) -> Rescored:
    """Compute the statistics of an evaluation's items again.

    Args:
        store: where the evaluation and perhaps its dataset are.
        record: the evaluation.
        rows: its items.
    """
    if record.data.startswith("suite:"):
        return _rescore_suite(record, rows)
    answered = [row for row in rows if row.kind == "example"]
    if not answered:
        return Rescored(0, [], [])
    source = _Source(store, record, answered)
    differing = [change for row in answered for change in source.changes(row)]
    unknown, measured = [], 0
    for metric in _answer_metrics(record, source.references):
        found = [(row.item, row.stats.get(metric.name), _row_stats(metric, row, source)) for row in answered]
        changes = list(_changes(metric.name, found))
        measured += sum(now is not None for _, _, now in found)
        if changes and (reason := _other_version(metric, record)):
            unknown.append(f"{metric.name}: {reason}")
        else:
            differing += changes
    for name, found in _rubric_metrics(record, answered).items():
        measured += sum(now is not None for _, _, now in found)
        differing += _changes(name, found)
    return Rescored(measured, differing, unknown)


_Found = list[tuple[str, tuple[float, ...] | None, tuple[float, ...] | None]]


def _rubric_metrics(record: Evaluation, rows: Sequence[ItemRow]) -> dict[str, _Found]:
    """Read the stored judgments again: metric -> item, statistics before and now."""
    now = rescore_rubric(record, rows)
    names = {
        name
        for row in rows
        for name in (*row.stats, *now.get(row.item, {}))
        if name == RUBRIC_GRADE or name.startswith(RUBRIC_PREFIX)
    }
    return {
        name: [(row.item, row.stats.get(name), now.get(row.item, {}).get(name)) for row in rows]
        for name in sorted(names)
    }


def _answer_metrics(record: Evaluation, references: ReferenceSet) -> Iterator[Metric]:
    """Yield the metrics of answers, as they were prepared for the data; one that couldn't be is left out."""
    for name in record.metrics:
        score = record.scores.get(name)
        metric = find_metric(name)
        if metric.needs != "answers" or score is None or (score.value is None and score.n == 0):
            continue
        try:
            yield metric.prepared(references) if references or not compares_references(metric) else metric
        except CannotMeasure:
            yield metric


def _other_version(metric: Metric, record: Evaluation) -> str:
    """Return why a metric may give other statistics of the same answers today; empty if it may not."""
    then = record.metric_versions.get(metric.name, 1)
    if then != metric.version:
        return f"measured by version {then or '?'} of the metric; this is version {metric.version}"
    for package, now in versions("sacrebleu").items():
        before = record.versions.get(package)
        if before is not None and before != now and "version" in metric.signature():
            return f"measured with {package} {before}; this is {now}"
    return ""


def _row_stats(metric: Metric, row: ItemRow, source: _Source) -> tuple[float, ...] | None:
    """Compute the statistics of one row: of its answer, or the mean over its samples."""
    if not row.samples:
        scored = row.completion is not None or metric.name in row.stats  # a refused request may count as wrong
        return _measure(metric, source.item(row, row.completion or "", row.probabilities), scored)
    found = []
    for sample in row.samples:
        scored = sample.completion is not None or metric.name in sample.stats
        stats = _measure(metric, source.item(row, sample.completion or "", row.probabilities), scored)
        if stats is not None:
            found.append(stats)
    return tuple(np.mean(found, axis=0).tolist()) if found else None


def _measure(metric: Metric, item: AnswerItem, scored: bool) -> tuple[float, ...] | None:
    if not scored or (compares_references(metric) and not item.references):
        return None
    try:
        return tuple(map(float, metric.measure(item)))
    except CannotMeasure:
        return None
    except Exception as error:  # a plug-in metric may raise anything; the row then has no statistics either
        return None if not isinstance(error, SizewiseError) else ()


def _changes(
    name: str, found: Iterable[tuple[str, tuple[float, ...] | None, tuple[float, ...] | None]]
) -> Iterator[str]:
    """Describe the items whose recorded statistics differ from the recomputed ones."""
    shown = 0
    for item, before, now in found:
        same = before is None and now is None
        if before is not None and now is not None and len(before) == len(now):
            same = all(
                math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(a) and math.isnan(b))
                for a, b in zip(before, now, strict=True)
            )
        if same:
            continue
        shown += 1
        if shown <= SHOWN:
            yield f"{name} of {item}: {before}, recomputed from its answer {now}"
    if shown > SHOWN:
        yield f"{name} of {shown - SHOWN} further items"


def rescore_passes(rows: Sequence[ItemRow], names: Iterable[str]) -> list[str]:
    """Compute pass@k of each row again, from the statistics of its samples, and describe what differs."""
    differing: list[str] = []
    for name in names:
        parts = pass_at_parts(name)
        if parts is None:
            continue
        base, k = parts
        found = []
        for row in rows:
            scored = [sample.stats[base][0] for sample in row.samples if base in sample.stats]
            now = (pass_at(len(scored), round(sum(scored)), k), 1.0) if len(scored) >= k else None
            found.append((row.item, row.stats.get(name), now))
        differing += _changes(name, found)
    return differing


# -- suites -----------------------------------------------------------------------------------------------


def _rescore_suite(record: Evaluation, rows: Sequence[ItemRow]) -> Rescored:
    """Compute the statistics of a suite's items again, where they come from answers in words."""
    name = record.data.removeprefix("suite:").rpartition(":")[0]
    suite = SUITES.get(name)
    found: list[tuple[str, Stats, Stats]] = []
    if name == COUNTERFACTUALS:
        found = list(_counterfactual(row for row in rows if row.kind == "example"))
    for row in rows:
        again: Stats
        if suite is None or suite.runs_code:  # an audit runs no code of a model
            break
        if suite.control and row.samples:  # asked to choose: what needs the suite's data isn't computed again
            found.append((row.item, {key: row.stats[key] for key in CHOICES if key in row.stats}, _reread(row)))
            continue
        if suite.generates:
            again = {suite.metrics[0]: (sentiment(row.completion), 1.0)} if row.completion is not None else {}
        elif suite.closed_book:
            stats_of = partial(problem_stats, suite.metrics[0]) if suite.worked else knowledge_stats
            again = stats_of(row) if row.completion is not None or row.stats else {}
        elif suite.by_letter and row.finish:  # answered in words; otherwise scored by likelihood
            scored = row.completion is not None or row.stats  # a refused request may count as wrong
            again = {suite.metrics[0]: _letter_stats(row, record.seed)} if scored else {}
        else:
            continue
        found.append((row.item, row.stats, again))
    names = dict.fromkeys(key for _, before, now in found for key in (*before, *now))
    differing: list[str] = []
    for key in names:
        differing += _changes(key, ((item, before.get(key), now.get(key)) for item, before, now in found))
    return Rescored(sum(len(now) for _, _, now in found), differing, [])


def _reread(row: ItemRow) -> Stats:
    return {} if row.error else reread(row)


def _letter_stats(row: ItemRow, seed: int) -> tuple[float, float]:
    chosen = parse_choice(row.completion or "", letter_order(seed, row.item, len(row.references)), row.references)
    return float(chosen == 0), 1.0


def _counterfactual(rows: Iterable[ItemRow]) -> Iterator[tuple[str, Stats, Stats]]:
    by_name = {attribute.name: attribute for attribute in attributes()}
    for row in rows:
        attribute = by_name.get(row.item.partition(":")[0])
        answers = (row.completion or "").split(SEPARATOR)
        # An answer may hold the separator itself, and decisions have other statistics.
        if (
            attribute is None
            or row.error
            or len(answers) != len(row.references)
            or len(answers) != len(attribute.groups)
        ):
            continue
        if not any(key.startswith("counterfactual_quality#") for key in row.stats):
            continue
        again = answer_stats(attribute, answers, row.references)
        yield (
            row.item,
            row.stats,
            {key: stats for key, stats in again.items() if key in row.stats},
        )  # older rows have fewer
