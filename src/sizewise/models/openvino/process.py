"""openvino-genai's continuous batching in a process of its own: requests come in by lines of JSON, tokens go out.

Run as a script by `engine.Engine`; of this package it imports only what keeps openvino from reporting, so that it is
there in a second. A step of the pipeline holds Python's lock from its beginning to its end: in a process of its own it
keeps nobody else waiting, and if it crashes nobody else falls.

In, one line each::

    {"number": 1, "ids": [...], "max_tokens": 8, "ends": [0], "logprobs": false, ...}   (the fields of engine.Asked)
    {"cancel": 1}
    {"ping": true}

Out: `{"ready": true}` or `{"failed": "why"}` once, then a line for each step and for whatever came in, which may be
empty; before a step that makes a grammar, the number of its request::

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
MORE_S, MOST_ROUNDS = 0.004, 12
MOST_SWEEPS = 4
NO_SCHEMA = "the schema cannot be used"
_PLACE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")  # where in the grammar's own code it was noticed


class _Running(NamedTuple):
    handle: Any
    line: dict[str, Any]
    """What was asked."""
    written: list[int]
    """Tokens that were given."""


class Lines:
    """Lines that arrive at a file descriptor.

    Args:
        descriptor: what is read.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._rest = descriptor, b""
        self.ended = False

    def arrived(self, wait_s: float | None) -> list[Any]:
        """Give the lines that are there.

        Args:
            wait_s: how long to wait if there is none; None: until there is one or the other side is gone.
        """
        found: list[Any] = []
        while not self.ended and select.select([self._descriptor], [], [], 0 if found else wait_s)[0]:
            data = os.read(self._descriptor, READ_AT_ONCE)
            self.ended = not data
            *whole, self._rest = (self._rest + data).split(b"\n")
            found += [json.loads(line) for line in whole]
        return found


