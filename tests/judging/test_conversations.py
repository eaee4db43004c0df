"""Conversations of the imitation test: who talks with whom, limits, failures, restarts, and the figures."""

from __future__ import annotations

import random
from collections import Counter
from statistics import mean

import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from sizewise.judging import ConversationDesign, Conversations, open_conversations, report_conversations
from sizewise.judging.conversation_design import OpenedConversations
from sizewise.judging.typing_delay import typing_delay
from sizewise.records import Completion, Conversation, Participant
from sizewise.records.conversations import PERSON
from sizewise.store import Store

MODELS = ("fake:one", "fake:two")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Round:
    """A round with one interrogator and one witness, driven by hand."""

    def __init__(self, store: Store, **design: object) -> None:
        self.clock, self.store = Clock(), store
        self.opened: OpenedConversations = open_conversations(
            ConversationDesign(**({"models": MODELS, "conversations": 4} | design)),  # type: ignore[arg-type]
            store=store,
        )
        self.held = Conversations(store, self.opened.stored.id, self.clock)
        self.ada = self.held.participant(self.opened.interrogators[0].token)
        self.cleo = self.held.participant(self.opened.witnesses[0].token)

    def restarted(self) -> Conversations:
        self.held.close()
        self.held = Conversations(self.store, self.opened.stored.id, self.clock)
        return self.held

    def talk(self, who: Participant | None = None) -> Conversation:
        """Start a conversation."""
        who = who or self.ada
        self.held.saw(self.cleo)
        self.held.start(who)
        self.clock.now += 10
        self.held.saw(self.cleo)
        self.held.saw(who)
        found = self.held.current(who)
        assert found is not None
        return found

    def say_and_answer(self, talk: Conversation, nonce: str, text: str = "me? fine") -> None:
        self.held.say(self.ada, "how are you", f"asks-{nonce}")
        if talk.partner == PERSON:
            self.held.say(self.cleo, text, f"answers-{nonce}")
        else:
            self.held.answer(talk, completion(text))
        self.clock.now += 60
        self.held.saw(self.cleo)
        self.held.saw(self.ada)

    def whole(self, choice: str, text: str = "me? fine") -> Conversation:
        """Run one conversation to its verdict."""
        talk = self.talk()
        self.say_and_answer(talk, talk.id, text)
        self.held.decide(self.ada)
        self.held.judge(self.ada, talk.id, choice, 80, "short answers")
        return talk


def completion(text: str, finish: str = "stop", error: str | None = None) -> Completion:
    return Completion(
        id="x", text=text, prompt_tokens=1, completion_tokens=1, seconds=0.1, finish=finish, error=error  # type: ignore[arg-type]
    )  # fmt: skip


def test_partners_are_half_people_and_balanced(store: Store) -> None:
    names = [f"i{number}" for number in range(4)]
    design = ConversationDesign(MODELS, interrogators=names, conversations=5)
    drawn = [one.partners for one in open_conversations(design, store=store).stored.record.interrogators]
    assert {partners.count(PERSON) for partners in drawn} == {2, 3}
    assert Counter(partner for partners in drawn for partner in partners) == {PERSON: 10, "fake:one": 5, "fake:two": 5}
    assert len({tuple(partner == PERSON for partner in partners) for partners in drawn}) > 1
    with pytest.raises(UsageError, match="witnesses: none given"):
        ConversationDesign(MODELS, witnesses=()).check()


def test_no_conversation_starts_without_a_free_witness_whoever_was_drawn(store: Store) -> None:
    round_ = Round(store, interrogators=("Ada", "Ben"))
    held, ben = round_.held, round_.held.participant(round_.opened.interrogators[1].token)
    for who in (round_.ada, ben):
        held.start(who)
    round_.clock.now += 10
    for who in (round_.ada, ben):
        held.saw(who)
    assert not held.started
    first = round_.talk(round_.ada)
    held.saw(ben)
    second = held.current(ben)
    if first.partner == PERSON:
        assert (first.witness, second) == (round_.cleo.name, None)
    else:
        assert second is not None
    round_.held.close()


