"""A study keeps its time: what it measures first, what it leaves out and names, and how it goes on with more time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sizewise.errors import SizewiseError
from sizewise.progress import Silent, pulse
from sizewise.records import Candidate, ClassifierRecipe, Comparison, Evaluation, Study
from sizewise.store import Store
from sizewise.studies import read_config, study
from sizewise.studies.budget import GRID, Budget, StepEndedError, StepReporter, training_minutes
from sizewise.studies.measuring import is_larger
from sizewise.studies.progress import StudyProgress
from sizewise.studies.studying import study_all
from sizewise.studies.waves import affordable_size, wave_sizes

FILE = """
[study]
name = "Capitals"

[data]
examples = "examples.jsonl"
split = "questions"
metrics = ["exact_match", "token_f1"]

[[candidates]]
name = "good"
model = "recorded:good.jsonl"

[[candidates]]
name = "bad"
model = "recorded:bad.jsonl"
"""


@dataclass
class Machine:
    """A machine on which an item takes a fixed time of a clock that the test moves."""

    item_s: float
    now: float = 0.0
    asked: list[tuple[str, int]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def progress(self) -> StudyProgress:
        return StudyProgress(clock=self.clock, processor=self.clock)


@pytest.fixture
def capitals(tmp_path: Path) -> Path:
    """Write 600 questions, each a document of its own, and the answers of a good and a bad model."""

    rows = [
        {"id": f"q{i}", "prompt": f"Question {i}: what is {i} in words?", "reference": f"word{i}"} for i in range(600)
    ]
    with (tmp_path / "examples.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row | {"source": row["id"]}) + "\n" for row in rows)
    for name, right in (("good", 9), ("bad", 1)):
        with (tmp_path / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for i, row in enumerate(rows):
                text = row["reference"] if i % 10 < right else "no idea"
                file.write(json.dumps({"prompt": row["prompt"], "completion": text}) + "\n")
    path = tmp_path / "study.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Machine]:
    """Return a machine on which an evaluation takes time for each item that wasn't asked before."""
    import sizewise.studies.steps as steps
    from sizewise.studies.measuring import evaluate_candidate

    def make(item_s: float) -> Machine:
        made = Machine(item_s)
        known: dict[str, int] = {}

        def evaluated(uri: str, data: str, metrics: Any, limit: int | None, options: Any, **rest: Any) -> str:
            for _ in range(known.get(uri, 0), limit or 180):
                made.now += made.item_s
                pulse()
            known[uri] = limit or 180
            made.asked.append((uri, known[uri]))
            return evaluate_candidate(uri, data, metrics, limit, options, **rest)

        monkeypatch.setattr(steps, "evaluate_candidate", evaluated)
        monkeypatch.setattr(steps, "ANSWERED_SHARE", 1.0)  # recorded answers stand for a model that takes its time
        return made

    return make


def measured(record: Study, store: Store, name: str) -> int:
    return store.read(Evaluation, record.evaluations[name]).items


