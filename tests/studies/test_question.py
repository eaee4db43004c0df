"""A study says which question its scores answer: on the terminal, on its page, in Markdown and in its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.records import Study
from sizewise.store import Store

CANDIDATES = '[[candidates]]\nname = "echo"\nmodel = "fake:echo"\n[[candidates]]\nname = "with passages"\n' + (
    'model = "fake:echo"\nretrieve = true\n'
)


def test_every_surface_says_which_question_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "unseen questions about documents that trained candidates have studied"
    monkeypatch.setenv("SIZEWISE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "documents"
    folder.mkdir()
    rows = []
    for i in range(20):
        (folder / f"d{i}.md").write_text(
            f"# House {i}\n\nThe roof of house {i} has {i + 40} tiles.\n", encoding="utf-8"
        )
        rows.append({"prompt": f"How many tiles has the roof of house {i}?", "source": f"d{i}.md",
                     "references": [f"the roof of house {i} has {i + 40} tiles"]})  # fmt: skip
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "study.toml").write_text(
        '[study]\nname = "houses"\n[data]\ndocuments = ["documents"]\nexamples = "asked.jsonl"\nsplit = "questions"\n'
        + CANDIDATES,
        encoding="utf-8",
    )
    done = CliRunner().invoke(app, ["study", str(tmp_path / "study.toml"), "--page", "off"])
    assert done.exit_code == 0, done.output
    (saved,) = Store().saved(Study)
    assert says in saved.record.question
    assert says in " ".join(done.output.split())
    report = Path(saved.record.report)
    for page in (report, report.with_name("report.md")):
        assert says in " ".join(page.read_text(encoding="utf-8").split())
    assert "4 of 4 reference answers (100%) stand there word for word" in saved.record.question
