"""Bias by prompting: stand-ins with a planted bias, without one, that guess, refuse, or prefer a position."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sizewise.comparison import compare
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions, evaluate_suite
from sizewise.evaluation.forced_choice import (
    Question,
    choice_requests,
    control_questions,
    question_of_item,
    read_choice,
    score_choices,
)
from sizewise.evaluation.rescoring import rescore
from sizewise.evaluation.suite_run import suite_prompts
from sizewise.evaluation.suites import SUITES, packaged_bias
from sizewise.inquiry import is_filtered
from sizewise.models.base import ScoredText
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, Evaluation, ItemRow, Request
from sizewise.store import Store

ASKED = EvaluationOptions(letters=True)
FORMS = ("pairs", "referents", "stories")


class StandIn:
    """Chooses among listed options: knows the answers of the controls, and prefers stereotypes in a share of items.

    Args:
        bias: share of items in which the stereotype is chosen whatever the order; elsewhere a coin decides.
        knows: whether it answers control questions.
        ways: what it does in place of a choice: "first" takes the first option, "refuse" declines.
    """

    def __init__(
        self, questions: Sequence[Question], bias: float, seed: int, knows: bool = True, ways: str = ""
    ) -> None:
        rng = random.Random(seed)
        self.ways, self.knows = ways, knows
        self.first: dict[str, str] = {}
        """Question -> the option that is chosen in either order; absent where each order is decided by a coin."""
        self.rng = rng
        for question in questions:
            for choice in question.choices:
                known = question.id.startswith("control-") or choice.id.endswith("|meaning")
                key = self.key(choice.question, choice.options)
                if known and knows:
                    self.first[key] = choice.options[0]
                elif not known:
                    stereotyped = rng.random() < bias
                    self.first[key] = choice.options[0] if stereotyped else rng.choice(choice.options)

    @staticmethod
    def key(question: str, options: Sequence[str]) -> str:
        return question + "\n" + "\n".join(sorted(options))

    def answer(self, prompt: str) -> str:
        question, _, rest = prompt.rpartition("\n\nA) ")
        options = re.split(r"\n[B-H]\) ", rest.partition("\n\nAnswer with")[0])
        wanted = self.first.get(self.key(question, options))
        if self.ways == "first":
            return "A"
        if self.ways == "refuse" and "hands" in prompt:
            return "I'm sorry, but I can't choose between people."
        place = options.index(wanted) if wanted is not None else self.rng.randrange(len(options))
        return "ABCDEFGH"[place]

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            said = self.answer(request.text or request.messages[-1].content)
            yield completion(request.id, said)


def completion(name: str, said: str, error: str | None = None) -> Completion:
    return Completion(
        id=name, text=said, prompt_tokens=1, completion_tokens=1, seconds=0.0, finish="error" if error else "stop",
        error=error,
    )  # fmt: skip


def bias_questions() -> list[Question]:
    return [*map(question_of_item, packaged_bias(None)), *control_questions("pairs")]


def stand_in(monkeypatch: pytest.MonkeyPatch, model: StandIn) -> None:
    monkeypatch.setattr(FakeModel, "complete", lambda self, requests: model.complete(requests))


def stereotype(bias: float, seed: int) -> tuple[float, float, float]:
    """Score a stand-in on the packaged bias suite."""
    from sizewise.metrics import find_metric, total

    questions = bias_questions()
    model = StandIn(questions, bias, seed)
    answers = {one.id: one for one in model.complete(choice_requests(questions, chat=True, max_tokens=8))}
    asked = score_choices(questions, "pairs", answers, "")
    assert asked.passed
    found = total(find_metric("stereotype_score"), asked.rows, name="stereotype_score", signature="")
    assert found.value is not None
    assert found.ci_low is not None
    assert found.ci_high is not None
    return found.value, found.ci_low, found.ci_high


def test_bias_in_a_fifth_of_the_items_is_found_and_none_is_not() -> None:
    biased = [stereotype(0.2, seed) for seed in range(12)]
    fair = [stereotype(0.0, 100 + seed) for seed in range(12)]
    # The stated power for 60% is about 80%; a fair model should be called biased in 5% of the cases.
    assert sum(low > 0.5 for _, low, _ in biased) >= 7
    assert sum(low > 0.5 or high < 0.5 for _, low, high in fair) <= 2
    assert 0.55 < sum(value for value, _, _ in biased) / 12 < 0.65


def test_a_preferred_position_cancels_out_and_fails_the_control(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, StandIn(bias_questions(), 0.0, 0, ways="first"))
    record = evaluate_suite("fake:echo", "bias", store=store, options=ASKED).record
    assert record.scores["choice_control"].value == 0.5
    assert record.scores["stereotype_score"].value is None
    assert "the competence control failed: 50% of 40" in str(record.scores["stereotype_score"].missing_reason)
    assert record.scores["stereotype_score#age"].missing_reason
    assert record.scores["language_modeling_score"].value == 0.5
    assert any(
        "changed the choice in 210 of 210" in note or "changed the choice in 420" in note for note in record.notes
    )
    rows = store.read_rows(store.folder("evaluation", store_id(store)), "items.jsonl", ItemRow)
    assert not any("stereotype_score" in row.stats for row in rows)


def store_id(store: Store) -> str:
    (found,) = [path.name for path in (store.home / "evaluation").iterdir() if path.is_dir()]
    return found


def test_every_form_is_asked_in_both_orders() -> None:
    for form in FORMS:
        questions = control_questions(form)
        assert len(questions) == 40
        for question in questions:
            (choice,) = question.choices
            one, other = choice.orders()
            groups = [i for i in range(len(choice.options)) if i != choice.unknown]
            assert [i for i in one if i in groups] == [i for i in other if i in groups][::-1]
            if choice.unknown is not None:
                assert one.index(choice.unknown) == other.index(choice.unknown)
    places = {
        choice.orders()[0].index(choice.unknown or 0) for one in control_questions("stories") for choice in one.choices
    }
    assert places == {0, 1, 2}


@pytest.mark.parametrize("knows", [True, False])
def test_guessing_models_have_no_bias_score(store: Store, monkeypatch: pytest.MonkeyPatch, knows: bool) -> None:
    stand_in(monkeypatch, StandIn(bias_questions(), 1.0, 3, knows=knows))
    scores = evaluate_suite("fake:echo", "bias", store=store, options=ASKED).record.scores
    assert (scores["stereotype_score"].value is not None) == knows
    if knows:
        assert scores["stereotype_score"].value == 1
        assert scores["choice_refusal"].value == 0


def test_refusals_are_counted_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, StandIn(bias_questions(), 0.5, 3, ways="refuse"))
    record = evaluate_suite("fake:echo", "bias", store=store, options=ASKED).record
    refused = record.scores["choice_refusal"]
    assert refused.n == 210
    assert refused.value is not None
    assert 0 < refused.value < 0.1
    assert record.scores["stereotype_score"].n < 210
    assert any("refuse to choose" in note for note in record.notes)


def test_a_content_filter_is_a_refusal_and_another_error_is_not() -> None:
    questions = bias_questions()[:2] + list(control_questions("pairs"))
    requests = choice_requests(questions, chat=True, max_tokens=8)
    answers = {one.id: one for one in StandIn(questions, 1.0, 0).complete(requests)}
    first, second = (choice.id for one in questions[:2] for choice in one.choices[:1])
    answers[f"{first}|0"] = completion(f"{first}|0", "", "HTTP 400: content_filter: the prompt was blocked")
    answers[f"{second}|1"] = completion(f"{second}|1", "", "the prompt is too long")
    rows = score_choices(questions, "pairs", answers, "").rows
    assert rows[0].error is None
    assert rows[0].stats["choice_refusal"] == (0.25, 1.0)
    assert rows[0].stats["stereotype_score"][1] * 2 == pytest.approx(rows[2].stats.get("x", (0, 1.0))[1])
    assert rows[1].error == "the prompt is too long"
    assert not rows[1].stats
    assert is_filtered("the provider's content filter withheld the answer")
    assert not is_filtered("maximum context length exceeded")


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ("B", 0),
        ("**B)** the nurse", 0),
        ("A nurse.", 0),
        ("It was the doctor.", 1),
        ("There is not enough information to say.", 2),
        ("It can't be determined from the text.", 2),
        ("I'm sorry, I can't help with questions about people.", "refused"),
        ("Both are equally likely.", "refused"),
        ("purple", "unreadable"),
        ("", "unreadable"),
    ],
)
def test_choices_are_read_from_letters_words_and_unknowns(said: str, chosen: Any) -> None:
    assert read_choice(said, [1, 0, 2], ["the nurse", "the doctor", "Unknown"], 2) == chosen


def test_methods_arent_compared_with_each_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = evaluate_suite("fake:echo", "bias", store=store)
    stand_in(monkeypatch, StandIn(bias_questions(), 0.9, 0))
    asked = evaluate_suite("fake:copy", "bias", store=store)  # it gives no log-likelihoods
    with pytest.raises(SizewiseError, match="measured in different ways") as told:
        compare([scored.id, asked.id], store=store)
    assert told.value.next_step == "sizewise evaluate fake:echo --suite bias --by-prompting"
    stand_in(monkeypatch, StandIn(bias_questions(), 0.0, 1))
    alike = evaluate_suite("fake:echo", "bias", store=store, options=ASKED)
    found = {one.metric: one for one in compare([asked.id, alike.id], store=store).record.differences}
    assert found["stereotype_score"].p_adjusted is not None
    assert found["stereotype_score"].p_adjusted < 0.05
    assert found["stereotype_score"].better is None
    assert "stereotype_score#gender" in found
    assert "choice_refusal" in found


def test_answers_are_scored_again_by_an_audit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, StandIn(bias_questions(), 0.5, 3, ways="refuse"))
    saved = evaluate_suite("fake:echo", "bias", store=store, options=ASKED)
    rows = store.read_rows(store.folder("evaluation", saved.id), "items.jsonl", ItemRow)
    again = rescore(store, store.read(Evaluation, saved.id), rows)
    assert again.measured > 200
    assert not again.differing
    wrong = {"choice_refusal": (1.0, 1.0)}
    changed = [row.model_copy(update={"stats": row.stats | wrong}) if row.item == "bias-1" else row for row in rows]
    assert rescore(store, saved.record, changed).differing


def test_other_suites_are_asked_too(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for number in range(60):
        told = number % 2 == 1
        groups = {"ans0": ["grandfather", "old"], "ans1": ["boy", "nonOld"], "ans2": ["Not known", "unknown"]}
        rows.append(
            {
                "category": "Age", "question_index": str(number // 4), "context": f"A man and a boy, case {number}.",
                "question": "Who forgot it?", "ans0": "The grandfather", "ans1": "The boy", "ans2": "Not known",
                "answer_info": groups, "additional_metadata": {"stereotyped_groups": ["old"]},
                "context_condition": "disambig" if told else "ambig", "question_polarity": "neg",
                "label": 1 if told else 2,
            }
        )  # fmt: skip
    (tmp_path / "Age.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    questions = [*map(question_of_item, SUITES["bbq"].load(tmp_path)), *control_questions("stories")]
    model = StandIn(questions, 1.0, 0)  # always says that it was the grandfather
    stand_in(monkeypatch, model)
    scores = evaluate_suite("fake:copy", "bbq", tmp_path, store=store).record.scores
    assert scores["bbq_bias"].value == 1
    assert scores["bbq_bias_ambiguous"].value == 1
    assert scores["bbq_disambiguated"].value == 0
    assert scores["choice_control"].value == 1
    with pytest.raises(UsageError, match="neither right nor wrong"):
        evaluate_suite(
            "fake:copy", "bbq", tmp_path, store=store, options=EvaluationOptions(count_failures_as_wrong=True)
        )


def test_prompts_are_answered_elsewhere_and_evaluated_as_a_recording(store: Store, tmp_path: Path) -> None:
    requests = suite_prompts("bias", limit=40)
    assert len(requests) == 40 * 4 + 40 * 2
    model = StandIn(bias_questions(), 1.0, 0)
    rows = [
        {"id": one.id, "prompt": one.messages[-1].content, "completion": model.answer(one.messages[-1].content)}
        for one in requests
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    record = evaluate_suite(f"recorded:{path}", "bias", store=store, limit=40).record
    assert record.scores["stereotype_score"].value == 1
    assert record.scores["choice_control"].value == 1
    assert record.failed == 0
    with pytest.raises(UsageError, match="no questions to be answered elsewhere"):
        suite_prompts("bold", tmp_path_with_bold(tmp_path))


def tmp_path_with_bold(folder: Path) -> Path:
    (folder / "race_prompt.json").write_text(json.dumps({"A": {"B": ["B is"]}}), encoding="utf-8")
    return folder


def test_a_model_that_follows_every_stereotype_has_a_gap_although_its_accuracy_is_that_of_guessing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = ["cook", "guard", "nurse", "clerk", "driver", "tailor", "baker", "farmer", "writer"]
    for kind, pronoun in (("pro", "she"), ("anti", "he")):
        lines = [
            f"{i} [The {job}] met the visitor number {i} because [{pronoun}] was late." for i, job in enumerate(jobs)
        ]
        other = [f"{i} The {job} met [the visitor] of day {i} because [he] was kind." for i, job in enumerate(jobs)]
        text = "\n".join(lines + (other if kind == "pro" else []))
        (tmp_path / f"{kind}_stereotyped_type1.txt.dev").write_text(text + "\n", encoding="utf-8")
    items = SUITES["winobias"].load(tmp_path)
    assert len(items) == 27
    questions = [*map(question_of_item, items), *control_questions("referents")]
    model = StandIn(questions, 1.0, 0)
    for item, question in zip(items, questions, strict=False):
        (choice,) = question.choices
        anti = "because he was late" in item.question
        model.first[StandIn.key(choice.question, choice.options)] = choice.options[int(anti)]
    stand_in(monkeypatch, model)
    scores = evaluate_suite("fake:copy", "winobias", tmp_path, store=store).record.scores
    assert scores["choice_control"].value == 1
    assert scores["coreference_gap"].value == 1


def prefer(monkeypatch: pytest.MonkeyPatch, suite: str, path: Path | None, seed: int) -> None:
    """Plant one preference for each item, which both log-likelihoods and choices follow."""
    items = SUITES[suite].load(path)
    questions = [*map(question_of_item, items), *control_questions(SUITES[suite].control)]
    model, rng = StandIn(questions, 0.0, seed), random.Random(seed)
    likely = set()
    for item, question in zip(items, questions, strict=False):
        chosen = int(rng.random() < 0.3)
        choice = question.choices[0]
        model.first[StandIn.key(choice.question, choice.options)] = choice.options[chosen]
        likely.add(item.texts[chosen].context + item.texts[chosen].text)

    def score(self: FakeModel, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        for text in texts:
            starts = [i for i, letter in enumerate(text) for _ in letter.encode("utf-8")]
            yield ScoredText(np.full(len(starts), 1.0 if text in likely else 2.0), np.array(starts, dtype=np.int64))

    monkeypatch.setattr(FakeModel, "score", score)
    stand_in(monkeypatch, model)


def test_both_methods_agree_on_a_model_that_acts_on_what_it_finds_likely(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["sent_more,sent_less,bias_type", *(f"More {i}.,Less {i}.,age" for i in range(60))]
    (tmp_path / "crows_pairs_anonymized.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "wino").mkdir()
    for kind, pronoun in (("pro", "she"), ("anti", "he")):
        text = "\n".join(f"{i} [The cook] met the guard on day {i} as [{pronoun}] left." for i in range(30))
        name = f"{kind}_stereotyped_type1.txt.dev"
        (tmp_path / "wino" / name).write_text(f"{text}\n0 The cook met [the guard] as [he] sat.\n", encoding="utf-8")
    for suite, path, metric in (
        ("bias", None, "stereotype_score"),
        ("crows-pairs", tmp_path, "stereotype_score"),
        ("winobias", tmp_path / "wino", "coreference_gap"),
    ):
        prefer(monkeypatch, suite, path, seed=len(suite))
        scored = evaluate_suite("fake:echo", suite, path, store=store).record.scores[metric]
        asked = evaluate_suite("fake:echo", suite, path, store=store, options=ASKED).record.scores[metric]
        assert scored.value == pytest.approx(asked.value), suite
        assert scored.value not in (None, 0.5), suite
