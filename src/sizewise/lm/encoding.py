"""Encode many texts: on all processor cores, in order, with bounded memory, and resumable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from sizewise.lm.control_tokens import Encoded, Rendered, backend_of, encode_many, has_hidden, hide
from sizewise.lm.packing import IntArray
from sizewise.lm.template_dates import template_date
from sizewise.store import make_folder, open_private, write_atomically

ENCODING_VERSION = 1
"""Part of the name of encoded text. Increase it when the same text is encoded in another way."""
BATCH_CHARACTERS = 1_000_000
WINDOW, OVERLAP = 100_000, 1_000  # characters of a long text that are encoded at once
AGREEING = 8  # tokens that two windows must have in common where they are joined
COMMIT_TOKENS = 2_000_000
Ids = npt.NDArray[np.int32]


def encode_texts(tokenizer: Any, texts: Iterable[str]) -> Iterator[Ids]:
    """Encode texts in their order, without special tokens. Long texts are encoded in windows.

    Args:
        tokenizer: the model's tokenizer.
        texts: users' texts, or renderings of a chat template (`Rendered`).
    """
    batch: list[Rendered] = []
    size = 0
    for text in texts:
        if len(text) > WINDOW and tokenizer.is_fast and not (isinstance(text, Rendered) and has_hidden(text)):
            yield from _encoded(tokenizer, batch)
            yield _long(tokenizer, text)
            batch, size = [], 0
            continue
        batch.append(text if isinstance(text, Rendered) else hide(tokenizer, text))
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield from _encoded(tokenizer, batch)
            batch, size = [], 0
    yield from _encoded(tokenizer, batch)


def _encoded(tokenizer: Any, batch: Sequence[Rendered]) -> Iterator[Ids]:
    for one in encode_many(tokenizer, batch) if batch else ():
        yield np.array(one.ids, np.int32)


def _long(tokenizer: Any, text: str) -> Ids:
    """Encode a long text in overlapping windows, joined where both have the same tokens."""
    step = WINDOW - OVERLAP
    begins = range(0, max(1, len(text) - OVERLAP), step)
    parts: list[Ids] = []
    ids, starts = np.zeros(0, np.int32), np.zeros(0, np.int64)
    per_batch = max(1, BATCH_CHARACTERS // WINDOW)
    for first in range(0, len(begins), per_batch):
        chosen = begins[first : first + per_batch]
        windows = [_part(tokenizer, text, begin, begin + WINDOW) for begin in chosen]
        for begin, window in zip(chosen, encode_many(tokenizer, windows, offsets=True), strict=True):
            later_ids, later_starts = _arrays(window, begin)
            if begin:
                place = _joint(ids, starts, later_ids, later_starts, begin)
                if place is None:  # a run of characters without a common boundary
                    rest = _part(tokenizer, text, begin + OVERLAP, begin + WINDOW)
                    later_ids, later_starts = _arrays(encode_many(tokenizer, [rest], offsets=True)[0], begin + OVERLAP)
                else:
                    cut, keep = place
                    ids, later_ids, later_starts = ids[:cut], later_ids[keep:], later_starts[keep:]
                parts.append(ids)
            ids, starts = later_ids, later_starts
    return np.concatenate([*parts, ids])


def _part(tokenizer: Any, text: str, start: int, end: int) -> Rendered:
    part = text[start:end]
    return Rendered(part) if isinstance(text, Rendered) else hide(tokenizer, part)


def _arrays(encoded: Encoded, begin: int) -> tuple[Ids, IntArray]:
    return np.array(encoded.ids, np.int32), np.array(encoded.starts, np.int64) + begin


def _joint(ids: Ids, starts: IntArray, later_ids: Ids, later_starts: IntArray, begin: int) -> tuple[int, int] | None:
    """Find a place in the overlap from which two windows have the same tokens, as an index into each."""
    middle = starts[np.searchsorted(starts, begin + OVERLAP // 4) : np.searchsorted(starts, begin + OVERLAP // 2)]
    for place in np.intersect1d(middle, later_starts):
        one, other = int(np.searchsorted(starts, place)), int(np.searchsorted(later_starts, place))
        same = slice(one, one + AGREEING), slice(other, other + AGREEING)
        if np.array_equal(ids[same[0]], later_ids[same[1]]) and np.array_equal(starts[same[0]], later_starts[same[1]]):
            return one, other
    return None


@dataclass(frozen=True)
class EncodedItems:
    """Token ids of items, perhaps memory-mapped.

    Attributes:
        tokens: ids of all items, one item after the other.
        ends: end of each item in `tokens`; an item without tokens can't be used.
        firsts: index of the first token of each item that counts in the loss.
    """

    tokens: npt.NDArray[Any]
    ends: IntArray
    firsts: IntArray

    @classmethod
    def of(cls, items: Iterable[tuple[Sequence[int] | Ids, int]]) -> EncodedItems:
        """Hold (ids, first) pairs in memory."""
        pairs = [(np.asarray(ids, np.int32), first) for ids, first in items]
        tokens = np.concatenate([ids for ids, _ in pairs]) if pairs else np.zeros(0, np.int32)
        ends = np.cumsum([len(ids) for ids, _ in pairs], dtype=np.int64)
        return cls(tokens, ends, np.array([first for _, first in pairs], np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> IntArray:
        """Place of each item's first token."""
        return np.concatenate([[0], self.ends[:-1]]).astype(np.int64) if len(self.ends) else np.zeros(0, np.int64)

    @property
    def lengths(self) -> IntArray:
        """Number of tokens of each item."""
        return self.ends - self.starts


