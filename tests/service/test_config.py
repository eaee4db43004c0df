"""A service from a file: its settings, its reload, its workers, and its place behind a proxy."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import httpx

from sizewise.errors import SizewiseError
from sizewise.service.api_keys import add_key
from sizewise.service.config_file import load_config
from tests.service.test_health import until

CHAT = "/v1/chat/completions"
FAKE = '[[model]]\nname = "echo"\nuri = "fake:echo"\n'


def said(words: int = 2, **more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": "word " * words}]} | more


@contextmanager
def served(path: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """Serve a file in a process; give the process, the address and the lines that it writes."""
    command = [sys.executable, "-m", "sizewise", "serve", "--config", str(path)]
    lines: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as one:
        try:
            assert one.stderr is not None
            found = None
            while found is None:
                lines.append(one.stderr.readline())
                assert lines[-1], "".join(lines)
                found = re.search(r"chat: (https?://\S+)/ ", lines[-1])
            threading.Thread(target=lambda: lines.extend(one.stderr or ()), daemon=True).start()
            yield one, found[1], lines
        finally:
            one.terminate()
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()


def ready(address: str, **more: Any) -> bool:
    try:
        return httpx.get(f"{address}/health", **more).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "model: Field required"),
        (FAKE + "[server]\nprot = 1\n", "server.prot: unknown setting"),
        (FAKE + FAKE, "two models are named 'echo'"),
        (FAKE + '[routing]\npolicy = "p.json"\n', "a routing policy needs two models"),
        (FAKE + '[server]\ntls_key = "k.pem"\n', "must be given together"),
        (FAKE + "usd_per_million_input_tokens = 1.0\n", "must be given together"),
        (FAKE + 'zone = "here"\n', "model.0.zone"),
        (FAKE + '[guard]\ndisabled = ["masks"]\n', "guard.disabled.0"),
        ("[[model]\n", "can't be read"),
    ],
)
def test_settings_are_checked(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "service.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SizewiseError, match=re.escape(told)):
        load_config(path)


def test_paths_are_relative_to_the_file_and_keys_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "service.toml"
    text = '[server]\nkeys = "keys.toml"\n' + FAKE + 'key_env = "OWN_KEY"\nzone = "inside"\nmax_concurrent = 3\n'
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    assert config.server.keys == tmp_path / "keys.toml"
    with pytest.raises(SizewiseError, match="OWN_KEY"):
        config.model[0].backend()
    monkeypatch.setenv("OWN_KEY", "secret")
    backend = config.model[0].backend()
    assert (backend.api_key, backend.zone, backend.max_concurrent) == ("secret", "inside", 3)


def test_a_reload_changes_models_and_keys_without_losing_an_answer(tmp_path: Path, home: Path) -> None:
    path, keys = tmp_path / "service.toml", tmp_path / "keys.toml"
    first = {"Authorization": f"Bearer {add_key(keys, 'one')}"}
    head = '[server]\nport = 0\nlog = "json"\nroot_path = "/llm"\nkeys = "keys.toml"\n'
    head += 'allowed_hosts = ["llm.example.org"]\n'
    path.write_text(head + FAKE, encoding="utf-8")
    with served(path) as (process, address, lines):
        root = address.removesuffix("/llm")  # a proxy would remove the prefix
        assert until(lambda: ready(root), 30)
        with httpx.Client(base_url=root, headers=first, timeout=30) as talk:
            assert talk.get("/health", headers={"Host": "llm.example.org"}).status_code == 200
            assert talk.get("/health", headers={"Host": "other.example.org"}).status_code == 400
            asked = {"Host": "llm.example.org", "X-Request-Id": "mine-1", "X-Forwarded-For": "192.0.2.7"}
            assert talk.post(CHAT, json=said(), headers=asked).status_code == 200
            statuses: list[int] = []
            going = threading.Event()

            def ask(_: int) -> None:
                while not going.is_set():
                    statuses.append(talk.post(CHAT, json=said(20)).status_code)

            with ThreadPoolExecutor(4) as pool:
                asking = [pool.submit(ask, number) for number in range(4)]
                second = {"Authorization": f"Bearer {add_key(keys, 'two')}"}
                path.write_text(head + FAKE + FAKE.replace('"echo"', '"second"'), encoding="utf-8")
                os.kill(process.pid, signal.SIGHUP)
                assert until(lambda: talk.get("/v1/models", headers=second).status_code == 200, 20)
                path.write_text("[[model]\n", encoding="utf-8")
                os.kill(process.pid, signal.SIGHUP)
                assert until(lambda: any("was not reloaded" in line for line in lines), 20)
                going.set()
                for one in asking:
                    one.result()
            assert set(statuses) == {200}
            assert len(talk.get("/v1/models").json()["data"]) == 2
            assert talk.get("/health/live").json() == {"status": "alive"}
        logged = [json.loads(line) for line in lines if line.startswith("{")]
        access = next(line for line in logged if line.get("request_id") == "mine-1")
        expected = {"path": "/llm" + CHAT, "status": 200, "client": "192.0.2.7", "key": "one", "model": "echo"}
        assert access.items() >= expected.items()
        assert (access["prompt_tokens"], access["completion_tokens"]) == (2, 2)
        assert "word" not in "".join(lines)


def test_workers_share_budgets_metrics_and_the_port(tmp_path: Path, home: Path) -> None:
    path, keys = tmp_path / "service.toml", tmp_path / "keys.toml"
    key = {"Authorization": f"Bearer {add_key(keys, 'one')}"}
    with keys.open("a", encoding="utf-8") as file:
        file.write("tokens_per_day = 10\nstaff = true\n")
    path.write_text('[server]\nport = 0\nworkers = 2\nkeys = "keys.toml"\n' + FAKE, encoding="utf-8")
    with served(path) as (process, address, _):
        assert until(lambda: ready(address), 60)

        def ask(_: int) -> int:
            return httpx.post(f"{address}{CHAT}", json=said(4), headers=key, timeout=30).status_code

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(ask, range(50)))
        answered = found.count(200)
        assert (answered in (1, 2), found.count(429)) == (True, 50 - answered)
        text = httpx.get(f"{address}/metrics", headers=key).text
        counted = re.findall(r'^sizewise_key_http_requests_total\{key="one",status="\d+"\} (\d+)', text, re.MULTILINE)
        assert sum(map(int, counted)) == 50
        used = re.search(r'^sizewise_key_tokens_total\{key="one",model="echo"\} (\d+)', text, re.MULTILINE)
        assert used is not None
        assert 0 < int(used[1]) <= 10
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls_by_configuration(tmp_path: Path, home: Path) -> None:
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    make = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run([*make, *names, *files], check=True, capture_output=True)
    path = tmp_path / "service.toml"
    path.write_text('[server]\nport = 0\ntls_certificate = "cert.pem"\ntls_key = "key.pem"\n' + FAKE, encoding="utf-8")
    trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with served(path) as (_, address, _):
        assert address.startswith("https://")
        assert until(lambda: ready(address, verify=trusted), 30)
        assert httpx.post(f"{address}{CHAT}", json=said(), verify=trusted).status_code == 200
