"""Detectors beside the patterns: names, and those of other packages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("presidio_analyzer")
pytest.importorskip("tokenizers")

import tokenizers

from sizewise.errors import SizewiseError, UsageError
from sizewise.guard import Mask, NameDetector, Unmask, find_personal
from sizewise.service import detecting
from sizewise.store import Store

WORDS = {"[UNK]": 0, "Anna": 1, "Novak": 2, "maybe": 3, "Perhaps": 4}
PROBABILITY = {0: 0.01, 1: 0.9, 2: 0.8, 3: 0.4, 4: 0.4}


class Session:
    """Gives each known word its probability of being a name."""

    longest = 0

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="input_ids"), SimpleNamespace(name="attention_mask")]

    def run(self, _: None, inputs: dict[str, Any]) -> list[Any]:
        assert set(inputs) == {"input_ids", "attention_mask"}
        self.longest = max(self.longest, inputs["input_ids"].shape[1])
        name = np.asarray([[PROBABILITY[one] for one in row] for row in inputs["input_ids"].tolist()])
        return [np.log(np.stack([1 - name, name], -1))]


@pytest.fixture
def detector(tmp_path: Path) -> NameDetector:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "O", "1": "B-GIVEN_NAME"}}), encoding="utf-8")
    made = NameDetector(tmp_path)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.__dict__["_parts"] = tokenizer, Session()
    return made


def names(detector: NameDetector, text: str) -> list[str]:
    return [text[start:end] for start, end, _ in detector.find(text)]


def test_names_are_joined_and_small_letters_need_more_confidence(detector: NameDetector) -> None:
    assert names(detector, "Ask Anna Novak, or Anna-Novak.") == ["Anna Novak", "Anna-Novak"]
    assert names(detector, "maybe Perhaps") == ["Perhaps"]
    assert names(detector, "12 , .") == []


def test_names_of_long_texts_are_found_wherever_windows_end(detector: NameDetector) -> None:
    for shift in range(0, 60, 7):
        text = "x" * shift + " ".join([" some words of no one", "Anna Novak"] * 80)
        found = find_personal(text, [detector])
        assert [text[one.start : one.end] for one in found] == ["Anna Novak"] * 80
    detector.find("a")
    assert names(detector, "Anna" + " ," * 600) == ["Anna"]  # more tokens than a window may have
    assert detector._parts[1].longest <= 512


def test_long_texts_are_rejected_not_passed_unchecked(detector: NameDetector) -> None:
    with pytest.raises(SizewiseError, match="too many to look for names"):
        list(detector.find("a" * 50_001))


def test_names_are_masked_and_restored_and_patterns_go_first(detector: NameDetector) -> None:
    text = "Anna Novak wrote from Anna@example.org on 3 March 1984."
    mask = Mask([text], [detector])
    hidden = mask.hide(text)
    assert "Anna" not in hidden
    assert mask.counts == {"name": 1, "email": 1, "date": 1}
    assert Unmask(mask.values).restore(hidden) == text


class Tickets:
    kinds = ("ticket",)

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        at = text.find("T-")
        if at >= 0:
            yield at, at + 5, "ticket"


def test_a_package_adds_a_detector(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="tickets", value="tickets:Tickets", dist=None, load=lambda: Tickets)
    broken = SimpleNamespace(name="broken", value="broken:Broken", dist=None, load=lambda: int)
    monkeypatch.setattr(
        detecting,
        "entry_points",
        lambda group, name=None: [one for one in (point, broken) if name in (None, one.name)],
    )
    assert detecting.detector_names() == ["names", "broken", "tickets"]
    (tickets,) = detecting.open_detectors(["tickets", "tickets"], store)
    assert "T-123" not in Mask(["See T-123."], [tickets]).hide("See T-123.")
    with pytest.raises(SizewiseError, match="failed to provide the detector 'broken'"):
        detecting.open_detectors(["broken"], store)
    with pytest.raises(UsageError, match="no detector 'nmes'"):
        detecting.open_detectors(["nmes"], store)
