"""What the loop does when things go wrong, and what a teacher adds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sizewise.lm import loop
from sizewise.lm.hf_format import load_network
from sizewise.lm.loss import SoftTargets, cross_entropy, likeliest
from sizewise.lm.packing import Mix, Pool, Rows, Unit, pack
from sizewise.lm.run_files import request_change
from sizewise.progress import pulsing

PLAN = loop.Plan(tokens=64 * 20, learning_rate=1e-3, weight_decay=0.0, compiled=False, validations=10, patience=0)


def mix() -> Mix:
    generator = np.random.default_rng(0)
    units = [Unit(generator.integers(3, 300, 64).tolist(), 1) for _ in range(30)]
    empty: Pool = pack([], 64, 0)
    return Mix(pack(units, 64, 0), empty, 0.0, 1, 0)


def run(folder: Path, state: Path, plan: loop.Plan, validate: Any, teacher: Any = None) -> loop.Result:
    network = load_network(folder, "fp32")
    loop.prepare(network, compiled=False)
    return loop.train_network(network, mix(), plan, validate, state, lambda progress: None, teacher)


def test_a_loss_that_runs_away_goes_back_to_the_best_weights(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loop.loss_of
    calls = iter(range(1000))

    def sometimes(network: Any, rows: Rows, teacher: Any = None) -> torch.Tensor:
        loss = plain(network, rows, teacher)
        return loss * float("nan") if next(calls) in (5, 12) else loss

    monkeypatch.setattr(loop, "loss_of", sometimes)
    bits = iter(np.linspace(3, 2, 100))
    result = run(tiny_folder, tmp_path / "state", PLAN, lambda: loop.Bits(next(bits)))
    assert result.rollbacks == [6, 13]
    assert all(np.isfinite(point.loss) for point in result.points)
    rates = [point.learning_rate for point in result.points]
    assert rates[7] == pytest.approx(loop.rate_at(7 * 64 / PLAN.tokens, 1e-3) / 2)
    assert rates[15] == pytest.approx(loop.rate_at(15 * 64 / PLAN.tokens, 1e-3) / 4)


def test_training_stops_when_validation_no_longer_improves(tiny_folder: Path, tmp_path: Path) -> None:
    bits = iter([*np.linspace(3.0, 2.3, 16), 2.4, 2.4, 1.0])  # the best one when the rate was low already
    plan = loop.Plan(**{**PLAN.__dict__, "tokens": 64 * 40, "validations": 20, "patience": 2})
    result = run(tiny_folder, tmp_path / "state", plan, lambda: loop.Bits(next(bits)))
    assert result.stopped_early
    assert result.best.domain == 2.3
    assert result.tokens == 34 * 64
    assert not result.changes


def test_the_rate_comes_down_from_the_best_weights_where_validation_stalls_early(
    tiny_folder: Path, tmp_path: Path
) -> None:
    plan = loop.Plan(**{**PLAN.__dict__, "tokens": 64 * 200, "validations": 20, "patience": 2})
    found = [3.0, 2.5, 2.0, 2.5, 2.4, 1.9, 1.0]  # at the start, then every ten steps
    bits = iter(found)
    result = run(tiny_folder, tmp_path / "one" / "state", plan, lambda: loop.Bits(next(bits)))
    assert result.cooling.endswith("brought the rate down over 640 more")
    assert not result.changes
    assert (result.steps, result.best.domain, result.stopped_early) == (50, 1.9, True)
    rates = [point.learning_rate for point in result.points]
    assert rates[41] == pytest.approx(0.3 * rates[19], rel=0.1)
    assert rates[49] < 0.05 * rates[19]
    losses = {point.step: point.loss for point in result.points}

    for at in (40, 43):

        def stop(progress: loop.Progress, at: int = at) -> None:
            if progress.step == at:
                raise KeyboardInterrupt

        network, again = load_network(tiny_folder, "fp32"), iter(found)
        loop.prepare(network, compiled=False)
        state = tmp_path / str(at) / "state"
        with pytest.raises(KeyboardInterrupt):
            loop.train_network(network, mix(), plan, lambda again=again: loop.Bits(next(again)), state, stop)
        resumed = run(tiny_folder, state, plan, lambda again=again: loop.Bits(next(again)))
        assert (resumed.sessions, resumed.steps, resumed.best.domain, resumed.cooling) == (2, 50, 1.9, result.cooling)
        assert {point.step: point.loss for point in resumed.points} == losses


@pytest.mark.parametrize(
    ("settings", "steps", "last"),
    [({"tokens": 64 * 45}, 45, 0.2), ({"tokens": 64 * 80}, 80, 0.1), ({"stop": 1.0}, 43, 1.0)],
)
def test_changes_while_the_rate_comes_down_are_followed(
    tiny_folder: Path, tmp_path: Path, settings: dict[str, float], steps: int, last: float
) -> None:
    plan = loop.Plan(**{**PLAN.__dict__, "tokens": 64 * 200, "validations": 20, "patience": 2})
    bits = iter([3.0, 2.5, 2.0, 2.5, 2.4, 1.9, 1.8, 1.7])

    def change(progress: loop.Progress) -> None:
        if progress.step == 43:
            request_change(tmp_path, settings)

    network = load_network(tiny_folder, "fp32")
    loop.prepare(network, compiled=False)
    result = loop.train_network(network, mix(), plan, lambda: loop.Bits(next(bits)), tmp_path / "state", change)
    assert result.steps == steps
    assert result.points[-1].learning_rate <= last * result.points[41].learning_rate


def test_what_a_user_asks_for_when_it_stalls_comes_first(tiny_folder: Path, tmp_path: Path) -> None:
    plan = loop.Plan(**{**PLAN.__dict__, "tokens": 64 * 200, "validations": 20, "patience": 2})
    for name, settings, steps in (("end", {"tokens": 64 * 40}, 40), ("stop", {"stop": 1.0}, 40)):
        bits = iter([3.0, 2.5, 2.0, 2.5, 2.4, 1.9])

        def change(progress: loop.Progress, name: str = name, settings: dict[str, float] = settings) -> None:
            if progress.step == 40:
                request_change(tmp_path / name, settings)

        network = load_network(tiny_folder, "fp32")
        loop.prepare(network, compiled=False)
        state = tmp_path / name / "state"
        result = loop.train_network(network, mix(), plan, lambda bits=bits: loop.Bits(next(bits)), state, change)
        assert (result.steps, result.best.domain, result.cooling) == (steps, 2.0, "")


def test_a_loss_that_runs_away_while_the_rate_comes_down_halves_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = loop.loss_of, iter(range(1000))

    def sometimes(network: Any, rows: Rows, teacher: Any = None) -> torch.Tensor:
        loss = plain(network, rows, teacher)
        return loss * float("nan") if next(calls) in (35, 44) else loss  # after the best weights, and while it cools

    monkeypatch.setattr(loop, "loss_of", sometimes)
    plan = loop.Plan(**{**PLAN.__dict__, "tokens": 64 * 200, "validations": 20, "patience": 2})
    bits = iter([3.0, 2.5, 2.0, 2.5, 2.4, 1.9])
    result = run(tiny_folder, tmp_path / "state", plan, lambda: loop.Bits(next(bits)))
    rates = [point.learning_rate for point in result.points]
    assert (result.rollbacks, result.steps) == ([36, 45], 50)
    assert rates[41] == pytest.approx(0.15 * rates[19], rel=0.1)
    assert rates[45] < 0.55 * rates[43]


def test_weights_that_only_got_worse_are_not_trained_on(tiny_folder: Path, tmp_path: Path) -> None:
    bits = iter([1.0, 2.5, 2.0, 1.9])
    plan = loop.Plan(**{**PLAN.__dict__, "patience": 2})
    result = run(tiny_folder, tmp_path / "state", plan, lambda: loop.Bits(next(bits)))
    assert (result.steps, result.best_step, result.changes) == (4, 0, [])


def test_a_budget_in_minutes_follows_the_speed_that_is_met(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(10_000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(now))  # each step takes a second
    ended = {}
    for name, seconds in (("busy", 14.0), ("quiet", 26.0), ("as expected", 21.0), ("little text", 1e6)):
        plan = loop.Plan(**{**PLAN.__dict__, "seconds": seconds, "max_tokens": 64 * 30})
        result = run(tiny_folder, tmp_path / name / "state", plan, lambda: loop.Bits(2.0))
        ended[name] = result.steps
        assert [one.setting for one in result.changes] == ([] if name == "as expected" else ["time"])
        assert not result.stopped_early
    assert ended == {"busy": 14, "quiet": 26, "as expected": 20, "little text": 30}


def test_a_machine_that_gets_busy_later_shortens_the_run(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = {}
    for name, later in (("busy", 3.0), ("quiet", 0.2)):
        now = iter(np.cumsum([1.0] * 20 + [later] * 200))
        monkeypatch.setattr(loop.time, "perf_counter", partial(next, now))  # read twice a step
        plan = loop.Plan(**{**PLAN.__dict__, "seconds": 20.0, "max_tokens": 64 * 300})
        result = run(tiny_folder, tmp_path / name / "state", plan, lambda: loop.Bits(2.0))
        ended[name] = result.steps
    assert ended["quiet"] == 20  # the rate of learning isn't raised again
    assert ended["busy"] < 17


def test_a_resumed_run_keeps_the_budget_that_it_had(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(10_000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(now))
    plan = loop.Plan(**{**PLAN.__dict__, "seconds": 21.0, "max_tokens": 64 * 300})
    network = load_network(tiny_folder, "fp32")
    loop.prepare(network, compiled=False)

    def stop(progress: loop.Progress) -> None:
        if progress.step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train_network(network, mix(), plan, lambda: loop.Bits(2.0), tmp_path / "state", stop)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(now) / 100)  # the machine is quiet now
    result = run(tiny_folder, tmp_path / "state", plan, lambda: loop.Bits(2.0))
    assert (result.steps, result.changes) == (20, [])


def test_a_probe_ends_when_the_time_of_its_step_is_up(tiny_folder: Path) -> None:
    network = load_network(tiny_folder, "fp32")
    loop.prepare(network, compiled=False)
    steps: list[int] = []

    def check() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise TimeoutError

    with pulsing(check), pytest.raises(TimeoutError):
        loop.probe_speed(network, mix(), steps=5)
    assert len(steps) == 2


def test_activations_computed_again_give_the_same_gradient(tiny_folder: Path) -> None:
    rows = mix().step(0)
    gradients = []
    for again in (False, True):
        network = load_network(tiny_folder, "fp32")
        loop.prepare(network, compiled=False, checkpointing=again)
        loop.loss_of(network, rows).backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
        loop.finish(network)
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_soft_targets_equal_the_plain_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(20, 8, generator=generator, requires_grad=True)
    head = torch.randn(30, 8, generator=generator, requires_grad=True)
    targets = torch.randint(0, 30, (20,), generator=generator)
    targets[4] = -100
    teacher = torch.randn(19, 30, generator=generator)
    weights, ids = torch.softmax(teacher, -1).topk(5, -1)
    weights = weights / weights.sum(-1, keepdim=True)
    kept = targets != -100
    logs = torch.log_softmax(hidden[kept] @ head.T, -1)
    text = -logs.gather(1, targets[kept][:, None])[:, 0]
    expectation = -(weights * logs.gather(1, ids)).sum(-1)
    plain = (0.7 * text + 0.3 * expectation).mean()
    ours = cross_entropy(hidden, head, targets, SoftTargets(ids, weights, 0.3), chunk=6)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), abs=1e-5)
    for one, other in zip(
        torch.autograd.grad(ours, [hidden, head]), torch.autograd.grad(plain, [hidden, head]), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_likeliest_tokens_are_found_chunk_by_chunk() -> None:
    hidden, head = torch.randn(11, 8), torch.randn(40, 8)
    ids, weights = likeliest(hidden, head, 4, chunk=3)
    best = (hidden @ head.T).topk(4, -1)
    assert ids.equal(best.indices)
    assert torch.allclose(weights, torch.softmax(best.values, -1), atol=1e-6)


def test_a_student_comes_closer_to_its_teacher(tiny_folder: Path, tmp_path: Path) -> None:
    teacher = load_network(tiny_folder, "fp32")
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    loop.prepare(teacher, compiled=False)
    teacher.eval()
    rows = mix().step(0)
    student = load_network(tiny_folder, "fp32")
    loop.prepare(student, compiled=False)
    taught = loop.teacher_of(teacher, share=1.0, k=20)
    with torch.no_grad():
        before = float(loop.loss_of(student, rows, taught))
    plan = loop.Plan(**{**PLAN.__dict__, "learning_rate": 1e-2})
    loop.train_network(student, mix(), plan, improving(), tmp_path / "state", lambda progress: None, taught)
    with torch.no_grad():
        assert float(loop.loss_of(student, rows, taught)) < before


def test_a_teacher_with_more_rows_than_tokens_chooses_among_the_students(tiny_folder: Path) -> None:
    """torchtune #2119, trl #2215: Qwen 2.5 has 151,936 rows at 3B and 152,064 at 7B for the same tokens."""
    teacher, student = load_network(tiny_folder, "fp32"), load_network(tiny_folder, "fp32")
    rows, size = mix().step(0), student.get_input_embeddings().num_embeddings
    teacher.resize_token_embeddings(size + 50)
    with torch.no_grad():
        teacher.get_output_embeddings().weight[size:] = teacher.get_output_embeddings().weight[:50] * 3
    for network in (teacher, student):
        loop.prepare(network, compiled=False)
    soft = loop.teacher_of(teacher.eval(), share=0.5, size=size)(rows)
    assert int(soft.ids.max()) < size
    assert torch.isfinite(loop.loss_of(student, rows, lambda _: soft))


