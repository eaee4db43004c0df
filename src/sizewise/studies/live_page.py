"""The live page of a running study: a small server in the study's process, for this machine and one token only."""

from __future__ import annotations

import json
import secrets
import socketserver
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from sizewise.studies.progress import StudyProgress

ADDRESS = "127.0.0.1"
MAX_STREAMS = 16
"""Pages that may follow the study at the same time."""
MIN_GAP_S = 0.4
"""Seconds between two events on a stream, however fast the state changes."""
MAX_GAP_S = 5.0
"""Seconds after which an event is sent without a change, so that the estimates stay fresh."""
FAREWELL_S = 2.0
"""Seconds for which the end waits until open pages have received it."""
TIMEOUT_S = 20.0
"""Seconds after which a silent connection is closed."""
MAX_CONNECTIONS = 64
"""Connections that are served at the same time; further ones are answered with 503."""
REFUSAL_S = 0.2
"""Seconds for which a connection that isn't served is read, so that its answer arrives."""
MAX_BODY = 1000
"""Bytes of a request's body that are read and ignored."""

MAX_DIGITS = 9
"""Digits of a number in a request; Python refuses to parse thousands of them."""

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
BUSY = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
    b"X-Content-Type-Options: nosniff\r\nConnection: close\r\nContent-Length: 24\r\n\r\n503 Service Unavailable\n"
)
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# The report is a file of its own with inline styles and scripts; in a sandbox it can't act in this page's name.
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts allow-downloads allow-modals"
)


class LivePage:
    """Serve the live page of a study on a free port until it is closed.

    Args:
        progress: the study.

    Raises:
        OSError: no local server can be started.
    """

    def __init__(self, progress: StudyProgress) -> None:
        self.progress = progress
        self.token = secrets.token_urlsafe(18)
        self.streams = threading.BoundedSemaphore(MAX_STREAMS)
        self.open_streams = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server((ADDRESS, 0), _Handler)
        self._server.page = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="live-page", daemon=True)

    @property
    def port(self) -> int:
        """Port of the server."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Address of the page, with its token."""
        return f"http://{ADDRESS}:{self.port}/{self.token}/"

    def __enter__(self) -> LivePage:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until open pages know the end, and stop serving."""
        until = time.monotonic() + FAREWELL_S
        while self.open_streams and self.progress.ended and time.monotonic() < until:
            time.sleep(0.02)
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, change: int) -> None:
        """Count a stream that opens or closes."""
        with self._lock:
            self.open_streams += change


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    page: LivePage
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or answer 503 if too many are open."""
        if not self._free.acquire(blocking=False):
            self._refuse(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection and count it as closed afterwards."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def _refuse(self, request: Any) -> None:
        try:
            request.settimeout(REFUSAL_S)
            request.sendall(BUSY)
            request.recv(65_536)  # closing with unread data would take the answer back
        except OSError:
            pass
        finally:
            self.shutdown_request(request)

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that break."""


class _Handler(BaseHTTPRequestHandler):
    """Answers the page, its stream of events, the reports and the stop button; nothing else."""

    server: _Server
    timeout = TIMEOUT_S
    server_version = "sizewise"
    sys_version = ""

    def do_GET(self) -> None:
        """Send the page, the events or a report."""
        path = self._path()
        if path == "":
            self._send_page()
        elif path == "events":
            self._send_events()
        elif path is not None and path.startswith("report/"):
            self._send_report(path.removeprefix("report/"))
        elif path is not None:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        """Answer whether a report is there."""
        path = self._path()
        if path is not None and path.startswith("report/"):
            self._send_report(path.removeprefix("report/"))
        elif path is not None:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Request the study to stop."""
        path = self._path()
        if path is None:
            return
        origin = self.headers.get("Origin")
        if path != "stop":
            self._refuse(HTTPStatus.NOT_FOUND)
        elif (origin is not None and origin != f"http://{self.headers['Host']}") or self.headers.get(
            "Sec-Fetch-Site", "same-origin"
        ) not in ("same-origin", "none"):
            self._refuse(HTTPStatus.FORBIDDEN)
        elif not self._read_body():
            self._refuse(HTTPStatus.CONTENT_TOO_LARGE if hasattr(HTTPStatus, "CONTENT_TOO_LARGE") else HTTPStatus(413))
        else:
            self.server.page.progress.request_stop()
            self._head(HTTPStatus.NO_CONTENT, "text/plain", NOTHING, 0)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep requests out of the display."""

    def _path(self) -> str | None:
        """Check host and token; return the rest of the path, or None after a refusal."""
        page = self.server.page
        if self.headers.get("Host") not in (f"{ADDRESS}:{page.port}", f"localhost:{page.port}"):
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        try:
            asked = urlsplit(self.path).path
        except ValueError:  # such as an address whose host isn't closed
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None
        token, slash, rest = asked.removeprefix("/").partition("/")
        if not slash or not secrets.compare_digest(token.encode("utf-8", "replace"), page.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        return rest

    def _read_body(self) -> bool:
        length = _whole_number(self.headers.get("Content-Length", "0"))
        if length is None or length > MAX_BODY:
            return False
        self.rfile.read(length)
        return True

    def _head(self, status: HTTPStatus, kind: str, policy: str, length: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", policy)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in SAFE_HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, body: bytes, policy: str) -> None:
        self._head(HTTPStatus.OK, "text/html; charset=utf-8", policy, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: HTTPStatus) -> None:
        body = f"{status.value} {status.phrase}\n".encode()
        self._head(status, "text/plain; charset=utf-8", NOTHING, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(12)
        policy = f"{NOTHING}; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:"
        self._send(page_html(nonce).encode(), policy)

    def _send_report(self, text: str) -> None:
        reports, number = self.server.page.progress.reports, _whole_number(text)
        if number is None or number >= len(reports):
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        try:
            body = reports[number].read_bytes()
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        self._send(body, REPORT_POLICY)

    def _send_events(self) -> None:
        page = self.server.page
        if not page.streams.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        page.count(1)
        try:
            self._head(HTTPStatus.OK, "text/event-stream; charset=utf-8", NOTHING, None)
            self._stream(page)
        except OSError:  # the page was closed
            pass
        finally:
            page.count(-1)
            page.streams.release()

    def _stream(self, page: LivePage) -> None:
        while not page.closing.is_set():
            found = page.progress.snapshot()
            self.wfile.write(f"data: {json.dumps(found, allow_nan=False)}\n\n".encode())
            self.wfile.flush()
            if found["ended"]:
                return
            page.closing.wait(MIN_GAP_S)
            page.progress.wait(found["version"], MAX_GAP_S)


def _whole_number(text: str) -> int | None:
    """Parse a number of a request; None if it isn't one, or has more digits than any that is meant."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def page_html(nonce: str) -> str:
    """Return the page with its style and script, which the policy accepts by a nonce."""
    style = (resources.files("sizewise.report") / "templates" / "page.css").read_text(encoding="utf-8")
    page = (resources.files("sizewise.studies") / "live_page.html").read_text(encoding="utf-8")
    return page.replace("/* page.css */", style).replace("NONCE", nonce)
