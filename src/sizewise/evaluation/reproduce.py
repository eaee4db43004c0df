"""rerun(): the same measurement once more, in a store of its own, beside the first."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sizewise.errors import SizewiseError
from sizewise.evaluation.run import AnswerOptions, evaluate
from sizewise.evaluation.suite_run import evaluate_suite
from sizewise.metrics import METRICS
from sizewise.models import Engine
from sizewise.progress import Reporter, Silent
from sizewise.records import Evaluation, ItemRow, Reproduction, Score
from sizewise.store import Store

SHARED = ("dataset", "checkpoint", "weights", "wheels")
CLOSE = 1e-9


def rerun(
    evaluation: str,
    path: str | Path | None = None,
    *,
    store: Store | None = None,
    max_usd: float | None = None,
    reporter: Reporter | None = None,
) -> Reproduction:
    """Measure once more what an evaluation measured: nothing that it kept is read, no answer comes from a cache.

    Args:
        evaluation: id of an evaluation.
        path: data of its suite, where the package does not hold it.
        store: where records live; by default SIZEWISE_HOME.
        max_usd: most that may be spent on a remote model.
        reporter: told how far it is.

    Raises:
        SizewiseError: there is no such evaluation, or its model or data can no longer be opened.
    """
    store, reporter = store or Store(), reporter or Silent()
    first = store.read(Evaluation, evaluation)
    engine: Engine = "openvino" if first.model.engine.startswith("openvino") else "transformers"
    with _empty_store(store) as other:
        if first.data.startswith("suite:"):
            name = first.data.removeprefix("suite:").rpartition(":")[0]
            second = evaluate_suite(
                first.model.uri, name, path, store=other, limit=first.limit, seed=first.seed, engine=engine,
                reporter=reporter,
            )  # fmt: skip
        else:
            second = evaluate(
                first.model.uri, first.data, first.metrics, store=other, limit=first.limit, seed=first.seed,
                max_usd=max_usd, engine=engine, reporter=reporter,
                options=AnswerOptions(first.prompting.max_tokens if first.prompting else None),
            )  # fmt: skip
        rows = _answers(other, second.id)
    if second.record.data != first.data:
        raise SizewiseError(
            f"{evaluation} was measured on {first.data}; the data is now {second.record.data}.",
            "the same data",
            f"sizewise evaluate {first.model.uri} --data DATA",
        )
    return _beside(evaluation, first, second.record, _answers(store, evaluation), rows)


@contextmanager
def _empty_store(store: Store) -> Iterator[Store]:
    """Give a store that holds the data and weights of another, and nothing that was measured."""
    with tempfile.TemporaryDirectory(prefix="sizewise-again-") as name:
        for kind in SHARED:
            if (store.home / kind).is_dir():
                (Path(name) / kind).symlink_to(store.home / kind, target_is_directory=True)
        yield Store(name)


def _answers(store: Store, evaluation: str) -> dict[tuple[str, str], str | None]:
    rows = store.read_rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
    return {(row.kind, row.item): row.completion for row in rows}


def _beside(
    evaluation: str,
    first: Evaluation,
    second: Evaluation,
    answers: dict[tuple[str, str], str | None],
    new_answers: dict[tuple[str, str], str | None],
) -> Reproduction:
    names = [name for name in first.scores if name in second.scores and _is_quality(name, first)]
    equal, within, outside = [], [], []
    for name in names:
        before, after = first.scores[name], second.scores[name]
        if _same(before.value, after.value):
            equal.append(name)
        elif _inside(before, after.value):
            within.append(name)
        else:
            outside.append(name)
    packages = sorted(first.versions.keys() | second.versions.keys())
    return Reproduction(
        evaluation=evaluation,
        before={name: first.scores[name] for name in names},
        after={name: second.scores[name] for name in names},
        equal=tuple(equal),
        within=tuple(within),
        outside=tuple(outside),
        answers_changed=sum(1 for key, answer in answers.items() if new_answers.get(key) != answer),
        versions_changed={
            package: f"{first.versions.get(package, 'absent')} -> {second.versions.get(package, 'absent')}"
            for package in packages
            if first.versions.get(package) != second.versions.get(package)
        },
    )


def _is_quality(name: str, record: Evaluation) -> bool:
    plain = name.split("@")[0].split("#")[0]
    return plain in METRICS or plain in record.metrics


def _same(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    return math.isclose(left, right, rel_tol=CLOSE, abs_tol=CLOSE)


def _inside(before: Score, value: float | None) -> bool:
    return (
        value is not None
        and before.ci_low is not None
        and before.ci_high is not None
        and before.ci_low <= value <= before.ci_high
    )
