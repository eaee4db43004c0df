"""The time of a study: how much is left, and steps that end when theirs is up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from sizewise.errors import SizewiseError
from sizewise.studies.progress import StudyProgress

INSTANT_S = 2.0
"""Time that a step may always take, so that reading back a finished record never fails."""
CLOSING_S = 12.0
"""Time kept back for the last comparison, the report and its plots."""
CLOSING_SHARE = 0.2
"""Largest share of a short budget that is kept back for them."""
GRID = (0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120)
"""Training times in minutes. A grid, so that a study that runs again finds what it trained before."""
WORTHWHILE = 1.8
"""A candidate that was trained before is trained again if it may train this many times as long."""


class StepEndedError(SizewiseError):
    """A step has used up its time, or the user has stopped the study."""


class Budget:
    """The time of one study.

    Args:
        minutes: time for everything; None for as long as it takes.
        progress: its clock stands still while the machine sleeps.
    """

    def __init__(self, minutes: float | None, progress: StudyProgress) -> None:
        self.minutes = minutes
        self._progress, self._begun_s = progress, progress.begun_s
        self.closing_s = CLOSING_S if minutes is None else min(CLOSING_S, CLOSING_SHARE * 60 * minutes)
        """Time kept back for the last comparison and the report."""

    @property
    def spent_s(self) -> float:
        """Time since the study began."""
        return self._progress.spent_s - self._begun_s

    @property
    def left_s(self) -> float:
        """Time left for steps; infinite without a budget, 0 if the user has stopped the study."""
        if self._progress.stop_requested:
            return 0.0
        if self.minutes is None:
            return math.inf
        return max(0.0, 60 * self.minutes - self.closing_s - self.spent_s)

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return self.minutes is not None

    @property
    def is_over(self) -> bool:
        """Whether no further step should start."""
        return self.left_s <= 0


class StepProgress(Protocol):
    """What a step needs of the progress of a study."""

    @property
    def stop_requested(self) -> bool:
        """Whether the study should stop after its current step."""
        ...

    @property
    def spent_s(self) -> float:
        """Time since the start, in seconds."""
        ...

    def say(self, line: str) -> None:
        """Report a line."""
        ...

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Update a job."""
        ...


class StepReporter:
    """Passes progress on, and ends the step at a safe point once its time is up.

    Steps report after they have kept a piece of work, so that nothing is lost.

    Args:
        progress: progress of the study.
        seconds: time of the step.
    """

    def __init__(self, progress: StepProgress, seconds: float) -> None:
        self._progress = progress
        self._deadline_s = progress.spent_s + max(INSTANT_S, seconds)

    @property
    def is_over(self) -> bool:
        """Whether the step should end."""
        return self._progress.stop_requested or self._progress.spent_s > self._deadline_s

    @property
    def left_s(self) -> float:
        """Time that the step has left."""
        return 0.0 if self._progress.stop_requested else self._deadline_s - self._progress.spent_s

    def say(self, line: str) -> None:
        """Pass a line on."""
        self._progress.say(line)

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Pass progress on.

        Raises:
            StepEndedError: the time is up, and the job isn't done.
        """
        self.pass_on(what, done, total, detail)
        if done < total and self.is_over:
            raise StepEndedError(f"{what} {self._why()} at {done / max(total, 1e-9):.0%}.", "more time", "")

    def check(self) -> None:
        """Look at the clock between two reports.

        Raises:
            StepEndedError: the time is up.
        """
        if self.is_over:
            raise StepEndedError(f"it {self._why()}.", "more time", "")

    def _why(self) -> str:
        return "was stopped" if self._progress.stop_requested else "ran out of time"

    def pass_on(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Pass progress on without ending the step."""
        self._progress.advance(what, done, total, detail)


def training_minutes(seconds: float, shares: Sequence[float], before: Sequence[float | None]) -> list[float | None]:
    """Divide training time among candidates, on the grid.

    Those whose part would be below the shortest training lose it to the others, the smallest share first.

    Args:
        seconds: time for all.
        shares: wanted time of each candidate, in any unit.
        before: minutes of each candidate's training in an earlier run of the study; None without one.

    Returns:
        Minutes of each candidate, None for those that get no training.
    """
    found: list[float | None] = [None] * len(shares)
    kept = sorted(range(len(shares)), key=lambda i: -shares[i])
    while kept:
        total = sum(shares[i] for i in kept)
        parts = {i: seconds / 60 * shares[i] / total for i in kept}
        if parts[kept[-1]] >= GRID[0]:
            for i, part in parts.items():
                found[i] = max(minutes for minutes in GRID if minutes <= part)
            break
        kept.pop()
    for i, earlier in enumerate(before):
        if earlier is not None and (found[i] or 0.0) < WORTHWHILE * earlier:
            found[i] = earlier
    return found
