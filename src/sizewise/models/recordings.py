"""Recorded answers that ship with the package: those of a larger model on the test items of the demos.

`scripts/record_large.py` made them. Beside each file, a JSON file of the same name tells who answered, how and when.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sizewise.errors import UsageError

DEMO, SUFFIX = "demo:", ".jsonl.gz"


def _folder() -> Path:
    return Path(str(resources.files("sizewise.models") / "recorded_answers"))


def recording_name(path: Path) -> str:
    """Return the name behind `recorded:` of a file: `demo:NAME` for one that ships with the package."""
    return f"{DEMO}{path.name.removesuffix(SUFFIX)}" if path.parent == _folder() else str(path)


def recording_path(name: str) -> Path:
    """Return the file behind `recorded:NAME`: a path as it is, or the recording of a demo (`demo:NAME`).

    Raises:
        UsageError: No recording of this demo ships with the package.
    """
    if not name.startswith(DEMO):
        return Path(name).expanduser()
    path = _folder() / f"{name.removeprefix(DEMO)}{SUFFIX}"
    if not path.is_file():
        known = sorted(found.name.removesuffix(SUFFIX) for found in _folder().glob(f"*{SUFFIX}"))
        raise UsageError(
            f"There are no recorded answers to '{name}'.",
            " or ".join(f"recorded:{DEMO}{one}" for one in known) or "recorded:FILE",
            "sizewise models",
        )
    return path
