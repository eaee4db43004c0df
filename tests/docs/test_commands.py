"""Every command and every Python block of README and docs runs, on stand-ins for real models; see pages.py."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.conftest import run
from tests.docs.pages import ENDS_WITH, NOT_RUN, ROOT, commands, fences, pages, small_study, words

MAX_START_S = 60
NEW_IDS = (("read", "data", "DATA"), ("train", "run", "RUN"), ("train", "classifier", "CLASSIFIER"),
           ("compare", "comparison", "COMPARISON"))  # fmt: skip


class Reader:
    """Somebody who types the commands of one page, in order."""

    def __init__(self, folder: Path, ids: dict[str, str]) -> None:
        self.folder, self.ids = folder, ids
        self.port = free_port()
        self.service: subprocess.Popen[bytes] | None = None

    def type(self, command: str) -> None:
        """Run a command line of a page; it must succeed."""
        if command in NOT_RUN or "--suite lm-eval:" in command.replace("'", ""):  # tasks whose data come from the Hub
            return
        found = words(command, self.ids, self.port, self.folder / "tiny")
        if found[0] == "make":
            subprocess.run(["make", "-n", *found[1:]], cwd=ROOT, check=True, capture_output=True)
        elif found[0] == "curl":
            self.request(found)
        elif found[:2] == ["sizewise", "serve"] and "--new-key" not in found:
            self.serve(found[1:])
        else:
            assert found[0] == "sizewise", f"no test knows how to run: {command}"
            self.sizewise(found[1:], ENDS_WITH.get(command, (0, ""))[0])

    def sizewise(self, arguments: list[str], expected: int) -> None:
        """Run a command in this process and keep the ids that it prints."""
        if arguments[0] == "study" and arguments[1:2] == ["study.toml"]:
            study = Path("study.toml")
            study.write_text(small_study(study.read_text(encoding="utf-8")), encoding="utf-8")
        if arguments[0] == "study" and arguments[1:2] == ["my-documents/"]:
            arguments[1] = "tiny-study.toml"
        code, printed = run(*arguments)
        assert code == expected, f"sizewise {shlex.join(arguments)} ended with {code}:\n{printed}"
        if "--grade-sheet" in arguments:
            fill_in(Path(arguments[arguments.index("--grade-sheet") + 1]))
        if arguments[0] == "evaluate" and "--data" in arguments and "--suite" not in arguments:
            self.evaluated(printed)
        for command, kind, name in NEW_IDS:
            if command == arguments[0] and (ids := re.findall(rf"\b{kind}-[0-9a-f]{{10}}\b", printed)):
                self.ids[name] = ids[-1]

    def evaluated(self, printed: str) -> None:
        """Remember the last two evaluations: a page that evaluates twice compares these."""
        ids = re.findall(r"\beval-[0-9a-f]{10}\b", printed)
        if ids:
            self.ids |= {"EVAL_A": self.ids["EVAL_B"], "EVAL_B": ids[-1], "EVAL": ids[-1]}

    def serve(self, arguments: list[str]) -> None:
        """Start a service and wait until it is ready; a service of this page that runs already ends."""
        self.close()
        self.port = free_port()
        if "--config" in arguments:
            config = self.folder / arguments[arguments.index("--config") + 1]
            config.write_text(small_service(self.port), encoding="utf-8")
        else:
            arguments[arguments.index("--port") + 1] = str(self.port)
        with open(self.folder / "service.log", "wb") as log:
            self.service = subprocess.Popen(
                [sys.executable, "-m", "sizewise", *arguments], cwd=self.folder, stdout=log, stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            )  # fmt: skip
        started = time.monotonic()
        while time.monotonic() - started < MAX_START_S and self.service.poll() is None:
            with contextlib.suppress(OSError):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                        return
                except urllib.error.HTTPError as error:
                    if error.code in (401, 404):  # keys are asked for, or it serves a study
                        return
            time.sleep(0.1)
        told = (self.folder / "service.log").read_text(encoding="utf-8", errors="replace")
        raise AssertionError(f"sizewise {shlex.join(arguments)} did not start:\n{told[-2000:]}")

    def request(self, arguments: list[str]) -> None:
        """Send what curl would send; the answer must be 200."""
        url = next(one for one in arguments if one.startswith("http"))
        body = arguments[arguments.index("-d") + 1].encode() if "-d" in arguments else None
        headers = dict(arguments[place + 1].split(": ", 1) for place, one in enumerate(arguments) if one == "-H")
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
            assert answer.status == 200

    def close(self) -> None:
        """Stop the service, without its patience for running answers."""
        if self.service is not None:
            self.service.send_signal(signal.SIGKILL)
            self.service.wait(10)
            self.service = None


def small_service(port: int) -> str:
    """Return the file of a service in the docs, with models that need no weights, on a free port without encryption."""
    page = (ROOT / "docs/how-to/operations.md").read_text(encoding="utf-8")
    text = next(fence for fence in re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    text = re.sub(r"^(tls_\w+|keys|key_env) = .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r'^uri = ".*"$', 'uri = "fake:echo"', text, flags=re.MULTILINE)
    return text.replace('"0.0.0.0"', '"127.0.0.1"').replace("8443", str(port))


def fill_in(sheet: Path) -> None:
    """Grade the answers of a sheet, as people would."""
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "grade": "right" if row["text"] in row["reference"] else "wrong"} for row in rows)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def reader(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    folder = tmp_path / "reader"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SIZEWISE_HOME", str(folder / "home"))
    monkeypatch.setattr("sys.stdin", io.StringIO("q\n"))
    reader = Reader(folder, json.loads((made / "ids.json").read_text(encoding="utf-8")))
    yield reader
    reader.close()


@pytest.mark.filterwarnings("default")  # a reader's warnings are no errors; other tests hold our own code to that
@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_runs(page: Path, reader: Reader) -> None:
    pytest.importorskip("fastapi")
    names: dict[str, object] = {}
    for fence in fences(page):
        if fence.language == "bash":
            for command in commands(fence.code):
                reader.type(command)
        elif fence.language == "python":
            code = fence.code.replace("pkg:smollm2-135m", "fake:echo").replace(":8000", f":{reader.port}")
            exec(compile(code, str(page), "exec"), names)


def test_what_is_not_run_is_on_a_page() -> None:
    typed = {
        command
        for page in pages()
        for fence in fences(page)
        if fence.language == "bash"
        for command in commands(fence.code)
    }
    assert set(NOT_RUN) | set(ENDS_WITH) <= typed


def test_commands_are_never_hidden_in_other_fences() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for fence in fences(page):
            assert fence.language in ("bash", "python", "text", "toml", "json"), f"{page}: {fence.language}"
