"""The imitation test as a conversation: the conversations of a round as they happen.

An interrogator talks with a witness, who is a person or a model, drawn at random and balanced (Turing, 1950, Computing
machinery and intelligence). Both sides take turns, and both messages are limited in length. A conversation only starts
while a person is free to be a witness, whoever is drawn, so that the wait says nothing about the partner.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

from sizewise.errors import SizewiseError
from sizewise.judging.answered import has_text, shown
from sizewise.judging.ballot import STATE, token_hash
from sizewise.judging.typing_delay import typing_delay
from sizewise.records import (
    ChatMessage,
    Completion,
    Conversation,
    ConversationEnd,
    ConversationRound,
    ConversationVerdict,
    Message,
    Participant,
    Request,
)
from sizewise.records.conversations import PERSON, Author, EndReason
from sizewise.store import Store

STARTS, MESSAGES, ENDS, VERDICTS = "conversations", "messages", "ends", "verdicts"
VOID: tuple[EndReason, ...] = ("left", "failed", "silent")
CONNECT_SHARE = (0.01, 0.027)  # of its time, waited before every conversation, whoever is drawn; 3 to 8 of 300 s
PRESENT_S = 75.0  # browsers call hidden pages once a minute only
RETURN_S = 15.0  # in which a page that was closed may come back: a reload
MAX_VOID = 2  # times as many conversations may be started as planned, if some don't count
TOKENS_PER_CHARACTER = 0.5

Phase = Literal["ready", "waiting", "chat", "verdict", "lost", "done"]


class Conversations:
    """The conversations of one round; every change is on disk before it is seen. Methods may run in any thread.

    Args:
        store: where records live.
        round_id: id of the round.
        clock: Unix time in seconds.
    """

    def __init__(self, store: Store, round_id: str, clock: Callable[[], float] = time.time) -> None:
        self.id, self._clock = round_id, clock
        self.round = store.read(ConversationRound, round_id)
        self._ledger = store.ledger("conversations", round_id, any_thread=True)
        self._lock = threading.RLock()
        self._by_token = {one.token_sha256: one for one in (*self.round.interrogators, *self.round.witnesses)}
        self._interrogators = {one.name for one in self.round.interrogators}
        self._seen: dict[str, float] = {}
        self._ready: dict[str, float] = {}
        entries = self._ledger.entries
        self.started = {name: Conversation.model_validate(body) for name, body in entries(STARTS).items()}
        self.ends = {name: ConversationEnd.model_validate(body) for name, body in entries(ENDS).items()}
        self.verdicts = {name: ConversationVerdict.model_validate(body) for name, body in entries(VERDICTS).items()}
        self._messages: dict[str, list[ChatMessage]] = {name: [] for name in self.started}
        for body in entries(MESSAGES).values():
            message = ChatMessage.model_validate(body)
            self._messages[message.conversation].append(message)

    @contextmanager
    def _locked(self) -> Iterator[float]:
        with self._lock:
            yield self._clock()

    def close(self) -> None:
        """Close the ledger."""
        with self._lock:
            self._ledger.close()

    @property
    def closed(self) -> bool:
        """Whether the round takes no more conversations and verdicts."""
        with self._lock:
            return self._ledger.entry(STATE, "closed") is not None

    def close_round(self) -> None:
        """Close the round: later messages and verdicts are refused."""
        with self._lock:
            self._ledger.append(STATE, "closed", {"at": datetime.now(UTC).isoformat(timespec="seconds")})

    def participant(self, token: str) -> Participant:
        """Look up the interrogator or witness of a token.

        Raises:
            SizewiseError: the token is unknown or has expired.
        """
        found = self._by_token.get(token_hash(token))
        if found is None:
            raise SizewiseError("This link isn't valid.", "the link from your invitation", "ask for a new one")
        if datetime.now(UTC) > datetime.fromisoformat(self.round.expires):
            raise SizewiseError(f"This link expired on {self.round.expires}.", "a link that is valid", "ask again")
        return found

    def is_interrogator(self, who: Participant) -> bool:
        """Check whether a participant is an interrogator; the others are witnesses."""
        return who.name in self._interrogators

    def saw(self, who: Participant) -> None:
        """Note that the page of a participant is open, start a conversation that waits, and end what is over."""
        with self._locked() as now:
            self._seen[who.name] = now
            self._end_overdue(now)
            if self.is_interrogator(who):
                self._connect(who, now)

    def left(self, who: Participant) -> None:
        """Note that the page of a participant was closed; it may come back within some seconds, as after a reload."""
        with self._locked() as now:
            if who.name in self._seen:
                self._seen[who.name] = min(self._seen[who.name], now - PRESENT_S + RETURN_S)

    def current(self, who: Participant) -> Conversation | None:
        """Return the newest conversation of a participant that isn't finished for them, or None."""
        with self._lock:
            mine = [one for one in self.started.values() if who.name in (one.interrogator, one.witness)]
            if not mine:
                return None
            last = mine[-1]
            over = last.id in self.ends
            if not self.is_interrogator(who):
                return None if over else last
            waits = over and last.id not in self.verdicts and self.ends[last.id].reason not in VOID
            return last if not over or waits else None

    def phase(self, who: Participant) -> Phase:
        """Return what a participant does at the moment."""
        with self._lock:
            talk = self.current(who)
            if talk is not None:
                return "verdict" if talk.id in self.ends else "chat"
            if not self.is_interrogator(who):
                return "waiting"
            if who.name in self._ready:
                return "waiting"
            mine = [one for one in self.started.values() if one.interrogator == who.name]
            if self._next_partner(who) is None:
                return "done"
            return "lost" if mine and self.ends[mine[-1].id].reason in VOID else "ready"

    def done(self, who: Participant) -> int:
        """Count the conversations of an interrogator that have a verdict."""
        with self._lock:
            return sum(self.started[name].interrogator == who.name for name in self.verdicts)

    def messages(self, talk: Conversation) -> list[ChatMessage]:
        """Return the messages that are visible by now, or were when the conversation ended."""
        with self._locked() as now:
            until = self.ends[talk.id].at if talk.id in self.ends else now
            return [one for one in self._messages[talk.id] if one.shown_at <= until]

    def seconds_left(self, talk: Conversation) -> float:
        """Return the time until a conversation ends, 0 if it has."""
        over = talk.id in self.ends
        return 0.0 if over else max(0.0, talk.started + 60 * self.round.minutes - self._clock())

    def my_turn(self, talk: Conversation, who: Participant) -> bool:
        """Check whether a participant may write: the interrogator first, then both by turns."""
        with self._locked() as now:
            told = self._messages[talk.id]
            if talk.id in self.ends:
                return False
            if self.is_interrogator(who):
                return not told or (told[-1].author == "witness" and told[-1].shown_at <= now)
            return bool(told) and told[-1].author == "interrogator"

    def start(self, who: Participant) -> None:
        """Ask for the next conversation of an interrogator; it starts when a witness is free.

        Raises:
            SizewiseError: the round is closed.
        """
        with self._locked() as now:
            self._check_open()
            if self.is_interrogator(who) and self.phase(who) in ("ready", "lost"):
                rng = random.Random(f"{self.round.seed} {who.name} {len(self.started)}")
                self._ready[who.name] = now + 60 * self.round.minutes * rng.uniform(*CONNECT_SHARE)

    def say(self, who: Participant, text: str, nonce: str) -> None:
        """Save a message. Repeating a nonce changes nothing.

        Raises:
            SizewiseError: it isn't this participant's turn, or the message is empty or too long.
        """
        with self._locked() as now:
            self._check_open()
            self._end_overdue(now)
            if self._ledger.entry(MESSAGES, f"{who.name} {nonce}") is not None:
                return
            talk = self.current(who)
            if talk is None or talk.id in self.ends:
                raise SizewiseError("This conversation is over.", "a message in time", "reload the page")
            if not self.my_turn(talk, who):
                raise SizewiseError("It's the other side's turn.", "one message each by turns", "wait for the answer")
            author: Author = "interrogator" if self.is_interrogator(who) else "witness"
            self._append(talk, f"{who.name} {nonce}", author, self._checked(text), (now, now))

    def decide(self, who: Participant) -> None:
        """End a conversation early to give a verdict.

        Raises:
            SizewiseError: the partner hasn't written anything yet.
        """
        with self._locked() as now:
            talk = self.current(who)
            if talk is None or talk.id in self.ends or not self.is_interrogator(who):
                return
            if not any(one.author == "witness" and one.shown_at <= now for one in self._messages[talk.id]):
                raise SizewiseError("Your partner hasn't answered yet.", "a verdict after an answer", "wait for it")
            self._end(talk, "decided", now)

    def leave(self, who: Participant) -> None:
        """End the conversation of a witness who has to go; it doesn't count."""
        with self._locked() as now:
            talk = self.current(who)
            if talk is not None and not self.is_interrogator(who):
                self._end(talk, "left", now)
            self._seen.pop(who.name, None)

    def judge(self, who: Participant, conversation: str, choice: str, confidence: int, reason: str) -> None:
        """Save a verdict; the first one on a conversation counts.

        Raises:
            SizewiseError: the conversation isn't over, isn't this interrogator's, or doesn't count.
        """
        with self._locked() as now:
            self._check_open()
            talk, end = self.started.get(conversation), self.ends.get(conversation)
            if talk is None or talk.interrogator != who.name or end is None or end.reason in VOID:
                raise SizewiseError(
                    "This conversation can't be judged.", "one of yours that is over", "reload the page"
                )
            if conversation not in self.verdicts:
                body = {"conversation": conversation, "choice": choice, "confidence": confidence, "reason": reason}
                verdict = ConversationVerdict.model_validate(body | {"at": now})
                self._ledger.append(VERDICTS, conversation, verdict.model_dump(mode="json"))
                self.verdicts[conversation] = verdict

    def unanswered(self) -> list[Conversation]:
        """Return the conversations in which a model has to answer."""
        with self._lock:
            return [
                talk
                for talk in self.started.values()
                if talk.partner != PERSON
                and talk.id not in self.ends
                and (told := self._messages[talk.id])
                and told[-1].author == "interrogator"
            ]

    def request(self, talk: Conversation, parts: int = 1) -> Request:
        """Write the request for the next answer of a model.

        Args:
            talk: the conversation.
            parts: send only the last one of so many parts of it, for a model whose context is too short for all.
        """
        with self._lock:
            system = self.round.instructions + (f" Topic: {self.round.topic}" if self.round.topic else "")
            told = [
                Message(role="user" if one.author == "interrogator" else "assistant", content=one.text)
                for one in self._messages[talk.id]
            ]
        kept = told[len(told) - 1 - (len(told) // parts - 1) // 2 * 2 :]  # begins with a message of the interrogator
        return Request(
            id=f"{talk.id} {len(told)}",
            messages=(Message(role="system", content=system), *kept),
            max_tokens=max(16, round(TOKENS_PER_CHARACTER * self.round.max_characters)),
            temperature=self.round.temperature,
            seed=self.round.seed + len(told),
        )

    def answer(self, talk: Conversation, completion: Completion | None, error: str = "") -> None:
        """Save the answer of a model, to be shown after the time that a person takes to type it.

        An answer without text, or none at all, ends the conversation, which then doesn't count.
        """
        with self._locked() as now:
            told = self._messages[talk.id]
            if talk.id in self.ends or not told or told[-1].author != "interrogator":
                return
            failed = completion is None or completion.finish == "error"
            if completion is None or failed:
                self._end(talk, "failed", now, error or (completion.error or "" if completion else ""))
                return
            text = _cut(shown(completion.text, True), self.round.max_characters)
            if not has_text(text):
                self._end(talk, "silent", now, "the answer has no text")
                return
            rng = random.Random(f"{self.round.seed} {talk.id} {len(told)}")
            shown_at = max(now, told[-1].at + typing_delay(text, told[-1].text, rng))
            self._append(talk, f"{talk.id} answer {len(told)}", "witness", text, (now, shown_at))

    def _append(self, talk: Conversation, key: str, author: Author, text: str, times: tuple[float, float]) -> None:
        told, (at, shown_at) = self._messages[talk.id], times
        message = ChatMessage(
            conversation=talk.id, number=len(told), author=author, text=text, at=at, shown_at=shown_at
        )
        self._ledger.append(MESSAGES, key, message.model_dump(mode="json"))
        told.append(message)

    def _checked(self, text: str) -> str:
        found = shown(text, True)
        if not has_text(found):
            raise SizewiseError("The message is empty.", "a message with text", "")
        if len(found) > self.round.max_characters:
            raise SizewiseError(
                f"The message has {len(found):,} characters.", f"at most {self.round.max_characters:,}", "shorten it"
            )
        return found

    def _check_open(self) -> None:
        if self.closed:
            raise SizewiseError("This round is closed.", "a message before the round was closed", "")

    def _end(self, talk: Conversation, reason: EndReason, at: float, detail: str = "") -> None:
        end = ConversationEnd(conversation=talk.id, reason=reason, detail=detail[:500], at=at)
        self._ledger.append(ENDS, talk.id, end.model_dump(mode="json"))
        self.ends[talk.id] = end

    def _end_overdue(self, now: float) -> None:
        """End conversations whose time or turns are over, or whose witness has gone."""
        for talk in [one for one in self.started.values() if one.id not in self.ends]:
            told = [one for one in self._messages[talk.id] if one.shown_at <= now]
            answers = sum(one.author == "witness" for one in told)
            if now >= talk.started + 60 * self.round.minutes:
                detail = "" if told else "the interrogator wrote nothing"
                self._end(talk, "time" if answers else "silent", now, detail)
            elif answers >= self.round.max_turns:
                self._end(talk, "turns", now)
            elif talk.witness and now - self._seen.setdefault(talk.witness, now) > PRESENT_S:
                self._end(talk, "left", now)

    def _connect(self, who: Participant, now: float) -> None:
        """Start the conversation that an interrogator asked for, once a witness is free."""
        if now < self._ready.get(who.name, float("inf")) or self.closed:
            return
        talking = {one.witness for one in self.started.values() if one.id not in self.ends}
        free = [
            one.name
            for one in self.round.witnesses
            if one.name not in talking and now - self._seen.get(one.name, float("-inf")) <= PRESENT_S
        ]
        partner = self._next_partner(who)
        if not free or partner is None:
            return
        del self._ready[who.name]
        number = len(self.started)
        taken = [one.witness for one in self.started.values()]
        witness = min(free, key=lambda name: (taken.count(name), name)) if partner == PERSON else ""
        talk = Conversation(id=f"c{number}", interrogator=who.name, partner=partner, witness=witness, started=now)
        self._ledger.append(STARTS, talk.id, talk.model_dump(mode="json"))
        self.started[talk.id], self._messages[talk.id] = talk, []

    def _next_partner(self, who: Participant) -> str | None:
        """Return the next partner of an interrogator: those drawn, then again those whose conversation didn't count."""
        mine = [one for one in self.started.values() if one.interrogator == who.name]
        if len(mine) >= MAX_VOID * len(who.partners):
            return None
        rest = list(who.partners)
        void = []
        for talk in mine:
            if talk.partner in rest:
                rest.remove(talk.partner)
            if talk.id in self.ends and self.ends[talk.id].reason in VOID:
                void.append(talk.partner)
        again = mine[len(who.partners) :]
        waiting = rest if len(mine) < len(who.partners) else void[len(again) :]
        return waiting[0] if waiting else None


def _cut(text: str, limit: int) -> str:
    """Cut a text to a length, at the end of a sentence or else of a word."""
    if len(text) <= limit:
        return text
    head = text[:limit]
    ends = [head.rfind(mark) for mark in (". ", "! ", "? ", "\n")]
    if max(ends) >= limit // 3:
        return head[: max(ends) + 1].strip()
    return head.rsplit(" ", 1)[0].strip()
