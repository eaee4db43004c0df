"""Processes that do the guard's work on long texts, so that the event loop isn't late for short requests."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.guard import Masked
from sizewise.service import guard_process
from sizewise.service.guard_process import Frame, read_frame, write_frame
from sizewise.service.schemas import APIError

LONG_CHARACTERS = 50_000
"""Texts of a request from which a process does the work; for shorter ones, a thread of the service."""
PROCESSES = 2
DEADLINE_S = 120.0
"""Maximum time for a task; 4 million characters with much personal data take 8 s of an idle core."""
ATTEMPTS = PROCESSES + 1
"""All idle processes may have ended in the meantime."""
CLOSING_S = 5.0
_LOG = logging.getLogger("sizewise.service")


class GuardProcesses:
    """Up to `PROCESSES` processes for the texts of requests. They start on first need, and again after they ended.

    Args:
        home: SIZEWISE_HOME, from which they open detectors.
        deadline_s: time after which a task fails and its process is killed.
    """

    def __init__(self, home: Path, deadline_s: float = DEADLINE_S) -> None:
        self._home, self._deadline_s = home, deadline_s
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._closed = False

    async def mask(self, texts: Sequence[str], detect: Sequence[str]) -> Masked:
        """Mask the texts of a request.

        Raises:
            SizewiseError: a text is too long.
            APIError: no process could do it.
        """
        found = await self._ask({"task": "mask", "detect": list(detect)}, texts)
        return Masked(dict(zip(texts, found.texts, strict=True)), found.header["values"], found.header["counts"])

    async def signals(self, texts: Sequence[str], classifiers: Sequence[str], share: float) -> tuple[str, ...]:
        """Detect signs of injection.

        Raises:
            APIError: no process could do it.
        """
        asked = {"task": "signals", "classifiers": list(classifiers), "share": share}
        return tuple((await self._ask(asked, texts)).header["signals"])

    async def matches(self, rules: Sequence[str], texts: Sequence[str]) -> bool:
        """Return whether a rule for confidential text matches.

        Raises:
            APIError: no process could do it.
        """
        return bool((await self._ask({"task": "confidential", "rules": list(rules)}, texts)).header["matches"])

    async def _ask(self, header: dict[str, Any], texts: Sequence[str]) -> Frame:
        with self._lock:
            if self._closed:
                raise _unavailable()
            if self._threads is None:
                self._threads = ThreadPoolExecutor(PROCESSES, thread_name_prefix="guard")
            threads = self._threads
        found = await asyncio.get_running_loop().run_in_executor(threads, self._do, header, texts)
        if "refused" in found.header:
            raise SizewiseError(*found.header["refused"])
        if "failed" in found.header:
            _LOG.error("The guard failed on a long text: %s", found.header["failed"])
            raise _unavailable()
        return found

    def _do(self, header: dict[str, Any], texts: Sequence[str]) -> Frame:
        """Do a task in a process; one that died in the meantime gets a successor."""
        for _ in range(ATTEMPTS):
            process = self._take()
            found = process.ask(header, texts, self._deadline_s)
            if found is not None:
                with self._lock:
                    self._idle.append(process)
                return found
            self._forget(process)
            if process.timed_out:
                _LOG.error("The guard's work on a text took longer than %g s and was stopped", self._deadline_s)
                break
        raise _unavailable()

    def _take(self) -> _Process:
        """Take the process that was used last, or start one."""
        with self._lock:
            if self._closed:
                raise _unavailable()
            if self._idle:
                return self._idle.pop()
            process = _Process(self._home)
            self._all.add(process)
            return process

    def _forget(self, process: _Process) -> None:
        process.end()
        with self._lock:
            self._all.discard(process)

    @property
    def pids(self) -> list[int]:
        """Ids of the processes."""
        with self._lock:
            return [process.pid for process in self._all]

    def close(self) -> None:
        """Stop the processes; tasks in progress fail."""
        with self._lock:
            self._closed, running, self._idle = True, list(self._all), []
            self._all.clear()
        for process in running:
            process.end()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


class _Process:
    """A process that does one task at a time."""

    def __init__(self, home: Path) -> None:
        command = [sys.executable, "-P", guard_process.__file__, str(home)]
        paths = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=paths)
        self.pid = self._process.pid
        self.timed_out = False

    def ask(self, header: dict[str, Any], texts: Sequence[str], deadline_s: float) -> Frame | None:
        """Do a task; None if the process died, or was killed because it took too long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.timed_out = False
        timer = threading.Timer(deadline_s, self._time_out)
        timer.start()
        try:
            write_frame(self._process.stdin, header, texts)
            return read_frame(self._process.stdout)
        except (OSError, ValueError):  # it died, or was closed
            return None
        finally:
            timer.cancel()

    def _time_out(self) -> None:
        self.timed_out = True
        self._process.kill()

    def end(self) -> None:
        """Kill the process and wait for its end."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSING_S)
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()


def _unavailable() -> APIError:
    message = "The guard can't check this text now, so nothing was sent."
    return APIError(message, None, "guard_unavailable", 503, {"Retry-After": "5"})
