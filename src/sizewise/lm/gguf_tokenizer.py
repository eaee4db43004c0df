"""Read the tokenizer of a GGUF file so that it gives llama.cpp's tokens.

transformers reads it nearly so. Of a byte-level vocabulary, it respells added tokens with letters outside ASCII, such
as DeepSeek's marks of turns: they aren't found in a text, and its beginning gets an id outside the vocabulary. Of a
SentencePiece vocabulary, it puts a space before a whole text; llama.cpp puts one before each text between control
tokens, unless the file says otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer, decoders, pre_tokenizers
from transformers import AutoTokenizer

_KEYS = gguf.Keys.Tokenizer
_ADDED = (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer of a GGUF file with transformers, and correct what it reads otherwise than llama.cpp."""
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    reader = gguf.GGUFReader(str(path))
    if _value(reader, _KEYS.MODEL) == "gpt2":
        _respell(tokenizer, _added_tokens(reader))
    if isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.Metaspace):
        _place_spaces(tokenizer, puts_space=_value(reader, _KEYS.ADD_PREFIX) is not False)
    return tokenizer


def _value(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.fields.get(key)
    return None if field is None else field.contents()


def _added_tokens(reader: gguf.GGUFReader) -> dict[int, tuple[str, bool]]:
    """Return id -> text of the added tokens with letters outside ASCII, and whether each is a control token."""
    texts, types = reader.fields.get(_KEYS.LIST), reader.fields.get(_KEYS.TOKEN_TYPE)
    if texts is None or types is None:
        return {}
    found = {}
    for number, (text, kind) in enumerate(zip(texts.data, types.data, strict=True)):
        if int(types.parts[kind][0]) in _ADDED:
            written = bytes(texts.parts[text]).decode("utf-8", "replace")
            if not written.isascii() and written[0] in "<[" and written[-1] in ">]":
                found[number] = written, int(types.parts[kind][0]) == gguf.TokenType.CONTROL
    return found


def _respell(tokenizer: Any, added: dict[int, tuple[str, bool]]) -> None:
    """Restore the text and id of added tokens."""
    known = {number: tokenizer.convert_ids_to_tokens(number) for number in added}
    wrong = {number: text for number, text in known.items() if text != added[number][0]}
    if not wrong:
        return
    described: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = described["model"]["vocab"]
    texts = {added[number][0] for number in wrong}
    kept = [token for token in described["added_tokens"] if token["id"] not in wrong and token["content"] not in texts]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for number, before in wrong.items():
        text, special = added[number]
        vocabulary.pop(before, None)
        vocabulary[text] = number
        kept.append({"id": number, "content": text, "special": special} | plain)
    described["added_tokens"] = sorted(kept, key=lambda token: int(token["id"]))
    described["post_processor"] = None
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.update_post_processor()  # with the ids of the tokens around a text


def _place_spaces(tokenizer: Any, puts_space: bool) -> None:
    """Put a space before each text between control tokens, or nowhere."""
    backend = tokenizer.backend_tokenizer
    scheme = "always" if puts_space else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    if not puts_space:
        parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        backend.decoder = decoders.Sequence(parts)