class Worker:
    """The pipeline and the requests under way.

    Args:
        folder: folder of the model.
        precision: `bf16` or `fp32`.
        blocks: blocks of the cache of all requests.
    """

    def __init__(self, folder: str, precision: str, blocks: int) -> None:
        from sizewise.privacy import keep_private

        keep_private()
        import numpy
        import openvino
        import openvino_genai

        self._numpy, self._tensor, self._genai = numpy, openvino.Tensor, openvino_genai
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size, scheduler.num_kv_blocks = 0, blocks
        scheduler.enable_prefix_caching = False
        kind = "f32" if precision == "fp32" else "bf16"
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            folder, scheduler, "CPU", {"INFERENCE_PRECISION_HINT": kind, "KV_CACHE_PRECISION": kind}
        )
        self._running: dict[int, _Running] = {}
        self._with_schema: list[dict[str, Any]] = []  # not yet begun
        self._ids = count()

    @property
    def running(self) -> int:
        """How many requests are under way."""
        return len(self._running) + len(self._with_schema)

    @property
    def grammar(self) -> int | None:
        """The number of the request whose grammar the next step makes."""
        return int(self._with_schema[0]["number"]) if self._with_schema else None

    def take(self, line: dict[str, Any]) -> list[list[Any]]:
        """Begin or cancel a request; give what can be said of it at once."""
        if "ping" in line:
            return []
        if "cancel" in line:
            gone = self._running.pop(line["cancel"], None)
            if gone is not None:
                gone.handle.stop()
            self._with_schema = [one for one in self._with_schema if one["number"] != line["cancel"]]
            return []
        if line["json_schema"] is not None:
            self._with_schema.append(line)
            return []
        return self._add(line, [])

    def _add(self, line: dict[str, Any], written: list[int]) -> list[list[Any]]:
        """Begin a request, or go on with one that has written something; give why it cannot be, if it cannot."""
        rest = {**line, "ids": line["ids"] + written, "max_tokens": line["max_tokens"] - len(written)}
        try:
            tensor = self._tensor(self._numpy.array([rest["ids"]], dtype=self._numpy.int64))
            handle = self._pipeline.add_request(next(self._ids), tensor, self._config(rest))
        except Exception as error:  # whatever it is, it is this request's
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
        """Let every request go on by a token; give what was written.

        A schema is read in the first step of its request, and one that cannot be used ends that step for all: so one
        schema is let in at a time, and the others go on without it.
        """
        parts: list[list[Any]] = []
        fresh = None
        if self._with_schema:
            line = self._with_schema.pop(0)
            fresh = line["number"]
            parts += self._add(line, [])
        try:
            self._pipeline.step()
        except RuntimeError as error:
            return parts + self._after_failure(fresh, last_line(error))
        for number in reversed(list(self._running)):  # first tokens, which are waited for most, go first
            parts += self._read(number)
        return parts

    def _after_failure(self, fresh: int | None, reason: str) -> list[list[Any]]:
        """End the request whose schema failed and go on with the others; without one, all have failed."""
        parts = []
        running, self._running = self._running, {}
        for one in running.values():
            one.handle.stop()
        self.sweep()
        for number, one in running.items():
            if number == fresh:
                parts.append([number, [], [], f"{NO_SCHEMA}: {_PLACE.sub('', reason)}"])
            elif fresh is None or (one.line["json_schema"] is not None and one.written):
                parts.append([number, [], [], reason])  # a grammar cannot be entered in the middle
            elif one.line["json_schema"] is not None:
                self._with_schema.append(one.line)
            else:
                parts += self._add(one.line, one.written)
        return parts

    def _read(self, number: int) -> list[list[Any]]:
        handle, line, written = self._running[number]
        likely = line["logprobs"] or line["echo"]
        parts: list[list[Any]] = []
        none, length = self._genai.GenerationFinishReason.NONE, self._genai.GenerationFinishReason.LENGTH
        while handle.can_read():
            (output,) = handle.read().values()
            reason = output.finish_reason
            finish = None if reason == none else "length" if reason == length else "stop"
            nats = [-float(value) for value in output.generated_log_probs] if likely else []
            parts.append([number, list(output.generated_ids), nats, finish])
            written += output.generated_ids
            if finish:
                del self._running[number]
                return parts
        if handle.get_status() == self._genai.GenerationStatus.IGNORED:
            parts.append([number, [], [], "the request does not fit into the cache"])
            del self._running[number]
        return parts

    def sweep(self) -> None:
        """Give back the places of what was cancelled."""
        for _ in range(MOST_SWEEPS):
            if self._running or not self._pipeline.has_non_finished_requests():
                return
            with suppress(RuntimeError):
                self._pipeline.step()


def last_line(error: Exception) -> str:
    """Give the last line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def gathered(lines: Lines, running: int) -> list[Any]:
    """Give what has arrived; while more keeps arriving, wait a little for it, so that it shares the next step."""
    found = lines.arrived(0 if running else None)
    for _ in range(MOST_ROUNDS):
        more = lines.arrived(MORE_S) if found and len(found) + running > 1 else []
        if not more:
            break
        found += more
    return found


def main(folder: str, precision: str, blocks: str) -> None:
    """Work until the other side is gone."""
    # Whoever stops the service stops all of its processes; this one goes when its input ends, after what is under way.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the libraries print is not for the other side

    def say(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    lines = Lines(INPUT)
    try:
        worker = Worker(folder, precision, int(blocks))
    except (RuntimeError, ImportError) as error:
        say({"failed": last_line(error)})
        return
    with suppress(BrokenPipeError):
        say({"ready": True})
        while not lines.ended:
            parts = []
            for line in gathered(lines, worker.running):
                parts += worker.take(line)
            if worker.grammar is not None:
                say({"grammar": worker.grammar})
            if worker.running:
                parts += worker.step()
            worker.sweep()
            say({"parts": parts})


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # taking the pipeline down crashes now and then, and nothing is left to be saved
