"""Names of the candidates of a comparison, and whether they cover the same items."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from sizewise.comparison.likeness import check_suite_method
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Evaluation
from sizewise.store import Saved, Store, id_of


def name_evaluations(
    evaluations: Sequence[str | Saved[Evaluation]] | Mapping[str, str | Saved[Evaluation]], store: Store
) -> dict[str, str]:
    """Name at least two evaluations: by the given names, or by the URI of their model.

    Args:
        evaluations: evaluations or their ids, or candidate name -> evaluation.
        store: where records live.

    Raises:
        UsageError: there are fewer than two.
    """
    if isinstance(evaluations, str | Saved) or not isinstance(evaluations, Iterable):
        raise UsageError(
            f"Comparing takes several evaluations, not {evaluations!r:.60}.",
            "a list of evaluations or ids",
            "sizewise compare ID ID",
        )
    if isinstance(evaluations, Mapping):
        named = {name: id_of(one) for name, one in evaluations.items()}
    else:
        named = {}
        for record_id in dict.fromkeys(map(id_of, evaluations)):
            evaluation = store.read(Evaluation, record_id)
            name = evaluation.name or evaluation.model.uri
            named[name if name not in named else f"{name} ({record_id})"] = record_id
    if len(named) < 2:
        raise UsageError(
            f"A comparison needs at least two evaluations, not {len(named)}.",
            "two or more ids",
            "sizewise compare ID ID",
        )
    return named


def check_same(records: Mapping[str, Evaluation], partial: Collection[str] = ()) -> Evaluation:
    """Check that all evaluations cover the same items, `partial` ones fewer, and return the first one.

    Args:
        records: candidate -> evaluation.
        partial: names of candidates that were evaluated on a random part of the items.

    Raises:
        SizewiseError: they don't, or one stopped once its question was decided.
    """
    for name, record in records.items():
        if record.stopped is not None:
            raise SizewiseError(
                f"The evaluation of {name} stopped once its question was decided, so tests on its items don't hold.",
                "an evaluation of all items",
                f"sizewise evaluate {record.model.uri} --data {record.data}",
            )
    (first_name, first), *others = sorted(records.items(), key=lambda entry: entry[0] in partial)
    for name, record in others:
        for field in ("data", "limit", "seed", "metrics"):
            left, right = getattr(first, field), getattr(record, field)
            if field == "limit" and name in partial:
                continue
            if left != right and field == "metrics":
                check_suite_method((first_name, first), (name, record))
            if left != right:
                raise SizewiseError(
                    f"{first_name} and {name} were evaluated on different items: {field} is {left} and {right}.",
                    f"evaluations with the same {field}",
                    f"sizewise evaluate {record.model.uri} --data {first.data}"
                    + (f" --limit {first.limit}" if first.limit else ""),
                )
    return first
