"""choose(): read a comparison, decide, write the recommendation."""

from __future__ import annotations

from sizewise.choice.deciding import DECISION_VERSION, decide
from sizewise.records import Comparison, Needs, Recommendation, fingerprint
from sizewise.store import Saved, Store


def choose(comparison: str, needs: Needs | None = None, *, store: Store | None = None) -> Saved[Recommendation]:
    """Recommend a model.

    Args:
        comparison: comparison id.
        needs: what is required; nothing limits without it.
        store: where records live; by default SIZEWISE_HOME.

    Raises:
        SizewiseError: there is no such comparison, or it lacks the metric that stands for quality.
    """
    store = store or Store()
    needs = needs or Needs()
    recommendation = decide(store.read(Comparison, comparison), comparison, needs)
    identity = [DECISION_VERSION, comparison, needs.model_dump(mode="json")]
    return store.write(f"choice-{fingerprint(identity)}", recommendation)
