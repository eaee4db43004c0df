"""The bytes that each token of a vocabulary stands for; a character may consist of several tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers.decoders import ByteLevel

from sizewise.lm.control_tokens import answer_text
from sizewise.lm.tokenizer import text_ids

SAMPLE = "Für 20 °C: the patient's Ωmega, 患者."
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_tables: WeakKeyDictionary[Any, tuple[int, list[bytes | None]]] = WeakKeyDictionary()


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """Return the bytes of each token of a byte-level or SentencePiece vocabulary; None for control tokens."""
    tokens = [token or "" for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    if isinstance(tokenizer.backend_tokenizer.decoder, ByteLevel):
        letters = {letter: byte for byte, letter in _byte_letters().items()}
        found = [bytes(map(letters.__getitem__, t)) if set(t) <= letters.keys() else b"" for t in tokens]
    else:
        found = [bytes([int(m[1], 16)]) if (m := _BYTE.fullmatch(t)) else t.replace("▁", " ").encode() for t in tokens]
    control = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return [piece if piece and number not in control else None for number, piece in enumerate(found)]


def spelled(ids: Sequence[int], pieces: Sequence[bytes | None]) -> bytes:
    """Return the bytes of tokens; control tokens have none."""
    return b"".join(pieces[token] or b"" for token in ids)


def spells(tokenizer: Any, pieces: Sequence[bytes | None]) -> bool:
    """Check that the bytes of tokens spell the text that they encode; some tokenizers put a space before it."""
    return spelled(text_ids(tokenizer, SAMPLE), pieces) in (SAMPLE.encode(), b" " + SAMPLE.encode())


def bytes_in_answer(tokenizer: Any, token: int) -> bytes:
    """Return the bytes that a token adds to an answer; none for control tokens.

    The first call for a tokenizer reads its vocabulary.
    """
    known = _tables.get(tokenizer)
    if known is None or known[0] != len(tokenizer):
        pieces = token_bytes(tokenizer) if getattr(tokenizer, "is_fast", False) else []
        known = _tables[tokenizer] = (len(tokenizer), pieces if pieces and spells(tokenizer, pieces) else [])
    own = known[1][token] if 0 <= token < len(known[1]) else None
    return answer_text(tokenizer, [token]).encode("utf-8", "replace") if own is None else own


def _byte_letters() -> dict[int, str]:
    """Return the letter that a byte-level vocabulary writes for each byte: printable ones stand for themselves."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + number) for number, byte in enumerate(others)}
