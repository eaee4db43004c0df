"""The state of a running study: stages, estimates, board, stop; on a clock that the test moves."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from sizewise.progress import Reporter
from sizewise.records import Score
from sizewise.studies.budget import Budget
from sizewise.studies.progress import MAX_POINTS, BoardRow, StudyProgress


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def used() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock, used: Clock) -> StudyProgress:
    return StudyProgress(clock=clock, processor=used)


def score(value: float, ci_low: float, ci_high: float) -> Score:
    return Score(metric="accuracy", value=value, ci_low=ci_low, ci_high=ci_high, n=80, unit="share", signature="s")


def left(progress: StudyProgress, stage: str) -> float | None:
    return next(view.left_s for view in progress.stages if view.name == stage)


def test_is_a_reporter_and_forwards_to_another() -> None:
    heard: list[object] = []

    class Other:
        def say(self, line: str) -> None:
            heard.append(line)

        def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
            heard.append((what, done, total, detail))

    progress: Reporter = StudyProgress(Other())
    progress.say("hello")
    progress.advance("job", 1, 2, "fast")
    assert heard == ["hello", ("job", 1, 2, "fast")]


def test_time_spent_and_left(progress: StudyProgress, clock: Clock) -> None:
    assert progress.seconds_left is None
    progress.plan([("read", 10), ("rules", 20), ("train", 60)])
    assert progress.seconds_left == 90
    progress.start("read")
    clock.now += 4
    assert progress.seconds_left == 86
    progress.finish("read", "120 items")
    assert [(view.name, view.state, view.spent_s, view.note) for view in progress.stages] == [
        ("read", "done", 4, "120 items"),
        ("rules", "waiting", 0, ""),
        ("train", "waiting", 0, ""),
    ]
    assert progress.seconds_left == 80
    progress.skip("train", "no time left for it")
    assert progress.seconds_left == 20
    assert progress.spent_s == 4


def test_the_stages_own_job_corrects_its_estimate(progress: StudyProgress, clock: Clock) -> None:
    progress.plan([("train", 60)])
    progress.start("train")
    clock.now += 30
    progress.advance("train", 10, 100)  # a tenth in 30 s: three times slower per the plan of 60 s, and more
    assert left(progress, "train") == pytest.approx(270)
    clock.now += 6
    progress.advance("train", 90, 100)
    assert left(progress, "train") == pytest.approx(4)


def test_another_job_leaves_room_for_what_follows(progress: StudyProgress, clock: Clock) -> None:
    progress.plan([("evaluate", 60)])
    progress.start("evaluate")
    progress.advance("asking", 0, 2)
    clock.now += 10
    progress.advance("asking", 1, 2)
    found = left(progress, "evaluate")
    assert found is not None
    assert found == 50  # the plan expects more after this job
    clock.now += 10
    progress.advance("asking", 2, 2)
    assert left(progress, "evaluate") == pytest.approx(40)
    assert progress.stages[0].share is None  # what comes next hasn't reported yet
    clock.now += 10
    progress.advance("timing", 0, 10)
    assert left(progress, "evaluate") == pytest.approx(30)


def test_resumed_work_is_not_taken_for_speed(progress: StudyProgress, clock: Clock) -> None:
    progress.plan([("train", 60)])
    progress.start("train")
    clock.now += 1
    progress.advance("train", 80, 100)
    assert left(progress, "train") == pytest.approx(59)
    clock.now += 5
    progress.advance("train", 85, 100)
    assert left(progress, "train") == pytest.approx(15)


def test_jobs_of_a_study_without_a_plan_are_shown(progress: StudyProgress, clock: Clock) -> None:
    progress.advance("encoding", 1, 10)
    clock.now += 2
    progress.advance("asking", 1, 2)
    clock.now += 3
    progress.advance("asking", 2, 2)
    assert [(view.name, view.state, view.spent_s) for view in progress.stages] == [
        ("encoding", "done", 2),
        ("asking", "done", 3),
    ]
    progress.advance("timing", 1, 2)
    progress.start("train")
    assert [(view.name, view.state) for view in progress.stages[2:]] == [("timing", "done"), ("train", "running")]


def test_a_slow_stage_never_reads_zero(progress: StudyProgress, clock: Clock) -> None:
    progress.plan([("evaluate", 10)])
    progress.start("evaluate")
    clock.now += 100
    assert left(progress, "evaluate") == pytest.approx(10)


def test_planning_again_keeps_what_is_done(progress: StudyProgress, clock: Clock) -> None:
    progress.plan([("a", 10), ("b", 10), ("c", 10)])
    progress.start("a")
    progress.finish("a")
    progress.start("b")
    clock.now += 1
    progress.plan([("a", 99), ("b", 30), ("d", 5)])
    assert [(view.name, view.state) for view in progress.stages] == [("a", "done"), ("b", "running"), ("d", "waiting")]
    assert progress.seconds_left == 29 + 5


def test_an_unplanned_stage_comes_before_those_that_wait(progress: StudyProgress) -> None:
    progress.plan([("a", 10), ("b", 10)])
    progress.start("a")
    progress.start("extra")
    assert [view.name for view in progress.stages] == ["a", "extra", "b"]


def test_time_left_is_at_most_what_the_budget_leaves(clock: Clock) -> None:
    progress = StudyProgress(budget_s=100, clock=clock)
    progress.plan([("a", 500)])
    clock.now += 30
    assert progress.seconds_left == 70
    clock.now += 100
    assert progress.seconds_left == 0
    progress.start("a")
    clock.now += 100
    assert progress.seconds_left == 400


def test_a_stage_shows_no_more_time_than_the_budget_leaves(clock: Clock) -> None:
    progress = StudyProgress(budget_s=100, clock=clock)
    progress.plan([("answers", 30.0), ("report", 10.0)])
    progress.start("answers")
    clock.now += 40
    progress.advance("Answering", 1, 10, "")
    assert left(progress, "answers") == pytest.approx(60)  # 360 s at this speed


def test_time_for_loading_counts_where_the_start_is_given(clock: Clock) -> None:
    begun = clock.now
    clock.now += 20
    progress = StudyProgress(clock=clock, begun=begun)
    progress.begin("first")
    assert (progress.spent_s, progress.begun_s) == (20, 0)
    assert Budget(1.0, progress).spent_s == 20, "the first study pays for loading"
    clock.now += 30
    progress.begin("second")
    assert (progress.spent_s, progress.begun_s) == (50, 50)
    assert Budget(1.0, progress).spent_s == 0


def test_an_hour_asleep_is_not_time_spent(progress: StudyProgress, clock: Clock, used: Clock) -> None:
    progress.plan([("a", 60)])
    progress.start("a")
    progress.tick()
    clock.now += 10
    progress.tick()
    clock.now += 3600
    progress.tick()
    assert progress.spent_s == 10
    assert progress.seconds_left == 50
    clock.now += 90  # a call that kept the processor busy, so that no tick came through
    used.now += 80
    progress.tick()
    assert progress.spent_s == 100


def test_a_second_study_keeps_the_first_ones_results(progress: StudyProgress) -> None:
    progress.begin("types")
    progress.plan([("evaluate", 10), ("more", 10)])
    progress.start("evaluate")
    progress.finish("evaluate")
    progress.show_verdict("Use the linear model.", "pick", provisional=False)
    progress.begin("definitions")
    progress.plan([("evaluate", 30)])
    first, second = progress.snapshot()["studies"]
    assert first["verdict"]["summary"] == "Use the linear model."
    assert [stage["name"] for stage in first["stages"]] == ["evaluate"]
    assert [(stage["name"], stage["state"]) for stage in second["stages"]] == [("evaluate", "waiting")]
    assert [(view.name, view.state) for view in progress.stages] == [("evaluate", "waiting")]
    assert progress.verdict is None
    assert progress.seconds_left == 30


def test_time_counts_from_the_first_study_on(progress: StudyProgress, clock: Clock) -> None:
    clock.now += 12
    assert progress.spent_s == 12
    progress.begin("types")
    clock.now += 5
    progress.begin("definitions")
    assert progress.spent_s == 5


def test_snapshot_is_plain_json(progress: StudyProgress, tmp_path: Path) -> None:
    progress.plan([("a", 10)])
    progress.start("a")
    progress.advance("job", 1, 4, "5 items/s")
    progress.show_board(
        [BoardRow("linear", "accuracy", score(0.5, 0.4, 0.6)), BoardRow("copying", "accuracy", None, baseline=True)]
    )
    progress.show_sample("What?", {"linear": "This."})
    progress.add_point("small", 1.0, 2.5, "loss")
    progress.add_point("small", 2.0, float("nan"), "loss")
    progress.show_report(tmp_path / "report.html")
    found = json.loads(json.dumps(progress.snapshot(), allow_nan=False))
    (study,) = found["studies"]
    assert study["board"][0]["text"] == "50% [40, 60]"
    assert study["board"][1]["value"] is None
    assert study["curves"] == [{"candidate": "small", "unit": "loss", "points": [[1.0, 2.5]]}]
    assert study["stages"][0]["job"] == "job 5 items/s"
    assert study["stages"][0]["share"] == 0.25
    assert study["report"] == str(tmp_path / "report.html")


def test_long_curves_are_thinned(progress: StudyProgress) -> None:
    for number in range(3 * MAX_POINTS):
        progress.add_point("small", number, 1 / (1 + number), "loss")
    points = progress.snapshot()["studies"][0]["curves"][0]["points"]
    assert len(points) <= MAX_POINTS
    assert points[0][0] == 0
    assert points[-1][0] == 3 * MAX_POINTS - 1


def test_listeners_hear_every_change_until_they_leave(progress: StudyProgress) -> None:
    heard: list[tuple[str, str]] = []
    leave = progress.subscribe(lambda kind, text: heard.append((kind, text)))
    progress.start("a")
    progress.request_stop()
    leave()
    progress.finish("a")
    assert heard == [("start", "a"), ("stop", "")]
    assert progress.stop_requested


def test_waiting_ends_with_a_change(progress: StudyProgress) -> None:
    version = progress.snapshot()["version"]
    assert progress.wait(version, 0.01) == version
    waiter = threading.Timer(0.05, progress.say, ["something"])
    waiter.start()
    assert progress.wait(version, 10) == version + 1
    waiter.join()


def test_the_end(progress: StudyProgress, clock: Clock) -> None:
    progress.plan([("a", 10), ("b", 10)])
    progress.start("a")
    clock.now += 3
    progress.end("The disk is full.")
    progress.end()
    assert progress.error == "The disk is full."
    assert progress.seconds_left == 0
    assert [view.state for view in progress.stages] == ["skipped", "skipped"]


def test_many_threads(progress: StudyProgress) -> None:
    def work(number: int) -> None:
        for step in range(50):
            progress.start(f"s{number}")
            progress.advance(f"s{number}", step, 50)
            progress.add_point(f"c{number}", step, step, "loss")
            progress.snapshot()
        progress.finish(f"s{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {view.state for view in progress.stages} == {"done"}
    assert len(progress.stages) == 4
