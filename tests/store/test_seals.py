"""Checksums of a model's files: what is refused, and what is read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.store import check_seal, seal, seals


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "run-1" / "model"
    (folder / "network").mkdir(parents=True)
    (folder / "head.json").write_text('{"a": 1}', encoding="utf-8")
    (folder / "network" / "model.safetensors").write_bytes(bytes(range(200)))
    seal(folder)
    return folder


def flip(path: Path) -> None:
    """Change one bit, and keep the size and the time of change."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", ["head.json", "network/model.safetensors"])
def test_a_changed_bit_is_refused(model: Path, name: str) -> None:
    check_seal(model)
    flip(model / name)
    with pytest.raises(SizewiseError, match=f"{name} has changed since training") as refused:
        check_seal(model)
    assert "train again" in refused.value.next_step


def test_files_that_are_missing_or_were_added_are_refused(model: Path) -> None:
    (model / "cache.blob").write_bytes(b"made by an engine")
    (model / "README.md").write_text("a note of mine", encoding="utf-8")
    check_seal(model)
    added = model / "network" / "chat_template.jinja"
    added.write_text("{{ x }}", encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"chat_template\.jinja was added after training"):
        check_seal(model)
    added.unlink()
    (model / "head.json").unlink()
    with pytest.raises(SizewiseError, match=r"head\.json is missing"):
        check_seal(model)


def test_large_files_are_read_once_after_a_copy(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = seals.sha256_of
    monkeypatch.setattr(seals, "SMALL_BYTES", 100)
    monkeypatch.setattr(seals, "sha256_of", lambda path: read.append(path.name) or plain(path))  # type: ignore[func-returns-value]
    large = model / "network" / "model.safetensors"
    check_seal(model)
    assert read == ["head.json"]
    os.utime(large, ns=(1, 1))
    check_seal(model)
    check_seal(model)
    assert read.count("model.safetensors") == 1
    flip(large)
    os.utime(large, ns=(2, 2))
    with pytest.raises(SizewiseError, match="has changed since training"):
        check_seal(model)


def test_models_of_earlier_versions_open_and_damaged_checksums_are_refused(model: Path) -> None:
    checksums = model.with_name("model.sha256.json")
    checksums.write_text('{"head.json": [1]}', encoding="utf-8")
    with pytest.raises(SizewiseError, match="can't be read"):
        check_seal(model)
    checksums.unlink()
    check_seal(model)
