"""Known families as tiny checkpoints: the page of what works, and their tokens in GGUF files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sizewise.exporting import llamacpp
from sizewise.lm import gguf_writing
from sizewise.lm.gguf import read_gguf
from sizewise.lm.template_dates import today
from sizewise.lm.tokenizer import render_chat, text_ids
from sizewise.records import Message

ROOT = Path(__file__).parents[2]
FOUND = json.loads((ROOT / "benchmarks" / "results" / "families.json").read_text(encoding="utf-8"))
ASKED = (Message(role="user", content="What does item 3 say?"),)
TEXT = "Item 3 names the plan, 42 times: naïve café.\n\n  indented"
WRITTEN = ("Llama 3.2", "Mistral 7B", "Mistral 3", "Orca 2", "DeepSeek-R1 (Qwen)", "Gemma 3 1B", "Phi-4", "Granite 3")


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.families")


def test_the_page_shows_the_last_run(families: Any) -> None:
    text = families.PAGE.read_text(encoding="utf-8")
    assert families.table(FOUND["rows"]) in text
    assert [row["family"] for row in FOUND["rows"]] == [family.name for family in families.FAMILIES]


def test_nothing_ends_in_a_traceback() -> None:
    for row in FOUND["rows"]:
        assert "fails" not in {row[verb]["verdict"] for verb in row if isinstance(row[verb], dict)}, row["family"]


def test_failures_are_told_from_refusals(families: Any) -> None:
    refusal = "error: It can't be done.\nexpected: another one\nnext: sizewise models\n"
    assert families.outcome(1, "", refusal)["verdict"] == "refused"
    assert families.outcome(1, "", "error: It can't be done.\n")["verdict"] == "fails"
    assert families.outcome(70, "", refusal)["verdict"] == "fails"
    assert families.outcome(0, "{}", "Traceback (most recent call last)")["verdict"] == "fails"


@pytest.mark.parametrize("name", WRITTEN)
def test_prompts_have_the_same_tokens_in_a_gguf_file(name: str, families: Any, tmp_path: Path) -> None:
    """With transformers, which reads the file here, and with llama.cpp, which reads it for everyone else."""
    networks = importlib.import_module("benchmarks.family_networks")
    family = next(family for family in families.FAMILIES if family.name == name)
    texts, chats = families.corpus()
    tokenizer = networks.make_tokenizer(family, [*texts, *(turn["content"] for chat in chats for turn in chat)])
    network = networks.make_network(networks.make_config(family, tokenizer).get_text_config()).eval()
    path = tmp_path / "model.gguf"
    gguf_writing.write_gguf(network, tokenizer, path, "f16", "model", "MIT")
    prompt, plain = text_ids(tokenizer, render_chat(tokenizer, ASKED, date=today())), text_ids(tokenizer, TEXT)
    if gguf_writing.has_reader(path):
        back, other = read_gguf(path)
        assert text_ids(other, render_chat(other, ASKED, date=today())) == prompt
        assert text_ids(other, TEXT)[-20:] == plain[-20:]
        with torch.no_grad():
            expected = network(torch.tensor([prompt])).logits
            torch.testing.assert_close(back(torch.tensor([prompt])).logits, expected, atol=5e-3, rtol=1e-2)
    if llamacpp.is_installed():
        engine = llamacpp.Engine(path, 512)
        try:
            assert engine.encode(ASKED) == prompt
            assert engine.encode(TEXT)[-20:] == plain[-20:]
        finally:
            engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("row", FOUND["rows"], ids=lambda row: row["family"])
def test_a_family_goes_through_every_command(row: dict[str, Any], families: Any, tmp_path: Path) -> None:
    family = next(family for family in families.FAMILIES if family.name == row["family"])
    found = families.check(family, tmp_path)
    assert {verb: found[verb]["verdict"] for verb in families.VERBS} == {
        verb: row[verb]["verdict"] for verb in families.VERBS
    }
