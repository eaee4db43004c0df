"""Reading pages from a server of our own; the resolver says it is public, and the connection goes to the loopback."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sizewise.documents import ReadOptions, crawling, read_paths
from sizewise.documents.addresses import Refused, Target
from sizewise.documents.crawling import Downloads, Fetcher, links_of
from sizewise.errors import SizewiseError, UsageError

PUBLIC = "93.184.215.14"
WORDS = "The harbor office opens at eight."
HTML = "text/html; charset=utf-8"
Answer = tuple[int, dict[str, str], bytes]


def page(*links: str, words: str = WORDS) -> Answer:
    return 200, {"Content-Type": HTML}, f"<p>{words}</p>{''.join(f'<a href={link}>x</a>' for link in links)}".encode()


class Site:
    """A server, and the requests it got."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer] = {"/robots.txt": (404, {}, b"")}
        self.asked: list[tuple[str, str]] = []
        self.lookups: list[str] = []
        self.answers = [[PUBLIC]]
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.headers["Host"], self.path))
                status, headers, body = site.pages.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in {"Content-Length": f"{len(body)}", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def resolve(self, host: str, port: int) -> list[str]:
        self.lookups.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def connect(self, target: Target, address: str) -> http.client.HTTPConnection:
        assert address == PUBLIC
        plain = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=5)
        plain._http_vsn_str = "HTTP/1.1"  # type: ignore[attr-defined]
        request = plain.request

        def with_host(method: str, url: str, headers: dict[str, str]) -> None:
            request(method, url, headers={**headers, "Host": target.host})

        plain.request = with_host  # type: ignore[method-assign,assignment]
        return plain

    def fetcher(self, *hosts: str) -> Fetcher:
        return Fetcher(hosts or ("example.com",), self.resolve, self.connect, wait=lambda seconds: None)


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_a_page_is_fetched_from_the_address_that_was_checked(site: Site) -> None:
    site.pages["/a"] = page()
    found = site.fetcher().fetch("https://example.com/a")
    assert (found.url, found.kind) == ("https://example.com/a", ".html")
    assert WORDS.encode() in found.data
    assert site.asked == [("example.com", "/robots.txt"), ("example.com", "/a")]


def test_a_second_answer_of_the_name_server_has_no_effect(site: Site) -> None:
    site.pages["/a"] = page()
    site.answers = [[PUBLIC], ["127.0.0.1"]]
    with pytest.raises(Refused, match=r"private or reserved address 127\.0\.0\.1"):
        site.fetcher().fetch("https://example.com/a")
    assert [path for _, path in site.asked] == ["/robots.txt"]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1/secret", "not listed"),
        ("http://169.254.169.254/latest/meta-data", "not listed"),
        ("https://evil.test/", "not listed"),
        ("file:///etc/passwd", "scheme"),
        ("https://example.com@evil.test/", "user name"),
        ("https://example.com:22/", "port"),
        ("/a", "redirects more than 5"),
        ("", "nowhere"),
    ],
)
def test_redirects_are_checked_again(site: Site, location: str, reason: str) -> None:
    site.pages["/a"] = (302, {"Location": location}, b"")
    with pytest.raises(Refused, match=reason):
        site.fetcher().fetch("https://example.com/a")


def test_redirects_within_the_list_are_followed(site: Site) -> None:
    site.pages |= {"/a": (301, {"Location": "https://www.example.com/b"}, b""), "/b": page()}
    assert (
        site.fetcher("example.com", "www.example.com").fetch("https://example.com/a").url == "https://www.example.com/b"
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, {"Content-Type": HTML, "Content-Length": "99999999999"}, b"x"), "larger than"),
        ((200, {"Content-Type": HTML, "Content-Encoding": "gzip"}, gzip.compress(bytes(30 * 2**20))), "larger than"),
        ((200, {"Content-Type": HTML, "Content-Encoding": "deflate"}, zlib.compress(bytes(30 * 2**20))), "larger than"),
        ((200, {"Content-Type": HTML, "Content-Encoding": "br"}, b"x"), "compressed as br"),
        ((200, {"Content-Type": HTML, "Content-Encoding": "gzip, gzip"}, b"x"), "compressed as gzip, gzip"),
        ((200, {"Content-Type": HTML, "Content-Encoding": "gzip"}, b"no gzip"), "cannot be reached"),
        ((200, {"Content-Type": "image/png"}, b"x"), "unsupported type image/png"),
        ((200, {"Content-Type": "application/octet-stream"}, b"x"), "unsupported type"),
        ((403, {}, b""), "answered 403"),
        ((500, {}, b""), "answered 500"),
    ],
)
def test_answers_that_cannot_be_used(site: Site, answer: Answer, reason: str) -> None:
    site.pages["/a"] = answer
    with pytest.raises(Refused, match=reason):
        site.fetcher().fetch("https://example.com/a")


@pytest.mark.parametrize(
    ("robots", "reason"),
    [
        ((200, {}, b"User-agent: *\nDisallow: /private"), "forbids"),
        ((200, {}, b"User-agent: sizewise\nDisallow: /"), "forbids"),
        ((503, {}, b""), "cannot be read"),
        ((302, {"Location": "http://127.0.0.1/robots.txt"}, b""), "cannot be read"),
        ((200, {}, b"#" * 600_000), "cannot be read"),
    ],
)
def test_robots_txt_is_respected(site: Site, robots: Answer, reason: str) -> None:
    site.pages |= {"/robots.txt": robots, "/private/a": page()}
    with pytest.raises(Refused, match=reason):
        site.fetcher().fetch("https://example.com/private/a")
    assert [path for _, path in site.asked] == ["/robots.txt"]


