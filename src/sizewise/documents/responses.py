"""Responses of providers in the form of OpenAI's chat completions. Each form is known by its envelope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

CUT_OFF = ("length", "max_tokens", "model_length", "max_output_tokens")
WITHHELD = (
    *("content_filter", "content_filtered", "guardrail_intervened", "safety", "recitation", "blocklist"),
    *("prohibited_content", "spii", "refusal"),
)
"""Reasons of all providers for answers that were cut off, and for those that were withheld."""
_COUNTS = {
    "prompt_tokens": ("prompt_eval_count", "prompt_token_count"),
    "completion_tokens": ("eval_count", "generation_token_count", "tokencount"),
    "input_tokens": ("inputtokens", "inputtokencount", "inputtexttokencount"),
    "output_tokens": ("outputtokens", "outputtokencount"),
    "cache_read_input_tokens": ("cachereadinputtokens",),
    "cache_creation_input_tokens": ("cachewriteinputtokens",),
}
"""Names of OpenAI and Anthropic -> those of Ollama, Llama, Titan and Bedrock."""
_ITEMS = ("message", "function_call", "reasoning")
_KEPT = ("model", "id", "created", "created_at", "service_tier", "status", "error")


def parsed(value: Any) -> Any:
    """Parse a cell that holds JSON as text; any other value is returned as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def finish_of(reason: Any) -> str:
    """Return a finish reason in lower case, without the name of an enumeration before it."""
    return str(reason or "stop").lower().rpartition(".")[2]


def response_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a response as a chat completion with one choice, `usage` and `model`; None if its form isn't known."""
    found = next((choice for read in _READERS if (choice := read(body)) is not None), None)
    if found is None:
        return None
    lower = {name.lower(): value for name, value in body.items()}
    usage = next((lower[key] for key in ("usage", "usagemetadata", "usage_metadata") if lower.get(key)), None)
    model = next((lower[key] for key in ("model", "modelversion", "model_version") if lower.get(key)), None)
    kept = {key: lower[key] for key in _KEPT if lower.get(key)} | ({"model": model} if model else {})
    counts = count_tokens(usage if isinstance(usage, dict) else body)
    metrics = lower.get("metrics")
    if isinstance(metrics, dict) and metrics.get("latencyMs"):
        kept["latency_ms"] = metrics["latencyMs"]
    if isinstance(lower.get("total_duration"), int | float):
        kept["seconds"] = lower["total_duration"] / 1e9
    return kept | {"choices": [found], "usage": counts}


def count_tokens(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return counts of tokens under the names that recorded answers have, with all that was given."""
    lower = {name.lower(): value for name, value in given.items()}
    known = {name: next((lower[key] for key in keys if lower.get(key)), None) for name, keys in _COUNTS.items()}
    counts = {name: value for name, value in given.items() if "token" in name.lower() or "cost" in name.lower()}
    return counts | {name: value for name, value in known.items() if value is not None}


def error_of(body: Mapping[str, Any]) -> Any:
    """Return the error that a response is; None if it is none."""
    error = body.get("error")
    if body.get("type") == "error" or (isinstance(error, dict) and ("message" in error or "code" in error)):
        return error or body
    return error if isinstance(error, str) and error and len(body) <= 3 else None


def _of_chat(body: Mapping[str, Any]) -> dict[str, Any] | None:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    first = next((one for one in choices if isinstance(one, dict) and one.get("index") == 0), choices[0])
    if isinstance(first.get("message"), dict):
        return dict(first)
    texts = isinstance(first.get("text"), str) and (body.get("object") == "text_completion" or "finish_reason" in first)
    return first | {"message": {"content": first["text"]}} if texts else None


def _of_gemini(body: Mapping[str, Any]) -> dict[str, Any] | None:
    lower = {name.lower(): value for name, value in body.items()}
    feedback = lower.get("promptfeedback", lower.get("prompt_feedback"))
    candidates = lower.get("candidates")
    if isinstance(feedback, dict) and not candidates and (feedback.get("blockReason") or feedback.get("block_reason")):
        return _choice("", "content_filter")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    if not isinstance(first, dict):
        return None
    content, finish = first.get("content"), first.get("finishReason") or first.get("finish_reason")
    parts = content.get("parts") if isinstance(content, dict) else None
    known = isinstance(parts, list) and all(isinstance(part, dict) for part in parts)
    usage = any(key in lower for key in ("usagemetadata", "usage_metadata", "modelversion", "model_version"))
    return _choice(parts or "", finish) if known or (finish and usage) else None


def _of_anthropic(body: Mapping[str, Any]) -> dict[str, Any] | None:
    content = body.get("content")
    if not isinstance(content, list) or body.get("role") != "assistant" or "stop_reason" not in body:
        return None
    texts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    others = [part for part in content if isinstance(part, dict) and part.get("type") != "text"]
    calls = [part for part in others if part.get("type") == "tool_use"]
    text = "".join(str(part.get("text") or "") for part in texts)  # citations cut a sentence into parts
    whole: Any = [{"type": "text", "text": text}, *calls] if calls and text else calls or text
    return _choice(whole, body.get("stop_reason"))


def _of_responses(body: Mapping[str, Any]) -> dict[str, Any] | None:
    output = body.get("output")
    if not isinstance(output, list) or not (body.get("object") == "response" or "status" in body):
        return None
    items = [item for item in output if isinstance(item, dict) and item.get("type") in _ITEMS]
    if not items and body.get("object") != "response":
        return None
    parts = [
        part
        for item in items
        if item.get("type") == "message"
        for part in (item.get("content") or [])
        if isinstance(part, dict)
    ]
    text = "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
    calls = [_called(item) for item in items if item.get("type") == "function_call"]
    details = body.get("incomplete_details")
    message: dict[str, Any] = {"content": text} | ({"tool_calls": calls} if calls else {})
    return {"message": message, "finish_reason": details.get("reason") if isinstance(details, dict) else "stop"}


def _called(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item.get("name"), "arguments": item.get("arguments", "{}")}
    return {"id": item.get("call_id") or item.get("id") or "", "type": "function", "function": function}


def _of_converse(body: Mapping[str, Any]) -> dict[str, Any] | None:
    output = body.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return None
    return _choice(message["content"], body.get("stopReason")) if "stopReason" in body or "usage" in body else None


def _of_ollama(body: Mapping[str, Any]) -> dict[str, Any] | None:
    if not ("done" in body or "done_reason" in body or "eval_count" in body):
        return None
    message = body.get("message")
    if isinstance(message, dict):
        return {"message": dict(message), "finish_reason": body.get("done_reason") or "stop"}
    return _choice(body["response"], body.get("done_reason")) if isinstance(body.get("response"), str) else None


def _of_bedrock(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the forms of models that hold one text: Llama, Mistral and Titan."""
    if isinstance(body.get("generation"), str) and ("stop_reason" in body or "generation_token_count" in body):
        return _choice(body["generation"], body.get("stop_reason"))
    for key, text, reason in (("outputs", "text", "stop_reason"), ("results", "outputText", "completionReason")):
        inner = body.get(key)
        first = inner[0] if isinstance(inner, list) and inner and isinstance(inner[0], dict) else {}
        if isinstance(first.get(text), str) and reason in first:
            return _choice(first[text], "stop" if first[reason] in ("FINISH", "FINISHED") else first[reason])
    return None


_READERS = (
    *(_of_chat, _of_gemini, _of_anthropic, _of_responses),
    *(_of_converse, _of_ollama, _of_bedrock),
)


def _choice(content: Any, finish: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content}, "finish_reason": finish or "stop"}
