"""llama.cpp as an engine in a process of its own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.models import engine_process
from sizewise.models.engine_process import EngineRequest
from sizewise.models.llamacpp.schemas import unenforced

NO_END = (-1,)
"""No token of the model: llama.cpp then ends an answer by the file's own list, and writes the token that ended it."""
SLOTS = 16
"""Requests that are answered at a time; others wait in llama.cpp's queue."""


def is_installed() -> bool:
    """Check whether llama.cpp's bindings are installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def require() -> None:
    """Check that llama.cpp's bindings are installed.

    Raises:
        MissingExtraError: they aren't.
    """
    if not is_installed():
        raise MissingExtraError("xllamacpp", "llamacpp")


def engine_name() -> str:
    """Return the engine's name with the version of its bindings."""
    return f"llama.cpp (xllamacpp {metadata.version('xllamacpp')})"


class Engine(engine_process.Engine):
    """llama.cpp with an open GGUF file: new requests join the running batch. It scores no text.

    Args:
        path: the file.
        tokens: size of the cache over all requests.
        keep_prefixes: keep what requests have in common at their beginning, such as a system prompt.

    Raises:
        MissingExtraError: xllamacpp is not installed.
        SizewiseError: llama.cpp can't open the file.
    """

    def __init__(self, path: Path, tokens: int, *, keep_prefixes: bool = False) -> None:
        require()
        script = str(Path(__file__).with_name("process.py"))
        # -P: keep the script's folder off the module path, where its modules could shadow installed ones.
        command = [sys.executable, "-P", script, str(path), str(tokens), str(SLOTS), "kept" if keep_prefixes else ""]
        refused = SizewiseError(
            f"llama.cpp can't open {path.name}",
            "a GGUF file that llama.cpp supports",
            "run the same command with --engine transformers",
        )
        super().__init__("llama.cpp", command, refused)

    def unenforced(self, schema: str) -> str:
        """Return which part of a schema the engine would ignore silently; "" if there is none."""
        return unenforced(schema)

    def greedy(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Generate greedy tokens after each prompt, up to a number or to the token that ends the answer, inclusive."""
        requests = [EngineRequest(ids, length, NO_END) for ids, length in zip(prompts, lengths, strict=True)]
        return [part.ids for part in self.all_answers(requests)]
