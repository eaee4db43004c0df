"""The gate for CI."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.comparison import as_junit, as_markdown, check_requirements, compare
from sizewise.errors import UsageError
from sizewise.evaluation import evaluate
from sizewise.store import Store


@pytest.fixture
def ids(store: Store, tmp_path: Path) -> list[str]:
    path = tmp_path / "job.jsonl"
    rows = [{"prompt": f"say {i}", "references": f"say {i}"} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return [evaluate(model, path, ["exact_match"], store=store).id for model in ("fake:silent", "fake:echo")]


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("exact_match >= old - 0.5", False),
        ("exact_match >= old - 1", True),
        ("exact_match<old", True),
        ("exact_match >= 0.1", False),
        ("exact_match <= 0", True),
        ("exact_match > -1", True),
    ],
)
def test_conditions_are_checked(store: Store, ids: list[str], expression: str, kept: bool) -> None:
    comparison = compare(ids, store=store).record
    (found,) = check_requirements(comparison, "fake:silent", "fake:echo", [expression])
    assert found.kept == kept


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("exact_match", "Can't parse the condition"),
        ("__import__('os') >= 1", "Can't parse the condition"),
        ("bleu > 1", "wasn't measured"),
        ("exact_match >= old - 2", "ranges from 0 to 1"),
        ("exact_match >= 80", "ranges from 0 to 1"),
    ],
)
def test_what_is_no_condition_is_refused(store: Store, ids: list[str], expression: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_requirements(compare(ids, store=store).record, "fake:silent", "fake:echo", [expression])


def test_what_is_missed_is_written_down(store: Store, ids: list[str]) -> None:
    comparison = compare(ids, store=store).record
    asked = ["exact_match >= old", "exact_match >= 0"]
    found = check_requirements(comparison, "fake:silent", "fake:echo", asked)
    suite = ElementTree.fromstring(as_junit(found, "new<&", "old"))
    assert (suite.get("tests"), suite.get("failures"), suite.get("name")) == ("2", "1", "new<& vs. old")
    assert suite[0].find("failure") is not None
    assert (
        "| `exact_match >= old` | **no** | exact_match is 0, threshold 1; the old one is significantly better |"
        in as_markdown(found, "new", "old")
    )


def test_the_command_ends_with_3(store: Store, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZEWISE_HOME", str(store.home))
    report = tmp_path / "gate.xml"
    missed = CliRunner().invoke(app, ["compare", *ids, "--require", "exact_match >= old", "--junit", str(report)])
    assert missed.exit_code == 3
    assert "MISSED" in missed.output
    assert 'failures="1"' in report.read_text(encoding="utf-8")
    kept = CliRunner().invoke(app, ["compare", *reversed(ids), "--require", "exact_match >= old"])
    assert kept.exit_code == 0
