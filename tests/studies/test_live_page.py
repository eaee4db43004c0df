"""The live page over a real socket: what it serves to its token, and all that it refuses."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from sizewise.studies import live_page
from sizewise.studies.live_page import MAX_CONNECTIONS, MAX_STREAMS, LivePage
from sizewise.studies.progress import BoardRow, StudyProgress

HOSTILE = "<img src=x onerror=alert(1)></script>"


@pytest.fixture
def progress() -> StudyProgress:
    return StudyProgress()


@pytest.fixture
def page(progress: StudyProgress) -> Iterator[LivePage]:
    with LivePage(progress) as found:
        yield found


def ask(
    page: LivePage, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", page.port, timeout=10)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def follow(page: LivePage) -> tuple[HTTPConnection, HTTPResponse]:
    connection = HTTPConnection("127.0.0.1", page.port, timeout=10)
    connection.request("GET", f"/{page.token}/events")
    return connection, connection.getresponse()


def event(answer: HTTPResponse) -> Any:
    line = answer.readline()
    assert line.startswith(b"data: ")
    assert answer.readline() == b"\n"
    return json.loads(line.removeprefix(b"data: "))


def test_the_page_loads_nothing_from_elsewhere(page: LivePage) -> None:
    status, headers, body = ask(page, "GET", f"/{page.token}/")
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    text = body.decode()
    assert "NONCE" not in text
    assert text.replace("http://www.w3.org/2000/svg", "").count("//www") == 0
    assert "https://" not in text
    assert ".innerHTML" not in text
    assert ask(page, "GET", f"/{page.token}/")[1]["content-security-policy"] != policy  # a nonce is used once


def test_only_the_token_opens_it(page: LivePage) -> None:
    for path in ("/", "/x", "/x/", "/x/events", f"/{page.token}", f"/{page.token[:-1]}/", "/%00/", "/../etc/passwd"):
        status, _, body = ask(page, "GET", path)
        assert status == 404, path
        assert page.token.encode() not in body
    for path in ("x", "report", "report/", "report/0", "report/-1", "report/../0", "snapshot", "live_page.html"):
        assert ask(page, "GET", f"/{page.token}/{path}")[0] == 404, path
    assert ask(page, "PUT", f"/{page.token}/stop")[0] == 501


def test_another_host_is_refused(page: LivePage, progress: StudyProgress) -> None:
    for host in ("evil.example", f"evil.example:{page.port}", "127.0.0.1", f"127.0.0.1:{page.port + 1}"):
        assert ask(page, "GET", f"/{page.token}/", {"Host": host})[0] == 403, host
        assert ask(page, "POST", f"/{page.token}/stop", {"Host": host})[0] == 403, host
    assert not progress.stop_requested
    assert ask(page, "GET", f"/{page.token}/", {"Host": f"localhost:{page.port}"})[0] == 200


def test_the_stop_button_needs_the_token_and_the_page(page: LivePage, progress: StudyProgress) -> None:
    assert ask(page, "POST", "/stop")[0] == 404
    assert ask(page, "POST", "/wrong/stop")[0] == 404
    assert ask(page, "POST", f"/{page.token}/")[0] == 404
    assert ask(page, "POST", f"/{page.token}/stop", {"Origin": "https://evil.example"})[0] == 403
    assert ask(page, "POST", f"/{page.token}/stop", {"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert ask(page, "POST", f"/{page.token}/stop", {"Content-Length": "9999999"})[0] == 413
    assert ask(page, "POST", f"/{page.token}/stop", {"Content-Length": "-5"})[0] == 413
    assert ask(page, "GET", f"/{page.token}/stop")[0] == 404
    assert not progress.stop_requested
    assert ask(page, "POST", f"/{page.token}/stop", {"Origin": f"http://127.0.0.1:{page.port}"})[0] == 204
    assert progress.stop_requested


def test_events_arrive_without_asking_again(
    page: LivePage, progress: StudyProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_page, "MIN_GAP_S", 0.01)
    connection, answer = follow(page)
    assert answer.getheader("Content-Type") == "text/event-stream; charset=utf-8"
    assert event(answer)["studies"][0]["board"] == []
    progress.show_board([BoardRow(HOSTILE, "accuracy", None)])
    progress.show_sample("?", {HOSTILE: HOSTILE})
    while not (found := event(answer)["studies"][0])["sample"]:
        pass
    assert found["board"][0]["name"] == HOSTILE
    assert found["sample"]["answers"] == [[HOSTILE, HOSTILE]]
    progress.end()
    while not event(answer)["ended"]:
        pass
    assert answer.read() == b""  # the stream ends with the study
    connection.close()


def test_an_open_page_receives_the_end_before_the_server_goes(progress: StudyProgress) -> None:
    with LivePage(progress) as page:
        connection, answer = follow(page)
        event(answer)
        progress.end("The disk is full.")
    found = event(answer)
    assert (found["ended"], found["error"]) == (True, "The disk is full.")
    connection.close()


def test_too_many_pages_are_refused(page: LivePage) -> None:
    streams = [follow(page) for _ in range(MAX_STREAMS)]
    for _, answer in streams:
        event(answer)
    assert ask(page, "GET", f"/{page.token}/events")[0] == 503
    for connection, answer in streams:
        answer.close()
        connection.close()


def test_reports_are_served_in_a_sandbox(page: LivePage, progress: StudyProgress, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    progress.show_report(report)
    assert ask(page, "GET", f"/{page.token}/report/0")[0] == 404  # not written yet
    report.write_text("<h1>Report</h1>", encoding="utf-8")
    status, headers, body = ask(page, "GET", f"/{page.token}/report/0")
    assert (status, body) == (200, b"<h1>Report</h1>")
    assert "sandbox" in headers["content-security-policy"]
    assert "allow-same-origin" not in headers["content-security-policy"]
    assert ask(page, "HEAD", f"/{page.token}/report/0")[2] == b""
    assert ask(page, "GET", f"/{page.token}/report/1")[0] == 404
    assert ask(page, "GET", "/wrong/report/0")[0] == 404


def raw(page: LivePage, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        connection.sendall(request)
        found = b""
        while part := connection.recv(4096):
            found += part
    return found


def test_numbers_too_long_to_parse_and_broken_addresses_are_answered(page: LivePage, progress: StudyProgress) -> None:
    digits = "9" * 5_000
    assert ask(page, "GET", f"/{page.token}/report/{digits}")[0] == 404
    assert ask(page, "HEAD", f"/{page.token}/report/{digits}")[0] == 404
    assert ask(page, "POST", f"/{page.token}/stop", {"Content-Length": digits})[0] == 413
    host = f"Host: 127.0.0.1:{page.port}\r\n\r\n".encode()
    for line in (b"GET http://[::1/x HTTP/1.1", b"POST http://[x]y/ HTTP/1.1", b"GET http://[/ HTTP/1.0"):
        assert raw(page, line + b"\r\n" + host).split(b" ", 2)[1] in (b"400", b"404"), line
    assert not progress.stop_requested


def test_connections_are_limited_and_further_ones_are_told(page: LivePage) -> None:
    silent = [socket.create_connection(("127.0.0.1", page.port), timeout=10) for _ in range(MAX_CONNECTIONS)]
    assert ask(page, "GET", f"/{page.token}/")[0] == 503
    for connection in silent:
        connection.close()
    until = time.monotonic() + 10
    while (status := ask(page, "GET", f"/{page.token}/")[0]) == 503 and time.monotonic() < until:
        time.sleep(0.05)
    assert status == 200
