from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.store import check_writable, is_free, staged
from sizewise.store.staging import UNFINISHED


def write(made: Path) -> None:
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "b").write_text("b", encoding="utf-8")
    (made / "a").write_text("a", encoding="utf-8")


def fill(out: Path, *, fails: bool = False, other: str = "") -> None:
    with staged(out) as made:
        write(made)
        if fails:
            raise ValueError("mine")
        (out / "a").write_text(other, encoding="utf-8")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_new_folder_appears_at_once(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with staged(out) as made:
        write(made)
        assert not out.exists()
    assert names(out) == ["a", "sub", "sub/b"]
    assert names(tmp_path / "new") == ["out", "out/a", "out/sub", "out/sub/b"]


def test_an_empty_folder_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a mount point, whose parent can't be written either, or the working directory."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    before = target.stat().st_ino
    monkeypatch.chdir(target)
    for out in (Path("."), link):
        with staged(out) as made:
            write(made)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]
        assert names(target) == ["a", "sub", "sub/b"]
        assert target.stat().st_ino == before
        assert link.is_symlink()
        assert not is_free(out)
        (target / "sub" / "b").unlink()
        (target / "sub").rmdir()
        (target / "a").unlink()


def test_a_dangling_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with staged(tmp_path / "link") as made:
        write(made)
    assert (tmp_path / "target" / "a").is_file()
    assert (tmp_path / "link").is_symlink()


def test_failed_work_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new"):
        with pytest.raises(ValueError, match="mine"):
            fill(out, fails=True)
    check_writable(tmp_path / "new")
    assert names(tmp_path) == ["empty"]


def test_what_a_killed_process_left_is_no_content(tmp_path: Path) -> None:
    left = tmp_path / f"{UNFINISHED}abc"
    left.mkdir()
    (left / "part").write_text("", encoding="utf-8")
    assert is_free(tmp_path)
    with staged(tmp_path) as made:
        write(made)
    assert names(tmp_path) == ["a", "sub", "sub/b"]
    assert not is_free(tmp_path / "a")


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert is_free(tmp_path / "file" / "out")
    with pytest.raises(SizewiseError, match="can't be written") as refused:
        check_writable(tmp_path / "file" / "out")
    assert refused.value.next_step == "--out OTHER"
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(SizewiseError, match="a was put there meanwhile"):
        fill(out, other="yours")
    assert (out / "a").read_text(encoding="utf-8") == "yours"
    assert names(out) == ["a"]
