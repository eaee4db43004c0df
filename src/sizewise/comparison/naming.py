"""Names of the candidates of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sizewise.errors import UsageError
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
            f"Comparing takes several evaluations, not {evaluations!r:.60}.", "a list of evaluations or ids", ""
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
