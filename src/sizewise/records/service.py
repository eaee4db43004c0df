"""Records of requests to a model, its completions, and model descriptions."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from sizewise.records.base import Record
from sizewise.records.questions import Question
from sizewise.records.text import Message
from sizewise.records.thoughts import split_thoughts

_SURROGATE = re.compile("[\ud800-\udfff]")


class Request(Record):
    """A request to a model: a conversation, or a plain text to continue."""

    id: str
    """Id of the example behind the request."""
    messages: tuple[Message, ...] = ()
    """Conversation, rendered with the model's own chat template."""
    text: str | None = None
    """Plain text to continue. If set, `messages` is ignored."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""
    max_tokens: int = 256
    """Maximum answer length in the model's tokens. `complete` adds tokens for reasoning, `start` doesn't."""
    copy_text: str = ""
    """Answer of the copying baseline."""
    fit: bool = False
    """Lower `max_tokens` to the space left in the context, if the prompt itself fits."""
    ids: tuple[int, ...] | None = None
    """Prompt as token ids. If set, `messages` and `text` are ignored."""
    temperature: float = 0.0
    """Sampling temperature; zero is greedy."""
    top_p: float = 1.0
    """Sample from the most likely tokens whose probabilities add up to this value."""
    seed: int | None = None
    """Sampling seed; None uses a new one each time."""
    logprobs: bool = False
    """Whether to return the log-likelihood of each generated token."""
    json_schema: str | None = None
    """JSON schema that the answer must match."""
    tools: str = ""
    """Definitions of the tools that the model may call, as a JSON list; for models that offer tools."""
    question: Question | None = None
    """A question with options to decide; the answer has their probabilities. For models that offer decisions."""
    date: str = ""
    """Today for a chat template that states a date (ISO); empty for the pinned date of training and evaluation."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        return {key: value for key, value in found.items() if value or key not in ("tools", "question", "date")}

    def texts(self) -> list[str]:
        """Return all texts that reach the model: contents, tool calls, definitions of tools, plain text, a question."""
        written = [text for message in self.messages for text in message.texts()]
        return [*written, *filter(None, (self.text, self.tools)), *(self.question.texts() if self.question else ())]

    def map_texts(self, change: Callable[[str], str]) -> Request:
        """Return the request with all its texts changed, for example with personal data masked."""
        update = {
            "messages": tuple(message.map_texts(change) for message in self.messages),
            "text": None if self.text is None else change(self.text),
            "tools": change(self.tools) if self.tools else "",
            "question": self.question.map_texts(change) if self.question else None,
        }
        return self.model_copy(update=update)


class Completion(Record):
    """A model's answer to a request."""

    id: str
    """Id of the request."""
    text: str
    """The answer."""
    prompt_tokens: int
    """Prompt tokens, as the model counts them."""
    completion_tokens: int
    """Generated tokens, as the model counts them."""
    reasoning: str = ""
    """Reasoning before the answer, if the model returns it; never part of the answer."""
    reasoning_tokens: int = 0
    """Tokens of the reasoning, included in `completion_tokens`: as the provider reports them, counted for local models,
    and otherwise estimated."""
    seconds: float
    """Latency of the request for remote models; duration of the batch divided by its answers for local ones."""
    ttft_s: float | None = None
    """Time to first token in seconds, for streamed answers."""
    usd: float | None = None
    """Cost in US dollars at list prices, if a price is known."""
    finish: Literal["stop", "length", "error"]
    """Why the answer ended."""
    sources: tuple[str, ...] = ()
    """Documents that the answer cites."""
    error: str | None = None
    """Error message if the request failed."""
    kept_from: str | None = None
    """Date (UTC) of the original answer, if a kept answer of a remote model was reused."""
    transient: bool = False
    """Whether a retry may succeed, because the service was busy or unreachable."""
    probabilities: dict[str, float] | None = None
    """Option -> probability, where the answer is a decision; they sum to 1 unless several options may be true."""
    served_model: str = ""
    """Name of the model in the response of a service; it may differ from the one that was asked for."""
    fingerprint: str = ""
    """Fingerprint of the backend in the response of a service."""
    grade: float | None = None
    """Grade that people gave to a recorded answer, on the scale of its file."""
    confidence: float | None = None
    """Geometric mean of the probabilities of the generated tokens, if the model or the recording states it."""
    passages: tuple[str, ...] = ()
    """Passages that the model was given beside the prompt, in the order in which it may cite them."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        optional = {
            "probabilities": None,
            "served_model": "",
            "fingerprint": "",
            "grade": None,
            "passages": (),
            "confidence": None,
        }
        return {key: value for key, value in found.items() if key not in optional or value != optional[key]}

    @field_validator("text", "reasoning", "error")
    @classmethod
    def _storable(cls, given: str | None) -> str | None:
        """Replace halves of surrogate pairs, which a service can send in JSON but no file in UTF-8 can hold."""
        return _SURROGATE.sub("\ufffd", given) if given else given

    @model_validator(mode="before")
    @classmethod
    def _thoughts_apart(cls, given: Any) -> Any:
        """Move reasoning out of the answer's text, for every source: files, engines, servers and plug-ins."""
        if not isinstance(given, dict) or not isinstance(given.get("text"), str):
            return given
        text, thoughts = split_thoughts(given["text"])
        if text == given["text"]:
            return given
        before = given.get("reasoning") or ""
        return given | {"text": text, "reasoning": f"{before}\n{thoughts}".strip()}


