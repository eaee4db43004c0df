"""Locks, constraints and ranges agree; the lowest allowed versions work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLED = ("study", "documents", "tune", "tensorboard", "remote", "openvino", "llamacpp", "serve", "guard", "docs")
DATED = {"genai-prices", "openvino-genai", "xllamacpp", "pip"}  # versions are dates, or any version will do


def pins(name: str) -> dict[str, Version]:
    """Read the versions of a lock."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(package): Version(version) for package, version in found}


def direct(*extras: str) -> list[Requirement]:
    texts = [*PROJECT["dependencies"], *(one for extra in extras for one in PROJECT["optional-dependencies"][extra])]
    return [Requirement(text) for text in texts]


def test_every_package_of_a_lock_has_a_hash() -> None:
    for path in FOLDER.glob("*.lock"):
        text = path.read_text(encoding="utf-8")
        packages = re.findall(r"^[\w.-]+(?:\[[^\]]*\])?==.*?(?=^[\w.-]+|\Z)", text, re.MULTILINE | re.DOTALL)
        assert packages
        assert all("--hash=sha256:" in package for package in packages), path


@pytest.mark.parametrize(
    ("lock", "extras"), [("all.lock", (*INSTALLED, "dev")), ("study.lock", ("study", "documents"))]
)
def test_a_lock_holds_what_pyproject_asks_for(lock: str, extras: tuple[str, ...]) -> None:
    found = pins(lock) | pins("cuda.lock")
    for requirement in direct(*extras):
        version = found.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in {lock}: make lock"
        assert requirement.specifier.contains(version), f"{requirement} and {version} in {lock}: make lock"


def test_constraints_and_both_builds_of_torch_have_the_versions_of_the_locks() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = {
        canonicalize_name(name): Version(version) for name, _, version in (one.partition("==") for one in lines)
    }
    locked = pins("all.lock")
    build = {"hatchling", "editables", "pathspec", "trove-classifiers", "packaging", "pluggy"}
    assert {name: constraints.get(name) for name in locked if name not in build} == {
        name: version for name, version in locked.items() if name not in build
    }
    assert pins("cpu.lock")["torch"].public == str(pins("cuda.lock")["torch"]) == str(constraints["torch"])
    assert {name: version for name, version in pins("study.lock").items() if locked[name] != version} == {}


def test_ranges_are_bounded_where_a_major_version_could_break_the_code() -> None:
    for requirement in direct(*INSTALLED):
        if requirement.name not in DATED:
            assert any(one.operator in ("<", "==") for one in requirement.specifier), requirement


@pytest.mark.slow
@pytest.mark.weights
def test_the_lowest_allowed_versions_take_a_study_to_its_report(tmp_path: Path) -> None:
    """Install requirements/lowest.txt (by pip, over the network) and run the offline example."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(FOLDER / "lowest.txt")]
    subprocess.run(pip, check=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"), "SIZEWISE_HOME": str(tmp_path / "home"), "SIZEWISE_OFFLINE": "1",
    }  # fmt: skip
    for module in ("service.app", "guard.masking", "models.remote", "exporting", "routing", "judging"):
        subprocess.run([python, "-c", f"import sizewise.{module}"], env=environment, check=True)
    study = [python, "-m", "sizewise", "study", str(ROOT / "examples" / "handbook" / "offline.toml"), "--json"]
    done = subprocess.run(study, env=environment, check=True, capture_output=True, text=True)
    assert Path(json.loads(done.stdout)["record"]["report"]).is_file(), sys.version
