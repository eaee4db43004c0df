"""The web application: OpenAI-compatible endpoints, health, metrics and the pages."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest

from sizewise.errors import EngineError, SizewiseError
from sizewise.models import Model
from sizewise.service import responses, schemas
from sizewise.service.agent import Agent
from sizewise.service.api_keys import CLIENT, Key, key_of
from sizewise.service.backends import CHAT, RESPONSES
from sizewise.service.decision_cascade import has_cascade
from sizewise.service.decision_schemas import AnyDecisionRequest
from sizewise.service.decisions import Decisions
from sizewise.service.handovers import REQUESTED_BY
from sizewise.service.jobs import Job
from sizewise.service.limits import Gate
from sizewise.service.lookups import CUSTOMER
from sizewise.service.model_runner import ModelRunner
from sizewise.service.pages import documents
from sizewise.service.pages.monitor import add_pages
from sizewise.service.pages.support import add_support
from sizewise.service.prompts import client_of, echo, embed, with_index
from sizewise.service.request_log import RejectedKeys, RequestLog
from sizewise.service.responses import ChatForm, TextForm
from sizewise.service.responses_api import NOT_KEPT, ResponsesForm, ResponsesRequest, own_name
from sizewise.service.router import AUTO
from sizewise.service.schemas import APIError, ChatRequest, EmbeddingRequest, TextRequest
from sizewise.service.series import FLUSH_S
from sizewise.service.state import Settings, State
from sizewise.service.tools import Tools, without_tools
from sizewise.service.tracing import telemetry_of_fastapi
from sizewise.store import Store
from sizewise.store.database import Unavailable

OPEN_PATHS = ("/", "/monitor", "/support", "/health", "/health/live", "/metrics", "/openapi.json")
"""Paths that need no API key."""
_LOG = logging.getLogger("sizewise.service")


def create_app(
    models: dict[str, Model],
    settings: Settings | None = None,
    store: Store | None = None,
    previous: State | None = None,
) -> FastAPI:
    """Build the service.

    Args:
        models: models by client-facing name; the chat page preselects the first.
        settings: settings of the service.
        store: where feedback, handovers and usage are stored.
        previous: state of the service before a reload, which goes on with its usage, metrics and queues.
    """
    state = State(models, settings or Settings(), store or Store(), previous)
    options: dict[str, Any] = {"docs_url": None, "redoc_url": None, "telemetry": telemetry_of_fastapi()}
    app = FastAPI(title="Sizewise", lifespan=partial(_live, state), responses=schemas.ERRORS, **options)
    app.state.sizewise = state
    app.openapi = partial(_openapi, app, app.openapi)  # type: ignore[method-assign]
    if state.has_backends:
        from sizewise.service.passing import Passing

        app.add_middleware(Passing, state=state)
    app.add_middleware(
        Gate,
        max_bytes=state.settings.max_body_bytes,
        keys=state.settings.keys,
        open_paths=OPEN_PATHS,
        raw_paths=(documents.PATH,),
        body_timeout_s=state.settings.body_timeout_s,
        on_rejected=RejectedKeys(state.metrics).add,
    )
    if "*" not in state.settings.hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(state.settings.hosts), www_redirect=False)
    app.add_middleware(RequestLog, metrics=state.metrics)
    _add_errors(app)
    _add_routes(app, state)
    return app


@asynccontextmanager
async def _live(state: State, _: FastAPI) -> AsyncIterator[None]:
    """Warm up and watch the models while the application runs, and close what it opened."""
    warmup, keeping = asyncio.create_task(_warm_up(state)), asyncio.create_task(_keep_series(state))
    backends = [runner.backend for runner in state.runners if runner.backend is not None]
    watching = [asyncio.create_task(backend.replicas.watch()) for backend in backends]
    yield
    state.draining = True
    if state.router is not None and state.router.shadow is not None:
        state.router.shadow.close()
    for task in (warmup, keeping, *watching):
        task.cancel()
    await asyncio.to_thread(state.keep_series)
    for backend in backends:
        await backend.close()
    if not state.replaced:
        await asyncio.to_thread(state.budgets.close)
        if state.guard.processes is not None:
            await asyncio.to_thread(state.guard.processes.close)


def _add_routes(app: FastAPI, state: State) -> None:
    for add in (_add_chat, _add_completions, _add_embeddings, _add_decisions, _add_responses, _add_models, _add_health):
        add(app, state)
    add_pages(app, state)
    add_support(app, state)
    documents.add_documents(app, state)


def _openapi(app: FastAPI, generate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Generate the OpenAPI schema without FastAPI's 422 responses: invalid bodies get a 400 here."""
    schema: dict[str, Any] = generate()
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    app.openapi_schema = schema
    return schema


