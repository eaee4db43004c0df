"""`sizewise init` with questions about documents: what it writes asks what models learned, and whether to train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.studies.config import StudyConfig, read_config
from sizewise.studies.templates import init


def study_of(tmp_path: Path, source: str) -> StudyConfig:
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "harbor.md").write_text("# Harbor\n\nIt opens at 6.\n", encoding="utf-8")
    row = {"prompt": "When does the harbor open?", "references": ["At 6."], "source": source}
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps(row) + "\n", encoding="utf-8")
    out = init("medical", tmp_path / "study.toml", (str(folder),), (str(questions),))
    return read_config(out)


def test_questions_about_the_documents_are_asked_in_every_way(tmp_path: Path) -> None:
    config = study_of(tmp_path, "harbor.md")
    assert config.split == "questions"
    assert "reference_recall" in config.metrics
    ways = {(candidate.retrieve, candidate.train is not None) for candidate in config.candidates}
    assert ways == {(False, False), (False, True), (True, False), (True, True)}
    (both,) = (candidate for candidate in config.candidates if candidate.retrieve and candidate.train)
    assert both.train.passage_share > 0


@pytest.mark.parametrize("source", ["", "elsewhere.md"])
def test_other_questions_are_split_by_document(tmp_path: Path, source: str) -> None:
    config = study_of(tmp_path, source)
    assert config.split == ""
    assert "reference_recall" not in config.metrics
    assert not any(candidate.retrieve for candidate in config.candidates)
