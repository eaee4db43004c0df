"""Fine-tuning of sentence encoders, on tiny random networks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from sizewise.errors import SizewiseError
from sizewise.lm import encoder_training as training
from sizewise.lm.encoder_losses import contrastive_loss, option_loss
from sizewise.progress import Silent
from tests.decisions.tiny_encoder import WIDTH, make_encoder, topic_texts


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def labeled(folder: Path, each: int = 8) -> training.Labeled:
    from transformers import AutoTokenizer

    texts, labels = topic_texts(each)
    return training.Labeled(AutoTokenizer.from_pretrained(folder)(texts)["input_ids"], np.eye(3)[labels])


def head() -> training.Head:
    return training.Head(np.zeros((3, WIDTH)), np.zeros(3))


def tune(folder: Path, plan: training.TuningPlan, **changes: Any) -> training.Tuned:
    settings: dict[str, Any] = {"pooling": "mean", "minutes": 5.0, "work": None, "reporter": Silent()} | changes
    network = training.open_encoder(folder, "cpu")
    return training.tune_encoder(network, head(), labeled(folder), plan, **settings)


def weights_of(tuned: training.Tuned) -> np.ndarray[Any, Any]:
    parts = [p.detach().numpy().ravel() for p in tuned.network.parameters()]
    return np.concatenate([*parts, tuned.head.weights.ravel(), tuned.head.offsets])


PLAN = training.TuningPlan(steps=12, batch=8, learning_rate=1e-3, head_rate=0.1)


def test_tuning_learns_the_labels(encoder: Path) -> None:
    plan = training.TuningPlan(steps=100, batch=8, learning_rate=5e-3, head_rate=0.1, contrastive=0.5)
    tuned = tune(encoder, plan)
    data = labeled(encoder)
    ids, mask = training.padded(data.ids, 0, "cpu")
    with torch.no_grad():
        vectors = training.pooled(tuned.network(input_ids=ids, attention_mask=mask).last_hidden_state, mask, "mean")
    logits = vectors.numpy() @ tuned.head.weights.T + tuned.head.offsets
    assert (logits.argmax(axis=1) == data.targets.argmax(axis=1)).mean() > 0.9
    assert np.mean(tuned.losses[-5:]) < np.mean(tuned.losses[:5])


def test_the_same_seed_is_the_same_encoder_and_another_is_not(encoder: Path) -> None:
    first, second = (weights_of(tune(encoder, PLAN)) for _ in range(2))
    assert np.array_equal(first, second)
    other = weights_of(tune(encoder, training.TuningPlan(**{**vars(PLAN), "seed": 1})))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("averaged", [0.0, 0.5])
def test_a_killed_run_resumes_and_ends_the_same(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaged: float
) -> None:
    plan = training.TuningPlan(**{**vars(PLAN), "averaged": averaged})
    whole = weights_of(tune(encoder, plan))

    class Stopping(Silent):
        def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
            if done == 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(encoder, plan, work=tmp_path, reporter=Stopping())
    resumed = tune(encoder, plan, work=tmp_path)
    assert len(resumed.losses) == 4
    assert np.array_equal(whole, weights_of(resumed))
    assert not list(tmp_path.iterdir())


def test_a_point_between_the_first_and_the_last_weights(encoder: Path) -> None:
    tuned = tune(encoder, PLAN)
    last = weights_of(tuned)
    first = {name: p.detach().clone() for name, p in training.open_encoder(encoder, "cpu").named_parameters()}
    assert np.array_equal(tuned.move(0.0).weights, head().weights)
    assert all(torch.equal(p, first[name]) for name, p in tuned.network.named_parameters())
    half = tuned.move(0.5)
    assert np.allclose(half.weights, tuned.head.weights / 2)
    assert np.array_equal(tuned.move(1.0).weights, tuned.head.weights)
    assert np.array_equal(weights_of(tuned), last)


class Clock:
    """A clock that a network's passes move on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, a_token_s: float) -> None:
        self.now, self.a_token_s = 0.0, a_token_s
        for name in ("monotonic", "perf_counter"):
            monkeypatch.setattr(training.time, name, lambda: self.now)
        whole = training._Run.backward

        def backward(run: Any, step: int) -> float:
            self.now += self.a_token_s * run.cells(step)
            return whole(run, step)

        monkeypatch.setattr(training._Run, "backward", backward)


