"""Tiny random sentence encoders with a word-level tokenizer, saved as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
_TOPICS = "my card pin chip stolen blocked loan rate interest mortgage repay transfer abroad iban pending fee"
WORDS = [*_SPECIAL, *_TOPICS.split(), *"and the please good bad day".split()]  # noqa: SIM905


def write_tokenizer(folder: Path, pad: int = 0) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = WORDS if pad == 0 else ["[CLS]", "[PAD]", *WORDS[2:]]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_encoder(folder: Path, family: str = "bert", seed: int = 0, **settings: Any) -> Path:
    """Write a random encoder of a family; return its folder."""
    import torch
    import transformers

    torch.manual_seed(seed)
    pad = 0 if family in ("bert", "distilbert") else 1
    common = {"vocab_size": len(WORDS), "max_position_embeddings": 24 + (pad + 1 if pad else 0), "pad_token_id": pad}
    if family == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
    else:
        sizes = {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        }  # fmt: skip
    if family == "mpnet":
        sizes["relative_attention_num_buckets"] = 32
    config = transformers.AutoConfig.for_model(family, **common, **sizes, **settings)
    network = transformers.AutoModel.from_config(config)
    with torch.no_grad():  # larger than a fresh network's, so that every weight matters
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    write_tokenizer(folder, pad)
    return folder


def add_pooling(folder: Path, pooling: str, max_tokens: int = 16, **more: Any) -> None:
    """Add the files of sentence-transformers."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{name}": name == pooling for name in ("cls_token", "mean_tokens", "max_tokens")}
    written = json.dumps({"word_embedding_dimension": 32, **modes})
    (folder / "1_Pooling" / "config.json").write_text(written, encoding="utf-8")
    sentence = json.dumps({"max_seq_length": max_tokens, **more})
    (folder / "sentence_bert_config.json").write_text(sentence, encoding="utf-8")
