"""`sizewise models`: one model, a family, several side by side, newer lists, new models and proposals."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.cli.table import render_side_by_side, text_width
from sizewise.report.model_page import cell_text, groups_of
from sizewise.store import Store
from sizewise.studies.side_by_side import compare_models
from tests.cli.test_cli import call
from tests.studies.measured_store import RUN, measured_store


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        return call(capsys, monkeypatch, "models", *map(str, arguments))

    return run


def test_names_of_families_and_misspelled_names(run: Any) -> None:
    code, out, _ = run("claude")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("Claude (Anthropic):")
    assert next(line for line in lines if line.startswith("claude-")).startswith("claude-opus-5.5")
    assert "shut down on 2026-01-05" in next(line for line in lines if line.startswith("claude-3-opus"))
    found = json.loads(run("mistral 7b", "--json")[1])
    assert (found["kind"], found["record"]["family"]) == ("family", "Mistral 7B")
    assert [one["current"] for one in found["record"]["models"]] == [True, False]
    assert "released: 2024-05" in run("gpt4 o")[1]
    assert "price of openai: 2.5 USD" in run("GPT-4o")[1]
    assert "none: it was shut down on 2026-10-23" in run("gpt-4")[1]
    assert "gpt-4o" in run("anthropic:claude-sonnet-5-5")[1] or "claude-sonnet-5.5" in run("Claude Sonnet 5.5")[1]
    code, out, err = run("gemni")
    assert (code, out) == (2, "")
    assert "similar names: Gemini" in err
    assert run("sonnet")[1].startswith("'sonnet' may be any of these")


def test_models_side_by_side(run: Any, home: Path, tmp_path: Path) -> None:
    measured_store(home)
    code, out, _ = run("GPT-4o", RUN)
    assert code == 0
    assert "52 [49, 55] (n = 120)" in out
    assert "unknown (not published)" in out
    assert "Sources:" in out
    found = json.loads(run("GPT-4o", RUN, "--json")[1])
    assert found["kind"] == "side_by_side"
    assert [one["name"] for one in found["record"]["models"]] == ["gpt-4o", RUN]
    rows = list(csv.reader(io.StringIO(run("GPT-4o", RUN, "--csv")[1])))
    assert rows[0][:4] == ["group", "point", "model", "kind"]
    page = tmp_path / "models.html"
    code, out, _ = run("gpt-4o", RUN, "--page", page, "--sentence", "Short and clear.")
    assert (code, out) == (0, f"page: {page}\n")
    assert "Short and clear." in page.read_text(encoding="utf-8")
    assert run("gpt-4o", "nobody-knows-this")[0] == 2


def test_a_terminal_of_80_columns_is_wide_enough(tmp_path: Path) -> None:
    measured_store(tmp_path)
    for names in (
        ["gpt-4o", RUN],
        ["gpt-4o", "llama-3.1-8b", RUN],
        ["gpt-4o", "deepseek r1", "phi 4", "qwen3 8b", RUN],
    ):
        record = compare_models(names, store=Store(tmp_path))
        for group in groups_of(record):
            rows = [[row.title, *map(cell_text, row.cells)] for row in group.rows]
            lines = render_side_by_side([group.name, *names], rows, 80)
            assert max(map(text_width, lines)) <= 80
            flat = "".join("".join(lines).split())
            if len(names) == 2:
                assert all(word[:20] in flat for row in rows for word in row[0].split())


def test_new_models_and_proposals(run: Any, home: Path) -> None:
    measured_store(home)
    code, out, _ = run("--new-since", "2026-09-01")
    assert code == 0
    assert "gpt-6.1-terra" in out
    assert "study-1: gpt-6.1-terra is of the same family as large (GPT)" in out
    assert json.loads(run("--new-since", "2026-11-29", "--json")[1])["record"]["models"] == []
    assert "No model with a known day appeared" in run("--new-since", "2026-11-29")[1]
    code, out, _ = run("--for", "sort mails by topic")
    assert code == 0
    assert "not measured on your work" in out
    assert "linear classifier" in out
    assert json.loads(run("--for", "sort mails", "--json")[1])["kind"] == "proposals"


def test_lists_are_fetched_on_request_alone(run: Any, home: Path) -> None:
    code, _, err = run("--refresh")  # tests run with SIZEWISE_OFFLINE
    assert code == 1
    assert "SIZEWISE_OFFLINE forbids the connection" in err
    path = Store().price_update_path()
    path.parent.mkdir(parents=True)
    path.write_text("edited by hand", encoding="utf-8")
    code, out, err = run("gpt-4o")
    assert code == 0
    assert "price of openai: 2.5 USD" in out
    assert f"warning: {path} is damaged" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--page", "x.html"),
        ("gpt-4o", "--sentence", "x"),
        ("--needs", "n.toml"),
        ("gpt-4o", "--new-since", "2026-01-01"),
        ("--new-since", "2026-01-01", "--for", "x"),
        ("--new-since", "yesterday"),
    ],
)
def test_options_that_would_be_ignored_are_refused(run: Any, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "error:" in err


def test_an_old_price_list_is_told(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sizewise.models.price_lists.list_age_days", lambda: 200)
    assert "The price list is 200 days old" in run()[2]
