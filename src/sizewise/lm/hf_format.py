"""Load and save networks and tokenizers as Hugging Face folders (safetensors only)."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoTokenizer,
)

from sizewise.errors import SizewiseError
from sizewise.lm.device import PRECISIONS
from sizewise.lm.execution import execution_of
from sizewise.lm.tokenizer import end_ids, written_tokens
from sizewise.lm.weight_checks import check_all_used, check_not_packed, check_numbers
from sizewise.lm.weight_files import ADAPTER_CONFIG, weight_files
from sizewise.records import fingerprint
from sizewise.store import sha256_of

SUPPORTED = "Llama, Mistral, Qwen 2 and 3, Gemma 3, Granite, Phi-3, Cohere and others that pass the numeric check"
# Weight names of a multimodal model's text part, before and since transformers 4.52 -> names in a text model.
TEXT_PART = {
    r"^language_model\.model\.": "model.",
    r"^model\.language_model\.": "model.",
    r"^language_model\.lm_head\.": "lm_head.",
}


def quiet_libraries() -> None:
    """Silence the progress bars and warnings of transformers and torch.compile."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    logging.getLogger("torch._inductor").setLevel(logging.ERROR)


def check_folder(folder: Path) -> None:
    """Check that a folder contains a model that is safe to load.

    Raises:
        SizewiseError: the folder has no config, lacks weights, or has only pickle files, which can execute code.
    """
    if not (folder / "config.json").is_file():
        raise SizewiseError(
            f"{folder} is not a model folder: it has no config.json.",
            "a Hugging Face folder with config.json, tokenizer.json and *.safetensors",
            "sizewise models",
        )
    if (folder / ADAPTER_CONFIG).is_file() and len(list(folder.glob("*.safetensors"))) > 1:
        raise SizewiseError(
            f"{folder} contains a model and adapters ({ADAPTER_CONFIG}). If these are merged already, applying them "
            "again would change the model.",
            "a folder for the model, and one for the adapters",
            f"remove the adapter files from {folder} if they are merged, or else move them to another folder",
        )
    if not list(folder.glob("*.safetensors")):
        if any(path.with_suffix(".xml").is_file() for path in folder.glob("*.bin")):
            raise SizewiseError(
                f"{folder} contains a model that was converted for OpenVINO, which answers but can't be trained or "
                "converted again.",
                "weights in *.safetensors",
                "use the model that it was converted from",
            )
        pickles = [path.name for path in folder.glob("*.bin")] + [path.name for path in folder.glob("*.pt*")]
        found = f"only pickle weights ({', '.join(pickles)}), which can execute code" if pickles else "no weights"
        raise SizewiseError(
            f"{folder} contains {found}.", "weights in *.safetensors", "convert the weights to safetensors first"
        )
    weight_files(folder)


def load_config(folder: Path) -> Any:
    """Load a network's config without remote code. For a multimodal model, load the config of its text part."""
    return _load_config(folder).get_text_config()


def _load_config(folder: Path) -> Any:
    check_folder(folder)
    quiet_libraries()
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers may raise anything for an unknown config
        raise load_error(folder, error) from error


