"""Real weights, fetched with pip: conversion, and scores against independent code in fp32."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch

from sizewise.datasets import load, read
from sizewise.evaluation import evaluate
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.lm.score import score_texts
from sizewise.models.packaged_models import packaged_folder
from sizewise.records import ItemRow, Message, Request
from sizewise.store import Store

DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
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


def test_the_larger_packaged_model_stays_quantized_and_answers(shared: Store) -> None:
    """1.1 GB are fetched, and 1.3 GB are kept."""
    from sizewise.models import open_model

    told: list[str] = []
    model = open_model("pkg:qwen2.5-coder-1.5b", store=shared, say=told.append)
    try:
        found = model.describe()
        assert "state no license" in told[0]
        assert (found.parameters, found.can_chat, found.precision.split(",")[0]) == (1_543_714_304, True, "q4 weights")
        assert found.memory_bytes is not None
        assert found.memory_bytes < 2e9
        question = Message(role="user", content="What is the capital of France? Answer in one word.")
        (answer,) = model.complete([Request(id="1", messages=(question,), max_tokens=8)])
        assert answer.text.strip(". ") == "Paris"
    finally:
        model.close()


@pytest.mark.parametrize(("name", "tokens"), [("minilm", 256), ("multilingual-e5-small", 512)])
def test_packaged_encoder_computes_the_vectors_of_transformers(shared: Store, name: str, tokens: int) -> None:
    from transformers import AutoModel

    from sizewise.models import open_model
    from sizewise.records import Request
    from sizewise.retrieval import ENCODERS, open_encoder

    encoder = open_encoder(f"pkg:{name}", store=shared)
    assert (encoder.parameters, encoder.width, encoder.max_tokens) == (ENCODERS[name].parameters, 384, tokens)
    texts = ["How do I locate my card?", "", "\u4f60\u597d \U0001f600", "a long text " * 300]
    network = AutoModel.from_pretrained(encoder.folder, dtype=torch.float32).eval()
    for ids, vector in zip(encoder.token_ids(texts), encoder.encode(texts), strict=True):
        with torch.inference_mode():
            pooled = network(torch.tensor([ids])).last_hidden_state[0].mean(0)
        assert float((pooled / pooled.norm() - torch.from_numpy(vector)).abs().max()) < 1e-5
    model = open_model(f"pkg:{name}", store=shared)
    (vector,), read = model.embed([Request(id="", text=texts[0], max_tokens=0)])  # type: ignore[attr-defined]
    assert (len(vector), read) == (384, encoder.count_tokens(texts[:1])[0])


@pytest.mark.data
def test_banking77_with_a_frozen_encoder_reaches_93_percent(shared: Store) -> None:
    from sizewise.decisions.scorers import Material, Settings, fit_scorer
    from sizewise.records import Option, Question
    from sizewise.retrieval import encoder_folder

    def rows(name: str) -> tuple[list[str], list[str]]:
        with (DATA / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            found = list(csv.reader(file))[1:]
        return [row[0] for row in found], [row[1] for row in found]

    if not (DATA / "banking77").is_dir():
        pytest.skip("SIZEWISE_TEST_DATA has no banking77")
    (texts, labels), (held, correct) = rows("train"), rows("test")
    options = sorted(set(labels))
    targets = np.eye(len(options))[[options.index(label) for label in labels]]
    order = np.random.default_rng(0).permutation(len(texts))
    train, validation = (
        Material([texts[i] for i in part], targets[part], [str(i) for i in part])
        for part in (order[1_000:], order[:1_000])
    )
    asked = Question(type="choice", options=tuple(Option(value=value) for value in options))
    settings = Settings(asked, encoder_folder("pkg:minilm", shared), minutes=30)
    found = fit_scorer("embedding", train, validation, settings).probabilities(held).argmax(axis=1)
    assert np.mean([options[i] == label for i, label in zip(found, correct, strict=True)]) >= 0.93
