"""What a study planned when it last ran, kept in its folder, so that running it again finds the same trainings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sizewise.store import write_atomically
from sizewise.studies.config import StudyConfig

PLAN_FILE = "plan.json"


class StudyPlan:
    """Training minutes by candidate.

    Args:
        folder: folder of the study.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / PLAN_FILE
        self.minutes: dict[str, float] = {}
        """Candidate -> minutes of its training when the study last ran."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            self.minutes = {str(name): float(minutes) for name, minutes in found["minutes"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # a plan only saves time

    def remember(self, minutes: Mapping[str, float]) -> None:
        """Keep the training minutes for the next run."""
        self.minutes |= minutes
        write_atomically(self._path, json.dumps({"minutes": self.minutes}, indent=1, ensure_ascii=False) + "\n")


def usual_minutes(config: StudyConfig) -> float:
    """Guess the minutes of a study without a budget: its trainings, and two for every candidate."""
    trainings = sum((one.train.minutes or 0.0) if one.train else 0.0 for one in config.candidates)
    return trainings + 2.0 * len(config.candidates)
