"""The few errors that a user may meet. Each says what happened, what was expected and what to do next."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


# Modules whose names do not begin the name of the package that an extra lists: itself, or what it brings along.
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
    """Return the extras that list each optional package, as the installed package itself says."""
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
    """Return the error that names the extra to install; None if the module belongs to none."""
    module = (error.name or "").split(".")[0]
    wanted, known = _canonical(PACKAGE_OF.get(module, module)), extras()
    package = next((name for name in known if name == wanted), None) or next(
        (name for name in known if wanted and name.startswith(f"{wanted}-")), None
    )
    return MissingExtraError(package, known[package][0]) if package else None


@contextmanager
def naming_extras() -> Iterator[None]:
    """Let imports of optional packages that are absent name the extra to install.

    Raises:
        MissingExtraError: one is absent.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        raise missing from error


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


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
