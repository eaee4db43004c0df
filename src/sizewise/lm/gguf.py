"""Convert a GGUF file into a Hugging Face folder with dequantized weights."""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, modeling_gguf_pytorch_utils

from sizewise.errors import SizewiseError
from sizewise.lm.gguf_positions import read_positions, renew_frequencies
from sizewise.lm.gguf_tokenizer import load_tokenizer
from sizewise.lm.hf_format import quiet_libraries, save_model

# Digits, accents, punctuation, indentation: what broken tokenizers lose first.
ROUND_TRIP = "The quick brown fox, 42 times: naïve café.\n\n  indented"
READING_ERRORS = (OSError, ValueError, KeyError, IndexError, RuntimeError, struct.error)
"""What gguf and transformers raise for damaged files."""
ROWS_AT_ONCE = 8_192
"""Rows of a tensor that are dequantized at once."""
COMPARED_ROWS, SAME_ROWS = 256, 0.98  # rows of two matrices, and their correlation if they differ by rounding only


class _ThriftyNumpy:
    """numpy for reading GGUF files in less memory, with the same values.

    Memory maps are plain arrays: a slice of a memory map is a large object, and a list of 262,144 tokens is read as a
    million slices. Arrays that are referenced nowhere else, those fresh from dequantizing, aren't copied.
    """

    @staticmethod
    def memmap(*arguments: Any, **options: Any) -> Any:
        """Map a file."""
        return np.asarray(np.memmap(*arguments, **options))

    @staticmethod
    def copy(array: Any) -> Any:
        """Copy an array that shows a file or another array."""
        return array if array.flags.owndata and array.flags.writeable else np.copy(array)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextmanager
def _patched_transformers() -> Iterator[None]:
    """Patch transformers for the duration of a load.

    A file is parsed once instead of three times (Gemma's token list takes 13 s to parse). Mistral is mapped to "llama",
    because gguf knows the architecture only under that name. Large tensors are dequantized in parts.
    """
    reader, named = gguf.GGUFReader, modeling_gguf_pytorch_utils.get_gguf_hf_weights_map
    gguf.GGUFReader = lru_cache(maxsize=1)(reader)
    gguf.gguf_reader.np = modeling_gguf_pytorch_utils.np = _ThriftyNumpy()
    # transformers imports the function only while it loads a file.
    whole = gguf.dequantize
    gguf.dequantize = lambda data, kind: dequantize_in_parts(data, kind, whole)

    def names(network: Any, processor: Any, model_type: str | None = None, *rest: Any, **more: Any) -> Any:
        kind = model_type or network.config.model_type
        return named(network, processor, "llama" if kind == "mistral" else model_type, *rest, **more)

    modeling_gguf_pytorch_utils.get_gguf_hf_weights_map = names
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.dequantize = reader, whole
        gguf.gguf_reader.np = modeling_gguf_pytorch_utils.np = np
        modeling_gguf_pytorch_utils.get_gguf_hf_weights_map = named


def dequantize_in_parts(data: Any, kind: Any, dequantize: Callable[[Any, Any], Any]) -> Any:
    """Dequantize some rows at a time: the intermediate values of a whole embedding take several times its memory.

    Args:
        data: (rows, bytes of a row) quantized values.
        kind: type of the quantization.
        dequantize: turns rows into (rows, values of a row) floats, each row by itself.
    """
    if data.ndim != 2 or len(data) <= ROWS_AT_ONCE:
        return dequantize(data, kind)
    first = dequantize(data[:ROWS_AT_ONCE], kind)
    found = np.empty((len(data), first.shape[1]), dtype=first.dtype)
    found[:ROWS_AT_ONCE] = first
    for start in range(ROWS_AT_ONCE, len(data), ROWS_AT_ONCE):
        found[start : start + ROWS_AT_ONCE] = dequantize(data[start : start + ROWS_AT_ONCE], kind)
    return found


def convert_gguf(path: Path, folder: Path) -> None:
    """Dequantize a GGUF file and save network, tokenizer and chat template in bf16; see `read_gguf`."""
    network, tokenizer = read_gguf(path, torch.bfloat16)  # rounds each tensor when it is read
    save_model(network, tokenizer, folder)