def settings_of(config: Any) -> dict[str, Any]:
    """Return the settings of a config's text part under their most common names, regardless of architecture."""
    config = config.get_text_config(decoder=True)
    found: dict[str, Any] = config.to_dict()
    for name in ("num_hidden_layers", "num_attention_heads", "hidden_size", "max_position_embeddings"):
        found.setdefault(name, getattr(config, name, None))
    inner = next((found[name] for name in ("intermediate_size", "ffn_dim", "n_inner") if found.get(name)), None)
    found["intermediate_size"] = inner or 4 * (found["hidden_size"] or 0)
    sizes = ("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    return found | {name: max(found[name]) for name in sizes if isinstance(found.get(name), list)}  # one for each block


def load_network(folder: Path, precision: str, **options: Any) -> Any:
    """Load a causal language model; of a multimodal model only the text part, if transformers can load it by itself.

    Args:
        folder: a Hugging Face folder.
        precision: `bf16` or `fp32`.
        options: further arguments of transformers' `from_pretrained`.

    Raises:
        SizewiseError: the folder is not a model, is damaged, doesn't match its config, or its architecture gives
            results that differ from transformers'.
    """
    from sizewise.lm.checking import check_network  # imported here: it imports this module

    full_config = _load_config(folder)
    check_not_packed(folder, full_config)
    candidates = network_classes(full_config)
    for kind, config in candidates:
        try:
            network, report = kind.from_pretrained(
                folder,
                config=config,
                key_mapping=None if config is full_config else TEXT_PART,
                dtype=PRECISIONS[precision],
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below
                **options,
            )
        except Exception as error:  # transformers may raise anything for an unknown architecture
            raise load_error(folder, error) from error
        wrong = sorted(map(str, report.get("missing_keys", ()))) + sorted(
            str(name[0]) if isinstance(name, tuple) else str(name) for name in report.get("mismatched_keys", ())
        )
        if wrong and (kind, config) == candidates[-1]:
            raise SizewiseError(
                f"The config in {folder} does not match its weights: {len(wrong)} of them are missing or have "
                f"another shape, for example {wrong[0]}.",
                "a config.json that belongs to the weights",
                "download the model again",
            )
        if not wrong:
            break
    check_all_used(network, map(str, report.get("unexpected_keys", ())), folder)
    check_numbers(network, folder)
    if network.config is not full_config:  # saved under the names of the text model, not under those it was loaded from
        network.__dict__.pop("_weight_conversions", None)
    network.eval()
    if network.config is full_config and network.config.get_text_config() is not full_config:
        is_text = execution_of(network).text_filter()
        for name, parameter in network.named_parameters():
            if not is_text(name):
                parameter.requires_grad_(False)
    check_network(network)
    return network


def network_classes(config: Any) -> list[tuple[Any, Any]]:
    """List the classes that may load a causal language model, each with the config that it needs, the best first.

    Most multimodal models have a text part that is a causal language model by itself. Otherwise, or if the weights have
    other names, the whole model is loaded, and only its text part is used and trained. So are Cohere's: their text part
    scales its logits, the whole model doesn't.
    """
    text = config.get_text_config()
    alone = type(text) in AutoModelForCausalLM._model_mapping
    if text is not config and getattr(text, "logit_scale", None):
        alone = False
    found = [(AutoModelForCausalLM, text)] if alone else []
    if text is not config or not found:
        whole = (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM)
        found += [(kind, config) for kind in whole if type(config) in kind._model_mapping][:1]
    if not found:  # such as the text part of Llama 3.2 Vision, saved by itself
        names = [name for name in getattr(config, "architectures", None) or () if str(name).endswith("ForCausalLM")]
        named = [getattr(transformers, name, None) for name in names]
        found = [(kind, config) for kind in named if getattr(kind, "config_class", None) is type(config)]
    return found or [(AutoModelForCausalLM, text)]  # which explains what it expects


def load_error(folder: Path, error: Exception) -> SizewiseError:
    """Build the error for a model that failed to load, with the reason, supported models and the next step."""
    first = error_line(error)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = str((config.get("architectures") or [config.get("model_type")])[0])
        quantized = (config.get("quantization_config") or {}).get("quant_method")
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        kind, quantized = "", None
    if quantized:
        return SizewiseError(
            f"The model in {folder} can't be loaded: its weights are quantized ({quantized}). {first}",
            f"weights in bf16, fp16 or fp32 of a supported architecture: {SUPPORTED}",
            "use the repository with the original weights, or a GGUF file: gguf:FILE",
        )
    return SizewiseError(
        f"The model in {folder} can't be loaded{f' ({kind})' if kind else ''}: {first}",
        f"a complete Hugging Face folder of a supported architecture: {SUPPORTED}",
        "download the model again if a file is damaged, or choose another one: sizewise models",
    )


def error_line(error: Exception) -> str:
    """Return the first line of an error's message, and the next one where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, LookupError):  # whose message is nothing but the key
        return f"{type(error).__name__}: {lines[0]}"
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def load_tokenizer(folder: Path) -> Any:
    """Load a model's tokenizer, with padding on the left."""
    quiet_libraries()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "padding_side": "left"}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        if _splits_wrongly(tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(folder, fix_mistral_regex=True, **options)
    except Exception as error:  # transformers may raise anything for an unknown tokenizer
        raise load_error(folder, error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _splits_wrongly(tokenizer: Any) -> bool:
    """Check whether a Mistral tokenizer was converted with a wrong split pattern, as those of Mistral Small 3 were.

    transformers suspects every large tokenizer of a Mistral network, and warns.
    """
    suspected = getattr(getattr(tokenizer, "backend_tokenizer", None), "fix_mistral_regex", None) is False
    return suspected and "[INST]" in tokenizer.get_vocab()


def check_tokenizer(network: Any, tokenizer: Any, folder: Path) -> None:
    """Check that a network has an embedding for every token that prompts and texts are made of.

    Control tokens that the chat template doesn't write don't count: Gemma 3 has one for images, and many tokenizers got
    one for padding.

    Raises:
        SizewiseError: it lacks one.
    """
    embedded = network.get_input_embeddings().num_embeddings
    if tokenizer.vocab_size > embedded:
        raise SizewiseError(
            f"The tokenizer in {folder} has {tokenizer.vocab_size:,} tokens, the network has {embedded:,}.",
            "a tokenizer that belongs to the network",
            f"copy the network's own tokenizer files into {folder}",
        )
    lacking = [token for token in written_tokens(tokenizer) if token >= embedded]
    if lacking:
        texts = ", ".join(f"{tokenizer.convert_ids_to_tokens(token)} (token {token:,})" for token in lacking[:3])
        raise SizewiseError(
            f"The tokenizer in {folder} writes {texts}, but the network has embeddings for {embedded:,} tokens only.",
            "a network whose embeddings were resized when the tokens were added",
            f"copy the network's own tokenizer files into {folder}, or choose another model: sizewise models",
        )


def save_model(network: Any, tokenizer: Any, folder: Path, extra: dict[str, str] | None = None) -> None:
    """Save a network in bf16 with its tokenizer. The folder appears only once it is complete.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        folder: destination folder.
        extra: additional files, name -> text.

    Raises:
        SizewiseError: the folder can't be written, for example because the disk is full.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        ends = sorted(end_ids(network, tokenizer))  # otherwise answers trained to end with another token never stop
        if ends:
            network.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
        network.to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for name, text in (extra or {}).items():
            (temporary / name).write_text(text, encoding="utf-8")
        for path in temporary.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # several chat templates have a folder
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise cannot_save(folder, error) from error


def cannot_save(folder: Path, error: Exception) -> SizewiseError:
    """Build the error for weights that can't be written, for example because the disk is full."""
    return SizewiseError(
        f"{folder} can't be written: {getattr(error, 'strerror', None) or error}.",
        "a writable folder with enough free space",
        "export SIZEWISE_HOME=FOLDER or free disk space, then run the same command again",
    )


def weights_hash(folder: Path) -> str:
    """Compute a hash of the weights in a model folder, by the names and contents of their files."""
    return fingerprint([[path.name, sha256_of(path)] for path in sorted(folder.glob("*.safetensors"))], 64)


def attention_words(config: Any) -> str:
    """Describe a network's attention: full, sliding window or mixed."""
    config = config.get_text_config(decoder=True)
    kinds = list(getattr(config, "layer_types", None) or [])
    window = getattr(config, "sliding_window", None)
    if window and "sliding_attention" in kinds and "full_attention" in kinds:
        full = kinds.count("full_attention")
        return f"window {window} in {len(kinds) - full} of {len(kinds)} blocks, full in {full}"
    if window and (not kinds or "sliding_attention" in kinds):
        return f"window {window}"
    return "full"


def parameters_of(network: Any) -> int:
    """Count a network's parameters; tied weights count once, and weights packed into 4 bits by their true number."""
    return sum(
        math.prod(parameter.quant_state.shape) if getattr(parameter, "quant_state", None) else parameter.numel()
        for parameter in network.parameters()
    )


def held_bytes(network: Any) -> int:
    """Return the memory that a network's weights take, in bytes, with the scales of 4-bit weights."""
    total = sum(values.numel() * values.element_size() for values in (*network.parameters(), *network.buffers()))
    for parameter in network.parameters():
        state = getattr(parameter, "quant_state", None)
        for part in (state, getattr(state, "state2", None)):
            total += (
                sum(values.numel() * values.element_size() for values in vars(part).values() if torch.is_tensor(values))
                if part
                else 0
            )
    return total
