"""Request schemas of /v1/decisions, in OpenAI's form and in SGLang's.

Sources: the types of OpenAI's Python client (limits of JSON, questions and choices), its API schema (levels), and
SGLang's documentation of decision models. The limits are OpenAI's for both forms.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictStr,
    Tag,
    model_validator,
)

from sizewise.service.schemas import FIRST_ERROR, MAX_MESSAGES, RequestBody

MAX_QUESTIONS, MAX_CHOICES, MAX_LEVELS = 400, 255, 10
MAX_JSON_DEPTH, MAX_JSON_VALUES, MAX_JSON_BYTES = 32, 10_000, 256 * 1024
MAX_PARTS = 1_000
MAX_EXPLAINED = 20
MAX_IDENTIFIER = 64
"""Maximum length of a safety identifier, as in OpenAI's Responses API."""
PROMPT_FORMAT_VERSION = 1
"""Version of the wording in which language models read a question; counted by this service, not by SGLang."""
ChoiceValue = Annotated[
    Annotated[StrictStr, Tag("<text>")] | Annotated[StrictBool, Tag("<boolean>")],
    Discriminator(
        lambda value: "<boolean>" if isinstance(value, bool) else "<text>" if isinstance(value, str) else None,
        custom_error_type="unexpected",
        custom_error_message="must be a string or a boolean",
    ),
]


class _Part(BaseModel):
    """Part of a request whose misspelled fields are errors, because an ignored one would change the question."""

    model_config = ConfigDict(extra="forbid", strict=True)


def compact_json(value: Any) -> str:
    """Write JSON without blanks, as a model reads it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _not_blank(value: Any) -> Any:
    if not (value.strip() if isinstance(value, str) else value):
        raise ValueError("must not be blank")
    return value


def _within_limits(value: Any) -> Any:
    """Check the size of a JSON part."""
    level, depth, values = [value], 0, 0
    while level:
        values += len(level)
        if values > MAX_JSON_VALUES:
            raise ValueError(f"has more than {MAX_JSON_VALUES:,} values")
        containers = [one for one in level if isinstance(one, dict | list)]
        depth += bool(containers)
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"has more than {MAX_JSON_DEPTH} levels of objects and arrays")
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    size = len(compact_json(value).encode("utf-8"))
    if size > MAX_JSON_BYTES:
        raise ValueError(f"has {size:,} bytes of compact JSON; the maximum is {MAX_JSON_BYTES:,}")
    return value


def _container(value: Any) -> str | None:
    """Return the tag of text, of a list or of an object."""
    return next(
        (tag for kind, tag in ((str, "<text>"), (list, "<list>"), (dict, "<object>")) if isinstance(value, kind)), None
    )


def _one_of(tag_of: Callable[[Any], str | None], expected: str) -> Discriminator:
    """Choose the schema by a tag. Tags are in angle brackets, so that error messages can leave them out of paths."""
    return Discriminator(tag_of, custom_error_type="unexpected", custom_error_message=f"must be {expected}")


def _tag_of_part(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>"


Written = Annotated[str, AfterValidator(_not_blank)]
JSONObject = Annotated[dict[str, Any], AfterValidator(_within_limits)]
JSONText = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[Any], AfterValidator(_within_limits), Tag("<list>")]
    | Annotated[JSONObject, Tag("<object>")],
    _one_of(_container, "a string, an object or an array"),
]
"""Text, or JSON that is written out as text."""
RequiredJSONText = Annotated[JSONText, AfterValidator(_not_blank)]


class Breakpoint(_Part):
    """Where a cached prefix may end; accepted and ignored, because the service caches prefixes by itself."""

    mode: Literal["explicit"]


class InputText(_Part):
    """Text of a message or of instructions."""

    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: Breakpoint | None = None


class InputImage(_Part):
    """An image, which is refused: models of this service decide on text."""

    type: Literal["input_image"]
    image_url: str
    detail: Literal["low", "high", "auto", "original"] | None = None
    prompt_cache_breakpoint: Breakpoint | None = None


class InputJSON(_Part):
    """A JSON object or an array of objects, read as text."""

    type: Literal["input_json"]
    data: Annotated[
        Annotated[JSONObject, Tag("<object>")]
        | Annotated[list[dict[str, Any]], AfterValidator(_within_limits), Tag("<list>")],
        _one_of(_container, "an object or an array of objects"),
    ]


class OutputText(_Part):
    """Text of an assistant message."""

    type: Literal["output_text"]
    text: str


class OutputRefusal(_Part):
    """Refusal in an assistant message."""

    type: Literal["refusal"]
    refusal: str


AnyPart = Annotated[
    Annotated[InputText, Tag("<input_text>")]
    | Annotated[InputImage, Tag("<input_image>")]
    | Annotated[InputJSON, Tag("<input_json>")],
    _one_of(_tag_of_part, "a part of type input_text, input_image or input_json"),
]
OutputPart = Annotated[
    Annotated[OutputText, Tag("<output_text>")] | Annotated[OutputRefusal, Tag("<refusal>")],
    _one_of(_tag_of_part, "a part of type output_text or refusal"),
]
Part = InputText | InputImage | InputJSON | OutputText | OutputRefusal
TEXT_OR_PARTS = _one_of(_container, "a string or an array of parts")
Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[AnyPart], Field(max_length=MAX_PARTS), FIRST_ERROR, Tag("<list>")],
    TEXT_OR_PARTS,
]
Instructions = Annotated[
    Annotated[Written, Tag("<text>")]
    | Annotated[list[AnyPart], Field(min_length=1, max_length=MAX_PARTS), FIRST_ERROR, Tag("<list>")],
    TEXT_OR_PARTS,
]
SystemContent = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[InputText], Field(max_length=MAX_PARTS), FIRST_ERROR, Tag("<list>")],
    TEXT_OR_PARTS,
]
AssistantContent = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[OutputPart], Field(max_length=MAX_PARTS), FIRST_ERROR, Tag("<list>")],
    TEXT_OR_PARTS,
]


class UserMessage(_Part):
    """A message of a user."""

    type: Literal["message"] = "message"
    role: Literal["user"]
    content: Content


class InstructionMessage(_Part):
    """A system or developer message."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer"]
    content: SystemContent


