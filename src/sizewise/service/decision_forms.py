"""Conversion between the forms of /v1/decisions and our questions and probabilities."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sizewise.records import Completion, Explanation, Message, Option, Question, ToolCall
from sizewise.service.decision_schemas import (
    PROMPT_FORMAT_VERSION,
    AnyNamedQuestion,
    AnyQuestion,
    AssistantMessage,
    CallOutput,
    ChoiceQuestion,
    CustomCall,
    DecisionRequest,
    FunctionCall,
    InputImage,
    InputJSON,
    InstructionMessage,
    NamedChoice,
    NamedDecisionRequest,
    NamedScore,
    OutputRefusal,
    Part,
    ScoreQuestion,
    UserMessage,
    compact_json,
)
from sizewise.service.schemas import APIError

PEOPLE = "people"
UNFIT = ("unknown_option", "invalid_question", "ambiguous_options")
"""Codes of errors about questions that a classifier wasn't trained for."""
YES, NO = "yes", "no"
POSITIVE = frozenset({"yes", "true", "1", "positive", "pos", "y", "t"})
"""Options, in small letters, that mean that a statement is true, for classifiers that weren't trained as predicates."""
MIN_MASS = 1e-9
"""Least total probability of the options asked for; below it, they can't be compared."""


@dataclass(frozen=True)
class Asked:
    """A question of a request, and how its answer is written."""

    question: Question
    """The question as models read it."""
    field: str
    """Path of the question in the request, for errors."""
    name: str | None
    """Name or id given by the client."""
    values: tuple[str | bool, ...]
    """Value of each option as the client wrote it."""


@dataclass(frozen=True)
class Outcome:
    """What became of a question."""

    decided_by: str
    """Name of the model whose probabilities these are, or `people`."""
    probabilities: tuple[float, ...] = ()
    """Probability of each option, in the order of the request; empty if there are none."""
    calibrated: bool = False
    """Whether the probabilities were calibrated on labelled examples of this question."""
    handed_over: bool = False
    """Whether people have to decide."""
    reason: str = ""
    """Why a larger model or people decide, or what to know about the probabilities."""
    explanation: Explanation | None = None
    """What drove the decision, if the client asked for it."""
    option: str = ""
    """Option of a classifier whose probability answers a predicate; it doesn't read the statement."""
    is_unread: bool = False
    """Whether the model read nothing that it knows, so that its probabilities are those of any text."""
    total: float = 1.0
    """Probability that the model gives these options together; below 1 if it has others, and it was scaled to 1."""

    @property
    def decided(self) -> bool:
        """Whether there is an answer."""
        return bool(self.probabilities) and not self.handed_over

    @property
    def top(self) -> float:
        """The model's own probability of the most likely option, before any scaling; zero if there is none."""
        return max(self.probabilities, default=0.0) * self.total


def asked_questions(body: DecisionRequest | NamedDecisionRequest) -> list[Asked]:
    """Convert the questions of a request.

    Raises:
        APIError: the instructions contain an image.
    """
    if isinstance(body, DecisionRequest):
        return [_asked(question, f"questions.{index}") for index, question in enumerate(body.questions)]
    return [_asked_named(question, f"questions.{index}") for index, question in enumerate(body.questions)]


def _asked(question: AnyQuestion, path: str) -> Asked:
    given = question.instructions
    instructions = given if isinstance(given, str) else _parts_text(given, f"{path}.instructions")
    if isinstance(question, ChoiceQuestion):
        values: tuple[str | bool, ...] = tuple(choice.value for choice in question.choices)
        descriptions = [choice.description or "" for choice in question.choices]
        options = _options(distinct_texts(values), descriptions)
        return Asked(Question(type="choice", instructions=instructions, options=options), path, question.name, values)
    if isinstance(question, ScoreQuestion):
        labels = tuple(level.label for level in question.levels)
        options = _options(labels, [level.description or "" for level in question.levels])
        return Asked(Question(type="score", instructions=instructions, options=options), path, question.name, labels)
    options = _options((YES, NO), ("", ""))
    return Asked(
        Question(type="predicate", instructions=instructions, options=options), path, question.name, (True, False)
    )


