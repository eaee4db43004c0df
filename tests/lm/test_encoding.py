"""Encoding many texts: the same tokens as one by one, whatever their length, and whole after a kill."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken

from sizewise.lm import encoding
from sizewise.lm.encoding import EncodedItems, Item, ItemFile, encode_texts, tokenizer_settings
from sizewise.lm.tokenizer import END_OF_TEXT, render_chat, text_ids, train_tokenizer
from sizewise.records import Message
from tests.lm.test_control_tokens import sentencepiece

SAMPLES = {
    "German": "Die Rechnung ist binnen 30 Tagen fällig; Straße, Übergröße. ",
    "Chinese": "该发票应在三十天内支付。请联系客服。",
    "Japanese": "請求書は三十日以内にお支払いください。",
    "Arabic": "يجب دفع الفاتورة خلال ثلاثين يومًا. ",
    "Hindi": "चालान का भुगतान तीस दिनों के भीतर किया जाना चाहिए। ",
    "Thai": "ต้องชำระใบแจ้งหนี้ภายในสามสิบวัน",
    "emoji": "👩‍👩‍👧‍👦 🇩🇪 fine 👍🏽 ",
    "blanks": "a  \n\n\t  b \u00a0 c\r\n",
    "control tokens": f"the {END_OF_TEXT} and <|im_end|>\n<|im_start|>system ",
}
TOKENIZER: Any = train_tokenizer([text * 3 for text in SAMPLES.values()], 600, 128)


def shuffled_text(kind: str, length: int) -> str:
    rng = random.Random(kind)
    pieces = SAMPLES[kind].split(" ")
    text = ""
    while len(text) < length:
        text += rng.choice(pieces) + rng.choice([" ", " ", "", "\n\n"])
    return text[:length]


@pytest.mark.parametrize("kind", SAMPLES)
def test_texts_have_the_tokens_that_they_have_alone(kind: str) -> None:
    texts = [shuffled_text(kind, length) for length in (0, 1, 30, 700, 3)]
    found = [ids.tolist() for ids in encode_texts(TOKENIZER, texts)]
    assert found == [text_ids(TOKENIZER, text) for text in texts]


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_long_text_has_the_same_tokens_in_windows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shuffled_text(kind, 6_000)
    monkeypatch.setattr(encoding, "WINDOW", 700)
    monkeypatch.setattr(encoding, "OVERLAP", 200)
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 1_500)
    (ids,) = encode_texts(TOKENIZER, [text])
    assert TOKENIZER.decode(ids.tolist(), clean_up_tokenization_spaces=False) == text
    if kind != "control tokens":  # windows may cut one, and its halves are other text
        assert ids.tolist() == text_ids(TOKENIZER, text)
    control = {TOKENIZER.convert_tokens_to_ids(mark) for mark in (END_OF_TEXT, "<|im_end|>", "<|im_start|>")}
    assert not control & set(ids.tolist())


def test_a_text_without_boundaries_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "WINDOW", 500)
    monkeypatch.setattr(encoding, "OVERLAP", 40)
    for text in ("a" * 5_000, "ab" * 1_234, "该" * 3_000):
        (ids,) = encode_texts(TOKENIZER, [text])
        assert TOKENIZER.decode(ids.tolist(), clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_windows_add_no_blanks_where_a_tokenizer_marks_the_first_word(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = sentencepiece(kind)
    rng = random.Random(0)
    text = " ".join(rng.choice(["the", "quick", "fox", "is", "here", "says", "no"]) for _ in range(800))
    monkeypatch.setattr(encoding, "WINDOW", 400)
    monkeypatch.setattr(encoding, "OVERLAP", 100)
    (ids,) = encode_texts(tokenizer, [text])
    assert ids.tolist() == text_ids(tokenizer, text)


def test_renderings_keep_the_control_tokens_of_the_template() -> None:
    rendered = render_chat(TOKENIZER, (Message(role="user", content="say <|im_end|> aloud"),))
    (ids,) = encode_texts(TOKENIZER, [rendered])
    assert ids.tolist() == text_ids(TOKENIZER, rendered)
    assert ids.tolist().count(TOKENIZER.convert_tokens_to_ids("<|im_end|>")) == 1


def items(count: int) -> list[list[Item]]:
    """Make rows of up to two items, some with a mask."""
    rng = random.Random(1)

    def item(first: int) -> Item:
        ids = np.array([rng.randrange(600) for _ in range(rng.randrange(6))], np.int32)
        mask = np.array([rng.randrange(2) for _ in ids], np.uint8)
        return Item(ids, first, mask if rng.random() < 0.5 else None)

    return [[item(i % 3) for _ in range(1 + i % 2)] for i in range(count)]


@pytest.mark.parametrize("vocabulary", [600, 100_000])
def test_a_killed_encoding_goes_on_where_it_was(
    tmp_path: Path, vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "COMMIT_TOKENS", 50)
    wanted = items(50)
    file = ItemFile(tmp_path, "prose", vocabulary, masked=True)
    writing = file.write(iter(wanted))
    for _ in range(30):
        next(writing)
    writing.close()  # the process ends: what was written after the last commit doesn't count
    again = ItemFile(tmp_path, "prose", vocabulary, masked=True)
    assert 0 < again.count < 30
    assert not again.done
    assert list(again.write(iter(wanted[again.count :])))[-1] == 50
    found = ItemFile(tmp_path, "prose", vocabulary, masked=True)
    assert found.done
    whole, expected = found.read(), EncodedItems.of(wanted)
    assert whole.tokens.tolist() == expected.tokens.tolist()
    assert whole.ends.tolist() == expected.ends.tolist()
    assert whole.firsts.tolist() == expected.firsts.tolist()
    assert whole.rows.tolist() == expected.rows.tolist()
    assert whole.learned is not None
    assert expected.learned is not None
    assert whole.learned.tolist() == expected.learned.tolist()
    assert whole.tokens.dtype.itemsize == (2 if vocabulary == 600 else 4)
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


def test_a_file_that_lost_its_end_is_made_again(tmp_path: Path) -> None:
    file = ItemFile(tmp_path, "prose", 600)
    list(file.write(iter(items(20))))
    (tmp_path / "prose.tokens").write_bytes(b"\0\0")
    assert not ItemFile(tmp_path, "prose", 600).done
    (tmp_path / "prose.json").write_text("{", encoding="utf-8")
    assert ItemFile(tmp_path, "prose", 600).count == 0


def test_settings_change_with_everything_that_changes_tokens() -> None:
    tokenizer: Any = train_tokenizer(["abc"], 300, 64)
    before = tokenizer_settings(tokenizer)
    assert tokenizer_settings(train_tokenizer(["abc"], 300, 64)) == before
    tokenizer("abc", truncation=True, max_length=2)
    assert tokenizer_settings(tokenizer) == before  # how it is called changes nothing
    template = tokenizer.chat_template
    tokenizer.chat_template = template + " "
    assert tokenizer_settings(tokenizer) != before
    tokenizer.chat_template = template
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False)])
    assert tokenizer_settings(tokenizer) != before
