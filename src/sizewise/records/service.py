"""Records of the traffic with a model: requests, completions and what a model says of itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sizewise.records.base import Record
from sizewise.records.text import Message
from sizewise.records.thoughts import split_thoughts


class Request(Record):
    """One thing asked of a model: either a conversation or a plain text to continue."""

    id: str
    """Id of the example it was made from."""
    messages: tuple[Message, ...] = ()
    """The conversation, put into the model's own chat template."""
    text: str | None = None
    """A plain text to continue; then `messages` is not used."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""
    max_tokens: int = 256
    """Longest answer, in the model's tokens. `complete` gives thoughts room of their own, `start` does not."""
    copy_text: str = ""
    """What the copying baseline answers."""
    fit: bool = False
    """Shorten `max_tokens` to what the context leaves, where the prompt itself fits."""
    ids: tuple[int, ...] | None = None
    """A prompt that is tokens already; then neither `messages` nor `text` is used."""
    temperature: float = 0.0
    """Zero: the likeliest token each time."""
    top_p: float = 1.0
    """Tokens are drawn from the likeliest ones that together have this probability."""
    seed: int | None = None
    """Seed of the drawing; None: another each time."""
    logprobs: bool = False
    """Whether the log-likelihood of each token written is wanted."""
    json_schema: str | None = None
    """A JSON schema that the answer must fit."""


class Completion(Record):
    """What a model answered."""

    id: str
    """Id of the request."""
    text: str
    """The answer."""
    prompt_tokens: int
    """Tokens read, in the model's tokens."""
    completion_tokens: int
    """Tokens written, in the model's tokens."""
    reasoning: str = ""
    """What the model thought before it answered, where it says so; never part of the answer."""
    reasoning_tokens: int = 0
    """Tokens of that, as the provider counts them; part of the completion's."""
    seconds: float
    """Seconds of the batch, divided by the answers in it; of a remote model, those of the request itself."""
    ttft_s: float | None = None
    """Seconds to the first piece of the answer, where it was streamed."""
    usd: float | None = None
    """Money by list prices, where there is a price."""
    finish: Literal["stop", "length", "error"]
    """Why it ended."""
    sources: tuple[str, ...] = ()
    """Documents that the answer cites, where it does."""
    error: str | None = None
    """What went wrong, if anything."""
    kept_from: str | None = None
    """Day (UTC) on which a remote model gave it, where it was not asked again."""
    transient: bool = False
    """Whether the same request may be answered when it is sent again: the service was busy or gone."""

    @model_validator(mode="before")
    @classmethod
    def _thoughts_apart(cls, given: Any) -> Any:
        """Keep thoughts out of the answer, whatever gave it: a file, an engine, a server, or a plug-in."""
        if not isinstance(given, dict) or not isinstance(given.get("text"), str):
            return given
        text, thoughts = split_thoughts(given["text"])
        if text == given["text"]:
            return given
        before = given.get("reasoning") or ""
        return given | {"text": text, "reasoning": f"{before}\n{thoughts}".strip()}


class ModelDescription(Record):
    """What a model is, as far as it is known. Facts that are not known are None, never zero."""

    uri: str
    """How it was opened."""
    revision: str = ""
    """Tells two states of the same URI apart (folders: a hash of sizes and times of the files)."""
    origin: str
    """Where its weights come from; shown beside its scores."""
    license: str
    """Licence of the weights."""
    engine: str
    """Software that ran it."""
    precision: str
    """Number format of the weights in memory."""
    attention: str = "unknown"
    """Full, window or mixed."""
    context: int | None = None
    """Longest input in tokens."""
    parameters: int | None = None
    """Exact number of parameters."""
    memory_bytes: int | None = None
    """Memory of weights and of one user's cache at 1,024 tokens."""
    disk_bytes: int | None = None
    """Bytes of the weight files."""
    can_score: bool = False
    """Whether it gives log-likelihoods of text."""
    can_chat: bool = False
    """Whether it has a chat template."""
    can_see: bool = False
    """Whether images may be shown to it."""
    offers: tuple[str, ...] = ()
    """What a request may ask for besides a greedy answer: ids, sampling, logprobs, json_schema, echo, embeddings."""
    cache_tokens: int | None = None
    """Tokens of all users together that it can hold at once."""
    trained_on: str | None = None
    """Dataset it was trained on here."""
    start: str | None = None
    """Model URI that training started from (None: not trained here)."""
    local: bool = True
    """Whether text stays on this machine."""
    api: bool = False
    """Whether answers come over a connection: many requests may be under way at once."""
    role: Literal["candidate", "baseline"] = "candidate"
    """A baseline stands in tables and is never picked."""


class ModelSize(Record):
    """How large a model is, computed from its config alone."""

    uri: str
    """How it is opened."""
    architecture: str
    """Name of its architecture."""
    attention: str
    """Full, window or mixed."""
    context: int | None
    """Longest input in tokens."""
    parameters: int
    """Exact number of parameters; shared ones count once."""
    active_parameters: int
    """Parameters that work on each token: fewer where only some of several experts are chosen."""
    weight_bytes: dict[str, int]
    """Number format -> memory of the weights."""
    cache_bytes: dict[int, int]
    """Tokens -> one user's cache in bf16."""
    full_cache_bytes: dict[int, int]
    """The same if no block had a window."""
    operations: int
    """Floating-point operations to write a token after 1,024 others; a multiplication and its addition are two."""
    free_bytes: int | None = None
    """Memory that was free on this machine."""
    fits: dict[str, bool] = Field(default_factory=dict)
    """Number format -> whether weights and one user's cache fit into it."""


class Source(Record):
    """Where a fact stands."""

    fact: str
    """Names of the facts, with commas."""
    url: str
    """Page or paper."""
    seen: str
    """Day on which it was looked up."""
    verified: bool
    """Whether the text itself was read; otherwise the source is only known to state it."""
    note: str = ""
    """What of it, or what kind of text it is."""


class CatalogModel(Record):
    """What is publicly known of a model that people ask about; what is not published is absent, never zero."""

    name: str
    """Its usual name."""
    maker: str
    """Who made it."""
    uri: str
    """How it is opened."""
    released: str | None = None
    """Year and month."""
    weights: Literal["open", "closed"]
    """Whether its weights can be had."""
    license: str | None = None
    """Licence or terms."""
    parameters: int | None = None
    """Published number of parameters."""
    active_parameters: int | None = None
    """Those that work on each token, where experts are chosen."""
    parameters_note: str | None = None
    """What else is said of its size; an estimate is called one."""
    architecture: str | None = None
    """In a few words."""
    attention: str | None = None
    """Full, window or mixed."""
    context: int | None = None
    """Longest input in tokens."""
    modalities: tuple[str, ...] = ()
    """What it reads."""
    hardware: str | None = None
    """What it takes to run it."""
    sources: tuple[Source, ...]
    """Where the facts stand."""
