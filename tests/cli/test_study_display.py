"""A study on a terminal, through a pipe, with Ctrl-C and with noisy libraries; in processes of their own."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from sizewise.cli import study_display
from sizewise.cli.noise import LOG, hidden_output
from sizewise.cli.study_display import LineDisplay, watching
from sizewise.records import Score
from sizewise.studies.progress import BoardRow, StudyProgress

Study = Callable[[StudyProgress], None]


def noisy(folder: Path, page: bool | None, rest: Study) -> None:
    """A study whose libraries write wherever they can."""
    with watching(page) as progress:
        progress.show_folder(folder)
        progress.plan([("Read", 1), ("Train", 60)])
        progress.start("Read")
        os.write(2, b"from C\n")
        subprocess.run(["/bin/sh", "-c", "echo from a child >&2"], check=True)
        sys.stderr.write("from Python\n")
        sys.stdout.write("on stdout\n")
        progress.say("20 documents")
        progress.finish("Read", "20 documents")
        progress.start("Train")
        rest(progress)
    sys.stdout.write("verdict\n")


def finish(progress: StudyProgress) -> None:
    progress.finish("Train")


def until_stopped(progress: StudyProgress) -> None:
    while not progress.stop_requested:
        time.sleep(0.01)
    progress.finish("Train", "stopped")


def forever(progress: StudyProgress) -> None:
    time.sleep(60)


def fail(progress: StudyProgress) -> None:
    raise RuntimeError("no luck")


def child(folder: Path, page: bool | None, rest: Study) -> NoReturn:
    """Run the study in a child process with streams of its own; exit 1 after an error, 130 after Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = os.fdopen(1, "w", encoding="utf-8"), os.fdopen(2, "w", encoding="utf-8")
    code = 70
    try:
        noisy(folder, page, rest)
        code = 0
    except KeyboardInterrupt:
        code = 130
    except RuntimeError as error:
        sys.stderr.write(f"error: {error}\n")
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def piped(folder: Path, rest: Study, page: bool | None = None) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a study whose output is no terminal."""
    folder.mkdir()
    out, err = folder.with_suffix(".out"), folder.with_suffix(".err")
    process = os.fork()
    if not process:
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        child(folder, page, rest)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")


def on_terminal(folder: Path, rest: Study, keys: list[str]) -> tuple[int, str]:
    """Return exit code and output of a study on a terminal; Ctrl-C is pressed after each of the texts appeared."""
    folder.mkdir()
    process, terminal = pty.fork()
    if not process:
        os.environ["TERM"] = "xterm"
        child(folder, None, rest)
    shown, end = b"", time.monotonic() + 30
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            more = os.read(terminal, 65536)
        except OSError:  # Linux's end of file of a terminal
            break
        shown += more
        if not more:
            break
        if keys and keys[0].encode() in shown:
            os.write(terminal, b"\x03")
            keys.pop(0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown.decode()


def test_plain_lines_through_a_pipe(tmp_path: Path) -> None:
    code, out, err = piped(tmp_path / "study", finish)
    assert code == 0
    assert out == "verdict\n"
    assert re.sub(r"\d+:\d\d", "T", err).splitlines() == [
        "Loading libraries",
        "[T] Read (stage 1 of 2, about T, T left in all)",
        "20 documents",
        "[T] Read: done in T: 20 documents",
        "[T] Train (stage 2 of 2, about T, T left in all)",
        "[T] Train: done in T",
    ]
    log = (tmp_path / "study" / LOG).read_text(encoding="utf-8")
    for noise in ("from C", "from a child", "from Python", "on stdout", "20 documents"):
        assert noise in log
    assert (tmp_path / "study" / LOG).stat().st_mode & 0o077 == 0


def test_a_failure_names_the_log(tmp_path: Path) -> None:
    code, out, err = piped(tmp_path / "study", fail, page=True)
    assert (code, out) == (1, "")
    assert err.startswith("Live page: http://127.0.0.1:")
    assert err.endswith(f"log: {tmp_path / 'study' / LOG}\nerror: no luck\n")  # the error itself reaches the user
    assert "from C" not in err


def test_the_first_ctrl_c_keeps_the_verdict_so_far(tmp_path: Path) -> None:
    code, shown = on_terminal(tmp_path / "study", until_stopped, ["▸ Train"])
    assert code == 0
    assert "Live page: " in shown
    assert "2 stages in" in shown
    assert shown.rstrip().endswith("verdict")
    assert "from C" not in shown


def test_the_second_ctrl_c_aborts(tmp_path: Path) -> None:
    code, shown = on_terminal(tmp_path / "study", forever, ["▸ Train", "Ctrl-C again"])
    assert code == 130
    assert "verdict\n" not in shown


class Lines(LineDisplay):
    def __init__(self, progress: StudyProgress) -> None:
        from io import StringIO

        from rich.console import Console

        self.text = StringIO()
        super().__init__(progress, Console(file=self.text), "")

    def lines(self) -> list[str]:
        return [re.sub(r"^\[\d:\d\d\] ", "", line) for line in self.text.getvalue().splitlines()]


def test_no_silent_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = StudyProgress()
    display = Lines(progress)
    progress.start("Train")
    progress.advance("Train", 0, 4)
    progress.advance("Train", 1, 4, "1,200 tokens/s")
    display.tick()
    assert display.lines() == []
    monkeypatch.setattr(study_display, "HEARTBEAT_S", 0.0)
    display.tick()
    (line,) = display.lines()
    assert line.startswith("Still running; Train: 0:00 spent, about 0:00 left; Train 1,200 tokens/s, 25%")
    progress.end()
    display.tick()
    assert len(display.lines()) == 1


def test_lines_are_not_repeated() -> None:
    progress = StudyProgress()
    with Lines(progress) as display:
        assert isinstance(display, Lines)
        progress.start("Evaluating a")
        progress.say("Evaluating a")
        found = Score(metric="accuracy", value=0.5, ci_low=0.4, ci_high=0.6, n=9, unit="share", signature="s")
        for _ in range(3):
            progress.show_board([BoardRow("a", "accuracy", found)])
            progress.show_verdict("Use a.", "pick", provisional=True)
        for step in range(50):
            progress.advance("Evaluating a", step, 50)
        progress.skip("Bias test", "no time left")
    assert display.lines() == [
        "Loading libraries",
        "Evaluating a (stage 1 of 1)",
        "Leader so far: a 50% [40, 60], n = 9",
        "Verdict so far: Use a.",
        "Bias test: skipped: no time left",
    ]


def test_a_terminal_that_has_gone_never_ends_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

        def fileno(self) -> int:
            raise OSError

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stderr", Gone())
    with watching(False) as progress:
        progress.start("a")
        progress.finish("a")
    assert progress.ended


def test_a_second_log_follows_the_first(tmp_path: Path) -> None:
    target = tmp_path / "study"
    target.mkdir()
    for text in ("first", "second"):
        with hidden_output(tmp_path) as log:
            log.note(text)
            log.move(target)
    assert re.findall("first|second", (target / LOG).read_text(encoding="utf-8")) == ["first", "second"]
    assert [path.name for path in tmp_path.glob("*.log")] == []
