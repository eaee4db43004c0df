"""Names of commands and options from before version 2 of the command line, and the names they have now."""

from __future__ import annotations

COMMANDS = {"load": "loadtest", "probe": "redteam", "draft": "synthesize"}
"""Old command -> new command."""

OPTIONS = {
    "compare": {"--load": "--loadtest"},
    "evaluate": {"--again": "--reproduce"},
    "export": {"--agreement": "--min-agreement", "--bits": "--max-bits-increase"},
    "judge open": {
        "--bar": "--min-agreement",
        "--votes-an-item": "--votes-per-item",
        "--as-is": "--keep-formatting",
    },
    "judge plan": {"--votes-an-item": "--votes-per-item", "--seconds": "--seconds-per-vote"},
    "loadtest": {"--users": "--concurrency", "--first-token": "--ttft-slo", "--token": "--tpot-slo"},
    "redteam": {"--beside": "--compare-with"},
    "route calibrate": {"--longest": "--max-characters"},
    "serve": {"--sure": "--min-confidence"},
    "synthesize": {"--most": "--limit"},
}
"""Command -> its old option -> the new option."""


def renamed_command(name: str) -> str | None:
    """Return the new name of a renamed command; None if it was not renamed."""
    return COMMANDS.get(name)


def renamed_option(command_path: str, option: str) -> str | None:
    """Return the new name of a renamed option; None if it was not renamed.

    Args:
        command_path: the command as typed, such as `sizewise judge open`.
        option: the option as typed, such as `--users` or `--users=8`.
    """
    _, _, command = command_path.partition("sizewise ")
    return OPTIONS.get(command, {}).get(option.partition("=")[0])
