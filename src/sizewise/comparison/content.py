"""Measures that a comparison adds to those of its evaluations: whether answers have the content of their references.

They are read from the stored answers, so they exist for evaluations that asked for other metrics, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from sizewise.comparison.tables import ItemTable
from sizewise.metrics import AnswerItem, CannotMeasure, find_metric
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
PREDICTORS = (RUBRIC_GRADE, EMBEDDING_SIMILARITY)
"""Measures that say nothing about people's view by themselves, and may help to predict people's grades."""
OBJECTIVE = ("accuracy", "json_f1", "field_f1")
"""Measures that read the answer itself: where one has a value, overlap decides nothing."""
MIN_SHORT_SHARE = 0.8
"""Share of the items with a short reference from which on reference match measures the whole test set."""
MAX_ITEMS = 2_000
"""Items whose texts are read for the check; a larger test set is represented by a fixed random part."""
_LENGTH = "_answer_words"


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


def read_content(store: Store, records: Mapping[str, Evaluation], named: Mapping[str, str]) -> Content:
    """Read the items of evaluations, and measure the content of answers where overlap would decide.

    Args:
        store: where records live.
        records: candidate -> evaluation.
        named: candidate -> its id.
    """
    first = next(iter(records.values()))
    derive = _decided_by_overlap(records)
    items = max((record.items for record in records.values()), default=0)
    measure = _Measuring([name for name in CONTENT if name not in first.metrics] if derive else [], items)
    tables = {name: ItemTable.read(store, record_id, measure) for name, record_id in named.items()}
    scale, graded, notes = _rescale_grades(tables)
    extra = [name for name in CONTENT if name not in first.metrics and derive]
    if derive and not _mostly_short(tables):
        for table in tables.values():
            table.stats.pop(MATCH, None)
    extra = [name for name in extra if any(name in table.stats for table in tables.values())]
    if graded and HUMAN_GRADE not in first.metrics:
        extra.append(HUMAN_GRADE)
    words = {name: table.stats.pop(_LENGTH) for name, table in tables.items() if _LENGTH in table.stats}
    return Content(tables, tuple(extra), derive, words, scale if graded else None, graded, notes)


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


class _Measuring:
    """Adds statistics of the content and people's grade to a row."""

    def __init__(self, names: list[str], items: int) -> None:
        self._metrics = [find_metric(name) for name in names]
        self._threshold = 1 << 32 if items <= MAX_ITEMS else (MAX_ITEMS << 32) // items

    def __call__(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the row with more statistics."""
        more: dict[str, tuple[float, ...]] = {}
        completion, references = row["completion"], row.get("references") or ()
        if row.get("grade") is not None:
            more[HUMAN_GRADE] = (float(row["grade"]), 1.0)
        if completion is not None and references and self._metrics and crc32(row["item"].encode()) < self._threshold:
            item = AnswerItem(completion, tuple(references), row.get("prompt", ""))
            more[_LENGTH] = (count_words(completion),)
            for metric in self._metrics:
                try:
                    more[metric.name] = metric.measure(item)
                except CannotMeasure:
                    continue
        return {**row, "stats": {**row["stats"], **more}} if more else row
