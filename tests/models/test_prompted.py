"""What is served is asked as it was measured."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sizewise.datasets import load
from sizewise.errors import UsageError
from sizewise.evaluation import evaluate
from sizewise.models import open_model
from sizewise.models.base import Piece
from sizewise.models.fake import FakeModel
from sizewise.models.prompted import as_evaluated
from sizewise.models.prompts import choose_shots, make_request
from sizewise.progress import Silent
from sizewise.records import Dataset, Evaluation, Message, Request
from sizewise.service.running import _as_measured
from sizewise.store import Saved, Store


def plain(folder: Path) -> Path:
    """Take the chat template away."""
    (folder / "chat_template.jinja").unlink()
    return folder


def test_a_model_without_chat_is_asked_by_the_worked_examples_of_its_evaluation(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path
) -> None:
    measured = evaluate(str(plain(tiny_folder)), dataset.id, ["chrf"], store=store)
    assert measured.record.prompting is not None
    assert measured.record.prompting.form == "few_shot"
    model = open_model(str(tiny_folder), store=store)
    assert not model.describe().can_chat
    served = as_evaluated(model, measured.id, store)
    assert served.describe().can_chat
    assert "2 few-shot examples" in served.describe().origin

    contents = load(store, dataset.id)
    example = contents.examples["test"][0]
    same = make_request(example, "few_shot", choose_shots(contents, 0), 12, ("\n",))
    (expected,) = model.complete([same])
    (given,) = served.complete([Request(id="a", messages=example.messages, max_tokens=12)])
    assert given.text == expected.text
    pieces: list[Piece] = []
    ended = threading.Event()

    def keep(piece: Piece) -> None:
        pieces.append(piece)
        if piece.end is not None:
            ended.set()

    served.start(Request(id="a", messages=example.messages, max_tokens=12), keep)
    assert ended.wait(60)
    assert pieces[-1].end is not None
    told = "".join(piece.text for piece in pieces)
    assert told == pieces[-1].end.text
    assert told == told.lstrip()
    assert told.strip() == given.text
    (untouched,) = served.complete([Request(id="a", text="The river", max_tokens=4)])
    (direct,) = model.complete([Request(id="a", text="The river", max_tokens=4)])
    assert untouched.text == direct.text


def test_a_model_in_its_own_chat_form_stays_as_it_is(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    measured = evaluate(str(tiny_folder), dataset.id, ["chrf"], store=store).record
    form = measured.prompting.form if measured.prompting else ""
    changed = measured.model_copy(
        update={"prompting": measured.prompting.model_copy(update={"form": "chat"}) if measured.prompting else None}
    )
    kept = store.write("eval-chat", changed)
    model = FakeModel("echo")
    assert as_evaluated(model, kept.id, store) is model
    assert form in ("chat", "few_shot")


def test_the_system_message_is_part_of_the_question(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    measured = evaluate(str(plain(tiny_folder)), dataset.id, ["chrf"], store=store)
    seen: list[Request] = []

    class Watching(FakeModel):
        def start(self, request: Request, deliver: object) -> object:
            seen.append(request)
            return super().start(request, deliver)  # type: ignore[arg-type]

    served = as_evaluated(Watching("echo"), measured.id, store)  # type: ignore[arg-type]
    talk = (Message(role="system", content="Be brief."), Message(role="user", content="What is it?"))
    served.start(Request(id="a", messages=talk, stop=("END",)), lambda piece: None)
    assert seen[0].text is not None
    assert seen[0].text.endswith("Question: Be brief.\nWhat is it?\nAnswer:")
    assert seen[0].stop[0] == "END"


def test_an_evaluation_of_another_model_is_refused(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    measured: Saved[Evaluation] = evaluate(str(tiny_folder), dataset.id, ["chrf"], store=store)
    with pytest.raises(UsageError, match="which is not served"):
        _as_measured({"echo": FakeModel("echo")}, [measured.id], store, Silent())
