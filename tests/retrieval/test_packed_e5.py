"""The packed multilingual encoder, here a tiny one that the test packs itself."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sizewise.errors import SizewiseError
from sizewise.retrieval import Encoder
from sizewise.retrieval.packaged_encoders import DEFAULT_ENCODER, MULTILINGUAL_ENCODER, encoder_for
from sizewise.retrieval.packed_e5 import write_packed_e5
from tests.languages import PASSAGES

WAVE = "\uff5e"
PIECES = [
    "<s>", "<pad>", "</s>", "<unk>", "▁", "▁query", "query", ":", "▁passage", "▁card", "card", "▁fi", "1", "2", WAVE,
]  # fmt: skip
WIDTH, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 4, 64, 24


def blocks(values: np.ndarray) -> bytes:
    """Quantize to blocks of 32 weights in 4 bits."""
    packed = b""
    for row in values.reshape(-1, 32):
        scale = np.float16(np.abs(row).max() / 7 or 1)
        whole = np.clip(np.round(row / np.float32(scale)) + 8, 0, 15).astype(np.uint8)
        packed += scale.tobytes() + (whole[:16] | whole[16:] << 4).tobytes()
    return packed


def packed() -> bytes:
    """Pack a random network."""
    rng = np.random.default_rng(0)
    text = "".join(PIECES).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)]).astype("<u4")
    scores = -np.arange(len(PIECES), dtype="<f4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, WIDTH, LAYERS, HEADS, INNER, len(PIECES) + 7, POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text)) + ends.tobytes() + scores.tobytes() + text
    head += struct.pack("<iIIBI", 1, 9, 9, 1, 32)  # a tab is a blank
    shapes: dict[str, Any] = {
        "emb.word": (len(PIECES) + 7, WIDTH), "emb.pos": (POSITIONS, WIDTH), "emb.type": (2, WIDTH),
        "emb.ln.w": (WIDTH,), "emb.ln.b": (WIDTH,),
    }  # fmt: skip
    for layer in range(LAYERS):
        for part in ("q", "k", "v", "ao", "aln", "fi", "fo", "oln"):
            out = INNER if part == "fi" else WIDTH
            within = () if part in ("aln", "oln") else (INNER,) if part == "fo" else (WIDTH,)
            shapes |= {f"l{layer}.{part}.w": (out, *within), f"l{layer}.{part}.b": (out,)}
    bodies = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape).astype(np.float32)
        whole = len(shape) == 2 and name not in ("emb.pos", "emb.type")
        bodies[name] = (int(whole), values.size, blocks(values) if whole else values.tobytes())
    start = len(head) + 4 + sum(2 + len(name) + 1 + 4 + 8 + 8 for name in bodies)
    table, data = struct.pack("<i", len(bodies)), b""
    for name, (kind, size, body) in bodies.items():
        table += struct.pack("<H", len(name)) + name.encode()
        table += struct.pack("<BIQQ", kind, size, start + len(data), len(body))
        data += body
    return head + table + data


def test_it_computes_what_transformers_computes_from_the_folder(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    write_packed_e5(packed(), tmp_path)
    encoder = Encoder.open(tmp_path)
    assert (encoder.width, encoder.max_tokens, encoder.settings.prompt) == (WIDTH, POSITIONS, "query: ")
    network = AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert network.get_input_embeddings().weight.shape == (len(PIECES), WIDTH)
    texts = ["card", "", "card card 2 " * 20]
    for ids, vector in zip(encoder.token_ids(texts), encoder.encode(texts), strict=True):
        with torch.inference_mode():
            pooled = network(torch.tensor([ids])).last_hidden_state[0].mean(0)
        assert float((pooled / pooled.norm() - torch.from_numpy(vector)).abs().max()) < 1e-4


def test_passages_have_a_prompt_of_their_own(tmp_path: Path) -> None:
    write_packed_e5(packed(), tmp_path)
    encoder = Encoder.open(tmp_path)
    (asked,), (passage,) = encoder.encode(["card"]), encoder.encode_passages(["card"])
    assert float(asked @ passage) < 0.999


def test_characters_are_normalized_as_sentencepiece_does(tmp_path: Path) -> None:
    write_packed_e5(packed(), tmp_path)
    encoder = Encoder.open(tmp_path)

    def pieces(text: str) -> list[str]:
        return [PIECES[number] for number in encoder.token_ids([text])[0][3:-1]]

    assert pieces("card\tcard") == pieces("card  card") == pieces("card\u200bcard") == ["▁card", "▁card"]
    assert pieces("ca\x07rd") == ["▁card"]
    assert pieces("\uff43ard") == ["▁card"]  # full-width
    assert pieces("½") == ["▁", "1", "<unk>", "2"]
    assert pieces(WAVE) == ["▁", WAVE]


@pytest.mark.parametrize("data", [b"", b"GGUF" + bytes(80), packed()[:400], packed()[:-500]])
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SizewiseError, match="can't be read"):
        write_packed_e5(data, tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_the_encoder_follows_the_languages_of_the_texts() -> None:
    english = ["The card was not accepted at the counter, and nobody could say why it happened."] * 9
    german = ["Die Karte wurde am Schalter nicht angenommen, und keiner wusste, woran das liegt."]
    assert encoder_for(english) == encoder_for([]) == encoder_for(["42", "ok"]) == DEFAULT_ENCODER
    assert encoder_for(german) == encoder_for(english[:4] + german) == MULTILINGUAL_ENCODER
    assert encoder_for([passage.text for passage in PASSAGES["th"]]) == MULTILINGUAL_ENCODER
