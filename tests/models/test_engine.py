"""The engine's process: it may die, be slow or never start, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx2 as httpx
import openai
import pytest

from sizewise.models import engine_process as engines
from sizewise.models import open_model
from sizewise.models.base import Piece
from sizewise.models.engine_process import EngineRequest, Part
from sizewise.models.openvino.engine import Engine
from sizewise.models.openvino.model import OpenvinoModel
from sizewise.records import Message, Request
from sizewise.store import Store
from tests.service.test_service import client, running

CHAT = (Message(role="user", content="What does item seven say of the plan?"),)


@pytest.fixture
def model(tiny_folder: Path, store: Store) -> Any:
    opened = open_model(str(tiny_folder), store=store, precision="fp32", engine="openvino")
    yield opened
    opened.close()


def engine_of(model: Any) -> Engine:
    assert isinstance(model, OpenvinoModel)
    return model._engine


def gone(pid: int) -> bool:
    """Tell whether a process has ended, within ten seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_an_engine_that_dies_fails_what_is_under_way_and_comes_back(model: Any) -> None:
    asked = Request(id="a", messages=CHAT, max_tokens=8)
    (before,) = model.complete([asked])
    arrived: SimpleQueue[Piece] = SimpleQueue()
    model.start(Request(id="b", text="The", max_tokens=200, logprobs=True), arrived.put)
    arrived.get(timeout=30)
    pid = engine_of(model).pid
    os.kill(pid, signal.SIGKILL)
    end = None
    while end is None:
        end = arrived.get(timeout=30).end
    assert end.finish == "error"
    assert "ended with code -9" in str(end.error)
    (after,) = model.complete([asked])
    assert (after.text, after.finish) == (before.text, before.finish)
    assert engine_of(model).pid != pid


def test_an_engine_that_dies_again_and_again_is_given_up(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(model)
    monkeypatch.setattr(engine, "_command", [sys.executable, "-c", "print('{\"ready\": true}', flush=True)"])
    os.kill(engine.pid, signal.SIGKILL)
    for _ in range(20):
        (answer,) = model.complete([Request(id="a", text="The", max_tokens=4)])
        assert answer.finish == "error"
        if "keeps crashing" in str(answer.error):
            break
        time.sleep(0.2)
    else:
        pytest.fail("it was started for ever")


def test_a_dead_engine_is_an_event_in_a_stream_and_the_next_answer_is_whole(model: Any) -> None:
    with running({"tiny": model}) as address:
        talk = client(address)
        stream = talk.completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=240, stream=True, logprobs=1)
        next(iter(stream))
        os.kill(engine_of(model).pid, signal.SIGSEGV)
        with pytest.raises(openai.APIError, match="process ended"):
            list(stream)
        assert talk.completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=4).usage.completion_tokens > 0
        assert httpx.get(f"{address}/health").status_code == 200


