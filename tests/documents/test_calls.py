"""Logged calls in the forms of providers and of the tools that log them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.documents import read_paths
from sizewise.documents.calls import call_row, logged_call
from sizewise.documents.tables import Row
from sizewise.errors import SizewiseError
from sizewise.models import open_model
from sizewise.models.recorded import read_log
from sizewise.records import Completion, Message, Request

ASK, SAY = "Où est la clé ?", "Au crochet 3."
SYSTEM, USER = {"role": "system", "content": "Be short."}, {"role": "user", "content": ASK}
SAID = {"role": "assistant", "content": SAY}
CHAT = {
    "model": "gpt-4o-2024-08-06",
    "choices": [{"message": SAID, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 90, "completion_tokens": 20},
}
CLAUDE = {
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": SAY}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 90, "output_tokens": 20},
}
CLAUDE_ASKED = {"model": "claude-sonnet-4-5", "system": "Be short.", "messages": [USER]}
GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": SAY}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 90, "candidatesTokenCount": 20, "totalTokenCount": 110},
    "modelVersion": "gemini-2.5-flash",
}
GEMINI_ASKED = {
    "systemInstruction": {"parts": [{"text": "Be short."}]},
    "contents": [{"role": "user", "parts": [{"text": ASK}]}],
}
RESPONSE = {
    "object": "response",
    "model": "gpt-4o-2024-08-06",
    "status": "completed",
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": SAY, "annotations": []}]},
    ],
    "usage": {"input_tokens": 90, "output_tokens": 20},
}
OLLAMA = {"model": "llama3.1", "message": SAID, "done_reason": "stop", "prompt_eval_count": 90, "eval_count": 20}
CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": SAY}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 90, "outputTokens": 20},
}
BEDROCK = {
    "schemaType": "ModelInvocationLog",
    "timestamp": "2026-11-01T10:00:00Z",
    "modelId": "anthropic.claude-3-5-sonnet-20240620-v1:0",
    "input": {"inputBodyJson": {"system": [{"text": "Be short."}], "messages": [USER]}, "inputTokenCount": 90},
    "output": {"outputBodyJson": CONVERSE, "outputTokenCount": 20},
}
LLAMA = {"generation": SAY, "prompt_token_count": 90, "generation_token_count": 20, "stop_reason": "stop"}
LITELLM = {"call_type": "acompletion", "spend": 0.0012, "model": "gpt-4o", "messages": [SYSTEM, USER]}
CALLS: dict[str, dict[str, Any]] = {
    "chat completions": {"request": {"messages": [SYSTEM, USER]}, "response": CHAT},
    "anthropic": {"request": CLAUDE_ASKED, "response": CLAUDE},
    "gemini": {"request": GEMINI_ASKED, "response": GEMINI},
    "responses": {"request": {"model": "gpt-4o", "instructions": "Be short.", "input": ASK}, "response": RESPONSE},
    "responses with items": {
        "request": {"input": [SYSTEM, {"role": "user", "content": [{"type": "input_text", "text": ASK}]}]},
        "response": RESPONSE,
    },
    "ollama": {"request": {"model": "llama3.1", "messages": [SYSTEM, USER]}, "response": OLLAMA},
    "bedrock converse": BEDROCK,
    "bedrock anthropic": BEDROCK | {"output": {"outputBodyJson": CLAUDE}},
    "bedrock llama": BEDROCK | {"output": {"outputBodyJson": LLAMA}},
    "litellm": LITELLM | {"response": CHAT},
    "litellm without a model in the response": LITELLM | {
        "response": {"choices": CHAT["choices"], "usage": CHAT["usage"]}
    },
    "langsmith": {
        "run_type": "llm", "inputs": {"messages": [SYSTEM, USER]}, "outputs": CHAT | {"llm_output": None},
        "total_cost": 0.0012,
    },
    "langsmith with generations": {
        "run_type": "llm", "inputs": {"messages": [[SYSTEM, USER]]}, "prompt_tokens": 90, "completion_tokens": 20,
        "outputs": {"generations": [[{"text": SAY, "message": {"content": SAY}}]]},
    },
    "stored": CHAT | {"object": "chat.completion", "messages": [SYSTEM, USER]},
    "bodies": {"request": {"body": {"messages": [SYSTEM, USER]}}, "response": {"status": 200, "body": CHAT}},
    "langchain": {
        "run_type": "llm", "inputs": {"messages": [[
            {"lc": 1, "id": ["langchain", "schema", "SystemMessage"], "kwargs": {"content": "Be short."}},
            {"lc": 1, "id": ["langchain", "schema", "HumanMessage"], "kwargs": {"content": ASK}},
        ]]},
        "outputs": {"generations": [[{"text": SAY, "message": {"lc": 1, "kwargs": {
            "content": SAY, "usage_metadata": {"input_tokens": 90, "output_tokens": 20},
            "response_metadata": {"model_name": "gpt-4o-2024-08-06", "finish_reason": "stop"},
        }}}]]},
    },
    "weave": {"inputs": {"messages": [SYSTEM, USER]}, "output": CHAT, "exception": None},
    "weave with outputs": {"inputs": {"messages": [SYSTEM, USER]}, "outputs": CHAT},
    "helicone": {"request_body": {"messages": [SYSTEM, USER]}, "response_body": CHAT, "request_id": "r"},
    "litellm as it is by default": {
        "request_id": "r", "messages": {}, "proxy_server_request": {"messages": [SYSTEM, USER]}, "response": CHAT,
    },
    "openai evals": {"item": {"topic": "keys"}, "sample": CHAT | {"input": [SYSTEM, USER], "finish_reason": "stop"}},
    "the answer among the messages": {"messages": [SYSTEM, USER, SAID], "response": CHAT},
    "input and output": {"input": [SYSTEM, USER], "output": SAID, "prompt_tokens": 90, "completion_tokens": 20},
}  # fmt: skip


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def answer(path: Path, *asked: dict[str, str], name: str = "x") -> Completion:
    messages = tuple(Message.model_validate(one) for one in asked or (SYSTEM, USER))
    (found,) = open_model(f"recorded:{path}").complete([Request(id=name, messages=messages)])
    return found


@pytest.mark.parametrize("form", CALLS)
def test_calls_are_recorded_answers_and_examples(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "log.jsonl", CALLS[form])
    (logged,) = read_log(path)
    assert [(one.role, one.content) for one in logged.messages] == [("system", "Be short."), ("user", ASK)]
    assert logged.answer == SAY
    assert (logged.usage.prompt_tokens, logged.usage.completion_tokens) == (90, 20)
    assert answer(path).text == SAY
    (example,) = read_paths([path]).examples
    assert (example.messages[-1].content, example.references) == (ASK, (SAY,))


def test_what_a_log_knows_of_models_and_costs_is_kept(tmp_path: Path) -> None:
    def known(form: str) -> tuple[str, float | None]:
        path = write(tmp_path / "log.jsonl", CALLS[form])
        usd = answer(path).usd
        return open_model(f"recorded:{path}").describe().of, usd and round(usd, 6)

    assert known("anthropic") == ("claude-sonnet-4-5", 0.00057)
    assert known("gemini")[0] == "gemini-2.5-flash"
    assert known("bedrock converse")[0] == "claude-3-5-sonnet"
    assert known("litellm") == ("gpt-4o", 0.0012)
    assert known("litellm without a model in the response") == ("gpt-4o", 0.0012)
    assert known("langsmith") == ("gpt-4o", 0.0012)
    dollars = {"prompt": ASK, "response": SAY, "model": "gpt-4o", "cost": "$0.0012"}
    assert answer(write(tmp_path / "log.jsonl", dollars), USER).usd == 0.0012


def test_calls_in_the_cells_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["request_id", "startTime", "spend", "model", "messages", "response"])
        rows.writerow(["r1", "2026-11-01T10:00:00", "0.0012", "gpt-4o", json.dumps([USER]), json.dumps(CHAT)])
    (logged,) = read_log(path)
    assert (logged.answer, logged.usage.usd, logged.usage.day) == (SAY, 0.0012, "2026-11-01")
    assert read_paths([path]).examples[0].references == (SAY,)


@pytest.mark.parametrize(("asked", "said"), [("request", "response"), ("request_body", "response_body")])
def test_tables_of_requests_and_responses(tmp_path: Path, asked: str, said: str) -> None:
    path = tmp_path / "log.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", asked, said])
        rows.writerow(["2026-11-01T10:00:00", json.dumps({"messages": [SYSTEM, USER]}), json.dumps(CHAT)])
    (logged,) = read_log(path)
    assert (logged.messages[-1].content, logged.answer) == (ASK, SAY)
    assert read_paths([path]).examples[0].references == (SAY,)


BATCHES = {
    "openai": {"id": "batch_req_7", "custom_id": "x", "response": {"status_code": 200, "body": CHAT}, "error": None},
    "openai responses": {"id": "batch_req_7", "custom_id": "x", "response": {"status_code": 200, "body": RESPONSE}},
    "anthropic": {"custom_id": "x", "result": {"type": "succeeded", "message": CLAUDE}},
    "gemini": {"key": "x", "response": GEMINI},
}


@pytest.mark.parametrize("form", BATCHES)
def test_the_output_of_a_batch_is_found_by_the_senders_id(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "output.jsonl", BATCHES[form])
    assert answer(path).text == SAY
    with pytest.raises(SizewiseError, match="the prompt is missing"):
        read_log(path)
    with pytest.raises(SizewiseError, match="an answer without its request"):
        read_paths([path])


def test_the_key_of_an_account_is_no_id(tmp_path: Path) -> None:
    rows = [{"key": "team-a", "request": {"messages": [{"role": "user", "content": f"{ASK} {i}"}]},
             "response": CHAT | {"choices": [{"message": {"content": f"{SAY} {i}"}}]}} for i in range(5)]  # fmt: skip
    path = write(tmp_path / "log.jsonl", *rows)
    assert answer(path, {"role": "user", "content": f"{ASK} 3"}).text == f"{SAY} 3"
    assert len({one.id for one in read_log(path)}) == len({one.id for one in read_paths([path]).examples}) == 5
    assert "batch" not in open_model(f"recorded:{path}").describe().price_basis


def test_failed_cut_off_and_withheld_calls(tmp_path: Path) -> None:
    failed = {"custom_id": "y", "result": {"type": "errored", "error": {"type": "overloaded_error"}}}
    path = write(tmp_path / "output.jsonl", *([BATCHES["anthropic"]] * 30), failed)
    assert answer(path).text == SAY
    assert "overloaded_error" in str(answer(path, name="y").error)
    cut = {"request": CLAUDE_ASKED, "response": CLAUDE | {"stop_reason": "max_tokens"}}
    assert answer(write(tmp_path / "cut.jsonl", cut)).finish == "length"
    incomplete = RESPONSE | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    ended = {"request": {"input": ASK}, "response": incomplete}
    assert answer(write(tmp_path / "cut.jsonl", ended), USER).finish == "length"
    blocked = {"request": GEMINI_ASKED, "response": {"promptFeedback": {"blockReason": "SAFETY"}}}
    found = answer(write(tmp_path / "blocked.jsonl", blocked))
    assert (found.finish, "content filter withheld" in str(found.error)) == ("error", True)
    reading = read_paths([write(tmp_path / "some.jsonl", *([CALLS["anthropic"]] * 30), cut)])
    assert [(row.line, row.reason) for row in reading.rejected] == [
        (31, "the answer was cut off or withheld (finish_reason max_tokens)")
    ]


def test_tool_calls_of_responses_are_kept() -> None:
    items = [
        {"role": "user", "content": ASK},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at": 3}'},
        {"type": "function_call_output", "call_id": "c1", "output": "a key"},
    ]
    call = {"type": "function_call", "call_id": "c2", "name": "take", "arguments": "{}"}
    found = logged_call({"request": {"input": items}, "response": RESPONSE | {"output": [call]}})
    assert found is not None
    assert [one["role"] for one in found.request["messages"]] == ["user", "assistant", "tool"]
    assert found.response["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "take"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK, "response": '{"total": 5, "text": "five"}'},
        {"prompt": ASK, "response": '{"choices": "none"}'},
        {"prompt": ASK, "output": "five"},
        {"question": ASK, "choices": [{"text": "five", "label": "A"}], "answer": "A"},
        {"question": ASK, "choices": ["five", "six"], "answer": "five"},
        {"input": ASK, "output": {"total": 5}},
        {"content": [{"type": "text", "text": "x"}], "title": "y"},
        {"type": "message", "text": "hello"},
        {"text": "a", "label": "b"},
        {"result": {"type": "x"}},
        {"custom_id": "x", "prompt": ASK, "completion": SAY, "result": {"type": "ok"}},
        {"prompt": ASK, "response": '{"candidates": [{"name": "Ann"}]}'},
        {"prompt": ASK, "response": {"candidates": [{"name": "Ann"}]}},
        {"question": ASK, "candidates": [{"content": "Ann", "score": 1}], "answer": "Ann"},
        {"prompt": ASK, "candidates": [{"content": {"parts": ["x"]}}], "completion": "Ann"},
        {"type": "response", "question": ASK, "response": SAY},
        {"input": ASK, "output": {"choices": [{"text": "red"}, {"text": "blue"}], "best": 1}},
        {"prompt": ASK, "response": {"results": [{"text": "apple"}, {"text": "pear"}]}},
        {"prompt": ASK, "response": {"response": "yes", "confidence": 0.9}},
        {"prompt": ASK, "response": {"message": {"content": "Dear Ann"}, "urgent": True}},
        {"prompt": ASK, "completion": SAY, "response": {"status": 200}},
        {"modelid": "x", "input": ASK, "output": {"label": "spam"}},
        {"prompt": ASK, "response": '{"type": "response", "text": "five"}'},
    ],
)
def test_other_rows_are_no_calls(row: dict[str, Any]) -> None:
    assert logged_call(row) is None


CELLS = {
    "batch": {"status_code": 200, "body": CHAT},
    "converse": CONVERSE,
    "ollama": OLLAMA | {"done": True},
    "llama": LLAMA,
    "responses": RESPONSE,
}


@pytest.mark.parametrize("form", CELLS)
def test_responses_as_json_in_a_cell(tmp_path: Path, form: str) -> None:
    row = {"id": "x", "prompt": ASK, "response": "\n" + json.dumps(CELLS[form])}
    path = write(tmp_path / "log.jsonl", row)
    (logged,) = read_log(path)
    assert (logged.messages[-1].content, logged.answer) == (ASK, SAY)
    assert (logged.usage.prompt_tokens, logged.usage.completion_tokens) == (90, 20)


FAILURES = {
    "error in a cell": {"prompt": ASK, "response": json.dumps({"error": {"message": "Rate limit reached"}})},
    "anthropic's": {"request": CLAUDE_ASKED, "response": {"type": "error", "error": {"type": "overloaded_error"}}},
    "beside an empty answer": {
        "request": {"messages": [USER]}, "response": {"choices": [{"message": {"content": ""}}]}, "error": "timeout",
    },
    "finish reason": {"request": {"messages": [USER]}, "response": {
        "choices": [{"message": {"content": "x"}, "finish_reason": "error"}]}},
    "failed response": {"request": {"input": ASK}, "response": RESPONSE | {
        "status": "failed", "error": {"code": "server_error"}}},
    "batch": {"custom_id": "x", "response": None, "error": {"code": "batch_expired"}},
    "bedrock": {"modelId": "m", "errorCode": "ThrottlingException", "input": {"inputBodyJson": {"messages": [USER]}}},
}  # fmt: skip


@pytest.mark.parametrize("form", FAILURES)
def test_failed_calls_are_no_answers(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "log.jsonl", FAILURES[form] | {"id": "x"})
    found = answer(path, USER)
    assert (found.finish, found.text) == ("error", "")
    assert "failed" in str(found.error)
    reading = read_paths([write(tmp_path / "some.jsonl", *([CALLS["anthropic"]] * 30), FAILURES[form])])
    assert len(reading.examples) == 30
    assert "failed" in reading.rejected[0].reason


def test_failed_requests_are_left_out_of_a_log(tmp_path: Path) -> None:
    path, said = write(tmp_path / "log.jsonl", *([CALLS["anthropic"]] * 8), *([FAILURES["anthropic's"]] * 3)), []
    assert len(read_log(path, said.append)) == 8
    assert "3 of 11 requests have no answer (line 9: " in said[0]
    with pytest.raises(SizewiseError, match="no answered requests: line 1: the recorded request failed"):
        read_log(write(tmp_path / "log.jsonl", FAILURES["anthropic's"]))


def test_what_stands_beside_a_call_is_kept(tmp_path: Path) -> None:
    row = CALLS["anthropic"] | {"grade": 1, "start_time": "2026-11-01T10:00:00Z", "end_time": "2026-11-01T10:00:03Z"}
    found = answer(write(tmp_path / "log.jsonl", row))
    assert (found.grade, found.seconds) == (1.0, 3.0)
    cached = {"inputTokens": 20, "outputTokens": 20, "cacheReadInputTokens": 5_000, "cacheWriteInputTokens": 0}
    bedrock = BEDROCK | {"output": {"outputBodyJson": CONVERSE | {"usage": cached}}}
    (logged,) = read_log(write(tmp_path / "log.jsonl", bedrock))
    assert (logged.usage.prompt_tokens, logged.usage.cache_read_tokens) == (5_020, 5_000)
    router = CHAT | {"usage": {"prompt_tokens": 9, "completion_tokens": 3, "cost": 0.00042}}
    assert answer(write(tmp_path / "log.jsonl", {"request": {"messages": [USER]}, "response": router}), USER).usd == (
        0.00042
    )


def test_tool_calls_are_answers_in_every_form(tmp_path: Path) -> None:
    use = {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"at": 3}}}
    call = {"type": "function_call", "call_id": "c2", "name": "look", "arguments": '{"at": 3}'}
    rows = [
        {"request": {"input": ASK}, "response": RESPONSE | {"output": [call]}},
        BEDROCK | {"input": {"inputBodyJson": {"messages": [USER]}}, "output": {"outputBodyJson": CONVERSE | {
            "output": {"message": {"role": "assistant", "content": [{"reasoningContent": {"text": "hm"}}, use]}}}}},
        {"request": {"messages": [USER]}, "response": CLAUDE | {
            "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 3}}],
            "stop_reason": "tool_use"}},
    ]  # fmt: skip
    for row in rows:
        found = answer(write(tmp_path / "log.jsonl", row), USER)
        assert '"name": "look"' in found.text, row
        assert '"at": 3' in found.text


def test_parts_of_a_sentence_with_citations_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Au "}, {"type": "text", "text": "crochet 3.", "citations": []}]
    row = {"request": CLAUDE_ASKED, "response": CLAUDE | {"content": parts}}
    assert answer(write(tmp_path / "log.jsonl", row)).text == SAY


def test_prompts_that_are_json_stay_prompts(tmp_path: Path) -> None:
    for prompt in ('{"extract": 1}', "[1, 2]"):
        row = {"request": {"model": "gpt-4o", "input": prompt}, "response": RESPONSE}
        (logged,) = read_log(write(tmp_path / "log.jsonl", row))
        assert logged.messages[-1].content == prompt


def test_runs_of_other_kinds_are_no_requests(tmp_path: Path) -> None:
    other = {"run_type": "retriever", "inputs": {"input": ASK}, "outputs": {"response": "raw"}}
    path = write(tmp_path / "log.jsonl", CALLS["langsmith"], other, other)
    assert len(read_log(path)) == 1
    assert len(read_paths([path]).examples) == 1


def test_a_row_of_ollamas_completions(tmp_path: Path) -> None:
    row = {"model": "llama3.1", "prompt": ASK, "response": SAY, "done": True, "done_reason": "length",
           "context": [1, 2], "prompt_eval_count": 90, "eval_count": 20, "total_duration": 2_000_000_000}  # fmt: skip
    found = answer(write(tmp_path / "log.jsonl", row), USER)
    assert (found.text, found.finish, found.prompt_tokens, found.seconds) == (SAY, "length", 90, 2.0)


def test_json_answers_in_traces_stay_whole(tmp_path: Path) -> None:
    langfuse = {"id": "l", "traceId": "t", "type": "GENERATION", "input": [USER]}
    for said in ({"answer": "yes", "reason": "b", "score": 0.9}, {"text": "t", "label": "spam"}, {"name": "Ann"}):
        for output in (said, json.dumps(said)):
            (example,) = read_paths([write(tmp_path / "log.jsonl", langfuse | {"output": output})]).examples
            assert json.loads(example.references[0]) == said
    table = {"session_id": "s", "input": '{"text": "doc", "lang": "de"}', "output": SAY}
    (example,) = read_paths([write(tmp_path / "log.jsonl", table)]).examples
    assert example.messages[-1].content == table["input"]


def test_one_empty_answer_does_not_turn_recorded_tokens_into_estimates(tmp_path: Path) -> None:
    counted = {"usage": {"prompt_tokens": 100, "completion_tokens": 30}, "model": "gpt-4o"}
    rows = [{"id": f"r{i}", "completion": SAY} | counted for i in range(20)]
    rows[3] |= {"completion": "", "usage": {"prompt_tokens": 100, "completion_tokens": 0}}
    basis = open_model(f"recorded:{write(tmp_path / 'log.jsonl', *rows)}").describe().price_basis
    assert basis.startswith("recorded tokens x")


SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.sampled_from(["assistant", "error"])
NAMES = (
    *("request", "response", "output", "outputs", "inputs", "input", "messages", "choices", "message", "content"),
    *("candidates", "parts", "usage", "error", "body", "run_type", "generations", "kwargs", "response_metadata", "key"),
    *("llm_output", "generation_info", "custom_id", "result", "type", "modelId", "outputBodyJson", "stop_reason"),
    *("role", "done", "prompt", "text"),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5))
def test_no_row_ends_in_a_traceback(cells: dict[str, Any]) -> None:
    logged_call(cells)
    call_row(Row(1, cells))


@pytest.mark.parametrize("odd", ["odd", 5, [], None])
def test_odd_parts_of_langchains_generations_are_passed_over(odd: Any) -> None:
    message = {"kwargs": {"content": SAY, "response_metadata": odd, "usage_metadata": odd}}
    outputs = {"generations": [[{"message": message, "generation_info": odd}]], "llm_output": odd}
    found = logged_call({"run_type": "llm", "inputs": odd, "outputs": outputs, "extra": odd})
    assert found is not None
    assert found.response["choices"][0]["message"]["content"] == SAY