def read_gguf(path: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load the network and the tokenizer of a GGUF file.

    Args:
        path: the file.
        dtype: precision to which each dequantized tensor is rounded.

    Raises:
        SizewiseError: the file is damaged, or its tokenizer doesn't reproduce text exactly.
    """
    quiet_libraries()
    try:
        # The progress bar of the conversion can't be switched off.
        with redirect_stderr(io.StringIO()), _patched_transformers():
            tokenizer = load_tokenizer(path)
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
            _read_shape(path, config)
            packed, report = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                config=config,
                dtype=dtype,
                local_files_only=True,
                output_loading_info=True,
            )
            _check_tensors(path, packed, sorted(map(str, report.get("missing_keys", ()))))
            _read_positions(path, packed.config)
    except READING_ERRORS as error:
        raise _unreadable(path, error) from error
    config = packed.config
    del config.quantization_config  # the saved weights are no longer quantized
    with torch.device("meta"):  # assigns the tensors below instead of copying them
        network = AutoModelForCausalLM.from_config(config)
    network.load_state_dict(packed.state_dict(), assign=True)
    network.tie_weights()
    for name, buffer in packed.named_buffers():  # not in the file, for example position frequencies
        owner, _, last = name.rpartition(".")
        network.get_submodule(owner).register_buffer(last, buffer, persistent=False)
    del packed
    renew_frequencies(network)
    _check_round_trip(tokenizer, path)
    tokenizer.model_max_length = config.max_position_embeddings
    return network.eval(), tokenizer


def read_gguf_settings(path: Path) -> tuple[Any, Any]:
    """Load the config and the tokenizer of a GGUF file, without its weights.

    An output layer that a file repeats from the embedding, as those of small Qwen models do, counts as tied to it.

    Raises:
        SizewiseError: the file is damaged, or its tokenizer doesn't reproduce text exactly.
    """
    quiet_libraries()
    try:
        with redirect_stderr(io.StringIO()), _patched_transformers():
            tokenizer = load_tokenizer(path)
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
            _read_shape(path, config)
            _read_positions(path, config)
    except READING_ERRORS as error:
        raise _unreadable(path, error) from error
    _check_round_trip(tokenizer, path)
    tokenizer.model_max_length = config.max_position_embeddings
    config.tie_word_embeddings = config.tie_word_embeddings or _repeats_embedding(path)
    return config, tokenizer


def file_precision(path: Path) -> str:
    """Return a GGUF file's quantization as the file states it, or that of most of its bytes, such as `q4_k_m`."""
    reader = gguf.GGUFReader(str(path))
    field = reader.get_field("general.file_type")
    try:
        return gguf.LlamaFileType(int(field.contents())).name.removeprefix("MOSTLY_").removeprefix("ALL_").lower()
    except (AttributeError, TypeError, ValueError):
        sizes: Counter[str] = Counter()
        for tensor in reader.tensors:
            sizes[tensor.tensor_type.name.lower()] += int(tensor.n_bytes)
        return sizes.most_common(1)[0][0] if sizes else "unknown"


def _read_shape(path: Path, config: Any) -> None:
    """Set the width of a head and the biases, which transformers doesn't read for every architecture."""
    reader = gguf.GGUFReader(str(path))  # parsed once, by transformers
    names = {tensor.name for tensor in reader.tensors}
    for setting, bias in (("attention_bias", "blk.0.attn_output.bias"), ("mlp_bias", "blk.0.ffn_down.bias")):
        if bias in names and hasattr(config, setting):
            setattr(config, setting, True)
    field = reader.fields.get(f"{reader.fields['general.architecture'].contents()}.attention.key_length")
    if field is not None and getattr(config, "head_dim", None):
        config.head_dim = int(field.contents())


def _read_positions(path: Path, config: Any) -> None:
    """Add the scaled positions of a file to its config.

    Raises:
        SizewiseError: transformers can't compute them.
    """
    reason = read_positions(gguf.GGUFReader(str(path)), config)  # parsed once, by transformers
    if reason:
        raise SizewiseError(
            f"{path} can't be used: {reason}.",
            "plain, linear, Llama 3 or YaRN rotary positions",
            "use the model's Hugging Face folder instead",
        )


def _check_tensors(path: Path, network: Any, absent: list[str]) -> None:
    """Check that a file holds all weights of its network, and that the network has a place for its biases.

    transformers begins absent weights at random, and skips biases of architectures that usually have none.

    Raises:
        SizewiseError: it doesn't.
    """
    reader = gguf.GGUFReader(str(path))  # parsed once, by transformers
    parts = reader.get_field(gguf.Keys.Split.LLM_KV_SPLIT_COUNT)
    if parts is not None and int(parts.contents()) > 1:
        raise SizewiseError(
            f"{path} is one of {int(parts.contents())} parts of a model.",
            "one GGUF file with the whole model, or the engine llama.cpp, which finds the others",
            "merge the parts with llama-gguf-split --merge, or use --engine llamacpp",
        )
    biases = sum(tensor.name.endswith(".bias") for tensor in reader.tensors)
    lost = biases - sum(name.endswith(".bias") for name, _ in network.named_parameters())
    if absent or lost > 0:
        what = f"{len(absent)} weights are missing, for example {absent[0]}" if absent else f"{lost} biases aren't read"
        raise SizewiseError(
            f"{path} can't be used with transformers: {what}.",
            "a complete GGUF file of an architecture that transformers reads",
            "use --engine llamacpp or the model's Hugging Face folder, or get the file again",
        )


def _repeats_embedding(path: Path) -> bool:
    """Check whether the output layer is the embedding again, rounded differently."""
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    names = ("token_embd.weight", "output.weight")
    if not tensors.keys() >= set(names):
        return False
    pair = [tensors[name] for name in names]
    rows = [gguf.quants.dequantize(tensor.data[:COMPARED_ROWS], tensor.tensor_type).ravel() for tensor in pair]
    return rows[0].shape == rows[1].shape and float(np.corrcoef(*rows)[0, 1]) > SAME_ROWS


def _unreadable(path: Path, error: Exception) -> SizewiseError:
    return SizewiseError(
        f"{path} can't be read as GGUF: {(str(error) or type(error).__name__).splitlines()[0]}",
        "a complete GGUF file",
        "download the file or export the model again, and pass that file",
    )


def _check_round_trip(tokenizer: Any, path: Path) -> None:
    ids = tokenizer(ROUND_TRIP, add_special_tokens=False).input_ids
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if back != ROUND_TRIP:
        raise SizewiseError(
            f"The tokenizer in {path} turns {ROUND_TRIP!r} into {back!r}.",
            "a tokenizer that reproduces text exactly",
            "use another model: sizewise models",
        )
