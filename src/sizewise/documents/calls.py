"""Logged calls of a model in the forms of providers: OpenAI, Anthropic, Gemini, Bedrock and Ollama.

Each is turned into the form of OpenAI's chat completions, which everything else reads. A call is a row with a request
and its response, whole or as JSON in a cell, as gateways and tracing tools write it; or a line of a batch's output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sizewise.documents.tables import Row
from sizewise.documents.values import BadRow, id_of, type_of

FORM = "logged calls (the logged answer is the reference)"
IDS = ("custom_id", "id", "key")
"""Names of a row's id. A line of a batch's output has the sender's id, or key, beside one of the provider."""
_CUT_OFF = ("length", "max_tokens", "max_output_tokens", "model_length")
_WITHHELD = ("content_filter", "content_filtered", "guardrail_intervened", "safety", "recitation", "refusal")
_COUNTS = {
    "prompt_tokens": ("inputtokens", "inputtokencount", "prompt_eval_count", "prompt_token_count"),
    "completion_tokens": ("outputtokens", "outputtokencount", "eval_count", "generation_token_count"),
}
"""Names of OpenAI -> those of Bedrock, Ollama and Llama."""


class Call(NamedTuple):
    """A request with its response."""

    request: Mapping[str, Any]
    """`messages` in OpenAI's form, and `model` and `tools` if they were sent; empty if the request isn't logged."""
    response: Mapping[str, Any]
    """Chat completion in OpenAI's form."""
    beside: Mapping[str, Any]
    """The row's other cells."""


def logged_call(cells: Mapping[str, Any]) -> Call | None:
    """Return the call that a row is; None if it is none.

    Args:
        cells: value by column name, in lower case or as it is in the file.

    Raises:
        BadRow: the call failed, or its response has no answer that is known.
    """
    named = {name.lower(): value for name, value in cells.items()}
    if "modelid" in named and isinstance(named.get("output"), dict):
        return _of_bedrock(named)
    if "run_type" in named and isinstance(named.get("outputs"), dict):
        return _of_langsmith(named)
    result = named.get("result")
    if isinstance(result, dict) and "custom_id" in named and "type" in result:  # Anthropic's batches
        if not isinstance(result.get("message"), dict):
            raise BadRow(f"the request failed ({result['type']})")
        return Call({}, _checked(result["message"]), _without(named, "result") | {"service_tier": "batch"})
    response = named.get("response")
    if isinstance(response, str) and isinstance(parsed := _parsed(response), dict) and _is_response(parsed):
        response = parsed  # a cell of a table; other JSON is an answer
    if isinstance(response, dict):
        batch = "status_code" in response and "body" in response
        body = _parsed(response["body"]) if "body" in response and "choices" not in response else response
        request = _parsed(named.get("request"))
        asked = request_of(request if isinstance(request, dict) else named)
        beside = _without(named, "request", "response", "messages")
        if not isinstance(body, dict):
            raise BadRow(f"the response contains no answer ({type_of(body)})")
        return Call(asked, _checked(body), beside | ({"service_tier": "batch"} if batch else {}))
    output = named.get("output")
    if isinstance(output, dict) and ("choices" in output or output.get("role") in ("assistant", "model", "ai")):
        found = response_of(output) or response_of({"message": output})
        given = _parsed(named.get("input"))
        asked = request_of(given if isinstance(given, dict) else {"messages": given})
        return None if found is None else Call(asked, found, _without(named, "input", "output"))
    found = response_of(named) if _is_response(named) else None
    return None if found is None else Call(request_of(named), found, _without(named, *_BODY))


def call_row(row: Row) -> Row | None:
    """Return a logged call as a row with `messages` that end with the answer; None if the row is none.

    The row has a problem if its request isn't logged, or if its answer was cut off or withheld.
    """
    try:
        call = logged_call(row.cells)
        if call is None:
            return None
        asked = call.request.get("messages")
        choice = call.response["choices"][0]
        finish = str(choice.get("finish_reason") or "").lower()
        if finish in (*_CUT_OFF, *_WITHHELD):
            raise BadRow(f"the answer was cut off or withheld (finish_reason {finish})")
        if not asked:
            raise BadRow("the row has an answer without its request, as the output of a batch does")
        cells: dict[str, Any] = {"messages": [*asked, {"role": "assistant"} | choice["message"]]}
        cells |= {"id": id_of(call.beside, IDS)} if id_of(call.beside, IDS) else {}
        cells |= {"tools": call.request["tools"]} if call.request.get("tools") else {}
        when = next((call.beside[key] for key in _TIMES if call.beside.get(key)), None)
        return Row(row.line, cells | ({"time": when} if when else {}), form=FORM)
    except BadRow as error:
        return Row(row.line, {}, str(error), FORM)