def _asked_named(question: AnyNamedQuestion, path: str) -> Asked:
    instructions = _json_text(question.question)
    if isinstance(question, NamedChoice):
        names = tuple(option.name for option in question.options)
        options = _options(names, [_json_text(option.description) for option in question.options])
        return Asked(Question(type="choice", instructions=instructions, options=options), path, question.id, names)
    if isinstance(question, NamedScore):
        levels = tuple(_json_text(level) for level in question.levels)
        if len(set(levels)) < len(levels):
            raise APIError("Two levels of a score are equal.", f"{path}.levels", "invalid_value")
        numbers = tuple(str(number) for number in range(len(levels)))
        asked = Question(type="score", instructions=instructions, options=_options(levels, [""] * len(levels)))
        return Asked(asked, path, question.id, numbers)
    options = _options((YES, NO), (_json_text(question.yes), _json_text(question.no)))
    asked = Question(type="predicate", instructions=instructions, options=options)
    return Asked(asked, path, question.id, (YES, NO))


def _options(values: Sequence[str], descriptions: Sequence[str]) -> tuple[Option, ...]:
    pairs = zip(values, descriptions, strict=True)
    return tuple(Option(value=value, description=description) for value, description in pairs)


def distinct_texts(values: Sequence[str | bool]) -> tuple[str, ...]:
    """Write values as texts; a boolean whose text another option has already is marked as a boolean."""
    taken = {value for value in values if isinstance(value, str)}
    texts = []
    for value in values:
        text = value if isinstance(value, str) else str(value).lower()
        while not isinstance(value, str) and text in taken:
            text = f"{text} (boolean)"
        texts.append(text)
    return tuple(texts)


def _json_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else compact_json(value)


def _parts_text(parts: Sequence[Part], path: str) -> str:
    """Join the texts of parts.

    Raises:
        APIError: a part is an image.
    """
    texts = []
    for index, part in enumerate(parts):
        if isinstance(part, InputImage):
            raise APIError(
                "Decisions read text only, not images. Leave the image out, or describe it in words.",
                f"{path}.{index}",
                "unsupported_parameter",
            )
        if isinstance(part, InputJSON):
            texts.append(compact_json(part.data))
        else:
            texts.append(part.refusal if isinstance(part, OutputRefusal) else part.text)
    return "\n".join(texts)


def input_messages(body: DecisionRequest | NamedDecisionRequest) -> tuple[Message, ...]:
    """Convert the input of a request to a conversation; a text becomes one message of a user.

    Raises:
        APIError: the input contains an image, or no text at all.
    """
    if isinstance(body.input, str) or isinstance(body, NamedDecisionRequest):
        return (Message(role="user", content=_json_text(body.input)),)
    messages = tuple(_message(item, f"input.{index}") for index, item in enumerate(body.input))
    if not any(text.strip() for message in messages for text in message.texts()):
        raise APIError("The input has no text.", "input", "invalid_value")
    return messages


def _message(item: Any, path: str) -> Message:
    if isinstance(item, FunctionCall):
        call = ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)
        return Message(role="assistant", content="", tool_calls=(call,))
    if isinstance(item, CustomCall):
        call = ToolCall(id=item.call_id, name=item.name, arguments=compact_json({"input": item.input}))
        return Message(role="assistant", content="", tool_calls=(call,))
    if isinstance(item, CallOutput):
        content = item.output if isinstance(item.output, str) else _parts_text(item.output, f"{path}.output")
        return Message(role="tool", content=content, tool_call_id=item.call_id)
    assert isinstance(item, UserMessage | InstructionMessage | AssistantMessage)
    content = item.content if isinstance(item.content, str) else _parts_text(item.content, f"{path}.content")
    return Message(role="system" if item.role == "developer" else item.role, content=content)


class Fit(NamedTuple):
    """How the options of a question map to those of a classifier."""

    options: tuple[str, ...]
    """Option of the classifier for each option of the question."""
    subset: bool
    """Whether the classifier has more options, so that probabilities are scaled to sum to 1."""


def fit_question(asked: Asked, trained: Question) -> Fit:
    """Map a question to the one that a classifier was trained for.

    Raises:
        APIError: the classifier can't answer the question.
    """
    if trained.type == "multi":
        return _fit_multi(asked, trained)
    if asked.question.type == "predicate":
        return _fit_predicate(asked, trained)
    known = set(trained.values)
    pairs = list(zip(asked.values, asked.question.values, strict=True))
    found = tuple(_trained_value(value, text, known) for value, text in pairs)
    foreign = [text for text, match in zip(asked.question.values, found, strict=True) if match is None]
    if foreign:
        raise APIError(
            f"This classifier doesn't know the option {foreign[0][:100]!r}. It was trained for: {_listed(trained)}.",
            asked.field,
            "unknown_option",
        )
    options = tuple(option for option in found if option is not None)
    if len(set(options)) < len(options):
        raise APIError(
            "Two options of this question are the same option of this classifier, which tells no booleans from texts.",
            asked.field,
            "ambiguous_options",
        )
    return Fit(options, len(options) < len(known))


