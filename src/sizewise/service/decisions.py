"""The endpoint /v1/decisions: typed questions, answered with a probability for every option."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.requests import Request as HttpRequest

from sizewise.errors import SizewiseError
from sizewise.models.classifier import text_of
from sizewise.models.deciding import decide, doubt_about, is_calibrated
from sizewise.models.wrapper import PromptWrapper
from sizewise.records import Completion, Request
from sizewise.service.admission import Busy
from sizewise.service.agent import Agent
from sizewise.service.api_keys import Key
from sizewise.service.decision_cascade import Cascade, has_cascade
from sizewise.service.decision_explaining import explain_outcome
from sizewise.service.decision_forms import (
    Asked,
    Outcome,
    asked_questions,
    fit_question,
    input_messages,
    outcome_of,
    response_body,
)
from sizewise.service.decision_schemas import PROMPT_FORMAT_VERSION, DecisionRequest, NamedDecisionRequest
from sizewise.service.failures import failure_of
from sizewise.service.model_runner import ModelRunner
from sizewise.service.prompts import busy_error, reject_too_long, reserve
from sizewise.service.router import AUTO
from sizewise.service.schemas import APIError
from sizewise.service.state import State

TIMED_OUT = "The response timed out."
Body = DecisionRequest | NamedDecisionRequest


class Decisions:
    """The questions of one HTTP request.

    Args:
        state: state of the service.
        key: API key of the client.
        http: the HTTP request.
        body: the questions, in either form.

    Raises:
        APIError: the request asks for something that isn't supported.
    """

    def __init__(self, state: State, key: Key | None, http: HttpRequest, body: Body) -> None:
        if not state.settings.lenient:
            _reject_unsupported(body)
        self._state, self._key, self._http, self._body = state, key, http, body
        self._messages = input_messages(body)
        self._asked = asked_questions(body)
        self._completions: list[Completion] = []
        self._deadline = monotonic() + state.settings.timeout_s

    async def answer(self) -> Response:
        """Answer the questions with the model that the client named, or with `auto`."""
        state, name = self._state, self._body.model
        if isinstance(self._body, NamedDecisionRequest):
            name = name or (AUTO if has_cascade(state) else state.runners[0].name)
        signals = await state.admit([self.request()])
        if name == AUTO and has_cascade(state):
            outcomes = await Cascade(state, self._key, self.request(), self._asked, self.ask).route()
        else:
            runner = state.find(name, self._key)
            name, outcomes = runner.name, await self.ask(runner, self._asked)
        if self._body.sizewise is not None and self._body.sizewise.explain:
            outcomes = await self._explained(outcomes, self._body.sizewise.explain)
        for outcome in outcomes:
            state.metrics.count_decision(outcome.decided_by, _result_of(outcome))
        body = response_body(self._body, name, list(zip(self._asked, outcomes, strict=True)), self._completions)
        response = JSONResponse(body)
        if signals:
            response.headers["X-Sizewise-Signals"] = ", ".join(signals)
        return response

    def request(self, asked: Asked | None = None, index: int = 0) -> Request:
        """Build the request to decide one question, or without one, the input alone."""
        question = asked.question if asked else None
        return Request(id=str(index), messages=self._messages, max_tokens=0, question=question)

    async def ask(self, runner: ModelRunner, asked: Sequence[Asked]) -> list[Outcome]:
        """Answer questions with one model; a classifier reads the input once for all of them.

        Raises:
            APIError: the model can't answer a question, or failed.
        """
        if isinstance(runner, Agent):
            raise APIError(f"{runner.name} answers in words from documents, and makes no decisions.", "model")
        trained = runner.description.question
        fits = [None if trained is None else fit_question(one, trained) for one in asked]
        requests = (
            [self.request(one, index) for index, one in enumerate(asked)] if trained is None else [self.request()]
        )
        completions = await self._run(runner, requests)
        self._completions += completions
        found = completions if trained is None else completions * len(asked)
        calibrated = is_calibrated(runner.model)
        rows = zip(asked, fits, found, strict=True)
        outcomes = [outcome_of(one, fit, answer, runner.name, calibrated) for one, fit, answer in rows]
        doubt = await asyncio.to_thread(doubt_about, runner.model, text_of(self._messages)) if trained else ""
        return [_doubted(one, f"{runner.name}: {doubt}") for one in outcomes] if doubt else outcomes

    async def _explained(self, outcomes: Sequence[Outcome], passages: int) -> list[Outcome]:
        """Add what drove each decision, in the time that is left; the models read up to 46 shortened texts for each.

        Raises:
            APIError: a model runs elsewhere, where this would multiply the price, or time or capacity ran out.
        """
        client = self._key.name if self._key else (self._http.client.host if self._http.client else "")
        found = []
        for asked, outcome in zip(self._asked, outcomes, strict=True):
            if not outcome.probabilities:
                found.append(outcome)
                continue
            runner = self._state.find(outcome.decided_by, self._key, by_auto=self._body.model == AUTO)
            if runner.outside:
                raise APIError(f"{runner.name} runs elsewhere; only models on this machine are explained.", "sizewise")
            work = asyncio.create_task(explain_outcome(runner, client, self.request(asked), asked, outcome, passages))
            done, _ = await asyncio.wait({work}, timeout=max(0.0, self._deadline - monotonic()))
            if not done:
                work.add_done_callback(_retrieve)
                raise APIError(TIMED_OUT, status=504)
            try:
                found.append(replace(outcome, explanation=work.result()))
            except Busy as busy:
                raise busy_error(busy) from None
            except SizewiseError as error:
                raise APIError(error.what, "sizewise", "engine_failed", 500) from error
        return found

    async def _run(self, runner: ModelRunner, requests: Sequence[Request]) -> list[Completion]:
        """Run a model on requests within budget, capacity and time, and record the outcome.

        Raises:
            APIError: the request is not allowed, too long, over budget, or timed out; or the model failed.
        """
        started = monotonic()
        try:
            await runner.block_confidential(requests)
            runner.check_ready()
            work = asyncio.create_task(self._hold(runner, requests))
            done, _ = await asyncio.wait({work}, timeout=max(0.0, self._deadline - started))
            if not done:  # a thread can't be stopped, so the slot is held until it ends
                work.add_done_callback(_retrieve)
                raise APIError(TIMED_OUT, status=504)
            completions = await work
            failure = next((found for found in completions if found.error is not None), None)
            if failure is not None:
                raise failure_of(failure)
        except APIError as error:
            self._record(runner, started, error.status, None)
            raise
        self._record(runner, started, 200, _merged(completions))
        return completions

    async def _hold(self, runner: ModelRunner, requests: Sequence[Request]) -> list[Completion]:
        """Reserve budget and a slot, and run the model in a thread."""
        size = sum(runner.size_of(request) for request in requests)
        reject_too_long(runner, requests, size)
        charge = await reserve(self._state, runner, self._key, requests)
        client = self._key.name if self._key else (self._http.client.host if self._http.client else "")
        try:
            async with runner.admission.slot(client, size):
                charge.update(0, charge.tokens)  # an upper bound until the tokens are counted
                completions = await _complete(runner, requests)
                for completion in completions:
                    runner.learn_price(completion)
                used = _merged(completions)
                charge.update(0, used.prompt_tokens + used.completion_tokens, used.usd or 0.0)
                return completions
        except Busy as busy:
            raise busy_error(busy) from None
        except SizewiseError as error:
            charge.update(0, 0)
            raise APIError(error.what, None, "engine_failed", 500) from error
        finally:
            charge.end()

    def _record(self, runner: ModelRunner, started: float, status: int, completion: Completion | None) -> None:
        runner.record(started, status, completion, None)
        self._state.metrics.observe(runner.name, status, monotonic() - started, None, completion)


def _reject_unsupported(body: Body) -> None:
    """Reject parameters that are unknown, or that only SGLang supports.

    Raises:
        APIError: a parameter is not supported.
    """
    unknown = next(iter(body.model_extra or ()), None)
    if unknown is not None:
        raise APIError(f"Unknown parameter: {unknown[:100]!r}.", unknown[:100], "unknown_parameter")
    if not isinstance(body, NamedDecisionRequest):
        return
    for parameter in ("images", "chat_template_kwargs", "return_prompt_token_ids"):
        if getattr(body, parameter):
            raise APIError(f"{parameter} is not supported.", parameter, "unsupported_parameter")
    if body.prompt_format_version not in (None, PROMPT_FORMAT_VERSION):
        raise APIError(
            f"prompt_format_version {body.prompt_format_version} is not served; this server uses version "
            f"{PROMPT_FORMAT_VERSION}, which it counts by itself.",
            "prompt_format_version",
            "unsupported_parameter",
        )


async def _complete(runner: ModelRunner, requests: Sequence[Request]) -> list[Completion]:
    """Run a model in a thread. External models receive requests with personal data masked."""
    model = runner.model
    if isinstance(model, PromptWrapper):  # the guard must also check what the wrapper adds
        requests = [await asyncio.to_thread(model.rewritten, request) for request in requests]
        await runner.block_confidential(requests)
        model = model.innermost
    if not runner.outside and not runner.guard.masks_always:
        return await asyncio.to_thread(decide, model, requests)
    masked = [await runner.guard.mask(request, runner.name) for request in requests]
    sent = [external.masked if external else request for external, request in zip(masked, requests, strict=True)]
    answers = await asyncio.to_thread(decide, model, sent)
    return [_with_own_options(*row) for row in zip(answers, sent, requests, strict=True)]


def _with_own_options(answer: Completion, sent: Request, original: Request) -> Completion:
    """Return an answer to a masked question with the options of the original one."""
    if answer.probabilities is None or sent.question is None or original.question is None:
        return answer
    pairs = zip(sent.question.values, original.question.values, strict=True)
    probabilities = {own: answer.probabilities.get(masked, 0.0) for masked, own in pairs}
    return answer.model_copy(update={"probabilities": probabilities})


def _merged(completions: Sequence[Completion]) -> Completion:
    """Add up the tokens and costs of completions."""
    costs = [found.usd for found in completions if found.usd is not None]
    tokens = {
        field: sum(getattr(found, field) for found in completions) for field in ("prompt_tokens", "completion_tokens")
    }
    return completions[0].model_copy(update={**tokens, "usd": sum(costs) if costs else None})


def _doubted(outcome: Outcome, doubt: str) -> Outcome:
    """Mark probabilities that say nothing about the text."""
    reason = "; ".join(filter(None, (outcome.reason, doubt)))
    return replace(outcome, calibrated=False, is_unread=True, reason=reason)


def _result_of(outcome: Outcome) -> str:
    if outcome.handed_over:
        return "handed_over"
    return "decided" if outcome.decided else "refused"


def _retrieve(work: asyncio.Task[Any]) -> None:
    """Take the result of work that was given up, so that asyncio doesn't report it as lost."""
    if not work.cancelled():
        work.exception()