async def _keep_series(state: State) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        try:
            await asyncio.to_thread(state.keep_series)
        except (OSError, sqlite3.Error) as error:  # a full disk must not stop the service
            _LOG.warning("The monitor's figures were not saved: %s", error)


async def _warm_up(state: State) -> None:
    await asyncio.gather(asyncio.to_thread(state.guard.warm_up), *(runner.start() for runner in state.runners))


def _add_errors(app: FastAPI) -> None:
    def error_response(message: str, status: int, param: str | None = None, code: str | None = None) -> JSONResponse:
        return JSONResponse(schemas.error_body(message, status, param, code), status)

    @app.exception_handler(APIError)
    async def rejected(_: HttpRequest, error: APIError) -> JSONResponse:
        response = error_response(error.message, error.status, error.param, error.code)
        response.headers.update(error.headers)
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HttpRequest, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return error_response("The request body is not valid JSON.", 400, None, "invalid_json")
        field = ".".join(str(part) for part in first["loc"] if part != "body" and not str(part).startswith("<"))
        message = first["msg"].removeprefix("Value error, ")
        return error_response(f"{field or 'body'}: {message}", 400, field or None, "invalid_value")

    @app.exception_handler(HTTPException)
    async def http(_: HttpRequest, error: HTTPException) -> JSONResponse:
        response = error_response(str(error.detail), error.status_code)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(EngineError)
    async def engine_failed(_: HttpRequest, error: EngineError) -> JSONResponse:
        return error_response(error.what, 500, None, "engine_failed")

    @app.exception_handler(Unavailable)
    async def no_database(_: HttpRequest, error: Unavailable) -> JSONResponse:
        _LOG.error("%s", error.what)
        response = error_response("The service's database can't be used now.", 503, None, "database_unavailable")
        response.headers["Retry-After"] = "5"
        return response

    @app.exception_handler(SizewiseError)
    async def expected(_: HttpRequest, error: SizewiseError) -> JSONResponse:
        return error_response(error.what, 400)

    @app.exception_handler(Exception)
    async def unexpected(_: HttpRequest, error: Exception) -> JSONResponse:
        return error_response(f"Internal server error ({type(error).__name__}).", 500)


async def _begin(state: State, http: HttpRequest, customer: str | None = None) -> Key | None:
    """Count a request against its key's rate limit and return the key.

    Args:
        state: state of the service.
        http: the request.
        customer: who asks, as the client says; believed if the key vouches for its customers.
    """
    key = key_of(http)
    await state.budgets.admit(key)
    REQUESTED_BY.set(key.name if key else "")
    CLIENT.set(key)
    CUSTOMER.set(customer or "" if key is not None and key.vouches else "")
    return key


def _add_chat(app: FastAPI, state: State) -> None:
    @app.post("/v1/chat/completions", responses=schemas.STREAMED)
    async def chat(body: ChatRequest, http: HttpRequest) -> Response:
        key = await _begin(state, http, body.user)
        return await _answer(state, body, http, key, CHAT, lambda name, tools: ChatForm(name, body, tools))


