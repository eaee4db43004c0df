from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch

from sizewise.datasets import build, load, read
from sizewise.documents import Reading
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions, evaluate, run
from sizewise.evaluation.asking import age_note, answer_notes
from sizewise.lm.hf_format import load_tokenizer
from sizewise.models import open_model
from sizewise.models.base import count_tokens, failed
from sizewise.models.fake import FakeModel
from sizewise.models.prompts import answer_limit, choose_shots, make_request, stop_texts
from sizewise.records import (
    Completion,
    Dataset,
    Document,
    Evaluation,
    Example,
    ItemRow,
    Message,
    ModelDescription,
    Recipe,
    Request,
)
from sizewise.store import Saved, Store
from sizewise.training import train


def rows_of(store: Store, stored: Saved[Evaluation]) -> list[ItemRow]:
    return store.read_rows(stored.path.parent, "items.jsonl", ItemRow)


def test_a_uniform_model_scores_eight_bits(dataset: Saved[Dataset], store: Store) -> None:
    scores = evaluate("fake:echo", dataset.id, store=store).record.scores
    assert scores["bits_per_byte"].value == pytest.approx(8)
    assert scores["perplexity"].value == pytest.approx(256)
    assert scores["latency_s"].missing_reason


def test_only_answers_of_another_day_may_be_of_another_model(dataset: Saved[Dataset], store: Store) -> None:
    found = evaluate("fake:echo", dataset.id, store=store)
    assert "different model" not in age_note(found)
    earlier = (datetime.now(UTC) - timedelta(days=3)).isoformat(timespec="seconds")
    old = Saved(found.id, found.path, found.record, earlier)
    assert f"measured on {earlier[:10]}" in age_note(old)
    assert "may be a different model by now" in age_note(old)


class OnlyPlain(FakeModel):
    """Rejects chat requests, and answers plain prompts incorrectly."""

    def describe(self) -> ModelDescription:
        return super().describe().model_copy(update={"engine": "test"})

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        plain = [request for request in requests if request.text is not None]
        yield from (failed(request, "no chat template") for request in requests if request.text is None)
        yield from super().complete(plain)


def test_a_prompt_form_without_answers_is_not_chosen(
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "open_model", lambda uri, **_: OnlyPlain("echo"))
    prompting = evaluate("fake:echo", dataset.id, ["exact_match"], store=store).record.prompting
    assert prompting is not None
    assert (prompting.form, prompting.tried) == ("few_shot", {"few_shot": 0.0})


