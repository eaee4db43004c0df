"""One loop asks for everything that is measured: faults that pass leave no trace, others are never scored."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sizewise.comparison import compare
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import (
    EvaluationOptions,
    counterfactuals,
    evaluate,
    evaluate_suite,
    harness,
    redteam,
    run,
    suite_run,
)
from sizewise.evaluation.reproduce import rerun
from sizewise.inquiry import Inquiry, Work
from sizewise.judging import Ballot, RoundDesign, ask_judge, open_round, report
from sizewise.models.base import failed
from sizewise.models.fake import FakeModel
from sizewise.progress import Silent
from sizewise.records import Completion, Evaluation, Message, ModelDescription, Request
from sizewise.store import Ledger, Saved, Store
from tests.models.standin import StandIn

FAULTS = ("503: overloaded", "connection reset by peer", "the stream ended early", "429: too many requests")
TIMINGS = {"latency_s", "requests_per_s"}
ASKING_MODULES = (run, suite_run, counterfactuals, harness, redteam)


class Flaky(FakeModel):
    """A remote model that fails a tenth of the requests at first, refuses what it is told to, and can be killed."""

    def __init__(
        self, faults: bool = True, refuses: str = "", lasting: str = "", kill_after: int | None = None
    ) -> None:
        super().__init__("echo")
        self.faults, self.refuses, self.lasting, self.kill_after = faults, refuses, lasting, kill_after
        self.asked: list[str] = []

    def describe(self) -> ModelDescription:
        return super().describe().model_copy(update={"api": True, "can_score": False})

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in random.Random(len(self.asked)).sample(list(requests), len(requests)):
            if self.kill_after is not None and len(self.asked) >= self.kill_after:
                raise KeyboardInterrupt
            said = request.text or request.messages[-1].content
            number = random.Random(f"{said}{request.id}").randrange(10 * len(FAULTS))
            first = request.id not in self.asked
            self.asked.append(request.id)
            if self.lasting and self.lasting in said:
                yield failed(request, "503: down", transient=True)
            elif self.refuses and self.refuses in said:
                yield failed(request, "the content filter withheld the answer")
            elif self.faults and first and number < len(FAULTS):
                yield failed(request, FAULTS[number], transient=True)
            else:
                yield from super().complete([request])


class Way(NamedTuple):
    """A way of measuring that asks a model."""

    measure: Callable[[Store], Saved[Evaluation]]
    least: int
    """Requests that it sends at least."""


@pytest.fixture
def ways(tmp_path: Path) -> dict[str, Way]:
    questions = tmp_path / "questions.jsonl"
    rows = [
        {
            "id": f"q{i}",
            "prompt": f"What does patient {i} say?",
            "references": [f"{i} is fine."],
        }
        for i in range(40)
    ]
    questions.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(map(json.dumps, rows[:30])), encoding="utf-8")
    task = tmp_path / "tasks"
    task.mkdir()
    lines = [{"question": f"Colour {i}?", "right": f"Colour {i % 7}?"} for i in range(60)]
    (task / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (task / "colours.yaml").write_text(
        "task: colours\ndataset_path: json\ndataset_kwargs:\n"
        f"  data_files: {{test: {task / 'rows.jsonl'}}}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{right}}'\n"
        "metric_list:\n  - metric: exact_match\n",
        encoding="utf-8",
    )
    return {
        "dataset": Way(lambda store: evaluate("fake:echo", questions, ["exact_match", "bleu"], store=store), 40),
        "suite": Way(lambda store: evaluate_suite("fake:echo", "language-nuance", store=store), 128),
        "counterfactuals": Way(lambda store: evaluate_suite("fake:echo", "counterfactuals", few, store=store), 80),
        "harness": Way(lambda store: evaluate_suite("fake:echo", "lm-eval:colours", task, store=store), 60),
    }


def in_place_of_the_model(model: Flaky, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    for module in ASKING_MODULES:
        monkeypatch.setattr(module, "open_model", lambda uri, **_: model)
    return model


HARNESS = pytest.param("harness", marks=pytest.mark.slow)


def items(saved: Saved[Evaluation]) -> str:
    return saved.path.with_name("items.jsonl").read_text(encoding="utf-8")


def facts(saved: Saved[Evaluation]) -> dict[str, Any]:
    found = saved.record.model_dump(exclude={"seconds", "scores", "conditions"})
    scores = {name: score for name, score in saved.record.scores.items() if name not in TIMINGS}
    return found | {"id": saved.id, "scores": scores, "items": items(saved)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["dataset", "suite", "counterfactuals", HARNESS])
def test_faults_that_pass_and_a_kill_leave_no_trace(
    ways: dict[str, Way], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "harness" and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("needs the extra [harness]")
    way = ways[name]
    in_place_of_the_model(Flaky(faults=False), monkeypatch)
    faultless = way.measure(Store(tmp_path / "faultless"))
    faulty = in_place_of_the_model(Flaky(), monkeypatch)
    assert facts(way.measure(Store(tmp_path / "faulty"))) == facts(faultless)
    assert len(faulty.asked) > len(set(faulty.asked)) >= way.least  # some were asked twice
    in_place_of_the_model(Flaky(kill_after=way.least // 2), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        way.measure(Store(tmp_path / "killed"))
    rest = in_place_of_the_model(Flaky(), monkeypatch)
    assert facts(way.measure(Store(tmp_path / "killed"))) == facts(faultless)
    assert len(set(rest.asked)) < len(set(faulty.asked))  # what was answered before the kill isn't asked again


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["dataset", "suite", "counterfactuals", HARNESS])
def test_what_stays_unanswered_makes_a_run_incomplete_until_the_same_command_finds_an_answer(
    ways: dict[str, Way], name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "harness" and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("needs the extra [harness]")
    lasting = {"dataset": "patient 7 ", "counterfactuals": "patient 7 ", "harness": "Colour 7?", "suite": "weather"}
    in_place_of_the_model(Flaky(lasting=lasting[name]), monkeypatch)
    first = ways[name].measure(store)
    unscored = [row for row in map(json.loads, items(first).splitlines()) if row["error"]]
    assert first.record.unanswered > 0
    assert first.record.failed == len(unscored) > 0
    assert not any(row["stats"] for row in unscored)
    assert any(note.startswith("Incomplete: ") and "503: down" in note for note in first.record.notes)
    back = in_place_of_the_model(Flaky(faults=False), monkeypatch)
    second = ways[name].measure(store)
    assert (second.record.unanswered, second.record.failed) == (0, 0)
    assert len(back.asked) == first.record.unanswered
    if name == "suite":
        compared = compare({"now": second.id, "before": first.id}, store=store).record
        assert any("before is incomplete" in caution for caution in compared.cautions)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["suite", HARNESS])
def test_refused_items_count_as_wrong_only_where_that_is_asked_for(
    ways: dict[str, Way], name: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "harness" and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("needs the extra [harness]")
    in_place_of_the_model(Flaky(refuses={"suite": "weather", "harness": "Colour 3?"}[name]), monkeypatch)
    suite, path = {"suite": ("language-nuance", None), "harness": ("lm-eval:colours", tmp_path / "tasks")}[name]
    left_out = ways[name].measure(store).record
    assert left_out.failed > 0
    assert left_out.unanswered == 0
    options = EvaluationOptions(count_failures_as_wrong=True)
    as_wrong_id, _, as_wrong, _ = evaluate_suite("fake:echo", suite, path, store=store, options=options)
    if name == "suite":
        again = rerun(as_wrong_id, store=store)
        assert again.equal
        assert not again.outside
    metric = left_out.metrics[0]
    without, counted = left_out.scores[metric], as_wrong.scores[metric]
    assert counted.n == without.n + left_out.failed
    assert counted.value == pytest.approx((without.value or 0) * without.n / counted.n)
    assert any("aren't scored (--count-failures-as-wrong" in note for note in left_out.notes)
    assert any("count as wrong" in note for note in as_wrong.notes)


def test_failures_cannot_be_wrong_where_nothing_is_right(tmp_path: Path, store: Store) -> None:
    (tmp_path / "race_prompt.json").write_text(json.dumps({"A": {"B": ["B is "]}}), encoding="utf-8")
    options = EvaluationOptions(count_failures_as_wrong=True)
    for suite in ("bold", "counterfactuals"):
        with pytest.raises(UsageError, match="neither right nor wrong"):
            evaluate_suite("fake:echo", suite, tmp_path, store=store, options=options)


def test_a_red_team_goes_on_after_a_kill_and_then_starts_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_of_the_model(Flaky(faults=False), monkeypatch)
    faultless = redteam.red_team("fake:other", store=store)
    in_place_of_the_model(Flaky(kill_after=30), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        redteam.red_team("fake:echo", store=store)
    rest = in_place_of_the_model(Flaky(), monkeypatch)
    found = redteam.red_team("fake:echo", store=store)
    assert found.scores["fake:echo"] == faultless.scores["fake:other"]
    assert (found.unanswered, len(set(rest.asked)) < found.attacks) == (0, True)
    anew = in_place_of_the_model(Flaky(lasting="Bonjour"), monkeypatch)
    redteam.red_team("fake:echo", store=store)
    assert len(set(anew.asked)) == found.attacks


def test_a_failed_judge_call_is_asked_again_and_leaves_no_vote(store: Store, tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "prompt": f"Say {i}", "references": [f"{i} it is"], "source": f"d{i}"} for i in range(30)]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    ids = {}
    for name in ("one", "other"):
        said = tmp_path / f"{name}.jsonl"
        lines = [{"id": row["id"], "completion": f"{name} {row['prompt']}"} for row in rows]
        said.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        ids[name] = evaluate(f"recorded:{said}", data, ["bleu"], store=store).id
    opened = open_round([compare(ids, store=store).id], RoundDesign(raters=["a"], items=30), store=store)

    def judge(model: Flaky) -> Callable[[Sequence[Request]], Iterator[Completion]]:
        def complete(requests: Sequence[Request]) -> Iterator[Completion]:
            for answer in model.complete(requests):
                first = answer.text.split("Answer 1:\n")[-1].startswith("one")
                yield answer if answer.error else answer.model_copy(update={"text": "1" if first else "2"})

        return complete

    def votes(rater: str) -> list[tuple[str, str, str]]:
        ballot = Ballot(store, opened.stored.id)
        found = sorted((v.task, v.choice, v.comment) for v in ballot.votes() if v.rater == f"model {rater}")
        ballot.close()
        return found

    round_id = opened.stored.id
    count = ask_judge(round_id, "fake:calm", judge(Flaky(faults=False)), store=store)
    assert ask_judge(round_id, "fake:faulty", judge(Flaky()), store=store) == count
    assert votes("fake:faulty") == votes("fake:calm")
    assert {choice for _, choice, _ in votes("fake:calm")} == {"left", "right"}
    with pytest.raises(KeyboardInterrupt):
        ask_judge(round_id, "fake:killed", judge(Flaky(kill_after=count)), store=store)
    assert ask_judge(round_id, "fake:killed", judge(Flaky()), store=store) == count
    assert votes("fake:killed") == votes("fake:calm")
    some = ask_judge(round_id, "fake:down", judge(Flaky(lasting="Say 1")), store=store)
    assert 0 < some < count
    found = report(round_id, store=store)
    assert found.unjudged == {"model fake:down": count - some}
    assert any("model fake:down is incomplete" in note for note in found.notes)
    rest = Flaky(faults=False)
    assert ask_judge(round_id, "fake:down", judge(rest), store=store) == count
    assert len(rest.asked) < 2 * count
    assert votes("fake:down") == votes("fake:calm")
    assert not report(round_id, store=store).unjudged
    with pytest.raises(SizewiseError, match="requests to fake:dead failed"):
        ask_judge(round_id, "fake:dead", judge(Flaky(lasting="Say")), store=store)
    assert not votes("fake:dead")


def test_rounds_go_on_only_while_they_help(tmp_path: Path) -> None:
    requests = [Request(id=str(i), messages=(Message(role="user", content=str(i)),)) for i in range(6)]
    rounds: list[list[str]] = []

    def complete(part: Sequence[Request]) -> Iterator[Completion]:
        rounds.append([request.id for request in part])
        for request in part:
            if request.id == "5":
                yield failed(request, "too long")
            elif request.id == "4":
                yield failed(request, "busy", transient=True)
            else:
                yield Completion(
                    id=request.id, text="a", prompt_tokens=1, completion_tokens=1, seconds=0, finish="stop"
                )

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        inquiry = Inquiry("m", complete, ledger, Silent())
        answers = inquiry.ask(requests, Work("t", "Asking"))
        assert rounds == [["0", "1", "2", "3", "4", "5"], ["4"]]
        assert [answers[str(i)].finish for i in range(6)] == ["stop"] * 4 + ["error"] * 2
        assert inquiry.unanswered == ["t 4"]
        assert set(ledger.entries("t")) == {"0", "1", "2", "3"}  # no failure is kept


WIRE_FAULTS = ((503, {}), "reset", "cut", (429, {"retry-after": "0.05"}), (500, {}))
PROGRAM = """
import sys
from pathlib import Path
from sizewise.evaluation import evaluate, evaluate_suite
from sizewise.models import patience
from sizewise.store import Store
way, uri, path, home = sys.argv[1:]
patience.FIRST_WAIT_S = 0.01
if way == "dataset":
    print(evaluate(uri, path, ["exact_match", "chrf"], store=Store(home)).id)
