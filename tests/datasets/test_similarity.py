from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from sizewise.datasets.listing import PROMPT_SIMILARITY
from sizewise.datasets.similarity import Signatures, document_shingles, prompt_shingles, without_giants
from sizewise.datasets.spool import Spool, repeated, shared
from sizewise.text.ngrams import hash_words


def sentence(rng: random.Random, words: int) -> list[str]:
    return ["".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(3)) for _ in range(words)]


def test_versions_of_a_document_are_one_cluster(tmp_path: Path) -> None:
    rng = random.Random(1)
    first = [sentence(rng, 300) for _ in range(40)]
    versions = [[*text[:140], *sentence(rng, 20), *text[160:]] for text in first]
    signatures = Signatures(tmp_path / "s")
    for text in [*first, *versions]:
        signatures.add(document_shingles(hash_words(" ".join(text))))
    assert signatures.clusters().tolist() == [*range(40), *range(40)]


def test_similar_prompts_are_one_cluster_and_other_ones_are_not(tmp_path: Path) -> None:
    prompts = [
        "How can I reset the password of my account?",
        "How can I reset the password of my account, please?",
        "How can I close my account?",
        "Wie kann ich mein Passwort zurücksetzen?",
        "我怎样才能重置我的账户密码?",
        "我怎样才能重置我的账户密码呢?",
    ]
    signatures = Signatures(tmp_path / "s")
    for prompt in prompts:
        signatures.add(prompt_shingles(hash_words(prompt)))
    assert signatures.clusters(0.7).tolist() == [0, 0, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("first", "edited", "other"),
    [
        (
            "注文した商品がまだ届いていません。いつ届きますか?",
            "注文した商品がまだ届いていません。いつごろ届きますか?",
            "注文をキャンセルしたいです。いつまでできますか?",
        ),
        (
            "我的银行卡昨天在地铁站被偷了,现在应该怎么办?",
            "我的银行卡昨天在地铁站被偷了,那应该怎么办?",
            "我的信用卡额度应该怎么提高?",
        ),
        (
            "สั่งสินค้าไปแล้วแต่ยังไม่ได้รับของ ทำอย่างไรดี",
            "สั่งสินค้าไปแล้วแต่ยังไม่ได้ของ ต้องทำอย่างไรดี",
            "ยกเลิกคำสั่งซื้อได้อย่างไร ขอบคุณครับ",
        ),
        (
            "주문한 상품이 아직 도착하지 않았습니다. 언제 오나요?",
            "주문한 상품이 아직도 도착하지 않았습니다. 언제 오나요?",
            "주문을 취소하고 싶습니다. 어떻게 하나요?",
        ),
    ],
)
def test_edited_prompts_in_scripts_with_short_words_are_one_cluster(
    first: str, edited: str, other: str, tmp_path: Path
) -> None:
    signatures = Signatures(tmp_path / "s")
    for prompt in (first, edited, other):
        signatures.add(prompt_shingles(hash_words(prompt)))
    assert signatures.clusters(PROMPT_SIMILARITY).tolist() == [0, 0, 2]


def test_items_without_text_are_like_no_other(tmp_path: Path) -> None:
    signatures = Signatures(tmp_path / "s")
    for text in ("", "", "a b c d e f g", ""):
        signatures.add(document_shingles(hash_words(text)))
    assert signatures.clusters().tolist() == [0, 1, 2, 3]


def test_a_cluster_of_too_many_is_dissolved() -> None:
    assert without_giants([0, 0, 0, 3, 3, 5], 2).tolist() == [0, 1, 2, 3, 3, 5]


def test_estimates_agree_with_datasketch() -> None:
    datasketch = pytest.importorskip("datasketch")
    rng = random.Random(2)
    one = sentence(rng, 400)
    other = [*one[:280], *sentence(rng, 120)]
    sets = [document_shingles(hash_words(" ".join(text))) for text in (one, other)]
    exact = len(np.intersect1d(*sets)) / len(np.union1d(*sets))
    sketches = [datasketch.MinHash(128, hashfunc=lambda value: value % 2**32) for _ in sets]
    for sketch, values in zip(sketches, sets, strict=True):
        sketch.update_batch(values.tolist())
    assert abs(sketches[0].jaccard(sketches[1]) - exact) < 0.15


def test_a_spool_on_disk_joins_like_one_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    ones, others = (rng.integers(0, 5_000, 20_000).astype(np.uint64) << np.uint64(50) for _ in range(2))
    results = []
    for limit in (10**9, 1_000):
        monkeypatch.setattr("sizewise.datasets.spool.MAX_PENDING", limit)
        a, b = Spool(tmp_path, f"a{limit}", 1), Spool(tmp_path, f"b{limit}", 1)
        for start in range(0, 20_000, 700):
            a.add(ones[start : start + 700])
            b.add(others[start : start + 700])
        assert a.spilled is (limit == 1_000)
        results.append((shared(a, b).tolist(), repeated(a, 5).tolist()))
    assert results[0] == results[1]
    assert results[0][0] == np.intersect1d(ones, others).tolist()
