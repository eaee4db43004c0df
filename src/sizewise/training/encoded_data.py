"""Encoded training text on disk: made once for a dataset and a tokenizer, and shared by all runs on them.

The tokens don't depend on the context or on a recipe, so a resumed run, the trials of a search and the steps of a
learning curve read the same files. An interrupted encoding goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, count, islice, repeat
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from sizewise.datasets import DatasetContents
from sizewise.errors import SizewiseError
from sizewise.lm.control_tokens import Rendered, hide
from sizewise.lm.encoding import ENCODING_VERSION, EncodedItems, Ids, Item, ItemFile, encode_texts, tokenizer_settings
from sizewise.lm.packing import IntArray, Unit
from sizewise.lm.tokenizer import missing_end, prefix_ids, text_ids
from sizewise.lm.turns import Part, conversation_parts, earlier_answers
from sizewise.models.prompts import question_prompt
from sizewise.progress import Reporter, Silent
from sizewise.records import Document, Example, Message, fingerprint
from sizewise.records.tool_calls import answer_of, conversation_text
from sizewise.store import make_folder, versions
from sizewise.training import representation

LARGE_BYTES = 100_000_000  # of encoded text, from which its space is announced
CHARACTERS_PER_TOKEN = 3  # of the estimate of the space on disk
_begins: WeakKeyDictionary[Any, tuple[Any, bool]] = WeakKeyDictionary()


class EncodedData:
    """The encoded training split of a dataset.

    Args:
        contents: the dataset.
        tokenizer: tokenizer of the model, with its chat template.
        folder: folder of all encoded data.
        reporter: receives progress.
    """

    def __init__(
        self, contents: DatasetContents, tokenizer: Any, folder: Path, reporter: Reporter | None = None
    ) -> None:
        self._contents, self._tokenizer, self._reporter = contents, tokenizer, reporter or Silent()
        self._turns: Turns | None = None
        version = versions("tokenizers").get("tokenizers")
        made_from = [ENCODING_VERSION, contents.record.sha256, tokenizer_settings(tokenizer), version]
        self.folder = folder / f"{contents.record.sha256[:10]}-{fingerprint(made_from, 16)}"

    def documents(self) -> EncodedItems:
        """Return each training document, with the token before it that makes its first token predictable."""
        return self._items("documents", self._contents.documents["train"], self._document_ids)

    def swapped(self) -> EncodedItems:
        """Return each training document with genders swapped; without tokens if it names none."""

        def ids_of(documents: Iterable[Document], first: int) -> Iterator[list[Item]]:
            texts = ((d.text, representation.swap_groups(d.text)) for d in documents)
            return self._text_ids(swapped if swapped != text else "" for text, swapped in texts)

        return self._items("swapped", self._contents.documents["train"], ids_of)

    def examples(self) -> EncodedItems:
        """Return each training example; without tokens if it has no reference answer.

        Raises:
            SizewiseError: an example has images, or the chat template rejects it.
        """
        return self._items("examples", self._contents.examples["train"], self._example_ids, masked=True)

    def turns(self) -> Turns:
        """Return which earlier answers of the training examples are learned."""
        if self._turns is None:
            self._turns = Turns.of(self._contents.examples["train"])
        return self._turns

    def bytes(self) -> int:
        """Return the size on disk."""
        return folder_bytes(self.folder)

    def _document_ids(self, documents: Iterable[Document], first: int) -> Iterator[list[Item]]:
        return self._text_ids(document.text for document in documents)

    def _text_ids(self, texts: Iterable[str]) -> Iterator[list[Item]]:
        prefix = np.array(prefix_ids(self._tokenizer), np.int32)
        for ids in encode_texts(self._tokenizer, texts):
            yield [Item(np.concatenate([prefix, ids]), len(prefix)) if len(ids) else Item(ids, 1)]

    def _example_ids(self, examples: Iterable[Example], first: int) -> Iterator[list[Item]]:
        turns = self.turns()
        return encode_examples(self._tokenizer, examples, map(turns.learned, count(first)))

    def _items(
        self,
        name: str,
        rows: Sequence[Any],
        ids_of: Callable[[Iterable[Any], int], Iterator[list[Item]]],
        masked: bool = False,
    ) -> EncodedItems:
        file = ItemFile(self.folder, name, len(self._tokenizer), masked=masked)
        if file.done:
            return file.read()
        make_folder(self.folder)
        with FileLock(self.folder / ".lock"):  # another run on the same data may be encoding it right now
            file = ItemFile(self.folder, name, len(self._tokenizer), masked=masked)
            if not file.done:
                self._check_space(file)
                rest = islice(iter(rows), file.count, None)
                try:
                    for done in file.write(ids_of(rest, file.count)):
                        if not done % 100 or done == len(rows):
                            self._reporter.advance(f"Encoding {name}", done, len(rows))
                except OSError as error:
                    raise _no_space(self.folder, error) from error
        return file.read()

    def _check_space(self, file: ItemFile) -> None:
        characters = self._contents.record.splits["train"].characters
        expected = characters // CHARACTERS_PER_TOKEN * file.item_bytes
        free = shutil.disk_usage(self.folder).free
        if expected >= LARGE_BYTES:
            self._reporter.say(
                f"The encoded training text takes about {expected / 1e9:.1f} GB in {self.folder.parent}. It is kept "
                "for other runs; sizewise runs --clear-cache deletes it."
            )
        if free < expected:
            raise _no_space(self.folder, f"about {expected / 1e9:.1f} GB are needed")


def _no_space(folder: Path, reason: object) -> SizewiseError:
    free = shutil.disk_usage(folder).free
    return SizewiseError(
        f"The encoded training text can't be written to {folder}: {reason} ({free / 1e9:.1f} GB free).",
        "a writable folder with enough free space",
        "sizewise runs --clear-cache, or export SIZEWISE_HOME=FOLDER; then run the same command again",
    )


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


class Turns:
    """Which earlier answers of examples are learned: each conversation up to an answer is learned once in a dataset.

    Logs often hold a conversation once for each of its answers, with all earlier ones in front.

    Args:
        starts: (examples + 1,) index of each example's first answer in `kept`.
        kept: whether each earlier answer is learned.
    """

    def __init__(self, starts: IntArray, kept: npt.NDArray[np.bool_]) -> None:
        self._starts, self._kept = starts, kept

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Turns:
        """Find the earlier answers of examples that aren't an example's own answer, and whose conversation is new."""
        keys, starts = array("Q"), array("q", [0])
        own = array("Q")
        for example in examples:
            for place in earlier_answers(example.messages):
                keys.append(_key(example, example.messages[:place], answer_of(example.messages[place])))
            starts.append(len(keys))
            if example.references:
                own.append(_key(example, example.messages, example.references[0]))
        found = np.frombuffer(keys, np.uint64) if keys else np.zeros(0, np.uint64)
        kept = np.zeros(len(found), bool)
        kept[np.unique(found, return_index=True)[1]] = True
        return cls(np.array(starts, np.int64), kept & ~np.isin(found, np.array(own, np.uint64)))

    def learned(self, row: int) -> list[bool]:
        """Return whether each earlier answer of an example is learned, in the order of `earlier_answers`."""
        return [bool(one) for one in self._kept[self._starts[row] : self._starts[row + 1]]]


def _key(example: Example, messages: Sequence[Message], answer: str) -> int:
    turns = [(turn.role, turn.content.strip(), [call.arguments for call in turn.tool_calls]) for turn in messages]
    text = json.dumps([turns, answer.strip(), example.tools]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def example_parts(tokenizer: Any, example: Example, flags: Sequence[bool] = ()) -> list[list[Part]]:
    """Render an example as sequences of parts, some of which are learned; empty without a reference answer.

    A model without a chat template gets question and answer in plain text.

    Args:
        tokenizer: the model's tokenizer.
        example: the example.
        flags: whether each of its `earlier_answers` is learned; by default none is.

    Raises:
        SizewiseError: the example has images, or the chat template rejects it.
    """
    if any(message.images for message in example.messages):
        raise SizewiseError(
            f"The example {example.id} has images, which no model can be trained on here.",
            "examples without images",
            "remove them from the training data, or train with --example-share 0 on the documents alone",
        )
    if not example.references:
        return []
    answer = example.references[0]
    if tokenizer.chat_template:
        places = earlier_answers(example.messages) if any(flags) else []
        learned = [place for place, wanted in zip(places, flags, strict=False) if wanted]
        return conversation_parts(tokenizer, example.messages, answer, example.tools, learned)
    asked = conversation_text(example.messages, example.tools)
    return [[Part(hide(tokenizer, question_prompt(asked)), False), Part(hide(tokenizer, f" {answer}\n"), True)]]


def encode_examples(
    tokenizer: Any, examples: Iterable[Example], flags: Iterable[Sequence[bool]] | None = None
) -> Iterator[list[Item]]:
    """Encode examples, and yield the items of each: one, and one for each earlier answer that needs its own.

    Args:
        tokenizer: the model's tokenizer.
        examples: the examples; one without a reference answer has an item without tokens.
        flags: for each example, whether each of its `earlier_answers` is learned; by default none is.
    """
    chat = bool(tokenizer.chat_template)
    before = np.array([] if chat else prefix_ids(tokenizer), np.int32)
    end = missing_end(tokenizer) if chat else None
    joined = begins_texts_otherwise(tokenizer)
    pending: deque[list[list[Part]]] = deque()  # examples that are being encoded

    def texts() -> Iterator[str]:
        for example, wanted in zip(examples, repeat(()) if flags is None else flags, strict=False):
            pending.append(example_parts(tokenizer, example, wanted) or [[Part(Rendered(""), True)]])
            for parts in pending[-1]:
                pieces = [str(part.text) for part in parts]
                yield from map(Rendered, accumulate(pieces) if joined else pieces)

    ids = encode_texts(tokenizer, texts())
    for first in ids:
        encoded, items = chain([first], ids), list[Item]()
        for parts in pending[0]:
            some = [next(encoded) for _ in parts]
            some = _apart(tokenizer, parts, some) if joined else some
            items.append(_item(before, some, [part.learned for part in parts], end))
        pending.popleft()
        yield items


def _apart(tokenizer: Any, parts: Sequence[Part], joined: Sequence[Ids]) -> list[Ids]:
    """Return the ids of each part from the encodings of all beginnings; where one differs, the part's own encoding."""
    found = [joined[0]]
    for part, before, now in zip(parts[1:], joined[:-1], joined[1:], strict=True):
        same = np.array_equal(now[: len(before)], before)
        found.append(now[len(before) :] if same else np.array(text_ids(tokenizer, part.text), np.int32))
    return found


