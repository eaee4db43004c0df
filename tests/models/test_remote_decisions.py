"""Decisions of OpenAI's API, answered by our own service in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

pytest.importorskip("pydantic_ai")
pytest.importorskip("uvicorn")

from sizewise.models import Model, open_model, remote_decisions
from sizewise.models.remote_decisions import makes_decisions
from sizewise.records import Message, Option, Question, QuestionType, Request
from sizewise.service.guarding import GuardRules
from sizewise.service.state import Settings
from tests.service.test_decisions import Stub, answers, choice, serving
from tests.service.test_service import running


def asked(kind: QuestionType, *options: str) -> Request:
    question = Question(type=kind, instructions="Which?", options=tuple(Option(value=value) for value in options))
    return Request(id="q", messages=(Message(role="user", content="0.7 0.2 0.1"),), question=question)


@contextmanager
def provided(monkeypatch: pytest.MonkeyPatch, stub: Stub) -> Iterator[Model]:
    """Open OpenAI's model for decisions, with our service at its address."""
    with running({"gpt-6-luna": stub}) as address:
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{address}/v1")
        model = open_model("openai:gpt-6-luna")
        try:
            yield model
        finally:
            model.close()


def test_probabilities_of_the_provider_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with provided(monkeypatch, Stub("a", "b", "c")) as model:
        assert "decisions" in model.describe().offers
        (found,) = model.complete([asked("choice", "b", "a", "c")])
        assert found.probabilities == pytest.approx({"a": 0.7, "b": 0.2, "c": 0.1})
        assert found.text == "a"
        (kept,) = model.complete([asked("choice", "b", "a", "c")])
        assert kept.kept_from is not None
        assert kept.probabilities == found.probabilities
        (wrong,) = model.complete([asked("choice", "a", "refund")])
        assert "400" in (wrong.error or "")
        client = serving({"large": model}, Settings(guard=GuardRules.without(["mask"])))
        (answer,) = answers(client, "0.7 0.2 0.1", choice("c", "a", "b"), model="large")
        assert [row["probability"] for row in answer["probabilities"]] == pytest.approx([0.1, 0.7, 0.2])


def test_scores_predicates_and_independent_options(monkeypatch: pytest.MonkeyPatch) -> None:
    with provided(monkeypatch, Stub("0", "1", "2")) as model:  # levels go by number, described by their labels
        (score,) = model.complete([asked("score", "fine", "bad", "worse")])
        assert score.probabilities == pytest.approx({"fine": 0.7, "bad": 0.2, "worse": 0.1})
    with provided(monkeypatch, Stub("yes", "no", kind="predicate")) as model:
        (found,) = model.complete([asked("predicate", "late", "in time")])
        assert found.probabilities == pytest.approx({"late": 0.7, "in time": 0.3})
        (several,) = model.complete([asked("multi", "late", "damaged", "lost")])
        assert several.probabilities == pytest.approx({"late": 0.7, "damaged": 0.7, "lost": 0.7})


@pytest.mark.parametrize(
    "stated", [{"a": 0.3, "refund": 0.7}, {}, {"a": 0.9, "b": 0.9}, {"a": float("nan")}, {"a": 1.2, "b": -0.2}]
)
def test_probabilities_that_dont_sum_to_one_are_no_answer(stated: dict[str, float]) -> None:
    from pydantic_ai.exceptions import UnexpectedModelBehavior

    question = Question(options=(Option(value="a"), Option(value="b")))
    with pytest.raises(UnexpectedModelBehavior, match="options sum to"):
        remote_decisions._probabilities(question, {"answer": SimpleNamespace(probabilities=stated)})


def test_the_options_of_a_predicate_are_part_of_what_is_asked() -> None:
    spam = Question(type="predicate", options=(Option(value="spam"), Option(value="ham", description="real mail")))
    criteria = remote_decisions._client_questions(spam)["answer"].criteria
    assert (criteria.true, criteria.false) == ("spam", "ham: real mail")
    plain = Question(type="predicate", options=(Option(value="yes", description="It is spam."), Option(value="no")))
    criteria = remote_decisions._client_questions(plain)["answer"].criteria
    assert (criteria.true, criteria.false) == ("It is spam.", None)


def test_rounded_probabilities_are_scaled() -> None:
    question = Question(options=(Option(value="a"), Option(value="b"), Option(value="c")))
    rounded = {"answer": SimpleNamespace(probabilities={"a": 0.33, "b": 0.33, "c": 0.33})}
    assert sum(remote_decisions._probabilities(question, rounded).values()) == pytest.approx(1)


def test_only_models_for_decisions_use_the_api() -> None:
    assert makes_decisions("openai", "gpt-6-luna-2026-10-06")
    assert not makes_decisions("openai", "gpt-4o")
    assert not makes_decisions("https", "gpt-6-luna")
