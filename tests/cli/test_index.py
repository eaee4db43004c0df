"""`sizewise index`: make an index, bring it up to date, refuse what would destroy something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("bm25s")

from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from tests.retrieval.encoders import add_pooling, write_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    for name, text in (("card", "My card is blocked and the chip is bad."), ("loan", "The rate of the loan is bad.")):
        (made / f"{name}.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
    return made


def run(*arguments: str | Path) -> dict[str, object]:
    done = CliRunner().invoke(app, ["index", *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)["record"]
    assert isinstance(record, dict)
    return record


def test_an_index_is_made_and_brought_up_to_date(folder: Path, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    add_pooling(encoder, "mean_tokens")
    first = run(folder, "--out", tmp_path / "index", "--encoder", encoder)
    assert (first["added"], first["encoded"]) == (2, 2)
    (folder / "fee.md").write_text("# fee\n\nThe fee abroad is pending.\n", encoding="utf-8")
    (folder / "loan.md").unlink()
    second = run(folder, "--out", tmp_path / "index", "--encoder", encoder)
    assert (second["added"], second["removed"], second["unchanged"], second["encoded"]) == (1, 1, 1, 1)
    other = write_encoder(tmp_path / "other", seed=1)
    add_pooling(other, "mean_tokens")
    with pytest.raises(SizewiseError, match="was made by"):
        run(folder, "--out", tmp_path / "index", "--encoder", other)
    assert run(folder, "--out", tmp_path / "index", "--encoder", other, "--rebuild")["encoded"] == 2


def test_by_words_only_no_encoder_is_needed(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "--out", tmp_path / "index", "--words-only")["encoded"] == 0
    with pytest.raises(UsageError, match="exclude each other"):
        run(folder, "--out", tmp_path / "index", "--words-only", "--encoder", "pkg:minilm")
    with pytest.raises(UsageError, match="can't hold a fact"):
        run(folder, "--out", tmp_path / "new", "--words-only", "--passage-words", "3")


def test_a_folder_with_other_files_is_not_written_to(folder: Path) -> None:
    with pytest.raises(SizewiseError, match="a folder with other files"):
        run(folder, "--out", folder, "--words-only")
