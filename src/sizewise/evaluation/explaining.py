"""explain_decisions(): which parts of the texts drove the decisions of an evaluated model, errors first."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sizewise.errors import SizewiseError, UsageError
from sizewise.models import open_model
from sizewise.models.classifier import text_of
from sizewise.models.explaining import explain_decision
from sizewise.progress import Reporter, Silent
from sizewise.records import Dataset, Evaluation, Example, Explanation, ItemRow
from sizewise.records.explanations import EXPLANATIONS_FILE
from sizewise.store import Saved, Store, id_of
from sizewise.text import fold_text

KEPT = 6
"""Explanations that a study keeps for its report."""
MAX_SECONDS = 5.0
"""Time after which a study keeps those that are ready."""


def explain_decisions(
    evaluation: str | Saved[Evaluation],
    *,
    count: int = 5,
    items: Sequence[str] = (),
    passages: int = 5,
    store: Store | None = None,
    max_seconds: float | None = None,
    reporter: Reporter | None = None,
) -> tuple[Explanation, ...]:
    """Explain decisions of an evaluation: the most confident errors first, then the least certain decisions.

    Args:
        evaluation: an evaluation of a model on this machine that gives probabilities, or its id.
        count: number of decisions.
        items: ids of the examples to explain instead.
        passages: number of passages to list for each.
        store: where records live; by default SIZEWISE_HOME.
        max_seconds: time after which no further decision is explained; at least one is.
        reporter: receives progress.

    Raises:
        UsageError: an item isn't in the evaluation, or a number is out of range.
        SizewiseError: the model isn't on this machine, or gives no probabilities.
    """
    store, reporter, name = store or Store(), reporter or Silent(), id_of(evaluation)
    record = store.read(Evaluation, name)
    if count < 1:
        raise UsageError(f"The number of decisions to explain is {count}.", "at least 1", "--explain 5")
    rows = store.read_rows(store.folder("evaluation", name), "items.jsonl", ItemRow)
    chosen = _named(rows, items, name) if items else choose_decisions(rows, count)
    _check(name, record, chosen)
    question = store.read(Dataset, record.data).question if store.exists("dataset", record.data) else None
    texts = _texts(store, record.data, chosen)
    opened = open_model(record.model.uri, store=store, say=reporter.say)
    try:
        asked = opened.describe().question or question
        begun = time.monotonic()
        found: list[Explanation] = []
        for number, row in enumerate(chosen):
            if found and max_seconds is not None and time.monotonic() - begun > max_seconds:
                break
            explained = explain_decision(
                opened, texts[row.item], question=asked, option=_decided(row), passages=passages
            )
            found.append(explained.model_copy(update={"item": row.item, "label": row.references[0]}))
            reporter.advance("Explaining decisions", number + 1, len(chosen))
        return tuple(found)
    finally:
        opened.close()


def _check(name: str, record: Evaluation, chosen: Sequence[ItemRow]) -> None:
    if record.model.api:
        raise SizewiseError(
            f"{record.model.uri} runs elsewhere, and an explanation takes up to 46 requests for each decision.",
            "a model on this machine",
            "sizewise train tfidf --method linear --data ID",
        )
    if not chosen:
        raise SizewiseError(
            f"{name} has no probabilities: {record.model.uri} answered with text alone.",
            "an evaluation of a classifier, or of a model asked for decisions",
            "sizewise train tfidf --method linear --data ID; then sizewise evaluate run:ID --data ID",
        )


def keep_explanations(evaluation: str, store: Store, max_seconds: float = MAX_SECONDS) -> tuple[Explanation, ...]:
    """Explain some decisions of a classifier and keep them beside its evaluation, for reports; nothing if it can't be.

    Only classifiers are explained, because a language model may need minutes.
    """
    folder = store.folder("evaluation", evaluation)
    if (folder / EXPLANATIONS_FILE).exists():
        return tuple(store.read_rows(folder, EXPLANATIONS_FILE, Explanation))
    if not store.read(Evaluation, evaluation).model.uri.startswith("run:classifier-"):
        return ()
    try:
        found = explain_decisions(evaluation, count=KEPT, store=store, max_seconds=max_seconds)
    except SizewiseError:  # an explanation is an extra; the study stands without it
        return ()
    store.write_rows(folder, EXPLANATIONS_FILE, found)
    return found


def choose_decisions(rows: Sequence[ItemRow], count: int) -> list[ItemRow]:
    """Choose the most confident errors, then the least certain of the correct decisions."""
    usable = [row for row in rows if row.probabilities and row.references and row.error is None]
    wrong = [row for row in usable if fold_text(_decided(row)) not in set(map(fold_text, row.references))]
    right = [row for row in usable if row not in wrong]
    wrong.sort(key=_confidence, reverse=True)
    right.sort(key=_confidence)
    return [*wrong, *right][:count]


def _named(rows: Sequence[ItemRow], items: Sequence[str], name: str) -> list[ItemRow]:
    by_id = {row.item: row for row in rows if row.probabilities and row.references}
    absent = next((item for item in items if item not in by_id), None)
    if absent is not None:
        raise UsageError(
            f"{name} has no decision about an item '{absent}'.",
            "the id of a test example",
            f"sizewise decisions {name} --explain 5",
        )
    return [by_id[item] for item in items]


def _decided(row: ItemRow) -> str:
    chances = row.probabilities or {}
    return max(chances, key=lambda value: chances[value])


def _confidence(row: ItemRow) -> float:
    return max((row.probabilities or {}).values(), default=0.0)


def _texts(store: Store, data: str, rows: Sequence[ItemRow]) -> dict[str, str]:
    """Find what each decision is about, as the model read it."""
    texts = {row.item: row.prompt for row in rows}
    if store.exists("dataset", data):
        for example in store.rows(store.folder("dataset", data), "test.examples.jsonl", Example):
            if example.id in texts:
                texts[example.id] = text_of(example.messages)
    return texts
