"""Run the RUN lines of the Dockerfile without Docker, in a clean environment below a temporary folder.

    python scripts/docker_steps.py [--run ARGUMENT ...]

Absolute paths of ENV, WORKDIR and VOLUME are moved below the folder, COPY copies, and RUN lines get nothing of this
shell but pip's settings, proxies and certificates. Run by root, what follows USER runs as that user. It stands for the
image where no daemon builds it; the base image itself isn't tested.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PASSED_ON = re.compile(r"PIP_|TORCH_INDEX$|SSL_CERT_|REQUESTS_CA_BUNDLE$|(https?|no)_proxy$", re.IGNORECASE)
TOOLS = ("sh", "env", "mkdir", "chmod", "uname", "ldd", "cat")
"""The only programs beside Python that the steps find, as in a slim image; no compiler."""
PYTHON = "python3.11"


class Step(NamedTuple):
    """An instruction of the Dockerfile."""

    name: str
    value: str


def read_steps(text: str) -> list[Step]:
    """Read the instructions of a Dockerfile; a backslash continues a line."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [Step(*line.split(maxsplit=1)) for line in lines]


class Image:
    """A folder in place of the image, and what its instructions have set.

    Args:
        folder: The root folder of the image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder
        self.user = ""
        self.entry: list[str] = []
        tools = folder / "usr" / "bin"
        tools.mkdir(parents=True)
        for name in TOOLS:
            if found := shutil.which(name, path=f"/usr/local/bin:/usr/bin:/bin:{os.environ['PATH']}"):
                (tools / name).symlink_to(Path(found).resolve())
        python = self._copy_python()
        self.values = {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}
        self.values |= {
            "PATH": f"{python.parent}:{tools}",
            "LD_LIBRARY_PATH": str(folder / "usr" / "local" / "lib"),
            "HOME": str(folder / "root"),
        }

    def _copy_python(self) -> Path:
        """Copy the Python that runs this into the image: the user of the image may not be allowed to read it here."""
        copied, library = self.folder / "usr" / "local", Path("lib") / PYTHON
        unneeded = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__", "config-*", "idlelib", "*.a")
        shutil.copytree(Path(sys.base_prefix) / library, copied / library, ignore=unneeded)
        (copied / library / "site-packages").mkdir()
        (copied / "bin").mkdir()
        for shared in (Path(sys.base_prefix) / "lib").glob("libpython3*.so*"):
            shutil.copy(shared, copied / "lib")
        return Path(shutil.copy(Path(sys.base_prefix) / "bin" / PYTHON, copied / "bin"))

    def path(self, value: str) -> str:
        """Move an absolute path below the folder."""
        return f"{self.folder}{value}" if value.startswith("/") else value

    def set(self, line: str) -> None:
        """Set variables: NAME=VALUE, separated by spaces."""
        for pair in line.split():
            name, _, value = pair.partition("=")
            if value.startswith("/"):  # one path, or a list of them
                parts = [self.values[part[1:]] if part[0] == "$" else self.path(part) for part in value.split(":")]
                value = ":".join(parts)
            self.values[name] = value

    def copy(self, line: str) -> None:
        """Copy files of the checkout."""
        *sources, target = line.split()
        into = self.place / target
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                into.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, into)

    def run(self, command: list[str]) -> str:
        """Run a command in the image and return the time that it took.

        Raises:
            SystemExit: it failed.
        """
        begun, used = time.monotonic(), os.times()
        as_user: list[str] = []
        if self.user and os.geteuid() == 0 and (setpriv := shutil.which("setpriv")):
            user, _, group = self.user.partition(":")
            as_user = [setpriv, "--reuid", user, "--regid", group or user, "--clear-groups"]
        done = subprocess.run([*as_user, *command], cwd=self.place, env=self.values, check=False)
        if done.returncode:
            raise SystemExit(f"ended with {done.returncode}: {' '.join(command)}")
        ended = os.times()
        processor = sum(ended[2:4]) - sum(used[2:4])
        return f"{time.monotonic() - begun:6.1f} s, {processor:5.1f} s of processor time:"

    def execute(self, step: Step) -> None:
        """Execute an instruction."""
        if step.name in ("ARG", "ENV"):
            name = step.value.partition("=")[0]
            if step.name == "ENV" or name not in self.values:
                self.set(step.value)
        elif step.name == "WORKDIR":
            self.place = Path(self.path(step.value))
            self.place.mkdir(parents=True, exist_ok=True)
        elif step.name == "COPY":
            self.copy(step.value)
        elif step.name == "RUN":
            print(f"{self.run(['sh', '-c', step.value])} RUN {step.value[:100]}", flush=True)
        elif step.name == "USER":
            self.user = step.value
        elif step.name == "ENTRYPOINT":
            self.entry = json.loads(step.value)


def main() -> None:
    """Execute every instruction, then the entry point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", nargs="+", metavar="ARGUMENT", help="arguments of the entry point; default: doctor")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sizewise-image-") as folder:
        os.chmod(folder, 0o755)
        if sys.version_info[:2] != (3, 11):
            raise SystemExit(f"This is Python {sys.version.split()[0]}; run it with the image's, {PYTHON}.")
        image = Image(Path(folder))
        for step in read_steps((ROOT / "Dockerfile").read_text(encoding="utf-8")):
            image.execute(step)
        size = sum(path.lstat().st_size for path in Path(image.values["VENV"]).rglob("*"))
        print(f"{size / 1e9:.2f} GB in {image.values['VENV'].removeprefix(folder)}", flush=True)
        command = [*image.entry, *(arguments.run or ["doctor"])]
        print(f"{image.run(command)} {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main())
