"""Quantize matrices with llama.cpp's own code, for the formats that the `gguf` package can't write: K-quants.

The functions are those of the library inside `xllamacpp`, called through ctypes.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Kind

from sizewise.errors import MissingExtraError, SizewiseError

MIXES = {"q4_k_m": Kind.Q4_K, "q5_k_m": Kind.Q5_K, "q6_k": Kind.Q6_K}
"""Format -> type of most of its matrices."""
_NARROW = {Kind.Q4_K: Kind.Q5_0, Kind.Q5_K: Kind.Q5_1, Kind.Q6_K: Kind.Q8_0}
"""Types for rows that aren't a multiple of 256 long, as in llama.cpp."""


def mixed_kind(mix: str, title: str, block: int, blocks: int, length: int, is_head: bool) -> Kind:
    """Choose the type of a matrix as llama.cpp does: more bits for the head, and for some values and down projections.

    Source: llama.cpp, `llama_tensor_get_type`.

    Args:
        mix: one of MIXES.
        title: name of the tensor in GGUF.
        block: number of the block that it belongs to.
        blocks: number of blocks.
        length: length of its rows.
        is_head: whether it maps hidden states to logits.
    """
    kind = MIXES[mix]
    precise = block < blocks // 8 or block >= 7 * blocks // 8 or (block - blocks // 8) % 3 == 2
    if is_head or (mix.endswith("_m") and precise and title.endswith(("attn_v.weight", "ffn_down.weight"))):
        kind = Kind.Q6_K
    return kind if length % gguf.QK_K == 0 else _NARROW[kind]


def require() -> None:
    """Check that llama.cpp's library is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtraError("xllamacpp", "llamacpp")


@cache
def _quantizer() -> Any:
    """Load the function `ggml_quantize_chunk`.

    Raises:
        SizewiseError: the installed library has no such function.
    """
    require()
    found = importlib.util.find_spec("xllamacpp.xllamacpp")
    try:
        function = ctypes.CDLL(str(found.origin if found else None)).ggml_quantize_chunk
    except (OSError, AttributeError) as error:
        raise SizewiseError(
            f"The installed xllamacpp has no quantizer: {error}",
            "the wheel of xllamacpp for this platform",
            "use --to gguf-q8_0 or --to gguf-q4_1, which don't need it",
        ) from error
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return function


def quantize(values: npt.NDArray[np.float32], kind: Kind) -> npt.NDArray[np.uint8]:
    """Quantize a matrix with llama.cpp.

    Args:
        values: (rows, columns); the columns are a multiple of the type's block.
        kind: the type.

    Returns:
        (rows, bytes of a row).

    Raises:
        MissingExtraError: xllamacpp is not installed.
        SizewiseError: it has no quantizer, or wrote another number of bytes than the type has.
    """
    rows, columns = values.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    values = np.ascontiguousarray(values, dtype=np.float32)
    packed = np.empty((rows, columns // block * size), dtype=np.uint8)
    written = _quantizer()(int(kind), values.ctypes.data, packed.ctypes.data, 0, rows, columns, None)
    if written != packed.nbytes:
        raise SizewiseError(
            f"llama.cpp wrote {written:,} bytes for a matrix of {rows} x {columns} in {kind.name}.",
            f"{packed.nbytes:,} bytes",
            "use --to gguf-q8_0 or --to gguf-q4_1, which don't need it",
        )
    return packed
