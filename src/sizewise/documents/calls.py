"""Logged calls of a model in the forms of providers: OpenAI, Anthropic, Gemini, Bedrock and Ollama.

Each is turned into the form of OpenAI's chat completions, which everything else reads. A call is a row with a request
and its response, whole or as JSON in a cell, as gateways and tracing tools write it; or a line of a batch's output.
A response is known by its envelope, so JSON that is itself an answer stays one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sizewise.documents.responses import CUT_OFF, WITHHELD, count_tokens, error_of, finish_of, parsed, response_of
from sizewise.documents.tables import Row
from sizewise.documents.times import seconds_between
from sizewise.documents.values import BadRow, id_of

FORM = "logged calls (the logged answer is the reference)"
_IDS = ("custom_id", "id", "recordid", "request_id")
"""Names of a row's id. A line of a batch's output has the sender's id beside one of the provider."""
_OF_GEMINI = frozenset(("key", "response", "error", "status", "metadata"))
"""Columns of the output of Gemini's batches; in other logs, `key` is the key of an account."""
REQUESTS = ("request", "request_body", "proxy_server_request", "modelinput")
RESPONSES = ("response", "response_body", "modeloutput", "sample")
"""Columns of requests and responses: of most tools, Helicone, LiteLLM, Bedrock's batches and OpenAI's evals."""
_TIMES = ("timestamp", "created_at", "starttime", "start_time", "time")
_ENDS = ("endtime", "end_time")
_PLAIN = ("answer", "completion", "question")
"""Columns of rows that are no responses themselves."""
_MODEL_RUNS = ("llm", "chat_model", "chat model")


class Call(NamedTuple):
    """A request with its response."""

    request: Mapping[str, Any]
    """`messages` in OpenAI's form, and `model` and `tools` if they were sent; empty if the request isn't logged."""
    response: Mapping[str, Any]
    """Chat completion in OpenAI's form; empty if the call failed."""
    beside: Mapping[str, Any]
    """The row's other cells."""
    failure: str = ""
    """Why there is no answer."""


def logged_call(cells: Mapping[str, Any]) -> Call | None:
    """Return the call that a row is; None if it is none.

    Args:
        cells: value by column name, in lower case or as it is in the file.
    """
    named = {name.lower(): value for name, value in cells.items()}
    found = next((call for read in _FORMS if (call := read(named)) is not None), None)
    if found is None:
        return None
    if failure := found.failure or _failure(found):
        return found._replace(failure=failure)
    seconds = seconds_between(_first(named, _TIMES), _first(named, _ENDS))
    return found._replace(beside={"seconds": seconds, **found.beside}) if seconds else found


def id_in(cells: Mapping[str, Any]) -> str | None:
    """Return the id of a row; None if it has none."""
    return id_of(cells, ("key",)) if _is_of_gemini(cells) else id_of(cells, _IDS)


def _is_of_gemini(cells: Mapping[str, Any]) -> bool:
    return "key" in cells and cells.keys() <= _OF_GEMINI


def is_other_run(cells: Mapping[str, Any]) -> bool:
    """Check whether a row is a run of LangSmith that is no request to a model, such as a retriever's."""
    return "run_type" in cells and "outputs" in cells and str(cells["run_type"]).lower() not in _MODEL_RUNS


def call_row(row: Row) -> Row | None:
    """Return a logged call as a row with `messages` that end with the answer; None if the row is none.

    The row has a problem if its request isn't logged, or if its answer failed, was cut off or withheld.
    """
    call = logged_call(row.cells)
    if call is None:
        return None
    try:
        cells: dict[str, Any] = {"messages": _whole(call)}
    except BadRow as error:
        return Row(row.line, {}, str(error), FORM)
    name = id_in({name.lower(): value for name, value in row.cells.items()})
    when = _first(call.beside, _TIMES)
    cells |= {"id": name} if name else {}
    cells |= {"tools": call.request["tools"]} if call.request.get("tools") else {}
    return Row(row.line, cells | ({"time": when} if when else {}), form=FORM)


def _whole(call: Call) -> list[Any]:
    """Return the messages of a call with its answer.

    Raises:
        BadRow: there is no request, or no whole answer.
    """
    if call.failure:
        raise BadRow(call.failure)
    choice = call.response["choices"][0]
    finish = finish_of(choice.get("finish_reason"))
    if finish in CUT_OFF or finish in WITHHELD:
        raise BadRow(f"the answer was cut off or withheld (finish_reason {finish})")
    if not call.request.get("messages"):
        raise BadRow("the row has an answer without its request, as the output of a batch does")
    message = choice["message"]
    if message.get("content") is None and message.get("refusal"):
        message = {"content": message["refusal"]}
    return [*call.request["messages"], message | {"role": "assistant"}]


def _failure(call: Call) -> str:
    """Return why a call has no answer; empty if it has one."""
    message = call.response["choices"][0]["message"]
    told = call.beside.get("error") or call.response.get("error")
    failed = finish_of(call.response["choices"][0].get("finish_reason")) == "error"
    empty = not (message.get("content") or message.get("tool_calls") or message.get("refusal"))
    if (told and empty) or failed or call.response.get("status") == "failed":
        return failure_text(told)
    return ""


