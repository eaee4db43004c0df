"""Items of an evaluation as columns, without their texts: what a comparison computes with."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.records import ItemRow
from sizewise.stats.inference import FloatArray, IntArray
from sizewise.store import Store

BoolArray = npt.NDArray[np.bool_]
_DEFAULTS: dict[str, Any] = {"completion": None, "error": None, "finish": "", "stats": {}}


class Answers(NamedTuple):
    """How many requests for an answer a model answered."""

    requested: int = 0
    answered: int = 0
    """Requests without an error."""
    with_text: int = 0
    """Answers that contain text; failed requests count as empty if all failed."""
    truncated: int = 0
    """Answers cut off at max_tokens."""
    failed: int = 0
    """Items with an error."""


class ItemTable:
    """The items of one evaluation.

    Attributes:
        items: item -> row.
        clusters: source document of each row.
        uncontaminated: (rows,) whether the item shares nothing with the training text.
        stats: metric -> (rows, k) additive statistics, NaN where an item wasn't measured.
        answers: counts of answers.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.items: dict[str, int] = {}
        self.clusters: list[str] = []
        groups: list[str] = []
        uncontaminated: list[bool] = []
        columns: dict[str, tuple[array[int], array[float]]] = {}
        counts = [0, 0, 0, 0, 0]
        for number, row in enumerate(rows):
            self.items[row["item"]] = number
            self.clusters.append(row["cluster"])
            groups.append(row.get("group", ""))
            uncontaminated.append(row["uncontaminated"])
            for metric, stats in row["stats"].items():
                where, values = columns.setdefault(metric, (array("q"), array("d")))
                where.append(number)
                values.extend(stats)
            _count(row, counts)
        self.uncontaminated = np.array(uncontaminated, dtype=bool)
        self._groups = np.array(groups) if any(groups) else None
        self.stats = {metric: self._column(where, values) for metric, (where, values) in columns.items()}
        self.answers = Answers(*counts)

    def _column(self, where: array[int], values: array[float]) -> FloatArray:
        known = np.array(values).reshape(len(where), -1)
        if len(where) == len(self.clusters):
            return known
        column = np.full((len(self.clusters), known.shape[1]), np.nan)
        column[np.array(where)] = known
        return column

    @classmethod
    def of(cls, rows: Iterable[ItemRow]) -> ItemTable:
        """Make a table of rows that are in memory."""
        return cls(row.model_dump() for row in rows)

    @classmethod
    def read(
        cls, store: Store, evaluation: str, prepare: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    ) -> ItemTable:
        """Read the items of a saved evaluation.

        Args:
            store: where records live.
            evaluation: id of the evaluation.
            prepare: adds statistics to a row while its texts are at hand.

        Raises:
            SizewiseError: the file is missing or damaged, or only a newer version can read it.
        """
        rows = store.rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
        try:
            plain = (_DEFAULTS | row for row in rows.plain())
            return cls(plain if prepare is None else map(prepare, plain))
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls.of(rows)  # a row lacks a field or has one of another type: raise the error that says which

    def rows_of(self, items: Sequence[str]) -> IntArray:
        """Return the row of each item, -1 for items that it lacks."""
        return np.fromiter((self.items.get(item, -1) for item in items), dtype=np.int64, count=len(items))

    def measured(self, metric: str, rows: IntArray) -> IntArray:
        """Keep the rows of uncontaminated items that were measured with a metric, and return -1 for others."""
        column = self.column(metric)
        if not len(column):
            return np.full(len(rows), -1)
        known = self.uncontaminated & ~np.isnan(column[:, 0])
        group = metric.partition("#")[2]
        if metric not in self.stats and group:
            known = known & (self._groups == group if self._groups is not None else False)
        return np.where((rows >= 0) & known[rows], rows, -1)

    def column(self, metric: str) -> FloatArray:
        """Return the statistics, (rows, k), of a metric, or of the metric of a group's score; empty without any."""
        found = self.stats.get(metric)
        return self.stats.get(metric.partition("#")[0], np.empty((0, 0))) if found is None else found


def _count(row: Mapping[str, Any], counts: list[int]) -> None:
    failed, completion = row["error"] is not None, row["completion"]
    counts[4] += failed
    if row["kind"] != "example" or (completion is None and not failed):
        return
    counts[0] += 1
    if not failed:
        counts[1] += 1
        counts[2] += bool(completion.strip())
        counts[3] += row["finish"] == "length"
