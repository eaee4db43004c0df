"""The sweep over all architectures of transformers, and the page that shows it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOUND = json.loads((ROOT / "benchmarks" / "results" / "architectures.json").read_text(encoding="utf-8"))


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.architectures")


def test_the_page_shows_the_last_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    tables = importlib.import_module("scripts.architecture_table")
    text = tables.PAGE.read_text(encoding="utf-8")
    assert tables.page(text, FOUND) == text


def test_no_architecture_is_wrong_and_most_can_be_trained() -> None:
    verdicts = [row["verdict"] for row in FOUND["rows"]]
    assert not {"wrong", "crashes"} & set(verdicts)
    assert verdicts.count("trains") >= 230


def test_wrong_numbers_are_found(sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = sweep.score_ids
    monkeypatch.setattr(sweep, "score_ids", lambda *args: [1.01 * nats for nats in score(*args)])
    row = sweep.check("llama", "text", tmp_path)
    assert (row["verdict"], row["reason"].split()[:3]) == ("wrong", ["Wrong:", "scores", "differ"])


@pytest.mark.slow
@pytest.mark.parametrize("row", FOUND["rows"], ids=lambda row: row["kind"])
def test_an_architecture_gives_the_numbers_of_transformers(row: dict[str, Any], sweep: Any, tmp_path: Path) -> None:
    assert sweep.check(row["kind"], row["task"], tmp_path)["verdict"] == row["verdict"]
