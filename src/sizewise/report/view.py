"""Everything that a study's report shows, loaded from the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sizewise.records import (
    Checkpoint,
    Comparison,
    ContaminationEntry,
    Dataset,
    Difference,
    Evaluation,
    Example,
    ItemRow,
    Recommendation,
    Study,
)
from sizewise.store import Store

STUDY_FILE = "study.toml"


@dataclass(frozen=True)
class StudyView:
    """The records of one study."""

    id: str
    study: Study
    dataset: Dataset
    contamination_entries: tuple[ContaminationEntry, ...]
    comparison: Comparison
    recommendation: Recommendation
    evaluations: dict[str, Evaluation]
    items: dict[str, tuple[ItemRow, ...]]
    bias: dict[str, Evaluation]
    """Candidate -> its scores on the packaged bias set."""
    language_nuance: Comparison | None
    """Candidates, and what trained ones started from, on the packaged language-nuance test."""
    general_note: str
    """What that set is, and its known flaws."""
    checkpoints: dict[str, Checkpoint]
    config: str
    """The study file, as it would be written."""
    tags: dict[str, tuple[str, ...]]
    """Test example -> its tags."""

    def bias_metrics(self) -> tuple[str, ...]:
        """Give the measures of the bias set, without its groups."""
        return next((found.metrics for found in self.bias.values()), ())

    def lost(self, name: str) -> Difference | None:
        """Give a trained candidate's general questions against those of the model that it started from."""
        return self._against_base(self.language_nuance, "language_nuance", name)

    def gained(self, name: str) -> Difference | None:
        """Give the same for the study's own quality, where the start is a candidate too."""
        return self._against_base(self.comparison, self.recommendation.quality, name)

    def _against_base(self, comparison: Comparison | None, metric: str, name: str) -> Difference | None:
        base = self.study.bases.get(name)
        for one in comparison.differences if comparison else ():
            if one.metric == metric and {one.left, one.right} == {name, base}:
                return one if one.left == name else one.turned()
        return None


def load_view(store: Store, study_id: str, study: Study) -> StudyView:
    """Load all records that a study names.

    Raises:
        SizewiseError: one of them is missing or damaged.
    """
    general = store.read(Comparison, study.language_nuance) if study.language_nuance else None
    asked = store.read(Evaluation, next(iter(general.evaluations.values()))) if general else None
    return StudyView(
        id=study_id,
        study=study,
        dataset=store.read(Dataset, study.dataset),
        contamination_entries=tuple(
            store.read_rows(store.folder("dataset", study.dataset), "leaks.jsonl", ContaminationEntry)
        ),
        comparison=store.read(Comparison, study.comparison),
        recommendation=store.read(Recommendation, study.recommendation),
        evaluations={name: store.read(Evaluation, i) for name, i in study.evaluations.items()},
        bias={name: store.read(Evaluation, i) for name, i in study.bias.items()},
        language_nuance=general,
        general_note=asked.notes[0] if asked else "",
        items={
            name: tuple(store.read_rows(store.folder("evaluation", i), "items.jsonl", ItemRow))
            for name, i in study.evaluations.items()
        },
        checkpoints={name: store.read(Checkpoint, i) for name, i in study.checkpoints.items()},
        config=_text(store.folder("study", study_id) / STUDY_FILE),
        tags={
            one.id: one.tags
            for one in store.read_rows(store.folder("dataset", study.dataset), "test.examples.jsonl", Example)
        },
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return "# the study file was not kept by the version that ran this study"
