"""Decisions of OpenAI's Decisions API: typed questions, answered with probabilities instead of text."""

from __future__ import annotations

import time
from typing import Any

from sizewise.models.spending import cost_of
from sizewise.records import Completion, Option, Question, Request
from sizewise.records.tool_calls import conversation_text

DECISION_MODELS = ("gpt-6-luna",)
"""Beginnings of the names of models that OpenAI offers for decisions."""
MAX_ROUNDING = 0.05
"""Most that the probabilities of one question may miss 1 by."""
ANSWER = "answer"
"""Name of the question, or with the number of an option, of one question for each."""
_PLAIN = ("yes", "no", "true", "false", "1", "0")
"""Options of a predicate that mean nothing beside what is asked."""


def makes_decisions(kind: str, name: str) -> bool:
    """Check whether a provider's model has an API for decisions."""
    return kind == "openai" and name.startswith(DECISION_MODELS)


async def send_decision(client: Any, name: str, request: Request, timeout_s: float) -> Completion:
    """Ask the Decisions API one question.

    Args:
        client: an AsyncOpenAI.
        name: name of the model.
        request: a request with a question.
        timeout_s: maximum duration.

    Raises:
        ModelAPIError: the request failed.
        UnexpectedModelBehavior: the answer can't be read.
    """
    from pydantic_ai.exceptions import ContentFilterError
    from pydantic_ai.models.decision import DecisionRequest, DecisionResponse
    from pydantic_ai.models.openai_decisions import OpenAIDecisionsModel
    from pydantic_ai.providers.openai import OpenAIProvider

    question = request.question
    assert question is not None
    text = conversation_text(request.messages) if request.messages else request.text or ""
    model = OpenAIDecisionsModel(name, provider=OpenAIProvider(openai_client=client))
    begun = time.perf_counter()
    response: DecisionResponse | None
    try:
        asked = DecisionRequest(state=text, questions=_client_questions(question))
        response = await model.decide(asked, {"timeout": timeout_s})
        probabilities = _probabilities(question, response.answers)
    except ContentFilterError:
        response, probabilities = None, None  # the model declined to answer
    usage = response.usage if response else None
    return Completion(
        id=request.id,
        text=max(probabilities, key=lambda value: probabilities[value]) if probabilities else "",
        prompt_tokens=usage.input_tokens if usage else 0,
        completion_tokens=usage.output_tokens if usage else 0,
        seconds=time.perf_counter() - begun,
        usd=cost_of("openai", name, usage) if usage else None,
        finish="stop",
        probabilities=probabilities,
    )


def _client_questions(question: Question) -> dict[str, Any]:
    """Convert a question; options that may be true at once become one question each."""
    from pydantic_ai.models.decision import ChoiceQuestion, NoulCriteria, NoulQuestion, ScoreQuestion

    if question.type == "multi":
        described = [f"{one.value} ({one.description})" if one.description else one.value for one in question.options]
        return {
            f"{ANSWER} {number}": NoulQuestion(
                instructions=f"{question.instructions} Does this apply: {option}?".strip()
            )
            for number, option in enumerate(described)
        }
    instructions = question.instructions or "Which option fits the text?"
    if question.type == "predicate":
        true, false = map(_criterion, question.options)
        return {ANSWER: NoulQuestion(instructions=instructions, criteria=NoulCriteria(true=true, false=false))}
    if question.type == "score":
        levels = [": ".join(filter(None, (one.value, one.description))) for one in question.options]
        return {ANSWER: ScoreQuestion(instructions=instructions, criteria=list(levels))}
    options = {one.value: one.description or None for one in question.options}
    return {ANSWER: ChoiceQuestion(instructions=instructions, criteria=dict(options))}


def _criterion(option: Option) -> str | None:
    """Return the meaning of a predicate's option; the API sees only criteria, so a name such as spam is part of it."""
    if option.value.casefold() in _PLAIN:
        return option.description or None
    return ": ".join(filter(None, (option.value, option.description)))


def _probabilities(question: Question, answers: dict[str, Any]) -> dict[str, float]:
    """Read the probability of each option; the API rounds, so those of one question are scaled to sum to 1.

    Raises:
        UnexpectedModelBehavior: they are further from 1 than by rounding, because options are missing or unknown.
    """
    if question.type == "multi":
        return {value: answers[f"{ANSWER} {number}"].noul for number, value in enumerate(question.values)}
    answer = answers[ANSWER]
    if question.type == "predicate":
        found = [answer.noul, 1 - answer.noul]
    elif question.type == "score":
        found = [answer.probabilities.get(number, 0.0) for number in range(len(question.values))]
    else:
        found = [answer.probabilities.get(value, 0.0) for value in question.values]
    total = sum(found)
    if not (abs(total - 1) <= MAX_ROUNDING and min(found) >= 0):  # `not <=` also refuses NaN
        from pydantic_ai.exceptions import UnexpectedModelBehavior

        raise UnexpectedModelBehavior(f"the probabilities of the {len(found)} options sum to {total:.3g} instead of 1")
    return {value: share / total for value, share in zip(question.values, found, strict=True)}
