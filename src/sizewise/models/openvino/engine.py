"""The engine's other side: starts the process that runs openvino-genai, asks it, and starts it again if it dies."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NamedTuple

import numpy as np

from sizewise.errors import EngineError, SizewiseError
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


class _Job(NamedTuple):
    deliver: Callable[[Part], None]
    cancelled: threading.Event


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
        job = _Job(deliver, cancelled or threading.Event())
        with self._lock:
            broken = "it was closed" if self._closed else self._broken
            if not broken:
                number = next(self._numbers)
                self._jobs[number] = job
                self._lines.put(json.dumps({"number": number, **asked._asdict()}))
        if broken:
            deliver(Part([], [], broken))

    def _listen(self) -> None:
        """Pass on what the process says; when it dies, fail what was under way and start another one."""
        try:
            while not self._broken:
                heard = False
                assert self._process.stdout is not None
                for line in self._process.stdout:
                    if line.endswith("\n"):  # else it died in the middle of it
                        heard = self._take(json.loads(line)["parts"]) or heard
                code = self._process.wait()
                self._process.stdout.close()
                _hang_up(self._process)
                self._drop("it was closed" if self._closed else f"its process ended with code {code}")
                self._broken = "it was closed" if self._closed else self._restart(heard)
        except Exception as error:  # such as no memory for another process: nobody may wait for ever
            self._broken = f"{type(error).__name__}: {error}"
        self._drop(self._broken)

    def _drop(self, reason: str) -> None:
        """Fail all that is under way; what is asked from now on waits for the next process."""
        with self._lock:
            jobs, self._jobs = self._jobs, {}
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
        if self._closed:  # meanwhile
            _hang_up(process)
        return ""

    def _take(self, parts: Sequence[Sequence[Any]]) -> bool:
        """Deliver parts, and pass on what was cancelled; tell whether there was one."""
        for number, ids, nats, finish in parts:
            job = self._jobs.get(number)
            if job is None:
                continue  # cancelled, and the engine did not know yet
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
