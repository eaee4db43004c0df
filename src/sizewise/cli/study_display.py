"""Show a running study: one display on a terminal, plain lines elsewhere, a live page in the browser, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live

from sizewise.cli.controls import escape_controls
from sizewise.cli.failing import STARTED
from sizewise.cli.noise import NoiseLog, hidden_output
from sizewise.cli.study_layout import (
    PLAIN_SIGNS,
    STOPPING_HINT,
    Signs,
    clock_text,
    leader_text,
    stage_line,
    study_layout,
)
from sizewise.errors import SizewiseError
from sizewise.store import Store
from sizewise.studies.live_page import LivePage
from sizewise.studies.progress import StudyProgress

TICK_S = 0.5
"""Seconds between two redraws."""
EVERY_S = 10.0
"""Seconds between two lines about a job's progress where stderr isn't a terminal."""
HEARTBEAT_S = 25.0
"""Seconds of silence after which a line tells that the study is still running."""

LOADING = "Loading libraries"
PAGES = {"auto": None, "on": True, "off": False}
"""Value of the option --page -> whether to serve the live page; None where stderr is a terminal."""


@contextmanager
def watching(page: bool | None = None) -> Iterator[StudyProgress]:
    """Show a study while it runs.

    Args:
        page: whether to serve the live page; by default where stderr is a terminal.

    Yields:
        The state to which the study reports.
    """
    with hidden_output(Store().home / "logs") as log:
        progress = StudyProgress(begun=STARTED)
        console = DisplayConsole(file=log.stream, highlight=False)
        alive = console.is_terminal and not console.is_dumb_terminal
        keep_log = _KeptLog(log, progress)
        failed = False
        try:
            with ExitStack() as stack:
                link = stack.enter_context(_served(progress, console.is_terminal if page is None else page))
                display = TerminalDisplay(progress, console, link) if alive else LineDisplay(progress, console, link)
                stack.enter_context(display)
                stack.enter_context(_stopping(display))
                stack.enter_context(_ended(progress))
                yield progress
        except Exception:
            failed = True
            raise
        finally:
            path = keep_log.close()
            if failed and path:
                with suppress(OSError):
                    print(f"log: {escape_controls(path)}", file=log.stream, flush=True)


@contextmanager
def _served(progress: StudyProgress, wanted: bool) -> Iterator[str]:
    """Serve the live page; a machine that allows no server goes without."""
    if not wanted:
        yield ""
        return
    try:
        served = LivePage(progress)
    except OSError as error:
        progress.say(f"No live page: this machine refuses a local server ({error}).")
        yield ""
        return
    with served:
        yield served.url


@contextmanager
def _ended(progress: StudyProgress) -> Iterator[None]:
    """End the state together with the study, so that page and display show how it ended."""
    try:
        yield
    except SizewiseError as error:
        progress.end(error.what)
        raise
    except BaseException as error:
        first_line = str(error).strip().partition("\n")[0]
        interrupted = isinstance(error, KeyboardInterrupt)
        progress.end("Interrupted." if interrupted else f"{type(error).__name__}: {first_line}".rstrip(": "))
        raise
    progress.end()


class _KeptLog:
    """Adds the study's events to the log of its noise, and moves the log into the study's folder."""

    def __init__(self, log: NoiseLog, progress: StudyProgress) -> None:
        self._log, self._progress = log, progress
        self._leave = progress.subscribe(self._hear)

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("say", "start", "skip", "verdict", "stop"):
            self._log.note(f"{kind}: {text}" if kind != "say" else text)

    def close(self) -> str:
        """Stop listening and move the log; return its path, which is empty if there was nothing to keep."""
        self._leave()
        if self._log.drop_if_empty():
            return ""
        if self._progress.folder is not None:
            self._log.move(self._progress.folder)
        return str(self._log.path)


class DisplayConsole(Console):
    """A console that falls silent where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Write nothing more to a reader that has gone."""
        self.quiet = True


class _Display:
    """What both displays share: a thread that ticks, and the request to stop."""

    def __init__(self, progress: StudyProgress, console: Console, link: str) -> None:
        self.progress, self.console, self.link = progress, console, link
        self.title = ""
        self.stop_pressed = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="study-display", daemon=True)

    def __enter__(self) -> _Display:
        self._leave: Callable[[], None] = self.progress.subscribe(self._heard)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._leave()

    def _run(self) -> None:
        while not self._closing.wait(TICK_S):
            # The handler of Ctrl-C only sets a mark: it may have interrupted a write, and can't write itself.
            if self.stop_pressed and not self.progress.stop_requested:
                self.progress.request_stop()
            self.progress.tick()
            with suppress(OSError):  # a terminal that has gone away never ends a study
                self.tick()

    def _heard(self, kind: str, text: str) -> None:
        if kind == "begin":
            self.title = text
        with suppress(OSError):
            self.hear(kind, text)

    def tick(self) -> None:
        """Redraw, or write a line if it is due."""

    def hear(self, kind: str, text: str) -> None:
        """Take note of an event."""


class TerminalDisplay(_Display):
    """One display that is redrawn in place, as tall as the terminal at most."""

    def __init__(self, progress: StudyProgress, console: Console, link: str) -> None:
        super().__init__(progress, console, link)
        self._said = LOADING
        self._signs = Signs() if console.encoding.lower().startswith("utf") else PLAIN_SIGNS
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
            get_renderable=self._layout,
        )

    def __enter__(self) -> _Display:
        self._measure()
        with suppress(OSError):
            self._live.start(refresh=True)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        with suppress(OSError):
            self._live.stop()
            studies = self.progress.snapshot()["studies"]
            finished = sum(stage["state"] == "done" for study in studies for stage in study["stages"])
            stages = f"{finished} stages" if finished != 1 else "1 stage"
            self.console.print(f"{stages} in {clock_text(self.progress.spent_s)}.\n" if finished else "", end="")

    def tick(self) -> None:
        """Redraw at the terminal's present size."""
        self._measure()
        self._live.refresh()

    def hear(self, kind: str, text: str) -> None:
        """Keep the last event."""
        if kind in ("say", "begin"):
            self._said = text if kind == "say" else ""

    def _measure(self) -> None:
        """Take over the terminal's size; one that doesn't know it is treated as 80 by 24."""
        with suppress(OSError, ValueError):
            width, height = os.get_terminal_size(self.console.file.fileno())
            self.console.size = ConsoleDimensions(width or 80, height or 24)

    def _layout(self) -> Group:
        width, height = self.console.size
        return Group(
            *study_layout(
                self.progress, width, height, title=self.title, link=self.link, said=self._said, signs=self._signs
            )
        )


