"""The few errors that a user may meet. Each says what happened, what was expected and what to do next."""

from __future__ import annotations


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


class UsageError(SizewiseError):
    """The command or its file was used wrongly: exit code 2."""

    exit_code = 2


class MissingExtraError(SizewiseError):
    """An optional part is not installed; the error names the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"The package '{package}' is not installed.",
            f"the extra [{extra}]",
            f"pip install 'sizewise[{extra}]'",
        )
