"""Several sampled answers per item: kept, averaged, resumed, and told apart from the noise between items."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sizewise.errors import UsageError
from sizewise.evaluation import EvaluationOptions, evaluate, evaluate_suite, run
from sizewise.evaluation.reproduce import rerun
from sizewise.evaluation.sampled import noise_note, noise_of, sampling_seed
from sizewise.metrics import METRICS
from sizewise.models.fake import FakeModel
from sizewise.models.opening import open_model
from sizewise.records import Completion, ItemRow, Message, Request, Sample
from sizewise.store import Store

SAMPLED = EvaluationOptions(samples=5, temperature=0.5)


def words_file(folder: Path, count: int = 40) -> Path:
    """Questions of one to three words, whose answer is the question itself; two of each source."""
    texts = [" ".join(f"w{i}{letter}" for letter in "abc"[: 1 + i % 3]) for i in range(count)]
    rows = [
        {"id": f"i{i}", "prompt": text, "references": [text], "source": f"s{i // 2}"} for i, text in enumerate(texts)
    ]
    (folder / "words.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "words.jsonl"


class Counting(FakeModel):
    """Counts the requests it answers and is interrupted after some."""

    asked = 0
    limit = 10**9

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for answer in super().complete(requests):
            if Counting.asked == Counting.limit:
                raise KeyboardInterrupt
            Counting.asked += 1
            yield answer


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    monkeypatch.setattr(run, "open_model", lambda uri, **_: Counting("echo"))
    Counting.asked, Counting.limit = 0, 10**9
    return Counting


def test_all_samples_are_kept_and_their_mean_is_scored(tmp_path: Path, store: Store) -> None:
    found = evaluate("fake:echo", words_file(tmp_path), ["exact_match", "chrf"], store=store, options=SAMPLED)
    rows = store.read_rows(found.path.parent, "items.jsonl", ItemRow)
    assert {len(row.samples) for row in rows} == {5}
    assert len({sample.completion for sample in rows[2].samples}) > 1
    assert rows[2].completion == rows[2].samples[0].completion
    right = [[sample.stats["exact_match"][0] for sample in row.samples] for row in rows]
    scores = found.record.scores
    assert scores["exact_match"].value == pytest.approx(np.mean(right))
    assert scores["exact_match_pass@1"].value == pytest.approx(np.mean(right))
    assert scores["exact_match_pass@5"].value == pytest.approx(np.mean([max(one) for one in right]))
    assert scores["exact_match"].n == scores["prompt_tokens"].n == 40
    assert "samples:5|temperature:0.5" in scores["exact_match"].signature
    assert "chrf_pass@5" not in scores
    assert found.record.sampling is not None
    assert found.record.sampling.samples == 5
    assert [one.metric for one in found.record.noise] == ["exact_match"]  # chrF isn't a mean over items
    assert any("comes from sampling answers: exact_match" in note for note in found.record.notes)


def test_ids_depend_on_samples_and_temperature_and_the_same_seed_repeats(tmp_path: Path, store: Store) -> None:
    data = words_file(tmp_path)
    first = evaluate("fake:echo", data, ["exact_match"], store=store, options=SAMPLED)
    greedy = evaluate("fake:echo", data, ["exact_match"], store=store)
    warmer = evaluate("fake:echo", data, ["exact_match"], store=store, options=EvaluationOptions(samples=5))
    one = evaluate("fake:echo", data, ["exact_match"], store=store, options=EvaluationOptions(temperature=0.5))
    assert len({first.id, greedy.id, warmer.id, one.id}) == 4
    assert greedy.record.sampling is None
    assert "samples" not in (greedy.path.parent / "items.jsonl").read_text(encoding="utf-8")
    assert not one.record.noise
    again = rerun(first.id, store=store)
    assert not again.outside
    assert again.answers_changed == 0


def test_an_interrupted_run_asks_only_the_samples_that_are_absent(
    tmp_path: Path, store: Store, counting: type[Counting]
) -> None:
    data = words_file(tmp_path)
    counting.limit = 100
    with pytest.raises(KeyboardInterrupt):
        evaluate("fake:echo", data, ["exact_match"], store=store, options=SAMPLED)
    counting.limit = 10**9
    resumed = evaluate("fake:echo", data, ["exact_match"], store=store, options=SAMPLED)
    assert counting.asked == 200
    whole = evaluate("fake:echo", data, ["exact_match"], store=Store(tmp_path / "other"), options=SAMPLED)
    assert resumed.record.scores["exact_match"] == whole.record.scores["exact_match"]


def test_models_and_options_that_cannot_sample_are_refused(tmp_path: Path, store: Store) -> None:
    data = words_file(tmp_path)
    recorded = tmp_path / "answers.jsonl"
    recorded.write_text('{"id": "i0", "completion": "w0a"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="can't sample answers: its engine is recorded"):
        evaluate(f"recorded:{recorded}", data, ["exact_match"], store=store, options=SAMPLED)
    for options, message in (
        (EvaluationOptions(samples=0), "number of samples is 0"),
        (EvaluationOptions(samples=3, temperature=0), "all the same answer"),
        (EvaluationOptions(temperature=3), "temperature is 3"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate("fake:echo", data, ["exact_match"], store=store, options=options)
    with pytest.raises(UsageError, match="No answers are needed for bits_per_byte"):
        evaluate("fake:echo", data, ["bits_per_byte"], store=store, options=SAMPLED)
    with pytest.raises(UsageError, match="takes one greedy, unconstrained answer per item"):
        evaluate_suite("fake:echo", "bias", store=store, options=SAMPLED)
    with pytest.raises(UsageError, match="computed from several samples"):
        evaluate("fake:echo", data, ["exact_match_pass@5"], store=store)


def sampled_rows(rng: np.random.Generator, items: int, samples: int, between: float) -> list[ItemRow]:
    """Simulate items in pairs; `between` moves an item's probability away from one half."""
    rows = []
    for i in range(items):
        p = 0.5 + between * (1 if rng.random() < 0.5 else -1)
        each = [{"exact_match": (float(rng.random() < p), 1.0)} for _ in range(samples)]
        rows.append(
            ItemRow(
                item=f"i{i}",
                kind="example",
                cluster=f"d{i}",
                uncontaminated=True,
                samples=tuple(Sample(completion="", stats=stats) for stats in each),
            )
        )
    return rows


