"""Grades of a judge model by a rubric: what is read, what isn't, and what becomes of it in a comparison."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from sizewise import datasets
from sizewise.comparison import compare
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions, evaluate, rubric
from sizewise.evaluation.rescoring import rescore
from sizewise.evaluation.rubric import read_grades, read_rubric
from sizewise.models.base import failed
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, Criterion, Evaluation, ItemRow, Request, Rubric
from sizewise.store import Saved, Store

NUMBERS = tuple("12345")
TWO = Rubric(
    criteria=(
        Criterion(name="correct", description="Is it correct?", scale=NUMBERS),
        Criterion(name="tone", description="Is it polite?", scale=("no", "partly", "yes")),
    )
)
ONE = Rubric(criteria=(Criterion(name="correct", description="Is it correct?", scale=NUMBERS),))
Say = Callable[[Request], str | Completion]


class Judge(FakeModel):
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, say: Say) -> None:
        super().__init__("echo")
        self.say, self.asked = say, list[Request]()

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request)
            said = self.say(request)
            yield said if isinstance(said, Completion) else answer(request, said)


def answer(request: Request, text: str, finish: str = "stop") -> Completion:
    return Completion.model_validate(
        {"id": request.id, "text": text, "finish": finish, "prompt_tokens": 1, "completion_tokens": 1, "seconds": 0.0}
    )


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Say], Judge]:
    def use(say: Say) -> Judge:
        judge = Judge(say)
        monkeypatch.setattr(rubric, "open_model", lambda *unused, **options: judge)
        return judge

    return use


def recorded(folder: Path, name: str, answers: Sequence[str], grades: Sequence[float] = ()) -> str:
    path = folder / f"{name}.jsonl"
    lines = [
        {"id": f"q{i}", "completion": text} | ({"grade": grades[i]} if i < len(grades) else {})
        for i, text in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"recorded:{path}"


def questions(folder: Path, store: Store, count: int) -> str:
    path = folder / "data.jsonl"
    rows = [
        {"id": f"q{i}", "prompt": f"Question {i}?", "references": [f"town {i}"], "source": f"d{i}"}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return datasets.read([path], store=store, all_test=True).id


def rows_of(store: Store, saved: Saved[Evaluation]) -> list[ItemRow]:
    return store.read_rows(saved.path.parent, "items.jsonl", ItemRow)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("correct: 4\ntone: yes", {"correct": 3, "tone": 2}),
        ("1. **Correct**: 4/5\n2. **Tone**: Partly.", {"correct": 3, "tone": 1}),
        ("- correct = 5 out of 5\n- tone -> no", {"correct": 4, "tone": 0}),
        ("correct: 4.0\ntone: yes", {"correct": 3, "tone": 2}),
        ("correct: 3\ncorrect: 4\ntone: yes", {"tone": 2}),  # contradicts itself
        ("correct: 3 or 4\ntone: yes or partly", {}),
        ("correct: 3-4\ntone: yes", {"tone": 2}),
        ("correct: 3.5\ntone: yes", {"tone": 2}),
        ("correct: 6\ntone: yes", {"tone": 2}),
        ("correct: -1\ntone: not yes", {}),
        ("4\nyes", {}),  # which criterion?
        ("The answer is correct: it deserves praise.", {}),
        ("", {}),
    ],
)
def test_exactly_one_grade_is_read_for_each_criterion(text: str, expected: dict[str, int]) -> None:
    assert read_grades(text, TWO) == expected


@pytest.mark.parametrize(("text", "expected"), [("4", 3), ("Grade: 4/5", 3), ("I'd say 2 or 3.", None), ("good", None)])
def test_of_one_criterion_the_whole_answer_may_be_the_grade(text: str, expected: int | None) -> None:
    assert read_grades(text, ONE).get("correct") == expected


def test_a_rubric_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rubric.toml"
    path.write_text(
        'references = false\n[[criteria]]\nname = "correct"\ndescription = "Is it correct?"\nscale = [0, 10]\n'
        '[[criteria]]\nname = "tone"\ndescription = "Polite?"\nscale = ["no", "yes"]\n'
    )
    found = read_rubric(path)
    assert not found.references
    assert [one.scale for one in found.criteria] == [tuple(map(str, range(11))), ("no", "yes")]


@pytest.mark.parametrize(
    "text",
    [
        "criteria = 3",
        "no toml",
        '[[criteria]]\nname = "a"\n',
        '[[criteria]]\nname = "a b"\ndescription = "x"\n',
        '[[criteria]]\nname = "a"\ndescription = "x"\nscale = [5, 1]\n',
        '[[criteria]]\nname = "a"\ndescription = "x"\nscale = ["yes", "Yes"]\n',
        '[[criteria]]\nname = "a"\ndescription = "x"\n[[criteria]]\nname = "A"\ndescription = "x"\n',
    ],
)
def test_a_file_that_is_no_rubric_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "rubric.toml").write_text(text)
    with pytest.raises(SizewiseError, match="isn't a rubric"):
        read_rubric(tmp_path / "rubric.toml")


def test_cut_and_unreadable_judgments_are_no_grades(
    tmp_path: Path, store: Store, judged: Callable[[Say], Judge]
) -> None:
    said = {"answer 0": "correct: 5\ntone: yes", "answer 1": "correct: 3\ntone: no", "answer 2": "correct: 1\ntone: hm"}

    def say(request: Request) -> str | Completion:
        text = request.messages[0].content
        if "answer 3" in text:
            return answer(request, "correct: 1\ntone: no", "length")
        return next(grades for key, grades in said.items() if key in text)

    judge = judged(say)
    data = questions(tmp_path, store, 4)
    options = EvaluationOptions(rubric=TWO, judge="fake:echo")
    uri = recorded(tmp_path, "a", [f"answer {i}" for i in range(4)])
    found = evaluate(uri, data, ["token_f1"], store=store, options=options)
    scores, use = found.record.scores, found.record.rubric
    assert use is not None
    assert (use.graded, use.unreadable, use.truncated) == (2, 1, 1)
    assert (scores["rubric_grade"].value, scores["rubric_grade"].n) == (pytest.approx((1 + 0.25) / 2), 2)
    assert (scores["rubric_grade:correct"].value, scores["rubric_grade:correct"].n) == (pytest.approx(0.5), 3)
    assert any("1 of 4 judgments were cut" in note for note in found.record.notes)
    assert len(judge.asked) == 4
    assert "town 0" in judge.asked[0].messages[0].content
    evaluate(uri, data, ["token_f1"], store=store, options=options)
    assert len(judge.asked) == 4  # judgments are kept
    rows = rows_of(store, found)
    assert rescore(store, found.record, rows).differing == []
    rows[0] = rows[0].model_copy(update={"judgment": "correct: 1\ntone: yes"})
    assert any("rubric_grade of q0" in line for line in rescore(store, found.record, rows).differing)


def test_a_judge_that_fails_for_now_leaves_the_evaluation_incomplete(
    tmp_path: Path, store: Store, judged: Callable[[Say], Judge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sizewise.inquiry.time", SimpleNamespace(sleep=lambda seconds: None, monotonic=lambda: 0.0))
    broken = [True]

    def say(request: Request) -> str | Completion:
        if broken[0] and "Question 1?" in request.messages[0].content:
            return failed(request, "busy", transient=True)
        return "5"

    judge = judged(say)
    data, options = questions(tmp_path, store, 3), EvaluationOptions(rubric=ONE, judge="fake:echo")
    uri = recorded(tmp_path, "a", ["x", "y", "z"])
    first = evaluate(uri, data, ["token_f1"], store=store, options=options)
    assert (first.record.unanswered, first.record.scores["rubric_grade"].n) == (1, 2)
    broken[0], before = False, len(judge.asked)
    second = evaluate(uri, data, ["token_f1"], store=store, options=options)
    assert (second.record.unanswered, second.record.scores["rubric_grade"].n) == (0, 3)
    assert len(judge.asked) == before + 1


def test_a_rubric_needs_its_judge_and_one_answer(tmp_path: Path, store: Store) -> None:
    data, uri = questions(tmp_path, store, 3), recorded(tmp_path, "a", ["x", "y", "z"])
    for options in (
        EvaluationOptions(rubric=ONE),
        EvaluationOptions(judge="fake:echo"),
        EvaluationOptions(rubric=ONE, judge="fake:echo", samples=2),
    ):
        with pytest.raises(UsageError, match=r"rubric|judge"):
            evaluate(uri, data, ["token_f1"], store=store, options=options)
    with pytest.raises(UsageError, match="--rubric"):
        evaluate(uri, data, ["rubric_grade"], store=store)


def test_a_model_without_instructions_is_no_judge(
    tmp_path: Path, store: Store, judged: Callable[[Say], Judge], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = judged(lambda request: "5")
    description = judge.describe().model_copy(update={"can_chat": False})
    monkeypatch.setattr(judge, "describe", lambda: description)
    data, options = questions(tmp_path, store, 3), EvaluationOptions(rubric=ONE, judge="fake:echo")
    with pytest.raises(UsageError, match="takes no instructions"):
        evaluate(recorded(tmp_path, "a", ["x", "y", "z"]), data, ["token_f1"], store=store, options=options)
    assert not judge.asked


N, GRADED = 80, 30


def test_a_rubric_decides_only_through_peoples_grades(
    tmp_path: Path, store: Store, judged: Callable[[Say], Judge]
) -> None:
    """The judge sees quality that overlap can't; without people's grades that shows nothing, with them it does."""
    judged(lambda request: "5" if "good" in request.messages[0].content.split("Answer to grade:")[1] else "1")
    data, options = questions(tmp_path, store, N), EvaluationOptions(rubric=ONE, judge="fake:echo")
    rng = random.Random(1)
    truth = {name: [float(rng.random() < rate) for _ in range(N)] for name, rate in (("a", 0.5), ("b", 0.7))}
    texts = {name: ["good" if one else "poor" for one in grades] for name, grades in truth.items()}

    def difference(metric: str, graded: int, with_rubric: bool = True) -> tuple[float, float, str, str | None]:
        saved = {
            name: evaluate(
                recorded(tmp_path, f"{name}{graded}", texts[name], truth[name][:graded]),
                data,
                ["token_f1"],
                store=store,
                options=options if with_rubric else None,
            )
            for name in truth
        }
        one = next(one for one in compare(saved, store=store).record.differences if one.metric == metric)
        assert one.ci_low is not None
        assert one.ci_high is not None
        return one.value, one.ci_high - one.ci_low, one.contested, one.better

    _, _, contested, better = difference("rubric_grade", 0)
    assert (contested, better) == ("not validated on people", None)
    value, width, _, better = difference("human_grade", GRADED)
    _, alone, _, undecided = difference("human_grade", GRADED, with_rubric=False)
    expected = (sum(truth["a"]) - sum(truth["b"])) / N
    assert value == pytest.approx(expected, abs=0.06)
    assert width < 0.7 * alone
    assert (better, undecided) == ("b", None)
