"""A sentence in the tokens of a model that is on this machine, for the page that explains attention."""

from __future__ import annotations

from pathlib import Path

from sizewise.records import SideBySide
from sizewise.report.model_page import SENTENCE
from sizewise.store import Store


def split_sentence(record: SideBySide, sentence: str = "", *, store: Store | None = None) -> tuple[str, ...]:
    """Split a sentence into the tokens of the first of the models that has its tokenizer on this machine.

    Args:
        record: the models side by side.
        sentence: the sentence; by default one that the page brings along.
        store: where models live; by default SIZEWISE_HOME.

    Returns:
        The pieces of the sentence, in order; empty if none of the models has a tokenizer here.
    """
    store, text = store or Store(), sentence or SENTENCE
    for model in record.models:
        path = _tokenizer_of(model.uri, store)
        if path is not None:
            return _pieces(path, text)
    return ()


def _tokenizer_of(uri: str, store: Store) -> Path | None:
    """Find the tokenizer of a model; None if it isn't on this machine."""
    kind, _, name = uri.partition(":")
    folder = Path(uri).expanduser()
    if kind == "run":
        folder = store.folder("checkpoint", name) / "model"
    elif kind == "pkg":
        folder = store.weights_folder(name)
    path = folder / "tokenizer.json"
    return path if path.is_file() else None


def _pieces(path: Path, text: str) -> tuple[str, ...]:
    """Cut a text where the tokens end; bytes of one character stay together."""
    from tokenizers import Tokenizer

    try:
        encoded = Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False)
    except Exception:  # the library raises a bare Exception for a file that it can't read
        return ()
    ends = sorted({end for _, end in encoded.offsets if end})
    starts = [0, *ends]
    return tuple(text[start:end] for start, end in zip(starts, ends, strict=False))
