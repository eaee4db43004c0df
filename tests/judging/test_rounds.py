"""Rounds of blind judging: who sees what, what is kept, and what it says."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sizewise.choice import choose
from sizewise.cli.main import app
from sizewise.comparison import add_votes, compare
from sizewise.datasets import load, read
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.judging import Ballot, Opened, RoundDesign, open_round, preferences, report, vote_rows
from sizewise.records import Dataset, JudgeRound, JudgeTask, Needs, Vote
from sizewise.store import Saved, Store
from sizewise.studies.audit import audit


def judge_all(opened: Opened, store: Store, strength: dict[str, float], noise: float = 0.0) -> None:
    """Let each rater prefer the stronger one, now and then the other."""
    rng = random.Random(0)
    ballot = Ballot(store, opened.stored.id)
    for invitation in opened.invitations:
        rater = ballot.rater(invitation.token)
        while task := ballot.next_task(rater):
            better = strength.get(task.left, 0.0) > strength.get(task.right, 0.0)
            if task.purpose == "gold":
                better = task.right_choice == "left"
            choice = "left" if better != (rng.random() < noise) else "right"
            vote = Vote(task=task.id, rater=rater.name, origin=rater.origin, choice=choice, seconds=4.0)
            ballot.vote(rater, vote, f"nonce-{rng.random()}")
    ballot.close()


def test_a_round_is_blind_balanced_and_shows_nobody_an_item_twice_but_in_repeats(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["a", "b", "c"], votes_per_item=2, items=24), store=store)
    record = opened.stored.record
    ballot = Ballot(store, opened.stored.id)
    sides: Counter[tuple[str, str]] = Counter()
    seen: Counter[str] = Counter()
    for rater in record.raters:
        tasks = [ballot.tasks[name] for name in rater.tasks]
        items = [task.item for task in tasks if task.purpose != "repeat"]
        assert len(items) == len(set(items))
        seen.update(task.id for task in tasks if task.purpose == "vote")
        for repeat in (task for task in tasks if task.purpose == "repeat"):
            first = ballot.tasks[repeat.repeats]
            assert (repeat.left, repeat.left_text) == (first.right, first.right_text)
            assert rater.tasks.index(repeat.id) > rater.tasks.index(first.id)
    assert set(seen.values()) == {2}
    for task in ballot.tasks.values():
        if task.purpose == "vote" and not task.replaces:
            sides[task.left, task.right] += 1
    pairs = {frozenset(pair) for pair in sides}
    assert len(pairs) == 3
    assert max(sides.values()) - min(sides.values()) <= 1
    shown = " ".join(task.left_text + task.right_text for task in ballot.tasks.values())
    assert 'No idea - "really"' in shown
    assert "**" not in shown
    body = opened.stored.path.read_text(encoding="utf-8")
    assert not [one for one in opened.invitations if one.token in body]
    ballot.close()


def test_the_votes_say_who_is_better_and_how_far_raters_can_be_trusted(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["a", "b"], votes_per_item=2, items=40), store=store)
    judge_all(opened, store, {"right": 2, "half": 1})
    found = report(opened.stored.id, store=store)
    assert found.open_tasks == 0
    assert found.ranking is not None
    assert [row.name for row in found.ranking.table] == ["right", "half", "wrong"]
    assert {(one.left, one.right): one.better for one in found.pairs} == {
        ("right", "half"): "right", ("right", "wrong"): "right", ("half", "wrong"): "half",
    }  # fmt: skip
    assert all(rater.gold.value == 1 and rater.consistent.value == 1 for rater in found.raters)
    assert found.agreement is not None
    assert found.agreement.scores["krippendorff_alpha"].value == 1
    ballot = Ballot(store, opened.stored.id)
    assert {row["winner"] for row in vote_rows(ballot)} == {"left", "right"}
    assert all(set(row) == {"prompt", "chosen", "rejected"} for row in preferences(ballot))
    ballot.close()


def test_a_rater_who_always_presses_left_is_named(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["lazy"], items=30), store=store)
    ballot = Ballot(store, opened.stored.id)
    rater = ballot.rater(opened.invitations[0].token)
    while task := ballot.next_task(rater):
        ballot.vote(rater, Vote(task=task.id, rater="lazy", origin="person", choice="left"), f"nonce{task.id}")
    ballot.close()
    (found,) = report(opened.stored.id, store=store).raters
    assert any("left side" in warning for warning in found.warnings)
    assert found.consistent.value == 0


def test_replays_forgeries_other_tasks_and_late_votes_change_nothing(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["a", "b"]), store=store)
    ballot = Ballot(store, opened.stored.id)
    a, b = (ballot.rater(one.token) for one in opened.invitations)
    first = ballot.next_task(a)
    assert first is not None
    vote = Vote(task=first.id, rater="a", origin="person", choice="left")
    for _ in range(3):
        ballot.vote(a, vote, "nonce-1234")
    ballot.vote(a, vote.model_copy(update={"choice": "tie"}), "nonce-5678")
    ballot.vote(a, vote, "nonce-1234")  # an old one arrives once more
    assert [one.choice for one in ballot.votes()] == ["tie"]
    others = next(name for name in b.tasks if name not in a.tasks)
    with pytest.raises(SizewiseError, match="isn't assigned to you"):
        ballot.vote(a, Vote(task=others, rater="a", origin="person", choice="left"), "nonce-9999")
    with pytest.raises(SizewiseError, match="isn't assigned to you"):
        ballot.vote(a, vote.model_copy(update={"rater": "b"}), "nonce-9998")
    with pytest.raises(SizewiseError, match="isn't a choice"):
        ballot.vote(a, vote.model_copy(update={"choice": "person"}), "nonce-9997")
    with pytest.raises(SizewiseError, match="isn't valid"):
        ballot.rater("x" * 24)
    ballot.undo(a, "undo-1234")
    ballot.undo(a, "undo-1234")
    assert ballot.votes() == []
    assert ballot.next_task(a) == first
    ballot.vote(a, vote, "nonce-4321")
    ballot.close_votes()
    with pytest.raises(SizewiseError, match="closed"):
        ballot.vote(a, vote, "nonce-0000")
    ballot.close()
    again = Ballot(store, opened.stored.id)  # after a kill
    assert [one.choice for one in again.votes()] == ["left"]
    assert again.closed
    again.close()


def test_an_expired_link_is_refused(compared: str, store: Store) -> None:
    opened = open_round([compared], store=store)
    body = json.loads(opened.stored.path.read_text(encoding="utf-8"))
    body["record"]["expires"] = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    opened.stored.path.write_text(json.dumps(body), encoding="utf-8")
    ballot = Ballot(store, opened.stored.id)
    with pytest.raises(SizewiseError, match="expired"):
        ballot.rater(opened.invitations[0].token)
    ballot.close()


@pytest.mark.parametrize("kind", ["rating", "origin"])
def test_ratings_and_who_wrote_it(kind: str, compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(kind=kind, raters=["a"], items=40), store=store)  # type: ignore[arg-type]
    ballot = Ballot(store, opened.stored.id)
    rater = ballot.rater(opened.invitations[0].token)
    while task := ballot.next_task(rater):
        assert not task.right_text
        good = task.left in ("right", "reference")
        vote = (
            Vote(
                task=task.id,
                rater="a",
                origin="person",
                choice="rated",
                ratings={"correctness": 5 if good else 2},
                harm=not good,
            )
            if kind == "rating"
            else Vote(task=task.id, rater="a", origin="person", choice="person" if good else "model")
        )
        ballot.vote(rater, vote, f"nonce{task.id}")
    ballot.close()
    found = report(opened.stored.id, store=store)
    if kind == "rating":
        assert found.scores["correctness"]["right"].value == 5
        assert found.scores["harm"]["wrong"].value == 1
        bound = found.scores["harm"]["right"]
        assert bound.value == 0
        assert bound.ci_high is not None
        assert bound.ci_high > 0
    else:
        assert found.scores["taken_for_a_person"]["wrong"].value == 0
        assert found.scores["told_apart"]["all"].n == found.votes
    assert found.ranking is None
    with pytest.raises(ValueError, match="1 to 5"):
        Vote(task="t", rater="a", origin="person", choice="rated", ratings={"correctness": 6})


def test_votes_enter_the_verdict_and_are_computed_again_by_an_audit(compared: str, store: Store) -> None:
    # By BLEU the right one leads; these people prefer the half ones, whatever BLEU says.
    opened = open_round([compared], RoundDesign(raters=["a", "b"], votes_per_item=2), store=store)
    judge_all(opened, store, {"half": 2, "right": 1})
    voted = add_votes(compared, opened.stored.id, store=store)
    assert voted.record.scores["people"]["half"].value == 1
    before, after = choose(compared, store=store).record, choose(voted.id, store=store)
    assert before.pick == "right" or before.outcome == "inconclusive"
    assert after.record.quality == "people"
    assert after.record.pick == "half"
    assert "human preference" in after.record.summary
    assert choose(voted.id, Needs(quality="bleu"), store=store).record.quality == "bleu"
    found = audit(after.id, store=store, verify=True)
    assert found.sound
    assert found.people["person"] > 10
    path = store.folder("comparison", voted.id) / "votes.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"left"', '"right"', 6), encoding="utf-8")
    assert not audit(after.id, store=store, verify=True).sound


def test_a_few_votes_of_one_rater_prefer_nobody_and_leave_the_metric_in_place(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["a"], items=9), store=store)
    judge_all(opened, store, {"half": 2, "right": 1})
    found = report(opened.stored.id, store=store)
    assert [one.better for one in found.pairs] == [None] * 3
    assert not any(one.decided for one in found.pairs)
    voted = add_votes(compared, opened.stored.id, store=store)
    assert voted.record.voters == 1
    chosen = choose(voted.id, store=store).record
    before = choose(compared, store=store).record
    assert (chosen.quality, chosen.pick) == (before.quality, before.pick)
    assert any("there aren't enough human votes yet" in line for line in chosen.reasons)


def test_an_open_round_is_judged_only_by_the_test_that_may_be_looked_at(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["a", "b"], votes_per_item=2, items=40), store=store)
    judge_all(opened, store, {"right": 2, "half": 1})
    assert all(one.p is None for one in report(opened.stored.id, store=store).pairs)
    open_ones = add_votes(compared, opened.stored.id, store=store).record
    people = [one for one in open_ones.differences if one.metric == "people"]
    assert people
    ballot = Ballot(store, opened.stored.id)
    ballot.close_votes()
    ballot.close()
    closed = report(opened.stored.id, store=store)
    assert all(one.p is not None for one in closed.pairs)
    by_pair = {(one.left, one.right): one.p_anytime for one in closed.pairs}
    assert all(one.p == by_pair[one.left, one.right] for one in people)
    assert not open_ones.votes_closed
    assert add_votes(compared, opened.stored.id, store=store).record.votes_closed


def test_simulated_votes_enter_no_verdict_but_that_of_a_simulation(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["robot"], origin="simulated"), store=store)
    judge_all(opened, store, {"half": 1})
    with pytest.raises(SizewiseError, match="no human votes"):
        add_votes(compared, opened.stored.id, store=store)
    marked = add_votes(compared, opened.stored.id, store=store, simulation=True).record
    assert marked.simulated_votes
    assert any("simulated votes (not from people)" in note for note in marked.notes)
    assert any("affect no verdict" in note for note in report(opened.stored.id, store=store).notes)


def test_what_cannot_be_a_round_is_refused(compared: str, store: Store, dataset: Saved[Dataset]) -> None:
    with pytest.raises(UsageError, match="needs 2 raters"):
        open_round([compared], RoundDesign(raters=["a"], votes_per_item=2), store=store)
    with pytest.raises(UsageError, match="must be different"):
        open_round([compared], RoundDesign(raters=["a", "a"]), store=store)
    with pytest.raises(UsageError, match="can't be judged"):
        open_round([dataset.id], store=store)
    one = evaluate("fake:echo", dataset.id, ["bleu"], store=store).id
    with pytest.raises(UsageError, match="only one candidate"):
        open_round([one], store=store)
    texts = evaluate("fake:silent", dataset.id, ["bits_per_byte"], store=store).id
    with pytest.raises(SizewiseError, match=r"Only fake:echo has answers.*fake:silent: its evaluation contains no"):
        open_round([texts, one], store=store)
    assert isinstance(
        store.read(JudgeRound, open_round([one], RoundDesign(kind="rating"), store=store).stored.id), JudgeRound
    )
    assert JudgeTask.model_fields["purpose"].default == "vote"


def set_side_by_side(said: dict[str, Callable[[int, str], str]], data: str, store: Store, folder: Path) -> str:
    """Compare recorded candidates; each says what its function makes of an example's place and right answer."""
    examples = load(store, data).examples["test"]
    ids = {}
    for name, answer in said.items():
        rows = [{"id": e.id, "completion": answer(i, e.references[0])} for i, e in enumerate(examples)]
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ids[name] = evaluate(f"recorded:{path}", data, ["chrf"], store=store).id
    return compare(ids, store=store).id


