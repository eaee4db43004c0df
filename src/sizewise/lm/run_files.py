"""Files of a running training beside its checkpoints: the curve of all steps, and changes asked for while it runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.store import make_folder, open_private, read_lines, write_atomically

CURVE_FILE = "curve.jsonl"
APPLIED_FILE, REQUESTS = "changes.jsonl", "changes"


class CurveFile:
    """The training curve on disk, one line per step. A checkpoint needs only its number of steps.

    Args:
        path: the file.
        writes: whether this process writes it; of several processes that train together, only the first one does.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self._path, self._writes = path, writes
        self._written = 0

    def append(self, points: Sequence[dict[str, Any]]) -> None:
        """Write the points that aren't in the file yet.

        Args:
            points: all points so far, from the first step.
        """
        if not self._writes:
            return
        make_folder(self._path.parent)
        with open(self._path, "a", encoding="utf-8", opener=open_private) as file:
            file.writelines(json.dumps(point) + "\n" for point in points[self._written :])
            file.flush()
            os.fsync(file.fileno())
        self._written = len(points)

    def read(self, step: int) -> list[dict[str, Any]]:
        """Return the points up to a step, and drop the later ones from the file: they are computed again."""
        self._written, kept = 0, list[dict[str, Any]]()
        if not self._path.is_file():
            return kept
        with self._path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    point = json.loads(line)
                except ValueError:
                    break  # the process was killed in the middle of a line
                if point["step"] > step:
                    break
                kept.append(point)
        if self._writes:
            write_atomically(self._path, "".join(json.dumps(point) + "\n" for point in kept))
        self._written = len(kept)
        return kept


class Applied(NamedTuple):
    """A change and the step before which it took effect."""

    step: int
    tokens: int
    setting: str
    value: float


def request_change(folder: Path, settings: dict[str, float]) -> None:
    """Ask a running training to change settings before its next step.

    Args:
        folder: folder of the run.
        settings: `learning_rate`, `tokens` or `stop`, and the new value.
    """
    make_folder(folder / REQUESTS)
    write_atomically(folder / REQUESTS / f"{time.time_ns():020d}.json", json.dumps(settings))


class Changes:
    """Changes of a run, each applied before a certain step and, when the run resumes, before the same step again.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        lines = read_lines(folder / APPLIED_FILE) if (folder / APPLIED_FILE).is_file() else ()
        self.applied = [Applied(**json.loads(line)) for line in lines if line.endswith("}")]

    def before(self, step: int, tokens: int) -> list[Applied]:
        """Return the changes to apply after `step` steps, newly requested ones included."""
        requests = sorted((self._folder / REQUESTS).glob("*.json"))
        if requests:
            self.applied += [
                Applied(step, tokens, name, float(value))
                for path in requests
                for name, value in json.loads(path.read_text(encoding="utf-8")).items()
            ]
            # on disk before the step is taken, so that a resumed run repeats it
            write_atomically(
                self._folder / APPLIED_FILE, "".join(json.dumps(one._asdict()) + "\n" for one in self.applied)
            )
            for path in requests:
                path.unlink()
        return [one for one in self.applied if one.step == step]

    def up_to(self, step: int) -> list[Applied]:
        """Return the changes that were applied before `step` steps were done."""
        return [one for one in self.applied if one.step < step]