else:
    print(evaluate_suite(uri, way, path, store=Store(home)).id)
"""


def started(way: str, uri: str, path: Path, home: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROGRAM, way, uri, str(path), str(home)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=os.environ | {"SIZEWISE_OFFLINE": "1"})


@pytest.mark.slow
@pytest.mark.parametrize("way", ["dataset", "language-nuance", "lm-eval:colours"])
def test_a_thousand_requests_over_a_bad_line_and_a_kill_end_in_the_record_of_a_good_line(
    way: str, tmp_path: Path
) -> None:
    pytest.importorskip("pydantic_ai")
    if way.startswith("lm-eval") and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("needs the extra [harness]")
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [
        {"id": f"q{i}", "prompt": f"question {i}", "references": [f"echo: question {i % 900}"]} for i in range(1000)
    ]
    if way == "language-nuance":
        rows = [{"question": f"Q {i}?", "answer": f"a{i}", "others": ["b", "c"], "tag": "t"} for i in range(1000)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if way.startswith("lm-eval"):
        task = (
            f"task: colours\ndataset_path: json\ndataset_kwargs:\n  data_files: {{test: {path}}}\ntest_split: test\n"
            "output_type: generate_until\ndoc_to_text: '{{prompt}}'\ndoc_to_target: '{{references[0]}}'\n"
            "metric_list:\n  - metric: exact_match\n"
        )
        path = tmp_path / "tasks"
        path.mkdir()
        (path / "colours.yaml").write_text(task, encoding="utf-8")
    server = StandIn()
    uri = f"{server.url}/v1#m"

    def measured(home: Path) -> Saved[Evaluation]:
        process = started(way, uri, path, home)
        found = process.communicate()[0].split()[-1]
        assert process.returncode == 0
        return Store(home).get(Evaluation, found)

    def comparable(saved: Saved[Evaluation]) -> dict[str, Any]:
        found = facts(saved)
        found["notes"] = [note for note in saved.record.notes if "are cached from" not in note]
        return found

    try:
        faultless = measured(tmp_path / "faultless")
        before = len(server.bodies)
        server.fault = lambda number: WIRE_FAULTS[number // 10 % len(WIRE_FAULTS)] if number % 10 == 3 else None  # type: ignore[return-value]
        assert comparable(measured(tmp_path / "faulty")) == comparable(faultless)
        sent = len(server.bodies) - before
        assert sent >= 1.1 * before
        process = started(way, uri, path, tmp_path / "killed")
        while len(server.bodies) < before + sent + 500:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert comparable(measured(tmp_path / "killed")) == comparable(faultless)
    finally:
        server.close()
    assert faultless.record.items == 1000
    assert faultless.record.failed == 0


def test_a_local_model_gets_few_long_prompts_at_once(tmp_path: Path) -> None:
    sizes: list[int] = []

    def complete(requests: Sequence[Request]) -> Iterator[Completion]:
        sizes.append(len(requests))
        yield from FakeModel("echo").complete(requests)

    def asked(count: int, length: int) -> list[Request]:
        text = "a " * (length // 2)
        return [Request(id=f"{length}-{one}", messages=(Message(role="user", content=text),)) for one in range(count)]

    with Ledger(tmp_path / "ledger") as ledger:
        inquiry = Inquiry("fake:echo", complete, ledger, Silent(), batch=128)
        inquiry.ask(asked(300, 20), Work("short", "Asking"))
        inquiry.ask(asked(9, 8_000), Work("long", "Asking"))
        inquiry.ask(asked(2, 100_000), Work("longest", "Asking"))
    assert sizes == [128, 128, 44, 4, 4, 1, 1, 1]
