from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sizewise.lm import generate
from sizewise.lm.text_stream import Text
from sizewise.models import Model, open_model
from sizewise.models.answering import Answer
from sizewise.models.base import Piece, bytes_of
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, Message, Request
from sizewise.service.responses import TextForm, chat_logprobs
from sizewise.service.schemas import TextRequest
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


@pytest.mark.parametrize("written", ["Names: 𓀀𓀁𓀂𓀃𓀄𓀅 and 𐌰𐌱𐌲", "𓀀𓀁𓀂𓀃", "naïve 日本語 " * 9])
def test_text_of_single_bytes_stays_whole(written: str) -> None:
    """A decoder with byte fallback breaks all bytes in a row if the first of them are missing."""
    decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])

    def decode(ids: Any) -> str:
        return str(decoder.decode([f"<0x{byte:02X}>" if byte > 127 else chr(byte) for byte in ids]))

    for size in (1, 2, 3, 7):
        raw, text = written.encode(), Text(decode)
        pieces = [text.push(raw[at : at + size]) for at in range(0, len(raw), size)]
        assert "".join(pieces) + text.end() == written
        assert len([piece for piece in pieces if piece]) > len(raw) / size / 5  # nothing waits for the end


THOUGHT = "<think>\nCompare 9.11 and 9.8.\n\nEight tenths is more.\n</think>\n\n"


@pytest.mark.parametrize(
    ("written", "stop", "opened", "wanted"),
    [
        (THOUGHT + "9.80 is larger.\n\nMore", "\n\n", "", THOUGHT + "9.80 is larger."),
        (THOUGHT + "It is 9.8, I think", "9.8", "", THOUGHT + "It is "),
        (THOUGHT.removeprefix("<think>") + "It is 9.8, I think", "9.8", "<think>", None),
        ("<think>9.8 cut off", "9.8", "", "<think>9.8 cut off"),
        ("\n" + THOUGHT + "One\nTwo", "\n", "", "\n" + THOUGHT + "One"),
        ("\n\nOne", "\n\n", "", ""),
        ("\n" * 40, "\n\n", "", ""),
        ("<thin 9.8 air", "9.8", "", "<thin "),
        ("<", "<", "", ""),
        ("9.8 <think>9.8", "9.8", "", ""),
        (
            "<|channel|>analysis<|message|>9.8<|end|><|start|>assistant<|channel|>final<|message|>A 9.8 b",
            "9.8",
            "",
            None,
        ),
    ],
)
def test_stop_texts_act_after_reasoning(written: str, stop: str, opened: str, wanted: str | None) -> None:
    wanted = written[: written.rindex(stop)] if wanted is None else wanted
    for size in (1, 2, 5, len(written)):
        text, raw = Text(by_letters, (stop,), opened), written.encode()
        given = "".join(text.push(raw[at : at + size]) for at in range(0, len(raw), size)) + text.end()
        assert given == text.returned == wanted
        assert text.stopped == (wanted != written)
    everywhere = Text(by_letters, (stop,))
    assert everywhere.push(written.encode()) == written[: written.index(stop)]


class Letters:
    """A tokenizer whose tokens are bytes."""

    added_tokens_decoder: Mapping[int, Any] = MappingProxyType({})
    all_special_ids = ()

    def __len__(self) -> int:
        return 256

    def __call__(self, text: str, **_: Any) -> Any:
        return SimpleNamespace(input_ids=list(text.encode()))

    def decode(self, ids: Any, **_: Any) -> str:
        return by_letters(ids)


@pytest.mark.parametrize("streams", [True, False])
def test_a_conversation_stops_after_its_reasoning(streams: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written, letters = (THOUGHT + "9.80 is larger.\n\nMore").encode(), Letters()
    if streams:
        ends: list[Completion] = []
        request = Request(id="a", messages=CHAT, max_tokens=200, stop=("\n\n",))
        answer = Answer(letters, request, 3, lambda piece: ends.append(piece.end) if piece.end else None)
        assert any(answer.take([byte]) for byte in written)
        (end,) = ends
        assert (end.text, end.finish) == ("9.80 is larger.", "stop")
        return

    def scripted(_: Any, __: Any, prompts: Any, is_done: Any, choose: Any) -> list[list[int]]:
        return [next(list(written[:n]) for n in range(1, 200) if is_done(i, list(written[:n]))) for i in range(2)]

    monkeypatch.setattr(generate, "run_batch", scripted)
    monkeypatch.setattr(generate, "end_ids", lambda *_: {0})
    network = SimpleNamespace(device="cpu")
    more: Any = {"max_tokens": 200, "stop": ("\n\n",)}
    for answer in generate.generate(network, letters, [[1], [1, 2]], thoughts=["", ""], **more):
        assert answer.text == (THOUGHT + "9.80 is larger.").strip()
    for answer in generate.generate(network, letters, [[1], [1, 2]], **more):
        assert answer.text == "<think>\nCompare 9.11 and 9.8."


def with_byte_fallback() -> Any:
    """A tokenizer like Llama 2's: a blank before each text, dropped again, and single bytes for unknown letters."""
    letters = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), "<s>"]
    made = Tokenizer(
        token_models.BPE({one: i for i, one in enumerate(letters)}, [], byte_fallback=True, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="<s>")


@pytest.mark.parametrize("kind", ["bytes", "byte fallback"])
@pytest.mark.parametrize("written", ["Party 🎉🦩 time", "𓀀𓀁𓀂𓀃 of naïve men"])
def test_tokens_have_their_own_bytes(kind: str, written: str, tiny_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder) if kind == "bytes" else with_byte_fallback()
    ids = [*tokenizer(written, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    pieces: list[Piece] = []
    answer = Answer(tokenizer, Request(id="a", text="x", max_tokens=99, logprobs=True), 3, pieces.append)
    assert any(answer.take_one({tokenizer.eos_token_id}, token, -1.0) for token in ids)
    tokens = [token for piece in pieces for token in piece.tokens]
    assert len(tokens) == len(ids)
    assert b"".join(map(bytes_of, tokens)).decode() == written == "".join(piece.text for piece in pieces)
    assert (tokens[-1], bytes_of(tokens[-1])) == (tokenizer.eos_token, b"")
    assert 0 < sum("\ufffd" in token for token in tokens) < len(tokens)  # parts of characters
    form = TextForm("m", TextRequest(model="m", prompt="x", logprobs=1))
    chunks = [form.delta(0, "", piece.tokens, [0.0])[0] for piece in pieces if piece.tokens]
    streamed = [place for chunk in chunks for place in chunk["logprobs"]["text_offset"]]
    form = TextForm("m", TextRequest(model="m", prompt="x", logprobs=1))
    whole = form.choice(0, "", "stop", tokens, [0.0] * len(tokens))["logprobs"]["text_offset"]
    assert streamed == whole
    assert streamed[-1] == len(written)
    assert all(
        written.startswith(token, place)
        for token, place in zip(tokens[:-1], whole, strict=False)
        if "\ufffd" not in token
    )
    told = chat_logprobs(tokens, [0.0] * len(tokens))["content"]
    assert bytes(byte for one in told for byte in one["bytes"]).decode() == written


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
