"""The launcher with small scripts instead of a training; and what `sizewise train --launch` runs and refuses."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from sizewise.launch import Launch, is_first_process, parse_launch, restarting, torchrun
from sizewise.launch.torchrun import run_processes
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import run_id_of

# torch leaves closing the files of processes to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SCRIPT = "import os, sys, time, pathlib\nrank, folder = os.environ['RANK'], pathlib.Path(sys.argv[1])\n"


def start(code: str, folder: Path, processes: int = 2) -> int:
    return run_processes(["-c", SCRIPT + code, str(folder)], processes, lambda: -1)


@pytest.mark.parametrize(
    ("text", "launch"),
    [
        ("torchrun:4", Launch("torchrun", processes=4)),
        ("ray:local", Launch("ray", address="local")),
        ("ray:10.0.0.1:6379", Launch("ray", address="10.0.0.1:6379")),
        ("ray://10.0.0.1:10001", Launch("ray", address="ray://10.0.0.1:10001")),
    ],
)
def test_places_are_parsed(text: str, launch: Launch) -> None:
    assert parse_launch(text) == launch


@pytest.mark.parametrize("text", ["", "torchrun", "torchrun:0", "torchrun:two", "torchrun:-1", "ray:", "slurm:2"])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no place"):
        parse_launch(text)


def test_only_the_first_process_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_first_process()
    monkeypatch.setenv("RANK", "1")
    assert is_first_process()  # not of torchrun
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not is_first_process()


def test_all_processes_share_the_cores_and_know_their_number(tmp_path: Path) -> None:
    code = "(folder / rank).write_text(os.environ['WORLD_SIZE'] + os.environ['OMP_NUM_THREADS'])"
    assert start(code, tmp_path) == 0
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["0", "1"]
    assert {path.read_text()[0] for path in tmp_path.iterdir()} == {"2"}


def test_the_last_lines_of_a_worker_that_dies_at_start_are_shown(tmp_path: Path) -> None:
    code = "sys.exit('libmissing.so: no such file') if rank == '1' else time.sleep(30)"
    with pytest.raises(SizewiseError, match="Worker 1 ended with exit code 1") as raised:
        start(code, tmp_path)
    assert "libmissing.so: no such file" in raised.value.what


def test_the_first_process_reports_for_itself(tmp_path: Path) -> None:
    assert start("sys.exit(2 if rank == '0' else 0)", tmp_path) == 2


def test_a_killed_worker_is_started_again(tmp_path: Path) -> None:
    code = (
        "if rank == '1' and not (folder / 'killed').exists():\n"
        "    (folder / 'killed').touch()\n"
        "    os.kill(os.getpid(), 9)\n"
        "(folder / rank).touch()"
    )
    assert start(code, tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "killed"}


def test_a_worker_that_is_always_killed_ends_the_run(tmp_path: Path) -> None:
    code = "with (folder / 'starts').open('a') as file: file.write(rank)\nos.kill(os.getpid(), 9) if rank == '1' else 0"
    with pytest.raises(SizewiseError, match="was killed by signal 9, 3 times without getting any further"):
        start(code, tmp_path)
    assert (tmp_path / "starts").read_text().count("1") == restarting.ATTEMPTS


def test_the_process_that_was_lost_first_is_named() -> None:
    """The launcher ends the others with SIGTERM."""
    assert restarting.cause({0: -signal.SIGTERM, 1: -signal.SIGKILL}) == (1, -signal.SIGKILL)
    assert restarting.cause({0: -signal.SIGTERM, 1: -signal.SIGTERM}) == (0, -signal.SIGTERM)
    assert restarting.cause({0: -signal.SIGKILL, 1: 2}) == (1, 2)
    assert restarting.cause({0: restarting.LOST, 1: -signal.SIGTERM}) == (1, -signal.SIGTERM)


def until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def test_processes_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    code = SCRIPT + (
        "from sizewise.launch.address import end_with_launcher\nend_with_launcher()\n"
        "(folder / rank).write_text(str(os.getpid()))\ntime.sleep(120)\n"
    )
    start = f"run_processes(['-c', {code!r}, {str(tmp_path)!r}], 2, int)"
    launching = f"from sizewise.launch.torchrun import run_processes\n{start}"
    with subprocess.Popen([sys.executable, "-c", launching], stderr=subprocess.DEVNULL) as launcher:
        try:
            assert until(
                lambda: all((tmp_path / rank).is_file() and (tmp_path / rank).read_text() for rank in "01"), 60
            )
        finally:
            launcher.kill()
    for rank in "01":
        worker = Path("/proc") / (tmp_path / rank).read_text()
        assert until(lambda worker=worker: not worker.exists(), 20)


def command(data: str, *more: str) -> list[str]:
    return ["train", "scratch", "--data", data, "--parameters", "500000", "--tokens", "2000", *more]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(torchrun, "run_processes", lambda *arguments: calls.append(arguments) or 3)
    return calls


def test_the_command_runs_in_processes_with_its_own_options(dataset: Saved[Dataset], ran: list[Any]) -> None:
    found = CliRunner().invoke(app, command(dataset.id, "--launch", "torchrun:2", "--fsdp", "--control", "none"))
    assert found.exit_code == 3
    ((arguments, processes, _),) = ran
    assert processes == 2
    assert arguments[:3] == ["-m", "sizewise", "train"]
    assert "--launch" not in arguments
    options = set(command(dataset.id)[2:]) | {"--fsdp", "--control", "none", "scratch"}
    assert set(arguments[3:]) == options


def test_each_process_needs_a_row(dataset: Saved[Dataset], ran: list[Any]) -> None:
    found = CliRunner().invoke(app, command(dataset.id, "--launch", "torchrun:3"))
    assert isinstance(found.exception, UsageError)
    assert not ran


def test_under_torchrun_only_one_training_runs(dataset: Saved[Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = CliRunner().invoke(app, command(dataset.id, "--curve"))
    assert isinstance(found.exception, UsageError)


@pytest.mark.parametrize("more", [["--tune", "2"], ["--curve"], ["--dry-run"]])
def test_more_than_one_training_is_refused(dataset: Saved[Dataset], ran: list[Any], more: list[str]) -> None:
    found = CliRunner().invoke(app, command(dataset.id, "--launch", "torchrun:2", *more))
    assert isinstance(found.exception, UsageError)
    assert not ran


def test_two_launchers_on_one_run_are_refused(dataset: Saved[Dataset], store: Store, ran: list[Any]) -> None:
    run_id = run_id_of(Recipe(start="scratch", method="full", parameters=500_000, tokens=2_000), dataset.id)
    with store.lock("checkpoint", run_id):
        found = CliRunner().invoke(app, command(dataset.id, "--launch", "torchrun:2"))
    assert "Another process is working on checkpoint" in str(found.exception)
    with FileLock(store.folder("checkpoint", run_id) / ".launcher"):  # whose processes are still on their way
        found = CliRunner().invoke(app, command(dataset.id, "--launch", "torchrun:2"))
    assert "Another launcher is starting or running checkpoint" in str(found.exception)
    assert not ran


def test_fsdp_needs_several_processes(dataset: Saved[Dataset]) -> None:
    found = CliRunner().invoke(app, command(dataset.id, "--fsdp"))
    assert isinstance(found.exception, UsageError)


@pytest.mark.parametrize(
    "settings", [{"minutes": 1.0}, {"tokens": 9, "method": "qlora"}, {"tokens": 9, "optimizer": "adamw8bit"}]
)
def test_fsdp_refuses_what_it_cannot_split(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path, settings: dict[str, Any]
) -> None:
    from sizewise.training import train

    with pytest.raises(UsageError, match="FSDP"):
        train(Recipe.model_validate({"start": str(tiny_folder)} | settings), dataset.id, store=store, fsdp=True)
