"""history(): what was measured of a model or on a dataset, over time."""

from __future__ import annotations

from difflib import get_close_matches

from sizewise.comparison.comparing import ROUNDS, differences
from sizewise.errors import SizewiseError
from sizewise.metrics import METRICS
from sizewise.records import Dataset, Difference, Evaluation, History, HistoryEntry, ItemRow
from sizewise.store import Saved, Store


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
    titles = {one.id: one.record.name for one in store.saved(Dataset)}
    known: set[str] = set()
    found: list[Saved[Evaluation]] = []
    for one in store.saved(Evaluation):
        data = one.record.data
        names = {one.record.model.uri, data, titles.get(data, data)}
        known |= names
        if name in names:
            found.append(one)
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
                created=one.created,
                evaluation=one.id,
                model=one.record.model.uri,
                data=one.record.data,
                scores={
                    key: score
                    for key, score in one.record.scores.items()
                    if key in METRICS or key in one.record.metrics
                },
            )
            for one in found
        ),
        changes=tuple(changes),
        notes=tuple(notes),
    )


def _changes(found: list[Saved[Evaluation]], store: Store, seed: int) -> tuple[list[Difference], list[str]]:
    last: dict[str, Saved[Evaluation]] = {}
    changes: list[Difference] = []
    notes: list[str] = []
    for one in found:
        record = one.record
        key = f"{record.data} {record.limit} {record.seed} {record.metrics}"
        before = last.get(key)
        last[key] = one
        if before is None:
            continue
        pair = {saved.id: saved.record for saved in (one, before)}
        try:
            rows = {each: store.read_rows(store.folder("evaluation", each), "items.jsonl", ItemRow) for each in pair}
        except SizewiseError as error:
            notes.append(f"{one.id} and {before.id} could not be compared: {error.what}")
            continue
        new, remarks = differences(pair, rows, ROUNDS, seed)
        changes += new
        notes += remarks
    alone = len(found) - len({one.left for one in changes})
    if alone:
        notes.append(f"{alone} have none before them with the same data, limit, seed and metrics")
    if changes:
        notes.append("each change is judged by itself: with many entries one in twenty seems to be one")
    return changes, notes
