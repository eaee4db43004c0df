"""The judge page: a rater opens a link, sees one task at a time, and every answer is on disk before the next one."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field, ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest

from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, Invitation
from sizewise.progress import Reporter, Silent
from sizewise.records import SCALES, JudgeRater, JudgeTask, Vote
from sizewise.service.limits import Gate
from sizewise.service.monitoring import SAFE_PAGE
from sizewise.service.running import hosts_of, run_app
from sizewise.store import Store

MOST_BODY_BYTES = 100_000
_LOG = logging.getLogger("sizewise.service")
NONCE = Field(pattern="^[A-Za-z0-9-]{8,64}$")


class VoteForm(BaseModel):
    """A vote as the page sends it."""

    task: str = Field(max_length=100)
    choice: str = Field(max_length=20)
    nonce: str = NONCE
    harm: bool = False
    ratings: dict[str, int] = Field(default_factory=dict, max_length=len(SCALES))
    comment: str = Field(default="", max_length=4_000)
    correction: str = Field(default="", max_length=20_000)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class UndoForm(BaseModel):
    """A vote taken back."""

    nonce: str = NONCE


def create_judge_app(ballot: Ballot, hosts: Sequence[str] = ("*",)) -> FastAPI:
    """Make the page of a round.

    Args:
        ballot: the round and its votes.
        hosts: names under which it may be called.
    """
    app = FastAPI(title="Sizewise judging", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, most_bytes=MOST_BODY_BYTES)
    if "*" not in hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)

    @app.exception_handler(SizewiseError)
    async def refused(_: HttpRequest, error: SizewiseError) -> JSONResponse:
        status = 410 if ballot.closed else 403
        return JSONResponse({"error": {"what": error.what, "expected": error.expected}}, status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HttpRequest, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": {"what": error.errors()[0]["msg"], "expected": "a vote"}}, 400)

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.Error)
    async def not_kept(_: HttpRequest, error: Exception) -> JSONResponse:
        _LOG.error("a vote could not be kept: %s", error)
        what = "This vote could not be kept: the service cannot write to its disk."
        return JSONResponse({"error": {"what": what, "expected": "room on the disk; then vote again"}}, 503)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ready"}

    @app.get("/r/{token}")
    async def page(token: str) -> Response:
        try:
            ballot.rater(token)
        except SizewiseError as error:
            return HTMLResponse(_told(error), 403, headers=SAFE_PAGE)
        text = files("sizewise.service").joinpath("pages", "judge.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers=SAFE_PAGE | {"Cache-Control": "no-store"})

    @app.get("/r/{token}/state")
    async def state(token: str) -> dict[str, Any]:
        return _state(ballot, ballot.rater(token))

    # What follows writes to the disk in the event loop: a commit takes a few milliseconds, and votes stay in order.
    @app.post("/r/{token}/vote")
    async def vote(token: str, form: VoteForm) -> dict[str, Any]:
        rater = ballot.rater(token)
        body = form.model_dump(exclude={"nonce"}) | {"rater": rater.name, "origin": rater.origin}
        try:
            one = Vote.model_validate(body)
        except ValidationError as error:
            raise SizewiseError(
                "This vote is not understood.", error.errors()[0]["msg"].removeprefix("Value error, "), ""
            ) from error
        ballot.vote(rater, one, form.nonce)
        return _state(ballot, rater)

    @app.post("/r/{token}/undo")
    async def undo(token: str, form: UndoForm) -> dict[str, Any]:
        rater = ballot.rater(token)
        ballot.undo(rater, form.nonce)
        return _state(ballot, rater)

    return app


def _told(error: SizewiseError) -> str:
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Sizewise judging</title>"
        f"<body style='font: 1.1rem system-ui; margin: 3rem auto; max-width: 30rem'><h1>{error.what}</h1>"
        "<p>Ask whoever sent you here for a new link.</p></body></html>"
    )


def _state(ballot: Ballot, rater: JudgeRater) -> dict[str, Any]:
    task = None if ballot.closed else ballot.next_task(rater)
    return {
        "kind": ballot.round.kind,
        "question": ballot.round.question,
        "choices": list(task.choices(ballot.round.kind)) if task else [],
        "scales": list(SCALES),
        "done": ballot.done(rater),
        "total": len(rater.tasks),
        "closed": ballot.closed,
        "simulated": rater.origin != "person",
        "task": _seen(task) if task else None,
    }


def _seen(task: JudgeTask) -> dict[str, Any]:
    """Give what a rater may see of a task: no names, and not what it is for."""
    return {
        "id": task.id,
        "prompt": task.prompt,
        "passage": task.passage,
        "answers": [text for _, text in task.answers],
    }


def serve_round(
    round_id: str,
    invitations: Sequence[Invitation],
    *,
    host: str = "127.0.0.1",
    port: int = 8100,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Serve the judge page of a round until SIGINT or SIGTERM.

    Args:
        round_id: id of the round.
        invitations: raters with their tokens, to be told; those of a round made before are not known any more.
        host: address to listen at; every link holds a secret token.
        port: port; 0 takes a free one.
        store: where records live.
        reporter: told the links.

    Raises:
        SizewiseError: the port is taken.
    """
    store, reporter = store or Store(), reporter or Silent()
    ballot = Ballot(store, round_id)

    def announce(address: str) -> None:
        reporter.say(f"judging {round_id} at {address}")
        for one in invitations:
            reporter.say(f"{one.rater}: {address}/r/{one.token}")
        if not invitations:
            reporter.say("links were printed when the round was made; they still hold")

    try:
        run_app(create_judge_app(ballot, hosts_of(host)), host, port, announce)
    finally:
        ballot.close()
