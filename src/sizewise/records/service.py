"""Records of requests to a model, its completions, and model descriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sizewise.records.base import Record
from sizewise.records.text import Message
from sizewise.records.thoughts import split_thoughts


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

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        return found if self.tools else {key: value for key, value in found.items() if key != "tools"}

    def texts(self) -> list[str]:
        """Return all texts that reach the model: contents, tool calls, definitions of tools, and plain text."""
        written = [text for message in self.messages for text in message.texts()]
        return [*written, *filter(None, (self.text, self.tools))]

    def map_texts(self, change: Callable[[str], str]) -> Request:
        """Return the request with all its texts changed, for example with personal data masked."""
        update = {
            "messages": tuple(message.map_texts(change) for message in self.messages),
            "text": None if self.text is None else change(self.text),
            "tools": change(self.tools) if self.tools else "",
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
    """Reasoning tokens reported by the provider, included in `completion_tokens`."""
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


class ModelDescription(Record):
    """Description of a model. Unknown facts are None, never zero."""

    uri: str
    """URI that the model was opened with."""
    revision: str = ""
    """Distinguishes two states of the same URI (for folders, a hash of file sizes and times)."""
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
    can_see: bool = False
    """Whether the model accepts images."""
    offers: tuple[str, ...] = ()
    """Supported features besides greedy answers: ids, sampling, logprobs, json_schema, echo, embeddings, and tools for
    requests with `tools`, tool calls and results (other models get these as text)."""
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
    hardware: str | None = None
    """Hardware required to run the model."""
    sources: tuple[Source, ...]
    """Sources of the facts."""
