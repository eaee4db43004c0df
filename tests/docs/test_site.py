"""The documentation as a site: pages that are generated, and nothing that loads from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT

LOADS = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']([^"']+)|<link\b[^>]*\bhref=["']([^"']+)""")


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_every_field_of_a_record_is_explained() -> None:
    page = load("reference").records_page()
    assert "### Score" in page
    bare = [line for line in page.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert not bare


def test_stale_results_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmarks = load("benchmarks_page")
    answers = {"cat-file": "", "rev-list": "3"}
    monkeypatch.setattr(benchmarks, "git", lambda *words: answers.get(words[0]))
    assert benchmarks.freshness("serve", {"commit": "abc"}).later == 3
    assert "stale" in benchmarks.freshness("serve", {"commit": "abc"}).label
    answers["rev-list"] = "0"
    assert benchmarks.freshness("serve", {"commit": "abc"}).label == "current"
    monkeypatch.setattr(benchmarks, "git", lambda *words: None)
    assert benchmarks.freshness("serve", {"commit": "abc"}).later is None


def test_measured_code_exists() -> None:
    benchmarks = load("benchmarks_page")
    for _, parts, _ in benchmarks.MEASURES.values():
        for part in parts:
            assert (ROOT / "src" / "sizewise" / part).exists(), part
    assert set(benchmarks.results()) <= set(benchmarks.MEASURES)


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        for found in LOADS.finditer(page.read_text(encoding="utf-8")):
            assert not (found[1] or found[2]).startswith(("http:", "https:", "//")), f"{page}: {found[0]}"


def test_every_page_is_in_the_navigation() -> None:
    """mkdocs refuses a strict build otherwise, which only a slow test and `make docs` notice."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = set(re.findall(r"[\w/.-]+\.md", navigation))
    docs = ROOT / "docs"
    pages = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")}
    assert pages <= listed


def test_every_variable_of_ours_is_on_the_page_of_variables() -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    internal = {"SIZEWISE_LAUNCH", "SIZEWISE_LAUNCHED"}  # set by a launcher for its processes
    read = {
        name
        for path in (ROOT / "src" / "sizewise").rglob("*.py")
        for name in re.findall(r'"(SIZEWISE_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert "SIZEWISE_HOME" in read
    assert all(f"`{name}" in page for name in read - internal)
