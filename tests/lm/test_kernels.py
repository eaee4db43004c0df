from __future__ import annotations

import os
from pathlib import Path

import pytest

from sizewise.lm.kernels import can_compile


@pytest.mark.parametrize("name", ["", "g++"])
def test_kernels_need_a_compiler_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A compiler without Python's headers fails as this one does."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if name:
        broken = tmp_path / name
        broken.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        broken.chmod(0o755)
    can_compile.cache_clear()
    assert not can_compile()
    can_compile.cache_clear()


def test_a_compiler_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = tmp_path / "called"
    compiler = tmp_path / "my-compiler"
    compiler.write_text(f"#!/bin/sh\ntouch {called}\nexit 1\n", encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    can_compile.cache_clear()
    assert not can_compile()
    can_compile.cache_clear()
    assert called.exists() or os.name != "posix"
