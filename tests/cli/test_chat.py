from __future__ import annotations

import io

import pytest

from sizewise.cli.chat import _converse
from sizewise.models.fake import FakeModel


def test_bytes_that_are_no_utf_8_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\udcffb\n\n"))  # as Python reads them
    asked, answered = _converse(FakeModel("echo"), 8, quiet=True)
    assert asked.content == "a\ufffdb"
    assert answered.role == "assistant"
