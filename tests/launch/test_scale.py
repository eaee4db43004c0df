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


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(scale: Any, tmp_path: Path) -> None:
    found = scale.reshard(tmp_path)
    assert [row["sessions"] for row in found["cases"]] == [4, 4]
    assert found["loss"] <= 1e-5
    assert found["cases"][0]["weights"] <= 1e-4


def test_three_kills_end_in_the_same_weights(scale: Any, tmp_path: Path) -> None:
    found = scale.kill_and_compare(tmp_path, kills=3)
    assert found["kills"] == 3
    assert found["weights"] == 0.0


@pytest.mark.slow  # two minutes
def test_nodes_train_as_processes_of_one_machine_do_and_go_on_without_one(scale: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    found = scale.train_on_nodes(tmp_path)
    assert found["torchrun_weights"] == 0.0
    assert found["lost"]["steps"] == 50
    assert found["lost"]["loss"] <= 1e-5
    assert found["lost"]["weights"] <= 1e-4
    assert found["lost"]["sessions"] == 3


def test_a_lost_node_costs_nothing_but_its_unfinished_batches(scale: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    found = scale.lose_a_node(tmp_path, examples=200)
    assert found["same_items"]
    assert found["same_scores"]
    assert found["asked"] <= 200 + 2 * 16  # two batches of the node that was lost


@pytest.mark.slow
def test_a_study_on_nodes_finds_what_one_process_finds(scale: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    found = scale.study_on_nodes(tmp_path)
    assert found["killed"]
    assert found["lost"] == 1
    assert found["same"], found["different"]


@pytest.mark.slow
def test_a_network_scores_the_same_on_a_cluster(
    scale: Any, tmp_path: Path, tiny_folder: Path, examples_file: Path
) -> None:
    pytest.importorskip("ray")
    ray = importlib.import_module("benchmarks.scale_ray")
    homes = [tmp_path / name for name in ("one", "two")]
    with ray.helper("nodes") as (_, address):
        places: list[tuple[str, ...]] = [(), ("--launch", f"ray:{address}")]
        jobs = [
            ray.evaluate(home, str(tiny_folder), examples_file, *more) for home, more in zip(homes, places, strict=True)
        ]
        found = [ray.scores(ray.result(job)) for job in jobs]
    assert found[0] == found[1]
    assert ray.items(homes[0]) == ray.items(homes[1])
