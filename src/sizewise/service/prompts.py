"""Endpoints that read prompts without free generation: embeddings, and echoed prompts with log-probabilities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from time import monotonic
from typing import Any, NamedTuple

from fastapi.responses import JSONResponse, Response
from starlette.requests import Request as HttpRequest

from sizewise.errors import SizewiseError
from sizewise.models.base import ScoredPrompt
from sizewise.records import Completion, Request
from sizewise.service import responses, schemas
from sizewise.service.admission import Busy
from sizewise.service.api_keys import Key, key_of
from sizewise.service.budgets import Charge
from sizewise.service.failures import failure_of
from sizewise.service.model_runner import ModelRunner
from sizewise.service.schemas import APIError, EmbeddingRequest, TextRequest
from sizewise.service.state import State


def with_index(request: Request, index: int) -> Request:
    """Number one of several requests, and offset its seed so that their samples differ."""
    seed = request.seed + index if request.seed is not None else None
    return request.model_copy(update={"id": str(index), "seed": seed})


def reject_too_long(runner: ModelRunner, requests: Sequence[Request], size: int) -> None:
    """Reject requests that can never be served, before their tokens are counted.

    Args:
        runner: the model.
        requests: the requests.
        size: estimated tokens of all requests together, prompts and maximum answers.

    Raises:
        APIError: the requests exceed the capacity of the model, or far exceed its context.
    """
    context = runner.description.context
    capacity = runner.admission.max_tokens
    longest = max(runner.prompt_size(request) if request.fit else runner.size_of(request) for request in requests)
    if size > capacity or (context and longest > 8 * context):
        raise APIError(
            f"This request needs about {max(size, longest):,} tokens. {runner.name} has a capacity of {capacity:,} "
            + (f"tokens in total and a context of {context:,}." if context else "tokens in total."),
            "max_tokens",
            "context_length_exceeded",
        )


async def reserve(state: State, runner: ModelRunner, key: Key | None, requests: Sequence[Request]) -> Charge:
    """Reserve the tokens of prompts that are read once.

    Raises:
        APIError: the requests are too long, or over the rate limit or budget.
    """
    size = sum(runner.size_of(request) for request in requests)
    reject_too_long(runner, requests, size)
    await state.budgets.admit(key, len(requests) - 1)
    return await state.budgets.reserve(key, size, size, runner.estimate_cost(size), runner.name)


def busy_error(error: Busy) -> APIError:
    """Translate a full queue into an error of the API."""
    return APIError("All slots are in use.", None, "busy", 429, {"Retry-After": str(error.retry_s)})


def client_of(http: HttpRequest) -> str:
    """Return the name of a client's queue: its key or else its address."""
    key = key_of(http)
    return key.name if key else (http.client.host if http.client else "")


def _record(state: State, runner: ModelRunner, started: float, prompt_tokens: int, completion_tokens: int) -> None:
    seconds = monotonic() - started
    completion = Completion(
        id="",
        text="",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        seconds=seconds,
        finish="stop",
    )
    runner.record(started, 200, completion, None)
    state.metrics.observe(runner.name, 200, seconds, None, completion)


async def embed(
    state: State, runner: ModelRunner, key: Key | None, body: EmbeddingRequest, client: str = ""
) -> Response:
    """Compute embeddings of texts.

    Raises:
        APIError: the model doesn't support embeddings, or the request cannot be served.
    """
    engine = runner.description.engine
    if "embeddings" not in runner.description.offers:
        raise APIError(f"{engine} does not support embeddings.", "model", "unsupported_parameter")
    requests = body.requests()
    runner.check_ready()
    await runner.block_confidential(requests)
    if (runner.outside and state.guard.masks) or state.guard.masks_always:
        raise APIError(
            f"Personal data would be masked for {runner.name} first, which changes the embeddings.",
            "model",
        )
    if body.dimensions is not None and not state.settings.lenient:
        raise APIError("dimensions is not supported; embeddings have the width of the model.", "dimensions")
    if any(request.ids is not None for request in requests) and "ids" not in runner.description.offers:
        raise APIError(f"{engine} accepts text input only, not token ids.", "input")
    started = monotonic()
    compute: Callable[[list[Request]], tuple[list[list[float]], int]] = runner.model.embed  # type: ignore[attr-defined]
    charge = await reserve(state, runner, key, requests)
    size = sum(runner.size_of(request) for request in requests)
    try:
        async with runner.admission.slot(client, size):
            charge.update(0, charge.tokens)  # an upper bound until the tokens are counted
            vectors, tokens = await asyncio.to_thread(compute, requests)
            charge.update(0, tokens)
    except Busy as busy:
        raise busy_error(busy) from None
    except SizewiseError as error:
        charge.update(0, 0)
        raise APIError(error.what, "input", "context_length_exceeded") from error
    finally:
        charge.end()
    _record(state, runner, started, tokens, 0)
    return JSONResponse(schemas.embedding_body(body, vectors, tokens))


