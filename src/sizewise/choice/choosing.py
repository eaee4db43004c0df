"""choose(): decide on a stored comparison and save the recommendation."""

from __future__ import annotations

from sizewise.choice.deciding import DECISION_VERSION, decide
from sizewise.records import Comparison, Needs, Recommendation, fingerprint
from sizewise.store import Saved, Store


def choose(comparison: str, needs: Needs | None = None, *, store: Store | None = None) -> Saved[Recommendation]:
    """Recommend a model for given needs.

    Args:
        comparison: comparison id.
        needs: the requirements; by default there are none.
        store: where records live; by default SIZEWISE_HOME.

    Raises:
        SizewiseError: the comparison doesn't exist, or it lacks the quality metric.
    """
    store = store or Store()
    needs = needs or Needs()
    recommendation = decide(store.read(Comparison, comparison), comparison, needs)
    identity = [DECISION_VERSION, comparison, needs.model_dump(mode="json")]
    return store.write(f"choice-{fingerprint(identity)}", recommendation)
