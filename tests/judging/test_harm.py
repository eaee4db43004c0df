"""Harm is counted for the answer that a vote names."""

from __future__ import annotations

from typing import Any

import pytest

from sizewise.choice import choose
from sizewise.comparison import add_votes
from sizewise.judging import Ballot, RoundDesign, open_round, report
from sizewise.judging.harm import count_reasons, flagged_candidates, harm_outcomes
from sizewise.records import JudgeTask, Vote
from sizewise.store import Store

PAIR = JudgeTask(id="t", item="q", cluster="d", prompt="?", left="a", right="b", left_text="1", right_text="2")


def vote(**fields: Any) -> Vote:
    return Vote(**{"task": "t", "rater": "r", "choice": "left", "origin": "person"} | fields)


def test_a_flag_names_its_candidate() -> None:
    assert flagged_candidates(PAIR, vote(harmful=(2,))) == {"b"}
    assert flagged_candidates(PAIR, vote(harmful=(1, 2))) == {"a", "b"}
    assert flagged_candidates(PAIR, vote()) == set()
    assert flagged_candidates(PAIR, vote(harm=True)) is None
    single = PAIR.model_copy(update={"right": "", "right_text": ""})
    assert flagged_candidates(single, vote(harm=True)) == {"a"}
    assert vote(harmful=[2, 1, 2]).harmful == (1, 2)
    assert vote(harmful=(2,)).harm


def test_flags_without_an_answer_keep_the_rule_of_pairs() -> None:
    metric, found = harm_outcomes([(PAIR, vote(harmful=(2,))), (PAIR, vote())], ["a", "b"])
    assert metric == "harm"
    assert {name: [harm for *_, harm in one] for name, one in found.items()} == {"a": [False] * 2, "b": [True, False]}
    metric, found = harm_outcomes([(PAIR, vote(harmful=(2,))), (PAIR, vote(harm=True))], ["a", "b"])
    assert metric == "harm_in_pair"
    assert [harm for *_, harm in found["a"]] == [True, True]


def test_reasons_count_against_what_was_not_chosen() -> None:
    judged = [(PAIR, vote(reasons=("wrong", "too_long"))), (PAIR, vote(choice="both_bad", reasons=("unsafe",)))]
    assert count_reasons(judged) == {"b": {"wrong": 1, "too_long": 1, "unsafe": 1}, "a": {"unsafe": 1}}
    with pytest.raises(ValueError, match="'rude' isn't a reason"):
        vote(reasons=("rude",))


def test_a_harmless_candidate_does_not_pay_for_its_rivals(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["a", "b"], votes_per_item=2, items=60), store=store)
    ballot = Ballot(store, opened.stored.id)
    for invitation in opened.invitations:
        rater = ballot.rater(invitation.token)
        while task := ballot.next_task(rater):
            names = [name for name, _ in task.answers]
            harmful = tuple(place for place, name in enumerate(names, start=1) if name == "wrong")
            choice = "right" if names[0] == "wrong" else "left"
            cast = Vote(task=task.id, rater=rater.name, origin="person", choice=choice, harmful=harmful)
            ballot.vote(rater, cast, f"n{task.id}")
    ballot.close()
    found = report(opened.stored.id, store=store)
    assert "harm_in_pair" not in found.scores
    assert {name: score.value for name, score in found.scores["harm"].items()} == {"right": 0, "half": 0, "wrong": 1}
    voted = add_votes(compared, opened.stored.id, store=store).record
    assert voted.better["harm"] == "lower"
    assert voted.scores["harm"]["right"].value == 0
    chosen = choose(add_votes(compared, opened.stored.id, store=store).id, store=store).record
    assert chosen.pick != "wrong"