def failure_text(told: Any) -> str:
    """Describe a failed request with what its error says."""
    text = told if isinstance(told, str) else json.dumps(told, default=str, ensure_ascii=False) if told else ""
    return f"the recorded request failed: {text[:200]}" if text.strip() else "the recorded request failed"


def _first(cells: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((cells[name] for name in names if cells.get(name)), "")


def _without(cells: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in cells.items() if name not in names}


# -- forms of rows ---------------------------------------------------------------------------------------------------


def _of_pair(named: Mapping[str, Any]) -> Call | None:
    """Read a request and its response; a batch's output has no request."""
    key = next((key for key in RESPONSES if isinstance(parsed(named.get(key)), dict)), None)
    if key is None:
        return None
    response = parsed(named[key])
    batch = any(name in named for name in ("custom_id", "recordid")) or _is_of_gemini(named)
    if isinstance(inner := parsed(response.get("body")), dict) and "choices" not in response:
        response = inner
    found, request = response_of(response), next((parsed(named[key]) for key in REQUESTS if named.get(key)), None)
    asked = request_of(request if isinstance(request, dict) else response if key == "sample" else named)
    beside = _without(named, *REQUESTS, *RESPONSES, "messages")
    beside |= {"service_tier": "batch"} if batch else {}
    if found is not None:
        return Call(_without_answer(asked, found), found, beside)
    error = error_of(response)
    return Call(asked, {}, beside, failure_text(error)) if error else None


def _of_result(named: Mapping[str, Any]) -> Call | None:
    """Read a line of the output of Anthropic's batches, or a line of any batch that only has an error."""
    result = parsed(named.get("result"))
    beside = _without(named, "result", "response") | {"service_tier": "batch"}
    if "custom_id" in named and isinstance(result, dict) and isinstance(result.get("type"), str):
        found = response_of(result["message"]) if isinstance(result.get("message"), dict) else None
        if found is not None:
            return Call({}, found, beside)
        if result["type"] in ("errored", "expired", "canceled"):
            return Call({}, {}, beside, failure_text(result.get("error") or result["type"]))
    if "custom_id" in named and named.get("error") and named.get("response", "") is None:
        return Call({}, {}, beside, failure_text(named["error"]))
    return None


def _of_bedrock(named: Mapping[str, Any]) -> Call | None:
    """Read a line of Bedrock's log of invocations."""
    told = named.get("output")
    logged = isinstance(told, dict) and ("outputBodyJson" in told or "outputTokenCount" in told)
    if "modelid" not in named or not (logged or named.get("errorcode")):
        return None
    given = named.get("input")
    given, told = (one if isinstance(one, dict) else {} for one in (given, told))
    asked, body = parsed(given.get("inputBodyJson")), parsed(told.get("outputBodyJson"))
    request = request_of(asked) if isinstance(asked, dict) else {}
    beside = _without(named, "input", "output")
    if named.get("errorcode"):
        return Call(request, {}, beside, failure_text(named["errorcode"]))
    found = response_of(body) if isinstance(body, dict) else None
    if found is None:
        events = "its body is a stream of events, which isn't read" if isinstance(body, list) else "its body is absent"
        return Call(request, {}, beside, f"the response has no answer: {events}")
    counts = count_tokens({
        "inputTokenCount": given.get("inputTokenCount"), "outputTokenCount": told.get("outputTokenCount")
    })  # fmt: skip
    return Call(request, {"model": named["modelid"], **found, "usage": counts | found["usage"]}, beside)


def _of_langsmith(named: Mapping[str, Any]) -> Call | None:
    """Read a run of a model as LangSmith exports it, or the inputs and outputs of W&B Weave."""
    outputs, inputs = parsed(named.get("outputs")), parsed(named.get("inputs"))
    if is_other_run(named) or not isinstance(outputs, dict):
        return None
    asked = dict(inputs) if isinstance(inputs, dict) else {}
    if isinstance(nested := asked.get("messages"), list) and nested and isinstance(nested[0], list):  # a batch of one
        asked["messages"] = nested[0]
    beside = _without(named, "inputs", "outputs")
    request = request_of(asked)
    if named.get("error"):
        return Call(request, {}, beside, failure_text(named["error"]))
    found = response_of(outputs) or _of_generations(outputs)
    return None if found is None else Call(request, _about_langchain(named) | found, beside)


def _of_generations(outputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read LangChain's generations, or one message."""
    first: Any = outputs.get("generations", outputs.get("output", outputs))
    while isinstance(first, list) and first:
        first = first[0]
    if not isinstance(first, dict):
        return None
    message = first.get("message", first if "kwargs" in first or first.get("role") == "assistant" else None)
    fields = message.get("kwargs", message.get("data", message)) if isinstance(message, dict) else {}
    if not isinstance(fields, dict) or not (fields.get("content") or fields.get("tool_calls") or first.get("text")):
        return None
    about, told = _object(fields.get("response_metadata")), _object(outputs.get("llm_output"))
    usage = _object(fields.get("usage_metadata") or about.get("token_usage") or told.get("token_usage"))
    reasons = [_object(first.get("generation_info")).get("finish_reason"), about.get("stop_reason"), "stop"]
    said = {"content": first.get("text")} | {key: fields[key] for key in ("content", "tool_calls") if key in fields}
    finish = next(reason for reason in (about.get("finish_reason"), *reasons) if reason)
    found = {"choices": [{"message": said, "finish_reason": finish}], "usage": count_tokens(usage)}
    model = about.get("model_name") or about.get("model") or told.get("model_name")
    return found | ({"model": model} if model else {})


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _about_langchain(named: Mapping[str, Any]) -> dict[str, Any]:
    extra = parsed(named.get("extra"))
    about = extra.get("metadata") if isinstance(extra, dict) else None
    model = about.get("ls_model_name") if isinstance(about, dict) else None
    return {"model": model} if model else {}


def _of_output(named: Mapping[str, Any]) -> Call | None:
    """Read an input with an output that is a response, or the assistant's message."""
    output = parsed(named.get("output"))
    if isinstance(output, list) and len(output) == 1 and isinstance(output[0], dict) and "message" in output[0]:
        output = {"choices": output}
    if not isinstance(output, dict):
        return None
    found = response_of(output)
    if found is None and output.get("role") in ("assistant", "model", "ai") and output.get("content"):
        found = {"choices": [{"message": output, "finish_reason": "stop"}], "usage": {}}
    if found is None:
        return None
    given = named.get("input", named.get("inputs"))
    if isinstance(inner := parsed(given), dict):
        asked = request_of({"messages": [inner]} if "role" in inner else inner)
    else:
        asked = request_of({"input": given})
    return Call(asked, found, _without(named, "input", "inputs", "output"))


def _of_response(named: Mapping[str, Any]) -> Call | None:
    """Read a row that is itself a response, such as a stored completion."""
    if any(named.get(name) for name in _PLAIN):
        return None
    found = response_of(named)
    if found is None:
        return None
    request = request_of(named)
    return Call(_without_answer(request, found), found, _without(named, "choices", "candidates", "messages", "usage"))


_FORMS = (_of_bedrock, _of_pair, _of_result, _of_langsmith, _of_output, _of_response)


def _without_answer(request: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the answer where it stands among the request's messages too."""
    asked = request.get("messages") or [{}]
    message = found["choices"][0]["message"]
    last = asked[-1] if isinstance(asked[-1], dict) else {}
    same = last.get("role") == "assistant" and last.get("content") == message.get("content")
    return request | {"messages": asked[:-1]} if same and request else request


# -- requests ----------------------------------------------------------------------------------------------------------


def request_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request in OpenAI's form; empty if it holds no messages that are known."""
    if isinstance(inner := parsed(body.get("body")), dict) and not any(body.get(key) for key in _ASKED):
        body = inner
    asked = next((found for key in _ASKED if (found := _ASKED[key](body.get(key)))), [])
    if not asked:
        return {}
    system = next((body[key] for key in _SYSTEM if body.get(key)), None)
    if system is not None:
        parts = system.get("parts", system) if isinstance(system, dict) else system
        asked = [{"role": "system", "content": parts}, *asked]
    return {"messages": asked} | {key: body[key] for key in ("model", "tools") if body.get(key)}


_SYSTEM = ("system", "systemInstruction", "system_instruction", "instructions")


def _turns(value: Any) -> list[Any]:
    value = parsed(value)
    return value if isinstance(value, list) and value and all(isinstance(one, dict) for one in value) else []


def _contents(value: Any) -> list[Any]:
    """Return Gemini's contents as messages; a text alone is the user's."""
    turns = [one for one in _turns(value) if "parts" in one]
    return [{"role": one.get("role", "user"), "content": one["parts"]} for one in turns] or _prompt(value)


def _items(value: Any) -> list[Any]:
    """Return the items of OpenAI's Responses as messages; other text, JSON or not, is the user's."""
    found: list[Any] = []
    for item in _turns(value):
        kind = item.get("type", "message")
        if kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments", "{}")}
            call = {"id": item.get("call_id") or "", "type": "function", "function": function}
            found.append({"role": "assistant", "content": "", "tool_calls": [call]})
        elif kind == "function_call_output":
            found.append({"role": "tool", "tool_call_id": item.get("call_id", ""), "content": item.get("output")})
        elif "role" in item:
            found.append({key: item[key] for key in ("role", "content", "tool_calls", "tool_call_id") if key in item})
    return found or _prompt(value)


def _prompt(value: Any) -> list[Any]:
    return [{"role": "user", "content": value}] if isinstance(value, str) and value.strip() else []


_ASKED = {"messages": _turns, "contents": _contents, "input": _items, "prompt": _prompt, "inputText": _prompt,
          "question": _prompt}  # fmt: skip
