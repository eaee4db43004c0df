"""choose(): decide on a stored comparison and save the recommendation."""

from __future__ import annotations

from collections.abc import Sequence

from sizewise.choice.deciding import DECISION_VERSION, decide
from sizewise.metrics.display import listed
from sizewise.records import Comparison, Needs, Recommendation, Study, fingerprint
from sizewise.store import Saved, Store, id_of


def choose(
    comparison: str | Saved[Comparison] | Saved[Study],
    needs: Needs | None = None,
    *,
    unmeasured: Sequence[str] = (),
    store: Store | None = None,
) -> Saved[Recommendation]:
    """Recommend a model for given needs.

    Args:
        comparison: comparison or study, or its id.
        needs: the requirements; by default those of the study, if any.
        unmeasured: candidates that might win, but weren't measured; then no pick is decisive.
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
    if unmeasured:
        recommendation = _without(recommendation, unmeasured)
        identity.append(list(unmeasured))
    return store.write(f"choice-{fingerprint(identity)}", recommendation)


def _without(found: Recommendation, unmeasured: Sequence[str]) -> Recommendation:
    """Add that some candidates weren't measured, which leaves every pick open."""
    verb = "wasn't" if len(unmeasured) == 1 else "weren't"
    sentence = f"{listed(list(unmeasured))} {verb} measured, and may be better."
    return found.model_copy(
        update={
            "decisive": False,
            "summary": f"{found.summary} {sentence}",
            "reasons": (*found.reasons, f"caution: {sentence}"),
        }
    )
