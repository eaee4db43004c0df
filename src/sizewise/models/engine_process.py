"""Client of an engine in its own process: starts it, sends requests, and restarts it after a crash or hang."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from typing import IO, Any, NamedTuple

import numpy as np

from sizewise.errors import EngineError, EngineStopped, SizewiseError
from sizewise.models.machine import machine_bytes
from sizewise.models.schema_bounds import unusable

CACHE_BYTES = 2**30
"""Minimum size of the cache."""
CACHE_SHARE = 1 / 4
"""Maximum size of the cache, as a share of the machine's memory."""
FULL_REQUESTS, MAX_REQUESTS = 4, 64
"""Requests of full context length that the cache has room for if there is memory, and at most."""
SCORED_TOGETHER = 32
CLOSING_S = 10
MAX_STARTS = 3
"""Number of consecutive processes that may die without an answer before the engine gives up."""
GRAMMAR_S = 8.0
"""Maximum time to compile a schema's grammar. All other requests wait during that time."""
SLOW_S, STUCK_S = 10.0, 60.0
"""Silence after which the engine counts as slow, and after which it is restarted."""
SLOW_STEPS, STUCK_STEPS = 4, 8
"""Extra time allowed, in multiples of the longest step so far: a large model can be slow without being stuck."""
PING_S, POLL_S = 5.0, 0.25
MAX_SLOW_SCHEMAS = 1_000
RESTARTED = "the engine made no progress and was restarted"
NO_SCHEMA = "the schema can't be used"
_PASSING = re.compile(
    r"ended with code -|was closed|keeps crashing|failed to restart|made no progress|bad[ _]?alloc|no space left"
    r"|\b(?:not enough|out of|allocate|insufficient)\b.{0,20}\bmemory\b",
    re.IGNORECASE,
)
"""Failures that say nothing about the model, such as a process that was killed by a signal."""


class EngineRequest(NamedTuple):
    """A request to the engine."""

    ids: Sequence[int]
    max_tokens: int
    ends: Sequence[int] = ()
    """Tokens that end the answer; empty to always generate `max_tokens`."""
    echo: bool = False
    """Also return the log-likelihoods of the prompt."""
    logprobs: bool = False
    temperature: float = 0.0
    """Sampling temperature; 0 is greedy."""
    top_p: float = 1.0
    seed: int = 0
    json_schema: str | None = None


class Part(NamedTuple):
    """Generated tokens, or the end of an answer."""

    ids: list[int]
    nats: list[float]
    """Negative log-likelihoods, if requested; NaN where the engine states none."""
    finish: str | None
    """`stop`, `length` or an error; None if more will follow."""