def test_a_whole_round_by_turns_to_its_figures(store: Store) -> None:
    round_ = Round(store)
    held = round_.held
    with pytest.raises(SizewiseError, match="no verdicts yet"):
        report_conversations(held.id, store=store)
    talks = []
    while held.phase(round_.ada) != "done":
        talks.append(round_.whole("person"))
    assert [talk.partner for talk in talks] == list(round_.ada.partners)
    with pytest.raises(SizewiseError, match="conversation is over"):
        held.say(round_.ada, "still there?", "late-late")
    found = report_conversations(held.id, store=store)
    assert (found.counted, found.planned, found.unjudged, found.void) == (4, 4, 0, {})
    assert {name: score.value for name, score in found.taken_for_a_person.items()} == dict.fromkeys(
        (PERSON, *MODELS), 1.0
    )
    assert all(score.ci_low is None for score in found.taken_for_a_person.values())
    assert all(one.p is None and one.value == 0 for one in found.differences)
    assert found.detection_accuracy.value == 0.5
    assert any("too few" in note for note in found.notes)
    assert any("1 witness" in note for note in found.notes)
    held.close()
    told = CliRunner().invoke(app, ["judge", "report", held.id, "--close"])
    assert told.exit_code == 0, told.output
    assert "4 of 4 conversations have a verdict" in told.output
    assert "fake:one" in told.output
    assert Conversations(store, held.id).closed


def test_turns_lengths_and_replays(store: Store) -> None:
    round_ = Round(store, max_characters=50, max_turns=2)
    held, talk = round_.held, round_.talk()
    with pytest.raises(SizewiseError, match="hasn't answered yet"):
        held.decide(round_.ada)
    with pytest.raises(SizewiseError, match="at most 50"):
        held.say(round_.ada, "x" * 51, "too-long")
    with pytest.raises(SizewiseError, match="empty"):
        held.say(round_.ada, " \u200b ", "empty-1")
    for _ in range(2):
        held.say(round_.ada, "\u201chello\u201d", "hello-1")
    with pytest.raises(SizewiseError, match="other side's turn"):
        held.say(round_.ada, "hello?", "hello-2")
    assert [one.text for one in held.messages(talk)] == ['"hello"']
    if talk.partner == PERSON:
        held.say(round_.cleo, "hi", "hi-hi-hi")
    else:
        held.answer(talk, completion("A sentence that ends. " * 9))
        assert [one.author for one in held.messages(talk)] == ["interrogator"]
        assert not held.my_turn(talk, round_.ada)
    round_.clock.now += 60
    held.saw(round_.cleo)
    assert held.my_turn(talk, round_.ada)
    assert all(len(one.text) <= 50 for one in held.messages(talk))
    round_.say_and_answer(talk, "second")
    assert held.ends[talk.id].reason == "turns"
    assert held.phase(round_.ada) == "verdict"
    held.close()


def test_a_restart_loses_nothing_and_time_goes_on(store: Store) -> None:
    round_ = Round(store)
    talk = round_.talk()
    round_.say_and_answer(talk, "before")
    before = round_.held.messages(talk)
    held = round_.restarted()
    assert held.current(round_.ada) == talk
    assert held.messages(talk) == before
    held.say(round_.ada, "and now", "again-1")
    if talk.partner != PERSON:
        assert held.unanswered() == [talk]
        assert round_.restarted().unanswered() == [talk]
    round_.clock.now += 300
    held = round_.restarted()
    held.saw(round_.ada)
    assert (held.ends[talk.id].reason, held.phase(round_.ada)) == ("time", "verdict")
    held.judge(round_.ada, talk.id, "model", 60, "")
    held.judge(round_.ada, talk.id, "person", 90, "the second tab")
    assert round_.restarted().verdicts[talk.id].choice == "model"
    round_.held.close()


