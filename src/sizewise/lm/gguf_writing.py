"""Write a network and its tokenizer as one GGUF file for llama.cpp, Ollama and openvino-genai.

Source: the GGUF specification and the tensor names of the `gguf` package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
import torch

from sizewise.errors import SizewiseError
from sizewise.lm import k_quants
from sizewise.lm.gguf_positions import FACTORS, add_positions, why_not_writable
from sizewise.lm.tokenizer import begin_ids, render_chat, text_ids, turn_end
from sizewise.records import Message

F16 = "f16"
QUANTIZATIONS = {
    name: gguf.GGMLQuantizationType[name.upper()] for name in (F16, "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
} | k_quants.MIXES
"""Format -> type of its matrices, or of most of them."""


class _Family(NamedTuple):
    """Name of an architecture in GGUF and its conventions for weights."""

    name: str
    rotates_pairs: bool = False
    """Rotary embeddings rotate adjacent dimensions, so rows of queries and keys must be permuted."""
    adds_one: bool = False
    """Norm weights are stored as the Hugging Face values plus 1."""
    activations: tuple[str, ...] = ("silu", "swish")
    """Names of the activation that readers compute; files don't state it."""
    has_reader: bool = True
    """Whether transformers reads such files; otherwise only llama.cpp does."""


FAMILIES = {
    "llama": _Family("llama", rotates_pairs=True),
    "mistral": _Family("llama", rotates_pairs=True),
    "qwen2": _Family("qwen2"),
    "qwen3": _Family("qwen3"),
    "gemma3_text": _Family("gemma3", adds_one=True, activations=("gelu_pytorch_tanh", "gelu_new")),
    "phi3": _Family("phi3"),
    "granite": _Family("granite", rotates_pairs=True, has_reader=False),
}
GEMMA_27B = 62
"""Blocks of Gemma 3 27B, whose attention llama.cpp scales otherwise."""
_DIGITS_APART = "smollm"  # single digits, then GPT-2's pattern
_PLAIN = "gpt-2"
_LETTERS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?" + _LETTERS[0] + "*" + _LETTERS[1] + "+",
    r"[^\r\n\p{L}\p{N}]?" + _LETTERS[0] + "+" + _LETTERS[1] + "*",
)
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
# Start of a tokenizer's split pattern -> its name in GGUF.
_PATTERNS = {
    rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*": "tekken",
    rf"{_CASED[0]}{_SUFFIX}|{_CASED[1]}{_SUFFIX}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*": "gpt-4o",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*": "qwen2",
}


