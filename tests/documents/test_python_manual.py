from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.documents import read_demo
from sizewise.documents.python_manual import read_python_manual
from sizewise.errors import SizewiseError


def test_the_manual_is_read_without_network(tmp_path: Path) -> None:
    reading = read_demo("python", tmp_path, offline=True)
    assert len(reading.documents) > 50
    assert len(reading.examples) > 200
    ids = {document.id for document in reading.documents}
    assert {example.source for example in reading.examples} <= ids
    assert all("PSF" in document.license for document in reading.documents)


def test_source_is_parsed_and_never_run(tmp_path: Path) -> None:
    words = "This function gives what it was asked for, no more and no less. " * 8
    (tmp_path / "wild.py").write_text(f'def ask():\n    """{words}"""\n\nraise SystemExit(3)\n', encoding="utf-8")
    (tmp_path / "broken.py").write_text("def (", encoding="utf-8")
    reading = read_python_manual(tmp_path)
    assert [document.id for document in reading.documents] == ["module-wild"]
    assert reading.examples[0].prompt == "What does the Python function wild.ask do?"


def test_a_python_without_source_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError, match="No documentation") as error:
        read_python_manual(tmp_path)
    assert "--control" in error.value.next_step