def improving() -> Any:
    """Validation that always improves, so that the last weights are kept."""
    values = iter(np.linspace(2, 1, 1000))
    return lambda: loop.Bits(float(next(values)))


def test_losses_of_different_kinds_in_turns_are_no_runaway(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers at 0.1 nats and now and then text at 3 nats: the run must not go back each time."""
    plain = loop.loss_of
    calls = iter(range(1000))

    def in_turns(network: Any, rows: Rows, teacher: Any = None) -> torch.Tensor:
        loss = plain(network, rows, teacher)
        return loss / loss.detach() * (3.0 if next(calls) % 9 == 0 else 0.1)

    monkeypatch.setattr(loop, "loss_of", in_turns)
    assert run(tiny_folder, tmp_path / "state", PLAN, improving()).rollbacks == []


def test_a_loss_far_above_all_before_is_one(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = loop.loss_of
    calls = iter(range(1000))
    monkeypatch.setattr(
        loop, "loss_of", lambda network, rows, teacher=None: plain(network, rows) + (9 if next(calls) == 14 else 0)
    )
    assert run(tiny_folder, tmp_path / "state", PLAN, improving()).rollbacks == [15]


@pytest.mark.parametrize("taught", [False, True])
def test_gradients_of_parts_add_up_to_those_of_the_step(tiny_folder: Path, taught: bool) -> None:
    units = [Unit(np.random.default_rng(n).integers(3, 300, 20 + 9 * n).tolist(), 1 + 5 * n) for n in range(5)]
    rows = pack(units, 64, 0).all()
    assert len(rows) > 2
    found = []
    for micro_rows in (0, 1, 2):
        network = load_network(tiny_folder, "fp32")
        loop.prepare(network, compiled=False)
        teacher = loop.teacher_of(network, 0.5, k=4) if taught else None
        optimizer = loop.MasterAdamW(network.named_parameters(), 0.0)
        loss = loop.backward_in_parts(network, rows, teacher, micro_rows, optimizer.collect)
        optimizer.collect()
        found.append((loss, [master.grad for master in optimizer.masters.values()]))
        loop.finish(network)
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-5)
        for one, other in zip(found[0][1], gradients, strict=True):
            assert torch.allclose(one, other, atol=1e-6)
