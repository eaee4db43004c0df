"""Routes of the chat and monitor pages: usage summary, feedback, and conversations handed over to staff."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from time import time
from typing import Any, Literal

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request as HttpRequest

from sizewise.service.api_keys import Key, key_of
from sizewise.service.model_runner import ModelRunner
from sizewise.service.pages import SAFE_HEADERS, read_page
from sizewise.service.schemas import APIError
from sizewise.service.state import State

WINDOW_S = 300.0
MAX_PREVIEWS = 5


class Feedback(BaseModel):
    """A thumbs up or down for an answer; users choose what to rate, so it is stored separately from judging votes."""

    model_config = ConfigDict(strict=True)

    answer: str = Field(min_length=1, max_length=100)
    model: str = Field(max_length=200)
    up: bool


def add_pages(app: FastAPI, state: State) -> None:
    """Add the chat and monitor pages and the endpoints they call."""

    @app.get("/monitor/data")
    def monitor_data(http: HttpRequest) -> dict[str, Any]:
        key = key_of(http)
        count, latest = state.handovers.previews(MAX_PREVIEWS) if is_staff(key) else (0, [])
        return {
            "window_seconds": WINDOW_S,
            "models": usage(state.runners, WINDOW_S),
            "thumbs": _count_thumbs(state),
            "routing": state.router.summary() if state.router else None,
            "guard": dict(state.guard.counts),
            "handovers": latest,
            "handovers_waiting": count,
        }

    @app.get("/monitor/series")
    def monitor_series(span: Literal["1h", "24h", "30d"] = "1h") -> dict[str, Any]:
        """Return figures over time by model; they hold no text and no keys."""
        return state.series.read(span)

    @app.get("/handovers")
    def handovers(
        http: HttpRequest, limit: int = Query(20, ge=1, le=100), before: str = Query("", max_length=64)
    ) -> dict[str, Any]:
        require_staff(http)
        return {"waiting": state.handovers.waiting(limit, before)}

    @app.post("/handovers/{number}/done")
    def handover_done(number: str, http: HttpRequest, resolved: bool | None = None) -> dict[str, str]:
        require_staff(http)
        if not state.handovers.finish(number, resolved):
            raise APIError(f"Handover {number[:20]} does not exist.", "number", "not_found", 404)
        return {"status": "done"}

    @app.post("/feedback")
    def feedback(body: Feedback) -> dict[str, str]:
        with state.store.service_ledger() as ledger:
            ledger.append("thumbs", secrets.token_hex(8), body.model_dump())
        return {"status": "saved"}

    for path, name in (("/", "chat.html"), ("/monitor", "monitor.html")):
        app.add_api_route(path, _page(name), response_class=HTMLResponse, include_in_schema=False)


def usage(runners: Sequence[ModelRunner], window_s: float) -> dict[str, Any]:
    """Summarize recent requests, one entry per model.

    Args:
        runners: the models.
        window_s: length of the window in seconds, ending now.
    """
    since = time() - window_s
    return {runner.name: _usage_of(runner, since) for runner in runners}


def _usage_of(runner: ModelRunner, since: float) -> dict[str, Any]:
    if len(runner.history) == runner.history.maxlen:  # older ones of this window were dropped
        since = max(since, runner.history[0].at)
    window_s = max(1.0, time() - max(since, runner.since))
    recent = [record for record in runner.history if record.at >= since]
    succeeded = [record for record in recent if record.status == 200]
    costs = [record.cost_usd for record in succeeded if record.cost_usd is not None]
    drift = runner.drift
    return {
        "engine": runner.description.engine,
        "precision": runner.description.precision,
        "ready": runner.ready,
        "window_seconds": window_s,
        "requests": len(recent),
        "succeeded": len(succeeded),
        "rejected": sum(record.status == 429 for record in recent),
        "failed": sum(record.status >= 500 for record in recent),
        "disconnected": sum(record.status == 499 for record in recent),
        "invalid": sum(400 <= record.status < 500 and record.status not in (429, 499) for record in recent),
        "ttft_s": _p50_p95([record.ttft_s for record in succeeded if record.ttft_s is not None]),
        "latency_s": _p50_p95([record.latency_s for record in succeeded]),
        "output_tokens_per_s": sum(record.completion_tokens for record in succeeded) / window_s,
        "prompt_tokens": sum(record.prompt_tokens for record in succeeded),
        "completion_tokens": sum(record.completion_tokens for record in succeeded),
        "cost_usd": sum(costs) if costs else None,
        "drift": {"p_value": drift.p, "drifted": drift.drifted, "prompts": drift.seen} if drift else None,
        "running": runner.admission.running,
        "queued": runner.admission.queued,
        "reserved_tokens": runner.admission.tokens,
        "max_reserved_tokens": runner.admission.max_tokens,
    }


def _p50_p95(values: list[float]) -> list[float] | None:
    if not values:
        return None
    ordered = sorted(values)
    return [ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]]


def is_staff(key: Key | None) -> bool:
    """Check whether a key may read conversations; without keys, only local users reach the service."""
    return key is None or key.staff


def require_staff(http: HttpRequest) -> None:
    """Reject a key that may not read conversations.

    Raises:
        APIError: the key is not a staff key.
    """
    if not is_staff(key_of(http)):
        raise APIError("This key may not read conversations.", None, "permission_denied", 403)


def _count_thumbs(state: State) -> dict[str, list[int]]:
    """Count thumbs up and thumbs down per model; of several for one answer, the last counts."""
    counts: dict[str, list[int]] = {}
    with state.store.service_ledger() as ledger:
        for body in {str(body["answer"]): body for body in ledger.entries("thumbs").values()}.values():
            counts.setdefault(str(body["model"]), [0, 0])[0 if body["up"] else 1] += 1
    return counts


def _page(name: str) -> Callable[[], HTMLResponse]:
    def page() -> HTMLResponse:
        return HTMLResponse(read_page(name), headers=SAFE_HEADERS)

    return page
