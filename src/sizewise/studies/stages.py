"""Stages of a running study with the time spent and the estimated time left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

OVERRUN = 0.1
"""Share of its time that a stage beyond its estimate is expected to take further."""

RESUMED = 0.2
"""First share of a job above which it is taken for resumed work."""

State = Literal["waiting", "running", "done", "skipped"]


class StageView(NamedTuple):
    """One stage as a display shows it."""

    name: str
    """Name of the stage."""
    state: State
    """Whether it waits, runs, is done or was skipped."""
    spent_s: float
    """Time spent, in seconds."""
    left_s: float | None
    """Estimated time left, in seconds; None without an estimate."""
    note: str
    """Result, or why the stage was skipped."""
    job: str
    """Current job of a running stage with its detail."""
    share: float | None
    """Share of the job that is done, from 0 to 1."""


@dataclass
class Stage:
    """A stage and its times on the clock of the study."""

    name: str
    """Name of the stage."""
    expected_s: float | None
    """Planned time in seconds; None without an estimate."""
    part: int
    """Number of the study, if a run holds several."""
    state: State = "waiting"
    """Whether it waits, runs, is done or was skipped."""
    spent_s: float = 0.0
    """Time spent up to the last start, in seconds."""
    begun_s: float = 0.0
    """Time of the last start."""
    note: str = ""
    """Result, or why it was skipped."""
    job: str = ""
    """Current job."""
    job_begun_s: float = 0.0
    """When this job began."""
    job_first: float = 0.0
    """Share of the job that was done when it began; above 0 for a job that was resumed."""
    implicit: bool = False
    """Whether it began with a job that no stage announced."""
    detail: str = ""
    """Speed, loss and the like of the job."""
    done: float = 0.0
    """Finished work of the job."""
    total: float = 0.0
    """All work of the job, in the same unit."""

    def spent(self, now: float) -> float:
        """Return the time spent at a time, in seconds."""
        return self.spent_s + (now - self.begun_s if self.state == "running" else 0.0)

    def share(self) -> float | None:
        """Return how much of the job is done, from 0 to 1; None without a job, or between two of them."""
        if not self.job or self.total <= 0 or (self.done >= self.total and self.job != self.name):
            return None
        return min(1.0, max(0.0, self.done / self.total))

    def advance(self, now: float, job: str, done: float, total: float, detail: str) -> None:
        """Take over how far the current job is; a job that begins far from zero was resumed."""
        is_new = self.job != job or done < self.done
        begun_s = now if self.job else self.begun_s
        self.job, self.done, self.total, self.detail = job, done, total, detail
        if is_new:
            share = self.share() or 0.0
            self.job_first = share if share > RESUMED else 0.0
            self.job_begun_s = now if self.job_first else begun_s

    def left(self, now: float) -> float | None:
        """Estimate the time left from the plan, corrected by the speed of the current job.

        A job with the stage's own name is all of it. Any other job may be followed by more, so the plan counts as long
        as it expects more.
        """
        if self.state in ("done", "skipped"):
            return 0.0
        spent = self.spent(now)
        planned = None if self.expected_s is None else max(self.expected_s - spent, OVERRUN * spent)
        share = self.share()
        if self.state == "waiting" or share is None or share <= self.job_first:
            return planned
        job_left = (now - self.job_begun_s) * (1 - share) / (share - self.job_first)
        if self.expected_s is None or self.job == self.name:
            return job_left
        return max(job_left, self.expected_s - spent, OVERRUN * spent if share >= 1 else 0.0)

    def view(self, now: float) -> StageView:
        """Return what a display shows at a time."""
        share = self.share() if self.state == "running" else None
        return StageView(
            self.name,
            self.state,
            self.spent(now),
            self.left(now),
            self.note,
            " ".join(part for part in (self.job, self.detail) if part) if share is not None else "",
            share,
        )
