"""Training in several processes: the same losses and weights as in one, also after kills. Some minutes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.scale
ROOT = Path(__file__).parents[2]


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.scale")


def test_two_processes_take_the_steps_of_one(scale: Any, tmp_path: Path) -> None:
    scale.run(tmp_path / "one", 1)
    for options in ((), ("--fsdp",)):
        found = scale.run(tmp_path / "two", 2, *options)
        row = scale.differences(tmp_path / "one", tmp_path / "two")
        assert row["steps"] == 50
        assert row["same_batches"]
        assert row["loss"] <= 1e-5
        assert row["weights"] <= 1e-4
    whole = json.loads((tmp_path / "one" / "run.json").read_text(encoding="utf-8"))["bytes"][0]
    assert max(found["bytes"]) <= 0.55 * whole


def test_three_kills_end_in_the_same_weights(scale: Any, tmp_path: Path) -> None:
    found = scale.kill_and_compare(tmp_path, kills=3)
    assert found["kills"] == 3
    assert found["weights"] == 0.0
