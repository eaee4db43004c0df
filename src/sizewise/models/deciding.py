"""Decisions of every kind of model: probabilities of a classifier, of option likelihoods, or of an answer in words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError
from sizewise.models.base import Model, complete_all, count_tokens, failed
from sizewise.models.classifier import ClassifierModel, decided_text
from sizewise.models.token_counts import estimate_tokens
from sizewise.models.wrapper import PromptWrapper
from sizewise.records import Completion, Message, Question, Request
from sizewise.records.tool_calls import conversation_text
from sizewise.text import distinct_labels, read_label

MAX_ANSWER_TOKENS = 64
"""Room for an answer in words, beside the option itself."""
REASONING_TOKENS = 2_048
"""Room for the reasoning of remote models before an answer in words."""


@runtime_checkable
class OptionModel(Protocol):
    """A language model that decides by the likelihoods of the options, as it does in measurements."""

    def decide(self, question: Question, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Compute the probability of each option, (texts, options)."""
        ...


def decide(model: Model, requests: Sequence[Request]) -> list[Completion]:
    """Decide requests that have a question, in order.

    A model that offers decisions answers itself. A language model is asked how likely each option is. Any other model
    is asked in words: the option that it names gets probability 1, and an answer that names none has no probabilities.

    Raises:
        SizewiseError: the model failed as a whole.
    """
    description = model.describe()
    if "decisions" in description.offers:
        return _answers(model, requests)
    innermost = model.innermost if isinstance(model, PromptWrapper) else model
    if isinstance(innermost, OptionModel):
        return _decide_by_options(innermost, model, requests)
    if description.can_score:
        return [_decide_by_likelihoods(model, request) for request in requests]
    return _decide_in_words(model, requests)


def is_calibrated(model: Model) -> bool:
    """Check whether the probabilities of a model were calibrated on labeled examples of its question."""
    innermost = model.innermost if isinstance(model, PromptWrapper) else model
    return bool(getattr(innermost, "calibrated", False))


def doubt_about(model: Model, text: str) -> str:
    """Return why the probabilities of a classifier say nothing about a text; empty if they do, or for other models."""
    innermost = model.innermost if isinstance(model, PromptWrapper) else model
    return innermost.doubt(text) if isinstance(innermost, ClassifierModel) else ""


def decision_prompt(question: Question, text: str) -> str:
    """Write a question as a prompt that ends where the answer begins."""
    lines = [
        f"- {option.value}: {option.description}" if option.description else f"- {option.value}"
        for option in question.options
    ]
    asked = question.instructions or "Which option fits the text?"
    return f"Text: {text}\n\nQuestion: {asked}\nOptions:\n" + "\n".join(lines) + "\nAnswer:"


def option_probabilities(model: Model, text: str, question: Question) -> dict[str, float]:
    """Compute the probability of each option from its likelihood after the question.

    Args:
        model: a model that scores text.
        text: what is decided about.
        question: the question.

    Raises:
        SizewiseError: the model provides no log-likelihoods.
    """
    prompt = decision_prompt(question, text)
    scored = model.score([f"{prompt} {value}" for value in question.values])
    nats = np.array([one.nats[one.starts >= len(prompt)].sum() for one in scored])
    shares = np.exp(nats.min() - nats)
    shares /= shares.sum()
    return dict(zip(question.values, shares.tolist(), strict=True))


def _decide_by_options(decider: OptionModel, model: Model, requests: Sequence[Request]) -> list[Completion]:
    """Decide requests with the same question together."""
    groups: dict[Question, list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault(_question_of(request), []).append(i)
    found: dict[int, Completion] = {}
    for question, members in groups.items():
        texts = [_text_of(requests[i]) for i in members]
        begun = time.perf_counter()
        try:
            rows = decider.decide(question, texts)
        except SizewiseError as error:  # options that are longer than the context
            found.update({i: failed(requests[i], error.what) for i in members})
            continue
        seconds = (time.perf_counter() - begun) / len(members)
        counted = count_tokens(model, [decision_prompt(question, text) for text in texts])
        for i, row, tokens in zip(members, rows, counted, strict=True):
            probabilities = dict(zip(question.values, row.tolist(), strict=True))
            found[i] = _decision(requests[i], question, probabilities, tokens, seconds)
    return [found[i] for i in range(len(requests))]


def _text_of(request: Request) -> str:
    return conversation_text(request.messages) if request.messages else request.text or ""


def _decision(
    request: Request, question: Question, probabilities: dict[str, float], prompt_tokens: int, seconds: float
) -> Completion:
    return Completion(
        id=request.id,
        text=decided_text(probabilities, question),
        prompt_tokens=prompt_tokens,
        completion_tokens=0,
        seconds=seconds,
        finish="stop",
        probabilities=probabilities,
    )


def _decide_by_likelihoods(model: Model, request: Request) -> Completion:
    question, text = _question_of(request), _text_of(request)
    begun = time.perf_counter()
    probabilities = option_probabilities(model, text, question)
    counted = estimate_tokens([decision_prompt(question, text)])
    return _decision(request, question, probabilities, counted[0], time.perf_counter() - begun)


def _decide_in_words(model: Model, requests: Sequence[Request]) -> list[Completion]:
    room = REASONING_TOKENS if model.describe().api else 0
    answers = _answers(model, [_in_words(request, room) for request in requests])
    return [_named(answer, request) for answer, request in zip(answers, requests, strict=True)]


def _in_words(request: Request, room: int) -> Request:
    """Ask a question in words, with room for reasoning."""
    question = _question_of(request)
    prompt = (
        f"{decision_prompt(question, _text_of(request)).removesuffix('Answer:')}Answer with one of the options only."
    )
    longest = max(estimate_tokens(question.values))
    return Request(
        id=request.id,
        messages=(Message(role="user", content=prompt),),
        max_tokens=longest + MAX_ANSWER_TOKENS + room,
        fit=True,
    )


def _named(answer: Completion, request: Request) -> Completion:
    """Set the probability of the option that an answer names to 1; another answer gets no probabilities."""
    if answer.error is not None:
        return answer
    values = _question_of(request).values
    named = named_option(answer.text, values)
    if named is None:
        return answer
    return answer.model_copy(
        update={"text": named, "probabilities": {value: float(value == named) for value in values}}
    )


def named_option(text: str, values: Sequence[str]) -> str | None:
    """Return the option that an answer states; None if it states none, or none clearly."""
    labels = distinct_labels(values)
    index = read_label(text, labels).label if len(labels) == len(values) else -1
    return values[index] if index >= 0 else None


def _question_of(request: Request) -> Question:
    if request.question is None:
        raise ValueError("the request has no question")
    return request.question


def _answers(model: Model, requests: Sequence[Request]) -> list[Completion]:
    """Answer requests, in order. Remote models are started, because `complete` caches answers for one thread only."""
    answers = complete_all(model, requests) if model.describe().api else model.complete(requests)
    found = {answer.id: answer for answer in answers}
    return [found.get(request.id) or failed(request, "the model returned no answer") for request in requests]
