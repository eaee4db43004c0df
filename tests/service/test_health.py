"""/health while models start, after they fail, and while the service drains."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("uvicorn")

import httpx

from sizewise.models import Model
from sizewise.models.base import Cancel, Deliver, Piece, failed
from sizewise.models.fake import FakeModel
from sizewise.records import Request
from sizewise.service import model_runner
from tests.service.test_service import running

BODY = {"model": "echo", "messages": [{"role": "user", "content": "hello there"}]}


class Broken(FakeModel):
    """Fails until it is fixed.

    Args:
        raises: it raises instead of giving an answer that failed.
    """

    def __init__(self, raises: bool = False) -> None:
        super().__init__("echo")
        self.raises, self.fixed = raises, False

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        if self.fixed:
            return super().start(request, deliver)
        if self.raises:
            raise RuntimeError("no such thing")
        deliver(Piece(end=failed(request, "no such thing")))
        return lambda: None


def until(true: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("raises", [False, True])
def test_failed_model_is_reported_and_others_answer(raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_runner, "RETRY_START_S", 0.2)
    broken = Broken(raises)
    models: dict[str, Model] = {"broken": broken, "echo": FakeModel("echo")}
    with running(models) as address:
        assert until(lambda: "broken" in httpx.get(f"{address}/health").json()["failed"])
        health = httpx.get(f"{address}/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert "no such thing" in health.json()["failed"]["broken"]
        assert httpx.post(f"{address}/v1/chat/completions", json=BODY).status_code == 200
        refused = httpx.post(f"{address}/v1/chat/completions", json=BODY | {"model": "broken"})
        assert refused.status_code == 503
        assert "no such thing" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) > 0
        broken.fixed = True
        assert until(lambda: httpx.get(f"{address}/health").json()["status"] == "ready")
        assert httpx.post(f"{address}/v1/chat/completions", json=BODY | {"model": "broken"}).status_code == 200


def test_service_without_a_working_model_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.service.test_service.READY_LOOKS", 5)
    with running({"broken": Broken()}) as address:
        assert until(lambda: httpx.get(f"{address}/health").json()["status"] == "failed")
        assert httpx.get(f"{address}/health").status_code == 503


@contextmanager
def process(*more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "sizewise", "serve", "fake:echo", "--port", "0", *more]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as one:
        try:
            assert one.stderr is not None
            found = None
            while found is None:
                found = re.search(r"chat: (http://\S+)/ ", one.stderr.readline())
            address = found[1]
            threading.Thread(target=one.stderr.read, daemon=True).start()
            assert until(lambda: httpx.get(f"{address}/health").status_code == 200)
            yield one, address
        finally:
            one.kill()


def test_health_reports_draining_and_the_service_survives_sighup() -> None:
    with process("--delay-ms", "30") as (one, address):
        os.kill(one.pid, signal.SIGHUP)
        time.sleep(0.3)
        assert httpx.get(f"{address}/health").status_code == 200
        said: list[int] = []
        long = {"model": "echo", "messages": [{"role": "user", "content": "word " * 150}]}
        answered: list[int] = []
        asking = threading.Thread(
            target=lambda: answered.append(
                httpx.post(f"{address}/v1/chat/completions", json=long, timeout=30).status_code
            )
        )
        asking.start()
        time.sleep(0.2)
        os.kill(one.pid, signal.SIGTERM)
        time.sleep(0.1)
        health = httpx.get(f"{address}/health")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        while True:  # new connections, until it no longer listens
            try:
                said.append(httpx.post(f"{address}/v1/chat/completions", json=BODY).status_code)
                assert httpx.get(f"{address}/health").status_code == 503
            except httpx.TransportError:
                break
            time.sleep(0.1)
        assert set(said) == {200}
        asking.join()
        assert answered == [200]
        assert one.wait(10) == 0


def test_ctrl_c_stops_without_a_grace_period() -> None:
    with process() as (one, address):
        begun = time.monotonic()
        os.kill(one.pid, signal.SIGINT)
        one.wait(10)
        assert time.monotonic() - begun < 2.9  # the grace period is 3
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{address}/health")
