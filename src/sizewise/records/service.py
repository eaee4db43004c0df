"""Records of the traffic with a model: requests, completions and what a model says of itself."""

from __future__ import annotations

from typing import Literal

from sizewise.records.base import Record
from sizewise.records.text import Message


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
    """Longest answer, in the model's tokens."""
    copy_text: str = ""
    """What the copying baseline answers."""


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
    seconds: float
    """Seconds of the batch, divided by the answers in it."""
    finish: Literal["stop", "length", "error"]
    """Why it ended."""
    error: str | None = None
    """What went wrong, if anything."""


class ModelDescription(Record):
    """What a model is, as far as it is known. Facts that are not known are None, never zero."""

    uri: str
    """How it was opened."""
    revision: str = ""
    """Tells two states of the same URI apart (folders: a hash of sizes and times of the files)."""
    origin: str
    """Where its weights come from; shown beside its scores."""
    licence: str
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
    trained_on: str | None = None
    """Dataset it was trained on here."""
    start: str | None = None
    """Model URI that training started from (None: not trained here)."""
    local: bool = True
    """Whether text stays on this machine."""
    role: Literal["candidate", "baseline"] = "candidate"
    """A baseline stands in tables and is never picked."""
