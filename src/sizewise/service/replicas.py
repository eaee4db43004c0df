"""Servers that answer as one model: the least loaded one that works gets the next request.

Whether a server works is learned from requests that fail, and from probes. Providers are never probed: a probe would be
a connection without a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sizewise.service.schemas import APIError

if TYPE_CHECKING:
    import httpx2

PROBE_S, DOWN_PROBE_S = 5.0, 1.0
"""Seconds between probes of a server that works, and of one that doesn't."""
PROBE_TIMEOUT_S = 5.0
MAX_FAILED_PROBES = 2
"""Probes in a row that a working server may fail."""
RETRY_DOWN_S = 5.0
"""Seconds after which a server that isn't probed is tried again."""
STALLED_S = 30.0
"""Seconds in which a server that let a request run out of time gets others only where no other server is left."""
MAX_BROKEN_ANSWERS = 2
"""Servers that may break off the same request: one that crashes engines must not reach them all."""
_NO_SUCH_PATH = (404, 405, 501)
_LOG = logging.getLogger("sizewise.service")


class ReplicaFailed(Exception):
    """A server failed before the client received anything.

    Args:
        error: what the client is told if no other server answers.
        sent: whether the server had received the request.
        down: why the server doesn't work; empty: it does, but refused this request.
    """

    def __init__(self, error: APIError, *, sent: bool, down: str = "") -> None:
        super().__init__(error.message)
        self.error, self.sent, self.down = error, sent, down


class Replica:
    """One server.

    Args:
        client: client with the server's base URL and key.
        address: base URL.
        model: the server's name of the model.
        why: returns why its engine isn't running, where this service supervises it.
    """

    def __init__(
        self, client: httpx2.AsyncClient, address: str, model: str, why: Callable[[], str] | None = None
    ) -> None:
        self.client, self.address, self.model = client, address, model
        self._why = why or (lambda: "")
        self.running = 0
        """Requests in progress."""
        self.failure = ""
        """Why it doesn't work; empty: it does, or hasn't been tried."""
        self.retry_at = 0.0
        self.stalled_until = 0.0
        self._failed_probes = 0
        self._worked = False

    @property
    def place(self) -> str:
        """Host and port."""
        return urlsplit(self.address).netloc

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request in progress."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def fail(self, reason: str) -> None:
        """Note that the server doesn't work."""
        reason = self._why() or reason
        if not self.failure:
            _LOG.error("%s fails: %s", self.place, reason)
        self.failure, self.retry_at = reason, monotonic() + RETRY_DOWN_S

    def stall(self) -> None:
        """Note that a request ran out of time without an answer; an engine that hangs may still say that it's well."""
        _LOG.warning("%s let a request run out of time", self.place)
        self.stalled_until = monotonic() + STALLED_S

    def answer(self) -> None:
        """Note that the server began an answer."""
        self.stalled_until = 0.0
        self.succeed()

    def succeed(self) -> None:
        """Note that the server works."""
        if self.failure:
            _LOG.warning("%s works again", self.place)
        self.failure, self._failed_probes, self._worked = "", 0, True

    async def check_health(self) -> None:
        """Ask for its health, or for its models where it has no such path; any answer but a failure will do."""
        import httpx2

        root = self.address.removesuffix("/v1")
        reason = ""
        try:
            status = 404
            for url in (f"{root}/health", f"{self.address}/models"):
                status = (await self.client.get(url, timeout=PROBE_TIMEOUT_S)).status_code
                if status not in _NO_SUCH_PATH:
                    break
            if status >= 500 and status not in _NO_SUCH_PATH:
                reason = f"its health is {status}"
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            reason = str(error) or type(error).__name__
        if not reason:
            self.succeed()
            return
        self._failed_probes += 1
        if self._failed_probes >= MAX_FAILED_PROBES or not self._worked or self._why():
            self.fail(reason)

    @property
    def doubtful(self) -> bool:
        """Whether the last request or probe failed."""
        return bool(self.failure) or self._failed_probes > 0


class Replicas:
    """The servers of a model.

    Args:
        servers: the servers.
        probed: whether to ask them for their health.
    """

    def __init__(self, servers: Sequence[Replica], probed: bool) -> None:
        self.servers, self._probed = tuple(servers), probed
        self._last: Replica | None = None

    @property
    def failure(self) -> str:
        """Why no server works; empty if one does."""
        if not self._probed or not all(server.failure for server in self.servers):
            return ""
        return "; ".join(f"{server.place}: {server.failure}" for server in self.servers)

    def pick(self, tried: Collection[Replica] = ()) -> Replica | None:
        """Return the least loaded working server that wasn't tried, None if there is none. Equals take turns."""
        if len(self.servers) == 1 and not self._probed:
            return None if tried else self.servers[0]
        now = monotonic()
        left = [server for server in self.servers if server not in tried]
        usable = [one for one in left if not one.failure or (not self._probed and now >= one.retry_at)]
        if not usable:
            return None
        usable = [one for one in usable if now >= one.stalled_until] or usable
        least = min(server.running for server in usable)
        equal = [server for server in usable if server.running == least]
        after = (equal.index(self._last) + 1) % len(equal) if self._last in equal else 0
        self._last = equal[after]
        return self._last

    async def watch(self) -> None:
        """Probe the servers until cancelled."""
        if self._probed:
            await asyncio.gather(*(self._watch(server) for server in self.servers))

    @staticmethod
    async def _watch(server: Replica) -> None:
        while True:
            try:
                await server.check_health()
            except Exception:  # a client that was closed by a reload, for example
                _LOG.exception("A probe of %s failed", server.place)
            await asyncio.sleep(DOWN_PROBE_S if server.doubtful else PROBE_S)

    async def close(self) -> None:
        """Close the connections."""
        for server in self.servers:
            await server.client.aclose()
