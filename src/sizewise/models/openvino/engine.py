"""openvino-genai as an engine in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from sizewise.errors import SizewiseError
from sizewise.models import engine_process
from sizewise.models.openvino.converting import MODEL_FILE, require
from sizewise.models.openvino.schemas import unenforced
from sizewise.models.size import cache_bytes, read_config

EXPANSION = 2
"""Memory of weights relative to their file: 16-bit weights are expanded to 32 bits on many processors."""
BLOCK = 32
"""Tokens per block of openvino-genai's cache on CPUs."""


def cache_size(folder: Path, precision: str) -> int:
    """Compute the cache size of an engine in tokens, over all requests; see `engine_process.cache_size`."""
    config = read_config(folder)
    weights = (folder / MODEL_FILE).with_suffix(".bin")
    loaded = EXPANSION * weights.stat().st_size if weights.is_file() else 0
    token = cache_bytes(config, 1, 2 if precision == "bf16" else 4)
    return engine_process.cache_size(loaded, token, int(config["max_position_embeddings"]))


class Engine(engine_process.Engine):
    """Continuous batching with openvino-genai: new requests join the running batch.

    Args:
        folder: folder with openvino_model.xml.
        precision: `bf16` or `fp32`.
        tokens: size of the cache over all requests; by default `cache_size`.
        keep_prefixes: keep what requests have in common at their beginning, such as a system prompt. Log-likelihoods
            of prompts aren't available then, because openvino-genai computes none for kept tokens.

    Raises:
        MissingExtraError: openvino-genai is not installed.
        SizewiseError: openvino-genai can't open the folder.
    """

    def __init__(self, folder: Path, precision: str, tokens: int | None = None, *, keep_prefixes: bool = False) -> None:
        require()
        blocks = -(-(tokens or cache_size(folder, precision)) // BLOCK)
        script = str(Path(__file__).with_name("process.py"))
        # -P: keep the script's folder off the module path, where its modules could shadow installed ones.
        kept = "kept" if keep_prefixes else ""
        super().__init__(
            "openvino-genai",
            [sys.executable, "-P", script, str(folder), precision, str(blocks), kept],
            SizewiseError(
                f"openvino-genai can't open the model in {folder}",
                "a folder written by `sizewise export --to openvino`",
                "export the model again",
            ),
        )

    def unenforced(self, schema: str) -> str:
        """Return which part of a schema the engine would ignore silently; "" if there is none."""
        return unenforced(schema)