class _Continuation(NamedTuple):
    """The generated continuation of an echoed prompt."""

    text: str
    tokens: list[str]
    logprobs: list[float]
    finish: str


NO_CONTINUATION = _Continuation("", [], [], "length")


async def _continue(runner: ModelRunner, request: Request) -> _Continuation:
    """Generate a continuation of a prompt.

    Raises:
        APIError: generation failed.
    """
    text, finish = "", "length"
    tokens: list[str] = []
    logprobs: list[float] = []
    async with aclosing(runner.answer(request.model_copy(update={"logprobs": True}))) as pieces:
        async for piece in pieces:
            if piece.end is not None:
                if piece.end.error:
                    raise failure_of(piece.end)
                finish = piece.end.finish
            text += piece.text
            tokens += piece.tokens
            logprobs += piece.logprobs
    return _Continuation(text, tokens, logprobs, finish)


async def echo(
    state: State, runner: ModelRunner, key: Key | None, body: TextRequest, prompts: list[Request], client: str = ""
) -> Response:
    """Return prompts with the log-probabilities of their tokens, followed by continuations if max_tokens allows them.

    A prompt is scored once; with `n`, it is followed by as many continuations, in a choice each.

    Raises:
        APIError: the model doesn't support it, or the request cannot be served.
    """
    engine = runner.description.engine
    if "echo" not in runner.description.offers:
        raise APIError(f"{engine} does not support log-probabilities of prompts.", "echo", "unsupported_parameter")
    runner.check_ready()
    await runner.block_confidential(prompts)
    if (runner.outside and state.guard.masks) or state.guard.masks_always:
        raise APIError(
            f"Personal data is masked for {runner.name} first, so the prompt cannot be echoed.",
            "echo",
        )
    started = monotonic()
    wanted = [with_index(prompt, i) for prompt in prompts for i in range(body.n or 1)]
    charge = await reserve(state, runner, key, wanted)
    size = sum(runner.size_of(request) for request in wanted)
    try:
        async with runner.admission.slot(client, size):
            charge.update(0, charge.tokens)  # an upper bound until the tokens are counted
            scored, continuations = await _score_and_continue(runner, prompts, wanted, generate=body.max_tokens != 0)
            prompt_tokens = sum(len(prompt.tokens) for prompt in scored)
            completion_tokens = sum(len(continuation.tokens) for continuation in continuations)
            charge.update(0, prompt_tokens + completion_tokens)
    except Busy as busy:
        raise busy_error(busy) from None
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        charge.end()
    _record(state, runner, started, prompt_tokens, completion_tokens)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    choices = _echo_choices(body, [prompt for prompt in scored for _ in range(body.n or 1)], continuations)
    base = responses.base("text_completion", responses.new_id("cmpl"), runner.name)
    return JSONResponse(base | {"choices": choices, "usage": usage})


async def _score_and_continue(
    runner: ModelRunner, prompts: list[Request], wanted: list[Request], generate: bool
) -> tuple[list[ScoredPrompt], list[_Continuation]]:
    """Score prompts and optionally continue them.

    Raises:
        APIError: a prompt exceeds the context.
        ExceptionGroup: a continuation failed.
    """
    score: Callable[[list[Request]], list[ScoredPrompt]] = runner.model.score_prompts  # type: ignore[attr-defined]
    scored = await asyncio.to_thread(score, prompts)
    context = runner.description.context
    longest = max(len(prompt.tokens) for prompt in scored)
    if context and longest > context:
        raise APIError(f"The prompt has {longest} tokens; the context is {context}.", "prompt")
    if not generate:
        return scored, [NO_CONTINUATION] * len(wanted)
    async with asyncio.TaskGroup() as group:  # if one fails, the others are cancelled
        tasks = [group.create_task(_continue(runner, request)) for request in wanted]
    return scored, [task.result() for task in tasks]


def _echo_choices(
    body: TextRequest, scored: Sequence[ScoredPrompt], continuations: Sequence[_Continuation]
) -> list[dict[str, Any]]:
    choices = []
    for index, (prompt, continuation) in enumerate(zip(scored, continuations, strict=True)):
        logprobs = responses.echo_logprobs(
            prompt, continuation.tokens, continuation.logprobs, greedy=not body.temperature
        )
        choices.append(
            {
                "index": index,
                "text": "".join(prompt.tokens) + continuation.text,
                "logprobs": logprobs if body.logprobs is not None else None,
                "finish_reason": continuation.finish,
            }
        )
    return choices
