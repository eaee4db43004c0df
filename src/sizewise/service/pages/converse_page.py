"""The chat page of the imitation test: interrogators and witnesses each open a personal link and talk by turns.

The page never learns who the other side is. Models answer in threads of their own, and their answers appear after the
time that a person takes to type them.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sizewise.errors import SizewiseError
from sizewise.inquiry import Complete
from sizewise.judging import Conversations, Invitation
from sizewise.judging.conversation_design import MAX_CHARACTERS, WITNESS_TASK
from sizewise.progress import Reporter, Silent
from sizewise.records import Completion, Conversation, Participant
from sizewise.service.hosting import allowed_hosts, run_app
from sizewise.service.limits import Gate
from sizewise.service.pages import SAFE_HEADERS, read_page
from sizewise.service.pages.judge_page import NONCE, add_errors, error_page
from sizewise.store import Store

MAX_BODY_BYTES = 50_000
TRIES = 3  # requests to a model for one answer, each with half as much of the conversation
_LOG = logging.getLogger("sizewise.service")


class MessageForm(BaseModel):
    """A message as the page sends it."""

    text: str = Field(max_length=4 * MAX_CHARACTERS)
    nonce: str = NONCE


class VerdictForm(BaseModel):
    """A verdict as the page sends it."""

    conversation: str = Field(max_length=20)
    choice: Literal["person", "model"]
    confidence: int = Field(ge=50, le=100)
    reason: str = Field(default="", max_length=4_000)


class Answerer:
    """Writes the answers of models, one at a time per model.

    Args:
        held: the conversations.
        models: URI of each model -> how to send it requests.
    """

    def __init__(self, held: Conversations, models: Mapping[str, Complete]) -> None:
        self._held, self._models = held, models
        self._threads = {name: ThreadPoolExecutor(1, thread_name_prefix="converse") for name in models}
        self._asked: set[str] = set()
        self._lock = threading.Lock()

    def answer_all(self) -> None:
        """Start the answers that are due and not being written yet."""
        for talk in self._held.unanswered():
            with self._lock:
                if talk.id in self._asked:
                    continue
                self._asked.add(talk.id)
            self._threads[talk.partner].submit(self._answer, talk)

    def _answer(self, talk: Conversation) -> None:
        found, error = None, ""
        try:
            for number in range(TRIES):
                found, error = self._try(talk, 2**number)  # the context may be too short for the whole conversation
                if found is not None and found.finish != "error":
                    break
            self._held.answer(talk, found, error)
        except (OSError, sqlite3.Error) as failure:  # the disk: the answer is asked for again
            _LOG.error("Failed to save an answer: %s", failure)
        finally:
            with self._lock:
                self._asked.discard(talk.id)

    def _try(self, talk: Conversation, parts: int) -> tuple[Completion | None, str]:
        try:
            return next(iter(self._models[talk.partner]([self._held.request(talk, parts)])), None), ""
        except Exception as failure:  # a model may raise anything; the conversation ends, the others go on
            _LOG.error("%s failed: %s", talk.partner, failure)
            return None, f"{type(failure).__name__}: {failure}"

    def close(self) -> None:
        """Wait for no further answers."""
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)


def create_converse_app(held: Conversations, answerer: Answerer, hosts: Sequence[str] = ("*",)) -> FastAPI:
    """Build the web application for a round of conversations.

    Args:
        held: the conversations.
        answerer: answers for the models.
        hosts: accepted Host headers; `*` accepts any.
    """
    app = FastAPI(title="Sizewise conversations", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, max_bytes=MAX_BODY_BYTES)
    if "*" not in hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    add_errors(app, lambda: held.closed, "message")
    _add_routes(app, held, answerer)
    return app


def _add_routes(app: FastAPI, held: Conversations, answerer: Answerer) -> None:
    """Add the routes; they write to disk on the event loop, a few milliseconds each, so that messages stay in order."""

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ready"}

    @app.get("/c/{token}")
    async def page(token: str) -> Response:
        try:
            held.participant(token)
        except SizewiseError as error:
            return HTMLResponse(error_page(error), 403, headers=SAFE_HEADERS)
        return HTMLResponse(read_page("converse.html"), headers=SAFE_HEADERS | {"Cache-Control": "no-store"})

    def told(who: Participant) -> dict[str, Any]:
        held.saw(who)
        answerer.answer_all()
        return page_state(held, who)

    @app.get("/c/{token}/state")
    async def state(token: str) -> dict[str, Any]:
        return told(held.participant(token))

    @app.post("/c/{token}/start")
    async def start(token: str) -> dict[str, Any]:
        who = held.participant(token)
        held.start(who)
        return told(who)

    @app.post("/c/{token}/say")
    async def say(token: str, form: MessageForm) -> dict[str, Any]:
        who = held.participant(token)
        held.say(who, form.text, form.nonce)
        return told(who)

    @app.post("/c/{token}/decide")
    async def decide(token: str) -> dict[str, Any]:
        who = held.participant(token)
        held.decide(who)
        return told(who)

    @app.post("/c/{token}/verdict")
    async def verdict(token: str, form: VerdictForm) -> dict[str, Any]:
        who = held.participant(token)
        held.judge(who, form.conversation, form.choice, form.confidence, form.reason)
        return told(who)

    @app.post("/c/{token}/leave")
    async def leave(token: str) -> dict[str, Any]:
        who = held.participant(token)
        held.leave(who)
        return page_state(held, who)

    @app.post("/c/{token}/away")
    async def away(token: str) -> dict[str, Any]:
        held.left(held.participant(token))
        return {}


def page_state(held: Conversations, who: Participant) -> dict[str, Any]:
    """Return what a participant may know: never who the other side is, nor any name."""
    record, asks = held.round, held.is_interrogator(who)
    talk, phase = held.current(who), held.phase(who)
    mine = "interrogator" if asks else "witness"
    return {
        "role": mine,
        "phase": "closed" if held.closed else phase,
        "task": record.question if asks else WITNESS_TASK,
        "topic": record.topic,
        "conversation": talk.id if talk else "",
        "messages": [{"mine": one.author == mine, "text": one.text} for one in held.messages(talk)] if talk else [],
        "my_turn": held.my_turn(talk, who) if talk else False,
        "seconds_left": round(held.seconds_left(talk)) if talk else 0,
        "minutes": record.minutes,
        "max_characters": record.max_characters,
        "done": held.done(who),
        "total": len(who.partners),
        "simulated": who.origin != "person",
    }


def serve_conversations(
    round_id: str,
    invitations: Sequence[tuple[str, Invitation]],
    models: Mapping[str, Complete],
    *,
    host: str = "127.0.0.1",
    port: int = 8100,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Serve the chat page of a round until SIGINT or SIGTERM.

    Args:
        round_id: id of the round.
        invitations: role and invitation of each participant, for printing the links; empty for a round created earlier,
            whose tokens are stored only as hashes.
        models: URI of each model -> how to send it requests.
        host: address to bind; every link contains a secret token.
        port: port to bind; 0 picks a free port.
        store: where records are stored.
        reporter: receives the links.

    Raises:
        SizewiseError: the port is in use.
    """
    reporter, held = reporter or Silent(), Conversations(store or Store(), round_id)
    answerer = Answerer(held, models)

    def announce(address: str) -> None:
        reporter.say(f"conversations {round_id} at {address}")
        for role, invitation in invitations:
            reporter.say(f"{role} {invitation.rater}: {address}/c/{invitation.token}")
        if not invitations:
            reporter.say("the links printed when the round was created are still valid")

    try:
        run_app(create_converse_app(held, answerer, allowed_hosts(host)), host, port, announce)
    finally:
        answerer.close()
        held.close()
