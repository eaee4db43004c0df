"""Turn a GGUF file into an ordinary Hugging Face folder, weights dequantised."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sizewise.errors import SizewiseError
from sizewise.lm.folder import quiet_libraries, save_model

# Digits, accents, punctuation, indentation: what broken tokenizers lose first.
ROUND_TRIP = "The quick brown fox, 42 times: naïve café.\n\n  indented"


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Let transformers parse a file once, not three times: Gemma's token list takes 13 s to read."""
    reader = gguf.GGUFReader
    gguf.GGUFReader = lru_cache(maxsize=1)(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


def convert_gguf(path: Path, folder: Path) -> None:
    """Dequantise a GGUF file and save it as safetensors in bf16 with tokenizer and chat template.

    Raises:
        SizewiseError: the file is damaged, or its tokenizer does not give text back as it was.
    """
    quiet_libraries()
    try:
        # The bar of the conversion cannot be switched off.
        with redirect_stderr(io.StringIO()), _parsed_once():
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
            packed = AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SizewiseError(
            f"{path} cannot be read as GGUF: {(str(error) or type(error).__name__).splitlines()[0]}",
            "a complete GGUF file",
            f"remove {path} and run the same command again",
        ) from error
    config = packed.config
    del config.quantization_config  # what is saved is not quantised any more
    with torch.device("meta"):  # takes over the tensors instead of copying them
        network = AutoModelForCausalLM.from_config(config)
    network.load_state_dict(packed.state_dict(), assign=True)
    network.tie_weights()
    del packed
    ids = tokenizer(ROUND_TRIP, add_special_tokens=False).input_ids
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if back != ROUND_TRIP:
        raise SizewiseError(
            f"The tokenizer in {path} turns {ROUND_TRIP!r} into {back!r}.",
            "a tokenizer that gives text back as it was",
            "use another model: sizewise models",
        )
    tokenizer.model_max_length = config.max_position_embeddings
    save_model(network, tokenizer, folder)
