"""The records behind a study's report, loaded from the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sizewise.comparison.decisions import read_explanations, read_groups, read_validation
from sizewise.comparison.group_figures import GroupData
from sizewise.comparison.likeness import LETTER
from sizewise.records import (
    Checkpoint,
    Comparison,
    ContaminationEntry,
    Dataset,
    DecidedItem,
    Difference,
    Evaluation,
    Example,
    Explanation,
    FieldScore,
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
    """Candidate -> its scores on the built-in bias test."""
    language_nuance: Comparison | None
    """Candidates and base models on the built-in language-nuance test."""
    nuance_note: str
    """What the language-nuance test contains, and its known flaws."""
    checkpoints: dict[str, Checkpoint]
    config: str
    """The study file as text."""
    tags: dict[str, tuple[str, ...]]
    """Test example -> its tags."""
    validation: dict[str, tuple[DecidedItem, ...]] = field(default_factory=dict)
    """Candidate -> its decisions on validation cases, if it is a classifier."""
    explanations: dict[str, tuple[Explanation, ...]] = field(default_factory=dict)
    """Candidate -> what drove some of its decisions, if that was kept."""
    side_tests: dict[str, Comparison] = field(default_factory=dict)
    """Further test -> comparison of candidates and base models on it."""
    people: GroupData = GroupData({}, {})  # noqa: RUF009 - immutable
    """Groups of people that the test examples are about."""

    def bias_metrics(self) -> tuple[str, ...]:
        """List the metrics of the bias test that every candidate has, without its groups."""
        measured = [found.metrics for found in self.bias.values()]
        return tuple(name for name in measured[0] if all(name in one for one in measured)) if measured else ()

    def asked_for_bias(self) -> frozenset[str]:
        """Return the candidates whose bias was measured by prompting, which isn't comparable with log-likelihoods."""
        return frozenset(
            name
            for name, found in self.bias.items()
            if any(LETTER in score.signature for score in found.scores.values())
        )

    def scored_for_bias(self) -> dict[str, Evaluation]:
        """Return the bias tests by log-likelihood, which can be shown in one plot."""
        asked = self.asked_for_bias()
        return {name: found for name, found in self.bias.items() if name not in asked}

    def fields(self) -> tuple[str, ...]:
        """List the fields of JSON answers that have scores of their own, over all candidates."""
        return tuple(dict.fromkeys(one.path for found in self.evaluations.values() for one in found.fields))

    def field_scores(self, path: str) -> dict[str, FieldScore]:
        """Look up the scores of a field by candidate; candidates without the field are left out."""
        return {name: one for name, found in self.evaluations.items() for one in found.fields if one.path == path}

    def change_in_nuance(self, name: str) -> Difference | None:
        """Look up how training changed a candidate's language nuance, compared with its base model."""
        return self._against_base(self.language_nuance, "language_nuance", name)

    def change_on_task(self, name: str) -> Difference | None:
        """Look up how training changed a candidate's quality, if its base model is a candidate too."""
        return self._against_base(self.comparison, self.recommendation.quality, name)

    def _against_base(self, comparison: Comparison | None, metric: str, name: str) -> Difference | None:
        base = self.study.bases.get(name)
        for found in comparison.differences if comparison else ():
            if found.metric == metric and {found.left, found.right} == {name, base}:
                return found if found.left == name else found.turned()
        return None


def load_view(store: Store, study_id: str, study: Study) -> StudyView:
    """Load all records that a study refers to.

    Raises:
        SizewiseError: a record is missing or damaged.
    """
    nuance = store.read(Comparison, study.language_nuance) if study.language_nuance else None
    evaluations = {name: store.read(Evaluation, i) for name, i in study.evaluations.items()}
    first = store.read(Evaluation, next(iter(nuance.evaluations.values()))) if nuance else None
    return StudyView(
        id=study_id,
        study=study,
        dataset=store.read(Dataset, study.dataset),
        contamination_entries=tuple(
            store.read_rows(store.folder("dataset", study.dataset), "leaks.jsonl", ContaminationEntry)
        ),
        comparison=store.read(Comparison, study.comparison),
        recommendation=store.read(Recommendation, study.recommendation),
        evaluations=evaluations,
        bias={name: store.read(Evaluation, i) for name, i in study.bias.items()},
        language_nuance=nuance,
        nuance_note=first.notes[0] if first else "",
        items={
            name: tuple(store.read_rows(store.folder("evaluation", i), "items.jsonl", ItemRow))
            for name, i in study.evaluations.items()
        },
        checkpoints={name: store.read(Checkpoint, i) for name, i in study.checkpoints.items()},
        config=_text(store.folder("study", study_id) / STUDY_FILE),
        validation={name: tuple(read_validation(store, one.model.uri)) for name, one in evaluations.items()},
        explanations={name: read_explanations(store, i) for name, i in study.evaluations.items()},
        side_tests={test: store.read(Comparison, i) for test, i in study.suite_comparisons.items()},
        people=read_groups(store, study.dataset, ()),
        tags={
            example.id: example.tags
            for example in store.read_rows(store.folder("dataset", study.dataset), "test.examples.jsonl", Example)
        },
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return "# the version that ran this study didn't keep its study file"
