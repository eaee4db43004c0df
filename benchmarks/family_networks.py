"""Tiny checkpoints of families: true config classes, tokenizers of the same kind, chat templates of the same style.

A network has a few hundred thousand weights and is trained for some seconds on the text that it will be asked about, so
that it's sure of its tokens: random networks change their greedy tokens with every rounding.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from benchmarks import family_templates as templates
from benchmarks.tiny_networks import tiny_config
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

VOCABULARY, CONTEXT = 700, 512
STEPS, ROWS, LENGTH, RATE = 160, 4, 128, 4e-3
ROUNDS, SURE = 4, 0.9
"""Rounds of training at most, and the loss at which there is no further one."""
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3, QWEN2 = _WORDS + r"\p{N}{1,3}" + _REST, _WORDS + r"\p{N}" + _REST
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{value:02X}>" for value in range(256)]
DENSE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
}
SEEING: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
Texts = Sequence[str]


@dataclass(frozen=True)
class Special:
    """Tokens outside the learned vocabulary, and their roles."""

    first: tuple[str, ...] = ()
    """Control tokens with the lowest ids."""
    last: tuple[str, ...] = ()
    """Control tokens with the highest ids."""
    plain: tuple[str, ...] = ()
    """Added tokens that aren't declared as control tokens, after the last."""
    bos: str | None = None
    eos: str = ""
    pad: str | None = None
    begins: bool = False
    """Whether the tokenizer puts `bos` before a text."""
    ends: tuple[str, ...] = ()
    """Tokens in the generation config that end an answer."""
    strips: bool = False
    """Whether added tokens take the white space after them, as Phi-3's do."""


@dataclass(frozen=True)
class Family:
    """One family of checkpoints."""

    name: str
    kind: str
    """Model type in the config."""
    template: str
    special: Special
    train: Callable[[Texts, Special], Tokenizer]
    settings: dict[str, Any] = field(default_factory=dict)
    whole: str = ""
    """Config class of a multimodal wrapper, whose text part has the settings."""


def byte_level(pattern: str = "", digits: bool = False, nfc: bool = False) -> Callable[[Texts, Special], Tokenizer]:
    """Return a trainer of byte-level BPE tokenizers with a split pattern."""

    def train(texts: Texts, special: Special) -> Tokenizer:
        found = Tokenizer(models.BPE())
        plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)
        split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
        single = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
        found.pre_tokenizer = pre_tokenizers.Sequence([*split, *single, plain])
        found.decoder = decoders.ByteLevel()
        if nfc:
            found.normalizer = normalizers.NFC()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY - len(special.first),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=list(special.first),
            show_progress=False,
        )
        found.train_from_iterator(texts, trainer)
        return found

    return train


def sentence_piece(style: str) -> Callable[[Texts, Special], Tokenizer]:
    """Return a trainer of BPE tokenizers with byte fallback, converted from SentencePiece.

    Args:
        style: `llama2` and `mistral` mark the beginning of a text with a space, each in its way; `gemma` doesn't.
    """

    def train(texts: Texts, special: Special) -> Tokenizer:
        found = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        found.pre_tokenizer = pre_tokenizers.Metaspace()
        first = list(special.first)
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=[*first, *BYTES], show_progress=False, min_frequency=2
        )
        found.train_from_iterator(texts, trainer)
        written = json.loads(found.to_str())
        written["added_tokens"] = [token for token in written["added_tokens"] if token["content"] in first]
        written["pre_tokenizer"] = None
        found = Tokenizer.from_str(json.dumps(written))
        spaces = normalizers.Replace(" ", "▁")
        ending = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        if style == "llama2":
            found.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
        elif style == "mistral":
            found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        else:
            found.normalizer = spaces
            found.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        if style != "gemma":
            ending.append(decoders.Strip(" ", 1, 0))
        found.decoder = decoders.Sequence(ending)
        return found

    return train


def unigram(texts: Texts, special: Special) -> Tokenizer:
    """Train a Unigram tokenizer."""
    found = Tokenizer(models.Unigram())
    found.normalizer = normalizers.NFKC()
    found.pre_tokenizer, found.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=list(special.first), unk_token="<unk>", show_progress=False
    )
    found.train_from_iterator(texts, trainer)
    return found


def make_tokenizer(family: Family, texts: Texts) -> PreTrainedTokenizerFast:
    """Train a family's tokenizer."""
    special = family.special
    inner = family.train(texts, special)
    inner.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in special.last])
    inner.add_tokens([AddedToken(one, special=False, normalized=False, rstrip=special.strips) for one in special.plain])
    if special.begins and special.bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{special.bos} $A",
            pair=f"{special.bos} $A {special.bos} $B",
            special_tokens=[(special.bos, inner.token_to_id(special.bos))],
        )
    named = {"bos_token": special.bos, "eos_token": special.eos, "pad_token": special.pad}
    if inner.token_to_id("<unk>") is not None:
        named["unk_token"] = "<unk>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=CONTEXT, **{name: token for name, token in named.items() if token}
    )
    tokenizer.chat_template = family.template
    return tokenizer


