"""One proxy and one certificate authority hold for pip, web pages and remote models; all of it on the loopback."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sizewise.documents.addresses import Refused
from sizewise.documents.crawling import Fetcher
from sizewise.errors import SizewiseError
from sizewise.models import open_model
from sizewise.network import (
    CERTIFICATES,
    LOOPBACK,
    PROXIES,
    async_client,
    check_certificates,
    proxy_of,
    share_network_settings,
)
from sizewise.packages import Wheel, failure_of, fetch_wheel
from sizewise.records import Request
from tests.company_network import Network, company_network, has_openssl


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without settings of the machine that runs the test."""
    for name in (*CERTIFICATES, *PROXIES, *map(str.upper, PROXIES), "no_proxy", "NO_PROXY", "SIZEWISE_OFFLINE"):
        monkeypatch.setenv(name, "")  # remembered, so that what the code sets is undone
        monkeypatch.delenv(name)
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def network(bare: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    if not has_openssl():
        pytest.skip("no openssl")
    with company_network(tmp_path) as found:
        monkeypatch.setenv("HTTPS_PROXY", found.proxy.replace("http://", "http://ada:se%40cret@"))
        monkeypatch.setenv("HTTP_PROXY", found.proxy)
        yield found


def make_wheel(network: Network) -> Wheel:
    """Put a wheel on the private index."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("part", b"weights")
        archive.writestr("weights_x-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: weights-x\nVersion: 1\n")
        archive.writestr(
            "weights_x-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("weights_x-1.dist-info/RECORD", "")
    name, digest = "weights_x-1-py3-none-any.whl", hashlib.sha256(body.getvalue()).hexdigest()
    link = f'<a href="/files/{name}#sha256={digest}">{name}</a>'
    network.pages["index.example.com/simple/weights-x/"] = (200, "text/html", f"<html>{link}</html>".encode())
    network.pages[f"index.example.com/files/{name}"] = (200, "application/octet-stream", body.getvalue())
    return Wheel("weights-x==1", name, digest)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_pip_uses_the_index_the_proxy_and_the_authority(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    wheel = make_wheel(network)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example.com/simple")
    monkeypatch.setenv(variable, str(network.authority))
    share_network_settings()
    assert fetch_wheel(wheel, tmp_path / "wheels").read_bytes()
    assert "CONNECT index.example.com:443" in network.requests
    assert set(network.credentials) == {"ada:se@cret"}


def test_an_index_with_an_unknown_authority_is_named(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example.com/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(SizewiseError, match=r"certificate of the index isn't trusted") as error:
        fetch_wheel(make_wheel(network), tmp_path / "wheels")
    assert "PIP_CERT" in error.value.next_step
    assert list((tmp_path / "wheels").iterdir()) == []


def unknown(host: str, port: int) -> list[str]:
    raise OSError("only the proxy knows names")


def test_web_pages_come_through_the_proxy(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(network.authority))
    share_network_settings()
    for scheme, host in (("https", "docs.example.com"), ("http", "old.example.com")):
        network.pages[f"{host}/guide"] = (200, "text/plain", b"The harbor office opens at eight.")
        page = Fetcher([host], unknown).fetch(f"{scheme}://{host}/guide")
        assert page.data.startswith(b"The harbor")
    assert network.requests == [
        "CONNECT docs.example.com:443", "GET docs.example.com/robots.txt",
        "CONNECT docs.example.com:443", "GET docs.example.com/guide",
        "GET old.example.com/robots.txt", "GET old.example.com/guide",
    ]  # fmt: skip


def test_a_host_known_to_be_private_is_refused_behind_a_proxy_too(network: Network) -> None:
    with pytest.raises(Refused, match=r"private or reserved address 10\.0\.0\.7"):
        Fetcher(["wiki.example.com"], lambda host, port: ["10.0.0.7"]).fetch("https://wiki.example.com/")
    assert network.requests == []


def test_remote_models_are_asked_through_the_proxy(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydantic_ai")
    monkeypatch.setenv("PIP_CERT", str(network.authority))
    share_network_settings()
    choice = {"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": "Paris"}}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    network.pages["models.example.com/v1/chat/completions"] = (200, "text/event-stream", body)
    model = open_model("https://models.example.com/v1#m")
    answers = list(model.complete([Request(id="a", text="Capital of France?")]))
    assert [answer.text for answer in answers] == ["Paris"], answers[0].error
    model.close()
    assert "CONNECT models.example.com:443" in network.requests


def test_loopback_is_never_asked_of_a_proxy(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "wiki.example.com")
    share_network_settings()
    assert [proxy_of("http", host) for host in (*LOOPBACK, "wiki.example.com")] == [None] * 4
    assert proxy_of("http", "docs.example.com") is not None
    monkeypatch.setenv("SIZEWISE_OFFLINE", "1")
    share_network_settings()  # a proxy on this machine would lead out of it
    assert not {"HTTP_PROXY", "http_proxy"} & set(os.environ)


def test_other_proxies_and_files_that_are_absent_are_named(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(SizewiseError, match=r"socks5://127\.0\.0\.1"):
        proxy_of("https", "docs.example.com")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")
    with pytest.raises(SizewiseError, match=r"REQUESTS_CA_BUNDLE names /no/such/file\.pem"):
        check_certificates()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("WARNING: after 'NewConnectionError(\"HTTPSConnection(host='pypi.org', port=443): Failed to establish a new "
         "connection\")'\nERROR: No matching distribution found for a==1", "no network connection (pypi.org)"),
        ("ERROR: HTTP error 403 while getting\nERROR: 403 Client Error: Forbidden for url: https://index.example.com/x",
         "the index refuses access (index.example.com)"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: No matching distribution found for a==1", "No matching distribution found for a==1"),
        ("", "it wrote no reason"),
    ],
)  # fmt: skip
def test_the_reason_comes_before_its_consequence(said: str, reason: str) -> None:
    assert failure_of(said) == reason


def test_an_environment_without_pip_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare_python = tmp_path / "python"
    bare_python.write_text('#!/bin/sh\necho "python: No module named pip" >&2; exit 1\n', encoding="utf-8")
    bare_python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare_python))
    with pytest.raises(SizewiseError, match="has no pip") as error:
        fetch_wheel(Wheel("a==1", "a-1-py3-none-any.whl", "0" * 64), tmp_path / "wheels")
    assert "study" in error.value.next_step


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    code = (
        "import resource, sys; from pathlib import Path; from sizewise.store import write_atomically;"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from sizewise.packages import join_members; from sizewise.errors import SizewiseError\n"
        "try: join_members([(Path(sys.argv[1]), 'part')], Path(sys.argv[2]) / 'joined', '0' * 64)\n"
        "except SizewiseError as error: print(error.what)"
    )
    wheel, target = tmp_path / "a.whl", tmp_path / "target"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("part", bytes(5_000))
    command = [sys.executable, "-c", code, str(wheel), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be written: File too large" in done.stdout
    assert list(target.iterdir()) == []


def test_a_server_that_ends_as_it_accepts_counts_as_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    httpx2 = pytest.importorskip("httpx2")

    def no_socket(*_arguments: object, **_options: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")  # as anyio says

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", no_socket)

    async def ask() -> None:
        async with async_client(timeout=1) as client:
            await client.get("http://127.0.0.1:9/health")

    with pytest.raises(httpx2.ConnectError, match="the connection broke"):
        asyncio.run(ask())