def write_gguf(network: Any, tokenizer: Any, path: Path, quantization: str, name: str, license: str) -> None:
    """Write weights, tokenizer and chat template to one file.

    Args:
        network: a causal language model, preferably in fp32, so that each weight is rounded only once.
        tokenizer: its tokenizer.
        path: file to write.
        quantization: one of QUANTIZATIONS.
        name: name of the model.
        license: license of the weights.

    Raises:
        SizewiseError: GGUF doesn't support the architecture, its attention or its tokenizer.
    """
    config = network.config
    family = _family(config)
    if quantization in k_quants.MIXES:
        k_quants.require()
    writer = gguf.GGUFWriter(path, family.name)
    try:
        writer.add_name(name)
        writer.add_license(license)
        writer.add_file_type(
            gguf.LlamaFileType.MOSTLY_F16
            if quantization == F16
            else gguf.LlamaFileType[f"MOSTLY_{quantization.upper()}"]
        )
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_shape(writer, config)
        _add_tokenizer(writer, tokenizer, config.vocab_size)
        factors = add_positions(writer, config)
        if factors is not None:
            writer.add_tensor(FACTORS, factors)
        for title, values, kind in _tensors(network, family, quantization):
            pack = k_quants.quantize if kind in k_quants.MIXES.values() else gguf.quants.quantize
            writer.add_tensor(title, pack(values, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def has_reader(path: Path) -> bool:
    """Check whether transformers reads the architecture of a file; llama.cpp reads all that are written here."""
    reader = gguf.GGUFReader(str(path))
    name = reader.fields["general.architecture"].contents()
    if name == "llama" and any(tensor.name.endswith(".bias") for tensor in reader.tensors):
        return False  # it skips the biases
    return all(family.has_reader for family in FAMILIES.values() if family.name == name)


def check_writable(config: Any, tokenizer: Any) -> None:
    """Check, without loading weights, that GGUF supports an architecture, its positions and its tokenizer.

    Raises:
        SizewiseError: GGUF doesn't support one of them.
    """
    _family(config)
    _tokenizer_json(tokenizer)


def _unsupported(what: str, expected: str) -> SizewiseError:
    return SizewiseError(
        f"This model can't be written as GGUF: {what}",
        expected,
        "sizewise export ID --to hf, or sizewise serve MODEL --engine transformers",
    )


def _family(config: Any) -> _Family:
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise _unsupported(
            f"there is no verified export for the architecture '{config.model_type}'.",
            f"one of {', '.join(FAMILIES)}",
        )
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None) if not kinds or "sliding_attention" in kinds else None
    if window and family.name != "gemma3" and window < config.max_position_embeddings:
        raise _unsupported(
            f"its '{family.name}' networks have no sliding window, so a network trained with a window of {window} "
            "would run with full attention.",
            "full attention, or Gemma 3",
        )
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    if activation not in family.activations:
        raise _unsupported(
            f"its blocks use {activation}, and readers of '{family.name}' compute {family.activations[0]}.",
            f"a network with {family.activations[0]}",
        )
    if family.name == "gemma3":
        _check_gemma(config)
    reason = why_not_writable(config, family.name)
    if reason:
        raise _unsupported(f"{reason}.", "plain, linear, Llama 3 or YaRN rotary positions")
    return family


def _check_gemma(config: Any) -> None:
    """Check what llama.cpp knows of Gemma 3 without reading it from the file."""
    usual = ["sliding_attention"] * 5 + ["full_attention"]
    if list(config.layer_types) != [usual[block % 6] for block in range(config.num_hidden_layers)]:
        raise _unsupported(
            "its blocks attend in another order than Gemma 3's.", "five blocks with a window, then one without"
        )
    largest = config.num_hidden_layers == GEMMA_27B
    scale = config.hidden_size // config.num_attention_heads if largest else config.head_dim
    if config.query_pre_attn_scalar != scale:
        raise _unsupported(
            f"its attention is scaled by the root of {config.query_pre_attn_scalar}, and llama.cpp takes {scale}.",
            f"query_pre_attn_scalar {scale}",
        )


def _add_shape(writer: gguf.GGUFWriter, config: Any) -> None:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(int(width * (config.rope_parameters.get("partial_rotary_factor") or 1)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"] if "rope_theta" in rope else rope["full_attention"]["rope_theta"])
    if config.model_type == "gemma3_text":
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "granite":
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)


def _tensors(
    network: Any, family: _Family, quantization: str
) -> list[tuple[str, npt.NDArray[np.float32], gguf.GGMLQuantizationType]]:
    """Return (GGUF name, values, type) of each weight. Vectors stay in fp32; rows of unsuitable length become F16."""
    config = network.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.name.upper()], config.num_hidden_layers)
    head = network.get_output_embeddings().weight
    tied = head is network.get_input_embeddings().weight
    found = []
    for name, weight in network.state_dict().items():
        if tied and name.startswith("lm_head."):
            continue
        title = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if title is None:
            raise _unsupported(f"GGUF has no name for the weight {name}.", "a supported architecture")
        values = weight.detach().to(device="cpu", dtype=torch.float32).numpy()
        if family.rotates_pairs and name.rpartition(".")[0].endswith(("q_proj", "k_proj")):
            query = name.rpartition(".")[0].endswith("q_proj")
            values = _interleave_halves(values, config.num_attention_heads if query else config.num_key_value_heads)
        if family.adds_one and name.endswith("norm.weight"):
            values = values + 1
        kind = QUANTIZATIONS[quantization]
        if quantization in k_quants.MIXES and values.ndim > 1:
            is_head = title == ("token_embd.weight" if tied else "output.weight")
            number = int(title.split(".")[1]) if title.startswith("blk.") else 0
            blocks = config.num_hidden_layers
            kind = k_quants.mixed_kind(quantization, title, number, blocks, values.shape[-1], is_head)
        block = gguf.GGML_QUANT_SIZES[kind][0]
        here = kind if values.ndim > 1 and values.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16
        found.append((title, np.ascontiguousarray(values), here if values.ndim > 1 else gguf.GGMLQuantizationType.F32))
    return found


