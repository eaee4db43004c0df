"""The judging page: each rater opens a personal link and sees one task at a time; votes are stored before the next."""

from __future__ import annotations

import html
import logging
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field, ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest

from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, Invitation
from sizewise.judging.differences import Segments, mark_differences
from sizewise.judging.rounds import MAX_ANSWERS
from sizewise.progress import Reporter, Silent
from sizewise.records import REASONS, SCALES, JudgeRater, JudgeTask, Vote
from sizewise.service.hosting import allowed_hosts, run_app
from sizewise.service.limits import Gate
from sizewise.service.pages import SAFE_HEADERS, read_page
from sizewise.service.pages.judge_owner import Owner, add_owner_routes, local_address
from sizewise.store import Store
from sizewise.store.database import Unavailable

MAX_BODY_BYTES = 100_000
_LOG = logging.getLogger("sizewise.service")
NONCE = Field(pattern="^[A-Za-z0-9-]{8,64}$")


class VoteForm(BaseModel):
    """A vote as the page sends it."""

    task: str = Field(max_length=100)
    choice: str = Field(max_length=20)
    nonce: str = NONCE
    harm: bool = False
    harmful: list[int] = Field(default_factory=list, max_length=MAX_ANSWERS)
    reasons: list[str] = Field(default_factory=list, max_length=len(REASONS))
    ratings: dict[str, int] = Field(default_factory=dict, max_length=len(SCALES))
    comment: str = Field(default="", max_length=4_000)
    correction: str = Field(default="", max_length=20_000)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class UndoForm(BaseModel):
    """A request to take back the last vote."""

    nonce: str = NONCE


def create_judge_app(ballot: Ballot, hosts: Sequence[str] = ("*",), owner: Owner | None = None) -> FastAPI:
    """Build the web application for a judging round.

    Args:
        ballot: the round and its votes.
        hosts: accepted Host headers; `*` accepts any.
        owner: access of the owner's page at `/`; without it there is none.
    """
    app = FastAPI(title="Sizewise judging", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, max_bytes=MAX_BODY_BYTES)
    if "*" not in hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    add_errors(app, lambda: ballot.closed, "vote")
    _add_routes(app, ballot)
    if owner is not None:
        add_owner_routes(app, ballot, owner)
    return app


def add_errors(app: FastAPI, is_closed: Callable[[], bool], saved: str) -> None:
    """Answer errors of a round's pages as JSON.

    Args:
        app: the application.
        is_closed: whether the round takes no more.
        saved: what a page sends, such as `vote`.
    """

    @app.exception_handler(SizewiseError)
    async def refused(_: HttpRequest, error: SizewiseError) -> JSONResponse:
        status = 410 if is_closed() else 403
        return JSONResponse({"error": {"what": error.what, "expected": error.expected}}, status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HttpRequest, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": {"what": error.errors()[0]["msg"], "expected": f"a {saved}"}}, 400)

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.Error)
    @app.exception_handler(Unavailable)
    async def not_saved(_: HttpRequest, error: Exception) -> JSONResponse:
        _LOG.error("Failed to save a %s: %s", saved, error)
        what = f"Your {saved} was not saved because the server cannot write it down."
        return JSONResponse(
            {"error": {"what": what, "expected": "free disk space, or a running database; then try again"}}, 503
        )