def test_all_bytes_and_tokens_are_counted(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
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


def test_scores_equal_independent_code(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    stored = evaluate(str(tiny_folder), dataset.id, ["bits_per_byte", "bleu"], store=store)
    contents = load(store, dataset.id)
    plain = plain_bits_per_byte(tiny_folder, [d.text for d in contents.documents["test"]])
    found = stored.record.scores["bits_per_byte@all"].value
    assert found == pytest.approx(plain, rel=1e-4)
    answers = [row for row in rows_of(store, stored) if row.kind == "example"]
    bleu = sacrebleu.corpus_bleu([row.completion or "" for row in answers], [[row.references[0] for row in answers]])
    assert stored.record.scores["bleu@all"].value == pytest.approx(bleu.score, abs=1e-4)


def test_the_prompt_is_chosen_on_validation_and_recorded(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path
) -> None:
    prompting = evaluate(str(tiny_folder), dataset.id, ["chrf"], store=store).record.prompting
    assert prompting is not None
    assert set(prompting.tried) == {"chat", "few_shot"}
    assert prompting.tried[prompting.form] == max(prompting.tried.values())
    assert prompting.n > 0


def test_headline_scores_use_uncontaminated_items(dataset: Saved[Dataset], store: Store) -> None:
    stored = evaluate("fake:copy", dataset.id, ["bleu", "bits_per_byte"], store=store)
    rows = rows_of(store, stored)
    scores = stored.record.scores
    assert scores["bleu"].n == sum(row.uncontaminated for row in rows) < scores["bleu@all"].n == len(rows)
    assert "no log-likelihoods" in str(scores["bits_per_byte"].missing_reason)


def test_an_interrupted_evaluation_resumes_without_repeated_requests(
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
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
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
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


@pytest.fixture
def with_a_long_prompt(tmp_path: Path) -> Path:
    path = tmp_path / "x.jsonl"
    rows = [{"id": "long", "prompt": "word " * 900, "references": ["an answer"]}]
    rows += [{"id": f"{i}", "prompt": f"{i}?", "references": ["an answer"]} for i in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_prompt_too_long_for_the_model_is_reported_and_not_scored(
    with_a_long_prompt: Path, store: Store, tiny_folder: Path
) -> None:
    stored = evaluate(str(tiny_folder), with_a_long_prompt, ["exact_match"], store=store)
    record = stored.record
    assert (record.failed, record.unanswered, record.items) == (1, 0, 4)
    assert record.scores["exact_match"].n == 3
    assert record.scores["latency_s"].n == 3
    assert any("1 of 4 requests were refused or have no answer and aren't scored" in note for note in record.notes)
    (row,) = [row for row in rows_of(store, stored) if row.error]
    assert (row.completion, row.stats) == (None, {})


def test_failures_count_as_wrong_on_request(with_a_long_prompt: Path, store: Store, tiny_folder: Path) -> None:
    plain = evaluate(str(tiny_folder), with_a_long_prompt, ["exact_match"], store=store)
    options = EvaluationOptions(count_failures_as_wrong=True)
    strict = evaluate(str(tiny_folder), with_a_long_prompt, ["exact_match"], store=store, options=options)
    assert strict.id != plain.id
    assert strict.record.scores["exact_match"].n == 4
    assert any("count as wrong" in note for note in strict.record.notes)


def test_nothing_is_saved_if_all_requests_fail(tmp_path: Path, store: Store, tiny_folder: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"id": str(i), "prompt": f"word{i} " * 900, "references": ["an answer"]} for i in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"All 3 requests to .* failed: 3 x the prompt has"):
        evaluate(str(tiny_folder), path, ["exact_match"], store=store)
    assert not [row for row in store.listing() if row[1] == "evaluation"]


def test_a_limit_spreads_over_all_documents(dataset: Saved[Dataset], store: Store) -> None:
    documents = load(store, dataset.id).documents["test"]
    stored = evaluate("fake:echo", dataset.id, ["bits_per_byte"], store=store, limit=2 * len(documents))
    rows = rows_of(store, stored)
    assert {row.cluster for row in rows} == {document.id for document in documents}
    assert len(rows) == 2 * len(documents)


def test_training_on_another_dataset_is_noted(dataset: Saved[Dataset], store: Store, examples_file: Path) -> None:
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
    assert scores["bits_per_byte"].missing_reason == "the dataset has no test documents"


def test_the_same_call_gives_the_same_record(dataset: Saved[Dataset], store: Store) -> None:
    one = evaluate("fake:echo", dataset.id, store=store)
    assert evaluate("fake:echo", dataset.id, store=store) == one
    assert evaluate("fake:echo", dataset.id, store=store, limit=3).id != one.id


def test_invalid_arguments_raise(dataset: Saved[Dataset], store: Store) -> None:
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
    assert answer_limit([shot]) == 64
    assert answer_limit([]) == 256


LONG = {
    "json": json.dumps({f"line{i}": {"count": i, "price": 12.5 * i} for i in range(9)}, separators=(",", ":")),
    "chinese": "根据本馆规定阅览室每天上午九点开放。读者须凭借阅证入内。离馆前请归还所有未外借的图书。" * 4,
    "hindi": "पुस्तकालय प्रतिदिन सुबह नौ बजे खुलता है, पाठक अपना कार्ड दिखाते हैं। " * 4,
    "english": "Reading room one opens at nine, readers show their card at the desk. " * 4,
    "address": "https://example.org/" + "a1b2c3d4e5/" * 30,
}


@pytest.mark.parametrize("kind", LONG)
def test_the_token_limit_fits_the_longest_reference(kind: str, tiny_folder: Path) -> None:
    message = Message(role="user", content="Why?")
    examples = [Example(id="s", messages=(message,), references=("No.", LONG[kind]), source="d")]
    tokenizer = load_tokenizer(tiny_folder)
    model = open_model(str(tiny_folder))
    tokens = len(tokenizer(LONG[kind]).input_ids)
    assert count_tokens(model, [LONG[kind]]) == [tokens]
    assert answer_limit(examples, partial(count_tokens, model)) == math.ceil(1.5 * tokens) + 16
    model.close()
    assert answer_limit(examples) >= 0.7 * len(LONG[kind].encode())  # without a tokenizer: from bytes


def test_long_examples_are_not_used_as_shots_in_any_language(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"id": f"{i}", "prompt": f"{i}为什么?" + "规定" * 1_000, "references": [f"{i}"]} for i in range(40)]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    contents = load(store, read([path], store=store).id)
    assert contents.examples["train"]
    assert choose_shots(contents, 0) == ()


def test_cut_and_empty_answers_are_noted(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    options = EvaluationOptions(max_tokens=2)
    record = evaluate(str(tiny_folder), dataset.id, ["exact_match"], store=store, options=options).record
    assert record.prompting is not None
    assert record.prompting.max_tokens == 2
    n = record.items
    assert f"{n} of {n} answers were cut at max_tokens=2. Raise --max-tokens or unset it." in record.notes
    silent = evaluate("fake:silent", dataset.id, ["exact_match"], store=store).record
    assert f"All {silent.items} answers are empty." in silent.notes
    with pytest.raises(UsageError, match="max_tokens is 0"):
        evaluate("fake:echo", dataset.id, store=store, options=EvaluationOptions(max_tokens=0))


def test_answers_cut_at_the_context_have_their_own_note(tmp_path: Path, store: Store, tiny_folder: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": "word " * 30, "references": ["an answer"]}), encoding="utf-8")
    options = EvaluationOptions(max_tokens=100_000)
    record = evaluate(str(tiny_folder), path, ["exact_match"], store=store, options=options).record
    assert record.failed == 0
    assert any("were cut at the end of the model's context" in note for note in record.notes)


def test_reasoning_is_not_part_of_a_recorded_answer(tmp_path: Path, store: Store) -> None:
    data, said = tmp_path / "x.jsonl", tmp_path / "said.jsonl"
    rows = [{"id": f"q{i}", "prompt": f"Mail {i}", "references": ["refund"]} for i in range(6)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    answers = [{"id": f"q{i}", "completion": f"<think>Delivery {i}? No.</think>\n\nrefund"} for i in range(6)]
    said.write_text("\n".join(map(json.dumps, answers)), encoding="utf-8")
    record = evaluate(f"recorded:{said}", data, ["exact_match"], store=store).record
    assert record.scores["exact_match@all"].value == 1
    assert "6 of 6 answers came with reasoning, which isn't scored." in record.notes


def completion(text: str, finish: str, reasoning: str = "", tokens: int = 0) -> Completion:
    given = {"id": "a", "prompt_tokens": 1, "seconds": 0.0, "completion_tokens": tokens, "finish": finish}
    return Completion.model_validate(given | {"text": text, "reasoning": reasoning})


def test_every_cause_of_cut_answers_has_its_note(tmp_path: Path, tiny_folder: Path) -> None:
    said = tmp_path / "said.jsonl"
    said.write_text(json.dumps({"id": "a", "completion": "x"}), encoding="utf-8")
    recorded, local = (open_model(uri) for uri in (f"recorded:{said}", str(tiny_folder)))
    remote = local.describe().model_copy(update={"api": True})
    whole, cut = completion("a b", "stop"), completion("a", "length", tokens=5)
    assert answer_notes([whole], 9, local.describe()) == []
    assert answer_notes([whole, cut], 9, remote, "Raise it.") == ["1 of 2 answers were cut at max_tokens=9. Raise it."]
    assert answer_notes([whole, cut], 9, local.describe()) == [
        "1 of 2 answers were cut at the end of the model's context."
    ]
    assert "when they were recorded" in answer_notes([cut], 9, recorded.describe())[0]
    thinking = completion("", "length", reasoning="hm", tokens=5)
    assert "reasoning used up the token limit" in answer_notes([whole, thinking], 9, remote)[0]
    local.close()


def test_recorded_answers_have_no_token_counts_or_latency_unless_recorded(tmp_path: Path, store: Store) -> None:
    data, said = tmp_path / "x.jsonl", tmp_path / "said.jsonl"
    rows = [{"id": f"q{i}", "prompt": f"Gate of pier {i}?", "references": [f"Gate {i}."]} for i in range(6)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    plain = [{"id": f"q{i}", "completion": f"Gate {i}."} for i in range(3)]
    said.write_text("\n".join(map(json.dumps, plain)), encoding="utf-8")
    scores = evaluate(f"recorded:{said}", data, ["exact_match"], store=store).record.scores
    assert "completion_tokens" not in scores
    assert scores["latency_s"].missing_reason == "the answers were not timed"
    counted = {"choices": [{"message": {"role": "assistant", "content": "Gate 5."}}], "usage": {"completion_tokens": 9}}
    batch = [*plain, {"custom_id": "q5", "response": {"body": counted}}]
    said.write_text("\n".join(map(json.dumps, batch)), encoding="utf-8")
    found = evaluate(f"recorded:{said}", data, ["exact_match"], store=store).record.scores["completion_tokens"]
    assert (found.value, found.n) == (9, 1)


CALL = '{"name": "weather", "arguments": {"city": "%d"}}'
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def saved(store: Store, examples: Sequence[Example]) -> str:
    """Save a dataset of test examples as they are."""
    rows = [
        {"id": example.id, "messages": [message.model_dump() for message in example.messages]}
        | ({"references": example.references} if example.references else {})
        | ({"tools": json.loads(example.tools)} if example.tools else {})
        for example in examples
    ]
    path = store.home.parent / "made.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return read([path], store=store, all_test=True).id


def asked(number: int, *, answer: str | None = "yes", **more: Any) -> Example:
    return Example(
        id=f"e{number}",
        messages=(Message(role="user", content=f"yes, {number}"),),
        references=() if answer is None else (answer,),
        source=f"e{number}",
        **more,
    )


def test_examples_without_a_reference_are_answered_and_not_scored(store: Store) -> None:
    data = saved(store, [asked(i, answer="yes" if i % 3 else None) for i in range(30)])
    stored = evaluate("fake:echo", data, ["exact_match", "answer_words"], store=store)
    scores, rows = stored.record.scores, rows_of(store, stored)
    assert (scores["exact_match@all"].n, scores["answer_words@all"].n) == (20, 30)
    assert all(row.completion for row in rows)
    assert sum("exact_match" in row.stats for row in rows) == 20
    assert any("10 of 30 test examples have no reference answer" in note for note in stored.record.notes)
    assert any("exact_match can't measure them" in note for note in stored.record.notes)


def test_without_any_reference_the_reason_is_told(store: Store) -> None:
    data = saved(store, [asked(i, answer=None) for i in range(5)])
    record = evaluate("fake:echo", data, store=store).record
    for name in ("exact_match", "bleu", "chrf", "token_f1"):
        assert record.scores[name].missing_reason == "no test example has a reference answer"
    assert record.scores["answer_words@all"].value == 2
    assert record.items == 5
    assert "accuracy" not in record.metrics


class Calling(FakeModel):
    """Calls a function as open models do."""

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request, answer in zip(requests, super().complete(requests), strict=True):
            city = request.messages[-1].content.split()[-1]
            call = f'Let me see.<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
            yield answer.model_copy(update={"text": call})


def test_a_call_is_scored_as_json(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [
        asked(
            i, answer=f'{{"name": "weather", "arguments": {{"city": "{i if i % 2 else 0}"}}}}', tools=json.dumps([TOOL])
        )
        for i in range(1, 21)
    ]
    monkeypatch.setattr(run, "open_model", lambda uri, **_: Calling("echo"))
    stored = evaluate("fake:echo", saved(store, examples), ["exact_match", "json_f1"], store=store)
    assert stored.record.scores["exact_match@all"].value == 0.5
    assert stored.record.scores["json_f1@all"].value == pytest.approx(0.75)
    assert rows_of(store, stored)[0].completion == '{"name": "weather", "arguments": {"city": "1"}}'


def test_shots_and_stops_pass_over_examples_without_a_reference() -> None:
    rows = [asked(i, answer=None if i % 2 else "yes") for i in range(6)]
    contents = build([Reading(list[Document](), rows[::2])], ["x"], None, "general", 0, split="test")
    contents = replace(contents, examples=contents.examples | {"train": rows})
    assert all(shot.references for shot in choose_shots(contents, 0))
    assert stop_texts(rows) == ("\n",)
    assert stop_texts(rows[1:2]) == ("\n\n", "\nQuestion:")
    assert answer_limit(rows) == answer_limit(rows[:1])
