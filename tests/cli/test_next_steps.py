"""Errors name a next step that exists: commands, their options, and what the operating system refused."""

from __future__ import annotations

import ast
import errno
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import sizewise
from sizewise.cli.failing import system_failure
from tests.cli.test_cli import call
from tests.cli.test_help import COMMANDS

ROOT = Path(sizewise.__file__).parent
ERRORS = {"SizewiseError", "UsageError", "EngineError"}


@cache
def errors() -> list[tuple[str, ast.Call]]:
    """Find where errors are made: file and line, and the call."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "Error(" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                found.append((f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", node))
    return found


def texts(node: ast.AST) -> Iterator[str]:
    """Yield the texts of an expression; what is put into them is an X."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    elif isinstance(node, ast.Constant):
        yield from [node.value] if isinstance(node.value, str) else ()
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def test_every_command_of_an_error_exists_with_its_options() -> None:
    wrong, seen = [], 0
    for place, error in errors():
        for text in (one for argument in error.args for one in texts(argument)):
            for first, second, rest in re.findall(r"\bsizewise ([a-z]+)\b(?: ([a-z]+)\b)?([^;,]*)", text):
                path = (first, second) if (first, second) in COMMANDS else (first,)
                seen += 1
                if path not in COMMANDS:
                    wrong.append(f"{place}: sizewise {first}")
                    continue
                options = {name for parameter in COMMANDS[path].params for name in parameter.opts} | {"--help"}
                wrong += [
                    f"{place}: sizewise {' '.join(path)} {option}"
                    for option in re.findall(r"--[a-z][a-z-]+", rest)
                    if option not in options
                ]
    assert not wrong
    assert seen > 200


def test_errors_of_the_command_line_name_a_next_step() -> None:
    bare = [
        place
        for place, error in errors()
        if place.startswith("cli/") and (len(error.args) < 3 or "" in list(texts(error.args[2])))
    ]
    assert not bare


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "answers.csv"), ("'answers.csv'", "correct the path")),
        (PermissionError(errno.EACCES, "Permission denied", b"kept.toml"), ("kept.toml", "permissions")),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ("Connection refused", "HTTPS_PROXY")),
        (TimeoutError(), ("TimeoutError", "reach")),
        (OSError(errno.ENOSPC, "No space left on device"), ("No space left", "free some space")),
    ],
)
def test_what_the_system_refused_is_told_by_its_kind(error: OSError, words: tuple[str, ...], tmp_path: Path) -> None:
    told = " ".join(system_failure(error, tmp_path))
    assert all(word in told for word in words)
    assert ("free some space" in told) is (error.errno == errno.ENOSPC)


def test_a_setting_that_is_refused_has_the_name_of_its_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("train", "scratch", "--data", "data-0000000000", "--tokens", "1000")
    code, _, err = call(capsys, monkeypatch, *run, "--document-share", "3")
    assert code == 2
    assert "--document-share 3.0 isn't possible" in err
    assert "expected: less than or equal to 1" in err
    code, _, err = call(capsys, monkeypatch, *run, "--method", "lora")
    assert code == 2
    assert "a network from scratch is trained in full" in err
    code, _, err = call(capsys, monkeypatch, "train", "tfidf", "--data", "data-0000000000", "--method", "linear",
                        "--minutes", "-1")  # fmt: skip
    assert code == 2
    assert "--minutes -1.0 isn't possible" in err
