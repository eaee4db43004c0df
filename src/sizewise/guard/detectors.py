"""Detectors of personal data beside the patterns: the contract, and the one of names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sizewise.errors import MissingExtraError, SizewiseError


class Detector(Protocol):
    """Finds a kind of personal data.

    A package adds one by an entry point in the group `sizewise.detectors` whose value is called without arguments.
    """

    kinds: tuple[str, ...]
    """What it finds, in small letters with underscores: the kind becomes part of a token such as `[NAME_1_7KQX]`."""

    def find(self, text: str) -> Iterable[tuple[int, int, str]]:
        """Find start, end and kind of personal data; overlaps are allowed. Threads may call it at the same time."""
        ...


class NameDetector:
    """Finds names of people with a token classifier (ONNX) in which labels with NAME mark them.

    A word is a name if any of its parts is one with a probability of at least `MIN_PROBABILITY`, and it begins with
    a capital letter or the probability is above one half.

    Args:
        folder: `model.onnx`, `tokenizer.json` and `config.json` (`id2label`) of the classifier.
    """

    kinds: tuple[str, ...] = ("name",)
    MAX_CHARACTERS = 50_000
    """Longer texts are rejected: a core takes about 7 s for as many."""
    MIN_PROBABILITY = 0.3
    WINDOW, OVERLAP = 450, 60
    """Characters of a window and of what it shares with the next one; the classifier was trained on short texts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        self._names = [int(number) for number, label in labels.items() if label[2:] in ("GIVEN_NAME", "SURNAME", "PER")]
        if not self._names:
            raise SizewiseError(f"{folder} has no label for names.", "labels such as B-GIVEN_NAME in config.json", "")

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        try:
            from onnxruntime import InferenceSession, SessionOptions
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError(error.name or "onnxruntime", "study") from error
        options = SessionOptions()
        options.intra_op_num_threads = 1  # requests are checked beside each other
        tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        session = InferenceSession(str(self._folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        return tokenizer, session

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Find names.

        Raises:
            SizewiseError: the text is longer than `MAX_CHARACTERS`.
        """
        if len(text) > self.MAX_CHARACTERS:
            raise SizewiseError(
                f"The text has {len(text):,} characters, which is too many to look for names in.",
                f"at most {self.MAX_CHARACTERS:,} characters",
                "send it in several parts",
            )
        for start, end in _windows(text, self.WINDOW, self.OVERLAP):
            if any(map(str.isalpha, text[start:end])):
                yield from ((start + first, start + last, "name") for first, last in self._in_window(text[start:end]))

    def _in_window(self, text: str) -> Iterator[tuple[int, int]]:
        tokenizer, session = self._parts
        encoded = tokenizer.encode(text)
        half = len(text) // 2
        if len(encoded.ids) > 512:  # letters of several tokens each
            yield from self._in_window(text[:half])
            yield from ((half + start, half + end) for start, end in self._in_window(text[half:]))
            return
        ids = np.asarray([encoded.ids], np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        wanted = {entry.name for entry in session.get_inputs()}
        (logits,) = session.run(None, {name: value for name, value in inputs.items() if name in wanted})
        odds = np.exp(logits[0] - logits[0].max(-1, keepdims=True))
        probabilities = odds[:, self._names].sum(-1) / odds.sum(-1)
        words: dict[int, tuple[int, int, float]] = {}
        for (start, end), word, probability in zip(encoded.offsets, encoded.word_ids, probabilities, strict=True):
            if word is not None and end > start:
                first, _, most = words.get(word, (start, end, 0.0))
                words[word] = (first, end, max(most, float(probability)))
        yield from self._joined(text, words)

    def _joined(self, text: str, words: dict[int, tuple[int, int, float]]) -> Iterator[tuple[int, int]]:
        """Join the words of one name."""
        name: tuple[int, int] | None = None
        for start, end, probability in words.values():
            letters = text[start:end]
            least = self.MIN_PROBABILITY if letters[:1].isupper() else 0.5
            if probability < least or not any(map(str.isalpha, letters)):
                continue
            if name is not None and text[name[1] : start].strip(" .'\u2019-") == "" and start - name[1] <= 2:
                name = name[0], end
                continue
            if name is not None:
                yield name
            name = start, end
        if name is not None:
            yield name


def _windows(text: str, length: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Divide a text into windows that begin and end at white space where there is some."""
    start = 0
    while start < len(text):
        end = min(len(text), start + length)
        if end < len(text):
            end = max(text.rfind(" ", start + overlap + 1, end), text.rfind("\n", start + overlap + 1, end), 0) or end
        yield start, end
        if end == len(text):
            return
        start = max(start + 1, text.rfind(" ", start, end - overlap) + 1 or end - overlap)