def _trained_value(value: str | bool, text: str, known: set[str]) -> str | None:
    """Return a classifier's option; a boolean matches true or false in any letter case.

    Accents may be characters of their own, as some clients send them, or parts of letters.
    """
    if text in known:
        return text
    composed = unicodedata.normalize("NFC", text)
    if not text.isascii():
        return next((option for option in sorted(known) if unicodedata.normalize("NFC", option) == composed), None)
    if isinstance(value, bool):
        return next((option for option in sorted(known) if option.casefold() == str(value).casefold()), None)
    return None


def _fit_predicate(asked: Asked, trained: Question) -> Fit:
    if len(trained.values) != 2:
        raise APIError(
            f"This classifier has {len(trained.values)} options, so it can't answer a predicate. "
            f"Ask a choice of: {_listed(trained)}.",
            asked.field,
            "invalid_question",
        )
    first, second = trained.values
    if trained.type == "predicate":
        return Fit((first, second), False)
    positive = [value for value in trained.values if value.casefold() in POSITIVE]
    if len(positive) != 1:
        raise APIError(
            f"Neither option of this classifier says that a statement is true. Ask a choice of: {_listed(trained)}.",
            asked.field,
            "invalid_question",
        )
    return Fit((first, second) if positive[0] == first else (second, first), False)


def _fit_multi(asked: Asked, trained: Question) -> Fit:
    """Map a predicate to one option of a classifier with independent options, by its name."""
    if asked.question.type != "predicate" or asked.name not in trained.values:
        raise APIError(
            "Several options of this classifier may be true at once. Ask a predicate for each of them, whose name is "
            f"the option: {_listed(trained)}.",
            asked.field,
            "invalid_question",
        )
    return Fit((asked.name or "",), False)


def _listed(question: Question, shown: int = 20) -> str:
    values = ", ".join(repr(value[:100]) for value in question.values[:shown])
    rest = len(question.values) - shown
    return f"{values} and {rest:,} more" if rest > 0 else values


def outcome_of(asked: Asked, fit: Fit | None, completion: Completion, model: str, calibrated: bool) -> Outcome:
    """Convert a model's answer.

    Args:
        asked: the question.
        fit: how its options map to those of a classifier; None if the model read the question itself.
        completion: the answer.
        model: name of the model.
        calibrated: whether its probabilities are calibrated for this question.
    """
    if completion.probabilities is None:
        return Outcome(model, reason=f"{model} declined, or named none of the options")
    if fit is not None and len(fit.options) == 1:  # an option of its own
        probability = completion.probabilities[fit.options[0]]
        return Outcome(model, (probability, 1 - probability), calibrated, option=fit.options[0])
    found = _probabilities(completion.probabilities, fit.options if fit else asked.question.values)
    total = math.fsum(found)
    if total < MIN_MASS:
        return Outcome(model, reason=f"{model} gives none of these options a probability")
    if fit is None or not fit.subset:
        option = fit.options[0] if fit is not None and asked.question.type == "predicate" else ""
        return Outcome(model, found, calibrated, option=option)
    reason = f"{model} gives these options a probability of {total:.3g} together; it was scaled to 1"
    return Outcome(model, tuple(value / total for value in found), False, reason=reason, total=min(1.0, total))


def _probabilities(given: Mapping[str, float], options: Sequence[str]) -> tuple[float, ...]:
    return tuple(given.get(option, 0.0) for option in options)


def concentration(probabilities: Sequence[float]) -> float:
    """Compute how concentrated a distribution is: 1 minus its entropy as a share of the maximum, from 0 to 1.

    OpenAI publishes no formula for `confidence`; this one is common among open servers of decisions.
    """
    entropy = -math.fsum(value * math.log(value) for value in probabilities if value > 0)
    return min(1.0, max(0.0, 1 - entropy / math.log(len(probabilities))))


