"""A random sentence encoder of a few thousand weights, in a folder as transformers writes it."""

from __future__ import annotations

from pathlib import Path

TOPICS = {
    "card": ["card", "pin", "chip", "plastic"],
    "transfer": ["transfer", "send", "iban", "wire"],
    "loan": ["loan", "credit", "borrow", "rate"],
}
COMMON = ["my", "the", "please", "help", "with", "is", "a", "problem", "today", "again"]
WIDTH = 16


def topic_texts(each: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Make texts whose topic one of their words tells."""
    import random

    rng = random.Random(seed)
    rows = [
        (" ".join([*rng.sample(COMMON, 4), rng.choice(words), rng.choice(COMMON)]), number)
        for number, words in enumerate(TOPICS.values())
        for _ in range(each)
    ]
    rng.shuffle(rows)
    return [text for text, _ in rows], [number for _, number in rows]


def make_encoder(folder: Path, seed: int = 3) -> Path:
    """Write a random BERT with two layers and a word tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [*COMMON, *(word for topic in TOPICS.values() for word in topic)]
    vocabulary = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    return folder