def begins_texts_otherwise(tokenizer: Any) -> bool:
    """Check whether a text is encoded in another way at the beginning than after a prompt.

    SentencePiece's tokenizers put a blank before each text, which isn't there when a model goes on after a prompt.
    """
    known = _begins.get(tokenizer)
    if known is None or known[0] != tokenizer.chat_template:
        asked = Example(id="a", messages=(Message(role="user", content="Who?"),), references=("the fox",), source="a")
        texts = [part.text for part in example_parts(tokenizer, asked)[0]]
        apart = [token for text in texts for token in text_ids(tokenizer, text)]
        known = tokenizer.chat_template, apart != text_ids(tokenizer, Rendered("".join(texts)))
        _begins[tokenizer] = known
    return known[1]


def _item(before: Ids, parts: Sequence[Ids], learned: Sequence[bool], end: int | None) -> Item:
    """Join the parts of a sequence. Without an end written by the template, its end-of-text token follows."""
    if not len(parts[-1]):
        return Item(parts[-1], 1)
    last = parts[-1] if end is None or parts[-1][-1] == end else np.append(parts[-1], np.int32(end))
    every = [before, *parts[:-1], last]
    mask = np.concatenate(
        [np.full(len(part), wanted, np.uint8) for part, wanted in zip(every, [False, *learned], strict=True)]
    )
    return Item(np.concatenate(every).astype(np.int32), int(np.argmax(mask)), mask)


def example_unit(tokenizer: Any, example: Example) -> Unit | None:
    """Encode one example of which the last answer is learned; None without a reference answer."""
    (items,) = encode_examples(tokenizer, [example])
    return Unit(items[0].ids.tolist(), items[0].first) if len(items[0].ids) else None