class AssistantMessage(_Part):
    """A message of the assistant."""

    type: Literal["message"] = "message"
    role: Literal["assistant"]
    content: AssistantContent
    phase: Literal["commentary", "final_answer"] | None = None


class _CallItem(_Part):
    call_id: str
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class FunctionCall(_CallItem):
    """A call of a function."""

    type: Literal["function_call"]
    name: str
    arguments: str
    namespace: str | None = None


class CustomCall(_CallItem):
    """A call of a custom tool."""

    type: Literal["custom_tool_call"]
    name: str
    input: str
    namespace: str | None = None


class CallOutput(_CallItem):
    """The result of a call."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    output: Content


def _tag_of_item(value: Any) -> str | None:
    fields = value if isinstance(value, dict) else vars(value) if isinstance(value, BaseModel) else {}
    kind = fields.get("type", "message")
    return f"<{fields.get('role') if kind == 'message' else kind}>"


Item = Annotated[
    Annotated[UserMessage, Tag("<user>")]
    | Annotated[InstructionMessage, Tag("<system>")]
    | Annotated[InstructionMessage, Tag("<developer>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[FunctionCall, Tag("<function_call>")]
    | Annotated[CustomCall, Tag("<custom_tool_call>")]
    | Annotated[CallOutput, Tag("<function_call_output>")]
    | Annotated[CallOutput, Tag("<custom_tool_call_output>")],
    _one_of(_tag_of_item, "a message of user, assistant, system or developer, or a tool call or its output"),
]


class _AskedQuestion(_Part):
    instructions: Instructions
    name: str | None = None


class PredicateQuestion(_AskedQuestion):
    """How likely a statement about the input is true."""

    type: Literal["predicate"]


class Choice(_Part):
    """An option of a choice."""

    value: ChoiceValue
    """A string and a boolean with the same text are different options."""
    description: str | None = None


class ChoiceQuestion(_AskedQuestion):
    """One of several options."""

    type: Literal["choice"]
    choices: Annotated[list[Choice], Field(min_length=2, max_length=MAX_CHOICES), FIRST_ERROR]

    @model_validator(mode="after")
    def _check_choices(self) -> ChoiceQuestion:
        seen: set[tuple[bool, str | bool]] = set()
        for choice in self.choices:
            key = (isinstance(choice.value, bool), choice.value)
            if isinstance(choice.value, str):
                _not_blank(choice.value)
            if key in seen:
                raise ValueError(f"the choice {choice.value!r} appears more than once")
            seen.add(key)
        return self


class Level(_Part):
    """A level of a score."""

    label: Written
    description: str | None = None


class ScoreQuestion(_AskedQuestion):
    """One of several ordered levels."""

    type: Literal["score"]
    levels: Annotated[list[Level], Field(min_length=2, max_length=MAX_LEVELS), FIRST_ERROR]

    @model_validator(mode="after")
    def _check_levels(self) -> ScoreQuestion:
        check_distinct([level.label for level in self.levels], "level")
        return self


def check_distinct(values: Sequence[str], kind: str) -> None:
    """Check that options differ.

    Raises:
        ValueError: two are equal.
    """
    repeated = next((value for index, value in enumerate(values) if value in values[:index]), None)
    if repeated is not None:
        raise ValueError(f"the {kind} {repeated[:100]!r} appears more than once")


class CacheOptions(_Part):
    """Options of prompt caching; checked and ignored, because the service caches prefixes by itself."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] | None = None