def test_a_crawl_stays_on_the_list_and_below_its_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages |= {
        "/": page(
            "/a", "b.html", "https://evil.test/", "http://127.0.0.1/x", "mailto:a@b.c", "#top", "/", words="Start."
        ),
        "/a": page("/c", words="Page A."),
        "/b.html": page(words="Page B."),
        "/c": page("/d", words="Page C."),
        "/d": page(words="Page D."),
    }
    monkeypatch.delenv("SIZEWISE_OFFLINE", raising=False)
    monkeypatch.setattr(crawling, "Fetcher", lambda hosts: site.fetcher(*hosts))
    reading = read_paths(["https://example.com/"], ReadOptions(allow_hosts=("example.com",), max_pages=4))
    texts = {document.id: document.text.split(".")[0] for document in reading.documents}
    assert texts == {
        "https://example.com/": "Start",
        "https://example.com/a": "Page A",
        "https://example.com/b.html": "Page B",
        "https://example.com/c": "Page C",
    }
    assert [document.origin for document in reading.documents] == list(texts)
    assert {host for host, _ in site.asked} == {"example.com"}


def test_links_are_absolute_and_without_fragments() -> None:
    found = links_of(crawling.Page("https://example.com/x/", ".html", page("y", "/z#a", "../w")[2]))
    assert found == ["https://example.com/x/y", "https://example.com/z", "https://example.com/w"]


def test_the_pinned_connection_names_the_host_and_goes_to_the_address(site: Site) -> None:
    site.pages["/a"] = page()
    connection = crawling.connect_pinned(Target("http", "example.com", site.server.server_port, "/a"), "127.0.0.1")
    connection.request("GET", "/a")
    assert WORDS.encode() in connection.getresponse().read()
    connection.close()
    assert site.asked == [(f"example.com:{site.server.server_port}", "/a")]
    secure = crawling.connect_pinned(Target("https", "example.com", site.server.server_port, "/a"), "127.0.0.1")
    with pytest.raises(OSError, match="SSL"):
        secure.request("GET", "/a")
    secure.close()


def test_an_address_that_is_not_listed_is_misuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIZEWISE_OFFLINE", raising=False)
    with pytest.raises(UsageError, match=r"--allow-host example\.com"):
        read_paths(["https://example.com/"])
    with pytest.raises(UsageError, match="scheme"):
        Downloads(["file:///etc/passwd"], ReadOptions())


def test_offline_forbids_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIZEWISE_OFFLINE", "1")
    with pytest.raises(SizewiseError, match="SIZEWISE_OFFLINE"):
        read_paths(["https://example.com/"], ReadOptions(allow_hosts=("example.com",)))


def test_an_answer_that_was_cut_off_is_refused(site: Site) -> None:
    whole = f"<p>{WORDS * 50}</p>".encode()
    packed = gzip.compress(whole)
    site.pages["/short"] = 200, {"Content-Type": HTML, "Content-Length": f"{2 * len(whole)}"}, whole
    site.pages["/gzip"] = 200, {"Content-Type": HTML, "Content-Encoding": "gzip"}, packed[:-12]
    site.pages["/whole"] = 200, {"Content-Type": HTML, "Content-Encoding": "gzip"}, packed

    for path in ("short", "gzip"):
        with pytest.raises(Refused, match="cut off"):
            site.fetcher().fetch(f"http://example.com/{path}")
    assert site.fetcher().fetch("http://example.com/whole").data == whole


def test_refused_pages_count_against_the_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawling, "_check_allowed", lambda urls, options: None)
    site.pages["/"] = page(*(f"/missing{i}" for i in range(200)))
    options = ReadOptions(allow_hosts=("example.com",), max_pages=3)
    with Downloads(["http://example.com/"], options, site.fetcher()) as downloads:
        assert len(list(downloads.files([]))) == 1
    assert len(site.asked) == 1 + 2 * 3 + 10
    assert downloads.refused[-1][1] == "stopped after 16 requests, most of them refused"


def test_a_server_that_drips_is_left_in_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawling, "SECONDS", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                peer.sendall(b"X: y\r\n")
                time.sleep(0.02)

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()

    def connect(target: Target, address: str) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=5)

    start = time.monotonic()
    with listener, pytest.raises(Refused, match=r"took longer than|cannot be reached"):
        Fetcher(("example.com",), site.resolve, connect).fetch("http://example.com/a")
    thread.join(timeout=5)
    assert time.monotonic() - start < 5


def test_the_reason_is_that_of_the_connection_not_of_robots_txt(site: Site) -> None:
    site.answers = [["10.0.0.1"]]
    with pytest.raises(Refused, match=r"the host example.com has the private or reserved address 10\.0\.0\.1"):
        site.fetcher().fetch("http://example.com/a")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]

    def refuse(target: Target, address: str) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", closed, timeout=5)

    site.answers = [[PUBLIC]]
    with pytest.raises(Refused, match=r"^cannot be reached \(ConnectionRefusedError"):
        Fetcher(("example.com",), site.resolve, refuse).fetch("http://example.com/a")
