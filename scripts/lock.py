"""Write the hashed locks that `make install` and `make study` install from.

    python -m pip install uv==0.13.9 && python scripts/lock.py

All of them are for plain `pip install --require-hashes --no-deps -r FILE`:

* requirements/all.lock: everything that `make install` needs but PyTorch, build backend included;
* requirements/study.lock: the part of it that `make study` needs;
* requirements/server.lock: what an image for several machines needs: databases, object storage, traces, Ray, no tests;
* requirements/cpu.lock: PyTorch's CPU build (version `...+cpu`), where pip is configured for an index that has it;
* requirements/cuda.lock: PyPI's build of PyTorch with the libraries that it needs, everywhere else.

The CPU build has its own version and hashes: of a list with the hashes of both, pip would prefer PyPI's wheel. Its
hashes come from the wheels in the folders of PIP_FIND_LINKS; those that the lock already has for a version are kept.
requirements/lowest.txt holds the lowest versions that pyproject.toml allows, for the smoke test in `make test-slow`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
MIN_PYTHON = "3.11.5"
EXTRAS = {
    "study": ("study", "documents"),
    "all": (
        "study", "documents", "data", "tune", "tensorboard", "remote", "openvino", "llamacpp", "qlora", "serve",
        "guard", "docs", "dev",
    ),
    "server": (
        "study", "documents", "data", "remote", "openvino", "llamacpp", "serve", "guard", "postgres", "otel", "s3",
        "scale",
    ),
}  # fmt: skip
TORCH = re.compile(r"^(torch$|nvidia-|cuda-|triton)")
HEADER = "# Written by scripts/lock.py (`make lock`). Do not edit.\n"


def compile_lock(extras: tuple[str, ...], *options: str, constraints: bool = True, python: str = MIN_PYTHON) -> str:
    """Resolve some extras of pyproject.toml together with the build backend.

    Args:
        extras: names of optional dependencies.
        options: further options of `uv pip compile`.
        constraints: whether the versions of constraints.txt hold.
        python: version of Python to resolve for.

    Returns:
        Pinned requirements, one paragraph each.
    """
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    with tempfile.TemporaryDirectory() as folder:
        backend = Path(folder) / "build.in"
        backend.write_text("\n".join([*build, "editables"]) + "\n", encoding="utf-8")
        command = [
            "uv", "pip", "compile", "pyproject.toml", str(backend), "--python-version", python, "--no-annotate",
            "--no-header", "--quiet", *options, *(part for extra in extras for part in ("--extra", extra)),
        ]  # fmt: skip
        if constraints:
            command += ["--constraint", "constraints.txt"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command, cwd=ROOT, text=True, capture_output=True, env=os.environ | {"PATH": path}, check=False
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def paragraphs(text: str) -> dict[str, str]:
    """Split a lock into name -> requirement with its hashes."""
    found = re.findall(r"^(?:[\w.-]+)(?:\[[^\]]*\])?==(?:.*\\\n)*.*\n?", text, re.MULTILINE)
    return {re.split(r"[\[=]", paragraph)[0]: paragraph.rstrip("\n") + "\n" for paragraph in found}


def cpu_hashes(version: str) -> set[str]:
    """Hash the wheels of PyTorch's CPU build in the folders of PIP_FIND_LINKS."""
    folders = [Path(place) for place in os.environ.get("PIP_FIND_LINKS", "").split()]
    wheels = [wheel for folder in folders if folder.is_dir() for wheel in folder.glob(f"torch-{version}+cpu-*.whl")]
    return {hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}


def cpu_lock(torch: str) -> str:
    """Pin the CPU build of the version that a requirement pins, with the hashes that are known."""
    version = re.search(r"==([\w.]+)", torch)
    assert version is not None
    path = FOLDER / "cpu.lock"
    earlier = path.read_text(encoding="utf-8") if path.exists() else ""
    hashes = cpu_hashes(version[1])
    if f"=={version[1]}+cpu " in earlier:
        hashes |= set(re.findall(r"sha256:(\w+)", earlier))
    return f"torch=={version[1]}+cpu" + "".join(f" \\\n    --hash=sha256:{one}" for one in sorted(hashes)) + "\n"


def write_constraints(pins: dict[str, str]) -> None:
    """Bring constraints.txt, which installs without hashes use, to the versions of the locks."""
    path = ROOT / "constraints.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    merged = {normalize(line.partition("==")[0]): line for line in lines} | {
        normalize(name): re.sub(r"\[.*\]", "", pin) for name, pin in pins.items()
    }
    path.write_text("".join(f"{merged[name]}\n" for name in sorted(merged)), encoding="utf-8")


def normalize(name: str) -> str:
    """Write a package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write_locks() -> None:
    """Resolve every lock and write it."""
    FOLDER.mkdir(exist_ok=True)
    cuda: dict[str, str] = {}
    pins: dict[str, str] = {}
    for name, extras in EXTRAS.items():
        found = paragraphs(compile_lock(extras, "--generate-hashes"))
        cuda |= {package: text for package, text in found.items() if TORCH.match(package)}
        kept = "".join(text for package, text in found.items() if not TORCH.match(package))
        (FOLDER / f"{name}.lock").write_text(HEADER + kept, encoding="utf-8")
        pins |= {package: text.split(" ")[0].strip() for package, text in found.items()}
    pins = {package: pin for package, pin in pins.items() if package == "torch" or not TORCH.match(package)}
    write_constraints(pins)
    (FOLDER / "cpu.lock").write_text(HEADER + cpu_lock(cuda["torch"]), encoding="utf-8")
    (FOLDER / "cuda.lock").write_text(HEADER + "".join(cuda.values()), encoding="utf-8")
    lowest = paragraphs(compile_lock(EXTRAS["all"], "--resolution", "lowest-direct", constraints=False))
    kept = "".join(text for package, text in lowest.items() if package == "torch" or not TORCH.match(package))
    (FOLDER / "lowest.txt").write_text(HEADER + kept, encoding="utf-8")


def check_python(version: str) -> None:
    """Resolve the lock for another version of Python and compare it with the one that is kept.

    Raises:
        SystemExit: it cannot be resolved, or would hold other versions.
    """
    found = paragraphs(compile_lock(EXTRAS["all"], "--generate-hashes", python=version))
    kept = paragraphs((FOLDER / "all.lock").read_text(encoding="utf-8"))
    pins = {name: text.split(" ")[0] for name, text in found.items() if not TORCH.match(name)}
    apart = {name for name, pin in pins.items() if kept.get(name, "").split(" ")[0].strip() != pin.strip()}
    if apart or set(pins) != set(kept):
        raise SystemExit(f"The lock differs for Python {version}: {sorted(apart | (set(pins) ^ set(kept)))}")
    print(f"Python {version}: the same {len(pins)} packages")


def main() -> None:
    """Write the locks, or check them for other versions of Python."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check-python", nargs="*", metavar="VERSION", help="only resolve for these, and compare")
    wanted = parser.parse_args().check_python
    if wanted is None:
        write_locks()
    for version in wanted or ():
        check_python(version)


if __name__ == "__main__":
    main()
