"""Everything that a study's report shows, loaded from the store."""

from __future__ import annotations

from dataclasses import dataclass

from sizewise.records import (
    Checkpoint,
    Comparison,
    Dataset,
    Evaluation,
    ItemRow,
    LeakEntry,
    Recommendation,
    Study,
)
from sizewise.store import Store


@dataclass(frozen=True)
class StudyView:
    """The records of one study."""

    id: str
    study: Study
    dataset: Dataset
    leaks: tuple[LeakEntry, ...]
    comparison: Comparison
    recommendation: Recommendation
    evaluations: dict[str, Evaluation]
    items: dict[str, tuple[ItemRow, ...]]
    bias: dict[str, Evaluation]
    """Candidate -> its scores on the packaged bias set."""
    checkpoints: dict[str, Checkpoint]
    config: str
    """The study file, as it would be written."""

    def bias_metrics(self) -> tuple[str, ...]:
        """Give the measures of the bias set, without its groups."""
        return next((found.metrics for found in self.bias.values()), ())


def load_view(store: Store, study_id: str, study: Study, config: str) -> StudyView:
    """Load all records that a study names.

    Raises:
        SizewiseError: one of them is missing or damaged.
    """
    return StudyView(
        id=study_id,
        study=study,
        dataset=store.read(Dataset, study.dataset),
        leaks=tuple(store.read_rows(store.folder("dataset", study.dataset), "leaks.jsonl", LeakEntry)),
        comparison=store.read(Comparison, study.comparison),
        recommendation=store.read(Recommendation, study.recommendation),
        evaluations={name: store.read(Evaluation, i) for name, i in study.evaluations.items()},
        bias={name: store.read(Evaluation, i) for name, i in study.bias.items()},
        items={
            name: tuple(store.read_rows(store.folder("evaluation", i), "items.jsonl", ItemRow))
            for name, i in study.evaluations.items()
        },
        checkpoints={name: store.read(Checkpoint, i) for name, i in study.checkpoints.items()},
        config=config,
    )
