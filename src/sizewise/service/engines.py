"""Engines that the service starts and supervises: vLLM, llama.cpp's server, Ollama, or another `sizewise serve`.

The process that owns the port of the service owns the engines; its workers read their addresses from a folder.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from sizewise.service.config_file import ModelSection, ServiceConfig
from sizewise.store import write_atomically

RESTART_S, MAX_RESTART_S = 1.0, 30.0
"""Seconds before an engine that ended is started again; they double each time."""
STABLE_S = 60.0
STOP_S = 15.0
"""Seconds that an engine has to end after SIGTERM."""
POLL_S = 0.2
PROBE_S, PROBE_TIMEOUT_S = 5.0, 20.0
LAST_LINES = 15
MAX_LINE = 500
PORT = "{port}"
ADDRESSES = "addresses.json"
_LOG = logging.getLogger("sizewise.service")


class Engine:
    """One process. It keeps its port when it is started again.

    Args:
        name: name of the model.
        command: its command; `{port}` is replaced by its port.
        env: environment variables to add; `{port}` is replaced here, too.
        folder: folder of the file that says why it isn't running.
        hung_s: seconds without an answer after which a process that has answered before is killed; 0: never.
    """

    def __init__(
        self, name: str, command: Sequence[str], env: dict[str, str], folder: Path, hung_s: float = 0.0
    ) -> None:
        self.port = _free_port()
        self._hung_s, self._answered, self._killed = hung_s, 0.0, False
        self._name = name
        self._command = [part.replace(PORT, str(self.port)) for part in command]
        self._env = {key: value.replace(PORT, str(self.port)) for key, value in env.items()}
        self._why = folder / f"{self.port}.txt"
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._started, self._wait_s, self._restart_at = 0.0, RESTART_S / 2, 0.0

    def check(self) -> None:
        """Start the process if it isn't running; one that ends again and again waits longer each time."""
        now = time.monotonic()
        if self._process is not None:
            if self._process.poll() is None:
                if now - self._started > STABLE_S:
                    self._why.unlink(missing_ok=True)
                if self._hung_s and self._answered and now - self._answered > self._hung_s and not self._killed:
                    self._killed = True
                    self._signal(signal.SIGKILL)
                return
            self._signal(signal.SIGKILL)  # its own processes, which would keep memory and the port
            if self._reader is not None:
                self._reader.join(1.0)
            ended = f"ended with exit code {self._process.returncode}"
            if self._killed:
                ended = f"didn't answer for {self._hung_s:.0f} s, and was killed"
            self._report(f"{ended}; its last lines:\n" + "\n".join(self._lines) if self._lines else ended)
            self._process = None
            stable = now - self._started > STABLE_S
            self._wait_s = RESTART_S if stable else min(MAX_RESTART_S, 2 * self._wait_s)
            self._restart_at = now + self._wait_s
        elif now >= self._restart_at:
            self._start()

    def _start(self) -> None:
        self._lines.clear()
        self._started, self._answered, self._killed = time.monotonic(), 0.0, False
        # The engine ends with this process, also if that is killed.
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        try:
            self._process = subprocess.Popen(
                [*prefix, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | self._env,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            self._report(f"can't be started: {error.strerror or error}")
            self._wait_s = min(MAX_RESTART_S, 2 * self._wait_s)
            self._restart_at = self._started + self._wait_s
            return
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if self._hung_s:
            threading.Thread(target=self._probe, args=(self._process,), daemon=True).start()

    def _probe(self, process: subprocess.Popen[str]) -> None:
        """Note when the process last answered. Any HTTP answer counts: a full engine isn't a hung one."""
        while process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PROBE_TIMEOUT_S)
            with closing(connection), suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/health")
                connection.getresponse()
                self._answered = time.monotonic()
            time.sleep(PROBE_S)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines, suppress(ValueError):
            for line in lines:
                self._lines.append(line.rstrip()[:MAX_LINE])

    def _report(self, reason: str) -> None:
        _LOG.error("The engine of %s (%s) %s", self._name, self._command[0], reason)
        write_atomically(self._why, f"its engine {reason}")

    def terminate(self) -> None:
        """Ask the process and its children to end."""
        self._signal(signal.SIGTERM)

    def stop(self, end: float) -> None:
        """Wait for the end of the process until a time of the monotonic clock, and kill it then."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.1, end - time.monotonic()))
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        """Send a signal to the process and its children; they are a group, which may outlive it."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


Opening = tuple[str, tuple[str, ...], tuple[tuple[str, str], ...], int, float]


class Engines:
    """The engines of a service. One thread starts them, and starts them again when they end.

    Args:
        folder: folder from which workers read the addresses.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engines: dict[Opening, list[Engine]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def update(self, config: ServiceConfig) -> list[Engine]:
        """Start the engines of a configuration that aren't running yet; return those that it no longer has."""
        wanted = {_opening(section): section for section in config.model if section.start is not None}
        with self._lock:
            gone = [engine for key in [*self._engines] if key not in wanted for engine in self._engines.pop(key)]
            for key, section in wanted.items():
                if key not in self._engines and section.start is not None:
                    start = section.start
                    self._engines[key] = [
                        Engine(section.name, start.command, start.env, self._folder, start.hung_s)
                        for _ in range(start.replicas)
                    ]
            ports = {key[0]: [engine.port for engine in engines] for key, engines in self._engines.items()}
        write_atomically(self._folder / ADDRESSES, json.dumps(ports))
        if self._thread is None and wanted:
            self._thread = threading.Thread(target=self._run, daemon=True, name="engines")
            self._thread.start()
        return gone

    def _run(self) -> None:
        while not self._ended.is_set():
            with self._lock:
                for engines in self._engines.values():
                    for engine in engines:
                        try:
                            engine.check()
                        except Exception:  # the others must be supervised
                            _LOG.exception("Failed to supervise an engine")
            self._ended.wait(POLL_S)

    def close(self) -> None:
        """Stop all engines."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        stop_engines([engine for engines in self._engines.values() for engine in engines])


def stop_engines(engines: Sequence[Engine]) -> None:
    """Stop engines, all at the same time."""
    for engine in engines:
        engine.terminate()
    end = time.monotonic() + STOP_S
    for engine in engines:
        engine.stop(end)


def with_engines(config: ServiceConfig, folder: Path) -> ServiceConfig:
    """Return a configuration in which started engines are servers of their models.

    Args:
        config: the configuration.
        folder: folder into which `Engines` wrote the addresses.
    """
    if all(section.start is None for section in config.model):
        return config
    ports = json.loads((folder / ADDRESSES).read_text(encoding="utf-8"))
    models = []
    for section in config.model:
        if section.start is not None:
            uris = [f"http://127.0.0.1:{port}/v1#{section.start.model}" for port in ports[section.name]]
            section = section.model_copy(update={"uri": uris[0], "replicas": tuple(uris[1:])})
        models.append(section)
    return config.model_copy(update={"model": tuple(models)})


def why_not_running(folder: Path, uri: str) -> str:
    """Return why the engine at an address isn't running; empty if that isn't known.

    Args:
        folder: folder of the engines.
        uri: URI of the model.
    """
    port = uri.partition("#")[0].removesuffix("/v1").rpartition(":")[2]
    with suppress(OSError):
        return (folder / f"{port}.txt").read_text(encoding="utf-8")
    return ""


def _opening(section: ModelSection) -> Opening:
    start = section.start
    assert start is not None
    return section.name, start.command, tuple(sorted(start.env.items())), start.replicas, start.hung_s


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
