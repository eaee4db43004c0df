"""Continuous batching with openvino-genai in a separate process: requests come in as JSON lines, tokens go out.

`engine.Engine` runs this file as a script. To start within a second, it imports nothing from this package except
the code that turns off openvino's telemetry. Each step of the pipeline holds Python's global lock to its end. In a
separate process, it blocks no other thread and a crash stays contained.

In, one line each::

    {"number": 1, "ids": [...], "max_tokens": 8, "ends": [0], ...}   (the fields of engine.EngineRequest)
    {"cancel": 1}
    {"ping": true}

Out: `{"ready": true}` or `{"failed": "why"}` once, then one line per step and per batch of input, whose list of
parts may be empty. Before a step that compiles a grammar, a line gives the number of the request::

    {"grammar": number}
    {"parts": [[number, tokens, negative log-likelihoods, finish], ...]}
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

INPUT, READ_AT_ONCE = 0, 1 << 20
MORE_S, MAX_ROUNDS = 0.004, 12
MAX_SWEEPS = 4
NO_SCHEMA = "the schema can't be used"
_SOURCE_LOCATION = re.compile(r"^\[[\d:]+\] \S+:\d+: ")  # file and line in the grammar compiler


class _Running(NamedTuple):
    handle: Any
    line: dict[str, Any]
    """The request line."""
    written: list[int]
    """Tokens generated so far."""


class Lines:
    """Reads JSON lines from a file descriptor.

    Args:
        descriptor: file descriptor to read.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._rest = descriptor, b""
        self.ended = False

    def arrived(self, wait_s: float | None) -> list[Any]:
        """Return the lines that have arrived.

        Args:
            wait_s: how long to wait for the first line; None waits until a line arrives or the input is closed.
        """
        found: list[Any] = []
        while not self.ended and select.select([self._descriptor], [], [], 0 if found else wait_s)[0]:
            data = os.read(self._descriptor, READ_AT_ONCE)
            self.ended = not data
            *complete, self._rest = (self._rest + data).split(b"\n")
            found += [json.loads(line) for line in complete]
        return found


