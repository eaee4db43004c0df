"""Generated problems: their answers hold, and only a stated answer counts."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from sizewise.comparison import compare
from sizewise.errors import UsageError
from sizewise.evaluation.problems import DAYS, DIRECTIONS, SHOTS, arithmetic, is_solved, problem_request, reasoning
from sizewise.evaluation.rescoring import rescore
from sizewise.evaluation.suite_run import evaluate_suite
from sizewise.evaluation.suite_types import SuiteItem
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, ItemRow
from sizewise.store import Store

SUITES = {"arithmetic": arithmetic(None), "reasoning": reasoning(None)}


def answer(item: SuiteItem) -> str:
    return item.texts[0].text.strip()


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_200_different_problems_that_stay_the_same(name: str) -> None:
    items = SUITES[name]
    assert len({item.question for item in items}) == len({item.id for item in items}) == 200
    assert set(Counter(item.group for item in items).values()) == {40}
    again = {"arithmetic": arithmetic, "reasoning": reasoning}[name](None)
    assert [(item.id, item.question, answer(item)) for item in again] == [
        (item.id, item.question, answer(item)) for item in items
    ]
    assert not {question for question, _ in SHOTS[name]} & {item.question for item in items}
    assert all(is_solved(answer(item), [answer(item)], item.question) for item in items)
    assert not any(is_solved(item.question, [answer(item)], item.question) for item in items)


def test_answers_hold_when_they_are_worked_out_in_another_way() -> None:
    for item in SUITES["arithmetic"]:
        numbers = [int(number) for number in re.findall(r"\d+", item.question)]
        found = {
            "addition": lambda n: n[0] + n[1],
            "subtraction": lambda n: n[0] - n[1],
            "multiplication": lambda n: n[0] * n[1],
            "division": lambda n: n[0] // n[1],
            "two steps": lambda n: n[0] * n[1] + (n[2] if "gets" in item.question else -n[2]),  # noqa: B023
        }[item.group](numbers)
        assert answer(item) == str(found), item.question
    for item in SUITES["reasoning"]:
        assert answer(item) == worked_out(item), item.question


def worked_out(item: SuiteItem) -> str:
    """Solve a problem from its text."""
    text = item.question
    if item.group == "order":
        pairs = re.findall(r"(\w+) is older than (\w+)", text)
        older, younger = ({pair[side] for pair in pairs} for side in (0, 1))
        (found,) = older - younger if "the oldest" in text else younger - older
        return found
    if item.group == "rules":
        return "no" if text.startswith("No ") or " No " in text else "yes"
    if item.group == "calendar":
        days = int(re.findall(r"\d+", text)[0]) * (-1 if "ago" in text else 1)
        return DAYS[(DAYS.index(re.findall(r"Today is (\w+)", text)[0]) + days) % 7]
    if item.group == "transfers":
        counts = {name: int(number) for name, number in re.findall(r"(\w+) has (\d+)", text)}
        for giver, number, taker in re.findall(r"(\w+) gives (\d+) to (\w+)", text):
            counts[giver] -= int(number)
            counts[taker] += int(number)
        return str(counts[re.findall(r"does (\w+) have", text)[0]])
    facing = DIRECTIONS.index(re.findall(r"faces (\w+)", text)[0])
    turns = {"left": 3, "right": 1, "around": 2}
    return DIRECTIONS[(facing + sum(turns[turn] for turn in re.findall(r"turns (\w+)", text))) % 4]


@pytest.mark.parametrize(
    ("said", "reference", "solved"),
    [
        ("5 + 7 = 12\nAnswer: 12", "12", True),
        ("Answer: 12 apples.", "12", True),
        ("The answer is 12.", "12", True),
        ("**Answer:**\n\n12", "12", True),
        ("So it's 12.\n\nAnswer: 11", "12", False),
        ("Step 1: 12\nStep 2: 13", "12", False),
        ("12 or 13", "12", False),
        ("Answer: 12, 13, 14", "12", False),
        ("1,234", "1234", True),
        ("Answer: Ben, who is older than Ana", "Ben", True),
        ("Ana or Ben", "Ben", False),
        ("It's not Thursday, it's Friday", "Thursday", False),
        ("Answer: No, Ana is not a flarn.", "no", True),
        ("", "12", False),
        ("word " * 40 + "12", "12", False),
    ],
)
def test_only_what_is_stated_as_the_answer_counts(said: str, reference: str, solved: bool) -> None:
    assert is_solved(said, [reference], "What is it?") is solved


def test_models_are_compared_and_answers_scored_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = evaluate_suite("fake:silent", "arithmetic", store=store)
    assert nothing.record.scores["arithmetic"].value == 0
    answers = {item.id: answer(item) for item in SUITES["arithmetic"]}

    def adds(self: FakeModel, requests: list[object]) -> object:
        for request in requests:
            known = request.id.startswith("addition")  # type: ignore[attr-defined]
            said = f"I add them.\nAnswer: {answers[request.id]}" if known else "Answer: -1"  # type: ignore[attr-defined]
            yield Completion(
                id=request.id, text=said, prompt_tokens=1, completion_tokens=1, seconds=0.0, finish="stop"  # type: ignore[attr-defined]
            )  # fmt: skip

    monkeypatch.setattr(FakeModel, "complete", adds)
    found = evaluate_suite("fake:echo", "arithmetic", store=store)
    scores = found.record.scores
    assert scores["arithmetic"].value == 0.2
    assert scores["arithmetic#addition"].value == 1.0
    assert "closed book|form:chat|with working" in scores["arithmetic"].signature
    (first, *_) = compare([found.id, nothing.id], store=store).record.differences
    assert first.better == "fake:echo"
    rows = store.read_rows(store.folder("evaluation", found.id), "items.jsonl", ItemRow)
    assert (rescore(store, found.record, rows).measured, rescore(store, found.record, rows).differing) == (200, [])
    with pytest.raises(UsageError, match="takes no data"):
        evaluate_suite("fake:echo", "arithmetic", "rows.jsonl", store=store)
    request = problem_request("reasoning", SUITES["reasoning"][0], chat=False)
    assert request.text is not None
    assert request.text.count("Answer:") == len(SHOTS["reasoning"]) + 1
