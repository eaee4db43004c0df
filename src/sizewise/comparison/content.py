"""Measures that a comparison adds to those of its evaluations: whether answers have the content of their references.

They are read from the stored answers, so they exist for evaluations that asked for other metrics, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from sizewise.comparison.tables import ItemTable
from sizewise.metrics import AnswerItem, CannotMeasure, find_metric
from sizewise.metrics.content import is_short
from sizewise.metrics.embedding import EMBEDDING_SIMILARITY
from sizewise.metrics.grades import HUMAN_GRADE, common_scale
from sizewise.metrics.rubric import RUBRIC_GRADE
from sizewise.records import Evaluation
from sizewise.stats.inference import FloatArray
from sizewise.store import Store
from sizewise.text import count_words

OVERLAP = ("token_f1", "chrf", "bleu", "rouge_l", "ter", "exact_match")
"""Measures of how alike an answer and its reference are as a whole, which also depend on length and wording."""
MATCH, RECALL, SIMILARITY = "reference_match", "reference_recall", "token_f1"
CONTENT = (MATCH, RECALL, SIMILARITY)
SUPPORT = "fact_precision"
"""Share of an answer's facts that its source or reference states; added where references come from the prompt."""
PREDICTORS = (RUBRIC_GRADE, EMBEDDING_SIMILARITY)
"""Measures that say nothing about people's view by themselves, and may help to predict people's grades."""
OBJECTIVE = ("accuracy", "json_f1", "field_f1")
"""Measures that read the answer itself: where one has a value, overlap decides nothing."""
MIN_SHORT_SHARE = 0.8
"""Share of the items with a short reference from which on reference match measures the whole test set."""
MAX_ITEMS = 2_000
"""Items whose texts are read for the check; a larger test set is represented by a fixed random part."""
MAX_LONG_ITEMS = 300
"""Items whose facts are looked up in their source, which takes some 10 ms each."""
MIN_FROM_SOURCE = 0.3
"""Share of the references' facts that prompts state, from which on answers are about a source. Summaries of dialogues
have 0.46 to 0.66, answers from general knowledge 0.15 and less."""
_LENGTH, _FROM_SOURCE, _ANSWERED = "_answer_words", "_reference_from_source", "_answered"


class GradeSheet(NamedTuple):
    """Grades of the answers to drawn items."""

    grades: Mapping[str, Mapping[str, float]]
    """Candidate -> item -> grade, on the scale of the sheet."""
    chances: Mapping[str, float]
    """Drawn item -> chance with which it was drawn; items without a grade of every candidate are left out."""
    drawn: int
    """Items of the sheet."""
    digest: str
    """Fingerprint of the grades and chances."""


class Content(NamedTuple):
    """The items of evaluations with measures of their content."""

    tables: dict[str, ItemTable]
    """Candidate -> its items."""
    extra: tuple[str, ...]
    """Metrics that the evaluations didn't ask for."""
    derived: bool
    """Whether content was measured, because overlap would otherwise decide."""
    words: dict[str, FloatArray]
    """Candidate -> (rows, 1) words of each answer, NaN where there is none."""
    scale: tuple[float, float] | None
    """Lowest and highest grade of the scale that people used; None without grades."""
    graded: dict[str, int]
    """Candidate -> graded answers."""
    notes: tuple[str, ...] = ()
    """Why people's grades are left out."""
    answered: Mapping[str, FloatArray] = MappingProxyType({})
    """Candidate -> (rows,) whether it answered."""
    sheet: GradeSheet | None = None
    """Grades of drawn items, if they come from a sheet."""


def read_content(
    store: Store, records: Mapping[str, Evaluation], named: Mapping[str, str], sheet: GradeSheet | None = None
) -> Content:
    """Read the items of evaluations, and measure the content of answers where overlap would decide.

    Args:
        store: where records live.
        records: candidate -> evaluation.
        named: candidate -> its id.
        sheet: people's grades in place of those that came with recorded answers.
    """
    first = next(iter(records.values()))
    derive = _decided_by_overlap(records)
    items = max((record.items for record in records.values()), default=0)
    wanted = [name for name in (*CONTENT, SUPPORT) if name not in first.metrics] if derive else []
    measure = _Measuring(wanted, items)
    tables = {name: ItemTable.read(store, record_id, measure) for name, record_id in named.items()}
    answered = {name: _answered(table) for name, table in tables.items()}
    if sheet is not None:
        for name, table in tables.items():
            _set_grades(table, sheet.grades[name])
    scale, graded, notes = _rescale_grades(tables)
    added = [name for name in (*CONTENT, SUPPORT) if name not in first.metrics and derive]
    for name in _inapplicable(tables) if derive else ():
        for table in tables.values() if name in added or name == MATCH else ():
            table.stats.pop(name, None)
    for table in tables.values():
        table.stats.pop(_FROM_SOURCE, None)
    extra = [name for name in added if any(name in table.stats for table in tables.values())]
    if graded and HUMAN_GRADE not in first.metrics:
        extra.append(HUMAN_GRADE)
    words = {name: table.stats.pop(_LENGTH) for name, table in tables.items() if _LENGTH in table.stats}
    return Content(tables, tuple(extra), derive, words, scale if graded else None, graded, notes, answered, sheet)


