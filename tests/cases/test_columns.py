"""Columns and splits that people name in their own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.conftest import Command, write_rows


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "daten.csv"
    rows = (f'{i};"Wo ist Paket {i}; bitte?";Paket {i} ist unterwegs;{("Versand", "Zoll")[i % 2]}' for i in range(30))
    path.write_text("\n".join(["Nr;Kundenfrage;Antwort;Kategorie", *rows]), encoding="cp1252")
    return path


def test_the_command_takes_the_columns(command: Command, table: Path) -> None:
    run = command("read", table, "--prompt", "Kundenfrage", "--reference", "Antwort", "--label", "Kategorie", "--json")
    assert run.code == 0, run.whole
    assert run.told["record"]["forms"] == {"kundenfrage + antwort": 30}
    run = command("read", table)
    assert run.code == 1
    assert "'Kundenfrage'" in run.whole
    assert "--prompt Kundenfrage --reference Antwort" in run.whole


def test_a_dataset_from_two_files_has_their_splits(command: Command, tmp_path: Path) -> None:
    for name, count in (("train", 20), ("test", 5)):
        rows = [{"prompt": f"Where is {name} {i}?", "answer": f"At gate {i} of {name}."} for i in range(count)]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    run = command("read", tmp_path / "train.jsonl", tmp_path / "test.jsonl", "--json")
    assert run.code == 0, run.whole
    assert {name: size["examples"] for name, size in run.told["record"]["splits"].items()} == {
        "train": 20, "validation": 0, "test": 5,
    }  # fmt: skip
