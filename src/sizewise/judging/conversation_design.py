"""The design of a round of conversations: which models, who takes part, and the limits."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sizewise.errors import UsageError
from sizewise.judging.ballot import token_hash
from sizewise.judging.rounds import Invitation
from sizewise.records import ConversationRound, Origin, Participant, fingerprint
from sizewise.records.conversations import PERSON
from sizewise.store import Saved, Store

QUESTION = "Did you talk with a person or with a model?"
WITNESS_TASK = "Be yourself, and convince the other side that you are a person."
MAX_MINUTES, MAX_TURNS, MAX_CHARACTERS = 60.0, 100, 2_000
INSTRUCTIONS = (
    "You are in a chat with a stranger who wants to find out whether you are a person or a computer program. Take part "
    "as a person would: you are at home, you type on a phone, and you answer in one or two short, casual sentences of "
    "at most {characters} characters. Never write lists or headings, and don't offer help like an assistant."
)


class ConversationDesign(NamedTuple):
    """Design of a round of conversations."""

    models: Sequence[str]
    """URIs of the models."""
    interrogators: Sequence[str] = ("interrogator 1",)
    """Names of those who decide."""
    witnesses: Sequence[str] = ("witness 1",)
    """Names of the people whom they talk with."""
    conversations: int = 4
    """Conversations of each interrogator; half of them with people."""
    minutes: float = 5.0
    """Longest conversation in minutes."""
    max_turns: int = 20
    """Most messages of each side."""
    max_characters: int = 300
    """Longest message."""
    topic: str = ""
    """What both sides are asked to talk about."""
    instructions: str = ""
    """System message of the models; by default INSTRUCTIONS."""
    temperature: float = 0.7
    """Sampling temperature of the models."""
    origin: Origin = "person"
    """Origin of the interrogators; `simulated` marks verdicts that count for nothing."""
    days: int = 30
    """Validity of the links in days."""

    def check(self) -> None:
        """Check that the numbers fit together.

        Raises:
            UsageError: they don't.
        """
        if not self.models or len(set(self.models)) < len(self.models):
            raise UsageError("The models must be different.", "one model or more", "sizewise judge converse MODEL")
        names = [*self.interrogators, *self.witnesses]
        if not self.interrogators or not self.witnesses or len(set(names)) < len(names):
            raise UsageError(
                f"Interrogators: {', '.join(self.interrogators) or 'none given'}; witnesses: "
                f"{', '.join(self.witnesses) or 'none given'}.",
                "at least one of each, with different names: without people, models have nothing to be compared with",
                "--interrogators Ada,Ben --witnesses Cleo,Dan",
            )
        if self.conversations < 2:
            raise UsageError(
                "One conversation per interrogator can't be half with people.", "at least two", "--conversations 2"
            )
        limits = (
            ("--minutes", self.minutes, 0.05, MAX_MINUTES),
            ("--max-turns", self.max_turns, 1, MAX_TURNS),
            ("--max-characters", self.max_characters, 20, MAX_CHARACTERS),
            ("--temperature", self.temperature, 0, 2),
        )
        for name, value, least, most in limits:
            if not least <= value <= most:
                raise UsageError(f"{name} {value:g} isn't possible.", f"{least:g} to {most:g}", f"{name} {most:g}")


class OpenedConversations(NamedTuple):
    """A new round and its invitations."""

    stored: Saved[ConversationRound]
    interrogators: tuple[Invitation, ...]
    witnesses: tuple[Invitation, ...]


def open_conversations(design: ConversationDesign, *, store: Store | None = None, seed: int = 0) -> OpenedConversations:
    """Create a round of conversations.

    Half of each interrogator's conversations are with people, the others with the models in equal shares over all
    interrogators, in random order.

    Args:
        design: models, people and limits.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the draw, the delays and the answers.

    Raises:
        UsageError: the design is inconsistent.
    """
    design.check()
    store, rng = store or Store(), random.Random(seed)
    invited = [
        tuple(Invitation(name, secrets.token_urlsafe(18)) for name in names)
        for names in (design.interrogators, design.witnesses)
    ]
    partners = iter(_draw_partners(design, rng))
    record = ConversationRound(
        question=QUESTION,
        models=tuple(design.models),
        interrogators=tuple(
            _participant(one, design.origin).model_copy(update={"partners": next(partners)}) for one in invited[0]
        ),
        witnesses=tuple(_participant(one, design.origin) for one in invited[1]),
        minutes=design.minutes,
        max_turns=design.max_turns,
        max_characters=design.max_characters,
        topic=design.topic,
        instructions=design.instructions or INSTRUCTIONS.format(characters=design.max_characters),
        temperature=design.temperature,
        seed=seed,
        expires=(datetime.now(UTC) + timedelta(days=design.days)).isoformat(timespec="seconds"),
    )
    stored = store.write(f"conversations-{fingerprint([record.model_dump(mode='json')])}", record)
    return OpenedConversations(stored, *invited)


def _participant(invitation: Invitation, origin: Origin) -> Participant:
    return Participant(name=invitation.rater, token_sha256=token_hash(invitation.token), origin=origin)


def _draw_partners(design: ConversationDesign, rng: random.Random) -> Iterator[tuple[str, ...]]:
    """Draw the partners of each interrogator; an odd conversation goes to a person and to a model by turns."""
    models = list(design.models)
    rng.shuffle(models)
    turn = 0
    for number in range(len(design.interrogators)):
        people = (design.conversations + number % 2) // 2
        drawn = [PERSON] * people
        for _ in range(design.conversations - people):
            drawn.append(models[turn % len(models)])
            turn += 1
        rng.shuffle(drawn)
        yield tuple(drawn)