@pytest.mark.parametrize("between", [0.0, 0.25, 0.5])
def test_the_variance_splits_into_sampling_and_items(between: float) -> None:
    rng = np.random.default_rng(7)
    found = noise_of(METRICS["exact_match"], sampled_rows(rng, 2000, 4, between))
    assert found is not None
    assert found.within == pytest.approx(0.25 - between**2, abs=0.01)
    assert found.between == pytest.approx(between**2, abs=0.01)
    # Miller (2024): Var(mean) = (between + within / K) / n
    variance = (between**2 + (0.25 - between**2) / 4) / 2000
    assert found.standard_error == pytest.approx(variance**0.5, rel=0.05)
    assert found.sampling_share == pytest.approx((0.25 - between**2) / 4 / 2000 / variance, abs=0.06)


def test_advice_follows_the_larger_source_of_noise() -> None:
    rng = np.random.default_rng(3)
    items, answers = (noise_of(METRICS["exact_match"], sampled_rows(rng, 400, 4, share)) for share in (0.48, 0.0))
    assert items is not None
    assert answers is not None
    assert "Most of the noise is between items" in noise_note([items], 4)[0]
    assert "--samples 8 would narrow the interval of exact_match by about" in noise_note([answers], 4)[0]
    assert noise_note([], 4) == []
    assert noise_of(METRICS["bleu"], sampled_rows(rng, 20, 4, 0.0)) is None


def test_local_models_sample_by_seed(tiny_folder: Path, store: Store) -> None:
    model = open_model(str(tiny_folder), store=store)
    plain = Request(id="a", text="The", max_tokens=12, temperature=1.0, seed=1)
    requests = [plain, plain.model_copy(update={"id": "b"}), plain.model_copy(update={"id": "c", "seed": 2})]
    greedy = plain.model_copy(update={"id": "d", "temperature": 0.0})
    found = {answer.id: answer for answer in model.complete([*requests, greedy])}
    model.close()
    assert found["a"].text == found["b"].text != found["c"].text
    assert found["d"].text not in (found["a"].text, "")
    assert all(answer.seconds >= 0 for answer in found.values())


def test_seeds_differ_by_item_and_sample() -> None:
    seeds = {sampling_seed(0, item, number) for item in ("a", "b") for number in range(1, 50)}
    assert len(seeds) == 98
    assert all(0 <= seed < 2**31 for seed in seeds)
    sampled = Request(id="a", messages=(Message(role="user", content="one two three four"),), temperature=1.0, seed=5)
    first, second = (next(FakeModel("echo").complete([sampled])).text for _ in range(2))
    assert first == second
