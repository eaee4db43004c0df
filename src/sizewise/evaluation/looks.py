"""Refuses to ask a decided or undecided question again with other random numbers."""

from __future__ import annotations

from typing import NamedTuple

from sizewise import datasets
from sizewise.errors import SizewiseError
from sizewise.evaluation.options import EvaluationOptions
from sizewise.records import Evaluation, ItemRow, ModelDescription
from sizewise.records.tool_calls import scored_references
from sizewise.store import Saved, Store


class Look(NamedTuple):
    """One attempt to decide a question about a model."""

    evaluation: str
    """Id of the evaluation."""
    model: ModelDescription
    """The model."""
    metric: str
    """Metric that decides."""
    data: str
    """Dataset id."""
    limit: int | None
    """Maximum number of examples."""
    options: EvaluationOptions
    """The question, the seed of the order of the items, and whether all answers are generated anew."""


def check_first_look(look: Look, store: Store) -> None:
    """Check that no earlier evaluation asked the same question about some of the same items in another order.

    The p-value holds for one order, however often it is read. Orders add up: the smallest p-value of 20 orders falls
    below 0.05 in about one of four runs with equal models.

    Args:
        look: the attempt.
        store: where data and earlier evaluations are kept. Items with the same prompt and references are the same.

    Raises:
        SizewiseError: an earlier evaluation asked it.
    """
    texts: set[tuple[str, tuple[str, ...]]] | None = None
    for earlier in store.saved(Evaluation):
        if not _asks_the_same(look, earlier, store):
            continue
        test = datasets.load(store, look.data).examples["test"] if texts is None else ()
        texts = texts or {(example.prompt, tuple(scored_references(example))) for example in test}
        rows = store.read_rows(store.folder("evaluation", earlier.id), "items.jsonl", ItemRow)
        again = sum((row.prompt, tuple(row.references)) in texts for row in rows)
        stopped = earlier.record.stopped
        if again and stopped is not None:
            raise SizewiseError(
                f"{earlier.id} already asked this question with seed {earlier.record.seed} "
                f"({stopped.decision}, p = {stopped.p_anytime:.2g}), about {again} of the same items. Asking again in "
                "another order is another look, which the p-value doesn't allow for.",
                "other test items, or a full evaluation without --until",
                f"sizewise evaluate {look.model.uri} --data {look.data} --metrics {look.metric}",
            )


def _asks_the_same(look: Look, earlier: Saved[Evaluation], store: Store) -> bool:
    """Return whether an earlier evaluation asked the same question in another order."""
    record = earlier.record
    stopped, until = record.stopped, look.options.until
    if until is None or stopped is None or stopped.metric != look.metric or not _same_model(record.model, look.model):
        return False
    if earlier.id == look.evaluation or earlier.id.startswith(f"{look.evaluation}-incomplete-"):
        return False
    same_order = (record.data, record.limit, record.seed) == (look.data, look.limit, look.options.seed)
    if same_order and not look.options.new_run:
        return False
    if (stopped.margin, stopped.min_quality) != (until.margin, until.min_quality):
        return False
    return _same_opponent(stopped.against, until.against, store)


def _same_opponent(first: str | None, second: str | None, store: Store) -> bool:
    """Return whether two evaluations, if any, are of the same model; a deleted one is known by its id only."""
    if first is None or second is None or first == second:
        return first == second
    if not store.exists("evaluation", first):
        return False
    return _same_model(store.read(Evaluation, first).model, store.read(Evaluation, second).model)


def _same_model(first: ModelDescription, second: ModelDescription) -> bool:
    return (first.uri, first.revision) == (second.uri, second.revision)
