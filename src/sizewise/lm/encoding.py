"""Encode many texts: on all processor cores, in order, with bounded memory, and resumable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.lm.control_tokens import Encoded, Rendered, backend_of, encode_many, has_hidden, hide
from sizewise.lm.packing import IntArray
from sizewise.lm.template_dates import template_date
from sizewise.store import make_folder, open_private, write_atomically

ENCODING_VERSION = 3
"""Part of the name of encoded text. Increase it when the same text is encoded in another way."""
BATCH_CHARACTERS = 1_000_000
WINDOW, OVERLAP = 100_000, 1_000  # characters of a long text that are encoded at once
AGREEING = 8  # tokens that two windows must have in common where they are joined
COMMIT_TOKENS = 2_000_000
_COLUMNS = 3  # of the table of items: end, first learned token, row
_NOTHING = {"items": 0, "tokens": 0, "rows": 0, "done": False}
Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.uint8]


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


class Item(NamedTuple):
    """An encoded text or conversation."""

    ids: Ids
    first: int
    """Index of the first token that counts in the loss."""
    learned: Mask | None = None
    """1 for each token that counts in the loss; None if all from the first one do."""


@dataclass(frozen=True)
class EncodedItems:
    """Token ids of items, perhaps memory-mapped.

    Attributes:
        tokens: ids of all items, one item after the other.
        ends: end of each item in `tokens`; an item without tokens can't be used.
        firsts: index of the first token of each item that counts in the loss.
        rows: row of the dataset that each item was made of.
        learned: 1 for each of `tokens` that counts in the loss; None if all from the first one do.
    """

    tokens: npt.NDArray[Any]
    ends: IntArray
    firsts: IntArray
    rows: IntArray
    learned: Mask | None = None

    @classmethod
    def of(cls, rows: Iterable[Sequence[Item]]) -> EncodedItems:
        """Hold the items of each row in memory."""
        items, places = list[Item](), list[int]()
        for number, row in enumerate(rows):
            items += row
            places += [number] * len(row)
        tokens = np.concatenate([np.asarray(item.ids, np.int32) for item in items]) if items else np.zeros(0, np.int32)
        ends = np.cumsum([len(item.ids) for item in items], dtype=np.int64)
        masked = any(item.learned is not None for item in items)
        learned = np.concatenate([mask_of(item) for item in items]) if masked else None
        firsts = np.array([item.first for item in items], np.int64)
        return cls(tokens, ends, firsts, np.array(places, np.int64), learned)

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


def mask_of(item: Item) -> Mask:
    """Return 1 for each token of an item that counts in the loss."""
    if item.learned is not None:
        return item.learned
    return (np.arange(len(item.ids)) >= item.first).astype(np.uint8)


class ItemFile:
    """Encoded items on disk. If the process is killed, the next one goes on after the last committed item.

    Args:
        folder: where its files are.
        name: name of the files.
        vocabulary: number of token ids.
        masked: whether items may have tokens after their first one that don't count in the loss.
    """

    def __init__(self, folder: Path, name: str, vocabulary: int, *, masked: bool = False) -> None:
        self._type = np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.int32)
        self._tokens, self._items, self._state = (folder / f"{name}.{kind}" for kind in ("tokens", "items", "json"))
        self._learned = folder / f"{name}.learned" if masked else None
        self._counts = self._read_state()

    def _read_state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
            sizes = [path.stat().st_size for path in (self._tokens, self._items, self._learned) if path]
        except (OSError, ValueError):
            return _NOTHING
        needed = [state["tokens"] * self._type.itemsize, state["items"] * _COLUMNS * 8, state["tokens"]]
        return state if all(size >= least for size, least in zip(sizes, needed, strict=False)) else _NOTHING

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
        """Number of rows whose items are encoded and committed."""
        return int(self._counts["rows"])

    def write(self, rows: Iterable[Sequence[Item]]) -> Iterator[int]:
        """Append the items of further rows after the committed ones, and yield the number of rows so far."""
        make_folder(self._tokens.parent)
        kept = self._counts
        sizes = {
            self._tokens: kept["tokens"] * self._type.itemsize,
            self._items: kept["items"] * _COLUMNS * 8,
            **({self._learned: kept["tokens"]} if self._learned else {}),
        }
        with ExitStack() as opened:
            files = [opened.enter_context(_opened(path, size)) for path, size in sizes.items()]
            count, end, row = kept["items"], kept["tokens"], kept["rows"]
            committed = end
            for items in rows:
                for item in items:
                    files[0].write(item.ids.astype(self._type).tobytes())
                    count, end = count + 1, end + len(item.ids)
                    files[1].write(np.array([end, item.first, row], np.int64).tobytes())
                    if self._learned:
                        files[2].write(mask_of(item).tobytes())
                row += 1
                if end - committed >= COMMIT_TOKENS:
                    self._commit(files, {"items": count, "tokens": end, "rows": row, "done": False})
                    committed = end
                yield row
            self._commit(files, {"items": count, "tokens": end, "rows": row, "done": True})

    def _commit(self, files: Sequence[BinaryIO], counts: dict[str, Any]) -> None:
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        self._counts = counts
        write_atomically(self._state, json.dumps(counts))

    def read(self) -> EncodedItems:
        """Return the items; their tokens are memory-mapped."""
        table = np.fromfile(self._items, np.int64, _COLUMNS * self._counts["items"]).reshape(-1, _COLUMNS)
        size = int(self._counts["tokens"])
        learned = _mapped(self._learned, np.dtype(np.uint8), size) if self._learned else None
        ends, firsts, rows = table.T.copy()
        return EncodedItems(_mapped(self._tokens, self._type, size), ends, firsts, rows, learned)


def _mapped(path: Path, kind: Any, size: int) -> Any:
    return np.memmap(path, kind, "r", shape=(size,)) if size else np.zeros(0, kind)


def _opened(path: Path, size: int) -> BinaryIO:
    """Open a file to append after its first bytes."""
    path.touch(0o600)
    file = open(path, "r+b", opener=open_private)  # noqa: SIM115 - closed by the caller
    file.truncate(size)
    file.seek(0, os.SEEK_END)
    return file


def tokenizer_settings(tokenizer: Any) -> str:
    """Compute a hash of everything in a tokenizer that determines how conversations and texts are encoded."""
    inner = backend_of(tokenizer).to_str() if tokenizer.is_fast else json.dumps(sorted(tokenizer.get_vocab().items()))
    special = [tokenizer.chat_template, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    special += [date] if (date := template_date(tokenizer)) else []
    return hashlib.sha256(json.dumps([type(tokenizer).__name__, inner, special], default=str).encode()).hexdigest()
