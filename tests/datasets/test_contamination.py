from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from sizewise.datasets.contamination import Text, contamination, summarize
from sizewise.documents.reading import make_document
from sizewise.records import ContaminationEntry, Example, Message, ToolCall

TEMPLATE = (
    "You work for the support of a shop. Read the message of a customer and say which team it should go to, "
    "with one word only, and nothing else at all."
)
LABELS = ["billing", "delivery", "other"]


def body(seed: int, words: int = 60) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(3)) for _ in range(words))


def chinese(seed: int, size: int = 60) -> str:
    rng = random.Random(seed)
    return "".join(chr(rng.randint(0x4E00, 0x5E00)) for _ in range(size))


def ask(name: str, prompt: str, *answers: str, system: str = "") -> Example:
    before = (Message(role="system", content=system),) if system else ()
    return Example(
        id=name, messages=(*before, Message(role="user", content=prompt)), references=answers or ("other",), source=name
    )


def entries(
    train: Sequence[Example], test: Sequence[Example], documents: Sequence[str] = (), passages: Sequence[str] = ()
) -> list[ContaminationEntry]:
    read = [make_document(f"d{i}", "", text, "test") for i, text in enumerate(documents)]
    asked = {"train": tuple(train), "validation": (), "test": tuple(test)}
    return list(contamination(read, [Text(f"p{i}", text) for i, text in enumerate(passages)], asked))  # type: ignore[arg-type]


def labelled(count: int, first: int = 0) -> list[Example]:
    return [ask(f"e{i}", body(i), LABELS[i % 3]) for i in range(first, first + count)]


def test_prompts_of_a_label_task_seen_in_training_are_contaminated() -> None:
    copied = [ask(f"c{i}", f"Dear team! {body(i).title()}.", LABELS[i % 3]) for i in range(30)]
    found = entries(labelled(200), [*copied, *labelled(50, 1_000)])
    assert [entry.uncontaminated for entry in found] == [False] * 30 + [True] * 50
    assert summarize(found, 0).prompts == 30
    assert summarize(found, 0).uncontaminated_examples == 50
    assert all(entry.prompt_shared_words == entry.prompt_words - 2 == 60 for entry in found[:30])


def test_a_passage_of_a_prompt_is_found_in_training_documents_and_answers() -> None:
    texts = [body(i, 200) for i in range(3)]
    part = " ".join(texts[1].split()[50:70])
    told = " ".join(body(7).split()[:20])
    test = [ask("a", f"What follows from this? {part}"), ask("b", f"Is it so? {told}"), ask("c", body(500))]
    found = entries([ask("e", body(300), body(7))], test, texts)
    assert [entry.uncontaminated for entry in found] == [False, False, True]


def test_the_same_short_prompt_is_contaminated_and_a_sign_makes_another() -> None:
    train = [ask("1", "What is C++?"), ask("2", "Is 2 > 1?"), ask("3", "Wo ist das Meer?"), *labelled(20)]
    test = [ask("a", "what is C++"), ask("b", "What is C#?"), ask("c", "Is 2 < 1?"), ask("d", "Wo, ist das Meer")]
    assert [entry.prompt_exact for entry in entries(train, test)] == [True, False, False, True]


def test_a_sentence_of_a_training_document_is_a_seen_prompt() -> None:
    document = f"{body(1)} The lamp in the yard behind the gate is broken. {body(2)}"
    test = [ask("a", "The lamp in the yard behind the gate is broken!"), ask("b", "The lamp in the hall is broken.")]
    assert [entry.uncontaminated for entry in entries(labelled(20), test, [document])] == [False, True]


def test_a_template_in_all_prompts_is_no_contamination() -> None:
    train = [ask(f"e{i}", f"{TEMPLATE}\n\nMessage: {body(i, 8)}", LABELS[i % 3]) for i in range(100)]
    test = [ask(f"t{i}", f"{TEMPLATE}\n\nMessage: {body(900 + i, 8)}", LABELS[i % 3]) for i in range(20)]
    assert all(entry.uncontaminated for entry in entries(train, test))
    copied = ask("c", f"{TEMPLATE}\n\nMessage: {body(5, 8)}", "other")
    assert not entries(train, [copied])[0].uncontaminated


def test_worked_examples_and_system_texts_in_all_prompts_are_no_contamination() -> None:
    shots = "\n".join(f"Message: {body(5_000 + i, 30)}\nTeam: {LABELS[i % 3]}" for i in range(4))
    train = [ask(f"e{i}", f"{shots}\nMessage: {body(i, 12)}\nTeam:", system=TEMPLATE) for i in range(60)]
    test = [ask(f"t{i}", f"{shots}\nMessage: {body(900 + i, 12)}\nTeam:", system=TEMPLATE) for i in range(20)]
    assert all(entry.uncontaminated for entry in entries(train, test, [f"{TEMPLATE}\n\n{shots}"]))


def test_a_prompt_that_all_examples_share_is_a_template() -> None:
    train = [ask(f"e{i}", "Write the next line of it.", f"{body(i, 9)}") for i in range(40)]
    assert entries(train, [ask("t", "Write the next line of it.", body(900, 9))])[0].uncontaminated


