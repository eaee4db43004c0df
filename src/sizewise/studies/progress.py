"""The state of a running study: its stages, leader board, verdict so far, curves and sample answers.

The study writes to it, displays read it, and neither knows the other. It does no input or output of its own.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.metrics.display import measure_of, value_text
from sizewise.progress import Reporter
from sizewise.records import Score
from sizewise.studies.stages import Stage, StageView, State

ASLEEP_S = 60.0
"""Gap between two ticks above which the machine may have been asleep."""
IDLE_CPU_S = 1.0
"""Processor time below which the process did nothing in such a gap."""
MAX_POINTS = 400
"""Points of a curve; beyond that, every second one is dropped."""
MAX_LINES = 200
"""Events that are kept."""
MAX_TEXT = 4000
"""Characters of a prompt or an answer that are kept."""

Listener = Callable[[str, str], None]


class BoardRow(NamedTuple):
    """One candidate on the leader board."""

    name: str
    """Candidate."""
    metric: str
    """Metric that orders the board."""
    score: Score | None
    """Its score so far; None if it wasn't measured yet."""
    note: str = ""
    """Anything else: stopped early, recorded answers, cost."""
    baseline: bool = False
    """Whether it is a baseline."""


@dataclass
class _Part:
    """What is known about one study; a run may hold several, one after the other."""

    name: str = ""
    begun_s: float = 0.0
    board: tuple[BoardRow, ...] = ()
    verdict: dict[str, Any] | None = None
    sample: dict[str, Any] | None = None
    curves: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)
    report: Path | None = None


