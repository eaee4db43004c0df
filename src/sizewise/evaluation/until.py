"""Evaluations that stop as soon as a question is decided, with an anytime-valid test.

Documents are asked in random order, and every document counts once, by the mean over its items. The claim therefore is
about the mean over documents like those of the test set.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation.options import Until
from sizewise.metrics import METRICS, Metric, find_metric
from sizewise.metrics.base import Mean
from sizewise.records import Evaluation, Example, ItemRow, Stopped
from sizewise.stats import LEVEL, PairedBet
from sizewise.store import Store

BATCH_ITEMS = 8
"""Items asked at once, in whole documents; those of the last batch may turn out not to be needed."""
SCALES = {"chrf": 100.0}
"""Corpus metrics that also have a bounded value for each item, with their largest value."""


def item_scale(metric: Metric) -> float | None:
    """Return the largest value of one item of a bounded metric; None if its items have no bounded value."""
    if metric.needs == "answers" and isinstance(metric, Mean) and metric.unit == "share":
        return 1.0 if type(metric).value is Mean.value else None
    return SCALES.get(metric.name)


class Decider:
    """Decides a question about a model from its items, asked in random order.

    Args:
        until: the question.
        metrics: requested metrics; the first with a bounded value per item decides.
        data_id: dataset of the evaluation.
        store: where the evaluation to compare with is kept.

    Raises:
        UsageError: the question is invalid, or no metric has a bounded value per item.
        SizewiseError: the other evaluation covers other data or lacks the metric.
    """

    def __init__(self, until: Until, metrics: Sequence[str], data_id: str, store: Store) -> None:
        self._until, self._bet = until, PairedBet()
        self.metric, self._scale = _choose_metric(metrics)
        _check_question(until, self.metric, self._scale)
        self._sign = 1 if self.metric.better == "higher" else -1
        self._known = self._read_known(data_id, store) if until.against is not None else None
        self._values: list[float] = []
        self._items: list[float] = []
        self._sizes: list[int] = []
        self.asked, self.available = 0, 0

    def _read_known(self, data_id: str, store: Store) -> dict[str, float]:
        """Read the item values of the evaluation to compare with."""
        name, against = self.metric.name, str(self._until.against)
        record = store.read(Evaluation, against)
        score = record.scores.get(name)
        again = f"sizewise evaluate {record.model.uri} --data {data_id} --metrics {name}"
        if record.data != data_id:
            raise SizewiseError(f"{against} was evaluated on {record.data}.", f"an evaluation on {data_id}", again)
        if record.stopped is not None:
            raise SizewiseError(f"{against} stopped early, so it covers only some items.", "a full evaluation", again)
        if score is None or score.value is None or not score.signature.startswith(self.metric.signature()):
            raise SizewiseError(f"{against} has no comparable {name}.", f"an evaluation with {name}", again)
        rows = store.read_rows(store.folder("evaluation", against), "items.jsonl", ItemRow)
        return {row.item: value for row in rows if (value := self._value(row)) is not None}

    def _value(self, row: ItemRow) -> float | None:
        """Return an item's value from 0 to 1; None if it wasn't scored."""
        if self.metric.name not in row.stats:
            return None
        value = float(self.metric.value(np.array(row.stats[self.metric.name], dtype=np.float64))) / self._scale
        return min(1.0, max(0.0, value)) if np.isfinite(value) else None

    def batches(self, examples: Sequence[Example], seed: int) -> Iterator[list[Example]]:
        """Yield examples in whole documents and random order, until the question is decided."""
        documents: dict[str, list[Example]] = {}
        for example in examples:
            if self._known is None or example.id in self._known:
                documents.setdefault(example.source, []).append(example)
        self._sizes = [len(items) for items in documents.values()]
        self.available = sum(self._sizes)
        if not self.available:
            raise SizewiseError(
                f"{self._until.against} has no items in common with this evaluation.",
                "an evaluation of the same test examples",
                "the same --limit and --seed",
            )
        order = sorted(documents)
        random.Random(seed).shuffle(order)
        batch: list[Example] = []
        for source in order:
            batch += documents[source]
            if len(batch) >= BATCH_ITEMS:
                yield batch
                batch = []
                if self.decided:
                    return
        if batch:
            yield batch

    def add(self, rows: Sequence[ItemRow]) -> None:
        """Add the items of a batch, document by document, until the question is decided."""
        documents: dict[str, list[ItemRow]] = {}
        for row in rows:
            documents.setdefault(row.cluster, []).append(row)
        self.asked += len(rows)
        for items in documents.values():
            found = [x for row in items if (x := self._difference(row)) is not None]
            self._items += found
            if found and not self.decided:
                self._values.append(float(np.mean(found)))
                self._bet.add([self._scaled(self._values[-1])])

    def _difference(self, row: ItemRow) -> float | None:
        """Return the item's value, minus that of the other evaluation if there is one; positive if this is better."""
        value = self._value(row)
        if value is None:
            return None
        return self._sign * (value - self._known[row.item]) if self._known is not None else value

    def _scaled(self, value: float) -> float:
        """Scale a document's mean so that it lies in [-1, 1] and is 0 where the question is undecidable."""
        if self._until.min_quality is not None:
            threshold = self._until.min_quality / self._scale
            return self._sign * (value - threshold) / max(threshold, 1 - threshold)
        margin = (self._until.margin or 0.0) / self._scale
        return max(-1.0, (value + margin) / (1 + margin))

    @property
    def decided(self) -> bool:
        """Whether the question is decided at 5%, however often it was asked."""
        return self._bet.p <= LEVEL

    def stopped(self) -> Stopped:
        """Return the outcome."""
        until, p = self._until, self._bet.p
        words = ("reached", "missed") if until.min_quality is not None else ("better", "worse")
        words = ("no worse", "worse") if until.margin is not None else words
        decision = (words[0] if self._bet.favors_left else words[1]) if self.decided else "undecided"
        mean, item_mean = (float(np.mean(x)) if x else 0.0 for x in (self._values, self._items))
        ended = f"{self.asked} of {self.available} items were asked"
        why = f"decided at p = {p:.2g}, valid at any time" if self.decided else f"too few to decide, p = {p:.2g}"
        toward = self._scaled(item_mean)
        return Stopped(
            metric=self.metric.name,
            against=until.against,
            margin=until.margin,
            min_quality=until.min_quality,
            decision=decision,
            reason=f"{ended}: {why}, for the mean over documents",
            mean=mean * self._scale,
            p_anytime=p,
            asked=self.asked,
            available=self.available,
            documents=len(self._values),
            item_mean=item_mean * self._scale,
            items_disagree=self.decided and (toward <= 0 if self._bet.favors_left else toward >= 0),
            largest_document=max(self._sizes, default=0),
            unequal=self._unequal(),
        )

    def _unequal(self) -> bool:
        """Return whether the effective number of documents, by Kish (1965), is below half of them."""
        squares = sum(size**2 for size in self._sizes)
        return bool(squares) and self.available**2 / squares < len(self._sizes) / 2


