from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from sizewise.models import Model, open_model
from sizewise.models.answering import Text
from sizewise.models.base import Piece
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, Message, Request
from sizewise.store import Store

CHAT = (Message(role="user", content="What does item seven say of the plan?"),)


def streamed(model: Model, request: Request) -> tuple[list[Piece], Completion]:
    arrived: SimpleQueue[Piece] = SimpleQueue()
    model.start(request, arrived.put)
    pieces = []
    while True:
        piece = arrived.get(timeout=30)
        if piece.end is not None:
            return pieces, piece.end
        pieces.append(piece)


def by_letters(ids: Any) -> str:
    return bytes(ids).decode("utf-8", errors="replace")


def test_text_holds_back_half_characters_and_what_may_be_a_stop_text() -> None:
    raw = "naïve — END of it".encode()
    text = Text(by_letters, stops=("END",))
    given = [text.push([byte]) for byte in raw]
    assert "".join(given) == text.returned == "naïve — "
    assert "\ufffd" not in "".join(given)
    assert text.stopped
    open_end = Text(by_letters, stops=("END",))
    assert "".join(open_end.push([byte]) for byte in b"an EN") + open_end.end() == "an EN"


@pytest.mark.parametrize("engine", ["transformers", "openvino"])
def test_a_streamed_answer_is_the_whole_one(tiny_folder: Path, store: Store, engine: Any) -> None:
    model = open_model(str(tiny_folder), store=store, precision="fp32", engine=engine)
    for request in (
        Request(id="a", messages=CHAT, max_tokens=24),
        Request(id="b", text="The patient", max_tokens=16, stop=("e",)),
        Request(id="c", ids=(5, 6, 7), max_tokens=3, logprobs=True),
    ):
        pieces, end = streamed(model, request)
        (whole,) = model.complete([request])
        assert "".join(piece.text for piece in pieces).strip() == end.text == whole.text
        assert (end.finish, end.completion_tokens) == (whole.finish, whole.completion_tokens)
        if request.logprobs:
            assert sum(len(piece.tokens) for piece in pieces) == 3
            assert all(value <= 0 for piece in pieces for value in piece.logprobs)
    drawn = [
        streamed(model, Request(id="d", messages=CHAT, max_tokens=12, temperature=2.0, seed=seed))[1].text
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    _, refused = streamed(model, Request(id="e", text="x", max_tokens=5_000))
    assert "more than the context" in str(refused.error)
    model.close()


@pytest.mark.parametrize("engine", ["transformers", "openvino"])
def test_an_answer_can_be_cancelled(tiny_folder: Path, store: Store, engine: Any) -> None:
    model = open_model(str(tiny_folder), store=store, precision="fp32", engine=engine)
    arrived: SimpleQueue[Piece] = SimpleQueue()
    cancel = model.start(Request(id="a", text="The", max_tokens=200, logprobs=True), arrived.put)
    arrived.get(timeout=30)
    cancel()
    end = None
    while end is None:
        end = arrived.get(timeout=30).end
    assert end.completion_tokens < 200
    cancel()
    model.close()


def test_fakes_take_their_time() -> None:
    model = FakeModel("echo", delay_s=0.01)
    pieces, end = streamed(model, Request(id="a", messages=CHAT))
    assert "".join(piece.text for piece in pieces) == end.text == CHAT[0].content
    assert len(pieces) == len(CHAT[0].content.split())
    assert end.seconds >= 0.05
