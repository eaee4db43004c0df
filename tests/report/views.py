"""Studies made from a comparison alone, to render pages of every kind of verdict without running anything."""

from __future__ import annotations

from typing import Any

from sizewise.choice import decide
from sizewise.records import (
    Comparison,
    ContaminationReport,
    Dataset,
    Evaluation,
    ItemRow,
    ModelDescription,
    Needs,
    Score,
    SplitSize,
    Study,
)
from sizewise.report import StudyView

BASELINE = "copying (baseline)"


def with_baseline(found: Comparison, name: str = "rule", title: str = BASELINE) -> Comparison:
    """Turn a candidate into a baseline without a language model."""
    rename = {name: title}
    models = {rename.get(key, key): model for key, model in found.models.items()}
    models[title] = models[title].model_copy(update={"role": "baseline", "engine": "rule"})
    return found.model_copy(
        update={
            "models": models,
            "evaluations": {rename.get(key, key): value for key, value in found.evaluations.items()},
            "scores": {
                metric: {rename.get(key, key): score for key, score in by.items()}
                for metric, by in found.scores.items()
            },
            "differences": tuple(
                one.model_copy(
                    update={
                        "left": rename.get(one.left, one.left),
                        "right": rename.get(one.right, one.right),
                        "better": rename.get(one.better or "", one.better),
                    }
                )
                for one in found.differences
            ),
        }
    )


def view_of(comparison: Comparison, needs: Needs | None = None, **study: Any) -> StudyView:
    """Decide, and build a study around the decision."""
    found = decide(comparison, "comparison-1", needs or Needs())
    facts = {
        "outcome": found.outcome, "pick": found.pick, "provisional": found.provisional, "decisive": found.decisive,
        "summary": found.summary, "reasons": found.reasons, "rejected": found.rejected,
    }  # fmt: skip
    record = Study(
        name="A <b>study</b>", domain="medical", seed=0, dataset="data-1", candidates=(), checkpoints={},
        evaluations=comparison.evaluations, comparison="comparison-1", recommendation="choice-1", not_measured=(),
        report="report.html", seconds=90.0, peak_memory_bytes=10**9, **(facts | study),
    )  # fmt: skip
    return StudyView(
        id="study-1",
        study=record,
        dataset=dataset(),
        contamination_entries=(),
        comparison=comparison,
        recommendation=found,
        evaluations={},
        items={name: tuple(rows(name)) for name in comparison.models},
        bias={},
        language_nuance=None,
        nuance_note="",
        checkpoints={},
        config='name = "a"\n',
        tags={},
    )


def rows(name: str) -> list[ItemRow]:
    """Make four answers: of the first candidate by name the first two are right, of all others the last two."""
    return [
        ItemRow(
            item=f"item-{number}", kind="example", cluster=f"doc-{number}", uncontaminated=True,
            prompt=f"Question {number}?", references=(f"right {number}",), completion=f"answer {number} of {name}",
            stats={"exact_match": (float((number < 2) == (name == "a")), 1.0)},
        )
        for number in range(4)
    ]  # fmt: skip


def dataset() -> Dataset:
    """Make the record of a small dataset."""
    size = SplitSize(documents=40, characters=9000, examples=100)
    report = ContaminationReport(
        ngram=13, passages=10, uncontaminated_passages=10, examples=100, uncontaminated_examples=100, prompts=0,
        words=900, shared_words=0, exact=0, duplicates_removed=0,
    )  # fmt: skip
    return Dataset(
        name="d", domain="medical", sources=("texts",), seed=0,
        splits=dict.fromkeys(("train", "validation", "test"), size), contamination=report, licenses={"MIT": 40},
        derived=False, sha256="0" * 64,
    )  # fmt: skip


def stereotypes(value: float, half: float) -> Evaluation:
    """Make a measurement of the bias test."""
    scores = {
        key: Score(
            metric=key,
            value=value,
            ci_low=value - half,
            ci_high=min(1.0, value + half),
            n=210,
            unit="share",
            signature="s",
        )
        for key in ("stereotype_score", "stereotype_score#gender", "language_modeling_score")
    }  # fmt: skip
    model = ModelDescription(uri="a", origin="x", license="x", engine="test", precision="none")
    return Evaluation(
        model=model, data="bias", seed=0, limit=None, metrics=("stereotype_score", "language_modeling_score"),
        scores=scores, items=210, failed=0, seconds=1.0, notes=("packaged sentences",), versions={},
    )  # fmt: skip
