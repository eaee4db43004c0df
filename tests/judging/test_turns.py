"""Examples of several turns: raters, other tools, judge models and trainers get the whole conversation."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from sizewise.datasets import load, read
from sizewise.evaluation import evaluate
from sizewise.judging import Ballot, Opened, RoundDesign, ask_judge, open_round, preferences, write_tasks
from sizewise.records import Completion, Request, Vote
from sizewise.store import Store

FIRST, SYSTEM = "My order number is", "You work for a shop."


@pytest.fixture
def opened(store: Store, tmp_path: Path) -> Opened:
    """Thirty conversations, of which the last turn alone means nothing, and ten single questions."""
    rows = []
    for number in range(40):
        turns = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{FIRST} {number}."},
            {"role": "assistant", "content": "Thank you. Shall I cancel it?"},
            {"role": "user", "content": "Yes, please."},
        ]
        turns = turns if number < 30 else [{"role": "user", "content": f"Where is shop {number}?"}]
        answer = {"role": "assistant", "content": f"Order {number} has word{number} been canceled."}
        rows.append({"messages": [*turns, answer], "source": f"doc{number}.txt"})
    path = tmp_path / "turns.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = read([path], store=store, name="turns", seed=1, all_test=True)
    ids = []
    for name in ("one", "two"):
        examples = load(store, data.id).examples["test"]
        answers = tmp_path / f"{name}.jsonl"
        said = [{"id": example.id, "completion": f"{name} says {example.id}"} for example in examples]
        answers.write_text("\n".join(map(json.dumps, said)), encoding="utf-8")
        ids.append(evaluate(f"recorded:{answers}", data.id, ["chrf"], store=store).id)
    return open_round(ids, RoundDesign(raters=["Ada"], items=30), store=store)


def test_every_task_of_a_conversation_has_its_turns(opened: Opened, store: Store) -> None:
    ballot = Ballot(store, opened.stored.id)
    several = [task for task in ballot.tasks.values() if task.prompt == "Yes, please."]
    assert {task.purpose for task in several} >= {"vote", "repeat"}
    for task in several:
        assert [role for role, _ in task.conversation] == ["system", "user", "assistant", "user"]
        assert task.conversation[1][1].startswith(FIRST)
        assert task.conversation[-1] == ("user", task.prompt)
    assert all(not task.conversation for task in ballot.tasks.values() if task not in several)
    ballot.close()


def test_other_tools_and_trainers_get_the_turns(opened: Opened, store: Store, tmp_path: Path) -> None:
    ballot = Ballot(store, opened.stored.id)
    write_tasks(ballot, tmp_path / "tasks.csv", "csv")
    with (tmp_path / "tasks.csv").open(newline="", encoding="utf-8") as lines:
        texts = {row["task"]: row["conversation"] for row in csv.DictReader(lines)}
    told = next(task for task in ballot.tasks.values() if task.conversation and task.id in texts)
    assert texts[told.id].split("\n\n")[2:] == ["Assistant: Thank you. Shall I cancel it?", "User: Yes, please."]
    _, layout = write_tasks(ballot, tmp_path / "studio.json", "label-studio")
    assert '<Paragraphs name="conversation" value="$conversation" layout="dialogue"/>' in layout.read_text("utf-8")
    studio = json.loads((tmp_path / "studio.json").read_text("utf-8"))
    assert {len(row["data"]["conversation"]) for row in studio} == {1, 4}
    write_tasks(ballot, tmp_path / "argilla.json", "argilla")
    first = json.loads((tmp_path / "argilla.json").read_text("utf-8"))[0]["fields"]["conversation"]
    assert set(first[0]) == {"role", "content"}

    rater = ballot.rater(opened.invitations[0].token)
    while task := ballot.next_task(rater):
        ballot.vote(rater, Vote(task=task.id, rater=rater.name, origin="person", choice="left"), f"nonce-{task.id}")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, preferences(ballot))), encoding="utf-8")
    ballot.close()
    again = load(store, read([pairs], store=store, name="pairs", seed=1, all_test=True).id).examples["test"]
    assert {len(example.messages) for example in again} == {1, 4}
    assert all(example.rejected and example.references for example in again)


def test_a_judge_model_reads_the_conversation(opened: Opened, store: Store) -> None:
    asked: list[str] = []

    def judge(requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            asked.append(request.messages[0].content)
            yield Completion(
                id=request.id, text="Verdict: 1", prompt_tokens=1, completion_tokens=1, seconds=0.1, finish="stop"
            )

    ask_judge(opened.stored.id, "fake:judge", judge, store=store)
    several = [text for text in asked if "User: Yes, please." in text]
    assert several
    assert all(f"User: {FIRST}" in text and f"Instructions: {SYSTEM}" in text for text in several)
    assert all("Request:\nWhere is shop" in text for text in asked if text not in several)