class ExtraOptions(_Part):
    """What only this service offers; the official client sends it as `extra_body`."""

    explain: int = Field(0, ge=0, le=MAX_EXPLAINED)
    """Passages that drove each decision to list; 0 for none, which costs no time."""


AnyQuestion = Annotated[
    Annotated[PredicateQuestion, Tag("<predicate>")]
    | Annotated[ChoiceQuestion, Tag("<choice>")]
    | Annotated[ScoreQuestion, Tag("<score>")],
    _one_of(_tag_of_part, "a question of type predicate, choice or score"),
]


class DecisionRequest(RequestBody):
    """A body of /v1/decisions in OpenAI's form."""

    model: str
    input: Annotated[
        Annotated[Written, Tag("<text>")]
        | Annotated[list[Item], Field(min_length=1, max_length=MAX_MESSAGES), FIRST_ERROR, Tag("<list>")],
        _one_of(_container, "a string or an array of messages"),
    ]
    """Text, or messages with calls and results of tools; every question is about all of it."""
    questions: Annotated[list[AnyQuestion], Field(min_length=1, max_length=MAX_QUESTIONS), FIRST_ERROR]
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None
    safety_identifier: str | None = Field(None, max_length=MAX_IDENTIFIER)
    sizewise: ExtraOptions | None = None

    @model_validator(mode="after")
    def _check_calls(self) -> DecisionRequest:
        """Check that every result of a tool follows a call of the same kind and id."""
        calls: dict[str, str] = {}
        for item in () if isinstance(self.input, str) else self.input:
            if isinstance(item, FunctionCall | CustomCall):
                calls[item.call_id] = f"{item.type}_output"
            elif isinstance(item, CallOutput) and calls.get(item.call_id) != item.type:
                raise ValueError(f"the {item.type} refers to call_id {item.call_id[:100]!r}, which no earlier call has")
        return self


class NamedOption(_Part):
    """An option of SGLang's choice."""

    name: str
    description: JSONText | None = None


class _NamedQuestion(_Part):
    id: Written
    question: RequiredJSONText


class NamedChoice(_NamedQuestion):
    """A choice in SGLang's form."""

    type: Literal["choice"]
    options: Annotated[list[NamedOption], Field(min_length=2, max_length=MAX_CHOICES), FIRST_ERROR]

    @model_validator(mode="after")
    def _check_names(self) -> NamedChoice:
        keys = []
        for option in self.options:
            if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in option.name):
                raise ValueError(f"the option name {option.name[:100]!r} contains a control character or a line break")
            keys.append(_not_blank(option.name).strip().casefold())
        check_distinct(keys, "option")
        return self


class NamedScore(_NamedQuestion):
    """A score in SGLang's form; its levels are texts, and its answers are numbered from 0."""

    type: Literal["score"]
    levels: Annotated[list[RequiredJSONText], Field(min_length=2, max_length=MAX_LEVELS), FIRST_ERROR]


class NamedYesNo(_NamedQuestion):
    """A question with the answers yes and no in SGLang's form."""

    type: Literal["yes_no"]
    yes: JSONText | None = None
    no: JSONText | None = None


AnyNamedQuestion = Annotated[
    Annotated[NamedChoice, Tag("<choice>")]
    | Annotated[NamedScore, Tag("<score>")]
    | Annotated[NamedYesNo, Tag("<yes_no>")],
    _one_of(_tag_of_part, "a question of type choice, score or yes_no"),
]


class NamedDecisionRequest(RequestBody):
    """A body of /v1/decisions in SGLang's form."""

    model: str = ""
    """Name of the model; empty for `auto`, or for the first one where `auto` isn't offered."""
    input: RequiredJSONText
    questions: Annotated[list[AnyNamedQuestion], Field(min_length=1, max_length=MAX_QUESTIONS), FIRST_ERROR]
    temperature: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Divides the logarithms of the probabilities; above 1 makes them less extreme, and undoes a calibration."""
    images: list[Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    prompt_format_version: int | None = None
    return_prompt_token_ids: bool | None = None
    sizewise: ExtraOptions | None = None

    @model_validator(mode="after")
    def _check_ids(self) -> NamedDecisionRequest:
        check_distinct([question.id for question in self.questions], "question id")
        return self


def _tag_of_body(value: Any) -> str:
    """Return the form of a body by its first question: SGLang's have an id."""
    if isinstance(value, NamedDecisionRequest):
        return "<named>"
    questions = value.get("questions") if isinstance(value, dict) else None
    first = questions[0] if isinstance(questions, list) and questions else None
    named = isinstance(first, dict) and ("id" in first or "question" in first or first.get("type") == "yes_no")
    return "<named>" if named else "<openai>"


AnyDecisionRequest = Annotated[
    Annotated[DecisionRequest, Tag("<openai>")] | Annotated[NamedDecisionRequest, Tag("<named>")],
    Discriminator(_tag_of_body),
]