@pytest.mark.parametrize("kind", ["pair", "best", "rating", "origin"])
def test_a_candidate_that_never_answered_is_left_out_by_name(
    kind: Any, dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    said: dict[str, Callable[[int, str], str]] = {
        "silent": lambda i, _: ("", " \n", "\u200b", "```")[i % 4],
        "right": lambda _, text: text,
        "half": lambda i, text: text[: len(text) // 2] if i % 5 else "",
    }
    compared = set_side_by_side(said, dataset.id, store, tmp_path)
    opened = open_round([compared], RoundDesign(raters=["a"], kind=kind, items=500), store=store)
    record = opened.stored.record
    assert list(record.evaluations) == ["right", "half"]
    (why,) = record.left_out.values()
    assert re.fullmatch(r"none of its \d+ answers has text", why)
    ballot = Ballot(store, opened.stored.id)
    asked = [name for task in ballot.tasks.values() if task.purpose == "vote" for name, _ in task.answers]
    assert set(asked) == {"right", "half"} | ({"reference"} if kind == "origin" else set())
    assert all(text for task in ballot.tasks.values() for _, text in task.answers)
    ballot.close()
    done = CliRunner().invoke(app, ["judge", "open", compared, "--no-serve", "--kind", kind])
    assert done.exit_code == 0, done.output
    assert f"Left out of the round: silent, {why}." in " ".join(done.output.split())


def test_guidelines_come_from_a_text_file(compared: str, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "guide.md"
    path.write_text("\ufeff# Rules\n", encoding="utf-8")
    run = CliRunner().invoke
    done = run(app, ["judge", "open", compared, "--no-serve", "--json", "--adaptive", "--guidelines", str(path)])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)["record"]
    assert (record["guidelines"], record["adaptive"]) == ("# Rules", True)
    unusable = {b" \n": "is empty", b"\xff\xfe\xfa": "isn't UTF-8 text", b"x" * 20_001: "20,001 characters"}
    for body, why in unusable.items():
        path.write_bytes(body)
        failed = run(app, ["judge", "open", compared, "--no-serve", "--guidelines", str(path)])
        assert isinstance(failed.exception, UsageError)
        assert why in str(failed.exception)


def test_votes_without_the_silent_candidate_enter_the_verdict(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    said: dict[str, Callable[[int, str], str]] = {
        "right": lambda _, text: text,
        "silent": lambda _i, _text: "",
        "half": lambda _, text: text[: len(text) // 2],
    }
    compared = set_side_by_side(said, dataset.id, store, tmp_path)
    opened = open_round([compared], RoundDesign(raters=["a"]), store=store)
    judge_all(opened, store, {"half": 2, "right": 1})
    voted = add_votes(compared, opened.stored.id, store=store)
    assert set(voted.record.scores["people"]) == {"right", "half"}
    assert choose(voted.id, store=store).record.pick != "silent"


def test_one_candidate_that_seldom_answers_does_not_take_the_others_examples(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    said: dict[str, Callable[[int, str], str]] = {
        "right": lambda _, text: text,
        "half": lambda _, text: text[: len(text) // 2],
        "seldom": lambda i, text: text[::-1] if i == 1 else "",
    }
    compared = set_side_by_side(said, dataset.id, store, tmp_path)
    opened = open_round([compared], RoundDesign(raters=["a"], items=500), store=store)
    assert opened.stored.record.items > 5
    assert not opened.stored.record.left_out


def test_no_two_answers_left_is_an_error_that_names_who_and_why(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    said: dict[str, Callable[[int, str], str]] = {"mute": lambda _i, _t: "", "right": lambda _, text: text}
    compared = set_side_by_side(said, dataset.id, store, tmp_path)
    with pytest.raises(
        SizewiseError, match=r"Only right has answers to judge\. mute: none of its \d+ answers"
    ) as found:
        open_round([compared], store=store)
    assert found.value.next_step == f"sizewise judge open {compared} --kind rating"
    said = {"mute": lambda _i, _t: "", "dumb": lambda _i, _t: " "}
    compared = set_side_by_side(said, dataset.id, store, tmp_path)
    with pytest.raises(SizewiseError, match=r"No candidate has answers to judge\. mute: .* dumb: "):
        open_round([compared], RoundDesign(kind="rating"), store=store)


def test_the_same_text_twice_is_counted_and_not_asked(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> None:
    said: dict[str, Callable[[int, str], str]] = {
        "one": lambda i, text: text if i % 2 else "**yes**",
        "other": lambda i, text: f"{text} indeed" if i % 2 else "yes",
    }
    compared = set_side_by_side(said, dataset.id, store, tmp_path)
    opened = open_round([compared], RoundDesign(items=500), store=store)
    ballot = Ballot(store, opened.stored.id)
    votes = [task for task in ballot.tasks.values() if task.purpose == "vote"]
    ballot.close()
    assert votes
    assert all(task.left_text != task.right_text for task in votes)
    ((left, right, count),) = opened.stored.record.same
    assert {left, right} == {"one", "other"}
    assert count > 3
    assert opened.stored.record.items == len(votes)
    same = set_side_by_side({"a": lambda _i, _t: "yes", "b": lambda _i, _t: "yes"}, dataset.id, store, tmp_path)
    with pytest.raises(SizewiseError, match="nothing to compare: a, b gave the same answers"):
        open_round([same], store=store)


@pytest.mark.parametrize("kind", ["pair", "best"])
def test_the_wrong_side_of_a_known_case_is_never_right_too(
    kind: Any, dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    rows = [
        {
            "id": f"q{i}",
            "prompt": f"Is number {i} even, and why not {i * 7}?",
            "references": [("yes", "Yes.", "no")[i % 3]],
        }
        for i in range(90)
    ]
    rows = [row | {"split": "test" if i else "train"} for i, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    labels = read([tmp_path / "rows.jsonl"], store=store)
    said: dict[str, Callable[[int, str], str]] = {
        "a": lambda i, _: f"yes {i}",
        "b": lambda i, _: f"no {i}",
    }
    opened = open_round(
        [set_side_by_side(said, labels.id, store, tmp_path)], RoundDesign(kind=kind, items=60), store=store
    )
    ballot = Ballot(store, opened.stored.id)
    gold = [task for task in ballot.tasks.values() if task.purpose == "gold"]
    ballot.close()
    assert gold
    for task in gold:
        words = [text.strip(".").lower() for _, text in task.answers]
        assert len(set(words)) == len(words)


def test_what_votes_say_about_other_raters_takes_several(compared: str, store: Store) -> None:
    alone = open_round([compared], RoundDesign(raters=["a"], items=40), store=store)
    judge_all(alone, store, {"right": 2, "half": 1})
    found = report(alone.stored.id, store=store)
    assert any("only one rater: nothing is known about other raters" in note for note in found.notes)
    assert all("raters x" not in pair.win_rate.signature for pair in found.pairs)
    three = open_round([compared], RoundDesign(raters=["a", "b", "c"], votes_per_item=3, items=40), store=store)
    judge_all(three, store, {"right": 2, "half": 1}, noise=0.1)
    found = report(three.stored.id, store=store)
    assert not any("other raters" in note for note in found.notes)
    for pair in found.pairs:
        assert pair.win_rate.signature == "ties:half|wilson|raters x documents, anytime-valid"
        assert (pair.p_anytime < 0.05) == (not (pair.win_rate.ci_low or 0) <= 0.5 <= (pair.win_rate.ci_high or 1))
    ballot = Ballot(store, three.stored.id)
    ballot.close_votes()
    ballot.close()
    closed = report(three.stored.id, store=store)
    for pair, before in zip(closed.pairs, found.pairs, strict=True):
        assert pair.p is not None
        assert (pair.p < 0.05) == (not (pair.win_rate.ci_low or 0) <= 0.5 <= (pair.win_rate.ci_high or 1))
        assert (before.win_rate.ci_low or 0) < (pair.win_rate.ci_low or 0)  # an open round promises less


def test_too_few_documents_have_no_interval(compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(kind="rating", raters=["a", "b"], items=6), store=store)
    ballot = Ballot(store, opened.stored.id)
    for invitation in opened.invitations:
        rater = ballot.rater(invitation.token)
        while task := ballot.next_task(rater):
            ballot.vote(
                rater, Vote(task=task.id, rater=rater.name, origin="person", choice="rated", ratings={"tone": 5}),
                f"nonce-{task.id}-{rater.name}",
            )  # fmt: skip
    ballot.close()
    for score in report(opened.stored.id, store=store).scores["tone"].values():
        assert (score.value, score.ci_low, score.ci_high) == (5, None, None)
