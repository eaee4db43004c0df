from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sizewise.cli.main import main


def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["sizewise", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, captured.out, captured.err


def test_from_reading_to_choosing(
    text_folder: Path,
    examples_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*arguments: str) -> dict[str, object]:
        code, out, _ = call(capsys, monkeypatch, *arguments, "--json")
        assert code == 0
        assert out.count("\n") == 1
        whole = json.loads(out)
        assert set(whole) == {"schema", "kind", "id", "path", "record"}
        if whole["path"]:
            assert Path(whole["path"]).exists()
        return dict(whole)

    data = run("read", str(text_folder), str(examples_file))
    assert data["kind"] == "dataset"
    trained = run("train", "scratch", "--data", str(data["id"]), "--tokens", "2000", "--parameters", "500000",
                  "--context", "128")  # fmt: skip
    one = run("evaluate", f"run:{trained['id']}", "--data", str(data["id"]), "--metrics", "bits_per_byte,bleu")
    two = run("evaluate", "fake:echo", "--data", str(data["id"]), "--metrics", "bits_per_byte,bleu")
    compared = run("compare", str(one["id"]), str(two["id"]))
    needs = tmp_path / "needs.toml"
    needs.write_text('quality = "bits_per_byte"\n', encoding="utf-8")
    chosen = run("choose", str(compared["id"]), "--needs", str(needs))
    assert chosen["record"]["outcome"] == "inconclusive"  # type: ignore[index]
    assert "come from 4 source documents, and a claim requires at least 8" in chosen["record"]["summary"]  # type: ignore[index]
    cleared = run("runs", "--clear-cache")
    assert cleared["record"]["freed_bytes"] > 1_000  # type: ignore[index]
    listed = run("runs")
    assert len(listed["record"]["runs"]) == 6  # type: ignore[index]
    for words in (
        ("read", str(text_folder), str(examples_file)),
        ("evaluate", "fake:echo", "--data", str(data["id"]), "--metrics", "bits_per_byte,bleu"),
        ("compare", str(one["id"]), str(two["id"])),
        ("choose", str(compared["id"])),
        ("runs",),
        ("models",),
        ("models", "fake:echo"),
    ):
        code, out, _ = call(capsys, monkeypatch, *words)
        assert code == 0
        assert out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("evaluate", "fake:echo", "--data", "data-none"), 1, "sizewise runs"),
        (("read", "no/such/place"), 1, "no/such/place"),
        (("evaluate", "fake:echo"), 2, "--data"),
        (("nosuch",), 2, "nosuch"),
        (("study", "no.toml"), 2, "no.toml"),
        (("study", "--pays", "4200/month"), 2, "sizewise study --log"),
        (("judge",), 2, "sizewise judge --help"),
        (("judge", "plan", "--detect", "nan"), 2, "nan is not a finite number"),
        (("evaluate", "fake:echo", "--data", "x", "--max-usd", "inf"), 2, "inf is not a finite number"),
        (("evaluate", "fake:echo", "--suite", "bias", "--max-tokens", "5"), 2, "--max-tokens"),
        (("train", "pkg:smollm2-135m", "--data", "x"), 2, "--minutes"),
        (("train", "scratch", "--data", "x", "--tokens", "5", "--method", "lora"), 2, "lora"),
        (("train", "scratch", "--data", "x", "--tokens", "5", "--max-epochs", "0"), 2, "greater than 0"),
        (("compare", "../../etc", "b"), 1, "not a record id"),
    ],
)
def test_failures_have_an_exit_code_and_a_message(
    arguments: tuple[str, ...],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, out, err = call(capsys, monkeypatch, *arguments)
    assert found == code
    assert said in err
    assert out == ""
    found, out, err = call(capsys, monkeypatch, *arguments, "--json")
    assert found == code
    assert set(json.loads(out)["error"]) == {"what", "expected", "next"}


def test_an_example_study_file_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib

    code, out, _ = call(capsys, monkeypatch, "study", "--example")
    assert code == 0
    assert len(tomllib.loads(out)["candidates"]) == 3


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = call(capsys, monkeypatch)
    assert (code, err) == (0, "")
    assert "Start with: sizewise study" in out


def _accept_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job ignores it, and its children would too


def test_ctrl_c_exits_with_130_and_the_run_can_continue(text_folder: Path, home: Path) -> None:
    environment = os.environ | {"SIZEWISE_HOME": str(home)}
    command = [sys.executable, "-m", "sizewise"]
    read = subprocess.run(
        [*command, "read", str(text_folder), "--json"], env=environment, capture_output=True, check=True
    )
    data = json.loads(read.stdout)["id"]
    train = [*command, "train", "scratch", "--data", data, "--tokens", "100000", "--size", "1M"]
    states = home / "checkpoint"
    process = subprocess.Popen(train, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=_accept_ctrl_c)
    assert process.stderr is not None
    said = ""
    while "bits/byte after" not in said and process.poll() is None:  # then it is in the middle of training
        said += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "run the same command again" in said
    assert list(states.glob("*/state/*.safetensors"))
    assert not list(states.glob("*/record.json"))


def test_ctrl_c_is_handled_while_commands_are_imported(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    command = [sys.executable, "-c", "from sizewise.cli import main; main()", "runs"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    for flags in ([], ["--json"]):
        done = subprocess.run(
            [*command, *flags],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert done.returncode == 130
        assert "Traceback" not in done.stderr
        assert bool(flags) == ("Interrupted" in json.loads(done.stdout or "{}").get("error", {}).get("what", ""))


def test_a_full_disk_names_the_folder_that_is_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("sizewise.store.Store.listing", full)
    code, out, _ = call(capsys, monkeypatch, "runs", "--json")
    assert code == 1
    assert str(home) in json.loads(out)["error"]["expected"]