def make_config(family: Family, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Build a family's config for its tokenizer."""
    ids = {
        "vocab_size": -(-len(tokenizer) // 32) * 32,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family.whole:
        kind = getattr(transformers, family.whole)
        text = DENSE | ids | family.settings | {"model_type": family.kind}
        seeing = SEEING | ({"model_type": "pixtral", "head_dim": 16} if family.kind == "mistral" else {})
        image = {"image_token_index": ids["vocab_size"] - 1}
        return kind(text_config=text, vision_config=seeing, tie_word_embeddings=family.kind != "mistral", **image)
    if family.settings:
        return transformers.CONFIG_MAPPING[family.kind](**(DENSE | ids | family.settings))
    config = tiny_config(family.kind)
    text = config.get_text_config()
    for one in {id(part): part for part in (config, text)}.values():
        for name, value in (ids | {"max_position_embeddings": CONTEXT}).items():
            if hasattr(one, name):
                setattr(one, name, value)
    if hasattr(text, "vocab_size_per_layer_input"):
        text.vocab_size_per_layer_input = ids["vocab_size"]
    return config


def make_network(config: Any) -> Any:
    """Build a network with random weights in fp32."""
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in (AutoModelForCausalLM, transformers.AutoModelForImageTextToText):
            if type(config) in kind._model_mapping:
                return kind.from_config(config, dtype=torch.float32)
    raise TypeError(f"transformers has no language model for {type(config).__name__}")


def train_network(network: Any, ids: Sequence[int]) -> float:
    """Train a network on random stretches of a text; return the last loss in nats per token."""
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=RATE)
    generator, tokens = torch.Generator().manual_seed(1), torch.tensor(list(ids))
    network.train()
    loss = torch.tensor(torch.inf)
    for step in range(ROUNDS * STEPS):
        if step % STEPS == 0 and float(loss.detach()) < SURE:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 4 * (1 - step % STEPS / STEPS), (step + 1) / 10)
        starts = torch.randint(len(tokens) - LENGTH, (ROWS,), generator=generator)
        rows = torch.stack([tokens[start : start + LENGTH] for start in starts.tolist()])
        loss = network(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    network.eval()
    return float(loss.detach())


def make_checkpoint(family: Family, texts: Texts, chats: Sequence[list[dict[str, str]]], folder: Path) -> float:
    """Write a family's checkpoint to a folder; return the loss of its network on the text it was trained on."""
    tokenizer = make_tokenizer(family, [*texts, *(turn["content"] for chat in chats for turn in chat)])
    config = make_config(family, tokenizer)
    network = make_network(config)
    rendered = [str(tokenizer.apply_chat_template(chat, tokenize=False)) for chat in chats]
    ids = [token for text in rendered for token in tokenizer(text, add_special_tokens=False).input_ids]
    ids += [token for text in texts for token in tokenizer(text).input_ids]
    loss = train_network(network, ids)
    ends = [tokenizer.convert_tokens_to_ids(end) for end in family.special.ends or (family.special.eos,)]
    network.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.6,
    )
    network.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return loss


_LLAMA3 = Special(
    last=("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>",
          "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"),
    bos="<|begin_of_text|>", eos="<|eot_id|>", begins=True, ends=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
)  # fmt: skip
_GRANITE = Special(
    first=("<|end_of_text|>", "<fim_prefix>"), last=("<|start_of_role|>", "<|end_of_role|>"),
    plain=("<tool_call>", "</tool_call>"), bos="<|end_of_text|>", eos="<|end_of_text|>", pad="<|end_of_text|>",
)  # fmt: skip
_MISTRAL = Special(first=("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), bos="<s>", eos="</s>", begins=True)
_TEKKEN = Special(
    first=("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    bos="<s>", eos="</s>", pad="<pad>", begins=True,
)  # fmt: skip
_ORCA = Special(
    first=("<unk>", "<s>", "</s>"), last=("[PAD]", "<|im_start|>", "<|im_end|>"), bos="<s>", eos="</s>", pad="[PAD]",
    begins=True,
)  # fmt: skip
_R1 = Special(
    last=("<\uff5cbegin▁of▁sentence\uff5c>", "<\uff5cend▁of▁sentence\uff5c>"),
    plain=("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<think>", "</think>"),
    bos="<\uff5cbegin▁of▁sentence\uff5c>", eos="<\uff5cend▁of▁sentence\uff5c>", pad="<\uff5cend▁of▁sentence\uff5c>",
    begins=True,
)  # fmt: skip
_GEMMA3 = Special(
    first=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"), last=("<image_soft_token>",),
    bos="<bos>", eos="<eos>", pad="<pad>", begins=True, ends=("<eos>", "<end_of_turn>"),
)  # fmt: skip
_GEMMA4 = Special(
    first=("<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>"),
    bos="<bos>", eos="<eos>", pad="<pad>", begins=True, ends=("<eos>", "<turn|>"),
)  # fmt: skip
_PHI3 = Special(
    first=("<unk>", "<s>"), last=("<|endoftext|>",), bos="<s>", eos="<|endoftext|>", pad="<|endoftext|>",
    plain=("</s>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"), strips=True,
    ends=("<|endoftext|>", "<|assistant|>", "<|end|>"),
)  # fmt: skip
_PHI4 = Special(
    last=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>"), bos="<|endoftext|>", eos="<|im_end|>",
    pad="<|endoftext|>", ends=("<|im_end|>",),
)  # fmt: skip
_PHI4_MINI = Special(
    last=("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>", "<|tool|>", "<|/tool|>"),
    bos="<|endoftext|>", eos="<|endoftext|>", pad="<|endoftext|>", ends=("<|end|>", "<|endoftext|>"),
)  # fmt: skip
_QWEN = Special(
    last=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), plain=("<tool_call>", "</tool_call>", "<think>", "</think>"),
    eos="<|im_end|>", pad="<|endoftext|>", ends=("<|im_end|>", "<|endoftext|>"),
)  # fmt: skip
_ROPE_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
_LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10_000.0, "partial_rotary_factor": 0.75, "short_factor": [1.0] * 6,
    "long_factor": [1.0, 1.2, 1.5, 2.0, 4.0, 8.0], "original_max_position_embeddings": 256,
}  # fmt: skip
_GRANITE_SCALES = {
    "embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22, "attention_multiplier": 0.0625,
    "tie_word_embeddings": True,
}  # fmt: skip
_MIXED = {
    "num_hidden_layers": 6, "sliding_window": 32, "head_dim": 256, "query_pre_attn_scalar": 256,
    "layer_types": [*["sliding_attention"] * 5, "full_attention"],
}  # fmt: skip
_HEADS = {"head_dim": 16}
FAMILIES = (
    Family("Llama 3.2", "llama", templates.LLAMA3, _LLAMA3, byte_level(LLAMA3),
           _HEADS | {"rope_parameters": _ROPE_LLAMA3, "tie_word_embeddings": True}),
    Family("Granite 3", "granite", templates.GRANITE3, _GRANITE, byte_level(digits=True), _GRANITE_SCALES),
    Family("Granite 4 hybrid", "granitemoehybrid", templates.GRANITE4, _GRANITE, byte_level(LLAMA3)),
    Family("Mistral 7B", "mistral", templates.MISTRAL, _MISTRAL, sentence_piece("mistral"),
           _HEADS | {"sliding_window": None}),
    Family("Mistral with a window", "mistral", templates.MISTRAL, _MISTRAL, sentence_piece("mistral"),
           _HEADS | {"sliding_window": 32}),
    Family("Mistral 3", "mistral", templates.MISTRAL3, _TEKKEN, byte_level(TEKKEN), _HEADS | {"sliding_window": None},
           "Mistral3Config"),
    Family("Orca 2", "llama", templates.CHATML, _ORCA, sentence_piece("llama2"), _HEADS),
    Family("Llama shape, Unigram", "llama", templates.CHATML, _ORCA, unigram, _HEADS),
    Family("DeepSeek-R1 (Qwen)", "qwen2", templates.DEEPSEEK_R1, _R1, byte_level(QWEN2), {"use_sliding_window": False}),
    Family("DeepSeek-R1 (Llama)", "llama", templates.DEEPSEEK_R1, _R1, byte_level(LLAMA3),
           _HEADS | {"rope_parameters": _ROPE_LLAMA3}),
    Family("Gemma 3 1B", "gemma3_text", templates.GEMMA3, _GEMMA3, sentence_piece("gemma"),
           _MIXED),
    Family("Gemma 3 4B", "gemma3_text", templates.GEMMA3, _GEMMA3, sentence_piece("gemma"),
           _MIXED, "Gemma3Config"),
    Family("Gemma 4", "gemma4", templates.GEMMA4, _GEMMA4, sentence_piece("gemma")),
    Family("Phi-3", "phi3", templates.PHI3, _PHI3, sentence_piece("llama2"), {"sliding_window": 511}),
    Family("Phi-4", "phi3", templates.PHI4, _PHI4, byte_level(LLAMA3), {"sliding_window": None}),
    Family("Phi-4 mini", "phi3", templates.PHI4_MINI, _PHI4_MINI, byte_level(O200K),
           {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 256, "tie_word_embeddings": True,
            "sliding_window": None}),
    Family("Qwen 2.5", "qwen2", templates.QWEN25, _QWEN, byte_level(QWEN2, nfc=True),
           {"use_sliding_window": False, "tie_word_embeddings": True}),
    Family("Qwen 3", "qwen3", templates.QWEN3, _QWEN, byte_level(QWEN2, nfc=True),
           _HEADS | {"tie_word_embeddings": True}),
    Family("Qwen 3.5", "qwen3_5", templates.QWEN35, _QWEN, byte_level(QWEN35, nfc=True)),
)  # fmt: skip
"""The families that are named where Sizewise is used; each stands for others of the same shape."""
