"""A company's network on the loopback interface: a certificate authority, and a proxy that answers for every host."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

Answer = tuple[int, str, bytes]


class Network(NamedTuple):
    """What a test knows about the network."""

    proxy: str
    """Address of the proxy."""
    authority: Path
    """PEM file of the certificate authority."""
    pages: dict[str, Answer]
    """HOST/PATH -> status, content type, body."""
    requests: list[str]
    """METHOD HOST/PATH of every request, and CONNECT HOST:PORT of every tunnel."""
    credentials: list[str]
    """User and password of every request to the proxy."""


def make_authority(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for *.example.com, valid for two days, and its key."""
    certificate, key = folder / "authority.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=Test", "-addext", "subjectAltName=DNS:*.example.com"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@contextmanager
def company_network(folder: Path) -> Iterator[Network]:
    """Serve the network; it needs openssl for its certificates."""
    certificate, key = make_authority(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = _Server(context)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield Network(address, certificate, server.pages, server.requests, server.credentials)
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Opens tunnels, and answers what is asked in them or as a whole address."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_CONNECT(self) -> None:
        self._note()
        self.server.requests.append(f"CONNECT {self.path}")
        self.send_response(200)
        self.end_headers()
        try:
            self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        except OSError:  # the client doesn't trust the certificate
            self.close_connection = True
            return
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)  # type: ignore[assignment]
        self.close_connection = False

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        whole = self.path.startswith("http://")
        if whole:
            self._note()
        page = self.path.removeprefix("http://") if whole else f"{self.headers['Host']}{self.path}"
        self.server.requests.append(f"{self.command} {page}")
        status, kind, body = self.server.pages.get(page, (404, "text/plain", b"not here"))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _note(self) -> None:
        given = self.headers.get("Proxy-Authorization", "")
        if given.startswith("Basic "):
            self.server.credentials.append(base64.b64decode(given.removeprefix("Basic ")).decode())

    def finish(self) -> None:
        for file in (self.wfile, self.rfile):
            file.close()
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """Notes what it was asked."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.context = context
        self.pages: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.credentials: list[str] = []


def has_openssl() -> bool:
    """Check whether certificates can be made."""
    return shutil.which("openssl") is not None