class ListPrice(Record):
    """What a provider charges for a model."""

    provider: str
    """Provider, as genai-prices names it."""
    model: str
    """Name of the model in the price list."""
    input_usd: float
    """US dollars per million input tokens."""
    output_usd: float
    """US dollars per million output tokens."""
    as_of: str
    """Day up to which the price list was checked (ISO date); empty if unknown."""


class ListCost(Record):
    """What a model would charge for the requests of a study at its list price; its quality wasn't measured."""

    model: str
    """Name of the model."""
    provider: str
    """Who charges it, as genai-prices names the provider."""
    usd_per_1000: float
    """US dollars for 1,000 requests with the measured numbers of tokens."""
    as_of: str = ""
    """Day up to which the price list was checked (ISO date); empty if unknown."""
    retires_on: str = ""
    """Day on which the provider shuts the model down (ISO date), if that was announced."""


class ModelDescription(Record):
    """Description of a model. Unknown facts are None, never zero."""

    uri: str
    """URI that the model was opened with."""
    revision: str = ""
    """Distinguishes two states of the same URI: the commit on the Hub; for folders, a hash of file sizes and times."""
    origin: str
    """Where the weights come from; shown next to scores."""
    license: str
    """License of the weights."""
    engine: str
    """Software that runs the model."""
    precision: str
    """Number format of the weights in memory."""
    attention: str = "unknown"
    """Attention: full, sliding window or mixed."""
    context: int | None = None
    """Context length in tokens."""
    parameters: int | None = None
    """Exact number of parameters."""
    memory_bytes: int | None = None
    """Memory of the weights and one user's key-value cache at 1,024 tokens."""
    disk_bytes: int | None = None
    """Size of the weight files in bytes."""
    can_score: bool = False
    """Whether the model provides log-likelihoods of text."""
    can_chat: bool = False
    """Whether the model has a chat template."""
    template: str = ""
    """Hash of the chat template; empty if there is none, or a service renders it."""
    template_date: str = ""
    """Date that the chat template states in evaluations, pinned so that prompts don't change overnight; empty if it
    states none."""
    can_see: bool = False
    """Whether the model accepts images."""
    offers: tuple[str, ...] = ()
    """Supported features besides greedy answers: ids, sampling, logprobs, json_schema, echo, embeddings, tools for
    requests with `tools`, tool calls and results (other models get these as text), and decisions for requests with a
    `question`."""
    question: Question | None = None
    """The question that a classifier was trained for; it answers no other."""
    cache_tokens: int | None = None
    """Capacity of the key-value cache in tokens, over all users."""
    trained_on: str | None = None
    """Dataset id, if the model was trained here."""
    start: str | None = None
    """Model URI that training started from; None if the model wasn't trained here."""
    local: bool = True
    """Whether text stays on this machine."""
    api: bool = False
    """Whether answers come from an API, so that many requests may run concurrently."""
    role: Literal["candidate", "baseline"] = "candidate"
    """Baselines are shown in tables but never recommended."""
    of: str = ""
    """Model behind recorded or served answers, as the catalog or the study file names it; empty if not stated."""
    process: Literal["", "staff", "rules"] = ""
    """Whether the answers come from today's process without a language model: people, or a rules engine."""
    hosted_by: str = ""
    """Who runs the model: a provider, `not stated`, `this machine` if the user says so, or empty if it runs here."""
    parameters_source: str = ""
    """Where the number of parameters comes from, unless it was counted; or why there is none."""
    parameters_estimate: int | None = None
    """Estimated number of parameters where none is published. It never makes a model the smallest or the largest."""
    data_policy: str = ""
    """What happens to the text that is sent, as stated by the user; empty if not stated."""
    retires_on: str = ""
    """Day on which the provider shuts the model down, if it has announced one (ISO date)."""
    prices: tuple[ListPrice, ...] = ()
    """List prices of the model, one for each provider that sells it."""
    price_basis: str = ""
    """How the cost of its answers is known; empty if it isn't."""
    price_factors: tuple[float, float] = (1.0, 1.0)
    """By how much that cost may be lower or higher, because tokens were estimated or providers differ."""
    described_on: str = ""
    """Day on which prices and retirement were looked up (ISO date); empty if the model has neither."""
    notes: tuple[str, ...] = ()
    """How the model runs where it can't run like others, for example one text at a time."""
    reasoning_effort: str = ""
    """How much the model is asked to reason: none, minimal, low, medium, high, xhigh or max; empty if that is left to
    it."""
    reasoning_tokens: int | None = None
    """Most tokens of reasoning before an answer, as the URI sets them; None if it doesn't."""

    @property
    def retired(self) -> bool:
        """Whether the provider had shut the model down when it was described."""
        return bool(self.retires_on and self.described_on) and self.retires_on <= self.described_on

    @property
    def unnamed(self) -> bool:
        """Whether these are recorded answers without a name of who gave them."""
        return self.engine == "recorded" and not self.of and not self.process and self.hosted_by == "not stated"

    @property
    def hosted(self) -> bool:
        """Whether somebody else is known to run the model."""
        return not self.local and self.hosted_by not in ("", "not stated")

    @property
    def price_age_days(self) -> int | None:
        """Age of the list price when the model was described, in days; None if it has none, or no date."""
        days = [price.as_of for price in self.prices if price.as_of]
        if not days or not self.described_on:
            return None
        return (date.fromisoformat(self.described_on) - date.fromisoformat(min(days))).days


