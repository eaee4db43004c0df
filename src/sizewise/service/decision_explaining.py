"""What drove a decision of /v1/decisions, on request."""

from __future__ import annotations

import asyncio

from sizewise.models.classifier import text_of
from sizewise.models.explaining import explain_decision
from sizewise.records import Explanation, Question, Request
from sizewise.service.decision_forms import Asked, Fit, Outcome, fit_question
from sizewise.service.model_runner import ModelRunner


async def explain_outcome(
    runner: ModelRunner, client: str, request: Request, asked: Asked, outcome: Outcome, passages: int
) -> Explanation:
    """Explain the most likely option of an outcome, in a slot of the model that decided.

    Args:
        runner: the model.
        client: name of the client, whose share of the slots it takes.
        request: the input and the question.
        asked: the question in the client's words.
        outcome: what became of it.
        passages: number of passages to list.

    Raises:
        Busy: no slot is free.
        SizewiseError: the model failed.
    """
    trained = runner.description.question
    fit = None if trained is None else fit_question(asked, trained)
    question = asked.question if trained is None else trained
    option = _option(asked.question, fit, outcome)
    text = text_of(request.messages)
    async with runner.admission.slot(client, runner.size_of(request)):
        return await asyncio.to_thread(
            explain_decision, runner.model, text, question=question, option=option, passages=passages
        )


def _option(question: Question, fit: Fit | None, outcome: Outcome) -> str:
    """Return the most likely of the options asked for, in the model's words."""
    options = question.values if fit is None else fit.options
    if len(options) == 1:  # an option of its own, whether it is true or not
        return options[0]
    return options[outcome.probabilities.index(max(outcome.probabilities))]