def test_the_same_answer_alone_is_no_contamination() -> None:
    reply = f"Thank you for your message. {body(1, 40)}"
    triage = (
        '{"category": "billing", "priority": 2, "team": "a b c", "channel": "mail", "language": "de", "late": false}'
    )
    answers = ["Request for refund of payment", reply, triage, f"Hello. {body(2_000, 20)} Bye."]
    train = [ask(f"e{i}", body(i), answers[i % 3]) for i in range(60)] + [
        ask(f"f{i}", body(100 + i), f"{answers[3]} {body(400 + i, 15)}") for i in range(9)
    ]
    other = triage.replace("mail", "phone")
    test = [ask(f"t{i}", body(900 + i), answer) for i, answer in enumerate([*answers, other])]
    assert [entry.uncontaminated for entry in entries(train, test)] == [True] * 5


def test_a_long_answer_that_training_gives_once_is_contaminated_in_every_reference() -> None:
    train = [ask(f"e{i}", body(i), body(200 + i, 30)) for i in range(40)]
    test = [
        ask("a", body(900), body(203, 30)),
        ask("b", body(901), body(950, 30), body(204, 30)),
        ask("c", body(902), body(951, 30), body(952, 30)),
    ]
    assert [entry.uncontaminated for entry in entries(train, test)] == [False, False, True]


def test_an_answer_seen_in_a_training_document_is_contaminated() -> None:
    text = body(3, 100)
    test = [ask("a", body(900), " ".join(text.split()[20:40])), ask("b", body(901), body(902, 20))]
    assert [entry.uncontaminated for entry in entries([], test, [text])] == [False, True]


def test_it_works_without_blanks_between_words() -> None:
    train = [ask(f"e{i}", chinese(i), "退款" if i % 2 else chinese(200 + i, 30)) for i in range(40)]
    test = [
        ask("a", f"请看 {chinese(3)}", "退款"),
        ask("b", chinese(900), "退款"),
        ask("c", chinese(901), chinese(204, 30)),
        ask("d", chinese(902), chinese(903, 30)),
    ]
    found = entries(train, test, [], [f"{chinese(5)[:30]}甲{chinese(5)[30:]}", chinese(904)])
    assert [entry.uncontaminated for entry in found] == [False, True, False, True, False, True]


@pytest.mark.parametrize("place", ["earlier turn", "tool result", "system", "call", "rejected"])
def test_an_answer_that_training_shows_anywhere_is_contaminated(place: str) -> None:
    answer = body(3, 19)
    train = labelled(40)
    call = ToolCall(name="look_up", arguments=json.dumps({"query": answer}))
    turns = {
        "earlier turn": Message(role="assistant", content=answer),
        "tool result": Message(role="tool", content=answer),
        "system": Message(role="system", content=answer),
        "call": Message(role="assistant", content="", tool_calls=(call,)),
    }
    if place == "rejected":
        train.append(ask("x", body(700), body(701, 20)).model_copy(update={"rejected": (answer,)}))
    else:
        train.append(ask("x", body(700)).model_copy(update={"messages": (turns[place], *ask("x", body(702)).messages)}))
    found = entries(train, [ask("a", body(900), answer), ask("b", body(901), body(902, 19))])
    assert [entry.uncontaminated for entry in found] == [False, True]


def test_an_edited_prompt_with_the_same_answer_is_a_pair() -> None:
    train = [ask(f"e{i}", body(i), LABELS[i % 3]) for i in range(60)]
    changed = " ".join(word if i % 10 else "zzzzzz" for i, word in enumerate(body(4).split()))
    same, other = entries(train, [ask("a", changed, LABELS[4 % 3]), ask("b", changed, "quite another thing")])
    assert (same.prompt_edited, same.pair, same.match) == (True, True, "e4")
    assert (other.prompt_edited, other.pair, other.uncontaminated) == (True, False, False)


def test_answers_drafted_from_studied_documents_give_nothing_away_and_prompts_do() -> None:
    drafted = ask("d", "Harbor: opening hours?", body(1)).model_copy(update={"tags": ("drafted", "by extractive")})
    written = drafted.model_copy(update={"tags": ()})
    test = [ask("t", "When does the harbor open on the days of the market?", body(1))]

    def is_clean(train: Example, studied: bool) -> bool:
        asked = {"train": (train,), "validation": (), "test": tuple(test)}
        (entry,) = contamination([], [], asked, studied=studied)  # type: ignore[arg-type]
        return entry.uncontaminated

    assert is_clean(drafted, studied=True)
    assert not is_clean(drafted, studied=False)
    assert not is_clean(written, studied=True)
    gap = ask("d", f"Harbor\n\n{body(1)} ____", body(2)).model_copy(update={"tags": ("drafted",)})
    assert is_clean(gap, studied=True)
    assert not is_clean(gap, studied=False)
    same = ask("d", test[0].messages[-1].content, body(1)).model_copy(update={"tags": ("drafted",)})
    assert not is_clean(same, studied=True)
