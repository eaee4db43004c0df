"""Hugging Face folders on disk: load and save networks and tokenizers. Safetensors only."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sizewise.errors import SizewiseError
from sizewise.lm.device import PRECISIONS
from sizewise.lm.tokenizer import end_ids

SUPPORTED = "Llama, Mistral, Qwen 2 and 3, Gemma 3, Granite, Phi-3, Cohere and others that agree with transformers"
# How models that see pictures name the weights of their text part, before and since transformers 4.52.
TEXT_PART = {
    r"^language_model\.model\.": "model.",
    r"^model\.language_model\.": "model.",
    r"^language_model\.lm_head\.": "lm_head.",
}


def quiet_libraries() -> None:
    """Keep transformers' own bars and advice off the terminal; our errors say what matters."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    logging.getLogger("torch._inductor").setLevel(logging.ERROR)


def check_folder(folder: Path) -> None:
    """Make sure that a folder holds a model that may be loaded.

    Raises:
        SizewiseError: it is not a model folder, or its weights are pickle files, which can run code.
    """
    if not (folder / "config.json").is_file():
        raise SizewiseError(
            f"{folder} is not a model folder: it has no config.json.",
            "a Hugging Face folder with config.json, tokenizer.json and *.safetensors",
            "sizewise models",
        )
    if not list(folder.glob("*.safetensors")):
        pickles = [path.name for path in folder.glob("*.bin")] + [path.name for path in folder.glob("*.pt*")]
        found = f"only pickle weights ({', '.join(pickles)}), which can run code" if pickles else "no weights"
        raise SizewiseError(
            f"{folder} holds {found}.", "weights in *.safetensors", "convert the weights to safetensors first"
        )


def load_config(folder: Path) -> Any:
    """Load a network's configuration, without remote code; of a model that sees pictures, that of its text part."""
    return _load_config(folder).get_text_config()


def _load_config(folder: Path) -> Any:
    check_folder(folder)
    quiet_libraries()
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever an unknown config leads to
        raise cannot_load(folder, error) from error


def settings_of(config: Any) -> dict[str, Any]:
    """Return a config's settings under the names that most have, whatever its architecture calls them."""
    found: dict[str, Any] = config.to_dict()
    for name in ("num_hidden_layers", "num_attention_heads", "hidden_size", "max_position_embeddings"):
        found.setdefault(name, getattr(config, name, None))
    inner = next((found[name] for name in ("intermediate_size", "ffn_dim", "n_inner") if found.get(name)), None)
    return found | {"intermediate_size": inner or 4 * (found["hidden_size"] or 0)}


def load_network(folder: Path, precision: str, **how: Any) -> Any:
    """Load a causal language model for reading and writing text; of a model that sees pictures, its text part.

    Args:
        folder: a Hugging Face folder.
        precision: `bf16` or `fp32`.
        how: further arguments of transformers' `from_pretrained`.

    Raises:
        SizewiseError: the folder is not a model, is damaged, does not match its config, or holds an architecture that
            gives other numbers here than in transformers.
    """
    from sizewise.lm.checking import check_network  # which needs to run networks, and so imports this module

    whole = _load_config(folder)
    config = whole.get_text_config()
    try:
        network, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            key_mapping=None if config is whole else TEXT_PART,
            dtype=PRECISIONS[precision],
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **how,
        )
    except Exception as error:  # transformers raises whatever an unknown architecture leads to
        raise cannot_load(folder, error) from error
    wrong = sorted(map(str, report.get("missing_keys", ()))) + sorted(map(str, report.get("mismatched_keys", ())))
    if wrong:
        raise SizewiseError(
            f"The config in {folder} does not match its weights: {len(wrong)} of them are missing or of "
            f"another shape, for example {wrong[0]}.",
            "a folder whose config.json belongs to its weights",
            "fetch the model again",
        )
    network.eval()
    check_network(network)
    return network


def cannot_load(folder: Path, error: Exception) -> SizewiseError:
    """Return the error that says which model a library could not load, what can be, and what to do."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = str((told.get("architectures") or [told.get("model_type")])[0])
        packed = (told.get("quantization_config") or {}).get("quant_method")
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        kind, packed = "", None
    if packed:
        return SizewiseError(
            f"The model in {folder} cannot be loaded: its weights are quantised ({packed}). {first}",
            f"weights in bf16, fp16 or fp32; supported are {SUPPORTED}",
            "take the repository of the original weights, or a GGUF file: gguf:FILE",
        )
    return SizewiseError(
        f"The model in {folder} cannot be loaded{f' ({kind})' if kind else ''}: {first}",
        f"a complete Hugging Face folder of an architecture that transformers knows; supported are {SUPPORTED}",
        "fetch the model again if a file is damaged, or choose another one: sizewise models",
    )


def load_tokenizer(folder: Path) -> Any:
    """Load a model's tokenizer; prompts are padded on the left."""
    quiet_libraries()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="left"
        )
    except Exception as error:  # transformers raises whatever an unknown tokenizer leads to
        raise cannot_load(folder, error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_tokenizer(network: Any, tokenizer: Any, folder: Path) -> None:
    """Refuse a tokenizer that knows more tokens than its network, those added later aside (Gemma 3 has one for images).

    Raises:
        SizewiseError: it belongs to another network.
    """
    embedded = network.get_input_embeddings().num_embeddings
    if tokenizer.vocab_size > embedded:
        raise SizewiseError(
            f"The tokenizer in {folder} knows {tokenizer.vocab_size:,} tokens, the network {embedded:,}.",
            "a tokenizer that belongs to the network",
            f"put the right tokenizer files into {folder}",
        )


def save_model(network: Any, tokenizer: Any, folder: Path, extra: dict[str, str] | None = None) -> None:
    """Write a network in bf16 with its tokenizer; the folder appears only when it is whole.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        folder: where to.
        extra: further files, name -> text.

    Raises:
        SizewiseError: the disk is full or the folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        ends = sorted(end_ids(network, tokenizer))  # or answers that were learnt to end with another token run on
        if ends:
            network.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
        network.to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for name, text in (extra or {}).items():
            (temporary / name).write_text(text, encoding="utf-8")
        for path in temporary.iterdir():
            path.chmod(0o644)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        raise SizewiseError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "a folder with room that can be written",
            "export SIZEWISE_HOME=FOLDER, or free some room; then run the same command again",
        ) from error


def attention_words(config: Any) -> str:
    """Say in words which attention a network uses."""
    kinds = list(getattr(config, "layer_types", None) or [])
    window = getattr(config, "sliding_window", None)
    if window and "sliding_attention" in kinds and "full_attention" in kinds:
        full = kinds.count("full_attention")
        return f"window {window} in {len(kinds) - full} of {len(kinds)} blocks, full in {full}"
    if window and (not kinds or "sliding_attention" in kinds):
        return f"window {window}"
    return "full"


def parameters_of(network: Any) -> int:
    """Count a network's parameters; tied weights count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def vectors_of(network: Any) -> list[npt.NDArray[np.float32]]:
    """Give a network's vectors in fp32: weights of norms, biases, frequencies of positions."""
    found = [*network.parameters(), *network.buffers()]
    return [values.detach().float().cpu().numpy() for values in found if values.ndim == 1]
