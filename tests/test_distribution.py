"""What the wheel and the source distribution hold, and what the Dockerfile promises."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from scripts.docker_steps import Image, read_steps

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "sizewise"
MAX_BYTES = 3_000_000
LOCKS = {f"sizewise/bundling/locks/{name}.lock" for name in ("all", "cpu", "cuda")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def package_files() -> set[str]:
    files = (path for path in SRC.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(SRC.parent).as_posix() for path in files}


def test_the_wheel_holds_the_package_its_data_the_license_and_the_locks(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.stat().st_size < MAX_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.partition(".dist-info/")[2]: name for name in set(archive.namelist()) - names}
        entries = archive.read(about["entry_points.txt"]).decode()
        metadata = email.message_from_bytes(archive.read(about["METADATA"]))
    assert names == package_files() | LOCKS
    assert {Path(name).suffix for name in names} >= {".py", ".typed", ".toml", ".jinja", ".js", ".css", ".sh", ".lock"}
    assert "licenses/LICENSE" in about
    assert "sizewise = sizewise.cli:main" in entries
    assert "study" in (metadata.get_all("Provides-Extra") or [])


def test_the_source_distribution_builds_the_same_and_holds_nothing_else(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    assert archive.stat().st_size < MAX_BYTES
    with tarfile.open(archive) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    locks = {f"requirements/{name}.lock" for name in ("all", "cpu", "cuda")}
    texts = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "PKG-INFO", "pyproject.toml", ".gitignore"}
    assert names == {f"src/{name}" for name in package_files()} | locks | texts


def test_the_image_is_locked_has_no_compiler_and_runs_without_rights() -> None:
    steps = read_steps((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    runs = [step.value for step in steps if step.name == "RUN"]
    for run in runs:
        assert not re.search(r"apt|gcc|g\+\+|build-essential|sudo", run), run
        if "-r requirements/" in run:
            assert "--require-hashes" in run
            assert "--only-binary :all:" in run
    names = [step.name for step in steps]
    assert names.index("USER") > max(place for place, name in enumerate(names) if name == "RUN")
    assert next(step.value for step in steps if step.name == "USER").split(":")[0] != "0"
    copied = {word for step in steps if step.name == "COPY" for word in step.value.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the image has Python 3.11")
def test_the_steps_of_the_image_stay_below_its_folder(tmp_path: Path) -> None:
    image = Image(tmp_path)
    text = "FROM x\nENV A=/opt/a B=https://example.com/x PATH=/opt/a/bin:$PATH\nWORKDIR /b\nCOPY LICENSE ./\n"
    for step in read_steps(text + 'RUN echo "$A" > said\n'):
        image.execute(step)
    assert (tmp_path / "b" / "said").read_text(encoding="utf-8") == f"{tmp_path}/opt/a\n"
    assert image.values["B"] == "https://example.com/x"
    assert image.values["PATH"] == f"{tmp_path}/opt/a/bin:{tmp_path}/usr/local/bin:{tmp_path}/usr/bin"
    assert (tmp_path / "b" / "LICENSE").is_file()
