"""choose(): decide on a stored comparison and save the recommendation."""

from __future__ import annotations

from sizewise.choice.deciding import DECISION_VERSION, decide
from sizewise.records import Comparison, Needs, Recommendation, Study, fingerprint
from sizewise.store import Saved, Store, id_of


def choose(
    comparison: str | Saved[Comparison] | Saved[Study], needs: Needs | None = None, *, store: Store | None = None
) -> Saved[Recommendation]:
    """Recommend a model for given needs.

    Args:
        comparison: comparison or study, or its id.
        needs: the requirements; by default those of the study, if any.
        store: where records live; by default SIZEWISE_HOME.

    Raises:
        SizewiseError: the comparison doesn't exist, or it lacks the quality metric.
    """
    store = store or Store()
    comparison_id = id_of(comparison)
    if store.exists("study", comparison_id):
        made = store.read(Study, comparison_id)
        comparison_id = made.comparison
        needs = needs or store.read(Recommendation, made.recommendation).needs
    needs = needs or Needs()
    recommendation = decide(store.read(Comparison, comparison_id), comparison_id, needs)
    identity = [DECISION_VERSION, comparison_id, needs.model_dump(mode="json")]
    return store.write(f"choice-{fingerprint(identity)}", recommendation)
