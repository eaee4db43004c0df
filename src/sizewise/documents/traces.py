"""Read the requests of traces: Langfuse exports and OpenTelemetry spans with GenAI attributes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from sizewise.documents.tables import Row
from sizewise.documents.times import seconds_between
from sizewise.documents.turns import content_of
from sizewise.documents.values import BadRow, Decimal, json_text, reason_of, text_of, type_of

LANGFUSE = "Langfuse (the logged answer is the reference)"
OPENTELEMETRY = "OpenTelemetry GenAI (the logged answer is the reference)"
_LANGFUSE_KEYS = frozenset(("traceid", "observations", "projectid", "htmlpath", "tracename"))
_SHARED_KEYS = frozenset(("sessionid", "starttime"))
"""Names that other tables have too; theirs are texts."""
_OBSERVATIONS = frozenset(
    (
        *("SPAN", "GENERATION", "EVENT", "AGENT", "TOOL", "CHAIN"),
        *("RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL"),
    )
)
_PROMPTS = ("messages", "input", "prompt", "question", "query", "text", "content")
_CUT_OFF = frozenset(
    ("length", "max_tokens", "max_output_tokens", "model_length", "content_filter", "safety", "refusal", "error")
)
_FAILED = (2, "ERROR", "STATUS_CODE_ERROR", "error")
_SESSION_KEYS = ("sessionId", "session_id", "conversationId", "conversation_id")
_SESSIONS = ("gen_ai.conversation.id", "session.id", "langfuse.session.id", "session_id")
_ANSWERS = ("output", "completion", "answer", "response", "content", "text", "generated_text")
_ABOUT = ("finish_reason", "stop_reason", "type", "id", "model", "usage", "thinking", "reasoning")
_INDEXED = re.compile(r"gen_ai\.(prompt|completion)\.(\d+)\.(role|content|name|tool_call_id)")
_SPAN_USAGE = {
    "model": ("gen_ai.response.model", "gen_ai.request.model"),
    "prompt_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "completion_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens",),
    "cost_usd": ("gen_ai.usage.cost",),
}
"""Name in recorded answers -> attributes of a span, the preferred one first."""
_STARTS = ("startTimeUnixNano", "start_time_unix_nano", "startTime", "start_time")
_ENDS = ("endTimeUnixNano", "end_time_unix_nano", "endTime", "end_time")
_COSTS = ("calculatedTotalCost", "calculated_total_cost", "totalCost", "total_cost")
_EVENT_ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}


def trace_rows(row: Row, *, usage: bool = False) -> list[Row] | None:
    """Return the requests of a trace or span as rows with `messages`; None if the row is no trace.

    The rows are fewer than the spans: spans that are no request to a model, and those without messages, are left out.

    Args:
        row: The row.
        usage: Whether to add model, tokens, cost, latency and day, under the names that recorded answers have.

    Raises:
        BadRow: The messages cannot be read.
    """
    cells = row.cells
    spans = _spans(cells)
    if spans is not None:
        made = (_row_of(_of_span, span, row.line, OPENTELEMETRY, _span_usage if usage else None) for span in spans)
        return [found for found in made if found.cells or found.problem]
    if _is_langfuse(cells):
        more = _generation_usage if usage else None
        return [_row_of(_of_generation, item, row.line, LANGFUSE, more) for item in _generations(cells)]
    return None


_Reader = Callable[[Mapping[str, Any]], dict[str, Any]]


def _row_of(
    read: Callable[[Mapping[str, Any]], dict[str, Any] | None],
    item: Mapping[str, Any],
    line: int,
    form: str,
    more: _Reader | None,
) -> Row:
    """Read one request; a request that failed or cannot be read is a row with a problem."""
    try:
        cells = read(item) or {}
        return Row(line, cells | more(item) if cells and more is not None else cells, form=form)
    except BadRow as error:
        return Row(line, {}, reason_of(error), form)


def _check_finished(reasons: Any) -> None:
    """Check that an answer was not cut off.

    Raises:
        BadRow: It was.
    """
    for reason in reasons if isinstance(reasons, list) else [reasons]:
        if isinstance(reason, str) and reason.lower() in _CUT_OFF:
            raise BadRow(f"the answer was cut off (finish_reason {reason.lower()})")


def _spans(cells: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """Return the spans of an OTLP object, or of one span; None for other rows."""
    if isinstance(cells.get("resourceSpans"), list):
        return [span for resource in _objects(cells["resourceSpans"]) for span in _spans(resource) or []]
    scopes = cells.get("scopeSpans", cells.get("instrumentationLibrarySpans"))
    if isinstance(scopes, list):
        return [span for scope in _objects(scopes) for span in _objects(scope.get("spans") or [])]
    names = _attributes(cells.get("attributes")) if cells.get("attributes") else {}
    if any(name.startswith("gen_ai.") for name in names) or ("name" in cells and _is_span(cells)):
        return [cells]
    return None


def _is_span(cells: Mapping[str, Any]) -> bool:
    context = cells.get("context")
    return isinstance(cells.get("attributes"), list | dict) and (
        any(key in cells for key in ("spanId", "span_id")) or (isinstance(context, dict) and "span_id" in context)
    )


def _objects(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadRow("a list of spans holds something else than objects")
    return value


def _attributes(given: Any) -> dict[str, Any]:
    """Return attributes by name, from an object or from OTLP's list of keys and typed values."""
    if isinstance(given, dict):
        return given
    found = {}
    for item in given if isinstance(given, list) else []:
        if isinstance(item, dict) and isinstance(item.get("key"), str):
            found[item["key"]] = _typed(item.get("value"))
    return found


