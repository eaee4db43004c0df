"""Logs of requests as tracing tools export them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents import Reading, read_paths
from sizewise.errors import SizewiseError
from sizewise.models import open_model
from sizewise.models.recorded import read_log
from sizewise.records import Message, Request

ASKED = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Où est la clé ?"}]
SAID = {"role": "assistant", "content": "Au crochet 3."}
EXPECTED = ([("system", "Be short."), ("user", "Où est la clé ?")], ("Au crochet 3.",))


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def found(reading: Reading) -> list[tuple[list[tuple[str, str]], tuple[str, ...]]]:
    return [([(m.role, m.content) for m in e.messages], e.references) for e in reading.examples]


LANGFUSE: dict[str, dict[str, Any]] = {
    "observation": {"id": "o1", "traceId": "t1", "type": "GENERATION", "input": ASKED, "output": SAID},
    "wrapped": {"id": "o1", "trace_id": "t1", "type": "GENERATION", "input": {"messages": ASKED},
                "output": {"choices": [{"message": SAID}]}},
    "text": {"id": "o1", "traceId": "t1", "input": json.dumps(ASKED), "output": "Au crochet 3."},
    "trace": {"id": "t1", "sessionId": "s", "input": ASKED, "output": {"content": "Au crochet 3."}, "scores": []},
    "trace with observations": {"id": "t1", "input": {"user_id": 3}, "output": None, "observations": [
        {"id": "o0", "type": "SPAN", "input": "x", "output": "y"},
        {"id": "o1", "type": "GENERATION", "input": ASKED, "output": [SAID]},
    ]},
}  # fmt: skip


@pytest.mark.parametrize("row", LANGFUSE.values(), ids=LANGFUSE)
def test_langfuse_exports_are_read(tmp_path: Path, row: Any) -> None:
    reading = read_paths([write(tmp_path / "x.jsonl", row | {"timestamp": "2026-02-03T04:05:06Z", "tags": ["beta"]})])
    assert found(reading) == [EXPECTED]
    assert dict(reading.forms) == {"Langfuse (the logged answer is the reference)": 1}


def test_langfuse_keeps_ids_times_and_tags_and_skips_what_is_no_request(tmp_path: Path) -> None:
    spans = [{"id": f"s{i}", "traceId": "t", "type": "SPAN", "input": {"a": 1}, "output": {"b": 2}} for i in range(4)]
    row = LANGFUSE["observation"] | {"startTime": "2026-02-03T04:05:06Z", "tags": ["beta"]}
    (tmp_path / "x.json").write_text(json.dumps({"data": [*spans, row], "meta": {"page": 1}}), encoding="utf-8")
    reading = read_paths([tmp_path / "x.json"])
    (example,) = reading.examples
    assert (example.id, example.time, example.tags) == ("o1", "2026-02-03T04:05:06+00:00", ("beta",))
    assert len(reading.rejected) == 0
    assert "x.json: skipped 4 rows of traces or tickets that aren't a request with its answer" in reading.notes


def test_one_trace_over_several_lines_is_read(tmp_path: Path) -> None:
    for name in ("trace", "trace with observations"):
        (tmp_path / "x.json").write_text(json.dumps(LANGFUSE[name], indent=2), encoding="utf-8")
        assert found(read_paths([tmp_path / "x.json"])) == [EXPECTED]


def test_langfuse_tables_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "traceId", "type", "input", "output"])
        rows.writerow(["o1", "t1", "GENERATION", json.dumps(ASKED), json.dumps(SAID)])
    assert found(read_paths([path])) == [EXPECTED]


def test_a_request_that_failed_is_rejected(tmp_path: Path) -> None:
    rows = [LANGFUSE["observation"] | {"id": f"o{i}"} for i in range(30)]
    rows[7] |= {"output": None, "level": "ERROR"}
    reading = read_paths([write(tmp_path / "x.jsonl", *rows)])
    assert len(reading.examples) == 29
    assert [(row.line, row.reason) for row in reading.rejected] == [(8, "the request failed (level ERROR)")]


def attribute(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"key": key, "value": {"arrayValue": {"values": [typed(item) for item in value]}}}
    return {"key": key, "value": {"stringValue": value}}


def typed(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": k, "value": typed(v)} for k, v in value.items()]}}
    return {"arrayValue": {"values": [typed(v) for v in value]}} if isinstance(value, list) else {"stringValue": value}


def otlp(*spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}]}


def parts(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


IN = [parts("user", "Où est la clé ?")]
OUT = [parts("assistant", "Au crochet 3.") | {"finish_reason": "stop"}]
SYSTEM = [{"type": "text", "content": "Be short."}]
INDEXED = {
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be short.",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": "Où est la clé ?",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "Au crochet 3.",
}
SPAN = {"spanId": "ab", "name": "chat", "startTimeUnixNano": "1770091506000000000"}
GENAI: dict[str, dict[str, Any]] = {
    "messages as JSON": otlp(SPAN | {"attributes": [
        attribute("gen_ai.system_instructions", json.dumps(SYSTEM)), attribute("gen_ai.input.messages", json.dumps(IN)),
        attribute("gen_ai.output.messages", json.dumps(OUT))]}),
    "messages as values": otlp(SPAN | {"attributes": [
        attribute("gen_ai.system_instructions", SYSTEM), attribute("gen_ai.input.messages", IN),
        attribute("gen_ai.output.messages", OUT)]}),
    "numbered attributes": otlp(SPAN | {"attributes": [attribute(k, v) for k, v in INDEXED.items()]}),
    "content events": otlp(SPAN | {"attributes": [attribute("gen_ai.system", "openai")], "events": [
        {"name": "gen_ai.content.prompt", "attributes": [attribute("gen_ai.prompt", json.dumps(ASKED))]},
        {"name": "gen_ai.content.completion", "attributes": [attribute("gen_ai.completion", json.dumps([SAID]))]}]}),
    "message events": otlp(SPAN | {"attributes": [attribute("gen_ai.system", "openai")], "events": [
        {"name": "gen_ai.system.message", "attributes": [attribute("content", "Be short.")]},
        {"name": "gen_ai.user.message", "attributes": [attribute("content", "Où est la clé ?")]},
        {"name": "gen_ai.choice", "attributes": [attribute("message", json.dumps(SAID))]}]}),
    "details event": otlp(SPAN | {"attributes": [attribute("gen_ai.system", "openai")], "events": [
        {"name": "gen_ai.client.inference.operation.details", "attributes": [
            attribute("gen_ai.system_instructions", SYSTEM), attribute("gen_ai.input.messages", IN),
            attribute("gen_ai.output.messages", OUT)]}]}),
    "one span": {"name": "chat", "context": {"span_id": "ab"}, "start_time": "2026-02-03T04:05:06Z",
                 "attributes": INDEXED, "events": []},
}  # fmt: skip


@pytest.mark.parametrize("row", GENAI.values(), ids=GENAI)
def test_opentelemetry_spans_are_read(tmp_path: Path, row: Any) -> None:
    reading = read_paths([write(tmp_path / "x.jsonl", row)])
    assert found(reading) == [EXPECTED]
    (example,) = reading.examples
    assert (example.id, example.time) == ("ab", "2026-02-03T04:05:06+00:00")
    assert dict(reading.forms) == {"OpenTelemetry GenAI (the logged answer is the reference)": 1}


def test_calls_in_spans_keep_their_structure(tmp_path: Path) -> None:
    call = {"type": "tool_call", "id": "c", "name": "find", "arguments": {"k": 3}}
    asked = [
        *IN,
        {"role": "assistant", "parts": [call]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "hook 3"}]},
    ]
    span = SPAN | {"attributes": {"gen_ai.input.messages": asked, "gen_ai.output.messages": OUT}}
    (example,) = read_paths([write(tmp_path / "x.jsonl", span)]).examples
    assert [m.role for m in example.messages] == ["user", "assistant", "tool"]
    assert example.messages[1].tool_calls[0].arguments == '{"k": 3}'
    assert (example.messages[2].content, example.messages[2].tool_call_id) == ("hook 3", "c")


def test_several_answers_of_one_request_are_references(tmp_path: Path) -> None:
    span = SPAN | {
        "attributes": {"gen_ai.input.messages": IN, "gen_ai.output.messages": [*OUT, parts("assistant", "Là.")]}
    }
    (example,) = read_paths([write(tmp_path / "x.jsonl", span)]).examples
    assert example.references == ("Au crochet 3.", "Là.")


def test_spans_without_messages_are_skipped_and_counted(tmp_path: Path) -> None:
    empty = SPAN | {"attributes": {"gen_ai.system": "openai", "gen_ai.request.model": "m"}}
    other = SPAN | {"attributes": {"http.method": "GET"}}
    whole = otlp(*(GENAI["messages as JSON"]["resourceSpans"][0]["scopeSpans"][0]["spans"]), empty, other)
    reading = read_paths([write(tmp_path / "x.jsonl", whole, empty, other)])
    assert len(reading.examples) == 1
    assert len(reading.rejected) == 0
    assert "x.jsonl: skipped 2 rows of traces or tickets that aren't a request with its answer" in reading.notes
    with pytest.raises(SizewiseError, match="no rows"):
        read_paths([write(tmp_path / "x.jsonl", other)])


@pytest.mark.parametrize("row", [LANGFUSE["observation"], GENAI["messages as JSON"]], ids=["langfuse", "opentelemetry"])
def test_traces_are_logs_and_recorded_answers_too(tmp_path: Path, row: Any) -> None:
    path = write(tmp_path / "x.jsonl", row)
    (request,) = read_log(path)
    assert [turn.content for turn in request.messages] == ["Be short.", "Où est la clé ?"]
    assert request.answer == "Au crochet 3."
    asked = Request(id="x", messages=tuple(Message.model_validate(turn) for turn in ASKED))
    (answer,) = open_model(f"recorded:{path}").complete([asked])
    assert answer.text == "Au crochet 3."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"level": "ERROR", "statusMessage": "overloaded"}, "the request failed (overloaded)"),
        ({"output": {"choices": [{"message": SAID, "finish_reason": "length"}]}}, "cut off (finish_reason length)"),
        ({"output": SAID | {"finish_reason": "content_filter"}}, "cut off (finish_reason content_filter)"),
        ({"output": ""}, "output is empty"),
    ],
)
def test_failed_and_cut_answers_are_no_references(tmp_path: Path, change: Any, reason: str) -> None:
    good = [LANGFUSE["observation"] | {"id": f"o{i}"} for i in range(30)]
    trace = {"id": "t", "observations": [*good, LANGFUSE["observation"] | {"id": "bad"} | change], "input": "x"}
    for rows in ([trace], [*good, LANGFUSE["observation"] | change]):
        reading = read_paths([write(tmp_path / "x.jsonl", *rows)])
        assert len(reading.examples) == 30
        assert [reason in row.reason for row in reading.rejected] == [True]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attributes": [attribute("error.type", "timeout")]}, "the request failed (timeout)"),
        ({"status": {"code": 2, "message": "overloaded"}}, "the request failed (overloaded)"),
        ({"attributes": [attribute("gen_ai.response.finish_reasons", ["length"])]}, "cut off (finish_reason length)"),
    ],
)
def test_failed_spans_are_no_references(tmp_path: Path, change: Any, reason: str) -> None:
    asked = [attribute("gen_ai.input.messages", json.dumps(IN)), attribute("gen_ai.output.messages", json.dumps(OUT))]
    good = [{"name": "chat", "spanId": f"s{i}", "attributes": asked} for i in range(30)]
    bad = {"name": "chat", "spanId": "bad", "attributes": asked + change.get("attributes", [])}
    reading = read_paths([write(tmp_path / "x.jsonl", otlp(*good, change | bad))])
    assert len(reading.examples) == 30
    assert [reason in row.reason for row in reading.rejected] == [True]


@pytest.mark.parametrize("key", ["sessionId", "session_id", "conversation_id"])
def test_the_session_of_a_trace_is_its_group(tmp_path: Path, key: str) -> None:
    inside = {"id": "t", key: "séance 7", "input": "x", "observations": [LANGFUSE["observation"]]}
    for row in (LANGFUSE["observation"] | {key: "séance 7"}, inside):
        (example,) = read_paths([write(tmp_path / "x.jsonl", row)]).examples
        assert example.group == "séance 7"
    asked = [attribute("gen_ai.input.messages", json.dumps(IN)), attribute("gen_ai.output.messages", json.dumps(OUT))]
    span = {"name": "chat", "spanId": "s", "attributes": [*asked, attribute("gen_ai.conversation.id", "séance 7")]}
    (example,) = read_paths([write(tmp_path / "x.jsonl", otlp(span))]).examples
    assert example.group == "séance 7"


def test_tools_of_requests_are_kept(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "find", "parameters": {}}}]
    row = LANGFUSE["observation"] | {"input": {"messages": ASKED, "tools": tools}}
    (example,) = read_paths([write(tmp_path / "x.jsonl", row)]).examples
    assert json.loads(example.tools) == tools


CALL = {"name": "find", "args": {"price": 4.5}, "id": "c1", "type": "tool_call"}
OLD_CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"price": 4.5}'}}


@pytest.mark.parametrize(
    "turns",
    [
        [{"type": "human", "content": "Où ?"}, {"type": "ai", "content": "", "tool_calls": [CALL]}],
        [{"type": "human", "data": {"content": "Où ?"}},
         {"type": "ai", "data": {"content": "", "additional_kwargs": {"tool_calls": [OLD_CALL]}}}],
        [{"lc": 1, "id": ["langchain", "schema", "HumanMessage"], "kwargs": {"content": "Où ?"}},
         {"lc": 1, "id": ["langchain", "schema", "AIMessageChunk"], "kwargs": {"content": "", "tool_calls": [CALL]}}],
        [{"role": "user", "parts": [{"text": "Où ?"}]},
         {"role": "model", "parts": [{"functionCall": {"name": "find", "args": {"price": 4.5}}}]}],
    ],
)  # fmt: skip
def test_calls_of_langchain_and_gemini_are_read(tmp_path: Path, turns: Any) -> None:
    (example,) = read_paths([write(tmp_path / "x.jsonl", {"messages": turns})]).examples
    assert [(m.role, m.content) for m in example.messages] == [("user", "Où ?")]
    assert [json.loads(text) for text in example.references] == [{"name": "find", "arguments": {"price": 4.5}}]


def test_numbers_in_json_texts_keep_their_spelling(tmp_path: Path) -> None:
    call = {"from": "function_call", "value": '{"name": "find", "arguments": {"price": 4.50}}'}
    row = {"conversations": [{"from": "human", "value": "Où ?"}, call]}
    (example,) = read_paths([write(tmp_path / "x.jsonl", row)]).examples
    assert "4.50" in example.references[0] or example.references[0].count("4.5") == 1
    turns = [{"role": "user", "content": "Où ?"}, {"role": "assistant", "parts": [
        {"type": "tool_call", "name": "find", "arguments": {"price": 0}}]}]  # fmt: skip
    text = json.dumps(turns).replace('"price": 0', '"price": 4.50')
    span = {"name": "chat", "spanId": "s", "attributes": [attribute("gen_ai.input.messages", text),
            attribute("gen_ai.output.messages", json.dumps(OUT))]}  # fmt: skip
    (example,) = read_paths([write(tmp_path / "x.jsonl", otlp(span))]).examples
    assert example.messages[-1].tool_calls[0].arguments == '{"price": 4.50}'


def test_traces_tell_who_answered_at_what_cost_and_when(tmp_path: Path) -> None:
    """langfuse #10592: counts of tokens add up there, and cached ones are counted once."""
    about = {
        "model": "gpt-4o-2024-08-06",
        "usageDetails": {"input": 86, "input_cached_tokens": 900, "output": 10, "output_reasoning": 5, "total": 1001},
        "calculatedTotalCost": 0,
        "startTime": "2026-02-03T04:05:06Z",
        "endTime": "2026-02-03T04:05:08.500Z",
    }
    (generation,) = read_log(write(tmp_path / "a.jsonl", LANGFUSE["observation"] | about))
    usage = generation.usage
    assert (usage.model, usage.prompt_tokens, usage.cache_read_tokens) == ("gpt-4o-2024-08-06", 986, 900)
    assert (usage.completion_tokens, usage.usd, usage.seconds, usage.day) == (15, None, 2.5, "2026-02-03")
    named = {"gen_ai.response.model": "gpt-4o", "gen_ai.usage.input_tokens": 50, "gen_ai.usage.output_tokens": 7}
    times = {"startTimeUnixNano": "1770091506000000000", "endTimeUnixNano": "1770091507000000000"}
    told = {"gen_ai.prompt": "Où est la clé ?", "gen_ai.completion": "Au crochet 3."}
    (span,) = read_log(write(tmp_path / "b.jsonl", {"name": "chat", "spanId": "s", "attributes": told | named} | times))
    assert (span.usage.model, span.usage.prompt_tokens, span.usage.completion_tokens) == ("gpt-4o", 50, 7)
    assert (span.usage.seconds, span.usage.day) == (1.0, "2026-02-03")
    described = open_model(f"recorded:{tmp_path / 'a.jsonl'}").describe()
    assert (described.of, described.hosted_by) == ("gpt-4o", "OpenAI")
    assert described.price_basis.startswith("recorded tokens x list price of gpt-4o")
    characters = {"usage": {"input": 400, "output": 90, "unit": "CHARACTERS"}}
    (other,) = read_log(write(tmp_path / "c.jsonl", LANGFUSE["observation"] | characters))
    assert (other.usage.prompt_tokens, other.usage.completion_tokens) == (0, 0)