def describe(stopped: Stopped) -> str:
    """Describe the outcome, and how the score over items may differ from it."""
    name, threshold = stopped.metric, stopped.min_quality
    above, below = ("above", "below") if find_metric(name).better == "higher" else ("below", "above")
    by = f" by {stopped.margin:g} or more" if stopped.margin else ""
    claim = {
        "reached": f"the model's {name} is {above} {threshold}",
        "missed": f"the model's {name} is {below} {threshold}",
        "better": f"the model is better than {stopped.against} by {name}",
        "no worse": f"the model is not worse than {stopped.against}{by} by {name}",
        "worse": f"the model is worse than {stopped.against} by {name}",
        "undecided": "the question is undecided",
    }[stopped.decision]
    if stopped.decision == "undecided":
        return f"{_capital(claim)}. {stopped.reason}."
    if stopped.items_disagree:
        what = "mean" if threshold is not None else "mean difference"
        return (
            f"By the mean over documents, {claim}; but not by the items asked, whose {what} is "
            f"{stopped.item_mean:.3g}: the documents are unequal, and each counts once. {stopped.reason}."
        )
    if stopped.unequal:
        return (
            f"By the mean over documents, {claim}; the score over all items may say otherwise, because one document "
            f"holds {stopped.largest_document} of the {stopped.available} items and counts once. {stopped.reason}."
        )
    return f"{_capital(claim)}, as the mean over documents. {stopped.reason}."


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _choose_metric(names: Sequence[str]) -> tuple[Metric, float]:
    for name in names:
        metric = find_metric(name)
        if (scale := item_scale(metric)) is not None and metric.stands_for_quality:
            return metric, scale
    able = [name for name, metric in METRICS.items() if item_scale(metric) is not None and metric.stands_for_quality]
    raise UsageError(
        f"{', '.join(names)} can't decide item by item: a corpus metric has no value for one item.",
        f"one of {', '.join(able)}",
        f"--metrics {able[0]} --until decided",
    )


def _check_question(until: Until, metric: Metric, scale: float) -> None:
    if (until.against is None) == (until.min_quality is None):
        raise UsageError(
            "The question isn't defined: either --against or --min-quality is needed.",
            "an evaluation to compare with, or a threshold",
            "--until decided --against EVALUATION_ID",
        )
    if until.margin is not None and until.against is None:
        raise UsageError("--margin needs --against.", "an evaluation to compare with", "--against EVALUATION_ID")
    for name, value in (("margin", until.margin), ("min-quality", until.min_quality)):
        if value is not None and not 0 < value < scale:
            raise UsageError(
                f"--{name} is {value:g}.",
                f"a value between 0 and {scale:g}, the range of {metric.name}",
                f"--{name} {scale / 2:g}",
            )
