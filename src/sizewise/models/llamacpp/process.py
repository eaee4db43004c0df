"""llama.cpp's server in a separate process: requests come in as JSON lines, tokens go out.

`engine.Engine` runs this file as a script; the lines are those of `openvino/process.py`. llama.cpp returns token ids
only over HTTP, so its server listens on 127.0.0.1 with a key that no one else knows. A thread for each request reads
its stream.

The server withholds a token that ends inside a character, and shows later only the token that completes it. The others
are found again by their bytes; their log-likelihoods stay unknown.
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
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

NO_SCHEMA = "the schema can't be used"
CONNECT_S = 60.0
UNKNOWN = float("nan")
"""Log-likelihood of a token that the server withheld."""
START = b"\xf0\x9f\x8e"
"""Beginning of a character, which stands for the bytes of an answer that ends inside one."""
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


class Fragments:
    """Tokens of a vocabulary that are no text by themselves, such as some bytes of an emoji.

    Args:
        pieces: token id -> bytes.
    """

    def __init__(self, pieces: Iterable[tuple[int, bytes]]) -> None:
        self._bytes = {number: piece for number, piece in pieces if not _is_text(piece)}
        self._ids = {piece: number for number, piece in reversed(self._bytes.items())}

    def before(self, last: int, content: bytes, number: int) -> list[int]:
        """Return the tokens before the last one of a text, as many as were withheld.

        Args:
            last: the last token.
            content: the text of all of them.
            number: how many were withheld.
        """
        end = self._bytes.get(last, b"")
        found = self._split(content.removesuffix(end), number) if end and content.endswith(end) else None
        return self.unfinished(number) if found is None else found

    def _split(self, content: bytes, number: int) -> list[int] | None:
        """Split bytes into a number of tokens, the longest first; None if that is impossible."""
        if not number:
            return None if content else []
        for size in range(len(content) - number + 1, 0, -1):
            rest = self._split(content[size:], number - 1) if content[:size] in self._ids else None
            if rest is not None:
                return [self._ids[content[:size]], *rest]
        return None

    def unfinished(self, number: int) -> list[int]:
        """Return tokens that are the beginning of a character, for withheld ones whose bytes are unknown."""
        known = [self._ids[START[i : i + 1]] for i in range(len(START)) if START[i : i + 1] in self._ids]
        return [known[i % len(known)] for i in range(number)] if known else []


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


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
        self._fragments: Fragments | None = None
        self._lock = threading.Lock()

    def fragments(self) -> Fragments:
        """Return the tokens that are no text by themselves.

        The server states the bytes of a token only beside its probability, so all are requested once.

        Raises:
            OSError: the connection broke.
        """
        with self._lock:
            if self._fragments is None:
                one = {"prompt": [0], "n_predict": 1, "n_probs": 2**31 - 1, "json_schema": {"const": 1}}
                connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port)
                try:
                    connection.request("POST", "/completion", json.dumps(one), self._headers())
                    found = json.loads(connection.getresponse().read())["completion_probabilities"][0]["top_logprobs"]
                finally:
                    connection.close()
                self._fragments = Fragments((int(token["id"]), bytes(token["bytes"])) for token in found)
            return self._fragments

    def _headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}

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
            connection.request("POST", "/completion", json.dumps(self._body(line)), self._headers())
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


def tokens_of(server: Server, event: dict[str, Any], known: int) -> tuple[list[int], list[float]]:
    """Return the new tokens of an event, with those that the server withheld before, and what it says of each.

    Args:
        server: the server.
        event: the event.
        known: number of the answer's tokens so far.

    Returns:
        The tokens, and their negative log-likelihoods if they were requested.
    """
    ids = [int(token) for token in event.get("tokens", ())]
    stated = event.get("completion_probabilities", ()) if ids else ()
    nats = [-float(token["logprob"]) for token in stated]
    withheld = int(event.get("tokens_predicted", 0)) - known - len(ids)
    if withheld <= 0:
        return ids, nats
    content = bytes(stated[0]["bytes"]) if stated else str(event.get("content", "")).encode("utf-8", "replace")
    fragments = server.fragments()
    before = fragments.before(ids[0], content, withheld) if ids else fragments.unfinished(withheld)
    return before + ids, [UNKNOWN] * len(before) + nats


def answer(server: Server, line: dict[str, Any], out: Output, stop: Stop) -> None:
    """Answer a request and write its parts."""
    number, ends, written, known = line["number"], set(line["ends"]), "", 0
    try:
        for event in server.stream(line, stop):
            ids, nats = tokens_of(server, event, known)
            known += len(ids)
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