class StudyProgress:
    """Collects what a running study reports; safe to use from several threads.

    Time is measured by `time.monotonic`, which stands still while a laptop sleeps on Linux and macOS but goes on
    under Windows, and everywhere while a process is suspended. A display calls `tick` about once a second; if two
    ticks are a minute apart and the process used no processor time in between, the gap counts as sleep, not as time
    spent.

    Args:
        reporter: receives `say` and `advance` too.
        budget_s: time for everything, in seconds.
        clock: clock in seconds.
        processor: clock of the processor time of this process, in seconds.
        begun: what the clock showed when the user's time began; by default time counts from the first study on.
    """

    def __init__(
        self,
        reporter: Reporter | None = None,
        *,
        budget_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
        begun: float | None = None,
    ) -> None:
        self.budget_s = budget_s
        self._reporter, self._clock, self._processor = reporter, clock, processor
        self._changed = threading.Condition()
        self._version = 0
        self._given = begun is not None
        self._begun, self._slept = clock() if begun is None else begun, 0.0
        self._ticked: tuple[float, float] | None = None
        self._stages: list[Stage] = []
        self._parts = [_Part()]
        self._lines: deque[tuple[float, str]] = deque(maxlen=MAX_LINES)
        self._listeners: list[Listener] = []
        self._folder: Path | None = None
        self._stop = False
        self._ended: str | None = None

    # What the study reports.

    def begin(self, name: str) -> None:
        """Begin a study, or the next study of the same run: earlier results stay, its stages are planned anew."""
        with self._changed:
            if len(self._parts) > 1 or self._parts[0].name or self._stages:
                self._parts.append(_Part(name, self._now()))
                self._stages = [stage for stage in self._stages if stage.state != "waiting"]
            else:
                self._parts[0].name = name
                if not self._given:
                    self._begun, self._slept = self._clock(), 0.0
        self._notify("begin", name)

    def plan(self, stages: Sequence[tuple[str, float]]) -> None:
        """Set the stages that remain; those that are done or running stay.

        Args:
            stages: names of the stages with estimated seconds, in their order.
        """
        with self._changed:
            known = {stage.name: stage for stage in self._here() if stage.state != "waiting"}
            kept = [stage for stage in self._stages if stage.state != "waiting"]
            for name, seconds in stages:
                expected_s = max(0.0, seconds) if math.isfinite(seconds) else None
                if name not in known:
                    known[name] = Stage(name, expected_s, len(self._parts) - 1)
                    kept.append(known[name])
                elif known[name].state == "running":
                    known[name].expected_s = expected_s
            self._stages = kept
        self._notify("plan", "")

    def start(self, stage: str) -> None:
        """Start a stage; a stage that was done goes on."""
        with self._changed:
            for other in self._stages:
                if other.implicit and other.state == "running":
                    self._set(other, "done", "")
            found = self._stage(stage)
            found.implicit = False
            if found.state != "running":
                found.state, found.begun_s = "running", self._now()
                found.note = found.job = found.detail = ""
        self._notify("start", stage)

    def finish(self, stage: str, note: str = "") -> None:
        """Finish a stage.

        Args:
            stage: name of the stage.
            note: its result in a few words.
        """
        self._close(stage, "done", note)

    def skip(self, stage: str, note: str) -> None:
        """Skip a stage.

        Args:
            stage: name of the stage.
            note: why it was skipped.
        """
        self._close(stage, "skipped", note)

    def say(self, line: str) -> None:
        """Report an event as one line of text."""
        with self._changed:
            self._lines.append((self._now(), line[:MAX_TEXT]))
        if self._reporter:
            self._reporter.say(line)
        self._notify("say", line)

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Update the current job of the running stage, which corrects the stage's estimate of time left.

        Args:
            what: name of the job; the stage's own name if the job is all of the stage.
            done: finished work.
            total: all work, in the same unit.
            detail: speed, loss and the like.
        """
        with self._changed:
            running = [stage for stage in self._stages if stage.state == "running"]
            found = next((stage for stage in running if stage.name == what), running[-1] if running else None)
            if found is None or found.implicit:
                found = self._implicit(what, found)
            found.advance(self._now(), what, done, total, detail)
            if found.implicit and done >= total:
                self._set(found, "done", "")
        if self._reporter:
            self._reporter.advance(what, done, total, detail)
        self._notify("advance", what)

    def show_board(self, rows: Sequence[BoardRow]) -> None:
        """Replace the leader board; best first."""
        with self._changed:
            self._part.board = tuple(rows)
        self._notify("board", rows[0].name if rows else "")

    def show_verdict(self, summary: str, outcome: str, provisional: bool) -> None:
        """Replace the verdict so far.

        Args:
            summary: verdict in a sentence or two.
            outcome: outcome as in the record of a study.
            provisional: whether more evidence is on its way.
        """
        with self._changed:
            self._part.verdict = {"summary": summary, "outcome": outcome, "provisional": provisional}
        self._notify("verdict", summary)

    def show_sample(self, prompt: str, answers: Mapping[str, str]) -> None:
        """Replace the test example that is shown with the candidates' answers."""
        with self._changed:
            self._part.sample = {
                "prompt": prompt[:MAX_TEXT],
                "answers": [[name, text[:MAX_TEXT]] for name, text in answers.items()],
            }
        self._notify("sample", "")

    def add_point(self, candidate: str, seconds: float, value: float, unit: str) -> None:
        """Add a point to a candidate's training curve; values that aren't finite are left out.

        Args:
            candidate: name of the candidate.
            seconds: training time so far.
            value: the measured value, such as a loss.
            unit: its unit; each unit has a curve of its own.
        """
        if not (math.isfinite(seconds) and math.isfinite(value)):
            return
        with self._changed:
            points = self._part.curves.setdefault((candidate, unit), [])
            points.append((seconds, value))
            if len(points) > MAX_POINTS:
                del points[1:-1:2]
        self._notify("point", candidate)

    def show_report(self, path: Path) -> None:
        """Set the report, which is rewritten as evidence arrives."""
        with self._changed:
            self._part.report = path
        self._notify("report", str(path))

    def show_folder(self, path: Path) -> None:
        """Set the folder of the study, where displays keep their log."""
        with self._changed:
            self._folder = path
        self._notify("folder", str(path))

    def end(self, error: str = "") -> None:
        """End the run: stages that still wait aren't expected any more.

        Args:
            error: why the run failed, if it did.
        """
        with self._changed:
            if self._ended is not None:
                return
            for stage in self._stages:
                if stage.state == "running":
                    stage.spent_s, stage.state = stage.spent(self._now()), "done" if not error else "skipped"
                    stage.note = stage.note or ("stopped" if error else "")
                elif stage.state == "waiting":
                    stage.state = "skipped"
            self._ended = error
        self._notify("end", error)

    # What displays ask for.

    def request_stop(self) -> None:
        """Ask the study to stop after its current step, and to end with the verdict so far."""
        with self._changed:
            self._stop = True
        self._notify("stop", "")

    def tick(self) -> None:
        """Notice a gap in which the machine was asleep; displays call this about once a second."""
        with self._changed:
            now, used = self._clock(), self._processor()
            if self._ticked is not None:
                gap = now - self._ticked[0]
                if gap > ASLEEP_S and used - self._ticked[1] < IDLE_CPU_S:
                    self._slept += gap
            self._ticked = (now, used)

    @property
    def stop_requested(self) -> bool:
        """Whether the study should stop after its current step."""
        return self._stop

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self._ended is not None

    @property
    def error(self) -> str:
        """Why the run failed; empty if it didn't."""
        return self._ended or ""

    @property
    def spent_s(self) -> float:
        """Time since the start in seconds, without the time in which the machine was asleep."""
        with self._changed:
            return self._now()

    @property
    def begun_s(self) -> float:
        """Time at which the current study began, or will begin; 0 for the first one."""
        with self._changed:
            return self._part.begun_s if self._part.name else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left of all stages, at most what the budget leaves; None without any estimate.

        Beyond the budget, only the stages that run are expected to go on.
        """
        with self._changed:
            return self._left()

    @property
    def stages(self) -> list[StageView]:
        """Stages of the current study in their order."""
        with self._changed:
            return self._views(self._here())

    @property
    def board(self) -> tuple[BoardRow, ...]:
        """Leader board of the current study, best first."""
        with self._changed:
            return self._part.board

    @property
    def verdict(self) -> tuple[str, str, bool] | None:
        """Summary, outcome and whether it is provisional; None before the first verdict."""
        with self._changed:
            found = self._part.verdict
            return None if found is None else (found["summary"], found["outcome"], found["provisional"])

    @property
    def reports(self) -> list[Path]:
        """Reports of all studies of this run."""
        with self._changed:
            return [part.report for part in self._parts if part.report is not None]

    @property
    def folder(self) -> Path | None:
        """Folder of the current study, as far as it is known."""
        with self._changed:
            report = self._part.report
            return self._folder or (report.parent if report else None)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a function after each change, in the thread that made it.

        Args:
            listener: called with the kind of event (begin, plan, start, finish, skip, say, advance, board, verdict,
                sample, point, report, folder, stop, end) and its text.

        Returns:
            A function that ends the subscription.
        """
        with self._changed:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._changed:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unsubscribe

    def wait(self, version: int, timeout_s: float) -> int:
        """Wait until something has changed.

        Args:
            version: version that the caller knows.
            timeout_s: seconds to wait at most.

        Returns:
            The current version.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout_s)
            return self._version

    def snapshot(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        with self._changed:
            return {
                "version": self._version,
                "spent_s": round(self._now(), 1),
                "left_s": None if (left := self._left()) is None else round(left, 1),
                "budget_s": self.budget_s,
                "stopping": self._stop,
                "ended": self._ended is not None,
                "error": self._ended or "",
                "lines": [[round(at, 1), line] for at, line in self._lines],
                "studies": [self._study(number, part) for number, part in enumerate(self._parts)],
            }

    # The rest is called with the lock held.

    @property
    def _part(self) -> _Part:
        return self._parts[-1]

    def _now(self) -> float:
        return self._clock() - self._begun - self._slept

    def _here(self) -> Iterable[Stage]:
        return (stage for stage in self._stages if stage.part == len(self._parts) - 1)

    def _stage(self, name: str) -> Stage:
        """Find a stage of the current study; one that wasn't planned is put before those that wait."""
        for stage in self._here():
            if stage.name == name:
                return stage
        place = next((i for i, stage in enumerate(self._stages) if stage.state == "waiting"), len(self._stages))
        self._stages.insert(place, Stage(name, None, len(self._parts) - 1))
        return self._stages[place]

    def _implicit(self, name: str, running: Stage | None) -> Stage:
        """Run a stage for a job outside all stages, so that a study without a plan shows what it does."""
        if running is not None and running.name != name:
            self._set(running, "done", "")
        stage = self._stage(name)
        if stage.state != "running":
            stage.state, stage.begun_s, stage.implicit, stage.job = "running", self._now(), True, ""
        return stage

    def _set(self, stage: Stage, state: State, note: str) -> None:
        stage.spent_s, stage.state, stage.note = stage.spent(self._now()), state, note

    def _close(self, name: str, state: State, note: str) -> None:
        with self._changed:
            self._set(self._stage(name), state, note)
        self._notify("finish" if state == "done" else "skip", name)

    def _left(self) -> float | None:
        if self._ended is not None:
            return 0.0
        now = self._now()
        within = None if self.budget_s is None else self.budget_s - now
        late = within is not None and within <= 0  # then only what runs is still expected
        states = ("running",) if late else ("running", "waiting")
        ahead = [stage.left(now) for stage in self._stages if stage.state in states]
        known = [left for left in ahead if left is not None]
        if not known:
            return None if within is None else max(0.0, within)
        return sum(known) if within is None or late else min(sum(known), within)

    def _views(self, stages: Iterable[Stage]) -> list[StageView]:
        now = self._now()
        within = math.inf if self.budget_s is None or self.budget_s <= now else self.budget_s - now
        views = [stage.view(now) for stage in stages]
        return [view if view.left_s is None else view._replace(left_s=min(view.left_s, within)) for view in views]

    def _study(self, number: int, part: _Part) -> dict[str, Any]:
        return {
            "name": part.name,
            "stages": [view._asdict() for view in self._views(one for one in self._stages if one.part == number)],
            "board": [_board_row(row) for row in part.board],
            "verdict": part.verdict,
            "sample": part.sample,
            "curves": [
                {"candidate": name, "unit": unit, "points": [list(point) for point in points]}
                for (name, unit), points in part.curves.items()
            ],
            "report": str(part.report) if part.report else None,
        }

    def _notify(self, kind: str, text: str) -> None:
        """Wake up waiting streams and call the listeners, without the lock."""
        with self._changed:
            self._version += 1
            self._changed.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener(kind, text)


def _board_row(row: BoardRow) -> dict[str, Any]:
    score = row.score
    plain: dict[str, Any] = {"name": row.name, "metric": row.metric, "note": row.note, "baseline": row.baseline}
    plain["title"] = measure_of(row.metric).title
    if score is None:
        return plain | {"value": None, "ci_low": None, "ci_high": None, "n": 0, "text": "not measured yet"}
    text = value_text(score) if score.value is not None else str(score.missing_reason)
    ends = {"value": score.value, "ci_low": score.ci_low, "ci_high": score.ci_high}
    return (
        plain
        | {name: end if end is None or math.isfinite(end) else None for name, end in ends.items()}
        | {
            "n": score.n,
            "text": text,
        }
    )