def test_the_pace_counts_tokens_because_other_texts_may_be_longer(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training.Labeled([[2, *[5] * (1 if i < 4 else 12), 3] for i in range(40)], np.eye(3)[np.arange(40) % 3])
    plan = training.TuningPlan(steps=100, batch=4)
    run = training._Run(training.open_encoder(encoder, "cpu"), head(), data, "mean", plan)
    per_step = [4 * max(run.lengths[i] for i in training.batch_of(run.lengths, 4, 0, step)) for step in range(10)]
    assert run.mean_cells == np.mean(per_step)
    clock = Clock(monkeypatch, 0.5)
    pace = training._Pace(run, 0.5 * run.mean_cells * 20)
    for _ in range(training.MIN_TIMED):
        assert run.step == 0 or pace.possible_steps(100) == 100
        run.advance()
        run.seconds = clock.now
    left = (0.5 * run.mean_cells * 20 - clock.now) / (0.5 * run.mean_cells)
    assert pace.possible_steps(100) == 3 + int(left)
    assert pace.possible_steps(7) == 7


def test_training_ends_with_its_time_and_cools_down_before(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0.01)
    plan = training.TuningPlan(steps=60, batch=8)
    rates: list[float] = []

    class Slowing(Silent):
        def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
            rates.append(run_of[-1].optimizer.param_groups[0]["lr"])
            clock.a_token_s = 0.03 if done >= 10 else 0.01

    run_of: list[Any] = []
    whole = training._Run.__init__

    def remember(run: Any, *args: Any) -> None:
        whole(run, *args)
        run_of.append(run)

    monkeypatch.setattr(training._Run, "__init__", remember)
    tuned = tune(encoder, plan, minutes=1.0, reporter=Slowing())
    assert 10 < tuned.plan.steps < 60
    assert len(tuned.losses) == tuned.plan.steps
    longest = 0.03 * 8 * max(len(ids) for ids in labeled(encoder).ids)
    assert clock.now <= 60 + longest
    assert tuned.seconds == clock.now
    assert rates[-1] < 0.2 * max(rates)
    clock.now, clock.a_token_s = 0.0, 100.0
    assert tune(encoder, plan, minutes=1.0).plan.steps == 1


def test_embeddings_stay_as_they_are(encoder: Path) -> None:
    before = training.open_encoder(encoder, "cpu").get_input_embeddings().weight.detach().clone()
    assert torch.equal(before, tune(encoder, PLAN).network.get_input_embeddings().weight)


def test_each_epoch_holds_every_text_once_and_batches_have_similar_lengths() -> None:
    lengths = tuple(int(n) for n in np.random.default_rng(0).integers(3, 60, 333))
    per_epoch = math.ceil(333 / 32)
    first, second = (
        [training.batch_of(lengths, 32, 0, epoch * per_epoch + step) for step in range(per_epoch)] for epoch in (0, 1)
    )
    for batches in (first, second):
        assert sorted(text for batch in batches for text in batch) == list(range(333))
    assert first != second
    spread = [max(lengths[text] for text in batch) - min(lengths[text] for text in batch) for batch in first]
    assert np.mean(spread) < 15


def test_contrastive_loss_against_a_plain_loop() -> None:
    vectors = functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = [0, 0, 1, 1, 1, 2]
    terms = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        same = [j for j in others if labels[j] == labels[i]]
        if same:
            total = sum(math.exp(float(vectors[i] @ vectors[j]) / 0.1) for j in others)
            each = [math.log(math.exp(float(vectors[i] @ vectors[j]) / 0.1) / total) for j in same]
            terms.append(-sum(each) / len(same))
    found = contrastive_loss(vectors, torch.tensor(labels), 0.1)
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(contrastive_loss(vectors[:2], torch.tensor([0, 1]), 0.1)) == 0.0


def test_option_loss_is_torchs_cross_entropy() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 2, 1, 1, 0])
    found = option_loss(logits, functional.one_hot(labels, 3).float(), 0.1, independent=False)
    assert torch.isclose(found, functional.cross_entropy(logits, labels, label_smoothing=0.1))
    uniform = option_loss(torch.zeros(2, 3), torch.ones(2, 3), 0.0, independent=True)
    assert float(uniform) == pytest.approx(math.log(2))


def test_rates_rise_then_fall_and_lower_layers_learn_slower(encoder: Path) -> None:
    shares = [training.rate_share(step, training.TuningPlan(steps=20)) for step in range(20)]
    assert shares[1] == 1.0
    assert shares[1:] == sorted(shares[1:], reverse=True)
    network = training.open_encoder(encoder, "cpu")
    plan = training.TuningPlan(steps=2, learning_rate=1.0, layer_decay=0.5)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    rates = dict(zip(trained, training._rates(trained, plan), strict=True))
    assert {rate for name, rate in rates.items() if "layer.1." in name} == {1.0}
    assert {rate for name, rate in rates.items() if "layer.0." in name} == {0.5}


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_do_not_depend_on_padding(pooling: training.Pooling) -> None:
    states = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(2))
    longer = torch.cat([states, torch.full((1, 2, 4), 9.0)], dim=1)
    alone = training.pooled(states, torch.ones(1, 3, dtype=torch.long), pooling)
    together = training.pooled(longer, torch.tensor([[1, 1, 1, 0, 0]]), pooling)
    assert torch.allclose(alone, together)
    assert torch.allclose(alone.norm(dim=1), torch.ones(1))


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError, match="can't be opened for training"):
        training.open_encoder(tmp_path)
