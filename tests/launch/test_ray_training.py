"""Training over Ray with small scripts, and with a stand-in for Ray; and what the command runs and refuses."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sizewise import errors
from sizewise.cli import launching
from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from sizewise.launch import keeper, ray_training, ray_worker
from sizewise.launch.ray_cluster import Node, Place
from sizewise.launch.ray_training import ClusterRun, environments
from sizewise.launch.ray_worker import About, check_nodes, installed, interface_of, marked
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import run_id_of
from tests.launch.fake_ray import FakeRay

SCRIPT = "import os, sys, pathlib\nrank, folder = os.environ['RANK'], pathlib.Path(sys.argv[1])\n"


def start(
    ray: FakeRay, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, most: int = 9
) -> tuple[int, list[str], list[str]]:
    """Run a script on a cluster; return its exit code, what was said, and what the first process printed."""
    said, shown = list[str](), list[str]()
    monkeypatch.setattr(ray_training, "connect", lambda address: ray)
    arguments = ["-c", SCRIPT + code, str(folder)]
    run = ClusterRun("auto", arguments, folder / "home", most, say=said.append, show=shown.append)
    return run.run(lambda: -1, lambda: None), said, shown


def test_each_node_runs_a_process_and_the_first_one_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "(folder / rank).write_text(os.environ['WORLD_SIZE'] + os.environ['MASTER_ADDR'])\nprint(rank, file=sys.stderr)"
    )
    ended, said, shown = start(FakeRay(3), code, tmp_path, monkeypatch, most=2)
    assert ended == 0
    assert [path.read_text() for path in sorted(tmp_path.glob("[0-9]"))] == ["2127.0.0.1"] * 2
    assert "".join(shown) == "0\n"
    assert said == ["Training in 2 processes of the Ray cluster (127.0.0.1, 127.0.0.2)"]
    assert not list((tmp_path / "home").iterdir())  # the mark is removed


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit(130)"])  # 130: its node is shutting down
def test_a_killed_worker_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    code = f"if rank == '1' and not (folder / 'killed').exists():\n    (folder / 'killed').touch()\n    {end}\n"
    ended, said, _ = start(FakeRay(2), code, tmp_path, monkeypatch)
    assert ended == 0
    assert "A worker is lost; all start again from step 0" in said


def test_all_start_again_on_the_nodes_that_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "with (folder / 'sizes').open('a') as file: file.write(rank + os.environ['WORLD_SIZE'] + ' ')"
    ray = FakeRay(2, lose_at=3, lose_node=True)  # a port, the first process, the second one
    assert start(ray, code, tmp_path, monkeypatch)[0] == 0
    assert (tmp_path / "sizes").read_text() == "02 01 "


def test_without_any_node_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SizewiseError, match="No node of the Ray cluster is left"):
        start(FakeRay(1, lose_at=2, lose_node=True), "", tmp_path, monkeypatch)


def test_the_last_lines_of_a_worker_that_fails_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "sys.exit('libmissing.so: no such file' if rank == '1' else 0)"
    with pytest.raises(SizewiseError, match="Worker 1 ended with exit code 1") as raised:
        start(FakeRay(2), code, tmp_path, monkeypatch)
    assert "libmissing.so: no such file" in raised.value.what


def test_the_first_process_reports_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "print('{\"error\": 1}' if rank == '0' else '')\nsys.exit(2 if rank == '0' else 0)"
    assert start(FakeRay(2), code, tmp_path, monkeypatch)[0] == 2
    assert capsys.readouterr().out == '{"error": 1}\n'


def test_a_taken_port_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "first = not (folder / 'tried').exists()\n(folder / 'tried').touch()\n"
        "sys.exit('The server socket has failed to bind: EADDRINUSE' if first else 0)"
    )
    assert start(FakeRay(1), code, tmp_path, monkeypatch)[0] == 0


def place(number: int, gpus: int = 0, address: str = "") -> Place:
    node = Node(str(number), address or f"10.0.0.{number}", 8, gpus)
    return Place(node, bool(gpus), 8 // max(1, gpus))


def test_processes_get_what_torchrun_would_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    chosen = [place(1, gpus=2), place(1, gpus=2), place(2, gpus=1)]
    abouts = [About({}, True, card) for card in ("0", "1", "0")]
    found = environments(chosen, abouts, 23456, Path("/shared"))
    names = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    assert [tuple(one[name] for name in names) for one in found] == [
        ("0", "0", "2", "0,1", "4"),
        ("1", "1", "2", "0,1", "4"),
        ("2", "0", "1", "0", "8"),
    ]
    assert {one["MASTER_ADDR"] + one["MASTER_PORT"] + one["WORLD_SIZE"] for one in found} == {"10.0.0.1234563"}
    assert {one["SIZEWISE_HOME"] for one in found} == {"/shared"}


def test_nodes_of_one_machine_share_its_memory() -> None:
    chosen = [place(1, address="10.0.0.1"), place(2, address="10.0.0.1")]
    found = environments(chosen, [About({}, True, "")] * 2, 1, Path("/shared"))
    assert {one["LOCAL_WORLD_SIZE"] for one in found} == {"2"}


def test_other_versions_and_a_missing_extra_are_named(tmp_path: Path) -> None:
    there = {name: version for name, version in installed().items() if name != "peft"} | {"torch": "1.0"}
    with pytest.raises(SizewiseError, match=r"10\.0\.0\.2 has torch 1\.0 \(here .*peft none"):
        check_nodes([place(1), place(2)], [About(installed(), True, ""), About(there, True, "")], tmp_path)


def test_a_home_that_is_not_shared_is_named(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError, match=r"10\.0\.0\.2 doesn't see SIZEWISE_HOME"):
        check_nodes([place(2)], [About(installed(), False, "")], tmp_path)
    with marked(tmp_path) as mark:
        assert ray_worker.look_around(mark).sees_home
        Path(mark[0]).write_text("of another machine", encoding="ascii")
        assert not ray_worker.look_around(mark).sees_home
    assert not ray_worker.look_around(mark).sees_home


def test_a_full_disk_is_an_error_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **settings: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SizewiseError, match=r"SIZEWISE_HOME can't be written: .*No space left"):
        start(FakeRay(1), "", tmp_path, monkeypatch)


def test_gloo_gets_the_interface_of_the_node() -> None:
    assert interface_of("127.0.0.2") in ("lo", "lo0")
    with pytest.raises(OSError, match=r"no interface has the address 203\.0\.113\.7"):
        interface_of("203.0.113.7")


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


@pytest.mark.parametrize("how", ["killed", "left", "interrupted"])
def test_a_process_ends_with_its_keeper(tmp_path: Path, how: str) -> None:
    code = (
        "from sizewise.launch.address import end_with_launcher\nend_with_launcher()\nimport os, pathlib, sys, time\n"
        "path = pathlib.Path(sys.argv[1])\npath.with_suffix('.tmp').write_text(str(os.getpid()))\n"
        "path.with_suffix('.tmp').rename(path)\ntry:\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    path.with_suffix('.saved').touch()\n    sys.exit(130)\n"
    )
    command = [sys.executable, "-I", str(keeper.__file__), sys.executable, "-c", code, str(tmp_path / "pid")]

    def as_ray() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    with subprocess.Popen(command, stdin=subprocess.PIPE, preexec_fn=as_ray) as kept:
        assert kept.stdin is not None
        assert until(lambda: (tmp_path / "pid").is_file())
        process = Path("/proc") / (tmp_path / "pid").read_text()
        if how == "left":
            kept.stdin.close()
        else:
            kept.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
        assert until(lambda: not process.exists())
        assert (tmp_path / "pid.saved").exists()
        assert kept.wait(20) == {"killed": -9, "left": 1, "interrupted": 130}[how]


def test_every_error_can_come_from_another_process() -> None:
    made = [errors.MissingExtraError("ray", "scale"), errors.ScoringError("too long", transient=True)]
    for error in [*made, UsageError("what", "expected", "next")]:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def command(data: str, *more: str) -> list[str]:
    recipe = ["--parameters", "500000", "--tokens", "2000", "--rows-per-step", "4"]
    return ["train", "scratch", "--data", data, *recipe, *more, "--launch", "ray:local"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the cluster by one of two places whose first process reports an error."""
    calls: list[Any] = []

    class Cluster:
        processes = 2

        def __init__(self, *given: Any, **settings: Any) -> None:
            calls.append((*given, settings["on_cards"]))

        def run(self, steps_done: Callable[[], int], restarting: Callable[[], None]) -> int:
            assert steps_done() == -1
            restarting()
            return 3

    monkeypatch.setattr(ray_training, "ClusterRun", Cluster)
    return calls


