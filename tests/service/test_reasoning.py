"""Reasoning of a model has a field of its own in chat answers, whole or streamed."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from sizewise.models.base import Deliver, Piece
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, Request
from sizewise.service import Settings, create_app
from sizewise.service.reasoning import ReasoningParser
from sizewise.store import Store
from tests.service.test_health import until


def streamed(pieces: list[str]) -> tuple[str, str]:
    parser = ReasoningParser()
    parts = [parser.feed(piece) for piece in pieces] + [parser.end()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\nTwo and two.\n</think>\n\nFour.", "\nTwo and two.\n", "Four."),
        ("<think>\n\n</think>\n\nFour.", "\n\n", "Four."),
        ("  <THINK>a</think>b", "a", "b"),
        ("[THINK]a[/THINK]b", "a", "b"),
        ("<think>cut off", "cut off", ""),
        ("<think>a </thin b", "a </thin b", ""),
        ("The tag <think> opens a thought.", "", "The tag <think> opens a thought."),
        ("< 5 is what I'd say", "", "< 5 is what I'd say"),
        ("<", "", "<"),
        (" indented", "", " indented"),
        ("", "", ""),
    ],
)
def test_reasoning_is_sent_apart_however_the_text_is_cut(text: str, reasoning: str, answer: str) -> None:
    for size in (1, 2, 3, 7, len(text) or 1):
        assert streamed([text[at : at + size] for at in range(0, len(text), size)]) == (reasoning, answer)


class Thinker(FakeModel):
    """Thinks before it answers."""

    def start(self, request: Request, deliver: Deliver) -> object:  # type: ignore[override]
        text = "<think>\nTwo and two.\n</think>\n\nFour."
        for letter in text:
            deliver(Piece(letter))
        deliver(
            Piece(
                end=Completion(
                    id=request.id, text=text, prompt_tokens=3, completion_tokens=9, seconds=0.1, finish="stop"
                )
            )
        )
        return lambda: None


def test_the_content_of_an_answer_is_the_answer(store: Store) -> None:
    body = {"model": "thinker", "messages": [{"role": "user", "content": "2 + 2?"}]}
    with TestClient(create_app({"thinker": Thinker("echo")}, Settings(), store)) as client:
        assert until(lambda: client.get("/health").is_success)
        message = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == ("Four.", "Two and two.")
        lines = client.post("/v1/chat/completions", json=body | {"stream": True}).text.splitlines()
        deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines if line.startswith("data: {")]
        assert "".join(delta.get("content") or "" for delta in deltas) == "Four."
        assert "".join(delta.get("reasoning_content") or "" for delta in deltas).strip() == "Two and two."