class LineDisplay(_Display):
    """One plain line per event, and one every half minute at least; no control characters."""

    def __init__(self, progress: StudyProgress, console: Console, link: str) -> None:
        super().__init__(progress, console, link)
        self._lock = threading.Lock()
        self._written = time.monotonic()
        self._last_job: dict[str, float] = {}
        self._shown = {"say": "", "board": "", "verdict": ""}

    def __enter__(self) -> _Display:
        if self.link:
            self._write(f"Live page: {self.link}")
        self._write(LOADING)
        return super().__enter__()

    def tick(self) -> None:
        """Write that the study is still running after a silence."""
        if time.monotonic() - self._written >= HEARTBEAT_S and not self.progress.ended:
            running = [stage_line(view) for view in self.progress.stages if view.state == "running"]
            leader = [f"leader so far: {leader_text(row)}" for row in self.progress.board[:1]]
            self._write(self._at("; ".join(["Still running", *running, *leader])))

    def hear(self, kind: str, text: str) -> None:
        """Write a line about an event, unless it repeats the one before."""
        lines: dict[str, Callable[[str], str | None]] = {
            "say": self._say,
            "start": self._start,
            "finish": self._over,
            "skip": self._over,
            "advance": self._advance,
            "board": self._board,
            "verdict": self._verdict,
            "stop": lambda _: STOPPING_HINT,
        }
        line = lines[kind](text) if kind in lines else None
        if line:
            self._write(line if kind == "say" else self._at(line))

    def _say(self, text: str) -> str | None:
        names = [view.name for view in self.progress.stages if view.state == "running"]
        return None if text in names else text

    def _start(self, name: str) -> str:
        views = self.progress.stages
        number = next((i for i, view in enumerate(views, 1) if view.name == name and view.state == "running"), 0)
        expected = next((view.left_s for view in views if view.name == name and view.state == "running"), None)
        left = self.progress.seconds_left
        parts = [f"stage {number} of {len(views)}"]
        parts += [f"about {clock_text(expected)}"] if expected is not None else []
        parts += [f"{clock_text(left)} left in all"] if left is not None else []
        return f"{name} ({', '.join(parts)})"

    def _over(self, name: str) -> str:
        view = next(view for view in reversed(self.progress.stages) if view.name == name)
        note = f": {view.note}" if view.note else ""
        return f"{name}: done in {clock_text(view.spent_s)}{note}" if view.state == "done" else f"{name}: skipped{note}"

    def _advance(self, what: str) -> str | None:
        now = time.monotonic()
        view = next((view for view in self.progress.stages if view.state == "running" and view.job), None)
        if view is None or now - self._last_job.get(what, self._written) < EVERY_S:
            return None
        self._last_job[what] = now
        return stage_line(view)

    def _board(self, _: str) -> str | None:
        line = next((f"Leader so far: {leader_text(row)}" for row in self.progress.board), "")
        return self._changed("board", line)

    def _verdict(self, text: str) -> str | None:
        verdict = self.progress.verdict
        return self._changed("verdict", f"{'Verdict so far' if verdict and verdict[2] else 'Verdict'}: {text}")

    def _changed(self, kind: str, line: str) -> str | None:
        before, self._shown[kind] = self._shown[kind], line
        return line if line != before else None

    def _at(self, line: str) -> str:
        return f"[{clock_text(self.progress.spent_s)}] {line}"

    def _write(self, line: str) -> None:
        with self._lock:
            self._written = time.monotonic()
            self.console.print(escape_controls(line), markup=False, soft_wrap=True)


@contextmanager
def _stopping(display: _Display) -> Iterator[None]:
    """Make the first Ctrl-C a request to stop; the second one aborts."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def handle(number: int, frame: FrameType | None) -> Any:
        if display.stop_pressed or display.progress.stop_requested:
            raise KeyboardInterrupt
        display.stop_pressed = True

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
