"""The best of several, judge models and their validation, and votes from other tools."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from sizewise.choice import choose
from sizewise.comparison import add_votes
from sizewise.errors import SizewiseError, UsageError
from sizewise.judging import (
    Ballot,
    Opened,
    RoundDesign,
    ask_judge,
    open_round,
    preferences,
    read_votes,
    report,
    write_tasks,
)
from sizewise.judging.exchange import Format
from sizewise.judging.llm_judge import Complete, _vote, read_verdict
from sizewise.records import Completion, JudgeTask, Needs, Request, Vote
from sizewise.stats import length_controlled_rate
from sizewise.store import Store
from sizewise.studies.audit import audit

STRENGTH = {"right": 3, "half": 2, "wrong": 1}


def best_of(task: JudgeTask) -> str:
    strengths = [STRENGTH.get(name, 9 if name == "reference" else 0) for name, _ in task.answers]
    return str(strengths.index(max(strengths)) + 1)


def test_the_best_of_several_is_ranked_and_balanced(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(kind="best", raters=["a"], items=6), store=store)
    ballot = Ballot(store, opened.stored.id)
    firsts = Counter(task.left for task in ballot.tasks.values() if task.purpose == "vote")
    assert max(firsts.values()) - min(firsts.values()) <= 1
    for invitation in opened.invitations:
        rater = ballot.rater(invitation.token)
        while task := ballot.next_task(rater):
            assert len(task.answers) == 3
            wrong = Vote(task=task.id, rater=rater.name, origin="person", choice="left")
            with pytest.raises(SizewiseError, match="'left' isn't a choice"):
                ballot.vote(rater, wrong, "nonce")
            vote = Vote(task=task.id, rater=rater.name, origin="person", choice=best_of(task))
            ballot.vote(rater, vote, f"nonce-{task.id}")
    pairs = preferences(ballot)
    ballot.close()
    found = report(opened.stored.id, store=store)
    assert found.ranking is not None
    assert found.ranking.table[0].name == "right"
    assert all(rater.gold.value == 1 and rater.consistent.value == 1 for rater in found.raters)
    assert not [warning for rater in found.raters for warning in rater.warnings]
    assert len(pairs) == 2 * found.votes
    assert add_votes(compared, opened.stored.id, store=store).record.scores["people"]["right"].value == 1


def test_none_of_several_is_of_use(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(kind="best", raters=["a"], items=9), store=store)
    ballot = Ballot(store, opened.stored.id)
    rater = ballot.rater(opened.invitations[0].token)
    while task := ballot.next_task(rater):
        ballot.vote(rater, Vote(task=task.id, rater="a", origin="person", choice="none"), f"nonce-{task.id}")
    assert preferences(ballot) == []
    ballot.close()
    found = report(opened.stored.id, store=store)
    assert found.ranking is not None
    assert found.ranking.both_bad == found.ranking.votes == 3 * found.votes
    assert all(one.better is None for one in found.pairs)


# -- judge models ------------------------------------------------------------------------------------------


def judge(lean: str = "") -> tuple[list[Request], Complete]:
    """Make a judge that knows texts by their length: the right one is longest here, the wrong one is marked."""
    asked: list[Request] = []

    def complete(requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            asked.append(request)
            said = request.messages[0].content
            first, second = said.split("Answer 1:\n")[1].split("\n\nVerdict")[0].split("\n\nAnswer 2:\n")
            places = [0 if "No idea" in text else len(text) for text in (first, second)]
            verdict = lean or ("1" if places[0] > places[1] else "2")
            yield Completion(
                id=request.id, text=f"I weigh 1 and 2.\n**{verdict}**", prompt_tokens=9, completion_tokens=1,
                seconds=0.5, finish="stop",
            )  # fmt: skip

    return asked, complete


def by_people(opened: Opened, store: Store, noise: float) -> None:
    rng = random.Random(1)
    ballot = Ballot(store, opened.stored.id)
    for invitation in opened.invitations:
        rater = ballot.rater(invitation.token)
        while task := ballot.next_task(rater):
            better = STRENGTH.get(task.left, 0) > STRENGTH.get(task.right, 0)
            choice = "left" if better != (rng.random() < noise) else "right"
            vote = Vote(task=task.id, rater=rater.name, origin="person", choice=choice)
            ballot.vote(rater, vote, f"nonce-{task.id}")
    ballot.close()


def test_a_judge_model_counts_only_where_it_says_what_people_say(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["a", "b", "c", "d"], votes_per_item=4, items=40), store=store)
    asked, complete = judge()
    votes = ask_judge(opened.stored.id, "fake:judge", complete, store=store)
    assert len(asked) == 2 * votes
    assert ask_judge(opened.stored.id, "fake:judge", complete, store=store) == votes
    assert len(asked) == 2 * votes  # nothing was asked twice
    alone = report(opened.stored.id, store=store)
    assert not alone.judges[0].validated
    assert "30 are needed" in alone.judges[0].reason
    with pytest.raises(SizewiseError, match="no human votes"):
        add_votes(compared, opened.stored.id, store=store)

    by_people(opened, store, noise=0.02)
    found = report(opened.stored.id, store=store)
    (license,) = found.judges
    assert license.validated
    assert license.consistent.value == 1
    assert license.among_people.value is not None
    assert found.votes == alone.votes * 4  # the tables hold people's votes alone
    voted = add_votes(compared, opened.stored.id, store=store)
    assert voted.record.judge_validation == license
    assert any(note.endswith(")") and ": validated (" in note for note in voted.record.notes)
    chosen = choose(voted.id, store=store)
    assert chosen.record.quality == "people"
    by_judge = choose(voted.id, Needs(quality="judge_model"), store=store)
    assert by_judge.record.pick == "right"
    assert audit(by_judge.id, store=store, verify=True).sound


def test_a_judge_that_takes_the_first_is_unverified_and_enters_no_verdict(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["a", "b"], votes_per_item=2, items=40), store=store)
    by_people(opened, store, noise=0.0)
    ask_judge(opened.stored.id, "fake:first", judge(lean="1")[1], store=store)
    (license,) = report(opened.stored.id, store=store).judges
    assert not license.validated
    assert license.consistent.value == 0
    voted = add_votes(compared, opened.stored.id, store=store)
    assert any("not validated" in note for note in voted.record.notes)
    with pytest.raises(UsageError, match="isn't validated"):
        choose(voted.id, Needs(quality="judge_model"), store=store)
    assert choose(voted.id, store=store).record.quality == "people"


def test_a_judge_goes_on_to_further_examples_and_one_that_says_nothing_is_an_error(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["a"], items=3), store=store)
    complete = judge()[1]
    few = ask_judge(opened.stored.id, "fake:judge", complete, store=store)
    many = ask_judge(opened.stored.id, "fake:judge", complete, more=6, store=store)
    assert many == few + 6
    ballot = Ballot(store, opened.stored.id)
    used = [task.item for task in ballot.tasks.values() if task.purpose == "vote" and not task.replaces]
    assert len(used) == len(set(used))
    ballot.close()
    with pytest.raises(SizewiseError, match="no verdict"):
        ask_judge(opened.stored.id, "fake:mute", judge(lean="?")[1], store=store)


@pytest.mark.parametrize(
    ("text", "said"),
    [("1", "left"), ("Both are fine.\n\nVerdict: **2**.", "right"), ("TIE", "tie"), ("1\nboth bad", "both_bad"),
     ("", None), ("Answer 12 is best", None), ("the first", None), ("Answer 1 is better than answer 2.", None),
     ("1, because answer 2 leaves out the fee.", None), ("Verdict: 1 (not 2)", None), ("Answer 2", "right"),
     ("It is not a tie: 1", None), ("Not better: 1", None), ("1 or 2: 1", None),
     ("Answer 1 is worse.", None), ("Answer 1 is not the better one", None),
     ("The better answer is 1.", "left"), ("Score: 1.5", None), ("I give it 1/10", None), ("判决\uff1a2", "right"),
     ("Both are good, so it is a tie between 1 and 2", None), ('{"verdict": 1}', "left"), ("It's not a tie", None),
     ("Answer 2: 8/10", None), ("The worst answer: 1", None)],
)  # fmt: skip
def test_a_verdict_is_the_last_word(text: str, said: str | None) -> None:
    assert read_verdict(text) == said


@pytest.mark.parametrize(
    "text",
    ["Answer 2 misses the point.", "Answer 2 contains a mistake", "Answer 1 is unhelpful", "Confidence: 1", "Score: 2",
     "Step 1", "I would rank answer 2 last", "La réponse 2 est incomplète", "Antwort 2 ist unvollständig.", "Loser: 1",
     "Number of mistakes:\n1", "Answer 2:", "Verdict: -1", "Verdict: 1?", "Verdict: 1/2", "Verdict: 1 or 2",
     "Verdict: not 1", "Verdict: 1\nFinal verdict: neither 1 nor 2", "~~1~~", "1.5", "Answer 1 is better.",
     "First point:\n1\nis short, and so on"],
)  # fmt: skip
def test_a_sentence_about_an_answer_is_no_verdict(text: str) -> None:
    assert read_verdict(text) is None
    assert read_verdict(f"Both answers address the request.\n{text}") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [("Verdict (1, 2, tie, or both bad): 2", "right"), ("**Verdict (1, 2, tie, or both bad):** tie", "tie"),
     ("```\n2\n```", "right"), ("Verdict:\n```\nboth bad\n```", "both_bad"), ("## Verdict\n\n1", "left"),
     ("Verdict: 1\nFinal verdict: 2", "right"), ("Verdict: 1\n\nConfidence: 2", "left"), ("Winner: Answer 2", "right"),
     ("[[1]]", "left"), ("Urteil: 2", "right"), ('{"reason": "short", "verdict": "tie"}', "tie"),
     ("1\n\nAnswer 1 names the fee.", "left"), ("Answer 2 is wrong.\n1.", "left"), ("$\\boxed{2}$", None)],
)  # fmt: skip
def test_an_explicit_verdict_is_read(text: str, said: str | None) -> None:
    assert read_verdict(text) == said


def test_a_verdict_that_was_cut_off_is_none() -> None:
    def said(finish: str) -> Completion:
        return Completion(
            id="t", text="Verdict: 1", prompt_tokens=1, completion_tokens=2, seconds=0.0, finish=finish
        )  # fmt: skip

    assert _vote("t", "judge", said("stop"), said("stop").model_copy(update={"text": "Verdict: 2"})).choice == "left"
    assert _vote("t", "judge", said("stop"), said("length")).choice == "skip"


# -- other tools -------------------------------------------------------------------------------------------


def filled(form: Format, path: Path, ballot: Ballot) -> None:
    """Answer exported tasks as each tool writes it."""
    tasks = ballot.tasks
    if form in ("csv", "jsonl"):
        lines = path.read_text(encoding="utf-8")
        rows = (
            list(csv.DictReader(lines.splitlines(keepends=True)))
            if form == "csv"
            else map(json.loads, lines.splitlines())
        )
        votes = [
            {"task": row["task"], "rater": "Ada", "choice": pick(tasks[row["task"]]), "comment": "ok"} for row in rows
        ]
        if form == "csv":
            with path.open("w", encoding="utf-8", newline="") as out:
                writer = csv.DictWriter(out, list(votes[0]))
                writer.writeheader()
                writer.writerows(votes)
        else:
            path.write_text("".join(json.dumps(vote) + "\n" for vote in votes), encoding="utf-8")
    elif form == "label-studio":
        config = ElementTree.parse(path.with_suffix(".xml")).getroot()
        names = {one.get("value", "")[1:] for one in config.iter("Text")}
        exported = json.loads(path.read_text(encoding="utf-8"))
        assert all(names <= set(task["data"]) for task in exported)
        for number, task in enumerate(exported):
            value = {"choices": [pick(tasks[task["data"]["task"]])]}
            result = [
                {"from_name": "choice", "to_name": "prompt", "type": "choices", "value": value},
                {"from_name": "comment", "to_name": "prompt", "type": "textarea", "value": {"text": ["a", "b"]}},
            ]
            task["annotations"] = [
                {"completed_by": 7, "was_cancelled": False, "lead_time": 4.2, "result": result},
                {"completed_by": 8, "was_cancelled": True, "lead_time": 1.0, "result": []},
            ][: 1 + number % 2]
        path.write_text(json.dumps(exported), encoding="utf-8")
    else:
        records = json.loads(path.read_text(encoding="utf-8"))
        for record in records:
            record["responses"] = {"choice": [{"value": pick(tasks[record["id"]]), "user_id": "u-1"}]}
        path.write_text(json.dumps(records), encoding="utf-8")


def pick(task: JudgeTask) -> str:
    if task.purpose == "gold":
        return task.right_choice
    return "left" if STRENGTH.get(task.left, 0) > STRENGTH.get(task.right, 0) else "right"


@pytest.mark.parametrize("form", ["csv", "jsonl", "label-studio", "argilla"])
def test_tasks_go_out_blind_and_votes_come_back_once(form: Format, compared: str, store: Store, tmp_path: Path) -> None:
    opened = open_round([compared], RoundDesign(raters=["a"], items=12), store=store)
    ballot = Ballot(store, opened.stored.id)
    path = tmp_path / "tasks.json"
    name, task = next((name, task) for name, task in ballot.tasks.items() if task.purpose == "gold")
    ballot.tasks[name] = task.model_copy(update={"prompt": "=1+1"})
    for one in write_tasks(ballot, path, form):
        assert ("'=1+1" in one.read_text(encoding="utf-8")) == (form == "csv")  # no spreadsheet runs it
        assert "gold" not in one.read_text(encoding="utf-8")
        assert "recorded" not in one.read_text(encoding="utf-8")
    filled(form, path, ballot)
    taken = read_votes(ballot, path, form)
    before = ballot.votes()
    assert read_votes(ballot, path, form)[:2] == taken[:2]
    assert ballot.votes() == before
    ((name, count),) = taken.votes.items()
    assert taken.empty == 0
    assert len(ballot.votes()) == count
    ballot.close()
    found = report(opened.stored.id, store=store)
    assert found.origins == {"person": found.votes}
    assert found.ranking is not None
    assert found.ranking.table[0].name == "right"
    assert next(rater for rater in found.raters if rater.name == name).gold.value == 1
    assert add_votes(compared, opened.stored.id, store=store).record.scores["people"]["right"].value == 1


def test_empty_annotations_are_left_out_and_counted(compared: str, store: Store, tmp_path: Path) -> None:
    opened = open_round([compared], RoundDesign(raters=["a"], items=6), store=store)
    ballot = Ballot(store, opened.stored.id)
    names = list(ballot.tasks)[:4]
    chosen = [{"from_name": "choice", "to_name": "prompt", "type": "choices", "value": {"choices": ["left"]}}]
    results: list[Any] = [chosen, [], None, [{"from_name": "comment", "value": {"text": ["hm"]}}]]
    tasks = [
        {"data": {"task": name}, "annotations": [{"completed_by": 7, "result": result}]}
        for name, result in zip(names, results, strict=True)
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps([*tasks, {"data": {"task": names[0]}, "annotations": None}]), encoding="utf-8")
    assert read_votes(ballot, path, "label-studio")[:2] == ({"imported 7": 1}, 3)
    path.write_text(f"task,rater,choice\n{names[0]},Ada,\n{names[1]}, Ada , left \n", encoding="utf-8")
    assert read_votes(ballot, path, "csv")[:2] == ({"imported Ada": 1}, 1)
    path.write_text(f"task,rater\n{names[0]},Ada\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="it has no column choice, but task, rater"):
        read_votes(ballot, path, "csv")
    records = [{"id": names[0], "responses": None}, {"id": names[1], "responses": {"choice": None}}]
    path.write_text(json.dumps(records), encoding="utf-8")
    with pytest.raises(SizewiseError, match="it holds no votes"):
        read_votes(ballot, path, "argilla")
    # Drafts and discarded responses are no votes, and a vote without a rater isn't that of any other.
    states: list[dict[str, str]] = [{"status": "draft"}, {"status": "discarded"}, {"status": "submitted"}, {}]
    records = [
        {"id": name, "responses": {"choice": [{"value": "left", "user_id": "u"} | state]}}
        for name, state in zip(names, states, strict=True)
    ]
    path.write_text(json.dumps(records), encoding="utf-8")
    assert read_votes(ballot, path, "argilla").votes == {"imported u": 2}
    path.write_text(f"task,rater,choice\n{names[0]},Bo,left\n{names[1]},,left\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match=f"a vote on task '{names[1]}' names no rater"):
        read_votes(ballot, path, "csv")
    ballot.close()


def test_a_vote_that_is_taken_back_and_given_again_counts(compared: str, store: Store, tmp_path: Path) -> None:
    opened = open_round([compared], RoundDesign(raters=["a"], items=6), store=store)
    ballot = Ballot(store, opened.stored.id)
    one, other = list(ballot.tasks)[:2]
    path = tmp_path / "votes.csv"
    for choice in ("left", "right", "left"):
        path.write_text(f"task,rater,choice\n{one},Ada,{choice}\n", encoding="utf-8")
        read_votes(ballot, path, "csv")
        assert [vote.choice for vote in ballot.votes()] == [choice]
    path.write_text(f"task,rater,choice,harm\n{one},Ada,left,yes\n{other},Ada,right,\n", encoding="utf-8")
    read_votes(ballot, path, "csv")
    assert [(vote.choice, vote.harm) for vote in ballot.votes()] == [("left", True), ("right", False)]
    ballot.close()
    again = Ballot(store, opened.stored.id)
    assert set(again.raters["imported Ada"].tasks) == {one, other}
    again.close()


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("csv", "task,rater,choice\nt999,Ada,left\n", "no task 't999'"),
        ("csv", "task,rater,choice\nt0,Ada,maybe\n", "'maybe'"),
        ("csv", "item,winner\n1,left\n", "task"),
        ("jsonl", "{", "cannot be read"),
        ("label-studio", '[{"data": {"task": "t0"}}]', "annotations"),
        ("argilla", "{}{", "cannot be read"),
    ],
)
def test_a_file_of_another_form_leaves_the_round_as_it_was(
    form: Format, text: str, said: str, compared: str, store: Store, tmp_path: Path
) -> None:
    opened = open_round([compared], RoundDesign(raters=["a"], items=6), store=store)
    ballot = Ballot(store, opened.stored.id)
    path = tmp_path / "votes"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SizewiseError, match=said):
        read_votes(ballot, path, form)
    assert ballot.votes() == []
    assert list(ballot.raters) == ["a"]
    ballot.close()


def test_at_even_length_a_lean_to_the_longer_is_no_merit() -> None:
    rng = np.random.default_rng(0)
    longer = rng.normal(80, 100, 3_000)  # the left one is mostly longer
    share = (rng.random(3_000) < 1 / (1 + np.exp(-longer / 60))).astype(float)  # and only length counts
    assert share.mean() > 0.6
    found = length_controlled_rate(share, longer, np.arange(3_000))
    assert found.ci_low < 0.5 < found.ci_high
    better = (rng.random(3_000) < 0.7).astype(float)  # the left one is better, whatever its length
    found = length_controlled_rate(better, longer, np.arange(3_000))
    assert found.ci_low < 0.7 < found.ci_high


def test_soft_preferences_come_back_as_votes(compared: str, store: Store, tmp_path: Path) -> None:
    opened = open_round([compared], RoundDesign(raters=["a"], items=6), store=store)
    ballot = Ballot(store, opened.stored.id)
    tasks = [task for task in ballot.tasks.values() if task.purpose == "vote" and "right" in (task.left, task.right)]
    path = tmp_path / "votes.csv"
    rows = [f"{task.id},Ada,{0.8 if task.left == 'right' else 0.2}" for task in tasks]
    path.write_text("task,rater,preference\n" + "\n".join(rows) + "\n", encoding="utf-8")
    read_votes(ballot, path, "csv")
    assert {vote.choice for vote in ballot.votes()} <= {"left", "right"}
    path.write_text(f"task,rater,preference\n{tasks[0].id},Ada,1.2\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="less than or equal to 1"):
        read_votes(ballot, path, "csv")
    ballot.close()
    found = report(opened.stored.id, store=store)
    assert found.ranking is not None
    assert found.ranking.table[0].name == "right"
    assert found.ranking.table[0].win_rate.value == pytest.approx(0.8)