class ModelSize(Record):
    """Size of a model, computed from its config."""

    uri: str
    """URI of the model."""
    architecture: str
    """Name of the architecture."""
    attention: str
    """Attention: full, sliding window or mixed."""
    context: int | None
    """Context length in tokens."""
    parameters: int
    """Exact number of parameters; shared ones count once."""
    active_parameters: int
    """Parameters used for each token; fewer than all in a mixture of experts."""
    weight_bytes: dict[str, int]
    """Number format -> memory of the weights in bytes."""
    cache_bytes: dict[int, int]
    """Tokens -> one user's key-value cache in bf16, in bytes."""
    full_cache_bytes: dict[int, int]
    """The same with full attention in every block."""
    operations: int
    """Floating-point operations to generate a token after 1,024 others; a multiply-add counts as two."""
    free_bytes: int | None = None
    """Free memory of this machine in bytes."""
    fits: dict[str, bool] = Field(default_factory=dict)
    """Number format -> whether the weights and one user's cache fit into the free memory."""


class Source(Record):
    """Source of published facts."""

    fact: str
    """Names of the facts, separated by commas."""
    url: str
    """Page or paper."""
    seen: str
    """Date of access."""
    verified: bool
    """Whether the source itself was read; otherwise it is cited secondhand."""
    note: str = ""
    """Passage or kind of source."""


class CatalogModel(Record):
    """Published facts about a well-known model. Unpublished facts are absent, never zero."""

    name: str
    """Common name."""
    maker: str
    """Developer of the model."""
    uri: str
    """URI of the model."""
    released: str | None = None
    """Release date, year and month."""
    weights: Literal["open", "closed"]
    """Whether the weights are available for download."""
    license: str | None = None
    """License or terms of use."""
    parameters: int | None = None
    """Published number of parameters."""
    active_parameters: int | None = None
    """Parameters used for each token, for mixtures of experts."""
    parameters_estimate: int | None = None
    """Estimated number of parameters where none is published; `parameters_note` says whose estimate it is."""
    parameters_note: str | None = None
    """Further statements about the size; estimates are marked as such."""
    architecture: str | None = None
    """Architecture in a few words."""
    attention: str | None = None
    """Attention: full, sliding window or mixed."""
    context: int | None = None
    """Context length in tokens."""
    modalities: tuple[str, ...] = ()
    """Types of input."""
    expertise: str | None = None
    """What its maker says it is for, and its languages."""
    training_data: str | None = None
    """Data that it was trained on."""
    knowledge_cutoff: str | None = None
    """End of its training data, as its maker states it."""
    bias: str | None = None
    """Published statements about its bias and fairness."""
    hardware: str | None = None
    """Hardware required to run the model."""
    retires_on: str | None = None
    """Day on which the maker shuts the model down, if it has announced one."""
    aliases: tuple[str, ...] = ()
    """Other names of the same model, such as earlier ones."""
    sources: tuple[Source, ...]
    """Sources of the facts."""
