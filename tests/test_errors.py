from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sizewise.errors import MissingExtraError, install_command


@pytest.mark.parametrize("editable", [True, False])
def test_a_missing_part_is_installed_from_where_this_package_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editable: bool
) -> None:
    folder = tmp_path / "my clone"
    folder.mkdir()
    told: dict[str, Any] = {"url": folder.as_uri(), "dir_info": {"editable": editable}}
    found = SimpleNamespace(read_text=lambda name: json.dumps(told) if name == "direct_url.json" else None)
    monkeypatch.setattr(metadata, "distribution", lambda name: found)
    assert install_command("documents").endswith(f"{'-e ' if editable else ''}'{folder}[documents]'")
    assert "constraints" not in install_command("documents")
    (folder / "constraints.txt").write_text("torch==2.13.0\n", encoding="utf-8")
    assert f"-c '{folder}/constraints.txt'" in install_command("documents")


def test_a_missing_part_of_a_published_package_has_its_short_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda name: SimpleNamespace(read_text=lambda name: None))
    error = MissingExtraError("markitdown", "documents")
    assert error.next_step == "pip install 'sizewise[documents]'"
