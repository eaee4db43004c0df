"""What is read of a folder, and what isn't, with its reason."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from sizewise.datasets import load, read
from sizewise.documents import Reading, read_paths
from sizewise.documents.folders import LINK_FOLDER, LINK_OUTSIDE, named_files
from sizewise.errors import SizewiseError
from sizewise.records import SPLITS
from sizewise.store import Store

WORDS = "The harbor office opens at eight in winter and at seven in summer."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "given"
    (made / "sub").mkdir(parents=True)
    for name in ("a.txt", "sub/b.txt"):
        (made / name).write_text(f"{WORDS} {name}", encoding="utf-8")
    return made


def test_links_are_followed_inside_of_the_folder_only(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("A secret of the neighbors.", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "in.txt").symlink_to(folder / "a.txt")
    (folder / "gone.txt").symlink_to(folder / "nothing.txt")
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "other").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "pipe.txt")
    reading = read_paths([folder])
    assert [document.id for document in reading.documents] == ["a.txt", "in.txt", "sub/b.txt"]
    assert reading.not_read == {
        LINK_FOLDER: 2,
        LINK_OUTSIDE: 1,
        "a link that leads nowhere": 1,
        "no regular file": 1,
    }
    assert f"not read ({LINK_OUTSIDE}): out.txt" in reading.notes


def test_a_folder_without_access_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    refused: list[tuple[str, str]] = []
    assert [name for _, name in named_files([folder], (), refused)] == ["a.txt"]
    assert refused == [("sub", "a folder that is unreadable (Permission denied)")]


def test_a_pipe_or_device_is_named_as_such(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (Path("/dev/null"), "a device")):
        with pytest.raises(SizewiseError, match=f"is {kind}") as caught:
            read_paths([path])
        assert "sizewise read data.jsonl" in caught.value.next_step
    with pytest.raises(SizewiseError, match="doesn't exist"):
        read_paths([tmp_path / "nothing"])


def test_the_store_inside_of_the_folder_is_not_read(folder: Path) -> None:
    for i in range(20):
        (folder / f"t{i}.txt").write_text(f"{WORDS} And number {i}.", encoding="utf-8")
    store = Store(folder / "results")
    first = read(folder, store=store)
    again = read(folder, store=store)
    assert again == first
    ids = [document.id for split in SPLITS for document in load(store, first.id).documents[split]]
    assert not [name for name in ids if name.startswith("results")]
    assert len(ids) == 22


def test_unpacked_files_are_private_and_below_the_folder_of_the_reading(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr("m.txt", "A member of an archive.")
    seen: list[tuple[Path, int]] = []

    class Watched(Reading):
        def finish(self, file: str) -> None:
            for path in (tmp_path / "work").rglob("*.txt"):
                seen.append((path, path.stat().st_mode & 0o777))

    (tmp_path / "work").mkdir()
    read_paths([folder], into=Watched(folder=tmp_path / "work"))
    assert {(path.name, mode) for path, mode in seen} == {("m.txt", 0o600)}
    assert list((tmp_path / "work").iterdir()) == []


def test_one_damaged_member_does_not_hide_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(3):
            archive.writestr(f"m{i}.txt", f"{WORDS} {i}")
        archive.writestr("\U0001f600" * 60 + ".txt", f"{WORDS} long")
        archive.writestr("x." + "é" * 200, f"{WORDS} long")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(f"{WORDS} 1".encode(), f"{WORDS} 7".encode()))
    reading = read_paths([path])
    assert [document.text[-4:] for document in reading.documents] == ["r. 0", "r. 2", "long"]
    assert reading.not_read["a damaged member of an archive (BadZipFile)"] == 1
    assert sum(reading.not_read.values()) == 2
