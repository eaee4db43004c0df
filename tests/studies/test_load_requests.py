"""A limit on p95 can only be verified with enough requests, so a study that sets one sends them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sizewise.evaluation import evaluate
from sizewise.records import Dataset
from sizewise.store import Saved, Store
from sizewise.studies import measuring, read_config
from sizewise.studies.budget import StepReporter
from sizewise.studies.progress import StudyProgress

STUDY = """
[study]
name = "x"

[data]
documents = ["texts"]

[[candidates]]
name = "a"
model = "fake:echo"

[needs]
concurrent_users = {users}
{limit}
"""


@pytest.mark.parametrize(
    ("users", "limit", "expected"),
    [(4, "max_latency_p95_s = 2.0", 72), (32, "max_latency_p95_s = 2.0", 128), (4, "max_latency_s = 2.0", None)],
)
def test_requests_of_a_level_follow_from_the_limit(
    users: int,
    limit: str,
    expected: int | None,
    dataset: Saved[Dataset],
    store: Store,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(users=users, limit=limit), encoding="utf-8")
    measured = evaluate(str(tiny_folder), dataset.id, ["chrf"], store=store, limit=2)
    sent: list[Any] = []

    def load_test_model(evaluation: str, counts: tuple[int, ...], **options: Any) -> Saved[Dataset]:
        sent.append((evaluation, counts, options["requests"]))
        return dataset

    monkeypatch.setattr(measuring, "load_test_model", load_test_model)
    progress = StudyProgress()
    made = measuring.load_test_candidate(
        measured.id, read_config(path), store=store, reporter=StepReporter(progress, 60)
    )
    assert made == dataset.id
    assert sent == [(measured.id, (1, users), expected)]