_TIMES = ("timestamp", "created_at", "starttime", "start_time", "time")
_BODY = ("choices", "candidates", "content", "messages", "usage", "object")


def _without(cells: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in cells.items() if name not in names}


def _checked(body: Mapping[str, Any]) -> Mapping[str, Any]:
    found = response_of(body)
    if found is None:
        error = json.dumps(body.get("error", "none"), default=str)[:200]
        raise BadRow(f"the response contains no answer (error: {error})")
    return found


def _is_response(named: Mapping[str, Any]) -> bool:
    """Check whether a row is itself a response, such as a stored completion."""
    kind = str(named.get("object") or named.get("type") or "")
    choices = named.get("choices")
    message = choices[0] if isinstance(choices, list) and choices else None
    return (
        kind in ("chat.completion", "text_completion", "response")
        or isinstance(named.get("candidates"), list)
        or (kind == "message" and isinstance(named.get("content"), list) and "stop_reason" in named)
        or (isinstance(message, dict) and isinstance(message.get("message"), dict))
    )


def _of_bedrock(named: Mapping[str, Any]) -> Call:
    """Read a line of Bedrock's log of invocations."""
    given, told = named.get("input"), named["output"]
    given = given if isinstance(given, dict) else {}
    counts = {"inputTokens": given.get("inputTokenCount"), "outputTokens": told.get("outputTokenCount")}
    body = _parsed(told.get("outputBodyJson"))
    if not isinstance(body, dict):
        raise BadRow("the response contains no answer: outputBodyJson is absent, as it is for large bodies")
    found = dict(_checked(body))
    if not found.get("usage"):
        found["usage"] = _usage(counts)
    found.setdefault("model", named["modelid"])
    asked = _parsed(given.get("inputBodyJson"))
    return Call(request_of(asked) if isinstance(asked, dict) else {}, found, _without(named, "input", "output"))


def _of_langsmith(named: Mapping[str, Any]) -> Call:
    """Read a run of a model as LangSmith exports it."""
    if named.get("error"):
        raise BadRow(f"the request failed ({str(named['error'])[:60]})")
    outputs, inputs = named["outputs"], named.get("inputs")
    generations = outputs.get("generations")
    while isinstance(generations, list) and generations:
        generations = generations[0]
    if isinstance(generations, dict):
        message = generations.get("message")
        outputs = {"message": message if isinstance(message, dict) else {"content": generations.get("text")}}
    asked = dict(inputs) if isinstance(inputs, dict) else {}
    nested = asked.get("messages")
    if isinstance(nested, list) and nested and isinstance(nested[0], list):  # a batch of one
        asked["messages"] = nested[0]
    beside = _without(named, "inputs", "outputs")
    return Call(request_of(asked), _checked(outputs), beside)


def request_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request in OpenAI's form; empty if it holds no messages that are known."""
    body = inner if isinstance(inner := _parsed(body.get("body")), dict) else body
    asked = next((found for key in _ASKED if (found := _ASKED[key](_parsed(body.get(key))))), [])
    if not asked:
        return {}
    system = next((body[key] for key in _SYSTEM if body.get(key)), None)
    if system is not None:
        parts = system.get("parts", system) if isinstance(system, dict) else system
        asked = [{"role": "system", "content": parts}, *asked]
    kept = {key: body[key] for key in ("model", "tools") if body.get(key)}
    return {"messages": asked} | kept


_SYSTEM = ("system", "systemInstruction", "system_instruction", "instructions")


def _turns(value: Any) -> list[Any]:
    return value if isinstance(value, list) and all(isinstance(one, dict) for one in value) else []


def _contents(value: Any) -> list[Any]:
    """Return Gemini's contents as messages; a text alone is the user's."""
    if isinstance(value, str) and value:
        return [{"role": "user", "content": value}]
    return [{"role": one.get("role", "user"), "content": one.get("parts")} for one in _turns(value)]


def _items(value: Any) -> list[Any]:
    """Return the items of OpenAI's Responses as messages."""
    if isinstance(value, str) and value:
        return [{"role": "user", "content": value}]
    found: list[Any] = []
    for item in _turns(value):
        kind = item.get("type", "message")
        if kind == "function_call":
            found.append({"role": "assistant", "content": "", "tool_calls": [_called(item)]})
        elif kind == "function_call_output":
            output = {"role": "tool", "tool_call_id": item.get("call_id", ""), "content": item.get("output")}
            found.append(output)
        elif "role" in item:
            found.append({"role": item["role"], "content": item.get("content")})
    return found


def _prompt(value: Any) -> list[Any]:
    return [{"role": "user", "content": value}] if isinstance(value, str) and value else []


