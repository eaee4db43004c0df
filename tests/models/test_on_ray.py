"""A model on a cluster gives the answers and scores of one process, whatever is lost; with a stand-in for Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sizewise.errors import ScoringError, SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.launch import use_launch
from sizewise.models import on_ray
from sizewise.models.base import ScoredText
from sizewise.models.fake import FakeModel
from sizewise.models.on_ray import RayModel, ScoreJob, open_spread
from sizewise.records import Dataset, ModelDescription
from sizewise.store import Saved, Store
from tests.launch.fake_ray import FakeRay


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    ray = FakeRay(2)
    monkeypatch.setattr(on_ray, "connect", lambda address: ray)
    return ray


def items(store: Store, saved: Saved[Any]) -> list[str]:
    path = store.folder("evaluation", saved.id) / "items.jsonl"
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("lose_at", [0, 2])
def test_items_and_scores_are_those_of_one_process(
    dataset: Saved[Dataset], tiny_folder: Path, tmp_path: Path, cluster: FakeRay, lose_at: int
) -> None:
    metrics = ("bits_per_byte", "chrf")
    stores = [Store(tmp_path / name) for name in ("one", "two")]
    for store in stores:
        (store.home / "dataset").mkdir(parents=True)
        (store.home / "dataset" / dataset.id).symlink_to(dataset.path.parent)
    cluster.lose_at = lose_at
    one = evaluate(str(tiny_folder), dataset.id, metrics, store=stores[0], limit=5)
    with use_launch("ray:auto"):
        spread = evaluate(str(tiny_folder), dataset.id, metrics, store=stores[1], limit=5)
    assert cluster.calls >= 2
    assert spread.id == one.id
    assert items(stores[0], one) == items(stores[1], spread)
    fixed = ("bits_per_byte", "chrf")
    assert {name: one.record.scores[name] for name in fixed} == {name: spread.record.scores[name] for name in fixed}


def test_nothing_is_asked_again(dataset: Saved[Dataset], store: Store, cluster: FakeRay) -> None:
    with use_launch("ray:auto"):
        evaluate("fake:echo", dataset.id, ("chrf",), store=store)
        asked = cluster.calls
        evaluate("fake:echo", dataset.id, ("chrf", "bleu"), store=store)
    assert asked
    assert cluster.calls == asked


def test_baselines_and_recordings_stay_here(dataset: Saved[Dataset], store: Store, cluster: FakeRay) -> None:
    with use_launch("ray:auto"):
        assert isinstance(open_spread("fake:copy", store=store), FakeModel)
        assert isinstance(open_spread("fake:echo", store=store), RayModel)
    assert isinstance(open_spread("fake:echo", store=store), FakeModel)


def test_a_budget_is_shared_by_the_processes(store: Store, cluster: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[float | None] = []

    class Host(on_ray.ModelHost):
        def __init__(self, *arguments: Any) -> None:
            budgets.append(arguments[3])
            super().__init__(*arguments)

    monkeypatch.setattr(on_ray, "ModelHost", Host)
    with use_launch("ray:auto"):
        open_spread("fake:echo", store=store, max_usd=3.0).close()
    assert budgets == [1.5, 1.5]
    assert cluster.killed == cluster.made


def test_another_version_on_a_node_is_refused(store: Store, cluster: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(on_ray.ModelHost):
        def about(self) -> tuple[str, str]:
            return "0.0.1", ""

    monkeypatch.setattr(on_ray, "ModelHost", Old)
    with use_launch("ray:auto"), pytest.raises(SizewiseError, match=r"has Sizewise 0\.0\.1"):
        open_spread("fake:echo", store=store)
    assert cluster.killed == cluster.made


def test_only_a_cluster_measures() -> None:
    with pytest.raises(UsageError, match="trains one network"), use_launch("torchrun:2"):
        pass


class Choosy(FakeModel):
    """Scores no text that holds an exclamation mark."""

    def describe(self) -> ModelDescription:
        return super().describe()

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        for text in texts:
            if "!" in text:
                raise ScoringError("no exclamations", transient=True)
            yield from super().score([text], prefix=prefix)


def test_batches_may_be_expected_and_one_that_fails_fails_alone(
    store: Store, cluster: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "open_model", lambda uri, **_: Choosy("echo"))
    with use_launch("ray:auto"):
        model = open_spread("fake:echo", store=store)
    assert isinstance(model, RayModel)
    model.expect_scores([ScoreJob(("a", "b!"), None, True), ScoreJob(("cc", "ddd"), None, True)])
    assert [len(one.nats) for one in model.score(["cc", "ddd"])] == [2, 3]
    failing = model.score(["a", "b!"])
    assert len(next(failing).nats) == 1
    with pytest.raises(ScoringError, match="no exclamations") as raised:
        next(failing)
    assert raised.value.transient
    assert [len(one.nats) for one in model.score(["not expected"])] == [12]
    assert [len(one.nats) for one in model.score_after(["abcd"], [1])] == [3]