def _typed(value: Any) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    name = kind.lower().replace("_", "")
    items = inner.get("values") or [] if isinstance(inner, dict) else inner
    if name == "arrayvalue":
        return [_typed(item) for item in items]
    if name == "kvlistvalue":
        return _attributes(items)
    return inner if name.endswith("value") else value


def _of_span(span: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a request to a model as a row; None for other spans."""
    attributes = _attributes(span.get("attributes"))
    events = [
        (str(event.get("name")), _attributes(event.get("attributes") or event.get("body")))
        for event in span.get("events") or []
        if isinstance(event, dict)
    ]
    everything = attributes | {key: value for _, found in events for key, value in found.items()}
    asked, answers = _messages_of(everything, events)
    if not asked:
        return None
    failed = everything.get("error.type")
    status = span.get("status")
    if failed is None and isinstance(status, dict) and status.get("code", status.get("status_code")) in _FAILED:
        failed = status.get("message", status.get("description")) or "ERROR"
    if failed is not None:
        raise BadRow(f"the request failed ({str(failed)[:60]})")
    if not answers:
        return None
    _check_finished(_parsed(everything.get("gen_ai.response.finish_reasons")))
    _check_finished([answer.get("finish_reason") for answer in answers if isinstance(answer, dict)])
    context = span.get("context")
    name = span.get("spanId", span.get("span_id", context.get("span_id") if isinstance(context, dict) else None))
    row = _row(asked, answers) | {"id": name, "time": _time(span), "group": _first(everything, _SESSIONS)}
    tools = everything.get("gen_ai.tool.definitions")
    return row | ({"tools": tools} if tools else {})


def _messages_of(
    found: Mapping[str, Any], events: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[list[Any], list[Any]]:
    """Return the messages asked and the answers, in the present or an earlier version of the conventions."""
    if "gen_ai.input.messages" in found or "gen_ai.output.messages" in found:
        system = _list(found.get("gen_ai.system_instructions"))
        asked = _list(found.get("gen_ai.input.messages"))
        first = [{"role": "system", "content": system}] if system else []
        return [*first, *asked], _list(found.get("gen_ai.output.messages"))
    indexed = [match for name in found if (match := _INDEXED.fullmatch(name))]
    if indexed:
        return _numbered(found, indexed, "prompt"), _numbered(found, indexed, "completion")
    if found.get("gen_ai.prompt") is not None:
        return _list(found["gen_ai.prompt"], "user"), _list(found.get("gen_ai.completion"), "assistant")
    asked, answers = [], []
    for name, values in events:
        if name in _EVENT_ROLES:
            message = {"role": _EVENT_ROLES[name], **values}
            asked.append(message | ({"tool_calls": _parsed(values["tool_calls"])} if "tool_calls" in values else {}))
        elif name == "gen_ai.choice":
            answer = _parsed(values.get("message", values.get("content")))
            answers.append({"role": "assistant", **answer} if isinstance(answer, dict) else _answer(answer))
    return asked, answers


def _numbered(found: Mapping[str, Any], names: Sequence[re.Match[str]], kind: str) -> list[Any]:
    default = "user" if kind == "prompt" else "assistant"
    turns: dict[int, dict[str, Any]] = {}
    for match in names:
        if match[1] == kind:
            value = found[match[0]]
            turns.setdefault(int(match[2]), {})[match[3]] = _parsed(value) if match[3] == "content" else value
    return [{"role": default, **turns[number]} for number in sorted(turns)]


def _parsed(value: Any) -> Any:
    """Parse a value that is JSON text of a list or an object."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value, parse_float=Decimal)
        except (ValueError, RecursionError):
            return value
    return value


def _list(value: Any, role: str = "") -> list[Any]:
    parsed = _parsed(value)
    if isinstance(parsed, list):
        return parsed
    if parsed in (None, ""):
        return []
    return [{"role": role, "content": parsed}] if role and isinstance(parsed, str) else [parsed]


def _answer(value: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": value}


def _row(asked: Sequence[Any], answers: Sequence[Any]) -> dict[str, Any]:
    """Return a conversation that ends with the answer, or the prompt and several answers."""
    answers = [{"role": "assistant", **answer} if isinstance(answer, dict) else _answer(answer) for answer in answers]
    if len(answers) == 1:
        return {"messages": [*asked, answers[0]]}
    return {"messages": [*asked], "references": [_text(answer) for answer in answers]}


def _text(answer: Mapping[str, Any]) -> str:
    return content_of(answer.get("content", answer.get("parts")))


def _time(span: Mapping[str, Any]) -> str:
    nanoseconds = span.get("startTimeUnixNano", span.get("start_time_unix_nano"))
    if isinstance(nanoseconds, str | int) and str(nanoseconds).isdigit():
        return datetime.fromtimestamp(int(nanoseconds) // 10**9, UTC).isoformat()
    started = span.get("start_time", span.get("startTime"))
    return started if isinstance(started, str) else ""


def _is_langfuse(cells: Mapping[str, Any]) -> bool:
    names = {key.lower().replace("_", "") for key in cells}
    if isinstance(cells.get("observations"), list) and ("input" in cells or "output" in cells):
        return True
    of_kind = cells.get("type") in _OBSERVATIONS
    if not {"input", "output"} <= names:
        return False
    nested = any(isinstance(cells.get(key), dict | list) for key in ("input", "output"))
    return of_kind or bool(names & _LANGFUSE_KEYS) or (nested and bool(names & _SHARED_KEYS))


def _generations(cells: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the generations of a trace, or the trace itself if it has none; other observations aren't requests."""
    if cells.get("type", "GENERATION") in _OBSERVATIONS - {"GENERATION"}:
        return []
    observations = _parsed(cells.get("observations"))
    generations = [
        item
        for item in (observations if isinstance(observations, list) else [])
        if isinstance(item, dict) and item.get("type") == "GENERATION" and (item.get("output") or item.get("input"))
    ]
    shared = {key: cells[key] for key in ("tags", *_SESSION_KEYS) if cells.get(key) not in (None, "", [])}
    return [shared | item for item in generations] or [cells]


def _of_generation(item: Mapping[str, Any]) -> dict[str, Any]:
    if item.get("level") == "ERROR":
        said = item.get("statusMessage", item.get("status_message"))
        raise BadRow(f"the request failed ({str(said)[:60]})" if said else "the request failed (level ERROR)")
    given, output = _parsed(item.get("input")), _parsed(item.get("output"))
    choices = output.get("choices") if isinstance(output, dict) else None
    for one in [output, *(choices if isinstance(choices, list) else [])]:
        _check_finished([one.get("finish_reason"), one.get("stop_reason")] if isinstance(one, dict) else None)
    about = _parsed(item.get("metadata"))
    _check_finished([about.get("finish_reason"), about.get("stop_reason")] if isinstance(about, dict) else None)
    asked, answers = _asked(given), _answers(output)
    when = next((item[key] for key in ("timestamp", "startTime", "start_time") if item.get(key)), "")
    row = {"id": item.get("id"), "time": when, "tags": _parsed(item.get("tags")) or []}
    tools = (given.get("tools") or given.get("functions")) if isinstance(given, dict) else None
    row |= {"tools": tools} if tools else {}
    return _row(asked, answers) | row | {"group": _first(item, _SESSION_KEYS)}


def _first(found: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((found[key] for key in keys if found.get(key) not in (None, "")), "")


def _asked(given: Any) -> list[Any]:
    value = _parsed(given)
    if isinstance(value, dict) and "role" in value:
        return [value]
    if isinstance(value, dict):
        key = next((key for key in _PROMPTS if value.get(key)), None)
        if key is None:
            raise BadRow(f"input is an object with the keys {', '.join(map(repr, list(value)[:8]))} and no prompt")
        value = value[key]
    if isinstance(value, list):
        return value
    if value in (None, ""):
        raise BadRow("input is empty")
    return [{"role": "user", "content": text_of(value, "input")}]


def _answers(given: Any) -> list[Any]:
    value = _parsed(given)
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        value = [choice.get("message", choice) for choice in value["choices"] if isinstance(choice, dict)]
    elif isinstance(value, dict) and "role" not in value and not value.get("tool_calls"):
        key = next((key for key in _ANSWERS if value.get(key)), None)
        # An object with more in it is itself the answer, as where fields are extracted.
        value = value[key] if key is not None and set(value) <= {key, *_ABOUT} else json_text(value)
    if isinstance(value, list):
        turns: list[Any] = [turn for turn in value if isinstance(turn, dict)]
        if not turns or len(turns) < len(value):
            raise BadRow(f"output is a list of {type_of(value[0]) if value else 'nothing'}, not of messages")
        return turns[-1:] if len({turn.get("role") for turn in turns}) > 1 else turns
    if value in (None, ""):
        raise BadRow("output is empty")
    return [value if isinstance(value, dict) else _answer(text_of(value, "output"))]


def _span_usage(span: Mapping[str, Any]) -> dict[str, Any]:
    """Return model, tokens, cost, latency and day of a span, as far as it has them."""
    found = _attributes(span.get("attributes"))
    told = {name: _first(found, keys) for name, keys in _SPAN_USAGE.items()}
    told |= {"seconds": seconds_between(_first(span, _STARTS), _first(span, _ENDS)), "recorded_on": _time(span)}
    return {name: value for name, value in told.items() if value != ""}


def _generation_usage(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return model, tokens, cost, latency and day of a generation in Langfuse, whose counts of tokens add up."""
    counts = _parsed(_first(item, ("usageDetails", "usage_details", "usage")))
    counts = counts if isinstance(counts, dict) and str(counts.get("unit") or "TOKENS").upper() == "TOKENS" else {}
    tokens = {
        key: _amount(value)
        for key, value in counts.items()
        if not key.startswith(("total", "unit")) and not key.lower().endswith("cost")
    }
    answer = sum(count for key, count in tokens.items() if key.startswith(("output", "completion")))
    cached = {key: count for key, count in tokens.items() if "cache" in key}
    costs = _parsed(_first(item, ("costDetails", "cost_details")))
    cost = _first(item, _COSTS) or (costs.get("total") if isinstance(costs, dict) else "")
    told: dict[str, Any] = {
        "model": _first(item, ("model", "providedModelName", "provided_model_name")),
        "prompt_tokens": sum(tokens.values()) - answer or _amount(_first(item, ("promptTokens", "prompt_tokens"))),
        "completion_tokens": answer or _amount(_first(item, ("completionTokens", "completion_tokens"))),
        "cached_tokens": sum(count for key, count in cached.items() if "creat" not in key and "write" not in key),
        "cache_write_tokens": sum(count for key, count in cached.items() if "creat" in key or "write" in key),
        "cost_usd": _amount(cost),  # 0 is what Langfuse has for a model whose price it doesn't know
        "seconds": seconds_between(*(_first(item, keys) for keys in (_STARTS, _ENDS))),
        "recorded_on": _first(item, ("startTime", "start_time", "timestamp")),
    }
    return {name: value for name, value in told.items() if value}


def _amount(value: Any) -> float:
    """Return a count or a sum of money; 0 for anything else."""
    try:
        found = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return 0.0
    return found if isfinite(found) and found > 0 else 0.0
