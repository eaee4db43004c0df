"""Voice: answers attributed to the organization by style, with controls that can fail."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sizewise.choice import choose
from sizewise.comparison import compare
from sizewise.comparison.voice import Text, measure_voices
from sizewise.datasets import load, read
from sizewise.evaluation import evaluate
from sizewise.metrics.style_masking import mask_content
from sizewise.records import Needs
from sizewise.store import Store

TOPICS = ["invoice", "parcel", "contract", "password", "battery", "ticket", "window", "garden", "refund", "meeting"]
OURS = (
    "We are sorry to hear about your {0}; please be assured that we will look into the {0} at once.",
    "Thank you for writing to us. With regard to your {0}, we would ask you to send us the number of the {0}.",
    "Should your {0} not be in order, we shall of course replace the {0} without any charge to you.",
)
OTHERS = (
    "hey, so the {0} - just restart it! and if the {0} still isn't working, ping me :)",
    "ok!! your {0} looks fine to me, but you can always grab a new {0} if you want",
    "no worries, I've got your {0}... I'll check the {0} and I'm back in 5 min!",
)


def texts(styles: tuple[str, ...], count: int, seed: int = 0, topics: list[str] = TOPICS) -> list[Text]:
    rng = random.Random(seed)
    found = []
    for number in range(count):
        topic = topics[number % len(topics)]
        content = " ".join(style.format(topic) for style in rng.sample(styles, 2))
        found.append(Text(f"q{number}", f"d{number // 2}", f"What about my {topic}, case {number}?", content))
    return found


def test_masking_keeps_style_and_hides_the_topic() -> None:
    masked = "We aaaa aaaa your Aaaaaaa 000, AA\u2019a: don't aaaaa!"
    assert mask_content("We sent back your Invoice 123, EU\u2019s: don't worry!", "en").replace("s:", "a:") == masked
    assert mask_content("We sent it.", "xx") == "Aa aaaa aa."
    assert mask_content("\u6771\u4eac\u3001e\u0301te\u0301", "ja") == "**\u3001aaa"
    assert mask_content("Nicht die Rechnung", "de") == "Nicht die Aaaaaaaa"
    assert mask_content("", "en") == ""


def test_answers_in_our_style_are_attributed_to_us() -> None:
    answers = {"base": texts(OTHERS, 100, 1), "tuned": texts(OURS, 100, 2), "half": []}
    rest = texts(OTHERS, 100, 3)
    answers["half"] = [ours if number % 2 else rest[number] for number, ours in enumerate(texts(OURS, 100, 4))]
    found = measure_voices(texts(OURS, 100), answers, ["base"], 0)
    assert found.scores["tuned"].value == pytest.approx(1.0, abs=0.05)
    assert found.scores["base"].value == pytest.approx(0.0, abs=0.05)
    half = found.scores["half"]
    assert half.value == pytest.approx(0.5, abs=0.05)
    assert half.ci_low is not None
    assert half.ci_high is not None
    assert half.ci_low < 0.5 < half.ci_high
    assert "by the questions alone 50%" in found.notes[0]
    assert "of your own held-out texts are attributed to you" in found.notes[0]
    assert measure_voices(texts(OURS, 100), answers, ["base"], 0) == found


def test_no_figure_where_a_control_fails() -> None:
    alike = measure_voices(texts(OURS, 100), {"base": texts(OURS, 100, 1)}, ["base"], 0)
    assert alike.scores["base"].value is None
    assert "can't tell your texts" in (alike.scores["base"].missing_reason or "")
    # the other author answered questions on other topics only
    other = [text for text in texts(OTHERS, 200, 1) if any(f" {topic}," in text.prompt for topic in TOPICS[:4])]
    topical = measure_voices(texts(OURS, 100, topics=TOPICS[4:]), {"base": other}, ["base"], 0)
    assert "differ in topic: the questions alone" in (topical.scores["base"].missing_reason or "")


def test_too_few_texts_and_no_other_author_are_told() -> None:
    few = measure_voices(texts(OURS, 30), {"base": texts(OTHERS, 100)}, ["base"], 0)
    assert (few.scores["base"].missing_reason or "").startswith("30 of your texts from 15 documents")
    none = measure_voices(texts(OURS, 100), {"tuned": texts(OURS, 100)}, [], 0)
    assert "no other authors" in (none.scores["tuned"].missing_reason or "")


def test_a_comparison_tests_the_voice_and_a_choice_can_go_by_it(store: Store, tmp_path: Path) -> None:
    ours = texts(OURS, 60)
    rows = [{"id": t.item, "prompt": t.prompt, "references": [t.content], "source": t.document} for t in ours]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = read([tmp_path / "rows.jsonl"], store=store, name="voice", all_test=True)
    items = {example.prompt: example.id for example in load(store, data.id).examples["test"]}
    ids = {}
    ids["copy"] = evaluate("fake:copy", data.id, ["voice", "chrf"], store=store).id
    for name, said in {"base": texts(OTHERS, 60, 1), "like us": texts(OURS, 60, 2)}.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text(
            "\n".join(json.dumps({"id": items[t.prompt], "completion": t.content}) for t in said), encoding="utf-8"
        )
        ids[name] = evaluate(f"recorded:{path}", data.id, ["voice", "chrf"], store=store).id
    compared = compare(ids, store=store)
    voice = compared.record.scores["voice"]
    assert voice["like us"].value == pytest.approx(1.0, abs=0.05)  # told from base
    assert "can't tell your texts against those of like us" in (voice["base"].missing_reason or "")
    assert "a rule repeats your texts" in (voice["copy"].missing_reason or "")
    assert not [one for one in compared.record.differences if one.metric == "voice"]
    chosen = choose(compared.id, Needs(), store=store).record
    assert chosen.quality == "voice"