def _interleave_halves(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Interleave the two halves of each head's rows, (heads x width, ...)."""
    shape = values.shape
    return values.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def _tokenizer_json(tokenizer: Any) -> dict[str, Any]:
    """Return the tokenizer.json of a supported tokenizer."""
    if not tokenizer.is_fast:
        raise _unsupported("its tokenizer has no tokenizer.json.", "byte-pair encoding in a tokenizer.json")
    described: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    model = described["model"]
    if model["type"] != "BPE":
        raise _unsupported(f"{model['type']} tokenizers aren't supported.", "byte-pair encoding")
    if not model["byte_fallback"]:
        _pattern_name(described["pre_tokenizer"])
    return described


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any, rows: int) -> None:
    described = _tokenizer_json(tokenizer)
    model = described["model"]
    pieces: list[str] = [f"[PAD{i}]" for i in range(rows)]
    kinds = [gguf.TokenType.UNUSED] * rows
    for piece, i in model["vocab"].items():
        if i < rows:
            raw = model["byte_fallback"] and len(piece) == 6 and piece.startswith("<0x")
            pieces[i], kinds[i] = piece, gguf.TokenType.BYTE if raw else gguf.TokenType.NORMAL
    for added in described["added_tokens"]:
        if added["id"] < rows:
            pieces[added["id"]] = added["content"]
            kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    if model["byte_fallback"]:
        writer.add_tokenizer_model("llama")
        writer.add_token_scores(_merge_ranks(pieces, merges))
        writer.add_add_space_prefix(_puts_space_first(described))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_pattern_name(described["pre_tokenizer"]))
        writer.add_token_merges(merges)
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    for add, i in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_eot_token_id, turn_end(tokenizer)),  # answers end with it, where it isn't the end of text
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
    ):
        if i is not None:
            add(i)
    writer.add_add_bos_token(begins_prompts(tokenizer))
    template = tokenizer.chat_template
    if isinstance(template, dict):  # several, such as one for tools
        writer.add_chat_template([{"name": name, "template": text} for name, text in template.items()])
    elif template:
        writer.add_chat_template(template)


def begins_prompts(tokenizer: Any) -> bool:
    """Check whether a reader of the file should put the beginning-of-text token before each prompt.

    Readers do so for conversations and plain text alike. If the tokenizer begins texts with it, but the chat template
    doesn't write it (Llama 2's tokenizer with ChatML, for example), conversations decide.
    """
    begin = tokenizer.bos_token_id
    if begin is None or begin_ids(tokenizer) != [begin]:
        return False
    if not tokenizer.chat_template:
        return True
    return text_ids(tokenizer, render_chat(tokenizer, (Message(role="user", content="a"),)))[:1] == [begin]


def _puts_space_first(described: dict[str, Any]) -> bool:
    """Check whether a tokenizer puts a space before each text between control tokens, as Llama 2's does."""
    normalizer, splitter = described["normalizer"] or {}, described["pre_tokenizer"] or {}
    parts = normalizer.get("normalizers", [normalizer])
    return any(part.get("type") == "Prepend" for part in parts) or splitter.get("prepend_scheme") == "always"


def _merge_ranks(pieces: list[str], merges: list[str]) -> list[float]:
    """Compute token scores that make SentencePiece readers merge in list order: earlier merges score higher."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", "", 1), rank)
    return [-float(ranks.get(piece, len(merges))) for piece in pieces]


def _pattern_name(splitter: dict[str, Any] | None) -> str:
    """Return GGUF's name of the pattern that splits text before merging."""
    parts = splitter.get("pretokenizers", [splitter]) if splitter else []
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"] and parts[0]["use_regex"]:
        return _PLAIN
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and parts[1]["use_regex"]:
        return _DIGITS_APART
    if kinds == ["Split", "ByteLevel"] and not parts[1]["use_regex"]:
        pattern = parts[0]["pattern"].get("Regex", "")
        found = next((name for start, name in _PATTERNS.items() if pattern.startswith(start)), None)
        if found:
            return found
    raise _unsupported("GGUF has no name for the tokenizer's split pattern.", "the tokenizer of a known model")
