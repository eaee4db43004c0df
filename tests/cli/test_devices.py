"""--device and --precision apply to everything that a command opens, and to nothing after it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import torch

from sizewise.lm import placement
from sizewise.models import opening
from tests.cli.test_cli import call
from tests.cli.test_help import COMMANDS

RUN_MODELS = {
    *(("train",), ("evaluate",), ("study",), ("serve",), ("chat",), ("loadtest",), ("redteam",), ("synthesize",)),
    *(("label",), ("watch",), ("judge", "ask"), ("judge", "converse")),
}


def test_every_command_that_runs_a_model_has_a_device() -> None:
    having = {path for path, command in COMMANDS.items() if any("--device" in part.opts for part in command.params)}
    assert having == RUN_MODELS


def test_an_unknown_device_or_precision_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = call(capsys, monkeypatch, "chat", "fake:echo", "--device", "tpu")
    assert code == 2
    assert "--device 'tpu' isn't a device." in err
    code, _, err = call(capsys, monkeypatch, "chat", "fake:echo", "--precision", "int3")
    assert code == 2
    assert "nf4" in err


def test_a_device_that_is_not_there_is_refused_and_forgotten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_folder: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = call(capsys, monkeypatch, "chat", str(tiny_folder), "--device", "cuda", "--engine", "transformers")
    assert code == 1
    assert "no cuda device" in err
    assert placement.DEVICE not in os.environ
    code, _, err = call(capsys, monkeypatch, "chat", str(tiny_folder), "--device", "cuda", "--engine", "openvino")
    assert code == 2
    assert "openvino-genai runs on the CPU" in err


def test_the_models_of_a_command_are_opened_in_its_precision(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_folder: Path
) -> None:
    opened = []
    kept = opening.open_kept
    monkeypatch.setattr(opening, "open_kept", lambda key, load: opened.append(kept(key, load)) or opened[-1])
    monkeypatch.setattr("sys.stdin", io.StringIO())
    arguments = ("--precision", "fp32", "--device", "cpu", "--engine", "transformers")
    code, _, err = call(capsys, monkeypatch, "chat", str(tiny_folder), *arguments)
    assert code == 0, err
    assert opened[0].describe().precision == "fp32"
    assert placement.requested_precision() is None
