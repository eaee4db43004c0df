"""The engine's other side: starts the process that runs openvino-genai, asks it, and starts it again if it dies."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NamedTuple

import numpy as np

from sizewise.errors import EngineError, SizewiseError
from sizewise.models.openvino.bounds import unusable
from sizewise.models.openvino.converting import require
from sizewise.models.size import cache_bytes, read_config

CACHE_BYTES = 2**30
AT_ONCE = 64
"""Requests as long as the context for which there is room in the cache, if that is less than the above."""
BLOCK = 32
"""Tokens of a block of openvino-genai's cache on a CPU."""
SCORED_AT_ONCE = 32
CLOSING_S = 10
MOST_STARTS = 3
"""Times that a process may die without having answered anything before it is no longer started."""
GRAMMAR_S = 8.0
"""Longest time in which the grammar of a schema is made: the others wait meanwhile."""
SLOW_S, STUCK_S = 10.0, 60.0
"""Time without a sign of life after which the engine counts as ailing, and after which it is started anew."""
SLOW_STEPS, STUCK_STEPS = 4, 8
"""Longest steps seen so far that are allowed besides: large models are slow, and not stuck."""
PING_S, LOOKS_EVERY_S = 5.0, 0.25
MOST_SLOW_SCHEMAS = 1_000
RESTARTED = "the engine made no progress and was started again"
NO_SCHEMA = "the schema cannot be used"


class Asked(NamedTuple):
    """What is asked of the engine."""

    ids: Sequence[int]
    max_tokens: int
    ends: Sequence[int] = ()
    """Tokens that end the answer; none: it is as long as may be."""
    echo: bool = False
    """Give the prompt's log-likelihoods, too."""
    logprobs: bool = False
    temperature: float = 0.0
    """0: the likeliest tokens."""
    top_p: float = 1.0
    seed: int = 0
    json_schema: str | None = None


class Part(NamedTuple):
    """Tokens that were written, or the end."""

    ids: list[int]
    nats: list[float]
    """Negative log-likelihoods, where they were asked for."""
    finish: str | None
    """`stop`, `length` or what went wrong; None while it goes on."""


def room(folder: Path, precision: str) -> int:
    """Give the tokens for which an engine has room in its cache, all requests together.

    openvino-genai hands out the blocks in turns, so after a while all of them have been touched: what is more than can
    be used would only make memory grow.
    """
    config = read_config(folder)
    fitting = CACHE_BYTES // cache_bytes(config, 1, 2 if precision == "bf16" else 4)
    return int(min(fitting, AT_ONCE * int(config["max_position_embeddings"])))


@dataclass
class _Job:
    asked: Asked
    deliver: Callable[[Part], None]
    cancelled: threading.Event
    written: list[int] = field(default_factory=list)
    tried: bool = False
    """Whether a process was stuck with it before."""

    def again(self) -> Asked | None:
        """Give what is left to be asked of another process; None where it cannot be gone on with."""
        if self.tried or (self.written and (self.asked.json_schema is not None or self.asked.echo)):
            return None  # a grammar cannot be entered in the middle
        left = self.asked.max_tokens - len(self.written)
        return self.asked._replace(ids=[*self.asked.ids, *self.written], max_tokens=left)


