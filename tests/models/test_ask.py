"""`model.ask` and `repr(model)`: one call for every kind of model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sizewise.errors import EngineError, UsageError
from sizewise.models import Model, open_model
from sizewise.models.base import failed
from sizewise.models.fake import FakeModel
from sizewise.models.prompted import FewShotModel
from sizewise.models.wrapper import PromptWrapper
from sizewise.records import Completion, Dataset, Example, Message, ModelDescription, Request
from sizewise.store import Saved, Store
from tests.models.standin import StandIn


@pytest.fixture
def server() -> Iterator[StandIn]:
    standing = StandIn()
    yield standing
    standing.close()


class Base(FakeModel):
    """A model without a chat template; repeats its prompt."""

    def describe(self) -> ModelDescription:
        return super().describe().model_copy(update={"can_chat": False})


def test_a_fake_model_is_asked() -> None:
    model = open_model("fake:echo")
    assert model.ask("Hello") == "Hello"
    assert model.ask("Hello there", temperature=0.7) == "Hello there"


def test_a_folder_is_asked_in_its_chat_form(tiny_folder: Path, store: Store) -> None:
    model = open_model(str(tiny_folder), store=store, precision="fp32")
    messages = (Message(role="user", content="Hello?"),)
    (expected,) = model.complete([Request(id="a", messages=messages, max_tokens=5, fit=True)])
    assert model.ask("Hello?", max_tokens=5) == expected.text
    drawn = [model.ask("Hello?", max_tokens=8, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert repr(model) == f"<LocalModel {tiny_folder} (transformers, fp32)>"
    model.close()


def test_a_base_model_is_asked_in_plain_text() -> None:
    assert Base("echo").ask("Why?") == "Question: Why?\nAnswer:"


def test_recorded_answers_are_found_by_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"prompt": "Why?", "completion": "Because."}), encoding="utf-8")
    model = open_model(f"recorded:{path}")
    assert model.ask("Why?") == "Because."
    with pytest.raises(EngineError, match="returned no answer"):
        model.ask("How?")
    assert repr(model) == f"<RecordedModel recorded:{path} (recorded, none)>"


def test_a_baseline_is_asked(dataset: Saved[Dataset], store: Store) -> None:
    assert open_model(f"frequent:{dataset.id}", store=store).ask("Which one?")


def test_wrappers_rewrite_what_is_asked() -> None:
    assert PromptWrapper(FakeModel("echo")).ask("Why?") == "Why?"
    shot = Example(id="s", messages=(Message(role="user", content="Who?"),), references=("Me.",), source="s")
    model = FewShotModel(Base("echo"), [shot], ("\n",), "eval-1")
    assert model.ask("Why?") == "Question: Who?\nAnswer: Me.\n\nQuestion: Why?\nAnswer:"
    assert repr(model) == "<FewShotModel fake:echo (rule, none)>"


def test_a_remote_model_is_asked(server: StandIn, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    pytest.importorskip("pydantic_ai")
    monkeypatch.delenv("SIZEWISE_API_KEY", raising=False)
    model = open_model(f"{server.url}/v1#m", store=store)
    assert model.ask("Hello", max_tokens=7) == "echo: Hello"
    assert model.ask("Again", temperature=0.5) == "echo: Again"
    assert [body["temperature"] for body in server.bodies if "temperature" in body][-1] == 0.5
    assert repr(model).startswith("<RemoteModel http://127.0.0.1")
    model.close()


def test_options_that_do_not_exist_are_named() -> None:
    model: Model = open_model("fake:echo")
    with pytest.raises(UsageError, match="length=5"):
        model.ask("Hello", length=5)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="max_tokens='many'"):
        model.ask("Hello", max_tokens="many")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="can't follow a JSON schema"):
        model.ask("Hello", json_schema="{}")


def test_a_failure_is_raised() -> None:
    class Failing(FakeModel):
        def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
            return (failed(request, "out of memory") for request in requests)

    with pytest.raises(EngineError, match="fake:echo returned no answer: out of memory"):
        Failing("echo").ask("Hello")