def cache_size(loaded: int, token: int, context: int) -> int:
    """Compute the cache size of an engine in tokens, over all requests.

    The cache has room for FULL_REQUESTS requests of full context length, as far as the machine has memory for them
    beside the weights, and never for less than CACHE_BYTES. Unusable room would only waste memory: engines assign
    blocks in rotation, so all of them are in memory after a while.

    Args:
        loaded: bytes of the weights in memory.
        token: bytes of a token in the cache.
        context: the model's context length in tokens.
    """
    spare = min(machine_bytes() * CACHE_SHARE, (machine_bytes() - loaded) / 2)
    budget = max(CACHE_BYTES, min(spare, FULL_REQUESTS * context * token))
    return int(min(budget // token, MAX_REQUESTS * context))


@dataclass
class _Job:
    request: EngineRequest
    deliver: Callable[[Part], None]
    cancelled: threading.Event
    written: list[int] = field(default_factory=list)
    tried: bool = False
    """Whether a process has hung during this request before."""

    def remaining(self) -> EngineRequest | None:
        """Return the rest of the request for another process; None if it can't be resumed."""
        if self.tried or (self.written and (self.request.json_schema is not None or self.request.echo)):
            return None  # a grammar can't be resumed midway
        left = self.request.max_tokens - len(self.written)
        return self.request._replace(ids=[*self.request.ids, *self.written], max_tokens=left)


class Engine:
    """An engine in a process of its own: new requests join the running batch.

    Args:
        name: name of the engine, for messages.
        command: starts the process, which reads requests as JSON lines and writes parts of answers
            (`openvino/process.py` describes the lines).
        refused: error if the process can't open the model; the reason is added to its first sentence.

    Raises:
        EngineStopped: the process died before it opened the model; it may open it another time.
        SizewiseError: the process can't open the model.
    """

    def __init__(self, name: str, command: Sequence[str], refused: SizewiseError) -> None:
        self.name, self._command = name, list(command)
        self._jobs: dict[int, _Job] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._closed = False
        self._broken = ""
        self._stuck = ""
        self._grammar: int | None = None  # request whose grammar is being compiled
        self._slow_schemas: OrderedDict[int, None] = OrderedDict()
        self._since: float | None = None  # start of the current silence; None if no output is due
        self._longest_s = 0.0
        self._starting = False
        self._idle_deaths = 0
        process, failure = self._start_process(self._lines)
        if process is None:
            kind = EngineStopped if _PASSING.search(failure) else SizewiseError
            raise kind(f"{refused.what}: {failure}", refused.expected, refused.next_step)
        self._process = process
        self._thread = threading.Thread(target=self._listen, name=self.name, daemon=True)
        self._thread.start()
        self._watcher = threading.Thread(target=self._watch, name=f"{self.name}-watch", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        """Id of the engine's process."""
        return self._process.pid

    def _start_process(self, lines: SimpleQueue[str | None]) -> tuple[subprocess.Popen[str] | None, str]:
        """Start a process that reads request lines; return it once it is ready, or None and the error."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
            )
            self._newest = process
            assert process.stdin is not None
            assert process.stdout is not None
            line = process.stdout.readline()
            status = json.loads(line) if line.endswith("\n") else {}
            if status.get("ready"):
                threading.Thread(
                    target=_write, args=(lines, process.stdin), name=f"{self.name}-requests", daemon=True
                ).start()
                return process, ""
            _close_input(process)
            process.wait()
            process.stdout.close()
            errors.seek(0)
            last = status.get("failed") or (errors.read().strip().splitlines() or [""])[-1]
            if process.returncode < 0 or not last:
                last += f"{', ' * bool(last)}it ended with code {process.returncode}"
            return None, last

    def submit(
        self, request: EngineRequest, deliver: Callable[[Part], None], cancelled: threading.Event | None = None
    ) -> None:
        """Submit a request. Parts of the answer are delivered from one of the engine's threads.

        Args:
            request: the request.
            deliver: receives each part.
            cancelled: ends the answer early once it is set.
        """
        job = _Job(request, deliver, cancelled or threading.Event())
        rejected = self._schema_error(request.json_schema)
        with self._lock:
            broken = "it was closed" if self._closed else self._broken or rejected
            if not broken:
                self._send(next(self._numbers), job, request)
        if broken:
            deliver(Part([], [], broken))

    def _schema_error(self, schema: str | None) -> str:
        if schema is None:
            return ""
        reason = unusable(schema) or self.unenforced(schema)
        if not reason and hash(schema) in self._slow_schemas:
            reason = f"its grammar took longer than {GRAMMAR_S:g} s"
        return f"{NO_SCHEMA}: {reason}" if reason else ""

    def _send(self, number: int, job: _Job, request: EngineRequest) -> None:
        self._jobs[number] = job
        self._since = self._since or time.monotonic()
        self._lines.put(json.dumps({"number": number, **request._asdict()}))

    def unenforced(self, schema: str) -> str:
        """Return which part of a schema the engine would ignore silently; "" if there is none."""
        return ""

    # -- watching -----------------------------------------------------------------------------------

    def trouble(self) -> str:
        """Return why the engine isn't answering right now; "" if it is."""
        if self._broken:
            return self._broken
        if self._starting:
            return "its process is restarting"
        quiet = self._quiet_s()
        return f"it has made no progress for {quiet:.0f} s" if quiet > SLOW_S + SLOW_STEPS * self._longest_s else ""

    def _quiet_s(self) -> float:
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def _watch(self) -> None:
        """Kill a process that hangs; the listening thread then starts another one."""
        pinged = time.monotonic()
        while not self._closed and not self._broken:
            time.sleep(POLL_S)
            if self._starting or self._stuck:
                continue
            grammar, quiet = self._grammar, self._quiet_s()
            steps = STUCK_STEPS * self._longest_s
            if quiet > (STUCK_S + steps if grammar is None else GRAMMAR_S + self._longest_s):
                self._stuck = (
                    RESTARTED if grammar is None else f"{NO_SCHEMA}: its grammar took longer than {GRAMMAR_S:g} s"
                )
                self._process.kill()
            elif self._since is None and time.monotonic() - pinged > PING_S:
                pinged = time.monotonic()
                with self._lock:
                    self._since = pinged
                    self._lines.put(json.dumps({"ping": True}))

    def _handle(self, message: dict[str, Any]) -> bool:
        """Process a message from the engine; return whether it contained parts of answers."""
        now = time.monotonic()
        if self._since is not None and self._grammar is None:
            self._longest_s = max(self._longest_s, now - self._since)
        if "grammar" in message:
            self._grammar, self._since = message["grammar"], now
            return False
        self._grammar = None
        found = self._take(message["parts"])
        with self._lock:
            self._since = now if self._jobs else None
        return found

    def _resubmit(self) -> None:
        """Fail the request during which a process hung, and send the others to another process."""
        grammar, reason, self._stuck = self._grammar, self._stuck, ""
        ended: list[tuple[_Job, str]] = []
        with self._lock:
            jobs, self._jobs, self._grammar, self._since = self._jobs, {}, None, None
            self._lines.put(None)
            self._lines = SimpleQueue()
            for number, job in jobs.items():
                remaining = job.remaining()
                if number == grammar and job.request.json_schema is not None:
                    self._slow_schemas[hash(job.request.json_schema)] = None
                    ended.append((job, reason))
                elif job.cancelled.is_set():
                    ended.append((job, "stop"))
                elif remaining is None or (grammar is None and job.request.json_schema is not None):
                    ended.append((job, RESTARTED))  # its grammar may be the cause
                else:
                    job.tried = grammar is None
                    self._send(number, job, remaining)
            while len(self._slow_schemas) > MAX_SLOW_SCHEMAS:
                self._slow_schemas.popitem(last=False)
        for job, why in ended:
            job.deliver(Part([], [], why))

    def _listen(self) -> None:
        """Process the engine's messages. When it dies, fail or resubmit running requests and restart it."""
        try:
            while not self._broken:
                productive = False
                assert self._process.stdout is not None
                for line in self._process.stdout:
                    if line.endswith("\n"):  # otherwise the process died while writing
                        productive = self._handle(json.loads(line)) or productive
                code = self._process.wait()
                self._starting = not self._closed
                self._process.stdout.close()
                _close_input(self._process)
                blamed = self._grammar is not None  # the schema's fault, not the engine's
                if self._closed:
                    self._drop("it was closed")
                elif self._stuck or blamed:
                    self._stuck = self._stuck or f"{NO_SCHEMA}: its grammar crashed the engine"
                    self._resubmit()
                else:
                    self._drop(f"its process ended with code {code}")
                self._broken = "it was closed" if self._closed else self._restart(productive or blamed)
                self._starting = False
        except Exception as error:  # for example, no memory for another process; requests must not wait forever
            self._broken = f"{type(error).__name__}: {error}"
        self._drop(self._broken)

    def _drop(self, reason: str) -> None:
        """Fail all running requests; new ones wait for the next process."""
        with self._lock:
            jobs, self._jobs, self._since = self._jobs, {}, None
            self._lines.put(None)
            self._lines = SimpleQueue()
        for job in jobs.values():
            job.deliver(Part([], [], reason))

    def _restart(self, productive: bool) -> str:
        """Start another process; return the error if it fails."""
        self._idle_deaths = 0 if productive else self._idle_deaths + 1
        if self._idle_deaths >= MAX_STARTS:
            return "its process keeps crashing"
        process, failure = self._start_process(self._lines)
        if process is None:
            return f"its process failed to restart: {failure}"
        self._process = process
        with self._lock:
            self._since = time.monotonic() if self._jobs else None
        if self._closed:  # closed in the meantime
            _close_input(process)
        return ""

    def _take(self, parts: Sequence[Sequence[Any]]) -> bool:
        """Deliver parts and forward cancellations; return whether there were parts."""
        for number, ids, nats, finish in parts:
            job = self._jobs.get(number)
            if job is None:
                continue  # cancelled before the engine noticed
            job.written += ids
            if finish:
                del self._jobs[number]
            job.deliver(Part(ids, nats, finish))
        for number in [number for number, job in list(self._jobs.items()) if job.cancelled.is_set()]:
            job = self._jobs.pop(number)
            self._lines.put(json.dumps({"cancel": number}))
            job.deliver(Part([], [], "stop"))
        return bool(parts)

    def close(self) -> None:
        """Stop the process."""
        self._closed = True
        _close_input(self._process)
        try:
            self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join(CLOSING_S)
        if self._thread.is_alive():  # it waits for another process, which takes long to start
            self._newest.kill()
            self._thread.join(CLOSING_S)

    # -- batches -------------------------------------------------------------------------------

    def greedy(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Generate a fixed number of greedy tokens after each prompt, end tokens included."""
        return [
            part.ids
            for part in self.all_answers([EngineRequest(ids, n) for ids, n in zip(prompts, lengths, strict=True)])
        ]

    def nats(self, sequences: Sequence[list[int]]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        """Compute the negative log-likelihood of every token but the first in each sequence."""
        found = []
        for start in range(0, len(sequences), SCORED_TOGETHER):
            batch = sequences[start : start + SCORED_TOGETHER]
            parts = self.all_answers([EngineRequest(ids, 1, echo=True) for ids in batch])
            found += [
                np.array(part.nats[1 : len(ids)], dtype=np.float64) for ids, part in zip(batch, parts, strict=True)
            ]
        return found

    def all_answers(self, requests: Sequence[EngineRequest]) -> list[Part]:
        """Submit requests and wait for all answers.

        Raises:
            EngineStopped: the engine was killed or crashed.
            EngineError: the engine failed.
        """
        queues: list[SimpleQueue[Part]] = [SimpleQueue() for _ in requests]
        for request, queue in zip(requests, queues, strict=True):
            self.submit(request, queue.put)
        found = []
        for queue in queues:
            answer = Part([], [], None)
            while answer.finish is None:
                part = queue.get()
                answer = Part(answer.ids + part.ids, answer.nats + part.nats, part.finish)
            if answer.finish not in ("stop", "length"):
                kind = EngineStopped if _PASSING.search(str(answer.finish)) else EngineError
                raise kind(f"{self.name} failed: {answer.finish}.")
            found.append(answer)
        return found


def _write(lines: SimpleQueue[str | None], out: IO[str]) -> None:
    """Write queued lines to a process, which may be slow to read them; None ends the loop."""
    with suppress(BrokenPipeError, ValueError):  # it died or its input was closed; the listening thread handles this
        while (line := lines.get()) is not None:
            out.write(line + "\n")
            out.flush()


def _close_input(process: subprocess.Popen[str]) -> None:
    """Close a process's input, which makes it exit."""
    with suppress(BrokenPipeError, OSError):
        if process.stdin is not None:
            process.stdin.close()