async def _answer(
    state: State,
    body: ChatRequest,
    http: HttpRequest,
    key: Key | None,
    path: str,
    form_of: Callable[[str, Tools | None], ChatForm],
) -> Response:
    """Answer a conversation with the model that it names, or that `auto` chooses.

    Args:
        state: state of the service.
        body: the conversation.
        http: the request.
        key: key of the client.
        path: path below the base URL of a backend, to which the request is passed on as it is.
        form_of: makes the format of the answer, from the name of the model and the tools that it may call.
    """
    lenient = state.settings.lenient

    async def generate(runner: ModelRunner) -> Response:
        if runner.backend is not None:
            from sizewise.service.forwarding import Forward  # needs the extra for remote models

            return await Forward(state, runner, key, http, path).respond(await http.json())
        schemas.reject_unsupported(body, runner.description, lenient)
        if not runner.description.can_chat:
            raise APIError(f"{runner.name} has no chat template. Use /v1/completions instead.", "model")
        if body.messages[-1].role not in responses.TOOL_ROLES:
            runner.watch_drift(request)
        usable = usable_tools(runner, tools, lenient)
        takes_tools = "tools" in runner.description.offers
        prompt = usable.add_to(request, takes_tools) if usable else without_tools(request, takes_tools)
        job = Job(state, runner, key, [with_index(prompt, i) for i in range(body.n or 1)], http)
        form = form_of(runner.name, usable)
        return with_signals(await job.stream(form) if body.stream else await job.complete(form), signals)

    router = state.router if body.model == AUTO else None
    runner = state.find(router.small.name if router else body.model, key, by_auto=router is not None)
    tools = Tools.from_request(body, lenient)
    request = responses.chat_request(body, lenient)
    signals = await state.admit([request])
    if router is None:
        return await generate(runner)
    question = responses.last_question(body)
    routed = tools.add_to(request, takes_tools=True) if tools else request  # descriptions may be confidential
    decision = router.decide(routed, question, tools is not None, key.name if key else "")
    if decision.may_leave:
        state.find(router.large.name, key, by_auto=True)
    return await router.answer(decision, generate, bool(body.stream), body.n or 1)


def _add_completions(app: FastAPI, state: State) -> None:
    @app.post("/v1/completions", responses=schemas.STREAMED)
    async def text(body: TextRequest, http: HttpRequest) -> Response:
        key = await _begin(state, http)
        runner = state.find(body.model, key)
        schemas.reject_unsupported(body, runner.description, state.settings.lenient)
        prompts = [responses.text_request(body, prompt) for prompt in body.prompts()]
        if any(prompt.ids is not None for prompt in prompts) and "ids" not in runner.description.offers:
            raise APIError(f"{runner.description.engine} accepts text prompts only, not token ids.", "prompt")
        signals = await state.admit(prompts)
        echoes = body.echo or body.max_tokens == 0
        if echoes and not (body.stream and state.settings.lenient):
            if body.stream:
                raise APIError("echo cannot be combined with stream.", "stream")
            return await echo(state, runner, key, body, prompts, client_of(http))
        requests = [with_index(prompt, i) for prompt in prompts for i in range(body.n or 1)]
        runner.watch_drift(requests[0])
        job, form = Job(state, runner, key, requests, http), TextForm(runner.name, body)
        return with_signals(await job.stream(form) if body.stream else await job.complete(form), signals)


def _add_embeddings(app: FastAPI, state: State) -> None:
    @app.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest, http: HttpRequest) -> Response:
        key = await _begin(state, http)
        return await embed(state, state.find(body.model, key), key, body, client_of(http))


def _add_decisions(app: FastAPI, state: State) -> None:
    @app.post("/v1/decisions")
    async def decisions(body: AnyDecisionRequest, http: HttpRequest) -> Response:
        return await Decisions(state, await _begin(state, http), http, body).answer()