class ItemFile:
    """Encoded items on disk. If the process is killed, the next one goes on after the last committed item.

    Args:
        folder: where its files are.
        name: name of the files.
        vocabulary: number of token ids.
    """

    def __init__(self, folder: Path, name: str, vocabulary: int) -> None:
        self._type = np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.int32)
        self._tokens, self._items, self._state = (folder / f"{name}.{kind}" for kind in ("tokens", "items", "json"))
        self._counts = self._read_state()

    def _read_state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
            sizes = self._tokens.stat().st_size, self._items.stat().st_size
        except (OSError, ValueError):
            return {"items": 0, "tokens": 0, "done": False}
        whole = sizes[0] >= state["tokens"] * self._type.itemsize and sizes[1] >= state["items"] * 16
        return state if whole else {"items": 0, "tokens": 0, "done": False}

    @property
    def item_bytes(self) -> int:
        """Bytes of a token."""
        return self._type.itemsize

    @property
    def done(self) -> bool:
        """Whether all items are encoded."""
        return bool(self._counts["done"])

    @property
    def count(self) -> int:
        """Number of items that are encoded and committed."""
        return int(self._counts["items"])

    def write(self, items: Iterable[tuple[Ids, int]]) -> Iterator[int]:
        """Append (ids, first) pairs after the committed ones, and yield the number of items so far."""
        make_folder(self._tokens.parent)
        with _opened(self._tokens) as tokens, _opened(self._items) as table:
            tokens.truncate(self._counts["tokens"] * self._type.itemsize)
            table.truncate(self._counts["items"] * 16)
            tokens.seek(0, os.SEEK_END)
            table.seek(0, os.SEEK_END)
            count, end, committed = self._counts["items"], self._counts["tokens"], self._counts["tokens"]
            for ids, first in items:
                tokens.write(ids.astype(self._type).tobytes())
                count, end = count + 1, end + len(ids)
                table.write(np.array([end, first], np.int64).tobytes())
                if end - committed >= COMMIT_TOKENS:
                    self._commit((tokens, table), count, end, done=False)
                    committed = end
                yield count
            self._commit((tokens, table), count, end, done=True)

    def _commit(self, files: Sequence[BinaryIO], count: int, end: int, *, done: bool) -> None:
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        self._counts = {"items": count, "tokens": end, "done": done}
        write_atomically(self._state, json.dumps(self._counts))

    def read(self) -> EncodedItems:
        """Return the items; their tokens are memory-mapped."""
        table = np.fromfile(self._items, np.int64, 2 * self.count).reshape(-1, 2)
        size = int(self._counts["tokens"])
        tokens: Any = np.memmap(self._tokens, self._type, "r", shape=(size,)) if size else np.zeros(0, self._type)
        return EncodedItems(tokens, table[:, 0].copy(), table[:, 1].copy())


def _opened(path: Path) -> BinaryIO:
    path.touch(0o600)
    return open(path, "r+b", opener=open_private)


def tokenizer_settings(tokenizer: Any) -> str:
    """Compute a hash of everything in a tokenizer that determines how conversations and texts are encoded."""
    inner = backend_of(tokenizer).to_str() if tokenizer.is_fast else json.dumps(sorted(tokenizer.get_vocab().items()))
    special = [tokenizer.chat_template, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    special += [date] if (date := template_date(tokenizer)) else []
    return hashlib.sha256(json.dumps([type(tokenizer).__name__, inner, special], default=str).encode()).hexdigest()
