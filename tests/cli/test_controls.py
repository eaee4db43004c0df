"""What is printed holds no control characters of a terminal, wherever they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.cli.controls import as_json_line, escape_controls
from sizewise.cli.failing import fail
from sizewise.cli.output import print_csv, print_line, print_notes, print_object, print_path, print_points, print_table
from sizewise.cli.terminal import TerminalReporter

NASTY = "a\x1b[2Jb\x07c\rd\x9be\u202ef\x00"


def is_clean(text: str) -> bool:
    return escape_controls(text, "\n\t") == text and "\\x1b" in text


def test_every_way_to_print_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(NASTY)
    print_path(NASTY)
    print_notes([NASTY, "one\nnote: two"])
    print_points(NASTY, [NASTY])
    print_table([NASTY], [[NASTY + "\nnext"]], NASTY)
    print_csv([NASTY], [[NASTY]], True)
    fail(NASTY, NASTY, NASTY, as_json=False)
    reporter = TerminalReporter()
    reporter.say(NASTY)
    reporter.advance(NASTY, 1, 1, NASTY)
    printed = capsys.readouterr()
    assert is_clean(printed.out)
    assert is_clean(printed.err)
    assert "note: one\\nnote: two\n" in printed.out
    assert escape_controls("שלום ж 漢字 👩‍👧 é") == "שלום ж 漢字 👩‍👧 é"


def test_json_keeps_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    print_object("kind", NASTY, None, {"x": NASTY}, as_json=True)
    fail(NASTY, "", "", as_json=True)
    for line, key in zip(capsys.readouterr().out.splitlines(), ("id", "error"), strict=True):
        assert escape_controls(line) == line
        assert NASTY in (json.loads(line)[key], json.loads(line).get("error", {}).get("what"))
    assert json.loads(as_json_line({"a": NASTY})) == {"a": NASTY}


def test_ids_of_a_file_do_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sizewise.cli.main import main

    rows = [{"id": f"{i}{NASTY}", "prompt": f"What is {i}?", "reference": f"It is {i}", NASTY: 1} for i in range(30)]
    path = tmp_path / "rows\x1b[2J.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["sizewise", "read", str(path), "--name", NASTY])
    with pytest.raises(SystemExit, match="0"):
        main()
    printed = capsys.readouterr()
    assert escape_controls(printed.out + printed.err, "\n\t") == printed.out + printed.err
    assert "\\x1b" in printed.out