@pytest.mark.parametrize("failure", ["left", "gone", "error", "silent"])
def test_a_conversation_that_fails_is_drawn_again_and_not_counted(failure: str, store: Store) -> None:
    round_ = Round(store)
    held, person = round_.held, failure in ("left", "gone")
    while ((talk := round_.talk()).partner == PERSON) != person:
        round_.say_and_answer(talk, talk.id)
        held.decide(round_.ada)
        held.judge(round_.ada, talk.id, "person", 50, "")
    held.say(round_.ada, "hello", f"hello-{talk.id}")
    if failure == "left":
        held.leave(round_.cleo)
    elif failure == "gone":
        held.left(round_.cleo)
        round_.clock.now += 10
        held.saw(round_.cleo)  # a reload
        held.saw(round_.ada)
        assert talk.id not in held.ends
        held.left(round_.cleo)
        round_.clock.now += 20
    elif failure == "error":
        held.answer(talk, completion("", "error", "busy"))
    else:
        held.answer(talk, completion("\n"))
    held.saw(round_.ada)
    assert held.phase(round_.ada) == "lost"
    with pytest.raises(SizewiseError, match="can't be judged"):
        held.judge(round_.ada, talk.id, "person", 50, "")
    while held.phase(round_.ada) != "done":
        round_.whole("person")
    counted = Counter(held.started[name].partner for name in held.verdicts)
    assert counted == Counter(round_.ada.partners)
    found = report_conversations(held.id, store=store)
    assert sum(found.void.values()) == 1
    assert found.void_by_model == ({} if person else {talk.partner: 1})
    held.close()


def test_a_model_that_always_fails_ends_the_round(store: Store) -> None:
    round_ = Round(store)
    for _ in range(20):
        if round_.held.phase(round_.ada) == "done":
            break
        talk = round_.talk()
        if talk.partner == PERSON:
            round_.say_and_answer(talk, talk.id)
            round_.held.decide(round_.ada)
            round_.held.judge(round_.ada, talk.id, "person", 50, "")
        else:
            round_.held.say(round_.ada, "hello", f"hello-{talk.id}")
            round_.held.answer(talk, None, "TimeoutError: slow")
    assert round_.held.phase(round_.ada) == "done"
    assert len(round_.held.started) <= 8
    round_.held.close()


def test_a_short_context_gets_the_end_of_the_conversation(store: Store) -> None:
    round_ = Round(store, max_turns=9)
    while (talk := round_.talk()).partner == PERSON:
        round_.say_and_answer(talk, talk.id)
        round_.held.decide(round_.ada)
        round_.held.judge(round_.ada, talk.id, "person", 50, "")
    for number in range(4):
        round_.say_and_answer(talk, f"turn-{number}")
    round_.held.say(round_.ada, "the last one", "last-last")
    whole, half, quarter = (round_.held.request(talk, parts) for parts in (1, 2, 4))
    assert [len(request.messages) for request in (whole, half, quarter)] == [10, 4, 2]
    for request in (whole, half, quarter):
        roles = [message.role for message in request.messages]
        assert roles == ["system", *(["user", "assistant"] * 5)[: len(roles) - 1]]
        assert request.messages[-1].content == "the last one"
    round_.held.close()


def test_answers_take_as_long_as_typing() -> None:
    rng = random.Random(0)
    short, long = (mean(typing_delay("x" * length, "y" * 40, rng) for _ in range(200)) for length in (10, 100))
    assert short == pytest.approx(1 + 0.3 * 10 + 0.03 * 40 + 2.5 * 0.25, rel=0.1)
    assert long == pytest.approx(1 + 0.3 * 100 + 0.03 * 40 + 2.5 * 0.25, rel=0.1)


def test_a_model_that_is_recognized_differs_from_people(store: Store) -> None:
    names = [f"i{number}" for number in range(5)]
    round_ = Round(store, models=("fake:one",), interrogators=names, conversations=8)
    held = round_.held
    for invitation in round_.opened.interrogators:
        round_.ada = held.participant(invitation.token)
        while held.phase(round_.ada) != "done":
            talk = round_.talk()
            round_.say_and_answer(talk, talk.id)
            held.decide(round_.ada)
            wrong = len(held.verdicts) % 6 == 0
            held.judge(round_.ada, talk.id, "person" if (talk.partner == PERSON) != wrong else "model", 70, "")
    held.close_round()
    found = report_conversations(held.id, store=store)
    (difference,) = found.differences
    assert difference.value < -0.4
    assert difference.p_adjusted is not None
    assert difference.p_adjusted < 0.01
    assert difference.ci_high is not None
    assert difference.ci_high < 0
    accuracy = found.detection_accuracy
    assert accuracy.value == pytest.approx((1 - difference.value) / 2)
    assert accuracy.ci_low is not None
    assert accuracy.ci_low > 0.5
    assert not any("open" in note for note in found.notes)
    held.close()
