"""The guard's work on long texts, in a process of its own: `python -P guard_process.py HOME`.

Its regular expressions hold Python's global lock for up to seconds on a text of millions of characters.
`guard_processes` runs this file as a script, which imports only what its tasks need, and sends it tasks. A task is a
line of JSON, whose `texts` are the sizes in bytes of the texts that follow it. The answer has the same form::

    {"task": "mask", "detect": [...], "texts": [12, 30]}   -> {"values": {...}, "counts": {...}, "texts": [14, 30]}
    {"task": "signals", "classifiers": [...], "share": 0.01, "texts": [12]}   -> {"signals": [...], "texts": []}
    {"task": "confidential", "rules": [...], "texts": [12]}   -> {"matches": true, "texts": []}

or `{"refused": [what, expected, next step], "texts": []}`, or `{"failed": "why", "texts": []}`. The process ends with
its input, even in the middle of a task, and after `IDLE_S` without a task.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

IDLE_S = 600.0
"""Time without a task after which the process ends, and frees its memory (some 100 MB)."""


class Frame(NamedTuple):
    """A task or an answer."""

    header: dict[str, Any]
    texts: list[str]


def write_frame(out: IO[bytes], header: dict[str, Any], texts: Sequence[str] = ()) -> None:
    """Write a task or an answer. Lone surrogates in texts survive."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    out.write(json.dumps(header | {"texts": [len(part) for part in encoded]}).encode() + b"\n")
    for part in encoded:
        out.write(part)
    out.flush()


def read_frame(source: IO[bytes]) -> Frame | None:
    """Read a task or an answer; None if the other end is gone."""
    line = source.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    texts = []
    for size in header["texts"]:
        part = source.read(size)
        if len(part) < size:
            return None
        texts.append(part.decode("utf-8", "surrogatepass"))
    return Frame(header, texts)


def _answer(task: Frame, home: Path) -> Frame:
    """Do a task.

    Raises:
        SizewiseError: a text is too long, or a detector can't be opened.
    """
    header, texts = task
    kind = header["task"]
    if kind == "mask":
        from sizewise.guard import mask_texts

        masked = mask_texts(texts, _detectors(tuple(header["detect"]), home))
        return Frame({"values": masked.values, "counts": masked.counts}, [masked.texts[text] for text in texts])
    if kind == "signals":
        from sizewise.guard import signals_in

        detectors = [_classifier(uri, header["share"], home) for uri in header["classifiers"]]
        return Frame({"signals": signals_in(texts, detectors)}, [])
    from sizewise.guard import matches

    return Frame({"matches": matches([re.compile(rule) for rule in header["rules"]], texts)}, [])


@lru_cache(maxsize=64)
def _detectors(names: tuple[str, ...], home: Path) -> Sequence[Any]:
    if not names:
        return ()
    from sizewise.service.detecting import open_detectors
    from sizewise.store import Store

    return open_detectors(names, Store(home))


@lru_cache(maxsize=16)
def _classifier(uri: str, share: float, home: Path) -> Any:
    from sizewise.models.signal_classifier import open_signal_classifier
    from sizewise.store import Store

    return open_signal_classifier(uri, Store(home), share)


def _receive(source: IO[bytes], tasks: queue.SimpleQueue[Frame]) -> None:
    """Queue the tasks, and end the process with its input: the service is gone or doesn't need it any more."""
    with suppress(OSError, ValueError):
        while (frame := read_frame(source)) is not None:
            tasks.put(frame)
    os._exit(0)


def _attempt(task: Frame, do: Callable[[Frame], Frame]) -> Frame:
    from sizewise.errors import SizewiseError

    try:
        return do(task)
    except SizewiseError as error:
        return Frame({"refused": [error.what, error.expected, error.next_step]}, [])
    except Exception as error:  # a plug-in's, for example; the service reports it
        return Frame({"failed": f"{type(error).__name__}: {error}"}, [])


def main(home: Path) -> None:
    """Do tasks until the input ends or none comes for a while."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to the whole group; the input's end counts
        signal.signal(number, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a detector prints is no answer
    tasks: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, tasks), daemon=True).start()
    while True:
        try:
            task = tasks.get(timeout=IDLE_S)
        except queue.Empty:
            return
        write_frame(out, *_attempt(task, lambda found: _answer(found, home)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