class Engine:
    """openvino-genai's continuous batching: whoever asks joins the batch under way.

    Args:
        folder: folder with openvino_model.xml.
        precision: `bf16` or `fp32`.

    Raises:
        MissingExtraError: openvino-genai is not installed.
        SizewiseError: it does not open the folder.
    """

    def __init__(self, folder: Path, precision: str) -> None:
        require()
        blocks = -(-room(folder, precision) // BLOCK)
        script = str(Path(__file__).with_name("process.py"))
        # -P: the folder of the script is not searched for modules, one of which is called as the library is.
        self._command = [sys.executable, "-P", script, str(folder), precision, str(blocks)]
        self._jobs: dict[int, _Job] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._closed = False
        self._broken = ""
        self._stuck = ""
        self._grammar: int | None = None  # the request whose grammar is being made
        self._slow_schemas: OrderedDict[int, None] = OrderedDict()
        self._since: float | None = None  # when a sign of life was last due; None: none is
        self._longest_s = 0.0
        self._starting = False
        self._idle_deaths = 0
        process, failure = self._begin(self._lines)
        if process is None:
            raise SizewiseError(
                f"The model in {folder} cannot be opened by openvino-genai: {failure}",
                "a folder as `sizewise export --to openvino` writes it",
                "export it again",
            )
        self._process = process
        self._thread = threading.Thread(target=self._listen, name="openvino", daemon=True)
        self._thread.start()
        self._watcher = threading.Thread(target=self._watch, name="openvino-watch", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        """The number of the engine's process."""
        return self._process.pid

    def _begin(self, lines: SimpleQueue[str | None]) -> tuple[subprocess.Popen[str] | None, str]:
        """Start a process that is asked by lines; give it once it is ready, or what it said instead."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
            )
            assert process.stdin is not None
            assert process.stdout is not None
            told = process.stdout.readline()
            said = json.loads(told) if told.endswith("\n") else {}
            if said.get("ready"):
                threading.Thread(target=_write, args=(lines, process.stdin), name="openvino-asks", daemon=True).start()
                return process, ""
            _hang_up(process)
            process.wait()
            process.stdout.close()
            errors.seek(0)
            last = (errors.read().strip().splitlines() or [f"it ended with code {process.returncode}"])[-1]
            return None, said.get("failed") or last

    def submit(self, asked: Asked, deliver: Callable[[Part], None], cancelled: threading.Event | None = None) -> None:
        """Ask for an answer; its parts are delivered from a thread of the engine's.

        Args:
            asked: what is asked.
            deliver: takes each part.
            cancelled: ends it early once it is set.
        """
        job = _Job(asked, deliver, cancelled or threading.Event())
        refused = self._unusable(asked.json_schema)
        with self._lock:
            broken = "it was closed" if self._closed else self._broken or refused
            if not broken:
                self._send(next(self._numbers), job, asked)
        if broken:
            deliver(Part([], [], broken))

    def _unusable(self, schema: str | None) -> str:
        if schema is None:
            return ""
        reason = unusable(schema)
        if not reason and hash(schema) in self._slow_schemas:
            reason = f"its grammar took longer than {GRAMMAR_S:g} s"
        return f"{NO_SCHEMA}: {reason}" if reason else ""

    def _send(self, number: int, job: _Job, asked: Asked) -> None:
        self._jobs[number] = job
        self._since = self._since or time.monotonic()
        self._lines.put(json.dumps({"number": number, **asked._asdict()}))

    # -- watching -----------------------------------------------------------------------------------

    def trouble(self) -> str:
        """Tell why the engine gives no answers now; nothing where it does."""
        if self._broken:
            return self._broken
        if self._starting:
            return "its process is being started again"
        quiet = self._quiet_s()
        return f"it made no progress for {quiet:.0f} s" if quiet > SLOW_S + SLOW_STEPS * self._longest_s else ""

    def _quiet_s(self) -> float:
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def _watch(self) -> None:
        """End a process that is there but gives no sign of life; whoever listens to it starts another one."""
        pinged = time.monotonic()
        while not self._closed and not self._broken:
            time.sleep(LOOKS_EVERY_S)
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

    def _heard(self, said: dict[str, Any]) -> bool:
        """Take a line of the process; tell whether there was anything in it."""
        now = time.monotonic()
        if self._since is not None and self._grammar is None:
            self._longest_s = max(self._longest_s, now - self._since)
        if "grammar" in said:
            self._grammar, self._since = said["grammar"], now
            return False
        self._grammar = None
        found = self._take(said["parts"])
        with self._lock:
            self._since = now if self._jobs else None
        return found

    def _go_on(self) -> None:
        """Fail the request that a process was stuck with, and ask another process the others."""
        grammar, reason, self._stuck = self._grammar, self._stuck, ""
        ended: list[tuple[_Job, str]] = []
        with self._lock:
            jobs, self._jobs, self._grammar, self._since = self._jobs, {}, None, None
            self._lines.put(None)
            self._lines = SimpleQueue()
            for number, job in jobs.items():
                asked = job.again()
                if number == grammar and job.asked.json_schema is not None:
                    self._slow_schemas[hash(job.asked.json_schema)] = None
                    ended.append((job, reason))
                elif job.cancelled.is_set():
                    ended.append((job, "stop"))
                elif asked is None or (grammar is None and job.asked.json_schema is not None):
                    ended.append((job, RESTARTED))  # a grammar may be what it was stuck with
                else:
                    job.tried = grammar is None
                    self._send(number, job, asked)
            while len(self._slow_schemas) > MOST_SLOW_SCHEMAS:
                self._slow_schemas.popitem(last=False)
        for job, why in ended:
            job.deliver(Part([], [], why))

    def _listen(self) -> None:
        """Pass on what the process says; when it dies, fail what was under way and start another one."""
        try:
            while not self._broken:
                heard = False
                assert self._process.stdout is not None
                for line in self._process.stdout:
                    if line.endswith("\n"):  # else it died in the middle of it
                        heard = self._heard(json.loads(line)) or heard
                code = self._process.wait()
                self._starting = not self._closed
                self._process.stdout.close()
                _hang_up(self._process)
                blamed = self._grammar is not None  # it was the schema, not the engine
                if self._closed:
                    self._drop("it was closed")
                elif self._stuck or blamed:
                    self._stuck = self._stuck or f"{NO_SCHEMA}: its grammar ended the engine"
                    self._go_on()
                else:
                    self._drop(f"its process ended with code {code}")
                self._broken = "it was closed" if self._closed else self._restart(heard or blamed)
                self._starting = False
        except Exception as error:  # such as no memory for another process: nobody may wait for ever
            self._broken = f"{type(error).__name__}: {error}"
        self._drop(self._broken)

    def _drop(self, reason: str) -> None:
        """Fail all that is under way; what is asked from now on waits for the next process."""
        with self._lock:
            jobs, self._jobs, self._since = self._jobs, {}, None
            self._lines.put(None)
            self._lines = SimpleQueue()
        for job in jobs.values():
            job.deliver(Part([], [], reason))

    def _restart(self, heard: bool) -> str:
        """Start another process; give why there is none, if there is none."""
        self._idle_deaths = 0 if heard else self._idle_deaths + 1
        if self._idle_deaths >= MOST_STARTS:
            return "its process dies again and again"
        process, failure = self._begin(self._lines)
        if process is None:
            return f"its process does not start again: {failure}"
        self._process = process
        with self._lock:
            self._since = time.monotonic() if self._jobs else None
        if self._closed:  # meanwhile
            _hang_up(process)
        return ""

    def _take(self, parts: Sequence[Sequence[Any]]) -> bool:
        """Deliver parts, and pass on what was cancelled; tell whether there was one."""
        for number, ids, nats, finish in parts:
            job = self._jobs.get(number)
            if job is None:
                continue  # cancelled, and the engine did not know yet
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
        """End the process."""
        self._closed = True
        _hang_up(self._process)
        try:
            self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join(CLOSING_S)

    # -- many at once -------------------------------------------------------------------------------

    def greedy(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Give so many likeliest tokens after each prompt, whatever they are."""
        return [part.ids for part in self._all([Asked(ids, n) for ids, n in zip(prompts, lengths, strict=True)])]

    def nats(self, sequences: Sequence[list[int]]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        """Give the negative log-likelihoods of all tokens but the first of each sequence."""
        found = []
        for start in range(0, len(sequences), SCORED_AT_ONCE):
            some = sequences[start : start + SCORED_AT_ONCE]
            parts = self._all([Asked(ids, 1, echo=True) for ids in some])
            found += [
                np.array(part.nats[1 : len(ids)], dtype=np.float64) for ids, part in zip(some, parts, strict=True)
            ]
        return found

    def _all(self, asked: Sequence[Asked]) -> list[Part]:
        """Wait for all answers.

        Raises:
            EngineError: the engine failed.
        """
        queues: list[SimpleQueue[Part]] = [SimpleQueue() for _ in asked]
        for one, queue in zip(asked, queues, strict=True):
            self.submit(one, queue.put)
        found = []
        for queue in queues:
            whole = Part([], [], None)
            while whole.finish is None:
                part = queue.get()
                whole = Part(whole.ids + part.ids, whole.nats + part.nats, part.finish)
            if whole.finish not in ("stop", "length"):
                raise EngineError(f"openvino-genai failed: {whole.finish}.")
            found.append(whole)
        return found


def _write(lines: SimpleQueue[str | None], out: IO[str]) -> None:
    """Write lines to a process, which may be slow to take them; None ends it."""
    with suppress(BrokenPipeError, ValueError):  # it died, or was hung up on; who listens to it knows
        while (line := lines.get()) is not None:
            out.write(line + "\n")
            out.flush()


def _hang_up(process: subprocess.Popen[str]) -> None:
    """End a process's input, which ends it."""
    with suppress(BrokenPipeError, OSError):
        if process.stdin is not None:
            process.stdin.close()
