"""llama.cpp's server in a separate process: requests come in as JSON lines, tokens go out.

`engine.Engine` runs this file as a script; the lines are those of `openvino/process.py`. llama.cpp returns token ids
only over HTTP, so its server listens on 127.0.0.1 with a key that no one else knows. A thread for each request reads
its stream.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

NO_SCHEMA = "the schema can't be used"
CONNECT_S = 60.0
POLLING = 0  # threads that spin while they wait take the processor from everything else on a small machine


class Output:
    """Writes JSON lines to a file descriptor, from several threads.

    Args:
        descriptor: the file descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self._file, self._lock = os.fdopen(descriptor, "w", encoding="utf-8"), threading.Lock()

    def send(self, line: dict[str, Any]) -> None:
        """Write a line. A closed reader ends this process by closing the input."""
        with self._lock, suppress(BrokenPipeError):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


class Stop:
    """Ends an answer early, also one that waits for its turn."""

    def __init__(self) -> None:
        self.requested = self.ended = False
        self.connection: http.client.HTTPConnection | None = None

    def request(self) -> None:
        """End the answer."""
        self.requested = True
        if self.connection is not None and self.connection.sock is not None:
            with suppress(OSError):
                self.connection.sock.shutdown(socket.SHUT_RDWR)


class Server:
    """llama.cpp's server with an open file.

    Args:
        path: the GGUF file.
        tokens: size of the cache over all requests.
        slots: requests at a time.
        keep_prefixes: keep the cache of common beginnings of requests.
    """

    def __init__(self, path: str, tokens: int, slots: int, keep_prefixes: bool) -> None:
        import xllamacpp

        settings = xllamacpp.CommonParams()
        settings.model.path = path
        settings.n_parallel, settings.n_ctx = slots, tokens
        settings.kv_unified = True
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.cpuparams.poll = settings.cpuparams_batch.poll = POLLING
        # A mapped file would stay in memory beside the copy that llama.cpp rearranges for the processor.
        settings.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
        settings.verbosity = -1
        settings.offline = True
        self._key = secrets.token_urlsafe(32)
        settings.api_keys = [self._key]
        self._kept = keep_prefixes
        self._server = xllamacpp.Server(settings)
        self._address = urlsplit(self._server.listening_address)

    def stream(self, line: dict[str, Any], stop: Stop) -> Iterator[dict[str, Any]]:
        """Answer a request and yield the server's events.

        Args:
            line: the request line.
            stop: ends the answer early.

        Raises:
            ValueError: the server refuses the request.
            OSError: the connection broke.
        """
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=CONNECT_S)
        stop.connection = connection
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
            connection.request("POST", "/completion", json.dumps(self._body(line)), headers)
            connection.sock.settimeout(None)  # a long prompt takes minutes to read
            response = connection.getresponse()
            if response.status != 200:
                raise ValueError(_reason(response.read()))
            for data in response:
                if stop.requested:
                    return
                if data.startswith(b"data: "):
                    event = json.loads(data[6:])
                    if "error" in event:
                        raise ValueError(_reason(data[6:]))
                    yield event
                elif data.startswith(b"error: "):
                    raise ValueError(_reason(data[7:]))
        finally:
            stop.ended = True
            connection.close()  # the server stops an answer whose reader has left

    def _body(self, line: dict[str, Any]) -> dict[str, Any]:
        body = {
            "prompt": line["ids"],
            "n_predict": line["max_tokens"],
            "stream": True,
            "return_tokens": True,
            "cache_prompt": self._kept,
            "ignore_eos": not line["ends"],
            "temperature": line["temperature"],
            "samplers": ["temperature", "top_p"] if line["temperature"] > 0 else ["temperature"],
            "top_p": line["top_p"],
            "seed": line["seed"],
            "n_probs": int(line["logprobs"]),
        }
        if line["json_schema"] is not None:
            body["json_schema"] = json.loads(line["json_schema"])
        return body


def _reason(data: bytes) -> str:
    """Return the message of an error."""
    try:
        found = json.loads(data)
        error = found.get("error", found)
        return str(error.get("message", error) if isinstance(error, dict) else error).splitlines()[0]
    except (ValueError, IndexError):
        return data.decode("utf-8", "replace")[:200] or "no reason given"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def answer(server: Server, line: dict[str, Any], out: Output, stop: Stop) -> None:
    """Answer a request and write its parts."""
    number, ends, written = line["number"], set(line["ends"]), ""
    try:
        for event in server.stream(line, stop):
            ids = [int(token) for token in event.get("tokens", ())]
            nats = [-float(token["logprob"]) for token in event.get("completion_probabilities", ())] if ids else []
            finish = None
            written += event.get("content", "")
            if event.get("stop"):
                finish = "length" if event.get("stop_type") == "limit" else "stop"
                if event.get("truncated"):
                    finish = "the request doesn't fit into the cache"
            end = next((place for place, token in enumerate(ids) if token in ends), None)
            if end is not None:
                ids, nats, finish = ids[: end + 1], nats[: end + 1], "stop"
            if finish == "stop" and line["json_schema"] is not None and not _is_json(written):
                finish = f"{NO_SCHEMA}: llama.cpp dropped it, and the answer is no JSON"
            if ids or finish:
                out.send({"parts": [[number, ids, nats if line["logprobs"] else [], finish]]})
            if finish:
                return
        out.send({"parts": [[number, [], [], "stop"]]})
    except (ValueError, OSError, http.client.HTTPException) as error:
        if stop.requested:
            return
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if line["json_schema"] is not None and isinstance(error, ValueError):
            reason = f"{NO_SCHEMA}: {reason}"
        out.send({"parts": [[number, [], [], reason]]})


def main(path: str, tokens: str, slots: str, kept: str = "") -> None:
    """Process requests until the input is closed."""
    # Signals sent to the service reach this process too. Ignore them, and exit when the input is closed.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    out = Output(os.dup(1))
    os.dup2(2, 1)  # keep the library's output out of the protocol
    try:
        server = Server(path, int(tokens), int(slots), bool(kept))
    except (RuntimeError, ImportError) as error:
        out.send({"failed": (str(error).strip().splitlines() or [type(error).__name__])[-1]})
        return
    out.send({"ready": True})
    running: dict[int, Stop] = {}
    for text in sys.stdin:
        line = json.loads(text)
        if "ping" in line:
            out.send({"parts": []})
        elif "cancel" in line:
            running.pop(line["cancel"], Stop()).request()
        else:
            running = {number: stop for number, stop in running.items() if not stop.ended}
            stop = running[line["number"]] = Stop()
            threading.Thread(target=answer, args=(server, line, out, stop), daemon=True).start()
    os._exit(0)  # no state is left to save, and a server that is deleted before its first answer can wait forever


if __name__ == "__main__":
    main(*sys.argv[1:])
