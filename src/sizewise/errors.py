"""Errors shown to users: what happened, what was expected, and the next step."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class SizewiseError(Exception):
    """An expected failure, shown without a traceback; exit code 1.

    Args:
        what: What happened, including the offending value.
        expected: What was expected instead.
        next_step: The next command or action.
    """

    exit_code = 1

    def __init__(self, what: str, expected: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = shown_path(what)
        self.expected = shown_path(expected)
        self.next_step = shown_path(next_step)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)  # whatever the arguments of the class are

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected:
            parts.append(f"Expected: {self.expected}")
        if self.next_step:
            parts.append(f"Next: {self.next_step}")
        return "\n".join(parts)


def _again(kind: type[SizewiseError], args: tuple[Any, ...], attributes: dict[str, Any]) -> SizewiseError:
    """Make an error of another process again."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


def shown_path(path: object) -> str:
    """Return a path or name as text that can be written; bytes that aren't UTF-8 become escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def expected_of(message: str) -> str:
    """Return what a message of pydantic asks for: `Input should be greater than 0` -> `greater than 0`."""
    return message.removeprefix("Value error, ").removeprefix("Input should be ")


class WorkerStopped(SizewiseError):
    """Another process of the same training failed. It has reported why, so this one ends without a word."""

    exit_code = 0


class WorkerLost(WorkerStopped):
    """Another process of the same training is gone, so this one can't go on."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: the launcher starts all processes again


class EngineError(SizewiseError):
    """The inference engine failed; the request itself was valid."""


class EngineStopped(EngineError):
    """The engine was killed, crashed or ran out of memory or disk space: another try may succeed."""


class ScoringError(SizewiseError):
    """One text couldn't be scored by log-likelihood; others may be.

    Args:
        reason: Why.
        transient: Whether a retry may succeed.
    """

    def __init__(self, reason: str, *, transient: bool) -> None:
        super().__init__(
            reason,
            "a server that echoes log-likelihoods, and texts that fit its context",
            "run sizewise read with shorter documents, or use metrics without likelihoods (--metrics bleu)",
        )
        self.transient = transient


class UsageError(SizewiseError):
    """Invalid usage of a command or its input file; exit code 2."""

    exit_code = 2


class MissingExtraError(SizewiseError):
    """An optional dependency is missing; the error includes the install command."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"The package '{package}' is not installed.",
            f"the extra [{extra}]",
            install_command(extra),
        )


# Module -> package listed by an extra, where the package name doesn't start with the module name (or where the module
# belongs to a dependency of that package).
PACKAGE_OF = {
    "sklearn": "scikit-learn",
    "starlette": "fastapi",
    "openvino": "openvino-genai",
    "openvino_tokenizers": "openvino-genai",
    "phonenumbers": "presidio-analyzer",
    "huggingface_hub": "transformers",
    "openai": "pydantic-ai-slim",
    "anthropic": "pydantic-ai-slim",
}


def extras() -> dict[str, list[str]]:
    """Map each optional package to the extras that list it, according to the installed metadata."""
    try:
        lines = metadata.requires("sizewise") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        name = re.match(r"[\w.\-]+", line)
        extra = re.search(r"""extra\s*==\s*["']([\w\-]+)["']""", line)
        if name and extra:
            found.setdefault(_canonical(name[0]), []).append(extra[1])
    return found


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """Convert an import error to one that names the extra to install; None if the module isn't part of any extra."""
    module = (error.name or "").split(".")[0]
    wanted, known = _canonical(PACKAGE_OF.get(module, module)), extras()
    package = next((name for name in known if name == wanted), None) or next(
        (name for name in known if wanted and name.startswith(f"{wanted}-")), None
    )
    return MissingExtraError(package, known[package][0]) if package else None


@contextmanager
def naming_extras() -> Iterator[None]:
    """Turn failed imports of optional packages into errors that name the extra to install.

    Raises:
        MissingExtraError: An optional package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        absent = missing_extra(error)
        if absent is None:
            raise
        raise absent from error


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def install_command(extra: str) -> str:
    """Build the command that installs an extra, from the same local folder if Sizewise was installed from one."""
    try:
        direct_url = json.loads(metadata.distribution("sizewise").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        direct_url = {}
    folder = urlsplit(direct_url.get("url", ""))
    if folder.scheme != "file":
        return f"pip install 'sizewise[{extra}]'"
    constraints = Path(unquote(folder.path)) / "constraints.txt"
    pinned = f"-c {shlex.quote(str(constraints))} " if constraints.is_file() else ""
    editable = "-e " if direct_url.get("dir_info", {}).get("editable") else ""
    return f"{shlex.quote(sys.executable)} -m pip install {pinned}{editable}'{unquote(folder.path)}[{extra}]'"
