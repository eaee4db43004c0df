"""Read web pages and the pages they link to, from listed hosts only (see `addresses`)."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import tempfile
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urldefrag, urljoin
from urllib.robotparser import RobotFileParser

from sizewise.documents.addresses import (
    Refused,
    Resolve,
    Target,
    Unreachable,
    check_behind_proxy,
    check_url,
    is_url,
    pinned_address,
    resolve_host,
)
from sizewise.documents.reading import ReadOptions
from sizewise.errors import SizewiseError, UsageError
from sizewise.network import check_certificates, connect_through, proxy_of
from sizewise.privacy import offline

AGENT = "sizewise"
MAX_BYTES = 20 * 2**20
MAX_REDIRECTS = 5
SECONDS, CONNECT_SECONDS = 30.0, 10.0
MAX_ROBOTS_BYTES = 500 * 1024  # RFC 9309
MAX_DELAY_S = 10.0
MAX_REQUESTS_PER_PAGE, MORE_REQUESTS = 2, 10
"""Requests of a crawl for each page that may be read, and on top; pages that are refused cost requests as well."""
CHUNK = 65_536
KINDS = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/epub+zip": ".epub",
    "application/rtf": ".rtf",
}
Named = tuple[Path, str]
Connect = Callable[[Target, str], http.client.HTTPConnection]


class Page(NamedTuple):
    """A page that was fetched."""

    url: str
    """Address after redirects."""
    kind: str
    """File extension by the content type."""
    data: bytes
    """The decoded body."""


class _PinnedHTTP(http.client.HTTPConnection):
    """A connection to an address that was checked, whatever the host resolves to now."""

    def __init__(self, target: Target, address: str) -> None:
        super().__init__(target.host, target.port, timeout=CONNECT_SECONDS)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)


class _PinnedHTTPS(http.client.HTTPSConnection):
    """The same with TLS; the certificate must be that of the host."""

    def __init__(self, target: Target, address: str) -> None:
        self._context = ssl.create_default_context()
        super().__init__(target.host, target.port, timeout=CONNECT_SECONDS, context=self._context)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def connect_pinned(target: Target, address: str) -> http.client.HTTPConnection:
    """Prepare a connection to a checked address."""
    return (_PinnedHTTPS if target.scheme == "https" else _PinnedHTTP)(target, address)


class Fetcher:
    """Fetches pages from listed hosts, with limits on size and time, as robots.txt allows.

    Args:
        allow_hosts: Hosts that may be read from.
        resolve: Look up the addresses of a host.
        connect: Prepare a connection to a checked address.
        wait: Wait for a number of seconds, where robots.txt asks for it.
    """

    def __init__(
        self,
        allow_hosts: Sequence[str],
        resolve: Resolve = resolve_host,
        connect: Connect = connect_pinned,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._allow, self._resolve, self._connect, self._wait = tuple(allow_hosts), resolve, connect, wait
        self._robots: dict[tuple[str, str, int], RobotFileParser | str] = {}
        self._last: dict[str, float] = {}

    def fetch(self, url: str) -> Page:
        """Fetch a page, and follow redirects to listed hosts.

        Raises:
            Refused: The address or one it redirects to is not allowed, or the answer can't be used.
        """
        for _ in range(MAX_REDIRECTS + 1):
            target = check_url(url, self._allow)
            self._obey_robots(target)
            status, headers, data = self._get(target, MAX_BYTES)
            if status in (301, 302, 303, 307, 308):
                location = headers.get("Location", "")
                if not location:
                    raise Refused("redirects to nowhere")
                url = urldefrag(urljoin(target.url, location)).url
                continue
            if status != 200:
                raise Refused(f"the server answered {status}")
            kind = KINDS.get(headers.get_content_type())
            if kind is None:
                raise Refused(f"unsupported type {headers.get_content_type()}")
            if kind in (".html", ".txt", ".md"):
                data = _recoded(data, headers.get_content_charset())
            return Page(target.url, kind, data)
        raise Refused(f"redirects more than {MAX_REDIRECTS} times")

    def _obey_robots(self, target: Target) -> None:
        key = (target.scheme, target.host, target.port)
        if key not in self._robots:
            self._robots[key] = self._read_robots(target)
        rules = self._robots[key]
        if isinstance(rules, str):
            raise Refused(rules)
        if not rules.can_fetch(AGENT, target.url):
            raise Refused("its robots.txt forbids it")
        delay = min(MAX_DELAY_S, float(rules.crawl_delay(AGENT) or 0))
        since = time.monotonic() - self._last.get(target.host, -MAX_DELAY_S)
        if since < delay:
            self._wait(delay - since)
        self._last[target.host] = time.monotonic()

    def _read_robots(self, target: Target) -> RobotFileParser | str:
        """Return the rules of a host, or why none of its pages may be read (RFC 9309)."""
        rules = RobotFileParser()
        robots = target._replace(path="/robots.txt")
        for _ in range(MAX_REDIRECTS):
            try:
                status, headers, data = self._get(robots, MAX_ROBOTS_BYTES)
                if status in (301, 302, 303, 307, 308):
                    robots = check_url(urljoin(robots.url, headers.get("Location", "")), self._allow)
                    continue
            except Refused as reason:
                return f"{reason}" if isinstance(reason, Unreachable) else f"its robots.txt cannot be read ({reason})"
            if status >= 500 or status == 429:
                return f"its robots.txt cannot be read (the server answered {status})"
            rules.parse(data.decode("utf-8", "replace").splitlines() if status == 200 else [])
            return rules
        return f"its robots.txt redirects more than {MAX_REDIRECTS} times"

    def _get(self, target: Target, max_bytes: int) -> tuple[int, http.client.HTTPMessage, bytes]:
        headers = {
            "User-Agent": AGENT,
            "Accept-Encoding": "gzip, identity",
            "Accept": ", ".join(KINDS),
            "Connection": "close",
        }
        path, proxy = target.path, proxy_of(target.scheme, target.host)
        if proxy is None:
            connection = self._connect(target, pinned_address(target, self._resolve))
        else:
            check_behind_proxy(target, self._resolve)
            secure = target.scheme == "https"
            connection = connect_through(proxy, target.host, target.port, secure, CONNECT_SECONDS)
            if not secure:
                path, headers = target.url, headers | proxy.headers
        try:
            with _TimeLimit(connection, SECONDS) as limit:
                connection.request("GET", path, headers=headers)
                limit.also(connection.sock)
                answer = connection.getresponse()
                return answer.status, answer.headers, _read_body(answer, max_bytes)
        except (OSError, http.client.HTTPException, zlib.error, ValueError, Refused) as error:
            if limit.passed:
                raise Unreachable(f"took longer than {SECONDS:.0f} s") from error
            if isinstance(error, Refused):
                raise
            raise Unreachable(f"cannot be reached ({type(error).__name__}: {str(error)[:100]})") from error
        finally:
            connection.close()


class _TimeLimit:
    """Ends a connection after some seconds, whatever it is waiting for: a server may send a byte at a time."""

    def __init__(self, connection: http.client.HTTPConnection, seconds: float) -> None:
        self._connection, self._sockets = connection, list[socket.socket]()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self.passed = False

    def __enter__(self) -> _TimeLimit:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def also(self, sock: socket.socket) -> None:
        """Keep the socket of the connection, which `http.client` hands over to the answer."""
        self._sockets.append(sock)
        if self.passed:
            self._end()

    def _end(self) -> None:
        self.passed = True
        for sock in (self._connection.sock, *self._sockets):
            if sock is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _read_body(answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """Read a body in pieces, and decompress it no further than the limit.

    Raises:
        Refused: It is too large, or ends before its end.
    """
    length = answer.getheader("Content-Length", "").strip()
    if length.isdigit() and int(length) > max_bytes:
        raise Refused(f"larger than {max_bytes / 2**20:.1f} MB")
    encoding = (answer.getheader("Content-Encoding") or "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise Refused(f"compressed as {encoding}")
    unpack = None if encoding == "identity" else zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    data, received = bytearray(), 0
    while piece := answer.read1(CHUNK):
        received += len(piece)
        data += piece if unpack is None else unpack.decompress(piece, max_bytes + 1 - len(data))
        if len(data) > max_bytes or (unpack is not None and unpack.unconsumed_tail):
            raise Refused(f"larger than {max_bytes / 2**20:.1f} MB")
    if length.isdigit() and not answer.chunked and received < int(length):
        raise Refused(f"cut off after {received:,} of {int(length):,} bytes; read it again later")
    if unpack is not None and received and not unpack.eof:
        raise Refused(f"cut off: its {encoding} data has no end; read it again later")
    return bytes(data)


def _recoded(data: bytes, charset: str | None) -> bytes:
    """Recode a text to UTF-8 from the charset that the server states, unless it is valid UTF-8."""
    if charset and charset.lower() not in ("utf-8", "utf8"):
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            with contextlib.suppress(LookupError, UnicodeDecodeError):
                return data.decode(charset).encode("utf-8")
    return data


def links_of(page: Page) -> list[str]:
    """Return the addresses that a web page links to, without repetitions."""
    if page.kind != ".html":
        return []
    from bs4 import BeautifulSoup
    from bs4.filter import SoupStrainer

    links = BeautifulSoup(page.data, "html.parser", parse_only=SoupStrainer("a"), from_encoding="utf-8").find_all("a")
    found = []
    for link in links:
        href = link.get("href")
        if isinstance(href, str) and "nofollow" not in (link.get("rel") or []):
            with contextlib.suppress(ValueError):
                found.append(urldefrag(urljoin(page.url, href.strip())).url)
    return list(dict.fromkeys(found))


class Downloads:
    """Replaces addresses in a list of sources by the pages fetched from them, in a temporary folder.

    Attributes:
        paths: The sources that are no addresses.
        origins: Path of a downloaded file -> its address.
        refused: (address, reason) of pages that were not read.
    """

    def __init__(
        self,
        sources: Sequence[Path | str],
        options: ReadOptions,
        fetcher: Fetcher | None = None,
        folder: Path | None = None,
    ) -> None:
        self.paths = [source for source in sources if not is_url(source)]
        self._urls = [str(source) for source in sources if is_url(source)]
        self._options = options
        self.origins: dict[Path, str] = {}
        self.refused: list[tuple[str, str]] = []
        if self._urls:
            _check_allowed(self._urls, options)
        self._folder = tempfile.TemporaryDirectory(prefix="sizewise-pages-", dir=folder) if self._urls else None
        self._fetcher = fetcher or Fetcher(options.allow_hosts)

    def __enter__(self) -> Downloads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def files(self, others: Iterable[Named]) -> Iterator[Named]:
        """Yield the other files, then the pages."""
        yield from others
        for url in self._urls:
            yield from self._crawl(url)

    def _crawl(self, start: str) -> Iterator[Named]:
        """Fetch a page and the pages it links to on listed hosts, breadth first."""
        waiting, known, fetched = deque([urldefrag(start).url]), {start}, 0
        requests, max_requests = 0, MAX_REQUESTS_PER_PAGE * self._options.max_pages + MORE_REQUESTS
        while waiting and fetched < self._options.max_pages:
            url = waiting.popleft()
            requests += 1
            if requests > max_requests:
                self.refused.append((url, f"stopped after {max_requests:,} requests, most of them refused"))
                return
            try:
                page = self._fetcher.fetch(url)
            except Refused as reason:
                self.refused.append((url, str(reason)))
                continue
            if page.url in self.origins.values():
                continue
            fetched += 1
            yield self._saved(page)
            for link in links_of(page):
                if link not in known and _is_allowed(link, self._options.allow_hosts):
                    known.add(link)
                    waiting.append(link)

    def _saved(self, page: Page) -> Named:
        assert self._folder is not None
        name = page.url.rstrip("/").rpartition("/")[2].partition("?")[0]
        stem = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in Path(name).stem)[:60]
        folder = Path(self._folder.name) / f"{len(self.origins)}"
        folder.mkdir(mode=0o700)
        path = folder / f"{stem or 'page'}{page.kind}"
        path.write_bytes(page.data)
        self.origins[path] = page.url
        return path, page.url


def _is_allowed(url: str, allow_hosts: Sequence[str]) -> bool:
    try:
        check_url(url, allow_hosts)
    except Refused:
        return False
    return True


def _check_allowed(urls: Sequence[str], options: ReadOptions) -> None:
    """Check the addresses that were asked for.

    Raises:
        SizewiseError: SIZEWISE_OFFLINE is set.
        UsageError: An address isn't allowed.
    """
    if offline():
        raise SizewiseError(
            f"{urls[0]} can't be read, because SIZEWISE_OFFLINE forbids connections.",
            "a file or folder",
            "run the command without SIZEWISE_OFFLINE, or save the page and read the file",
        )
    check_certificates()
    for url in urls:
        try:
            check_url(url, options.allow_hosts)
        except Refused as reason:
            raise UsageError(
                f"{url} is not read: {reason}.",
                "an https:// or http:// address on a public host that is listed with --allow-host",
                "sizewise read https://HOST/PATH --allow-host HOST [--max-pages N]",
            ) from reason
