"""Encoded training text on disk: made once for a dataset and a tokenizer, and shared by all runs on them.

The tokens don't depend on the context or on a recipe, so a resumed run, the trials of a search and the steps of a
learning curve read the same files. An interrupted encoding goes on where it stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from sizewise.datasets import DatasetContents
from sizewise.errors import SizewiseError
from sizewise.lm.control_tokens import Rendered, hide
from sizewise.lm.encoding import ENCODING_VERSION, EncodedItems, Ids, ItemFile, encode_texts, tokenizer_settings
from sizewise.lm.packing import Unit
from sizewise.lm.tokenizer import chat_texts, missing_end, prefix_id, with_end
from sizewise.models.prompts import question_prompt
from sizewise.progress import Reporter, Silent
from sizewise.records import Document, Example, fingerprint
from sizewise.records.tool_calls import conversation_text
from sizewise.store import make_folder, versions
from sizewise.training import representation

LARGE_BYTES = 100_000_000  # of encoded text, from which its space is announced
CHARACTERS_PER_TOKEN = 3  # of the estimate of the space on disk


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
        version = versions("tokenizers").get("tokenizers")
        made_from = [ENCODING_VERSION, contents.record.sha256, tokenizer_settings(tokenizer), version]
        self.folder = folder / f"{contents.record.sha256[:10]}-{fingerprint(made_from, 16)}"

    def documents(self) -> EncodedItems:
        """Return each training document, with the token before it that makes its first token predictable."""
        return self._items("documents", self._contents.documents["train"], self._document_ids)

    def swapped(self) -> EncodedItems:
        """Return each training document with genders swapped; without tokens if it names none."""

        def ids_of(documents: Iterable[Document]) -> Iterator[tuple[Ids, int]]:
            texts = ((d.text, representation.swap_groups(d.text)) for d in documents)
            return self._text_ids(swapped if swapped != text else "" for text, swapped in texts)

        return self._items("swapped", self._contents.documents["train"], ids_of)

    def examples(self) -> EncodedItems:
        """Return each training example; without tokens if it has no reference answer.

        Raises:
            SizewiseError: an example has images, or the chat template rejects it.
        """
        return self._items("examples", self._contents.examples["train"], self._example_ids)

    def bytes(self) -> int:
        """Return the size on disk."""
        return folder_bytes(self.folder)

    def _document_ids(self, documents: Iterable[Document]) -> Iterator[tuple[Ids, int]]:
        return self._text_ids(document.text for document in documents)

    def _text_ids(self, texts: Iterable[str]) -> Iterator[tuple[Ids, int]]:
        prefix = np.array([prefix_id(self._tokenizer)], np.int32)
        for ids in encode_texts(self._tokenizer, texts):
            yield (np.concatenate([prefix, ids]) if len(ids) else ids), 1

    def _example_ids(self, examples: Iterable[Example]) -> Iterator[tuple[Ids, int]]:
        return encode_examples(self._tokenizer, examples)

    def _items(
        self, name: str, rows: Sequence[Any], ids_of: Callable[[Iterable[Any]], Iterator[tuple[Ids, int]]]
    ) -> EncodedItems:
        file = ItemFile(self.folder, name, len(self._tokenizer))
        if file.done:
            return file.read()
        make_folder(self.folder)
        with FileLock(self.folder / ".lock"):  # another run on the same data may be encoding it right now
            file = ItemFile(self.folder, name, len(self._tokenizer))
            if not file.done:
                self._check_space(file)
                rest = islice(iter(rows), file.count, None)
                try:
                    for count in file.write(ids_of(rest)):
                        if not count % 100 or count == len(rows):
                            self._reporter.advance(f"Encoding {name}", count, len(rows))
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


def example_texts(tokenizer: Any, example: Example) -> tuple[Rendered, Rendered] | None:
    """Render the prompt of an example and the answer to learn; None without a reference answer.

    Of a conversation with several answers, only the last one is learned. A model without a chat template gets question
    and answer in plain text.

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
        return None
    answer = example.references[0]
    if tokenizer.chat_template:
        return chat_texts(tokenizer, example.messages, answer, example.tools)
    asked = conversation_text(example.messages, example.tools)
    return hide(tokenizer, question_prompt(asked)), hide(tokenizer, f" {answer}\n")


def encode_examples(tokenizer: Any, examples: Iterable[Example]) -> Iterator[tuple[Ids, int]]:
    """Encode examples, and yield the ids of each with the index of the first one that counts in the loss."""
    chat = bool(tokenizer.chat_template)
    before = np.array([] if chat else [prefix_id(tokenizer)], np.int32)
    end = missing_end(tokenizer) if chat else None
    nothing = Rendered("")

    def texts() -> Iterator[str]:
        for example in examples:
            yield from example_texts(tokenizer, example) or (nothing, nothing)

    ids = encode_texts(tokenizer, texts())
    for prompt, learned in zip(ids, ids, strict=True):
        if not len(learned):
            yield learned, 1
            continue
        answer = np.array(with_end(learned.tolist(), end), np.int32)
        yield np.concatenate([before, prompt, answer]), len(before) + len(prompt)


def example_unit(tokenizer: Any, example: Example) -> Unit | None:
    """Encode one example; None without a reference answer."""
    ((ids, first),) = encode_examples(tokenizer, [example])
    return Unit(ids.tolist(), first) if len(ids) else None
