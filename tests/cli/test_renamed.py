"""Names from before version 2 end with an error that names the new one."""

from __future__ import annotations

import json

import pytest

from sizewise.cli.renamed import COMMANDS, OPTIONS
from tests.cli.test_cli import call
from tests.cli.test_help import COMMANDS as EXISTING

RENAMED = [(command, old, new) for command, options in OPTIONS.items() for old, new in options.items()]


@pytest.mark.parametrize(("old", "new"), COMMANDS.items())
@pytest.mark.parametrize("more", [(), ("--help",), ("http://127.0.0.1:9", "--users", "1,8")])
def test_an_old_command_names_the_new_one(
    old: str, new: str, more: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = call(capsys, monkeypatch, old, *more)
    assert (code, out) == (2, "")
    assert f"`sizewise {old}` is now `sizewise {new}`" in err
    code, out, err = call(capsys, monkeypatch, old, *more, "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["error"]["what"] == f"`sizewise {old}` is now `sizewise {new}`."


@pytest.mark.parametrize(("command", "old", "new"), RENAMED)
def test_an_old_option_names_the_new_one(
    command: str, old: str, new: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for written in ((old, "8"), (f"{old}=8",)):
        code, out, err = call(capsys, monkeypatch, *command.split(), *written)
        assert (code, out) == (2, "")
        assert f"`{old}` of `sizewise {command}` is now `{new}`" in err
        code, out, err = call(capsys, monkeypatch, *command.split(), *written, "--json")
        assert (code, err) == (2, "")
        assert new in json.loads(out)["error"]["what"]


@pytest.mark.parametrize(("command", "old", "new"), RENAMED)
def test_the_new_option_exists_and_the_old_one_does_not(command: str, old: str, new: str) -> None:
    options = {name for parameter in EXISTING[tuple(command.split())].params for name in parameter.opts}
    assert new in options
    assert old not in options


def test_the_new_commands_exist_and_the_old_ones_do_not() -> None:
    names = {path[0] for path in EXISTING}
    assert set(COMMANDS.values()) <= names
    assert not set(COMMANDS) & names
