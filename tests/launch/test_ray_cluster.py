"""Jobs on a cluster that loses machines, with a stand-in for Ray; and addresses that don't answer."""

from __future__ import annotations

import os
import socket
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.launch import ray_cluster
from sizewise.launch.ray_cluster import Hosts, connect
from tests.launch.fake_ray import FakeRay


class Doubler:
    def __init__(self, word: str, threads: int) -> None:
        self.word = word

    def about(self) -> str:
        return self.word

    def double(self, number: int) -> int:
        return 2 * number

    def fail(self, kind: type[Exception]) -> None:
        raise kind("no answer")


class Unready:
    def __init__(self, threads: int) -> None:
        pass

    def about(self) -> str:
        raise ModuleNotFoundError("No module named 'sizewise'")


def hosts(ray: FakeRay, said: list[str] | None = None) -> Hosts:
    return Hosts(ray, Doubler, lambda count: (f"one of {count}",), (said if said is not None else []).append)


def test_each_machine_or_card_gets_a_process() -> None:
    assert hosts(FakeRay(3)).about == ["one of 3"] * 3
    ray = FakeRay(2, gpus=4)
    assert len(hosts(ray)) == 8
    assert {settings["num_gpus"] for settings in ray.asked_for} == {1}


def test_every_job_is_done_once() -> None:
    found = list(hosts(FakeRay(3)).run("double", [(number,) for number in range(20)]))
    assert sorted(found) == [(number, 2 * number) for number in range(20)]
    assert found != sorted(found)  # results come as they arrive


def test_what_a_lost_machine_had_is_done_by_the_others() -> None:
    ray, said = FakeRay(2, lose_at=5), list[str]()
    found = list(hosts(ray, said).run("double", [(number,) for number in range(20)]))
    assert sorted(found) == [(number, 2 * number) for number in range(20)]
    assert len(said) == 1
    assert ray.calls <= 20 + 1 + ray_cluster.IN_FLIGHT  # only what it had in hand is repeated


def test_the_last_process_is_replaced_while_a_machine_is_up() -> None:
    ray = FakeRay(1, lose_at=4)
    assert len(list(hosts(ray).run("double", [(number,) for number in range(9)]))) == 9
    assert len(ray.made) == 2


def test_without_any_machine_finished_work_is_kept_and_the_rest_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(1, lose_at=4)
    running, found = hosts(ray), list[Any]()
    monkeypatch.setattr(ray, "nodes", list)
    with pytest.raises(SizewiseError, match="All workers of the Ray cluster are lost"):
        found.extend(running.run("double", [(number,) for number in range(9)]))
    assert found == [] or len(found) < 9


@pytest.mark.parametrize(("kind", "message"), [(SizewiseError, "^no answer$"), (OSError, "OSError: no answer")])
def test_the_failure_of_a_job_is_told(kind: type[Exception], message: str) -> None:
    with pytest.raises(SizewiseError, match=message):
        list(hosts(FakeRay(2)).run("fail", [(kind,)]))


def test_processes_end_with_the_model() -> None:
    ray = FakeRay(2)
    hosts(ray).close()
    assert ray.killed == ray.made


def test_a_node_without_sizewise_says_so() -> None:
    with pytest.raises(SizewiseError, match="can't run Sizewise") as raised:
        Hosts(FakeRay(), Unready, lambda count: (), print)
    assert "No module named 'sizewise'" in raised.value.what


def module(monkeypatch: pytest.MonkeyPatch, init: Any) -> None:
    """Install a module ray whose init does this."""
    found = SimpleNamespace(init=init, is_initialized=lambda: False, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ray", found)
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: found.__spec__)


def failing(message: str) -> Any:
    def init(**settings: Any) -> None:
        raise RuntimeError(message)

    return init


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"\[scale\]|'ray'"):
        connect("auto")


@pytest.mark.parametrize(
    ("said", "is_grpc"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", False), (b"", False), (ray_cluster.GREETING, True)]
)
def test_a_port_of_something_else_is_refused_at_once(said: bytes, is_grpc: bool) -> None:
    """Ray itself would try for minutes to connect to its own dashboard."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if is_grpc:
            ray_cluster._probe(address)
        else:
            with pytest.raises(SizewiseError, match="isn't Ray's cluster"):
                ray_cluster._probe(address)
        thread.join()


def test_an_address_that_does_not_answer_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module(monkeypatch, failing("not reached"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SizewiseError, match=f"No Ray cluster answers at '127.0.0.1:{port}'.*refused"):
        connect(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Version mismatch: The cluster was started with:\n  Ray: 2.9.0\n  Python: 3.10.1", "other versions.*2.9.0"),
        ("Could not find any running Ray instance.", "No Ray cluster answers at 'auto'"),
    ],
)
def test_why_a_cluster_cannot_be_joined_is_told(monkeypatch: pytest.MonkeyPatch, message: str, expected: str) -> None:
    module(monkeypatch, failing(message))
    with pytest.raises(SizewiseError, match=f"(?s){expected}"):
        connect("auto")


def test_a_cluster_that_may_ask_for_a_token_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(ray_cluster, "_probe", lambda address: None)
    module(monkeypatch, failing("Failed to connect to Ray cluster at 10.0.0.1:6379"))
    with pytest.raises(SizewiseError, match="export RAY_AUTH_MODE=token"):
        connect("10.0.0.1:6379")


def test_a_local_cluster_stays_on_this_machine_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    module(monkeypatch, lambda **settings: calls.append(settings))
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    connect("local")
    (settings,) = calls
    assert settings["_node_ip_address"] == "127.0.0.1"
    assert settings["include_dashboard"] is False
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
