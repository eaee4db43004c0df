"""Which of two texts is ours: balance, gold, and figures that enter no verdict."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sizewise.comparison.voting import rounds_of
from sizewise.datasets import read
from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.judging import Ballot, Opened, RoundDesign, open_round, preferences, report, vote_rows
from sizewise.records import Vote
from sizewise.store import Store


@pytest.fixture
def opened(compared: str, store: Store) -> Opened:
    return open_round([compared], RoundDesign(kind="ours", raters=["Ada"], items=30), store=store)


def test_our_text_stands_on_each_side_equally_often(opened: Opened, store: Store) -> None:
    ballot = Ballot(store, opened.stored.id)
    votes = [task for task in ballot.tasks.values() if task.purpose == "vote"]
    assert all("reference" in (task.left, task.right) and task.left != task.right for task in votes)
    assert {task.passage for task in votes} == {""}
    others = Counter(name for task in votes for name in (task.left, task.right) if name != "reference")
    # "right" repeats our text word for word, which can't be told from ours and isn't asked
    assert others == {"half": 15, "wrong": 15}
    lefts = Counter(task.left == "reference" for task in votes)
    assert abs(lefts[True] - lefts[False]) <= 2
    golds = [task for task in ballot.tasks.values() if task.purpose == "gold"]
    assert golds
    for task in golds:
        (_, ours), (_, shuffled) = sorted(task.answers, key=lambda answer: answer[0] != "reference")
        assert sorted(ours.split()) == sorted(shuffled.split())
        assert ours != shuffled
        assert task.winner(task.right_choice) == "reference"
    ballot.close()


def test_shares_are_told_for_each_candidate_and_nothing_else(opened: Opened, compared: str, store: Store) -> None:
    ballot = Ballot(store, opened.stored.id)
    rater = ballot.rater(opened.invitations[0].token)
    while task := ballot.next_task(rater):
        names = (task.left, task.right)
        side = names.index("half") if "half" in names else names.index("reference")
        vote = Vote(task=task.id, rater=rater.name, origin="person", choice=("left", "right")[side])
        ballot.vote(rater, vote, f"nonce-{task.id}")
    assert preferences(ballot) == []
    assert vote_rows(ballot) == []
    ballot.close()
    found = report(opened.stored.id, store=store)
    taken = found.scores["taken_for_ours"]
    assert {name: score.value for name, score in taken.items()} == {"half": 1.0, "wrong": 0.0}
    assert taken["half"].ci_low is not None
    assert taken["half"].ci_low > 0.4  # the round is open
    assert found.scores["recognized_ours"]["all"].value == 0.5
    assert (found.pairs, found.ranking) == ((), None)
    assert rounds_of(compared, store) == []


def test_texts_without_ours_are_refused(store: Store, tmp_path: Path) -> None:
    rows = [{"id": f"q{number}", "prompt": f"What is item {number}?", "source": f"d{number}"} for number in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = read([tmp_path / "rows.jsonl"], store=store, name="none", all_test=True)
    found = evaluate("fake:echo", data.id, ["answer_words"], store=store)
    with pytest.raises(SizewiseError, match="No example has a text of ours"):
        open_round([found.id], RoundDesign(kind="ours", raters=["Ada"]), store=store)
