"""What is paid, what may be paid, and how people write sums."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.store import Store
from sizewise.studies.savings import read_pays
from tests.cases.conftest import Command, write_rows
from tests.cases.speaker import Speaker

pytest.importorskip("pydantic_ai")

CHEAP, DEAR = "openai:gpt-4o-mini", "openai:gpt-4o"
PICTURE_TOKENS = 19_834
"""What OpenAI bills gpt-4o-mini for three tiles: 2,833 + 3 x 5,667."""
PICTURE_USD = PICTURE_TOKENS * 0.15e-6


# litellm#6215, #9049, #31714, #14849
def _usd_per_1000(speaker: Speaker, store: Store, path: Path, cached: int) -> float:
    speaker.usage = {
        "prompt_tokens": 2_000,
        "completion_tokens": 15,
        "total_tokens": 2_015,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    rows = [{"prompt": f"What is in crate {cached}-{i}?", "answer": f"Crate {i} holds seed."} for i in range(6)]
    record = evaluate(DEAR, write_rows(path / f"{cached}.jsonl", rows), ["exact_match"], store=store).record
    value = record.scores["usd_per_1000"].value
    assert value is not None
    return value


def test_tokens_from_the_cache_of_a_provider_cost_what_it_bills(tmp_path: Path, store: Store, speaker: Speaker) -> None:
    whole, cached = (_usd_per_1000(speaker, store, tmp_path, tokens) for tokens in (0, 1_800))
    assert whole == pytest.approx(1_000 * (2_000 * 2.5e-6 + 15 * 10e-6), rel=0.01)
    assert cached == pytest.approx(1_000 * (200 * 2.5e-6 + 1_800 * 1.25e-6 + 15 * 10e-6), rel=0.01)


# MetaGPT PR#1915, nav#468, litellm#3269, i-have-adhd PR#182, nika PR#544
def _picture(path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = (b"\0" + b"\xc8" * width) * height
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )


def _pictures(folder: Path) -> Path:
    _picture(folder / "strip.png", 1_500, 500)
    return write_rows(
        folder / "strips.jsonl",
        [
            {
                "id": f"q{i}",
                "messages": [{"role": "user", "content": f"What is on strip {i}?", "images": ["strip.png"]}],
                "references": [f"Strip {i} is grey."],
            }
            for i in range(24)
        ],
    )


def test_a_limit_of_money_holds_with_pictures(tmp_path: Path, command: Command, speaker: Speaker) -> None:
    speaker.usage = {"prompt_tokens": PICTURE_TOKENS, "completion_tokens": 8, "total_tokens": PICTURE_TOKENS + 8}
    limit = 0.008
    command("evaluate", CHEAP, "--data", _pictures(tmp_path), "--metrics", "exact_match", "--max-usd", str(limit))
    assert len(speaker.bodies) * PICTURE_USD <= limit + PICTURE_USD


def test_a_limit_that_is_large_enough_stops_no_picture(tmp_path: Path, command: Command, speaker: Speaker) -> None:
    speaker.usage = {"prompt_tokens": PICTURE_TOKENS, "completion_tokens": 8, "total_tokens": PICTURE_TOKENS + 8}
    said = command("evaluate", CHEAP, "--data", _pictures(tmp_path), "--metrics", "exact_match", "--max-usd", "5")
    assert said.code == 0, said.whole
    assert len(speaker.bodies) == 24


@pytest.mark.parametrize("suite", ["general-knowledge", "bias"])
def test_a_limit_of_money_holds_for_suites(suite: str, command: Command, speaker: Speaker) -> None:
    speaker.usage = {"prompt_tokens": 1_000, "completion_tokens": 20, "total_tokens": 1_020}
    each = 1_000 * 0.15e-6 + 20 * 0.6e-6
    command("evaluate", CHEAP, "--suite", suite, "--max-usd", str(10 * each))
    assert 1 <= len(speaker.bodies) <= 11


@pytest.mark.parametrize("sum_", ["nan", "-1"])
def test_a_limit_that_is_no_sum_is_refused_before_anything_is_paid(
    tmp_path: Path, command: Command, speaker: Speaker, sum_: str
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"prompt": f"Is it {i}?", "answer": f"It is {i}."} for i in range(4)])
    said = command("evaluate", CHEAP, "--data", data, "--metrics", "exact_match", "--max-usd", sum_)
    assert said.code == 2
    assert speaker.bodies == []


# career-ops#3238, price-parser#58, ledger PR#2743, parse-price.js#4
@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("3.600/month", 3_600),
        ("2.345,67/month", 2_345.67),
        ("3600,75/month", 3_600.75),
        ("3,6/month", 3.6),
        ("12.500/year", 12_500 / 12),
        ("1 200 000,50/month", 1_200_000.5),
        ("4\u2019200/month", 4_200),
        ("4\u00a0200/month", 4_200),
        ("\u20ac 4.200/month", 4_200),
        ("1.234.567/year", 1_234_567 / 12),
        ("1,234.567,89/month", None),
        ("4,20,000/month", 420_000),
        ("42,00/month", 42),
        ("1e400/month", None),
        ("nan/month", None),
        ("inf/month", None),
        ("-3600/month", None),
    ],
)
def test_a_sum_is_read_as_meant_or_refused(text: str, means: float | None) -> None:
    try:
        found = read_pays(text)
    except SizewiseError:
        return
    assert means is not None
    assert found == pytest.approx(means)


@pytest.mark.parametrize(
    ("text", "means"),
    [("3600/month", 3_600), ("3,600/month", 3_600), ("$3,600.25/month", 3_600.25), ("43200/year", 3_600)],
)
def test_a_sum_of_one_reading_is_taken(text: str, means: float) -> None:
    assert read_pays(text) == pytest.approx(means)
