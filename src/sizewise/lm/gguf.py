"""Convert a GGUF file into a Hugging Face folder with dequantized weights."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils

from sizewise.errors import SizewiseError
from sizewise.lm.hf_format import quiet_libraries, save_model

# Digits, accents, punctuation, indentation: what broken tokenizers lose first.
ROUND_TRIP = "The quick brown fox, 42 times: naïve café.\n\n  indented"


@contextmanager
def _patched_transformers() -> Iterator[None]:
    """Patch transformers for the duration of a load.

    A file is parsed once instead of three times (Gemma's token list takes 13 s to parse). Mistral is mapped to "llama",
    because gguf knows the architecture only under that name.
    """
    reader, named = gguf.GGUFReader, modeling_gguf_pytorch_utils.get_gguf_hf_weights_map
    gguf.GGUFReader = lru_cache(maxsize=1)(reader)

    def names(network: Any, processor: Any, model_type: str | None = None, *rest: Any, **more: Any) -> Any:
        kind = model_type or network.config.model_type
        return named(network, processor, "llama" if kind == "mistral" else model_type, *rest, **more)

    modeling_gguf_pytorch_utils.get_gguf_hf_weights_map = names
    try:
        yield
    finally:
        gguf.GGUFReader = reader
        modeling_gguf_pytorch_utils.get_gguf_hf_weights_map = named


def convert_gguf(path: Path, folder: Path) -> None:
    """Dequantize a GGUF file and save network, tokenizer and chat template in bf16; see `read_gguf`."""
    network, tokenizer = read_gguf(path)
    save_model(network, tokenizer, folder)


def read_gguf(path: Path) -> tuple[Any, Any]:
    """Load the network, in fp32, and the tokenizer of a GGUF file.

    Raises:
        SizewiseError: the file is damaged, or its tokenizer doesn't reproduce text exactly.
    """
    quiet_libraries()
    try:
        # The progress bar of the conversion can't be switched off.
        with redirect_stderr(io.StringIO()), _patched_transformers():
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
            packed = AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SizewiseError(
            f"{path} can't be read as GGUF: {(str(error) or type(error).__name__).splitlines()[0]}",
            "a complete GGUF file",
            f"remove {path} and run the same command again",
        ) from error
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
    ids = tokenizer(ROUND_TRIP, add_special_tokens=False).input_ids
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if back != ROUND_TRIP:
        raise SizewiseError(
            f"The tokenizer in {path} turns {ROUND_TRIP!r} into {back!r}.",
            "a tokenizer that reproduces text exactly",
            "use another model: sizewise models",
        )
    tokenizer.model_max_length = config.max_position_embeddings
    return network.eval(), tokenizer