def test_the_command_trains_on_the_cluster(
    dataset: Saved[Dataset], store: Store, started: list[Any], tmp_path: Path
) -> None:
    found = CliRunner().invoke(app, command(dataset.id, "--out", str(tmp_path / "out"), "--device", "cpu"))
    assert found.exit_code == 3
    ((address, arguments, home, most, on_cards),) = started
    assert (address, home, most, on_cards) == ("local", store.home, 4, False)
    assert arguments[:3] == ["-m", "sizewise", "train"]
    assert not {"--launch", "--out"} & set(arguments)  # the folder is written where the command runs


@pytest.mark.parametrize("more", [["--tune", "2"], ["--curve"], ["--dry-run"]])
def test_more_than_one_training_is_refused(dataset: Saved[Dataset], started: list[Any], more: list[str]) -> None:
    found = CliRunner().invoke(app, command(dataset.id, *more))
    assert isinstance(found.exception, UsageError)
    assert not started


def test_a_second_launcher_is_refused(dataset: Saved[Dataset], store: Store, started: list[Any]) -> None:
    recipe = Recipe(start="scratch", method="full", parameters=500_000, tokens=2_000, rows_per_step=4)
    with store.lock("checkpoint", run_id_of(recipe, dataset.id)):
        found = CliRunner().invoke(app, command(dataset.id))
    assert "Another process is working on checkpoint" in str(found.exception)
    assert not started


def test_a_run_that_stays_locked_is_not_started_again(
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "SETTLING_S", 0.0)
    with store.lock("checkpoint", "run-1"), pytest.raises(SizewiseError, match="The run is locked"):
        launching._wait(lambda: launching._is_free("run-1", store), "is locked")
    launching._wait(lambda: launching._is_free("run-1", store), "is locked")


def test_no_process_inherits_where_the_launcher_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZEWISE_LAUNCH", "ray:auto")
    code = "sys.exit('SIZEWISE_LAUNCH' in os.environ)"
    assert start(FakeRay(1), code, tmp_path, monkeypatch)[0] == 0
    assert os.environ["SIZEWISE_LAUNCH"] == "ray:auto"
