"""By default, what was measured is what is served."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sizewise.errors import UsageError
from sizewise.evaluation import evaluate
from sizewise.models import Model
from sizewise.models.fake import FakeModel
from sizewise.models.prompted import FewShotModel
from sizewise.progress import Silent
from sizewise.records import Dataset, Evaluation, Message, Request, Study
from sizewise.service import running
from sizewise.service.measured import implied_evaluations, latest_evaluation, resolve_studies
from sizewise.store import Saved, Store

RUN = "run:run-0123456789"


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Local(FakeModel):
    """A fake model under another URI."""

    def __init__(self, uri: str, revision: str = "") -> None:
        super().__init__("echo")
        self.uri, self.revision = uri, revision

    def describe(self) -> Any:
        return super().describe().model_copy(update={"uri": self.uri, "revision": self.revision})


@pytest.fixture
def measured(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> Saved[Evaluation]:
    """An evaluation of RUN with few-shot examples."""
    (tiny_folder / "chat_template.jinja").unlink()
    found = evaluate(str(tiny_folder), dataset.id, ["chrf"], store=store)
    model = found.record.model.model_copy(update={"uri": RUN, "revision": ""})
    return store.write("eval-measured", found.record.model_copy(update={"model": model}))


def serve(monkeypatch: pytest.MonkeyPatch, store: Store, uris: Sequence[str], **options: Any) -> tuple[Any, Said]:
    """Return the models that `serve` would serve, and what it says."""
    served: dict[str, Model] = {}
    said = Said()
    monkeypatch.setattr(running, "open_all", lambda uris, *rest: {running.name_of(uri): Local(uri) for uri in uris})
    monkeypatch.setattr(running, "_run", lambda models, *rest: served.update(models))
    running.serve(uris, store=store, reporter=said, **options)
    return served, said


def test_a_trained_model_is_served_in_its_measured_form(
    measured: Saved[Evaluation], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, said = serve(monkeypatch, store, [RUN])
    (model,) = served.values()
    assert isinstance(model, FewShotModel)
    assert any("as in eval-measured" in line for line in said.lines)
    limit = measured.record.prompting.max_tokens if measured.record.prompting else 0
    asked = Request(id="a", messages=(Message(role="user", content="Which?"),), max_tokens=limit + 100)
    assert model.rewritten(asked.model_copy(update={"fit": True})).max_tokens == limit
    assert model.rewritten(asked).max_tokens == limit + 100  # the client's own limit

    served, said = serve(monkeypatch, store, [RUN], as_measured=None)
    assert not isinstance(*served.values(), FewShotModel)
    assert any("in its own prompt form, which eval-measured didn't measure" in line for line in said.lines)


def test_another_state_of_the_model_was_not_measured(measured: Saved[Evaluation], store: Store) -> None:
    description = measured.record.model
    found = latest_evaluation(description, store)
    assert found is not None
    assert found.id == measured.id
    assert latest_evaluation(description.model_copy(update={"revision": "+openvino"}), store) is not None
    assert latest_evaluation(description.model_copy(update={"revision": "other"}), store) is None


def test_a_model_from_elsewhere_keeps_its_form_and_a_line_says_so(measured: Saved[Evaluation], store: Store) -> None:
    model = measured.record.model.model_copy(update={"uri": "pkg:small"})
    store.write("eval-small", measured.record.model_copy(update={"model": model}))
    said = Said()
    assert implied_evaluations({"small": Local("pkg:small")}, [], store, said, False) == []
    assert "--as-measured eval-small serves that form" in said.lines[0]


def test_a_removed_dataset_is_no_reason_not_to_serve(
    measured: Saved[Evaluation], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("eval-measured2", measured.record.model_copy(update={"data": "data-gone"}))
    (store.record_path("evaluation", measured.id)).unlink()
    served, said = serve(monkeypatch, store, [RUN])
    assert not isinstance(*served.values(), FewShotModel)
    assert any("is not served as eval-measured2 measured it" in line for line in said.lines)


def test_a_study_is_served_by_its_pick(recorded_study: Path, store: Store) -> None:
    from sizewise.studies import study

    made = study(recorded_study, store=store)
    with pytest.raises(UsageError, match="recorded in a file"):
        resolve_studies([made.id], store)
    picked = {"outcome": "pick", "pick": "right", "checkpoints": {"right": RUN.removeprefix("run:")}}
    other = store.write("study-0123456789", made.record.model_copy(update=picked))
    evaluation = made.record.evaluations["right"]
    assert resolve_studies([other.id, "fake:echo"], store) == ([RUN, "fake:echo"], [evaluation])
    for outcome, message in (("fall_back", "two models"), ("none_good_enough", "no model")):
        record: Study = made.record.model_copy(update={"outcome": outcome, "pick": None, "provisional": None})
        store.write(f"study-{outcome}", record)
        with pytest.raises(UsageError, match=message):
            resolve_studies([f"study-{outcome}"], store)


@pytest.mark.parametrize(("options", "form"), [([], "prompt form that eval-measured measured"), (["--own-prompt"], "")])
def test_a_conversation_in_the_terminal_is_in_the_measured_form(
    options: list[str],
    form: str,
    measured: Saved[Evaluation],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sizewise.cli.main import app

    monkeypatch.setattr("sizewise.models.open_model", lambda uri, **_: Local(uri))
    monkeypatch.setattr("sys.stdin", io.StringIO("Which item?\n\n"))
    app(["chat", RUN, *options], standalone_mode=False)
    said = capsys.readouterr()
    assert form in said.err if form else "eval-measured" not in said.err
    assert said.out.strip()
