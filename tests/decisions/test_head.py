"""A language model with a classification head: what training promises, and that transformers opens the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sizewise.decisions import head
from sizewise.decisions.scorers import Material, Settings, fit_scorer, load_scorer
from sizewise.errors import SizewiseError
from sizewise.lm import classification_head, classifier_openvino
from sizewise.lm.classification_head import HeadPlan, Labeled, pack_rows, steps_of_epoch
from sizewise.records import Option, Question

WORDS = {"device": "device", "claim": "claim", "the code": "code 12"}
QUESTION = Question(options=tuple(Option(value=value) for value in WORDS))
PLAN = HeadPlan(epochs=3, learning_rate=3e-3, head_rate=3e-2, validations=2)


pytest.importorskip("openvino")


def material(n: int, seed: int = 0) -> Material:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    told = list(WORDS.values())
    texts = [f"the {told[label]} of the patient {generator.integers(9)}" for label in labels]
    return Material(texts, np.eye(3)[labels], [str(i) for i in range(n)])


@pytest.fixture
def settings(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(head, "_plan", lambda *args: PLAN)
    return Settings(QUESTION, tiny_folder, work=tmp_path / "work")


def test_a_head_learns_labels_and_opens_in_transformers(settings: Settings, tmp_path: Path) -> None:
    validation = material(40, 1)
    scorer = fit_scorer("head", material(160), validation, settings)
    texts = [*validation.texts[:6], "", "Gerät <|im_end|> и", "the device " * 400]
    found = scorer.probabilities(texts)
    assert (found[:6].argmax(1) == validation.labels[:6]).all()
    assert np.allclose(found.sum(1), 1)
    assert 0 < scorer.trained_parameters < scorer.parameters
    alone = np.concatenate([scorer.probabilities([text]) for text in texts])
    assert np.abs(alone - found).max() < 1e-5

    scorer.save(tmp_path / "saved")
    loaded = load_scorer("head", tmp_path / "saved", QUESTION, None)
    assert loaded.engine.startswith("openvino")
    assert np.abs(loaded.probabilities(texts) - found).max() < 1e-4
    classifier_openvino.remove_graph(tmp_path / "saved" / head.MODEL)
    loaded = load_scorer("head", tmp_path / "saved", QUESTION, None)
    assert loaded.engine == "transformers"
    assert np.abs(loaded.probabilities(texts) - found).max() < 1e-5
    assert (loaded.parameters, loaded.notes) == (scorer.parameters, scorer.notes)

    network = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved" / head.MODEL, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved" / head.MODEL)
    assert list(network.config.id2label.values()) == list(WORDS)
    for batch in (texts[:7], texts[3:4]):
        with torch.inference_mode():
            theirs = network(**tokenizer(batch, return_tensors="pt", padding=True)).logits.softmax(-1).numpy()
        assert np.abs(theirs - loaded.probabilities(batch)).max() < 1e-5


def test_the_same_seed_trains_the_same_head_also_after_a_kill(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train, validation = material(64), material(20, 1)
    whole = fit_scorer("head", train, validation, settings).probabilities(validation.texts)
    again = Settings(QUESTION, settings.base, work=tmp_path / "other")
    monkeypatch.setattr(classification_head, "SAVE_EVERY_S", 0.0)
    plain, steps = classification_head._HeadRun.advance, []

    def killed(run: Any, *args: Any) -> None:
        steps.append(run.step)
        if len(steps) == 5:
            raise MemoryError
        plain(run, *args)

    monkeypatch.setattr(classification_head._HeadRun, "advance", killed)
    with pytest.raises(MemoryError):
        fit_scorer("head", train, validation, again)
    resumed = fit_scorer("head", train, validation, again)
    assert steps.count(0) == 1
    assert np.array_equal(resumed.probabilities(validation.texts), whole)


def test_independent_labels_have_a_probability_each(settings: Settings) -> None:
    question = Question(type="multi", options=QUESTION.options)
    train = material(80)
    targets = train.targets.copy()
    targets[:, 2] = 1.0  # always correct, besides another
    both = Material(train.texts, targets, train.clusters)
    multi = Settings(question, settings.base, work=settings.work)
    found = fit_scorer("head", both, both, multi).probabilities(train.texts[:8])
    assert (found[:, 2] > 0.7).all()
    assert ((found[:, :2] > 0.5).sum(1) == 1).sum() >= 4 or (found.sum(1) > 1).all()


def test_without_validation_examples_the_last_weights_are_kept(settings: Settings) -> None:
    nothing = Material([], np.zeros((0, 3)), [])
    scorer = fit_scorer("head", material(40), nothing, settings)
    assert "the last weights were kept" in scorer.notes[0]
    assert scorer.probabilities([]).shape == (0, 3)


@pytest.mark.parametrize(("probed_s", "step_s", "steps"), [(1.0, 10.0, 6), (10.0, 1.0, 51), (1.0, 0.01, 180)])
def test_a_run_takes_the_time_allowed_whatever_the_probe_found(
    probed_s: float, step_s: float, steps: int, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, shares = [0.0], []
    plain = classification_head._HeadRun.advance

    def advance(run: Any, rows: Any, data: Any, done: float) -> None:
        clock[0] += step_s
        shares.append(done)
        plain(run, rows, data, done)

    monkeypatch.setattr(classification_head, "probe_step_s", lambda *args: probed_s)
    monkeypatch.setattr(classification_head._HeadRun, "advance", advance)
    monkeypatch.setattr(classification_head.time, "monotonic", lambda: clock[0])
    allowed = Settings(QUESTION, tiny_folder, minutes=1.0, work=tmp_path / "work")
    scorer = fit_scorer("head", material(200), material(20, 1), allowed)
    assert f"Trained for {steps} steps" in scorer.notes[0]
    assert ("as many as the time allowed" in scorer.notes[0]) == (steps < 180)
    assert shares == sorted(shares)
    assert shares[-1] > 0.8  # the learning rate has fallen


def test_the_head_starts_where_logistic_regression_ends(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[float] = []

    def report(name: str) -> None:
        plain = classification_head._HeadRun.advance

        def advance(run: Any, *args: Any) -> None:
            plain(run, *args)
            first.extend(run.losses[-1:] if run.step == 1 else [])

        monkeypatch.setattr(classification_head._HeadRun, "advance", advance)
        fit_scorer("head", material(160), material(20, 1), Settings(QUESTION, settings.base, work=tmp_path / name))
        monkeypatch.setattr(classification_head._HeadRun, "advance", plain)

    report("fitted")
    monkeypatch.setattr(classification_head, "start_head", lambda *args: 0)
    report("random")
    fitted, at_random = first
    assert fitted < 0.5 * at_random


def test_an_epoch_contains_each_text_once_and_its_order_depends_on_the_seed_alone() -> None:
    generator = np.random.default_rng(0)
    ids = [generator.integers(3, 90, int(length)).tolist() for length in generator.integers(2, 40, 150)]
    data = Labeled(ids, np.eye(3)[generator.integers(0, 3, 150)])
    for plan in (PLAN, PLAN._replace(seed=1), PLAN._replace(batch=4)):
        for epoch in (0, 1):
            steps = steps_of_epoch(data, plan, epoch, 0)
            last = [rows.targets[rows.targets >= 0] for rows in steps]
            assert sorted(np.concatenate(last).tolist()) == list(range(150))
            assert np.mean([len(texts) for texts in last[:-1]]) == pytest.approx(plan.batch, rel=0.4)
    first = [steps_of_epoch(data, PLAN, 0, 0)[0].ids for _ in range(2)]
    assert np.array_equal(*first)
    rows = pack_rows(data, [[3, 5]], 128, 0)
    assert rows.ids[0, : len(ids[3])].tolist() == ids[3]
    assert rows.targets[0, len(ids[3]) - 1] == 3


def test_a_model_without_a_classifier_in_transformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    from sizewise.lm.classifier_format import check_supported

    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    with pytest.raises(SizewiseError, match="no classifier of the architecture 'granite'"):
        check_supported(GraniteForCausalLM(GraniteConfig(**sizes)))
