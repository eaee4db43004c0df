from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch

from sizewise.dataset import load
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.evaluation.prompts import answer_limit, make_request, stop_texts
from sizewise.lm.folder import load_tokenizer
from sizewise.models.fake import FakeModel
from sizewise.records import Dataset, Evaluation, Example, ItemRow, Message, Recipe
from sizewise.store import Store, Stored
from sizewise.training import train


def rows_of(store: Store, stored: Stored[Evaluation]) -> list[ItemRow]:
    return store.read_rows(stored.path.parent, "items.jsonl", ItemRow)


def test_a_uniform_model_scores_eight_bits(dataset: Stored[Dataset], store: Store) -> None:
    scores = evaluate("fake:echo", dataset.id, store=store).record.scores
    assert scores["bits_per_byte"].value == pytest.approx(8)
    assert scores["perplexity"].value == pytest.approx(256)
    assert scores["latency_s"].missing


def test_all_bytes_and_tokens_are_counted(dataset: Stored[Dataset], store: Store, tiny_folder: Path) -> None:
    stored = evaluate(str(tiny_folder), dataset.id, ["bits_per_byte"], store=store)
    documents = load(store, dataset.id).documents["test"]
    sums = np.sum([row.stats["bits_per_byte"] for row in rows_of(store, stored)], axis=0)
    tokenizer = load_tokenizer(tiny_folder)
    assert sums[1] == sum(len(tokenizer(d.text, add_special_tokens=False).input_ids) for d in documents)
    assert sums[2] == sum(len(d.text.encode()) for d in documents)