def _add_routes(app: FastAPI, ballot: Ballot) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ready"}

    @app.get("/r/{token}")
    async def page(token: str) -> Response:
        try:
            ballot.rater(token)
        except SizewiseError as error:
            return HTMLResponse(error_page(error), 403, headers=SAFE_HEADERS)
        return HTMLResponse(read_page("judge.html"), headers=SAFE_HEADERS | {"Cache-Control": "no-store"})

    @app.get("/r/{token}/state")
    async def state(token: str) -> dict[str, Any]:
        ballot.refresh()  # votes that another process received
        return _state(ballot, ballot.rater(token))

    # These two write to disk on the event loop: a commit takes a few milliseconds, and votes stay in order.
    @app.post("/r/{token}/vote")
    async def vote(token: str, form: VoteForm) -> dict[str, Any]:
        rater = ballot.rater(token)
        ballot.refresh()
        body = form.model_dump(exclude={"nonce"}) | {"rater": rater.name, "origin": rater.origin}
        try:
            cast = Vote.model_validate(body)
        except ValidationError as error:
            raise SizewiseError(
                "This vote is invalid.", error.errors()[0]["msg"].removeprefix("Value error, "), ""
            ) from error
        ballot.vote(rater, cast, form.nonce)
        return _state(ballot, rater)

    @app.post("/r/{token}/undo")
    async def undo(token: str, form: UndoForm) -> dict[str, Any]:
        rater = ballot.rater(token)
        ballot.refresh()
        ballot.undo(rater, form.nonce)
        return _state(ballot, rater)


def error_page(error: SizewiseError) -> str:
    """Write the page that tells a person why their link doesn't work."""
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Sizewise judging</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<body style='font: 1.1rem system-ui; margin: 3rem auto; max-width: 30rem; padding: 0 1rem'>"
        f"<h1>{html.escape(error.what)}</h1><p>Please ask the person who invited you for a new link.</p></body></html>"
    )


def _state(ballot: Ballot, rater: JudgeRater) -> dict[str, Any]:
    task = None if ballot.closed else ballot.next_task(rater)
    return {
        "kind": ballot.round.kind,
        "question": ballot.round.question,
        "guidelines": ballot.round.guidelines,
        "reasons": list(REASONS) if ballot.round.kind in ("pair", "best") else [],
        "choices": list(task.choices(ballot.round.kind)) if task else [],
        "scales": list(SCALES),
        "done": ballot.done(rater),
        "total": len(rater.tasks),
        "closed": ballot.closed,
        "simulated": rater.origin != "person",
        "task": _blinded(task) if task else None,
    }


def _blinded(task: JudgeTask) -> dict[str, Any]:
    """Return what a rater may see of a task, without model names or the task's purpose."""
    texts = [text for _, text in task.answers]
    return {
        "id": task.id,
        "prompt": task.prompt,
        "conversation": task.conversation,
        "passage": task.passage,
        "answers": texts,
        "differences": _differences(texts[0], texts[1]) if len(texts) == 2 else None,
    }


@lru_cache(maxsize=256)
def _differences(one: str, other: str) -> tuple[Segments, Segments] | None:
    """Mark the differences once, however often a page asks."""
    return mark_differences(one, other)


def serve_round(
    round_id: str,
    invitations: Sequence[Invitation],
    *,
    host: str = "127.0.0.1",
    port: int = 8100,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Serve the judging page of a round until SIGINT or SIGTERM.

    Args:
        round_id: id of the round.
        invitations: raters and their tokens, for printing the links; empty for a round created earlier, whose tokens
            are stored only as hashes.
        host: address to bind; every link contains a secret token.
        port: port to bind; 0 picks a free port.
        store: where records are stored.
        reporter: receives the links, and once the token of the owner's page.

    Raises:
        SizewiseError: the port is in use.
    """
    store, reporter = store or Store(), reporter or Silent()
    ballot, owner = Ballot(store, round_id), Owner(secrets.token_urlsafe(18), store)

    def announce(address: str) -> None:
        reporter.say(f"judging {round_id} at {address}")
        reporter.say(f"your page, on this machine only: {local_address(address)}/#{owner.token}")
        for invitation in invitations:
            reporter.say(f"{invitation.rater}: {address}/r/{invitation.token}")
        if not invitations:
            reporter.say("the links printed when the round was created are still valid")

    try:
        run_app(create_judge_app(ballot, allowed_hosts(host), owner), host, port, announce)
    finally:
        ballot.close()
