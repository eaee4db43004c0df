"""history(): what was measured of a model or on a dataset, over time."""

from __future__ import annotations

from difflib import get_close_matches

from sizewise.comparison.comparing import ROUNDS, differences
from sizewise.errors import SizewiseError
from sizewise.metrics import METRICS
from sizewise.records import Dataset, Difference, Evaluation, History, HistoryEntry, ItemRow
from sizewise.store import Store


def history(name: str, *, store: Store | None = None, seed: int = 0) -> History:
    """Gather evaluations, oldest first, and compare each with the one before it on the same items.

    Args:
        name: model URI, dataset id or name of a dataset.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the resampling.

    Raises:
        SizewiseError: nothing was measured under this name.
    """
    store = store or Store()
    titles = {
        record_id: store.read(Dataset, record_id).name
        for created, kind, record_id, _ in store.listing()
        if kind == "dataset" and created
    }
    measured = [
        (created, record_id, store.read(Evaluation, record_id))
        for created, kind, record_id, _ in store.listing()
        if kind == "evaluation" and created
    ]
    known: set[str] = set()
    found: list[tuple[str, str, Evaluation]] = []
    for created, record_id, record in measured:
        names = {record.model.uri, record.data, titles.get(record.data, record.data)}
        known |= names
        if name in names:
            found.append((created, record_id, record))
    if not found:
        near = get_close_matches(name, known, n=1, cutoff=0.3)
        raise SizewiseError(
            f"Nothing was measured under the name '{name}'." + (f" Is '{near[0]}' meant?" if near else ""),
            "a model URI, a dataset id or the name of a dataset",
            "sizewise runs",
        )
    changes, notes = _changes(found, store, seed)
    return History(
        name=name,
        entries=tuple(
            HistoryEntry(
                created=created,
                evaluation=record_id,
                model=record.model.uri,
                data=record.data,
                scores={key: score for key, score in record.scores.items() if key in METRICS or key in record.metrics},
            )
            for created, record_id, record in found
        ),
        changes=tuple(changes),
        notes=tuple(notes),
    )


def _changes(found: list[tuple[str, str, Evaluation]], store: Store, seed: int) -> tuple[list[Difference], list[str]]:
    last: dict[str, tuple[str, Evaluation]] = {}
    changes: list[Difference] = []
    notes: list[str] = []
    for _, record_id, record in found:
        key = f"{record.data} {record.limit} {record.seed} {record.metrics}"
        before = last.get(key)
        last[key] = (record_id, record)
        if before is None:
            continue
        pair = {record_id: record, before[0]: before[1]}
        rows = {one: store.read_rows(store.folder("evaluation", one), "items.jsonl", ItemRow) for one in pair}
        new, said = differences(pair, rows, ROUNDS, seed)
        changes += new
        notes += said
    alone = len(found) - len({one.left for one in changes})
    if alone:
        notes.append(f"{alone} have none before them with the same data, limit, seed and metrics")
    if changes:
        notes.append("each change is judged by itself: with many entries one in twenty seems to be one")
    return changes, notes