def plain_bits_per_byte(folder: Path, texts: list[str]) -> float:
    """Independent code: transformers' own forward pass, document by document."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    nats = 0.0
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]
        # The same windows as a user would write them: 256 tokens, each half seen once as context.
        first = 1
        while first < len(ids):
            start = 0 if first == 1 else first - 128
            end = min(len(ids), start + 257)
            with torch.no_grad():
                logits = network(torch.tensor([ids[start : end - 1]])).logits[0].float()
            logp = torch.log_softmax(logits, -1)[torch.arange(end - start - 1), ids[start + 1 : end]]
            nats -= float(logp[first - start - 1 :].sum())
            first = end
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def test_scores_equal_independent_code(dataset: Stored[Dataset], store: Store, tiny_folder: Path) -> None:
    stored = evaluate(str(tiny_folder), dataset.id, ["bits_per_byte", "bleu"], store=store)
    contents = load(store, dataset.id)
    plain = plain_bits_per_byte(tiny_folder, [d.text for d in contents.documents["test"]])
    found = stored.record.scores["bits_per_byte@all"].value
    assert found == pytest.approx(plain, rel=1e-4)
    answers = [row for row in rows_of(store, stored) if row.kind == "example"]
    bleu = sacrebleu.corpus_bleu([row.completion or "" for row in answers], [[row.references[0] for row in answers]])
    assert stored.record.scores["bleu@all"].value == pytest.approx(bleu.score, abs=1e-4)


def test_the_prompt_is_chosen_on_validation_and_recorded(
    dataset: Stored[Dataset], store: Store, tiny_folder: Path
) -> None:
    prompting = evaluate(str(tiny_folder), dataset.id, ["chrf"], store=store).record.prompting
    assert prompting is not None
    assert set(prompting.tried) == {"chat", "few_shot"}
    assert prompting.tried[prompting.form] == max(prompting.tried.values())
    assert prompting.n > 0


def test_clean_items_make_the_headline(dataset: Stored[Dataset], store: Store) -> None:
    stored = evaluate("fake:copy", dataset.id, ["bleu", "bits_per_byte"], store=store)
    rows = rows_of(store, stored)
    scores = stored.record.scores
    assert scores["bleu"].n == sum(row.clean for row in rows) < scores["bleu@all"].n == len(rows)
    assert "no log-likelihoods" in str(scores["bits_per_byte"].missing)


def test_a_killed_evaluation_asks_nothing_twice(
    dataset: Stored[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    whole = FakeModel.complete

    def count(self: FakeModel, requests: Any) -> Any:
        for request in requests:
            if len(asked) == 3:
                raise KeyboardInterrupt
            asked.append(request.id)
            yield from whole(self, [request])

    monkeypatch.setattr(FakeModel, "complete", count)
    with pytest.raises(KeyboardInterrupt):
        evaluate("fake:echo", dataset.id, ["bleu"], store=store)
    monkeypatch.setattr(FakeModel, "complete", whole)
    resumed: list[str] = []

    def note(self: FakeModel, requests: Any) -> Any:
        resumed.extend(request.id for request in requests)
        return whole(self, requests)

    monkeypatch.setattr(FakeModel, "complete", note)
    stored = evaluate("fake:echo", dataset.id, ["bleu"], store=store)
    assert not set(asked) & set(resumed)
    assert stored.record.scores["bleu@all"].n == len(asked) + len(resumed)


def test_one_failing_item_is_a_row_and_not_a_crash(
    dataset: Stored[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sizewise.metrics import METRICS

    whole = METRICS["exact_match"].measure
    calls = iter(range(1000))

    def fail_once(item: Any) -> tuple[float, ...]:
        if next(calls) == 1:
            raise ValueError("planted")
        return whole(item)

    monkeypatch.setattr(METRICS["exact_match"], "measure", fail_once)
    stored = evaluate("fake:echo", dataset.id, ["exact_match"], store=store)
    assert stored.record.failed == 1
    assert stored.record.scores["exact_match@all"].n == stored.record.items - 1


def test_a_prompt_too_long_for_a_model_counts_as_an_empty_answer(
    tmp_path: Path, store: Store, tiny_folder: Path
) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"id": "long", "prompt": "word " * 900, "references": ["an answer"]}]
    rows += [{"id": f"{i}", "prompt": f"{i}?", "references": ["an answer"]} for i in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    record = evaluate(str(tiny_folder), path, ["exact_match"], store=store).record
    assert record.failed == 1
    assert record.scores["exact_match"].n == 4
    assert record.scores["latency_s"].n == 3


def test_a_limit_spreads_over_all_documents(dataset: Stored[Dataset], store: Store) -> None:
    documents = load(store, dataset.id).documents["test"]
    stored = evaluate("fake:echo", dataset.id, ["bits_per_byte"], store=store, limit=2 * len(documents))
    rows = rows_of(store, stored)
    assert {row.cluster for row in rows} == {document.id for document in documents}
    assert len(rows) == 2 * len(documents)


def test_text_that_a_model_was_trained_on_elsewhere_is_pointed_at(
    dataset: Stored[Dataset], store: Store, examples_file: Path
) -> None:
    recipe = Recipe(start="scratch", method="full", parameters=500_000, context=64, tokens=500)
    run = train(recipe, dataset.id, store=store)
    record = evaluate(f"run:{run.id}", examples_file, ["exact_match"], store=store).record
    assert any(dataset.id in note for note in record.notes)


def test_a_file_is_test_data(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"id": f"{i}", "prompt": f"{i}?", "references": [f"{i}?"]} for i in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    scores = evaluate("fake:echo", path, ["exact_match", "bits_per_byte"], store=store).record.scores
    assert scores["exact_match"].value == 1
    assert scores["bits_per_byte"].missing == "the dataset has no test documents"


def test_the_same_call_gives_the_same_record(dataset: Stored[Dataset], store: Store) -> None:
    one = evaluate("fake:echo", dataset.id, store=store)
    assert evaluate("fake:echo", dataset.id, store=store) == one
    assert evaluate("fake:echo", dataset.id, store=store, limit=3).id != one.id


def test_wrong_use_is_refused(dataset: Stored[Dataset], store: Store) -> None:
    with pytest.raises(UsageError):
        evaluate("fake:echo", dataset.id, ["bluu"], store=store)
    with pytest.raises(UsageError):
        evaluate("fake:echo", dataset.id, store=store, limit=0)
    with pytest.raises(SizewiseError, match="no dataset"):
        evaluate("fake:echo", "data-none", store=store)


def test_prompts_and_limits() -> None:
    message = Message(role="user", content="Why?")
    shot = Example(id="s", messages=(message,), references=("Because it is so.",), source="d")
    request = make_request(shot, "few_shot", (shot,), 16, ("\n",))
    assert request.text == "Question: Why?\nAnswer: Because it is so.\n\nQuestion: Why?\nAnswer:"
    assert make_request(shot, "chat", (shot,), 16, ("\n",)).text is None
    assert stop_texts([shot]) == ("\n",)
    assert stop_texts([shot.model_copy(update={"references": ("a\nb",)})])[0] == "\n\n"
    assert answer_limit([shot]) == 16
    assert answer_limit([]) == 256
