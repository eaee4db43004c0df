"""The few errors that a user may meet. Each says what happened, what was expected and what to do next."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit


class SizewiseError(Exception):
    """An expected failure: shown without a traceback, exit code 1.

    Args:
        what: what happened, with the value that caused it.
        expected: what was expected instead.
        next_step: the next command or action.
    """

    exit_code = 1

    def __init__(self, what: str, expected: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected:
            parts.append(f"Expected: {self.expected}")
        if self.next_step:
            parts.append(f"Next: {self.next_step}")
        return "\n".join(parts)


class EngineError(SizewiseError):
    """What runs a model failed: not the request's fault."""


class UsageError(SizewiseError):
    """The command or its file was used wrongly: exit code 2."""

    exit_code = 2


class MissingExtraError(SizewiseError):
    """An optional part is not installed; the error names the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"The package '{package}' is not installed.",
            f"the extra [{extra}]",
            install_command(extra),
        )


def install_command(extra: str) -> str:
    """Give the command that installs an optional part: from the folder that this package was installed from, if any."""
    try:
        told = json.loads(metadata.distribution("sizewise").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        told = {}
    folder = urlsplit(told.get("url", ""))
    if folder.scheme != "file":
        return f"pip install 'sizewise[{extra}]'"
    constraints = Path(unquote(folder.path)) / "constraints.txt"
    pinned = f"-c {shlex.quote(str(constraints))} " if constraints.is_file() else ""
    edited = "-e " if told.get("dir_info", {}).get("editable") else ""
    return f"{shlex.quote(sys.executable)} -m pip install {pinned}{edited}'{unquote(folder.path)}[{extra}]'"
