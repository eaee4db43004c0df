"""Schemas that cannot hold up the engine, and an engine that is stuck."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import openai
import pytest

from sizewise.models import engine_process as engines
from sizewise.models import open_model
from sizewise.models.engine_process import EngineRequest, Part
from sizewise.models.openvino.engine import Engine
from sizewise.models.openvino.model import OpenvinoModel
from sizewise.models.openvino.schemas import unenforced
from sizewise.models.schema_bounds import MAX_GROUPS, pattern_size, unusable
from sizewise.store import Store
from tests.clock import processor_seconds
from tests.conftest import make_tiny
from tests.service.test_service import client, running

BOMB = "^((a|b){1,500}){1,500}$"
HELLO = [{"role": "user", "content": "hello there my friend"}]


@pytest.fixture
def model(tiny_folder: Path, store: Store) -> Any:
    opened = open_model(str(tiny_folder), store=store, precision="fp32", engine="openvino")
    yield opened
    opened.close()


def engine_of(model: Any) -> Engine:
    assert isinstance(model, OpenvinoModel)
    return model._engine


def ended(parts: SimpleQueue[Part], seconds: float = 60) -> tuple[list[int], str]:
    ids: list[int] = []
    while True:
        part = parts.get(timeout=seconds)
        ids += part.ids
        if part.finish:
            return ids, part.finish


def optional(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(count)}}


def doubled(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        found = {"anyOf": [found, found]}
    return found


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": BOMB},
        {"type": "object", "patternProperties": {BOMB: {"type": "string"}}},
        {"type": "object", "propertyNames": {"pattern": BOMB}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"pattern": BOMB}}},
        {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^((((a{2}b){9}){9}){9}){9}$"}]},
        {"type": "string", "pattern": "^(?:(?:[a-z]x){500,}){500}$"},
        {"type": "string", "pattern": "^((a|b){,500}){,500}$"},
        {"type": "string", "pattern": "^(ab){500}{500}$"},
        {"type": "string", "pattern": "(a|b){1,1000}" * 30},
        {"type": "string", "pattern": "(" * (MAX_GROUPS + 1) + ")" * (MAX_GROUPS + 1)},
        {"type": "string", "pattern": "a" * 30_000},
        {"type": "object", "properties": {f"p{i}": {"pattern": "^(a|b){1,500}$"} for i in range(30)}},
        optional(2_000),
        doubled(13),
        {"properties": {f"p{i}": {"type": "number", "minimum": -12345.6789, "maximum": 9.9e8} for i in range(200)}},
        {"enum": [f"{i} " * 50 for i in range(3_000)]},
    ],
    ids=lambda schema: json.dumps(schema)[:40],
)
def test_schemas_that_would_take_long_are_not_used(schema: dict[str, Any]) -> None:
    assert unusable(json.dumps(schema))
    assert processor_seconds(lambda: unusable(json.dumps(schema))) < 1


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [f"p{i}" for i in range(3_000)]},
        {"type": "array", "minItems": 20_000, "items": {"type": "integer"}},
        {"type": "string", "maxLength": 100_000},
        {"type": "string", "pattern": r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"},
        {"type": "string", "pattern": r"^[\w.+-]{1,64}@([a-z0-9-]{1,63}\.){1,8}[a-z]{2,63}$"},
        {"type": "string", "pattern": r"^(\+?\d{1,3}[ -]?)?(\(\d{1,5}\)[ -]?)?(\d{1,4}[ -]?){2,6}$"},
        {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})$"},
        {"type": "string", "pattern": "^(" + "|".join(f"word{i}" for i in range(2_000)) + ")$"},
        optional(150),
        doubled(8),
        {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(1_000)}}
        | {"required": [f"p{i}" for i in range(1_000)]},
        {"$ref": "#/$defs/node", "$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}},
        {
            "type": "object",
            "properties": {f"p{i}": {"type": "number", "minimum": 0.0, "maximum": 1.0} for i in range(20)},
        },
    ],
    ids=lambda schema: json.dumps(schema)[:40],
)
def test_schemas_of_daily_use_are_used(schema: dict[str, Any]) -> None:
    assert unusable(json.dumps(schema)) == ""


def test_the_size_of_a_pattern() -> None:
    for pattern, size, depth in (
        ("abc", 1, 0),
        (r"\d{4}", 4, 0),
        ("(ab){3}", 3, 1),
        ("((a|b){2}){3}", 12, 2),
        ("a{1,100000}", 256, 0),
        ("[]a{3}]b", 2, 0),
        ("a{b", 1, 0),
        (r"\(\{3", 2, 0),
        ("", 0, 0),
        (")){", 3, 0),
    ):
        found = pattern_size(pattern)
        assert found[1] == depth, pattern
        assert found[0] == pytest.approx(size, abs=2), pattern


def test_no_door_lets_such_a_schema_in(tmp_path: Path, text_folder: Path, store: Store) -> None:
    folder = make_tiny(tmp_path / "long", text_folder, "full", 2_048)  # room for tools
    model = open_model(str(folder), store=store, precision="fp32", engine="openvino")
    schema = {"type": "string", "pattern": BOMB}
    arguments = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": arguments}}
    other = {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "$defs": {"x": schema}}}}
    doors: list[dict[str, Any]] = [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
        {"tools": [tool], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": [tool, other], "tool_choice": "required"},
    ]
    with running({"tiny": model}) as address:
        talk = client(address)
        for more in doors:
            for streamed in ({}, {"stream": True}):
                begun = time.monotonic()
                with pytest.raises(openai.BadRequestError, match="repeats too much") as refused:
                    talk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8, **more, **streamed)
                assert refused.value.code == "invalid_schema"
                assert time.monotonic() - begun < 20
        assert talk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=4).usage.completion_tokens > 0
    model.close()


def test_a_grammar_has_a_deadline_and_the_others_go_on(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "unusable", lambda schema: "")
    monkeypatch.setattr(engines, "GRAMMAR_S", 1.0)
    engine = engine_of(model)
    alone = engine.greedy([[5, 6, 7], [8, 9]], [150, 40])
    parts: list[SimpleQueue[Part]] = [SimpleQueue() for _ in range(4)]
    engine.submit(EngineRequest([5, 6, 7], 150), parts[0].put)
    first = parts[0].get(timeout=30)
    pid, schema = engine.pid, json.dumps({"type": "string", "pattern": BOMB})
    engine.submit(EngineRequest([5, 6], 8, json_schema=schema), parts[1].put)
    engine.submit(EngineRequest([8, 9], 40), parts[2].put)
    engine.submit(EngineRequest([5, 6], 8, json_schema='{"type": "boolean"}'), parts[3].put)
    assert "its grammar took longer" in ended(parts[1])[1]
    ids, finish = ended(parts[0])
    assert ([*first.ids, *ids], finish) == (alone[0], "length")
    assert ended(parts[2]) == (alone[1], "length")
    assert ended(parts[3])[1] in ("stop", "length")
    assert engine.pid != pid
    for _ in range(engines.MAX_STARTS + 1):  # asked again it is refused at once, and others of its kind end no engine
        engine.submit(EngineRequest([5, 6], 8, json_schema=schema), parts[1].put)
        assert "its grammar took longer" in ended(parts[1], 2)[1]
    assert len(engine.greedy([[5, 6]], [8])[0]) == 8


@pytest.mark.parametrize("busy", [True, False])
def test_a_stuck_engine_is_told_of_and_started_again(model: Any, monkeypatch: pytest.MonkeyPatch, busy: bool) -> None:
    monkeypatch.setattr(engines, "PING_S", 0.3)
    with running({"tiny": model}) as address:
        engine = engine_of(model)
        expected = engine.greedy([[5, 6, 7]], [60])[0]
        monkeypatch.setattr(engines, "SLOW_S", 0.5)
        monkeypatch.setattr(engines, "STUCK_S", 3.0)
        engine._longest_s = 0.0
        pid = engine.pid
        os.kill(pid, signal.SIGSTOP)
        parts: SimpleQueue[Part] = SimpleQueue()
        if busy:
            engine.submit(EngineRequest([5, 6, 7], 60), parts.put)
        said = []
        for _ in range(100):
            answer = httpx.get(f"{address}/health")
            said.append(answer.status_code)
            if engine.pid != pid and answer.status_code == 200:
                break
            time.sleep(0.1)
        assert 503 in said
        assert engine.pid != pid
        assert answer.json()["failed"] == {}
        if busy:
            assert ended(parts) == (expected, "length")
        assert engine.greedy([[5, 6, 7]], [60])[0] == expected


def test_whoever_cannot_be_gone_on_with_is_told_to_ask_again(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "STUCK_S", 1.0)
    monkeypatch.setattr(engines, "STUCK_STEPS", 0)
    with running({"tiny": model}) as address:
        os.kill(engine_of(model).pid, signal.SIGSTOP)
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "boolean"}}}
        with pytest.raises(openai.InternalServerError, match="was restarted") as told:
            client(address).chat.completions.create(model="tiny", messages=HELLO, max_tokens=8, response_format=form)
        assert told.value.status_code == 503
        assert int(told.value.response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"allOf": [{"enum": [True]}, {"enum": [True, False]}]}, "'allOf'"),
        ({"type": "integer", "multipleOf": 2}, "'multipleOf'"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "'uniqueItems'"),
        ({"type": "object", "properties": {"a": {"enum": ["x"], "not": {"const": "x"}}}}, "'not'"),
        ({"if": {"type": "integer"}, "then": {"minimum": 5}}, "'if'"),
        ({"anyOf": [{"type": "array", "contains": {"const": 1}}]}, "'contains'"),
        ({"$ref": "http://example.org/x"}, "'$ref'"),
    ],
)
def test_a_schema_that_openvino_would_ignore_in_part_is_refused(schema: dict[str, Any], keyword: str) -> None:
    assert keyword in unenforced(json.dumps(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"not": {"type": "string"}, "if": {"enum": [{"not": 1}]}}, "required": ["if"]},
        {"type": "array", "items": {"type": "integer"}, "uniqueItems": False},
        {"anyOf": [{"$ref": "#/$defs/A~1b"}, {"type": "null"}], "default": None, "$defs": {"A/b": {"type": "string"}}},
        {"allOf": [{"$ref": "#/$defs/A"}], "title": "A", "$defs": {"A": {"type": "string", "format": "uri"}}},
        {"oneOf": [{"const": 1}, {"const": 2}], "$schema": "https://json-schema.org/draft/2020-12/schema"},
    ],
)
def test_usual_schemas_are_accepted_by_openvino(schema: dict[str, Any]) -> None:
    assert unenforced(json.dumps(schema)) == ""


def test_openvino_refuses_what_it_would_ignore(model: Any) -> None:
    parts: SimpleQueue[Part] = SimpleQueue()
    engine_of(model).submit(EngineRequest([5, 6], 8, json_schema='{"type": "integer", "multipleOf": 2}'), parts.put)
    assert ended(parts)[1] == "the schema can't be used: openvino-genai doesn't enforce 'multipleOf'"