def _set_grades(table: ItemTable, grades: Mapping[str, float]) -> None:
    column = np.full((len(table.clusters), 2), np.nan)
    for item, grade in grades.items():
        column[table.items[item]] = grade, 1.0
    table.stats[HUMAN_GRADE] = column


def _answered(table: ItemTable) -> FloatArray:
    """Return which rows have an answer, 1 or 0, and remove the column."""
    column = table.stats.pop(_ANSWERED, None)
    return np.zeros(len(table.clusters)) if column is None else np.nan_to_num(column[:, 0])


def _rescale_grades(
    tables: Mapping[str, ItemTable],
) -> tuple[tuple[float, float] | None, dict[str, int], tuple[str, ...]]:
    """Rescale people's grades in place to 0 to 1; remove them where they can't be compared.

    Returns:
        The scale, the graded answers of each candidate, and why the grades are left out.
    """
    columns = {name: table.stats[HUMAN_GRADE] for name, table in tables.items() if HUMAN_GRADE in table.stats}
    known = {name: column[np.isfinite(column[:, 0]), 0].tolist() for name, column in columns.items()}
    scale, reason = common_scale(known)
    if len(columns) < 2 or scale is None:
        for table in tables.values():
            table.stats.pop(HUMAN_GRADE, None)
        return None, {}, (reason,) if reason else ()
    for column in columns.values():
        column[:, 0] = (column[:, 0] - scale[0]) / (scale[1] - scale[0])
    return scale, {name: len(given) for name, given in known.items()}, ()


def _decided_by_overlap(records: Mapping[str, Evaluation]) -> bool:
    """Check whether an overlap measure would decide: one was measured, and nothing that reads the answer itself."""
    measured = {
        name for record in records.values() for name, score in record.scores.items() if score.value is not None
    } | {name for record in records.values() for name in record.metrics if not record.scores}
    return bool(measured & set(OVERLAP)) and not measured & set(OBJECTIVE)


def _mostly_short(tables: Mapping[str, ItemTable]) -> bool:
    """Check whether most references are short enough for reference match."""
    for table in tables.values():
        if MATCH not in table.stats or RECALL not in table.stats:
            continue
        short = np.isfinite(table.stats[MATCH][:, 0]).sum()
        if short >= MIN_SHORT_SHARE * np.isfinite(table.stats[RECALL][:, 0]).sum():
            return True
    return False


def _inapplicable(tables: Mapping[str, ItemTable]) -> list[str]:
    """List the added measures that don't fit the data: match for long references, support where there is no source."""
    if _mostly_short(tables):
        return [SUPPORT]
    found = [table.stats[_FROM_SOURCE] for table in tables.values() if _FROM_SOURCE in table.stats]
    shares = [float(np.nanmean(column[:, 0])) for column in found if np.isfinite(column[:, 0]).any()]
    return [MATCH] if shares and min(shares) >= MIN_FROM_SOURCE else [MATCH, SUPPORT]


class _Measuring:
    """Adds statistics of the content and people's grade to a row."""

    def __init__(self, names: list[str], items: int) -> None:
        self._metrics = [find_metric(name) for name in names if name != SUPPORT]
        self._support = find_metric(SUPPORT) if SUPPORT in names else None
        self._threshold, self._of_facts = _threshold(MAX_ITEMS, items), _threshold(MAX_LONG_ITEMS, items)

    def __call__(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the row with more statistics."""
        more: dict[str, tuple[float, ...]] = {}
        completion, references = row["completion"], row.get("references") or ()
        if row.get("grade") is not None:
            more[HUMAN_GRADE] = (float(row["grade"]), 1.0)
        if completion is not None:
            more[_ANSWERED] = (1.0,)
        place = crc32(row["item"].encode())
        if completion is not None and references and (self._metrics or self._support) and place < self._threshold:
            item = AnswerItem(completion, tuple(references), row.get("conversation") or row.get("prompt", ""))
            more[_LENGTH] = (count_words(completion),)
            for metric in self._metrics:
                try:
                    more[metric.name] = metric.measure(item)
                except CannotMeasure:
                    continue
            if self._support is not None and place < self._of_facts and not any(map(is_short, references)):
                more[SUPPORT] = self._support.measure(item)
                more[_FROM_SOURCE] = self._support.measure(AnswerItem(references[0], (), item.prompt))
        return {**row, "stats": {**row["stats"], **more}} if more else row


def _threshold(most: int, items: int) -> int:
    """Return the checksum below which an item belongs to a random part of about `most` items."""
    return 1 << 32 if items <= most else (most << 32) // items