def _add_responses(app: FastAPI, state: State) -> None:
    @app.post("/v1/responses", responses=schemas.STREAMED)
    async def create_response(body: ResponsesRequest, http: HttpRequest) -> Response:
        key = await _begin(state, http, body.user)
        chat = body.to_chat(state.settings.lenient)

        def form_of(name: str, tools: Tools | None) -> ChatForm:
            return ResponsesForm(name, body, chat, tools)

        try:
            return await _answer(state, chat, http, key, RESPONSES, form_of)
        except APIError as error:
            error.param = own_name(error.param) if error.param else None
            raise

    @app.get("/v1/responses/{response_id}")
    @app.delete("/v1/responses/{response_id}")
    async def stored_response(response_id: str, http: HttpRequest) -> Response:
        await state.budgets.admit(key_of(http))
        raise APIError(f"No response {response_id[:100]!r}. {NOT_KEPT}", "response_id", "not_found", 404)


def _add_models(app: FastAPI, state: State) -> None:
    @app.get("/v1/models")
    async def models(http: HttpRequest) -> dict[str, Any]:
        key = key_of(http)
        await state.budgets.admit(key)
        visible = [runner for runner in state.runners if key is None or key.may_use(runner.name)]
        rows = [_model_card(runner) for runner in visible]
        if has_cascade(state) and (len(visible) == len(state.runners) or (key and key.may_use(AUTO))):
            routes = [runner.name for runner in state.runners[:2] if not isinstance(runner, Agent)]
            rows.insert(0, _model_card(state.runners[0]) | {"id": AUTO, "routes": routes})
        return {"object": "list", "data": rows}

    @app.get("/v1/models/{name:path}")
    async def model(name: str, http: HttpRequest) -> dict[str, Any]:
        key = key_of(http)
        await state.budgets.admit(key)
        return _model_card(state.find(name, key))


def _add_health(app: FastAPI, state: State) -> None:
    @app.get("/health")
    async def health(http: HttpRequest) -> JSONResponse:
        failed, starting = state.failures(), state.starting
        healthy = not starting and len(failed) < len(state.runners) and not state.draining
        if state.draining:
            status = "draining"
        elif starting:
            status = "starting"
        elif not healthy:
            status = "failed"
        else:
            status = "degraded" if failed else "ready"
        body: dict[str, Any] = {"status": status}
        if not state.settings.keys.required or key_of(http) is not None:
            body |= {"models": list(state.by_name), "starting": starting, "failed": failed}
        return JSONResponse(body, 200 if healthy else 503)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Answer as long as the process does; /health says whether it may receive requests."""
        return {"status": "alive"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics(http: HttpRequest) -> PlainTextResponse:
        key = key_of(http)
        by_key = key is not None and key.staff
        text = state.metrics.render(state.runners, state.guard.counts, by_key)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def usable_tools(runner: ModelRunner, tools: Tools | None, lenient: bool) -> Tools | None:
    """Return the tools in a form that a model supports; with `lenient`, drop what it doesn't support.

    Raises:
        APIError: the model supports no tools, or cannot be forced to call one.
    """
    if tools is None:
        return None
    if not runner.takes_tools:
        if lenient:
            return None
        raise APIError(
            f"{runner.name} doesn't support tools, because its prompt format is fixed "
            "(support agent, or served as measured).",
            "tools",
            "unsupported_parameter",
        )
    if tools.schema is not None and "json_schema" not in runner.description.offers:
        if lenient:
            return tools.optional()
        raise APIError(
            f"{runner.description.engine} doesn't support constrained decoding, so it cannot be forced to call a "
            "function. Omit tool_choice or set it to 'auto'.",
            "tool_choice",
            "unsupported_parameter",
        )
    return tools


def with_signals(response: Response, signals: Sequence[str]) -> Response:
    """List the signs of prompt injection in a response header."""
    if signals:
        response.headers["X-Sizewise-Signals"] = ", ".join(signals)
    return response


def _model_card(runner: ModelRunner) -> dict[str, Any]:
    description = runner.description
    return {
        "id": runner.name,
        "object": "model",
        "created": 0,
        "owned_by": "sizewise",
        "context": description.context,
        "engine": description.engine,
        "precision": description.precision,
        "origin": description.origin,
        "license": description.license,
        "local": description.local,
        "can_chat": description.can_chat,
        "question": description.question.model_dump(mode="json") if description.question else None,
    }