def _extension(outcome: Outcome) -> dict[str, Any]:
    """Build the field `sizewise` of an answer; people get the probabilities that weren't certain enough."""
    extension: dict[str, Any] = {
        "decided_by": PEOPLE if outcome.handed_over else outcome.decided_by,
        "handed_over": outcome.handed_over,
        "reason": outcome.reason,
        "calibrated": outcome.calibrated,
    }
    if outcome.option:
        extension["option"] = outcome.option
    if outcome.explanation is not None:
        extension["explanation"] = outcome.explanation.model_dump(mode="json", exclude={"item", "label"})
    return extension


def openai_answer(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """Format an answer in OpenAI's form; a decision for people is a refusal, with the probabilities in `sizewise`."""
    given = outcome.probabilities
    rows: list[dict[str, Any]] = []
    if asked.question.type == "score":
        labels = zip(asked.values, given, strict=True) if given else ()
        rows = [{"label": label, "probability": p, "value": number} for number, (label, p) in enumerate(labels)]
    elif given:
        rows = [{"probability": p, "value": value} for value, p in zip(asked.values, given, strict=True)]
    extension = _extension(outcome)
    if not outcome.decided:
        if rows:
            extension["probabilities"] = rows
        return {"type": "refusal", "name": asked.name, "sizewise": extension}
    answer: dict[str, Any] = {"type": asked.question.type, "name": asked.name}
    if asked.question.type == "predicate":
        return answer | {"probability": given[0], "sizewise": extension}
    if asked.question.type == "score":
        answer["score"] = expected_level(given)
    else:
        answer["choice"] = asked.values[given.index(max(given))]
    return answer | {"confidence": concentration(given), "probabilities": rows, "sizewise": extension}


def expected_level(probabilities: Sequence[float]) -> float:
    """Compute the mean level, counted from 0."""
    return math.fsum(level * value for level, value in enumerate(probabilities))


def sglang_answer(asked: Asked, outcome: Outcome, temperature: float | None) -> dict[str, Any]:
    """Format an answer in SGLang's form; a decision for people has neither choice nor score.

    Args:
        asked: the question.
        outcome: what became of it.
        temperature: divisor of the logarithms of the probabilities; None leaves them as they are.
    """
    given = tempered(outcome.probabilities, temperature)
    answer: dict[str, Any] = {
        "type": "yes_no" if asked.question.type == "predicate" else asked.question.type,
        "probabilities": dict(zip((str(value) for value in asked.values), given, strict=False)),
        "sizewise": _extension(outcome) | ({} if temperature is None else {"calibrated": False}),
    }
    if outcome.decided and asked.question.type == "choice":
        answer["choice"] = asked.values[given.index(max(given))]
    elif outcome.decided and asked.question.type == "score":
        answer["score"] = expected_level(given)
    return answer


def tempered(probabilities: Sequence[float], temperature: float | None) -> tuple[float, ...]:
    """Divide the logarithms of probabilities by a temperature, and scale the result to sum to 1."""
    if temperature is None or not probabilities:
        return tuple(probabilities)
    largest = math.log(max(probabilities))
    powers = [math.exp((math.log(value) - largest) / temperature) if value > 0 else 0.0 for value in probabilities]
    total = math.fsum(powers)
    return tuple(power / total for power in powers)


def response_body(
    body: DecisionRequest | NamedDecisionRequest,
    model: str,
    answered: Sequence[tuple[Asked, Outcome]],
    completions: Sequence[Completion],
) -> dict[str, Any]:
    """Format a response in the form of its request."""
    prompt_tokens = sum(completion.prompt_tokens for completion in completions)
    output_tokens = sum(completion.completion_tokens for completion in completions)
    total = prompt_tokens + output_tokens
    costs = [completion.usd for completion in completions if completion.usd is not None]
    extension = {"sizewise": {"usd": math.fsum(costs)}} if costs else {}
    if isinstance(body, NamedDecisionRequest):
        answers = {asked.name: sglang_answer(asked, outcome, body.temperature) for asked, outcome in answered}
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": output_tokens, "total_tokens": total}
        fields = {"object": "decisions", "model": model, "prompt_format_version": PROMPT_FORMAT_VERSION}
        return fields | {"answers": answers, "usage": usage} | extension
    usage_details: dict[str, Any] = {
        "input_tokens": prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": sum(completion.reasoning_tokens for completion in completions)},
        "total_tokens": total,
    }
    answers_in_order = [openai_answer(asked, outcome) for asked, outcome in answered]
    return {"model": model, "answers": answers_in_order, "usage": usage_details} | extension