def test_without_a_budget_everything_is_asked(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    record = study(read_config(capitals), store=store, reporter=machine(100.0).progress()).record
    assert record.minutes is None
    assert record.unfinished == ()
    assert len({measured(record, store, name) for name in record.evaluations}) == 1


def test_a_short_budget_asks_fewer_items_and_names_the_rest_with_its_price(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    slow = machine(0.5)
    record = study(read_config(capitals), minutes=2, store=store, reporter=slow.progress()).record
    assert slow.now <= 120
    assert record.minutes == 2
    items = [measured(record, store, name) for name in record.evaluations]
    assert 24 <= min(items) < 120
    (rest,) = [absent for absent in record.unfinished if "test items" in absent.what]
    assert rest.minutes is not None
    assert rest.minutes > 0.2
    assert "--minutes" in rest.command


def test_more_time_goes_on_where_less_time_ended(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    slow = machine(0.5)
    config = read_config(capitals)
    first = study(config, minutes=2, store=store, reporter=slow.progress())
    spent, slow.now = slow.now, 0.0
    second = study(config, minutes=60, store=store, reporter=slow.progress())
    assert second.id == f"{first.id}.2"
    assert second.record.unfinished == ()
    everything = machine(0.5)
    assert slow.now < 0.9 * (everything.now or 0.5 * 4 * 180 + spent)
    assert measured(second.record, store, "good") > measured(first.record, store, "good")
    assert second.record.pick == "good"
    assert first.path.read_bytes()


def test_a_candidate_that_cannot_win_gets_no_more_items(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    record = study(read_config(capitals), minutes=3, store=store, reporter=machine(0.4).progress()).record
    assert "bad" in record.stopped
    assert not any(one.what == "load test of bad" for one in record.unfinished)
    assert measured(record, store, "bad") < measured(record, store, "good")
    compared = store.read(Comparison, record.comparison)
    assert "bad" in compared.partial
    (pair,) = [d for d in compared.differences if d.metric == "exact_match" and {d.left, d.right} == {"good", "bad"}]
    assert pair.better == "good"


def test_equal_candidates_are_not_stopped(capitals: Path, store: Store, machine: Callable[[float], Machine]) -> None:
    text = FILE.replace("bad.jsonl", "good.jsonl#other")
    capitals.write_text(text, encoding="utf-8")
    record = study(read_config(capitals), minutes=3, store=store, reporter=machine(0.4).progress()).record
    assert record.stopped == {}
    assert not record.decisive


def test_a_machine_that_becomes_slower_still_ends_in_time(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    slow = machine(0.2)
    progress = slow.progress()
    progress.subscribe(lambda kind, text: setattr(slow, "item_s", 0.8) if kind == "verdict" else None)
    record = study(read_config(capitals), minutes=2, store=store, reporter=progress).record
    assert slow.now <= 132
    assert record.evaluations.keys() >= {"good", "bad"}


def test_ten_seconds_end_in_a_clear_error_or_a_verdict(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    with pytest.raises(SizewiseError, match="before a candidate was measured") as error:
        study(read_config(capitals), minutes=1 / 6, store=store, reporter=machine(5.0).progress())
    assert "--minutes" in error.value.next_step
    assert study(read_config(capitals), minutes=1 / 6, store=store, reporter=machine(0.001).progress()).record.outcome


def test_a_failing_candidate_is_named_and_the_others_go_on(capitals: Path, store: Store) -> None:
    (capitals.parent / "unusable.jsonl").write_text("no answers\n", encoding="utf-8")
    capitals.write_text(FILE.replace("bad.jsonl", "unusable.jsonl"), encoding="utf-8")
    record = study(read_config(capitals), store=store).record
    assert "bad" not in record.evaluations
    assert any("bad" in absent.what and "unusable.jsonl" in absent.what for absent in record.not_measured)
    assert record.pick in ("good", None)


def test_a_stop_ends_with_the_verdict_so_far(capitals: Path, store: Store, machine: Callable[[float], Machine]) -> None:
    slow = machine(0.9)
    progress = slow.progress()
    progress.subscribe(lambda kind, text: progress.request_stop() if kind == "verdict" else None)
    record = study(read_config(capitals), minutes=10, store=store, reporter=progress).record
    assert {measured(record, store, name) for name in record.evaluations} == {24}
    assert record.unfinished


def test_items_that_cost_little_are_all_asked_before_slower_candidates_start(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    quick = machine(0.01)
    study(read_config(capitals), minutes=2, store=store, reporter=quick.progress())
    asked = [limit for uri, limit in quick.asked if uri.startswith("recorded:")]
    assert asked[:4] == [24, 180, 24, 180]


def test_several_studies_share_a_budget(capitals: Path, store: Store, machine: Callable[[float], Machine]) -> None:
    slow = machine(0.2)
    one = read_config(capitals).model_copy(update={"minutes": 1.0})
    two = one.model_copy(update={"name": "Again", "seed": 1, "minutes": 3.0})
    done = study_all([one, two], minutes=2, store=store, reporter=slow.progress())
    assert len(done) == 2
    assert slow.now <= 132
    assert done[0].record.minutes == pytest.approx(0.5)


def test_steps_end_between_two_pieces_of_work() -> None:
    now = [0.0]
    progress = StudyProgress(clock=lambda: now[0], processor=lambda: now[0])
    step = StepReporter(progress, 10)
    step.advance("work", 1, 10)
    now[0] = 11.0
    step.advance("work", 10, 10)  # what is done is done
    with pytest.raises(StepEndedError, match="ran out of time at 20%"):
        step.advance("work", 2, 10)
    with pytest.raises(StepEndedError):
        step.check()
    assert Budget(None, progress).left_s == float("inf")


def test_training_time_lies_on_a_grid_and_small_parts_go_to_others() -> None:
    assert training_minutes(600, [1.0], [None]) == [10]
    assert training_minutes(600, [4.0, 1.0], [None, None]) == [8, 2]
    assert training_minutes(60, [4.0, 0.1], [None, None]) == [1, None]
    assert training_minutes(20, [1.0], [None]) == [None]
    assert training_minutes(200, [1.0], [3.0]) == [3.0]  # trained before, for nearly as long
    assert training_minutes(600, [1.0], [3.0]) == [10]
    assert all(a < b for a, b in pairwise(GRID))


def test_waves_grow_and_end_with_all_items() -> None:
    assert wave_sizes(10) == [10]
    assert wave_sizes(300) == [24, 72, 216, 300]
    assert wave_sizes(100_000)[-1] == 100_000
    assert len(wave_sizes(100_000)) == 5
    assert affordable_size(216, 72, 1e9, 1.0) == 216
    assert affordable_size(216, 72, 60.0, 1.0) == 128
    assert affordable_size(216, 72, 5.0, 1.0) == 72


def rewrite(path: Path, name: str, keep: Callable[[int], bool], right: Callable[[int], bool]) -> None:
    """Write recorded answers to some of the questions only."""
    rows = [json.loads(line) for line in (path.parent / "examples.jsonl").read_text(encoding="utf-8").splitlines()]
    with (path.parent / name).open("w", encoding="utf-8") as file:
        for i, row in enumerate(rows):
            if keep(i):
                text = row["reference"] if right(i) else "no idea"
                file.write(json.dumps({"prompt": row["prompt"], "completion": text}) + "\n")


def test_a_partial_candidate_that_left_items_unanswered_does_not_win(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    """It answered only what it knew, and had no time for the rest of the items."""
    rewrite(capitals, "bad.jsonl", keep=lambda i: i % 10 < 6, right=lambda i: True)
    slow = machine(0.01)
    progress = slow.progress()
    progress.subscribe(lambda kind, text: setattr(slow, "item_s", 3.0 if "bad on" in text else 0.01))
    record = study(read_config(capitals), minutes=4, store=store, reporter=progress).record
    compared = store.read(Comparison, record.comparison)
    assert "bad" in compared.partial
    assert compared.asked["exact_match"]["bad"] > compared.scores["exact_match"]["bad"].n
    (pair,) = [d for d in compared.differences if d.metric == "exact_match" and {d.left, d.right} == {"good", "bad"}]
    assert pair.better is None
    assert record.pick != "bad"


def test_nothing_is_decisive_while_a_rival_was_not_measured(capitals: Path, store: Store) -> None:
    (capitals.parent / "bad.jsonl").write_text('{"prompt": "another question", "completion": "x"}\n', encoding="utf-8")
    record = study(read_config(capitals), store=store).record
    assert "bad" not in record.evaluations
    assert not record.decisive
    assert "bad wasn't measured, and may be better." in record.summary


def test_an_unmeasured_rival_matters_only_where_it_might_be_smaller() -> None:
    linear = Candidate(name="linear", model="tfidf", train=ClassifierRecipe(start="tfidf", method="linear"))
    encoder = Candidate(name="e", model="pkg:minilm", train=ClassifierRecipe(start="pkg:minilm", method="embedding"))
    model, rule = Candidate(name="lm", model="pkg:smollm2-135m"), Candidate(name="said", model="recorded:said.jsonl")
    assert is_larger(encoder, linear)
    assert is_larger(model, linear)
    assert is_larger(model, encoder)
    assert not is_larger(linear, encoder)
    assert not is_larger(rule, linear), "nothing is known of the size of what gave recorded answers"
    assert not is_larger(encoder, model)
    assert not is_larger(encoder, rule)


@pytest.mark.parametrize("needs", ['incumbent = "bad"\nmax_loss = 0.02', 'today = "bad"'])
def test_an_incumbent_that_fails_leaves_a_verdict_without_it(capitals: Path, store: Store, needs: str) -> None:
    capitals.write_text(FILE + f"[needs]\n{needs}\n", encoding="utf-8")
    (capitals.parent / "bad.jsonl").write_text('{"prompt": "another question", "completion": "x"}\n', encoding="utf-8")
    record = study(read_config(capitals), store=store).record
    assert record.pick == "good"
    assert not record.decisive
    assert "bad wasn't measured" in record.summary


def test_one_slow_candidate_leaves_time_for_the_others(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    text = FILE.replace('name = "good"', 'name = "slow"').replace("good.jsonl", "bad.jsonl#slow")
    capitals.write_text(text + '[[candidates]]\nname = "good"\nmodel = "recorded:good.jsonl"\n', encoding="utf-8")
    slow = machine(0.01)
    progress = slow.progress()
    progress.subscribe(lambda kind, text: setattr(slow, "item_s", 60.0 if "slow" in text else 0.01))
    record = study(read_config(capitals), minutes=2, store=store, reporter=progress).record
    assert measured(record, store, "good") == 120
    assert "slow" not in record.evaluations
    assert not record.decisive


TRAINED = """
[[candidates]]
name = "trained"
model = "scratch"
train = { minutes = 3.0 }

[[candidates]]
name = "with the documents"
model = "recorded:bad.jsonl#slow"
retrieve = true
"""


def test_the_last_first_look_may_take_all_the_time_left(
    capitals: Path, store: Store, machine: Callable[[float], Machine]
) -> None:
    text = FILE.replace('name = "bad"', 'name = "slow"').replace("bad.jsonl", "bad.jsonl#slow")
    capitals.write_text(text, encoding="utf-8")
    made = machine(0.01)
    progress = made.progress()
    progress.subscribe(lambda kind, text: setattr(made, "item_s", 3.5 if "Evaluating slow" in text else 0.01))
    record = study(read_config(capitals), minutes=2, store=store, reporter=progress).record
    assert measured(record, store, "slow") == 24


def test_candidates_that_answer_slowly_leave_time_for_training(
    capitals: Path, store: Store, machine: Callable[[float], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[float] = []

    def train(name: str, recipe: Any, *given: Any, **rest: Any) -> str:
        trained.append(recipe.minutes)
        raise SizewiseError("No training in this test.", "one", "none")

    monkeypatch.setattr("sizewise.studies.steps.train_candidate", train)
    texts = ({"id": f"q{i}", "text": f"Number {i} is written word{i}. " * 20} for i in range(40))
    (capitals.parent / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in texts), encoding="utf-8")
    text = FILE.replace("examples =", 'documents = "documents.jsonl"\nexamples =')
    capitals.write_text(text + TRAINED, encoding="utf-8")
    made = machine(0.1)
    progress = made.progress()
    progress.subscribe(lambda kind, text: setattr(made, "item_s", 20.0 if "with the documents" in text else 0.1))
    record = study(read_config(capitals), minutes=20, store=store, reporter=progress).record
    assert trained
    assert trained[0] >= 4
    assert "with the documents" in record.evaluations


def test_a_short_budget_keeps_time_to_measure() -> None:
    progress = StudyProgress(clock=lambda: 0.0, processor=lambda: 0.0)
    assert Budget(0.1, progress).left_s == pytest.approx(4.8)
    assert Budget(10, progress).left_s == 588


def test_what_was_answered_when_time_was_up_counts(
    capitals: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sizewise.studies.steps as steps
    from sizewise.studies.measuring import evaluate_candidate

    slow = Machine(0.0)

    def evaluated(uri: str, data: str, metrics: Any, limit: int | None, options: Any, **rest: Any) -> str:
        if "bad" in uri and (limit is None or limit > 10):
            evaluate_candidate(uri, data, metrics, 10, options, **rest)  # leaves its answers behind
            slow.now += 1_790
            pulse()
        return evaluate_candidate(uri, data, metrics, limit, options, **rest)

    monkeypatch.setattr(steps, "evaluate_candidate", evaluated)
    record = study(read_config(capitals), minutes=30, store=store, reporter=slow.progress()).record
    assert measured(record, store, "bad") == 10
    assert measured(record, store, "good") > 24


def test_answers_count_in_the_order_of_samples(capitals: Path, store: Store) -> None:
    from sizewise.evaluation import EvaluationOptions, evaluate
    from sizewise.evaluation.answered import answered_items
    from sizewise.studies.data import read_data
    from sizewise.studies.measuring import metrics_of

    model = f"recorded:{capitals.parent / 'good.jsonl'}"
    data = read_data(read_config(capitals), store, Silent()).id
    options, metrics = EvaluationOptions(seed=3), metrics_of(read_config(capitals), data, store)
    assert answered_items(model, data, metrics, options=options, store=store) == 0
    evaluate(model, data, metrics, limit=17, options=options, store=store)
    assert answered_items(model, data, metrics, options=options, store=store) == 17
