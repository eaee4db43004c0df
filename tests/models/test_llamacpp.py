"""llama.cpp as an engine: GGUF files as they are quantized, and folders converted and compared first."""

from __future__ import annotations

import copy
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from sizewise.errors import SizewiseError
from sizewise.lm import gguf_writing, hf_format
from sizewise.models import conversions, llamacpp, open_model
from sizewise.models.engine_process import EngineRequest, Part
from sizewise.models.llamacpp import LlamaCppModel, process, schemas
from sizewise.models.local import LocalModel
from sizewise.records import Message, Request
from sizewise.store import Store

pytestmark = pytest.mark.skipif(not llamacpp.is_installed(), reason="llama.cpp's bindings are not installed")
SCHEMA = json.dumps(
    {
        "type": "object", "properties": {"kind": {"enum": ["bug", "praise"]}, "stars": {"type": "integer"}},
        "required": ["kind", "stars"], "additionalProperties": False,
    }
)  # fmt: skip


def asked(text: str, number: int = 0, **more: object) -> Request:
    return Request(id=str(number), messages=(Message(role="user", content=text),), **({"max_tokens": 12} | more))


@pytest.fixture
def gguf_file(tiny_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    network, tokenizer = hf_format.load_network(tiny_folder, "fp32"), hf_format.load_tokenizer(tiny_folder)
    gguf_writing.write_gguf(network, tokenizer, path, "f16", "tiny", "MIT")
    return path


def test_a_gguf_file_runs_as_it_is(gguf_file: Path, tiny_folder: Path, store: Store) -> None:
    said: list[str] = []
    model = open_model(f"gguf:{gguf_file}", store=store, engine="auto", say=said.append)
    assert model.describe().engine.startswith("llama.cpp"), said
    assert model.describe().precision == "f16"
    assert not list(store.home.glob("weights/gguf-*")), "the file was unpacked"
    reference = open_model(str(tiny_folder), store=store, precision="fp32")
    requests = [asked(text, number) for number, text in enumerate(("the river", "a mill by the bridge", "what"))]
    found, expected = (sorted((a.id, a.text) for a in m.complete(requests)) for m in (model, reference))
    model.close()
    reference.close()
    same = sum(one == other for one, other in zip(found, expected, strict=True))
    assert same >= 2, (found, expected)  # F16 against fp32 may choose between tied tokens


def test_engines_that_must_score_or_cannot_read_fall_back(gguf_file: Path, store: Store) -> None:
    scoring = open_model(f"gguf:{gguf_file}", store=store)
    assert scoring.describe().can_score
    scoring.close()
    gguf_file.write_bytes(gguf_file.read_bytes()[:5000])
    with pytest.raises(SizewiseError, match=r"can't be read as GGUF|can't open"):
        open_model(f"gguf:{gguf_file}", store=store, engine="llamacpp")


def test_sampling_limits_ends_and_schemas(gguf_file: Path, store: Store) -> None:
    model = open_model(f"gguf:{gguf_file}", store=store, engine="llamacpp", keep_prefixes=True)
    (limited,) = model.complete([asked("the river", max_tokens=3)])
    assert (limited.finish, limited.completion_tokens) == ("length", 3)
    warm = {"temperature": 1.5, "max_tokens": 16}
    first, again, other = (next(model.complete([asked("the", seed=seed, **warm)])).text for seed in (1, 1, 2))
    assert first == again != other
    (shaped,) = model.complete([asked("say", json_schema=SCHEMA, max_tokens=200, seed=0)])
    if shaped.finish == "stop":  # a random network may write digits up to the limit
        assert set(json.loads(shaped.text)) == {"kind", "stars"}
    else:
        assert shaped.text.lstrip().startswith("{")
    (refused,) = model.complete([asked("say", json_schema='{"type": "object", "properties": 3}')])
    assert "the schema can't be used" in (refused.error or "")
    assert next(model.complete([asked("the river", max_tokens=3)])).text == limited.text
    model.close()


VOCABULARY = ((1, b" a"), (2, b""), (10, b"\xf0\x9f"), (11, b"\x8e"), (12, b"\x89"), (13, b"\xf0"), (14, b"\x9f\x8e"))
PARTY = "\N{PARTY POPPER}"


class Heard:
    """Keeps the parts of answers."""

    def __init__(self) -> None:
        self.parts: list[list[Any]] = []

    def send(self, line: dict[str, list[list[Any]]]) -> None:
        self.parts += line["parts"]


class Scripted:
    """A server with prepared events."""

    def __init__(self, *events: dict[str, object]) -> None:
        self.events = events

    def stream(self, line: object, stop: object) -> Iterator[dict[str, object]]:
        yield from self.events

    def fragments(self) -> process.Fragments:
        return process.Fragments(VOCABULARY)


def heard(*events: dict[str, object], logprobs: bool = False, schema: str | None = None) -> list[list[Any]]:
    out = Heard()
    line = {"number": 1, "ends": [2], "json_schema": schema, "logprobs": logprobs}
    process.answer(Scripted(*events), line, out, process.Stop())  # type: ignore[arg-type]
    return out.parts


def test_tokens_of_a_character_that_spans_several_are_found_again() -> None:
    party = {"content": PARTY, "tokens": [12], "tokens_predicted": 3}
    plain = {"content": " a", "tokens": [1], "tokens_predicted": 4}
    last = {"content": "", "tokens": [], "stop": True, "stop_type": "limit", "tokens_predicted": 4}
    found = heard(party, plain, last)
    assert [part[1] for part in found] == [[10, 11, 12], [1], []]
    assert found[-1][3] == "length"
    stated = {"completion_probabilities": [{"logprob": -0.5, "bytes": list(PARTY.encode())}]}
    ((_, ids, nats, _), *_) = heard(party | stated, plain, last, logprobs=True)
    assert [math.isnan(one) for one in nats] == [True, True, False], nats
    assert len(ids) == 3
    fragments = process.Fragments(VOCABULARY)
    assert fragments.before(12, PARTY.encode(), 2) == [10, 11]
    assert fragments.before(12, (" " + PARTY).encode(), 2) == [13, 11], "unknown bytes: any beginning of a character"


def test_an_answer_that_is_cut_inside_a_character_has_all_its_tokens() -> None:
    plain = {"content": " a", "tokens": [1], "tokens_predicted": 1}
    last = {"content": "", "tokens": [], "stop": True, "stop_type": "limit", "tokens_predicted": 3}
    (_, (_, ids, _, finish)) = heard(plain, last)
    assert (len(ids), finish) == (2, "length")


def test_tokens_of_long_characters_are_delivered_by_the_engine(gguf_file: Path) -> None:
    engine = llamacpp.Engine(gguf_file, 2048)
    asked = [EngineRequest([5, 6, 7], 40, logprobs=seed > 2, temperature=2.0, seed=seed) for seed in range(6)]
    for found in engine.all_answers(asked):
        assert (len(found.ids), found.finish) == (40, "length")
        assert len(found.nats) in (0, 40)
    engine.close()


@pytest.mark.parametrize("schema", ["{}", *('{"items":' * 2_000 + "{}" + "}" * 2_000,)])
def test_any_depth_of_a_schema_gets_an_answer(schema: str) -> None:
    assert schemas.unenforced(schema) in ("", "it is nested too deeply")


@pytest.mark.parametrize(
    ("text", "schema", "finish"),
    [
        ("It is a story.", "{}", "the schema can't be used: llama.cpp dropped it, and the answer is no JSON"),
        ('{"a": 1}', "{}", "stop"),
        ("It is a story.", None, "stop"),
    ],
)
def test_a_schema_that_llama_cpp_drops_is_noticed(text: str, schema: str | None, finish: str) -> None:
    parts = heard(
        {"content": text[:5], "tokens": [5]},
        {"content": text[5:], "tokens": [6]},
        {"content": "", "tokens": [], "stop": True, "stop_type": "eos"},
        schema=schema,
    )
    assert [part[1] for part in parts] == [[5], [6], []]
    assert parts[-1][3] == finish


def test_a_token_that_ends_the_answer_ends_it(gguf_file: Path) -> None:
    engine = llamacpp.Engine(gguf_file, 2048)
    (free,) = engine.all_answers([EngineRequest([5, 6, 7], 12)])
    assert len(free.ids) == 12
    (ended,) = engine.all_answers([EngineRequest([5, 6, 7], 12, ends=[free.ids[4]], logprobs=True)])
    first = free.ids.index(free.ids[4])
    assert ended.ids == free.ids[: first + 1]
    assert len(ended.nats) == len(ended.ids)
    assert ended.finish == "stop"
    engine.close()


def test_cancelled_requests_and_many_at_once(gguf_file: Path) -> None:
    engine = llamacpp.Engine(gguf_file, 8192)
    parts: SimpleQueue[Part] = SimpleQueue()
    cancelled = threading.Event()
    engine.submit(EngineRequest([5, 6, 7], 400), parts.put, cancelled)
    parts.get(timeout=60)
    cancelled.set()
    while not (last := parts.get(timeout=60)).finish:
        pass
    assert last.finish == "stop"
    requests = [EngineRequest([5 + number % 7, 6, 7], 8) for number in range(3 * llamacpp.engine.SLOTS)]
    found = engine.all_answers(requests)
    assert all(len(part.ids) == 8 for part in found)
    engine.close()


def test_a_folder_is_converted_and_compared(tiny_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    model = open_model(str(tiny_folder), store=store, engine="llamacpp", say=said.append)
    assert isinstance(model, LlamaCppModel)
    assert model.describe().revision.endswith("+llamacpp")
    assert any("Comparing" in line for line in said)
    model.close()
    said.clear()
    open_model(str(tiny_folder), store=store, engine="llamacpp", say=said.append).close()
    assert said == []


def test_a_wrong_conversion_is_noticed(tiny_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    network, tokenizer = hf_format.load_network(tiny_folder, "fp32"), hf_format.load_tokenizer(tiny_folder)
    for layer in network.model.layers:  # fresh blocks hardly change the embedding
        layer.mlp.down_proj.weight.data *= 50
        layer.mlp.up_proj.weight.data *= 50
    hf_format.save_model(network, tokenizer, tiny_folder)

    def wrong(network: object, tokenizer: object, folder: Path) -> None:
        other = copy.deepcopy(network)
        other.model.layers[1].mlp.down_proj.weight.data *= -1  # type: ignore[attr-defined]
        conversions._write_gguf(other, tokenizer, folder)

    monkeypatch.setattr("sizewise.models.opening.LLAMACPP", conversions.LLAMACPP._replace(convert=wrong))
    with pytest.raises(SizewiseError, match=r"outputs in .* differ"):
        open_model(str(tiny_folder), store=store, engine="llamacpp")
    monkeypatch.undo()
    with pytest.raises(SizewiseError, match=r"outputs in .* differ") as refused:
        open_model(str(tiny_folder), store=store, engine="llamacpp")
    assert "to try the conversion again, remove" in refused.value.next_step


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "object", "properties": 3}, "where schemas are expected"),
        ({"type": "object", "properties": {"a": 3}}, "where a schema is expected"),
        ({"type": "object", "required": "a"}, "not a list"),
        ({"type": "object", "required": [1]}, "not a list"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "'oneOf'"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "'uniqueItems'"),
        ({"type": "string", "format": "uri"}, "format"),
        ({"type": "string", "format": {"a": 1}}, "format"),
        ({"type": "string", "pattern": "a(?=b)"}, "lookaround"),
        ({"not": {"type": "string"}}, "'not'"),
        ({"type": "text"}, "not a type"),
        ({"type": {"a": 1}}, "not a type"),
        ([1], "where a schema is expected"),
        ({"type": "string", "pattern": "(["}, "no regular expression"),
        ({"type": "string", "pattern": "a{b"}, "opening brace"),
        ({"type": "object", "patternProperties": {"([": {"type": "string"}}}, "no regular expression"),
        ({"enum": []}, "'enum'"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "'required' names"),
        ({"type": "array", "minItems": 5, "maxItems": 2}, "'minItems'"),
        ({"$ref": "http://example.org/x"}, "'$ref' leads out"),
        ({"type": "array", "items": {"$ref": "#/$defs/none"}}, "'$ref' leads nowhere"),
    ],
)
def test_schemas_that_llama_cpp_would_ignore_are_refused(schema: object, reason: str) -> None:
    assert reason in schemas.unenforced(json.dumps(schema))


@pytest.mark.parametrize(
    "schema",
    [
        json.loads(SCHEMA),
        {"type": "array", "items": {"$ref": "#/$defs/one"}, "maxItems": 3, "$defs": {"one": {"type": "boolean"}}},
        {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 4}]},
        {"type": "object", "properties": {"required": {"type": "string"}}, "required": ["required"]},
        {"type": ["string", "null"], "enum": ["a", None]},
        {"type": "number", "minimum": 0, "multipleOf": 0.5},
        {"type": "string", "pattern": "b+c"},
        {"type": "string", "pattern": r"^\\p{L}{2,3}[{}]\\u{1F600}(?<year>\\d{4})\\{$"},
    ],
)
def test_schemas_that_llama_cpp_enforces_are_accepted(schema: object) -> None:
    assert schemas.unenforced(json.dumps(schema)) == ""


def test_what_llama_cpp_cannot_write_runs_with_transformers(
    tiny_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sizewise.models.llamacpp.is_installed", lambda: True)
    model = open_model(str(tiny_folder), store=store)
    assert isinstance(model, LocalModel)
    model.close()
