"""A missing package ends with the command that installs it, never with a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import sizewise
from sizewise.cli.main import app, main
from sizewise.errors import MissingExtraError, extras, missing_extra
from tests.cli.test_cli import call

HIDING = """
    import io, json, sys
    from contextlib import redirect_stderr, redirect_stdout
    from importlib.machinery import PathFinder

    hidden, calls = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    find_spec = PathFinder.find_spec
    PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] in hidden else find_spec(name, *rest)
    from sizewise.cli.main import main

    ends = []
    for arguments in calls:
        sys.argv = ["sizewise", *arguments]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = stop.code
            except BaseException as error:
                code = repr(error)
        ends.append([code, out.getvalue(), err.getvalue()])
    print(json.dumps(ends))
"""


def modules_of(packages: set[str]) -> set[str]:
    """Return the modules that packages provide."""
    canonical = {re.sub(r"[-_.]+", "-", name).lower() for name in packages}
    return {
        module
        for module, names in metadata.packages_distributions().items()
        if canonical & {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    }


def run_without(hidden: set[str], calls: list[list[str]], home: Path) -> list[tuple[Any, str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HIDING), json.dumps(sorted(hidden)), json.dumps(calls)],
        # The clients are hidden, so the key reaches no server, and the addresses have no listener.
        env=os.environ | {"SIZEWISE_HOME": str(home), "SIZEWISE_OFFLINE": "0", "OPENAI_API_KEY": "none"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout.splitlines()[-1])]


def examples(folder: Path) -> list[list[str]]:
    """Return one call of every command."""
    (folder / "texts").mkdir(exist_ok=True)
    for number in range(6):
        words = " ".join(f"word{number}{place}" for place in range(80))
        (folder / "texts" / f"{number}.txt").write_text(words, encoding="utf-8")
    rows = [{"id": f"q{n}", "prompt": f"What is {n}?", "references": [f"It is {n} and more."]} for n in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "votes.csv").write_text("left,right,winner\na,b,left\nb,a,right\na,b,tie\n", encoding="utf-8")
    (folder / "labels.csv").write_text("rater,item,label\na,1,x\nb,1,x\na,2,y\nb,2,x\n", encoding="utf-8")
    texts, rows_file, votes = str(folder / "texts"), str(folder / "rows.jsonl"), str(folder / "votes.csv")
    return [
        ["study", texts],
        ["study", "--dry-run", texts],
        ["init", "--domain", "medical"],
        ["read", texts],
        ["synthesize", texts, "--by", "openai:x", "--out", str(folder / "drafts.jsonl")],
        ["train", "scratch", "--data", texts, "--tokens", "1000"],
        ["adjust", "run-1", "--stop"],
        ["evaluate", "fake:echo", "--data", rows_file, "--metrics", "bleu"],
        ["evaluate", "openai:gpt-4o", "--data", rows_file, "--metrics", "exact_match"],
        ["evaluate", texts, "--data", rows_file, "--metrics", "bits_per_byte"],
        ["compare", "eval-1", "eval-2"],
        ["decisions", "eval-1"],
        ["choose", "study-1", "--needs", rows_file],
        ["judge", "open", "study-1"],
        ["judge", "converse", "fake:echo", "--no-serve"],
        ["judge", "rank", votes],
        ["judge", "agreement", str(folder / "labels.csv")],
        ["judge", "plan"],
        ["export", texts, "--to", "hf", "--out", str(folder / "out")],
        ["label", str(folder / "texts.csv"), "--by", "fake:echo", "--options", "a|b"],
        ["models"],
        ["models", "openai:gpt-4o"],
        ["serve", "fake:echo"],
        ["serve", "--study", "study-1"],
        ["index", texts],
        ["keys", "list", "--keys", str(folder / "keys.toml")],
        ["chat", "fake:echo"],
        ["loadtest", "http://127.0.0.1:9", "--concurrency", "1"],
        ["route", "calibrate", votes],
        ["redteam", "fake:echo"],
        ["runs"],
        ["push"],
        ["pull", "study-1"],
        ["audit", "study-1"],
        ["watch", "fake:echo", "--data", texts],
        ["deploy", "study-1", "--to", "compose", "--out", str(folder / "deployed")],
        ["doctor"],
        ["bundle", "--models", "pkg:absent", "--out", str(folder / "bundle")],
    ]


def test_every_command_without_any_optional_package_ends_in_words(tmp_path: Path) -> None:
    calls = examples(tmp_path)
    assert {arguments[0] for arguments in calls} == set(get_command(app).commands)  # type: ignore[attr-defined]
    ends = run_without(modules_of(set(extras())) | {"starlette", "openvino"}, calls, tmp_path / "home")
    for arguments, (code, out, err) in zip(calls, ends, strict=True):
        assert code in (0, 1, 2), (arguments, code, out, err)
        assert "Traceback" not in err, (arguments, err)
        assert "ModuleNotFoundError" not in out + err, (arguments, err)
    said = {" ".join(arguments[:2]): err for arguments, (_, _, err) in zip(calls, ends, strict=True)}
    assert "the extra [serve]" in said["serve fake:echo"]
    assert "the extra [serve]" in said["serve --study"]
    assert "the extra [study]" in said["evaluate fake:echo"]
    assert "the extra [remote]" in said["evaluate openai:gpt-4o"]
    assert "pip install" in said["loadtest http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("extra", "hidden", "arguments"),
    [
        ("serve", {"fastapi"}, ["serve", "fake:echo"]),
        ("serve", {"starlette"}, ["serve", "fake:echo"]),
        ("serve", {"fastapi"}, ["serve", "--study", "study-1"]),
        ("guard", {"presidio_analyzer"}, ["serve", "http://127.0.0.2:9/v1#x"]),
        ("study", {"torch"}, ["train", "scratch", "--data", "{texts}", "--tokens", "1000"]),
    ],
)
def test_an_extra_that_is_absent_alone_is_named(
    extra: str, hidden: set[str], arguments: list[str], tmp_path: Path
) -> None:
    examples(tmp_path)
    arguments = [part.format(texts=tmp_path / "texts") for part in arguments]
    ((code, out, err),) = run_without(hidden, [[*arguments]], tmp_path / "home")
    assert code == 1, err
    assert f"the extra [{extra}]" in err
    assert "pip install" in err
    assert not out


def test_the_error_of_an_absent_package_is_an_object_with_json(tmp_path: Path) -> None:
    calls = [
        ["train", "scratch", "--data", str(tmp_path), "--tokens", "9", "--json"],
        ["evaluate", "openai:gpt-4o", "--data", str(tmp_path / "rows.jsonl"), "--metrics", "exact_match", "--json"],
    ]
    examples(tmp_path)
    for code, out, _ in run_without(modules_of(set(extras())), calls, tmp_path / "home"):
        assert code == 1
        assert set(json.loads(out)["error"]) == {"what", "expected", "next"}


def test_every_extra_that_an_error_names_lists_its_package() -> None:
    known = extras()
    for path in Path(sizewise.__path__[0]).rglob("*.py"):
        for package, extra in re.findall(r'MissingExtraError\("([^"]+)", "([^"]+)"\)', path.read_text("utf-8")):
            names = {name for name in known if name == package.lower() or name.startswith(f"{package.lower()}-")}
            assert any(extra in known[name] for name in names), (path, package, extra)


def test_a_module_of_no_extra_is_no_missing_extra() -> None:
    assert missing_extra(ModuleNotFoundError(name="sizewise.nosuch")) is None
    assert missing_extra(ModuleNotFoundError(name="numpy")) is None
    assert isinstance(missing_extra(ModuleNotFoundError(name="vl_convert.x")), MissingExtraError)


@pytest.mark.parametrize("as_json", [True, False])
def test_an_unexpected_error_is_one_object_or_a_few_words(
    as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("lost\nand more")

    monkeypatch.setattr("sizewise.store.Store.listing", fail)
    code, out, err = call(capsys, monkeypatch, "runs", *(["--json"] if as_json else []))
    assert code == 70
    assert "Traceback" not in err
    if as_json:
        assert "KeyError" in json.loads(out)["error"]["what"]
    else:
        assert "KeyError" in err
        assert "SIZEWISE_TRACEBACK=1" in err
    monkeypatch.setenv("SIZEWISE_TRACEBACK", "1")
    assert "Traceback" in call(capsys, monkeypatch, "runs")[2]


def test_version_help_and_completion(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(capsys, monkeypatch, "--version")[:2] == (0, f"sizewise {metadata.version('sizewise')}\n")
    for arguments in (("-h",), ("read", "-h"), ("judge", "rank", "-h")):
        code, out, _ = call(capsys, monkeypatch, *arguments)
        assert code == 0
        assert "Usage: " in out
    assert "--install-completion" in call(capsys, monkeypatch, "--help")[1]


def test_what_cannot_be_written_as_text_is_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["sizewise", "read", "half \ud83d", "--json"])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(capsys.readouterr().out)["error"]["what"]
