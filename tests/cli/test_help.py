"""Help starts with an example, groups options by purpose and fits 80 columns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from sizewise.cli.main import app
from tests.cli.test_cli import call


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command and group with its path."""
    group = group or get_command(app)
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_starts_with_an_example_and_fits_80_columns(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = call(capsys, monkeypatch, *path, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Example: sizewise {' '.join(path)}")
    assert f"Usage: sizewise {' '.join(path)} [OPTIONS]" in out
    assert max(map(len, out.splitlines())) <= 80
    for jargon in ("<", " range [", "[x>=", "TEXT", "INTEGER"):
        assert jargon not in out, jargon
    for parameter in COMMANDS[path].params:
        words = (parameter.help or "").split()
        assert words, parameter.name
        for word in words:  # none is broken over two lines
            assert word in out, (parameter.name, word)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_value_is_named_and_every_option_is_grouped(path: tuple[str, ...]) -> None:
    for parameter in COMMANDS[path].params:
        if parameter.param_type_name == "argument":
            assert parameter.metavar, parameter.name
            continue
        assert parameter.is_flag or parameter.metavar, parameter.name
        assert not parameter.secondary_opts, parameter.name
        assert parameter.rich_help_panel, parameter.name


def test_a_flag_shows_no_type(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = call(capsys, monkeypatch, "study", "--help")[1]
    assert re.search(r"^  --dry-run {2,}Only", out, re.MULTILINE)
    assert "--minutes MINUTES" in out
    for panel in ("Arguments", "Limits", "Cost", "Output"):
        assert f"\n{panel}\n" in out


def test_a_long_option_name_has_a_line_of_its_own() -> None:
    from sizewise.cli.help import NAME_COLUMN, _page

    name = "--" + "x" * NAME_COLUMN
    assert _page(["Example"], {"Data": [(name, "What it does."), ("--y", "Why.")]}).splitlines()[2:] == [
        "Data",
        f"  {name}",
        "       What it does.",
        "  --y  Why.",
    ]


def test_help_starts_quickly_and_loads_no_heavy_package() -> None:
    code = (
        "import sys; sys.argv = ['sizewise', '--help']\n"
        "from sizewise.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'scipy', 'pydantic', 'rich', 'fastapi'} & set(sys.modules)))"
    )
    before = os.times().children_user + os.times().children_system
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    used = os.times().children_user + os.times().children_system - before
    assert done.stdout.splitlines()[-1] == "[]"
    assert used < 0.8  # about 0.3 s of processor time on an idle machine


@pytest.mark.parametrize(("typed", "offered"), [("sizewise lo", "loadtest"), ("sizewise study --dr", "--dry-run")])
def test_a_shell_is_offered_completions(typed: str, offered: str) -> None:
    environment = {
        "_SIZEWISE_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from sizewise.cli import main; main()"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (offered, "")