_ASKED = {"messages": _turns, "contents": _contents, "input": _items, "prompt": _prompt, "inputText": _prompt}


def _called(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item.get("name"), "arguments": item.get("arguments", "{}")}
    return {"id": item.get("call_id") or item.get("id") or "", "type": "function", "function": function}


def response_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a response in the form of OpenAI's chat completions; None if its form isn't known.

    Raises:
        BadRow: a part of it has another type than it should have.
    """
    found = next((choice for read in _READERS if (choice := read(body)) is not None), None)
    if found is None:
        return None
    usage = next((body[key] for key in ("usage", "usageMetadata", "usage_metadata") if body.get(key)), None)
    named = ("model", "modelVersion", "model_version", "id", "created", "created_at", "service_tier")
    kept = {key: body[key] for key in named if body.get(key)}
    model = body.get("model") or body.get("modelVersion") or body.get("model_version")
    usage = usage if isinstance(usage, dict) else body
    return kept | {"choices": [found], "usage": _usage(usage)} | ({"model": model} if model else {})


def _usage(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return counts of tokens under the names that recorded answers have."""
    lower = {name.lower(): value for name, value in given.items()}
    known = {name: next((lower[key] for key in keys if lower.get(key)), None) for name, keys in _COUNTS.items()}
    return dict(given) | {name: value for name, value in known.items() if value is not None}


def _of_choices(body: Mapping[str, Any]) -> dict[str, Any] | None:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    first = choices[0]
    if "message" not in first and isinstance(first.get("text"), str):
        return first | {"message": {"content": first["text"]}}
    if not isinstance(first.get("message"), dict):
        raise BadRow(f"the response's message is {type_of(first.get('message'))}")
    return dict(first)


def _of_gemini(body: Mapping[str, Any]) -> dict[str, Any] | None:
    candidates = body.get("candidates")
    if isinstance(feedback := body.get("promptFeedback"), dict) and feedback.get("blockReason") and not candidates:
        return _choice([], "content_filter")
    if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], dict):
        return None
    content = candidates[0].get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return _choice(parts or [], candidates[0].get("finishReason") or candidates[0].get("finish_reason"))


def _of_anthropic(body: Mapping[str, Any]) -> dict[str, Any] | None:
    content = body.get("content")
    if not isinstance(content, list) or not ("stop_reason" in body or body.get("role") == "assistant"):
        return None
    return _choice(content, body.get("stop_reason"))


def _of_responses(body: Mapping[str, Any]) -> dict[str, Any] | None:
    output = body.get("output")
    if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
        return None
    messages = [item for item in output if item.get("type") == "message"]
    parts = [part for item in messages for part in (item.get("content") or []) if isinstance(part, dict)]
    refused = any(part.get("type") == "refusal" for part in parts)
    parts = [{"type": "text", "text": part.get("text") or part.get("refusal") or ""} for part in parts]
    calls = [_called(item) for item in output if item.get("type") == "function_call"]
    if not parts and not calls and body.get("status") != "incomplete":
        return None
    details = body.get("incomplete_details")
    finish = details.get("reason") if isinstance(details, dict) else "stop"
    found = _choice(parts, "stop" if refused else finish)
    return found | {"message": found["message"] | ({"tool_calls": calls} if calls else {})}


def _of_converse(body: Mapping[str, Any]) -> dict[str, Any] | None:
    output = body.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return None
    return _choice(message["content"], body.get("stopReason"))


def _of_ollama(body: Mapping[str, Any]) -> dict[str, Any] | None:
    message = body.get("message")
    if isinstance(message, dict) and message.get("content") is not None:
        return {"message": dict(message), "finish_reason": body.get("done_reason") or "stop"}
    return None


def _of_text(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the forms that hold one text: Ollama's completions, and models of Bedrock with forms of their own."""
    for key in ("outputs", "results"):
        inner = body.get(key)
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            body = inner[0] | {"generation": inner[0].get("text", inner[0].get("outputText"))}
    text = next((body[key] for key in ("response", "generation", "outputText") if key in body), None)
    if not isinstance(text, str):
        return None
    reasons = ("done_reason", "stop_reason", "completionReason", "finish_reason")
    reason = next((body[key] for key in reasons if body.get(key)), "stop")
    return {"message": {"content": text}, "finish_reason": "stop" if reason in ("FINISH", "FINISHED") else reason}


_READERS = (
    _of_choices, _of_gemini, _of_anthropic, _of_responses, _of_converse, _of_ollama, _of_text,
)  # fmt: skip


def _choice(parts: list[Any], finish: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": parts}, "finish_reason": finish or "stop"}


def _parsed(value: Any) -> Any:
    """Parse a cell that holds JSON as text."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
