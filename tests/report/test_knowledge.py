"""The report's section on studied documents: train, retrieve, or both, and what was learned."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

pytest.importorskip("jinja2")

from sizewise.records import ItemRow
from sizewise.report import StudyView, write_study_report
from sizewise.report.knowledge import knowledge_of, way_of
from sizewise.report.standing import Standing
from tests.choice.test_deciding import comparison
from tests.report.views import view_of
from tests.studies.measured_store import checkpoint

FOUR = {
    "base": (5.0, 1.0, None),
    "trained": (10.0, 1.0, None),
    "searching": (30.0, 2.0, None),
    "both": (20.0, 2.0, None),
}
RIGHT = {"base": "", "trained": "a", "searching": "ab", "both": "abc"}
"""Candidate -> the questions that it answers; each is about a document of its name, d about that of c."""


def rows(name: str) -> tuple[ItemRow, ...]:
    return tuple(
        ItemRow(
            item=item, kind="example", cluster=item.replace("d", "c"), uncontaminated=True, prompt=f"Question {item}?",
            references=("it",), completion="it", stats={"reference_match": (float(item in RIGHT[name]), 1.0)},
        )
        for item in "abcd"
    )  # fmt: skip


def view(split_by: str = "questions", names: tuple[str, ...] = tuple(FOUR)) -> StudyView:
    made = view_of(comparison({name: FOUR[name] for name in names}))
    models = {
        name: model.model_copy(update={"uri": f"rag:data:{name}" if name in ("searching", "both") else name})
        for name, model in made.comparison.models.items()
    }
    return replace(
        made,
        comparison=made.comparison.model_copy(update={"models": models}),
        dataset=made.dataset.model_copy(update={"split_by": split_by}),
        checkpoints={name: checkpoint("data-1") for name in names if name in ("trained", "both")},
        items={name: rows(name) for name in names},
    )


def test_candidates_are_told_apart_by_training_and_retrieval() -> None:
    made = view()
    assert [way_of(made, name) for name in FOUR] == ["as it is", "trained", "retrieval", "both"]


def test_what_was_learned_is_counted_by_document() -> None:
    found = knowledge_of(Standing(view()))
    assert found is not None
    assert (found.closed, found.given) == ("trained", "searching")  # the best candidate with passages
    assert found.counts == (1, 1, 2)
    assert found.known == 0
    assert [(one.document, one.counts) for one in found.documents] == [
        ("c", (0, 0, 2)),
        ("b", (0, 1, 0)),
        ("a", (1, 0, 0)),
    ]
    assert found.documents[0].unanswered == ("Question c? (not at all)", "Question d? (not at all)")
    assert found.documents[1].unanswered == ("Question b? (only with passages)",)


def test_a_question_that_was_not_measured_is_not_counted_as_unknown() -> None:
    made = view()
    failed = [row.model_copy(update={"stats": {}}) if row.item in "ac" else row for row in made.items["searching"]]
    found = knowledge_of(Standing(replace(made, items={**made.items, "searching": tuple(failed)})))
    assert found is not None
    assert found.counts == (1, 1, 1)  # a is answered closed book, of c nothing is known


def test_retrieval_that_beats_training_is_advised() -> None:
    found = knowledge_of(Standing(view()))
    assert found is not None
    assert found.advice.startswith("Retrieve; don't train for knowledge. searching answers better than trained")
    assert [pair for pair, _ in found.pairs][:2] == ["trained - base", "searching - trained"]


def test_a_study_without_a_way_says_so() -> None:
    found = knowledge_of(Standing(view(names=("base", "trained"))))
    assert found is not None
    assert "no candidate of the kind retrieval" in found.advice


@pytest.mark.parametrize(("split_by", "names"), [("documents", tuple(FOUR)), ("questions", ("base",))])
def test_other_studies_have_no_such_section(split_by: str, names: tuple[str, ...], tmp_path: Path) -> None:
    made = view(split_by, names)
    assert knowledge_of(Standing(made)) is None
    assert 'id="knowledge"' not in write_study_report(made, tmp_path, running=True).read_text(encoding="utf-8")


def test_the_page_names_documents_and_questions(tmp_path: Path) -> None:
    html = unescape(write_study_report(view(), tmp_path, running=True).read_text(encoding="utf-8"))
    assert "Train, retrieve, or both?" in html
    assert "Question b? (only with passages)" in html
    assert "Of 4 questions" in html