def test_the_process_ends_with_whoever_started_it(model: Any, tmp_path: Path) -> None:
    folder = engine_of(model)._command[3]
    code = f"""
        import time
        from pathlib import Path
        from sizewise.models.engine_process import EngineRequest
        from sizewise.models.openvino.engine import Engine
        engine = Engine(Path({folder!r}), "fp32")
        engine.submit(EngineRequest([5, 6, 7], 200), lambda part: None)
        print(engine.pid, flush=True)
        time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert gone(pid)


def test_signals_to_all_processes_let_answers_end(model: Any) -> None:
    engine = engine_of(model)
    parts: SimpleQueue[Part] = SimpleQueue()
    engine.submit(EngineRequest([5, 6, 7], 50), parts.put)
    for one in (signal.SIGINT, signal.SIGTERM):
        os.kill(engine.pid, one)
    written: list[int] = []
    finish = None
    while finish is None:
        part = parts.get(timeout=30)
        written, finish = written + part.ids, part.finish
    assert (len(written), finish) == (50, "length")


def test_what_is_wrong_with_a_request_is_its_own_end(model: Any) -> None:
    engine = engine_of(model)
    parts: SimpleQueue[Part] = SimpleQueue()
    engine.submit(EngineRequest([5, 6], 8, json_schema="not a schema"), parts.put)
    refused = parts.get(timeout=30)
    assert refused.finish not in (None, "stop", "length")
    assert len(engine.greedy([[5, 6]], [8])[0]) == 8
    engine.close()
    engine.submit(EngineRequest([5, 6], 8), parts.put)
    assert parts.get(timeout=30).finish == "it was closed"
    assert gone(engine.pid)


@pytest.mark.parametrize("schema", ['{"$ref": "#/$defs/X"}', '{"type": "nothing"}', "no json"])
def test_a_schema_that_cannot_be_used_ends_its_own_request_alone(model: Any, schema: str) -> None:
    engine = engine_of(model)
    prompts = [[5, 6, 7], [8, 9, 10, 11], [12, 13]]
    alone = engine.greedy(prompts, [60, 50, 40])
    parts: list[SimpleQueue[Part]] = [SimpleQueue() for _ in prompts]
    for ids, length, queue in zip(prompts, (60, 50, 40), parts, strict=True):
        engine.submit(EngineRequest(ids, length), queue.put)
    written = [list(queue.get(timeout=30).ids) for queue in parts]  # all are under way
    bad: list[SimpleQueue[Part]] = [SimpleQueue() for _ in range(3)]
    for queue in bad:
        engine.submit(EngineRequest([5, 6], 8, json_schema=schema), queue.put)
    fine: SimpleQueue[Part] = SimpleQueue()
    engine.submit(EngineRequest([5, 6], 8, json_schema='{"type": "boolean"}'), fine.put)
    assert all(queue.get(timeout=30).finish not in (None, "stop", "length") for queue in bad)
    for queue, ids in zip(parts, written, strict=True):
        finish = None
        while finish is None:
            part = queue.get(timeout=30)
            ids += part.ids
            finish = part.finish
        assert finish == "length"
    assert written == alone
    finish = None
    while finish is None:
        finish = fine.get(timeout=30).finish
    assert finish in ("stop", "length")


def test_long_prompts_do_not_hold_up_who_asks(model: Any) -> None:
    engine = engine_of(model)
    parts: SimpleQueue[Part] = SimpleQueue()
    os.kill(engine.pid, signal.SIGSTOP)  # it takes nothing for now, and pipes hold 64 kB
    begun = time.monotonic()
    for _ in range(200):
        engine.submit(EngineRequest([7] * 200, 2), parts.put)
    assert time.monotonic() - begun < engines.CLOSING_S
    os.kill(engine.pid, signal.SIGCONT)
    ends = 0
    while ends < 200:
        ends += parts.get(timeout=60).finish is not None


def test_who_asks_while_it_starts_again_is_not_held_up_and_gets_an_answer(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(model)
    begun, may_go_on = threading.Event(), threading.Event()
    begin = engine._start_process

    def slowly(lines: Any) -> Any:
        begun.set()
        assert may_go_on.wait(30)
        return begin(lines)

    monkeypatch.setattr(engine, "_start_process", slowly)
    os.kill(engine.pid, signal.SIGKILL)
    assert begun.wait(30)
    parts: SimpleQueue[Part] = SimpleQueue()
    engine.submit(EngineRequest([5, 6, 7], 4), parts.put)  # would hang if it waited for the start
    assert parts.empty()
    may_go_on.set()
    ends = [parts.get(timeout=30).finish for _ in range(4)]
    assert ends == [None, None, None, "length"]


def test_nobody_waits_for_an_engine_that_cannot_be_started(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(model)

    def no_memory(lines: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(engine, "_start_process", no_memory)
    parts: SimpleQueue[Part] = SimpleQueue()
    engine.submit(EngineRequest([5, 6, 7], 200), parts.put)
    os.kill(engine.pid, signal.SIGKILL)
    engine._thread.join(30)
    engine.submit(EngineRequest([5, 6, 7], 4), parts.put)
    finish = None
    while finish is None or "code" in finish:
        finish = parts.get(timeout=30).finish
    assert "Cannot allocate memory" in finish


def test_an_engine_closed_while_it_starts_again_leaves_no_process(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(model)
    begun, begin = threading.Event(), engine._start_process
    started: list[Any] = []

    def noted(lines: Any) -> Any:
        begun.set()
        started.append(begin(lines))
        return started[0]

    monkeypatch.setattr(engine, "_start_process", noted)
    os.kill(engine.pid, signal.SIGKILL)
    assert begun.wait(30)
    engine.close()
    assert gone(started[0][0].pid)
