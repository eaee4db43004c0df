"""Files of drafts and teacher answers can be read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.training import distillation
from tests.cases.conftest import Command
from tests.cases.speaker import Speaker

pytest.importorskip("pydantic_ai")

SPLIT = "the oars are counted,\u2028and the name of the guest is on the board beside the jetty"


# OpenViking#3984, jsonlines#53, hegel-core PR#25, birdclaw#61
def test_drafts_that_hold_a_line_separator_can_be_read_again(
    tmp_path: Path, command: Command, speaker: Speaker
) -> None:
    folder = tmp_path / "club"
    folder.mkdir()
    for i in range(5):
        text = f"A guest of the rowing club may take a skiff of class {i} for {i + 1} hours if {SPLIT}."
        (folder / f"skiff{i}.txt").write_text(f"Skiffs of class {i}.\n\n{text}\n", encoding="utf-8")
    question = "When may a guest of the rowing club take a skiff?"
    speaker.say = lambda asked: json.dumps({"question": question, "answer": SPLIT})
    out = tmp_path / "drafts.jsonl"
    first = command("synthesize", folder, "--by", speaker.uri, "--out", out)
    assert first.code == 0, first.whole
    assert "beside the jetty" in out.read_text(encoding="utf-8")
    again = command("synthesize", folder, "--by", speaker.uri, "--out", out)
    assert again.code == 0, again.whole
    read = command("read", folder, out)
    assert read.code == 0, read.whole


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\v", "\n"], ids=ascii)
def test_an_answer_of_a_teacher_that_holds_a_separator_is_not_asked_for_again(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "teacher.jsonl"
    said = {"a": f"Row slowly.{separator}Keep left.", "b": "Wear a vest."}
    path.write_text(
        "".join(json.dumps({"id": key, "text": text}, ensure_ascii=False) + "\n" for key, text in said.items()),
        encoding="utf-8",
    )
    assert distillation._saved_answers(path) == said
