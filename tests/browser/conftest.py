"""A browser, and pages served by the program itself."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 30
AXE = sorted((Path(sys.prefix) / "axe").glob("axe_playwright_python-*.whl"))
"""The package whose script axe is read from; `make .venv/.browser` fetches it."""
CHECK = """window.barriers = null;
axe.run(document, {
    resultTypes: ["violations"],
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
}).then(found => {
    window.barriers = JSON.stringify(found.violations.map(
        one => `${one.id}: ${one.help}: ${one.nodes.map(node => node.target.join(" ")).slice(0, 5).join(" | ")}`));
}, error => { window.barriers = JSON.stringify([String(error)]); });
1"""


@cache
def axe_script() -> str:
    """Return the script of axe-core."""
    with zipfile.ZipFile(AXE[-1]) as package:
        return package.read("axe_playwright_python/axe.min.js").decode()


class Browser:
    """A page in Chromium.

    Args:
        shots: folder for pictures.
    """

    def __init__(self, shots: Path) -> None:
        self.shots = shots
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._heard()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _heard(self) -> dict[str, Any]:
        line = self._answers.get(timeout=WAIT_S)
        if not line:
            raise RuntimeError("the browser has ended")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def _tell(self, **order: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._heard()

    def open(self, url: str, width: int = 1200, height: int = 800, refused: bool = False) -> None:
        assert self._tell(open=url, width=width, height=height)["ok"] != refused, url

    def size(self, width: int, height: int) -> None:
        self._tell(size=[width, height])

    def js(self, code: str) -> Any:
        return self._tell(js=code)["result"]

    def complaints(self) -> list[str]:
        said: list[str] = self._tell(js="1")["said"]
        return said

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        event = f"new KeyboardEvent('keydown', {{key: {json.dumps(key)}, bubbles: true, cancelable: true}})"
        self.js(f"(document.activeElement || document.body).dispatchEvent({event}); 1")

    def until(self, code: str) -> Any:
        """Wait until a script gives something true, and give it."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            if found := self.js(code):
                return found
            time.sleep(0.03)
        raise AssertionError(f"never true: {code}; the page shows: {self.js('document.body.innerText')}")

    def shot(self, name: str) -> Path:
        """Take a picture, and check what stands there for people who don't see it or use no mouse."""
        path = self.shots / f"{name}.png"
        assert self._tell(shot=str(path))["ok"]
        assert self.barriers() == [], name
        return path

    def barriers(self) -> list[str]:
        """Return what axe finds against WCAG 2.2 at levels A and AA: rule, reason and places."""
        if not AXE:
            return []
        if not self.js("typeof window.axe === 'object'"):
            self.js(axe_script() + "; 1")
        self.js(CHECK)
        found: list[str] = json.loads(self.until("window.barriers"))
        return found

    def wide(self) -> bool:
        """Tell whether the page is wider than its window."""
        return bool(self.js("document.documentElement.scrollWidth > window.innerWidth + 1"))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=10)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Chromium; pictures go to the folder that SIZEWISE_TEST_SHOTS names, if it names one."""
    pytest.importorskip("PyQt6.QtWebEngineCore", reason="no browser: pip install PyQt6-WebEngine", exc_type=ImportError)
    shots = Path(os.environ.get("SIZEWISE_TEST_SHOTS", str(tmp_path)))
    shots.mkdir(parents=True, exist_ok=True)
    try:
        found = Browser(shots)
    except (RuntimeError, queue.Empty) as error:
        pytest.skip(f"the browser does not start here: {error}")
    yield found
    found.close()


Serve = Callable[..., Any]


@pytest.fixture
def served() -> Serve:
    """Run a command of the program that serves, and give the addresses it tells."""

    @contextmanager
    def run(*arguments: str, told: str) -> Iterator[list[str]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "sizewise", *arguments],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines: queue.Queue[str] = queue.Queue()

        def read(stream: Any) -> None:
            for line in stream:
                lines.put(line)

        threads = [
            threading.Thread(target=read, args=(stream,), daemon=True) for stream in (process.stderr, process.stdout)
        ]
        for thread in threads:
            thread.start()
        heard: list[str] = []
        try:
            while not re.search(told, "".join(heard)):
                heard.append(lines.get(timeout=60))
            time.sleep(0.5)
            while not lines.empty():
                heard.append(lines.get())
            yield re.findall(r"https?://[^\s]+", "".join(heard))
        except queue.Empty:
            raise AssertionError("".join(heard)) from None
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            for thread in threads:
                thread.join(timeout=10)
            for stream in (process.stderr, process.stdout):
                stream.close()  # type: ignore[union-attr]

    return run


def sizewise(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "sizewise", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
