"""Nothing leaves this machine that was not asked for, and nothing is left in the home folder.

Commands run under strace, which sees what the C++ parts of libraries do, too, and all processes that are started.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import httpx2 as httpx
import pytest

from sizewise.privacy import SWITCHES, is_loopback
from tests.documents.test_converting import make_pdf

STRACE = [
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-e",
    "trace=connect,sendto,sendmsg,sendmmsg",
    "-e",
    "signal=none",
    "-o",
]
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
ELSEWHERE = "192.0.2.7"  # RFC 5737: belongs to nobody


@lru_cache(maxsize=1)
def reason_not_to_trace() -> str:
    """Say why connections cannot be recorded here; empty if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run([*STRACE, os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace cannot trace here: {done.stderr.strip()}" if done.returncode else ""


class Traced(NamedTuple):
    home: Path
    trace: Path

    def command(self, *arguments: str) -> list[str]:
        return [*STRACE, str(self.trace), *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        quiet = {name: value for name, value in os.environ.items() if name not in (*SWITCHES, "SIZEWISE_OFFLINE")}
        kept = {name: value for name, value in quiet.items() if not name.startswith(("XDG_", "HF_", "MPLCONFIG"))}
        return kept | {"HOME": str(self.home), "OMP_NUM_THREADS": "1"} | more

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def elsewhere(self) -> list[str]:
        """Give the calls that reached out to another machine."""
        lines = self.trace.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [(line, match) for line in lines for match in ADDRESS.finditer(line)]
        return [line for line, match in found if not is_loopback(match[1] or match[2])]

    def left_at_home(self) -> list[str]:
        return [str(path.relative_to(self.home)) for path in self.home.rglob("*")]


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    if reason_not_to_trace():
        pytest.skip(reason_not_to_trace())
    folder = tmp_path / "nobody"
    folder.mkdir()
    return Traced(folder, tmp_path / "trace")


def test_a_connection_is_recorded_also_where_a_child_makes_it(traced: Traced) -> None:
    code = f"""
        import socket, subprocess, sys
        if len(sys.argv) > 1:
            with socket.socket(type=socket.SOCK_DGRAM) as one:
                one.connect(({ELSEWHERE!r}, 9))
        else:
            subprocess.run([sys.executable, __file__, "child"])
    """
    script = traced.home.parent / "script.py"
    script.write_text(textwrap.dedent(code), encoding="utf-8")
    assert traced.run(sys.executable, str(script)).returncode == 0
    assert len(traced.elsewhere()) == 1


GUARD = "from sizewise.guard import Mask; t = 'a.b@example.museum +49 30 901820 10.0.0.1'; print(Mask([t]).hide(t))"
ENGINE = "import sizewise, openvino, openvino_genai, openvino_tokenizers"
LIBRARIES = (
    "import sizewise, huggingface_hub, transformers, peft, optuna, sklearn, altair, bm25s, sacrebleu, pydantic_ai"
)
COMMANDS = {
    "engine's libraries": ["-c", ENGINE],
    "other libraries": ["-c", LIBRARIES],
    "guard": ["-c", GUARD],
    "read": ["-m", "sizewise", "read", "{texts}"],
    "evaluate": ["-m", "sizewise", "evaluate", "fake:echo", "--data", "{examples}", "--metrics", "bleu,exact_match"],
    "study": ["-m", "sizewise", "study", "{study}"],
    "models": ["-m", "sizewise", "models"],
    "doctor": ["-m", "sizewise", "doctor"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_speak_to_nobody(
    name: str, traced: Traced, text_folder: Path, examples_file: Path, recorded_study: Path
) -> None:
    if name == "engine's libraries":
        pytest.importorskip("openvino")
    if name == "guard":
        pytest.importorskip("presidio_analyzer")
    if name == "read":
        make_pdf(text_folder / "more.pdf", "The first patient takes two tablets of the medicine each day after meals.")
    places = {"texts": text_folder, "examples": examples_file, "study": recorded_study}
    done = traced.run(sys.executable, *(part.format(**places) for part in COMMANDS[name]))
    assert done.returncode == 0 or name == "doctor", done.stderr
    assert traced.elsewhere() == []
    assert traced.left_at_home() == []


def test_the_engine_serves_without_speaking_to_others(traced: Traced, tiny_folder: Path) -> None:
    pytest.importorskip("openvino_genai")
    pytest.importorskip("fastapi")
    with subprocess.Popen(
        traced.command(
            sys.executable, "-m", "sizewise", "serve", str(tiny_folder), "--engine", "openvino", "--port", "0"
        ),
        env=traced.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        while "http://" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        address = re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        for _ in range(600):
            if httpx.get(f"{address}/health").status_code == 200:
                break
            time.sleep(0.1)
        name = httpx.get(f"{address}/v1/models").json()["data"][0]["id"]
        asked = {"model": name, "prompt": "The", "max_tokens": 3}
        assert httpx.post(f"{address}/v1/completions", json=asked, timeout=60).status_code == 200
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split():
            os.kill(int(child), signal.SIGTERM)
        process.communicate(timeout=60)
    assert traced.elsewhere() == []
    assert traced.left_at_home() == []


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        (f"socket.create_connection(({ELSEWHERE!r}, 9), 0.1)", False),
        (f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ({ELSEWHERE!r}, 9))", False),
        ("socket.socket(type=socket.SOCK_DGRAM).connect(('8.8.8.8', 53))", False),
        ("socket.getaddrinfo('example.org', 443)", False),
        ("socket.gethostbyname('example.org')", False),
        ("socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).connect(('2001:db8::1', 53))", False),
        ("s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())", True),
        ("socket.getaddrinfo('localhost', 80)", True),
        ("socket.getaddrinfo('0.0.0.0', 80)", True),
        ("a, b = socket.socketpair(); a.sendmsg([b'x'])", True),
    ],
)
def test_offline_refuses_every_connection_of_python_code_but_loopback(code: str, allowed: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import socket, sizewise; {code}"],
        env=os.environ | {"SIZEWISE_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("SIZEWISE_OFFLINE forbids the connection" in done.stderr) is not allowed, done.stderr
    assert (done.returncode == 0) is allowed


def test_telemetry_is_off_after_importing_and_a_value_that_was_set_stays() -> None:
    code = "import os, sizewise; print(os.environ['DO_NOT_TRACK'], os.environ['VLLM_NO_USAGE_STATS'])"
    environment = {key: value for key, value in os.environ.items() if key not in SWITCHES} | {"DO_NOT_TRACK": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]
