"""Records of the imitation test as a conversation: who talks with whom, what was said, and what was found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.judging import Origin
from sizewise.records.scores import Difference, Score

PERSON = "person"
"""Partner of a conversation that isn't a model."""
CONFIDENCES = (50, 60, 70, 80, 90, 100)
"""How sure an interrogator is, in percent; 50 is a guess."""
Author = Literal["interrogator", "witness"]
EndReason = Literal["time", "turns", "decided", "left", "failed", "silent"]
"""Why a conversation ended: its time or its turns were over, the interrogator decided, or it doesn't count, because the
witness left, the model failed, or the witness wrote nothing."""


class Participant(Record):
    """Person with a link: an interrogator or a witness."""

    name: str
    """Name in tables; it never leaves the server."""
    token_sha256: str
    """Hash of the token in the link; the token itself is printed once and never stored."""
    origin: Origin
    """Person, or simulated."""
    partners: tuple[str, ...] = ()
    """For an interrogator, the drawn partners in order: `person`, or the URI of a model."""


class ConversationRound(Record):
    """Round of conversations; messages and verdicts are in the ledger next to the record."""

    question: str
    """Question to the interrogators."""
    models: tuple[str, ...]
    """URIs of the models."""
    interrogators: tuple[Participant, ...]
    """Those who decide whether they talked with a person or a model."""
    witnesses: tuple[Participant, ...]
    """People whom the interrogators talk with."""
    minutes: float
    """Longest conversation in minutes."""
    max_turns: int
    """Most messages of each side."""
    max_characters: int
    """Longest message."""
    topic: str = ""
    """What both sides were asked to talk about."""
    instructions: str
    """System message of the models; witnesses read it too."""
    temperature: float
    """Sampling temperature of the models."""
    seed: int
    """Seed of the draw, the delays and the answers."""
    expires: str
    """Expiry of the links, UTC."""


class Conversation(Record):
    """Start of a conversation."""

    id: str
    """Id within its round."""
    interrogator: str
    """Name of the interrogator."""
    partner: str
    """`person`, or the URI of a model."""
    witness: str = ""
    """Name of the person, if it is one."""
    started: float
    """Unix time in seconds."""


class ChatMessage(Record):
    """Message of a conversation."""

    conversation: str
    """Id of the conversation."""
    number: int
    """Place in the conversation, from 0."""
    author: Author
    """Who wrote it."""
    text: str
    """Text as the other side sees it."""
    at: float
    """Unix time in seconds at which it was written."""
    shown_at: float
    """Unix time in seconds from which it is visible; later than `at` for a model, which takes time to type."""


class ConversationEnd(Record):
    """End of a conversation before or at its limits."""

    conversation: str
    """Id of the conversation."""
    reason: EndReason
    """Why it ended."""
    detail: str = ""
    """Error of the model, if it failed."""
    at: float
    """Unix time in seconds."""


class ConversationVerdict(Record):
    """What an interrogator thought of a partner."""

    conversation: str
    """Id of the conversation."""
    choice: Literal["person", "model"]
    """Person or model."""
    confidence: int = Field(ge=50, le=100)
    """How sure, in percent; 50 is a guess."""
    reason: str = Field(default="", max_length=4_000)
    """Why, in the interrogator's words."""
    at: float
    """Unix time in seconds."""


class ConversationReport(Record):
    """State of a round of conversations."""

    round: str
    """Id of the round."""
    counted: int
    """Conversations with a verdict."""
    planned: int
    """Conversations that were planned."""
    void: dict[str, int] = Field(default_factory=dict)
    """Reason -> conversations that don't count; they were drawn again."""
    void_by_model: dict[str, int] = Field(default_factory=dict)
    """Model -> conversations that don't count because it failed or wrote nothing."""
    unjudged: int = 0
    """Conversations that ended without a verdict."""
    origins: dict[str, int]
    """Origin of the interrogators -> number of verdicts."""
    closed: bool
    """Whether the round takes no more verdicts."""
    taken_for_a_person: dict[str, Score]
    """Model, or `person` -> share of its conversations in which it was taken for a person."""
    differences: tuple[Difference, ...] = ()
    """Each model's share minus that of people, tested and corrected for the number of models."""
    detection_accuracy: Score
    """Mean of the shares of people and of models that were recognized; 0.5 is guessing."""
    confidence: dict[str, Score] = Field(default_factory=dict)
    """`right` and `wrong` -> mean confidence of such verdicts, in percent."""
    messages: dict[str, float] = Field(default_factory=dict)
    """Model, or `person` -> mean number of its messages per conversation."""
    reasons: tuple[tuple[str, str, str, str], ...] = ()
    """(conversation, partner, choice, reason)."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""
