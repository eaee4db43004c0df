"""Decide about texts with an exported classifier: `python classify.py "some text"`, or one text a line on stdin.

This file stands alone: it needs numpy and onnxruntime, and tokenizers if there is a tokenizer.json beside it. It prints
one line of JSON a text, with the calibrated probability of each option.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

WORD = re.compile(r"(?u)\b\w+\b")
MODEL, SETTINGS, TOKENIZER = "model.onnx", "classifier.json", "tokenizer.json"
BATCH = 16
NO_CHARACTER = -1
LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b"
)


def legible_text(text: str) -> str:
    """Write a text as a reader sees it, as texts were written for the training: NFKC, nothing that isn't visible."""
    text = LINE_END.sub("\n", text).replace("\x1f", " ")
    return HIDDEN.sub("", text if text.isascii() else unicodedata.normalize("NFKC", text))


class ExportedClassifier:
    """A classifier in ONNX.

    Args:
        folder: folder with model.onnx and classifier.json.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._tokenizer: Any = None
        if "input_ids" in self._inputs:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(self.settings["max_tokens"])

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Compute calibrated probabilities, (texts, options)."""
        parts = [self._decide(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.settings["options"])), np.float32)

    def _decide(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._session.run(["probabilities"], self._read(texts))[0]
        return found

    def _read(self, texts: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Turn texts into the inputs of the graph."""
        found: dict[str, npt.NDArray[Any]] = {}
        if self.settings.get("legible"):
            texts = [legible_text(text) for text in texts]
        if "words" in self._inputs:
            lowered = [text[: self.settings["max_characters"]].lower() for text in texts]
            words = [WORD.findall(text) for text in lowered]
            found["words"] = np.full((len(texts), max(2, *map(len, words), 0)), "", dtype=object)
            # A space at either end of each run of letters; two in a row keep n-grams within it.
            runs = ["  ".join(["", *text.split(), ""])[1:-1] for text in lowered]
            found["characters"] = np.full((len(texts), max(5, *map(len, runs), 0)), NO_CHARACTER, dtype=np.int64)
            for row, (named, letters) in enumerate(zip(words, runs, strict=True)):
                found["words"][row, : len(named)] = named
                found["characters"][row, : len(letters)] = [ord(letter) for letter in letters]
        if self._tokenizer is not None:
            prompt, lower = self.settings["prompt"], self.settings["lowercase"]
            prepared = [prompt + text.encode("utf-8", "replace").decode("utf-8") for text in texts]
            encoded = self._tokenizer.encode_batch([one.lower() if lower else one for one in prepared])
            longest = max(len(one.ids) for one in encoded)
            found["input_ids"] = np.zeros((len(texts), longest), dtype=np.int64)
            found["attention_mask"] = np.zeros((len(texts), longest), dtype=np.int64)
            for row, one in enumerate(encoded):
                found["input_ids"][row, : len(one.ids)] = one.ids
                found["attention_mask"][row, : len(one.ids)] = 1
        return found


def main() -> None:
    """Decide about the texts of the command line, or of the lines of stdin."""
    classifier = ExportedClassifier(Path(__file__).parent)
    options = classifier.settings["options"]
    for text in sys.argv[1:] or _lines():
        row = classifier.probabilities([text])[0]
        chances = dict(zip(options, (round(float(p), 6) for p in row), strict=True))
        sys.stdout.write(json.dumps({"text": text, "probabilities": chances}) + "\n")


def _lines() -> Iterator[str]:
    for line in sys.stdin:
        yield line.rstrip("\n")


if __name__ == "__main__":
    main()
