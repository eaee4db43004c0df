"""Convert documents to Markdown in parallel worker processes with limits on time, memory and output.

Documents are untrusted input to large parsers; a crash or a leak there must not affect the main process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from sizewise.documents import ocr
from sizewise.documents.parts import PAGES, CannotConvert, Conversion
from sizewise.errors import install_command

KINDS = (
    *(".pdf", ".docx", ".pptx", ".xlsx", ".html", ".htm", ".xhtml", ".epub", ".odt", ".rtf"),
    *(".xlsm", ".eml", ".mbox", ".ipynb"),
)
ROW_KINDS = (".xlsx", ".xlsm")
"""Files that are converted only if they turn out to hold no rows."""
SECONDS, SECONDS_PER_MB, PAGE_SECONDS, MAX_SECONDS = 60.0, 20.0, 1.0, 3600.0
OCR_FACTOR = 20
BUSY, MAX_WAITS = 0.5, 9
"""Share of the time limit that a process must have computed to be ended; otherwise the machine is busy, and the process
gets its time again, so often at most."""
MEMORY_BYTES = 4 * 2**30
AHEAD = 4
"""Files per worker that are converted before their turn."""

Named = tuple[Path, str]


class _TimeLimit:
    """Kills a process after some seconds, unless it is left before; one that waits for a processor gets more."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._process = process
        self.seconds = seconds
        self.passed = False
        self._waits, self._left = 0, False
        self._computed = _processor_seconds(process.pid)
        self._lock = threading.Lock()

    def __enter__(self) -> _TimeLimit:
        self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._left = True
            self._timer.cancel()

    def extend(self, seconds: float) -> None:
        """Start again with more time."""
        with self._lock:
            self._timer.cancel()
            self.seconds = min(self.seconds + seconds, MAX_SECONDS)
            self._begin()

    def _begin(self) -> None:
        self._timer = threading.Timer(self.seconds, self._end)
        self._timer.start()

    def _end(self) -> None:
        with self._lock:
            if self._left:
                return
            now = _processor_seconds(self._process.pid)
            computed = self.seconds if now is None or self._computed is None else now - self._computed
            if computed < BUSY * self.seconds and self._waits < MAX_WAITS:
                self._waits += 1
                self._begin()
                return
            self.passed = True
            self._process.kill()


def _processor_seconds(pid: int) -> float | None:
    """Return how long a process has computed; None where the operating system doesn't say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return None


class Converter:
    """Converts files one at a time; the worker process starts with the first file and restarts after a failure.

    Args:
        seconds: Time limit for a small file; a large one gets more, by its size.
        memory_bytes: Limit on the worker's address space, where the operating system supports it.
    """

    def __init__(self, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
        self._seconds, self._memory = seconds, memory_bytes
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Converter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def convert(self, path: Path) -> Conversion:
        """Convert a file to Markdown.

        Raises:
            CannotConvert: The extra isn't installed, the file is damaged or protected, or a limit was exceeded.
        """
        if find_spec("markitdown") is None:
            raise CannotConvert(f"needs {install_command('documents')}")
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        seconds = min(self._seconds * (1 + path.stat().st_size / 1e6 * SECONDS_PER_MB / SECONDS), MAX_SECONDS)
        with _TimeLimit(process, seconds) as limit:
            try:
                process.stdin.write(json.dumps(str(path.resolve())) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if line.startswith(PAGES):
                    limit.extend(int(line.removeprefix(PAGES)) * PAGE_SECONDS * (OCR_FACTOR if ocr.can_read() else 1))
                    line = process.stdout.readline()
            except (OSError, ValueError):
                line = ""
        if not line.endswith("\n"):
            code = self._exit_code(wait_s=1)
            raise CannotConvert(f"took longer than {limit.seconds:.0f} s" if limit.passed else cause_of_death(code))
        answer = json.loads(line)
        if answer.get("restart"):
            self.stop()
        if "error" in answer:
            raise CannotConvert(answer["error"])
        return Conversion.from_json(answer)

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sizewise.documents.worker", str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        return self._process

    def stop(self) -> None:
        """End the worker process."""
        self._exit_code(0)

    def _exit_code(self, wait_s: float) -> int:
        """Return the exit code of a worker that has closed its output; after `wait_s` the process is killed."""
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return process.returncode


def cause_of_death(code: int) -> str:
    """Word the reason for which a worker process ended, from its exit code (negative for a signal)."""
    if code == -getattr(signal, "SIGKILL", 9):
        return "stopped by the system (SIGKILL), probably because it ran out of memory"
    if code < 0:
        return f"its parser crashed ({signal.Signals(-code).name})"
    return f"its parser ended with exit code {code}"


def worker_count() -> int:
    """Return the number of processors that this process may use, at least 2."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(2, usable)


class Converters:
    """Converts files in parallel, in worker processes that start when they are needed.

    Args:
        workers: Number of processes; by default the number of processors.
        seconds: Time limit per small file.
        memory_bytes: Limit on the address space of each process.
    """

    def __init__(self, workers: int | None = None, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
        workers = workers or worker_count()
        self._ahead = AHEAD * workers
        self._all = [Converter(seconds, memory_bytes) for _ in range(workers)]
        self._idle: SimpleQueue[Converter] = SimpleQueue()
        for converter in self._all:
            self._idle.put(converter)
        self._threads = ThreadPoolExecutor(workers, "convert")
        self._started: dict[Path, Future[Conversion]] = {}

    def __enter__(self) -> Converters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for converter in self._all:
            converter.stop()
        self._threads.shutdown()
        for converter in self._all:
            converter.stop()

    def ahead(self, files: Iterable[Named], max_bytes: int) -> Iterator[Named]:
        """Yield files in the same order, while the next ones are converted already.

        Args:
            files: (path, name) of files of any kind.
            max_bytes: Larger files aren't started, because they will be refused.
        """
        waiting: deque[Named] = deque()
        for path, name in files:
            waiting.append((path, name))
            if path.suffix.lower() in set(KINDS) - set(ROW_KINDS) and path.stat().st_size <= max_bytes:
                self._started[path] = self._threads.submit(self._run, path)
            if len(waiting) > self._ahead:
                yield waiting.popleft()
        yield from waiting

    def convert(self, path: Path) -> Conversion:
        """Return the conversion of a file, and wait for it if necessary.

        Raises:
            CannotConvert: The file is damaged or protected, or a limit was exceeded.
        """
        started = self._started.pop(path, None)
        return started.result() if started is not None else self._run(path)

    def convert_again(self, path: Path) -> Conversion:
        """Convert a file now, besides the conversion that was started for it.

        Raises:
            CannotConvert: The file is damaged or protected, or a limit was exceeded.
        """
        return self._run(path)

    def _run(self, path: Path) -> Conversion:
        converter = self._idle.get()
        try:
            return converter.convert(path)
        except OSError as error:
            raise CannotConvert(f"unreadable ({error.strerror})") from error
        finally:
            self._idle.put(converter)
