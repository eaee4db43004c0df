"""Each template of `sizewise init`, from real data to a verdict: slow, with real weights."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.records import Study
from sizewise.studies.templates import domains as known_domains

DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = [pytest.mark.slow, pytest.mark.weights, pytest.mark.data]
STUDIES = ("definitions", "payments", "regulations", "spam", "support", "legal", "summaries", "voice", "reports")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def material(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that turns the data into examples."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("domains", BENCHMARKS / "domains.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "domains", module)
    spec.loader.exec_module(module)
    return module


def test_every_template_has_its_study(material: ModuleType) -> None:
    assert {material.STUDIES[name][0] for name in STUDIES} == set(known_domains())


@pytest.mark.skipif(not DATA.is_dir(), reason="SIZEWISE_TEST_DATA names no folder with the data")
@pytest.mark.parametrize("name", STUDIES)
def test_a_template_runs_to_a_verdict(
    name: str, material: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    monkeypatch.setenv("SIZEWISE_HOME", str(weights))  # fetched once, with the network open for pip
    monkeypatch.delenv("SIZEWISE_OFFLINE")
    out = tmp_path / name
    out.mkdir()
    path = material.study_file(name, out, 2)
    text = path.read_text(encoding="utf-8")
    for before, after in (
        ("minutes = 3.2", "minutes = 0.2"),
        ("limit = 180", "limit = 12"),
        ("limit = 400", "limit = 24"),
    ):
        text = text.replace(before, after)
    text = text.replace('[[candidates]]\nname = "Gemma-3-270M"\nmodel = "pkg:gemma3-270m"\n', "")
    path.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["study", str(path), "--json"])
    assert done.exit_code == 0, done.output
    found = Study.model_validate(json.loads(done.stdout)["record"])
    assert found.outcome in ("pick", "inconclusive", "do_not_train", "none_good_enough", "keep_large")
    assert found.summary
    assert set(found.load_tests) == {"SmolLM2-135M", "SmolLM2-135M fine-tuned"}
    assert ("linear classifier (baseline)" in found.evaluations) == (name == "spam")
    assert "Speed with many users" in Path(found.report).read_text(encoding="utf-8")