class Worker:
    """The pipeline and its running requests.

    Args:
        folder: folder of the model.
        precision: `bf16` or `fp32`.
        blocks: number of cache blocks, shared by all requests.
        keep_prefixes: keep the cache of common beginnings of requests.
    """

    def __init__(self, folder: str, precision: str, blocks: int, keep_prefixes: bool = False) -> None:
        from sizewise.privacy import keep_private

        keep_private()
        import numpy
        import openvino
        import openvino_genai

        self._numpy, self._tensor, self._genai = numpy, openvino.Tensor, openvino_genai
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size, scheduler.num_kv_blocks = 0, blocks
        scheduler.enable_prefix_caching = keep_prefixes
        kind = "f32" if precision == "fp32" else "bf16"
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            folder, scheduler, "CPU", {"INFERENCE_PRECISION_HINT": kind, "KV_CACHE_PRECISION": kind}
        )
        self._running: dict[int, _Running] = {}
        self._with_schema: list[dict[str, Any]] = []  # not started yet
        self._ids = count()

    @property
    def running(self) -> int:
        """Number of running requests."""
        return len(self._running) + len(self._with_schema)

    @property
    def grammar(self) -> int | None:
        """Number of the request whose grammar the next step compiles."""
        return int(self._with_schema[0]["number"]) if self._with_schema else None

    def take(self, line: dict[str, Any]) -> list[list[Any]]:
        """Start or cancel a request; return immediate failures."""
        if "ping" in line:
            return []
        if "cancel" in line:
            gone = self._running.pop(line["cancel"], None)
            if gone is not None:
                gone.handle.stop()
            self._with_schema = [other for other in self._with_schema if other["number"] != line["cancel"]]
            return []
        if line["json_schema"] is not None:
            self._with_schema.append(line)
            return []
        return self._add(line, [])

    def _add(self, line: dict[str, Any], written: list[int]) -> list[list[Any]]:
        """Start a request or resume one with generated tokens; return the failure if that is impossible."""
        rest = {**line, "ids": line["ids"] + written, "max_tokens": line["max_tokens"] - len(written)}
        try:
            tensor = self._tensor(self._numpy.array([rest["ids"]], dtype=self._numpy.int64))
            handle = self._pipeline.add_request(next(self._ids), tensor, self._config(rest))
        except Exception as error:  # any failure belongs to this request
            return [[line["number"], [], [], last_line(error)]]
        self._running[line["number"]] = _Running(handle, line, written)
        return []

    def _config(self, line: dict[str, Any]) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens = line["max_tokens"]
        config.do_sample = False
        config.echo = line["echo"]
        config.logprobs = int(line["logprobs"] or line["echo"])
        if line["ends"]:
            config.stop_token_ids = set(line["ends"])
        else:
            config.ignore_eos = True
        if line["temperature"] > 0:
            config.do_sample = True
            config.temperature, config.top_p, config.rng_seed = line["temperature"], line["top_p"], line["seed"]
        if line["json_schema"] is not None:
            config.structured_output_config = self._genai.StructuredOutputConfig(json_schema=line["json_schema"])
        return config

    def step(self) -> list[list[Any]]:
        """Generate one token for every request and return them.

        The pipeline compiles a schema in the first step of its request, and an invalid schema aborts this step for all
        requests. Schemas are therefore added one at a time, and after a failure the others continue.
        """
        parts: list[list[Any]] = []
        new = None
        if self._with_schema:
            line = self._with_schema.pop(0)
            new = line["number"]
            parts += self._add(line, [])
        try:
            self._pipeline.step()
        except RuntimeError as error:
            return parts + self._after_failure(new, last_line(error))
        for number in reversed(list(self._running)):  # newest requests first: their first tokens are the most urgent
            parts += self._read(number)
        return parts

    def _after_failure(self, new: int | None, reason: str) -> list[list[Any]]:
        """Fail the request with the new schema and resume the others; without a new schema, fail all."""
        parts = []
        running, self._running = self._running, {}
        for request in running.values():
            request.handle.stop()
        self.sweep()
        for number, request in running.items():
            if number == new:
                parts.append([number, [], [], f"{NO_SCHEMA}: {_SOURCE_LOCATION.sub('', reason)}"])
            elif new is None or (request.line["json_schema"] is not None and request.written):
                parts.append([number, [], [], reason])  # a grammar can't be resumed midway
            elif request.line["json_schema"] is not None:
                self._with_schema.append(request.line)
            else:
                parts += self._add(request.line, request.written)
        return parts

    def _read(self, number: int) -> list[list[Any]]:
        handle, line, written = self._running[number]
        with_logprobs = line["logprobs"] or line["echo"]
        parts: list[list[Any]] = []
        none, length = self._genai.GenerationFinishReason.NONE, self._genai.GenerationFinishReason.LENGTH
        while handle.can_read():
            (output,) = handle.read().values()
            reason = output.finish_reason
            finish = None if reason == none else "length" if reason == length else "stop"
            nats = [-float(value) for value in output.generated_log_probs] if with_logprobs else []
            parts.append([number, list(output.generated_ids), nats, finish])
            written += output.generated_ids
            if finish:
                del self._running[number]
                return parts
        if handle.get_status() == self._genai.GenerationStatus.IGNORED:
            parts.append([number, [], [], "the request doesn't fit into the cache"])
            del self._running[number]
        return parts

    def sweep(self) -> None:
        """Release the slots of cancelled requests."""
        for _ in range(MAX_SWEEPS):
            if self._running or not self._pipeline.has_non_finished_requests():
                return
            with suppress(RuntimeError):
                self._pipeline.step()


def last_line(error: Exception) -> str:
    """Return the last line of an error message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def gather(lines: Lines, running: int) -> list[Any]:
    """Return the lines that have arrived. While more keep arriving, wait briefly, so they share the next step."""
    found = lines.arrived(0 if running else None)
    for _ in range(MAX_ROUNDS):
        more = lines.arrived(MORE_S) if found and len(found) + running > 1 else []
        if not more:
            break
        found += more
    return found


def main(folder: str, precision: str, blocks: str, kept: str = "") -> None:
    """Process requests until the input is closed."""
    # Signals sent to the service reach this process too. Ignore them, and exit when the input is closed.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keep the libraries' output out of the protocol

    def send(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    lines = Lines(INPUT)
    try:
        worker = Worker(folder, precision, int(blocks), bool(kept))
    except (RuntimeError, ImportError) as error:
        send({"failed": last_line(error)})
        return
    with suppress(BrokenPipeError):
        send({"ready": True})
        while not lines.ended:
            parts = []
            for line in gather(lines, worker.running):
                parts += worker.take(line)
            if worker.grammar is not None:
                send({"grammar": worker.grammar})
            if worker.running:
                parts += worker.step()
            worker.sweep()
            send({"parts": parts})


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # tearing down the pipeline crashes occasionally, and no state is left to save
