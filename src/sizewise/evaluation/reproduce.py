"""rerun(): repeats an evaluation in an empty store and compares the results with the original."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sizewise.errors import SizewiseError
from sizewise.evaluation.options import FAILURES_AS_WRONG, EvaluationOptions
from sizewise.evaluation.run import evaluate
from sizewise.evaluation.suite_run import ASKED_BY_LETTER, evaluate_suite
from sizewise.metrics import METRICS, find_metric
from sizewise.models.opening import engine_of
from sizewise.progress import Reporter, Silent
from sizewise.records import Evaluation, ItemRow, Reproduction, Score
from sizewise.store import Store

SHARED = ("dataset", "checkpoint", "weights", "wheels")
TOLERANCE = 1e-9


def rerun(
    evaluation: str,
    path: str | Path | None = None,
    *,
    store: Store | None = None,
    max_usd: float | None = None,
    run_code: bool = False,
    reporter: Reporter | None = None,
) -> Reproduction:
    """Repeat an evaluation from scratch, without its saved answers or any cache, and compare the scores.

    Args:
        evaluation: id of the original evaluation.
        path: data of the suite, if it isn't packaged.
        store: where records are kept; SIZEWISE_HOME by default.
        max_usd: maximum spend on a remote model.
        run_code: consent to run code that the model writes, for the suite `code`.
        reporter: receives progress.

    Raises:
        SizewiseError: the evaluation doesn't exist, its model can't be opened, or its data has changed.
    """
    store, reporter = store or Store(), reporter or Silent()
    first = store.read(Evaluation, evaluation)
    options = replace(_options_of(evaluation, first, max_usd), run_code=run_code)
    with _empty_store(store) as fresh:
        if first.data.startswith("suite:"):
            name = first.data.removeprefix("suite:").rpartition(":")[0]
            second = evaluate_suite(
                first.model.uri, name, path, store=fresh, limit=first.limit, options=options, reporter=reporter
            )
        else:
            second = evaluate(
                first.model.uri,
                first.data,
                [name for name in first.metrics if find_metric(name).needs != "judge"],
                store=fresh,
                limit=first.limit,
                options=options,
                reporter=reporter,
            )
        new_answers = _answers(fresh, second.id)
    if second.record.data != first.data:
        raise SizewiseError(
            f"{evaluation} was measured on {first.data}, but the data is now {second.record.data}.",
            "unchanged data",
            f"sizewise evaluate {first.model.uri} --data DATA",
        )
    return _compare(evaluation, first, second.record, _answers(store, evaluation), new_answers)


def _options_of(evaluation: str, first: Evaluation, max_usd: float | None) -> EvaluationOptions:
    """Return the options that an evaluation was run with.

    Raises:
        SizewiseError: it stopped once its question was decided.
    """
    engine = engine_of(first.model)
    if first.stopped is not None:
        raise SizewiseError(
            f"{evaluation} stopped once its question was decided, so its items depend on another evaluation.",
            "an evaluation of all items",
            f"sizewise evaluate {first.model.uri} --data {first.data}",
        )
    signatures = [score.signature for score in first.scores.values()]
    return EvaluationOptions(
        letters=any(ASKED_BY_LETTER in signature for signature in signatures),
        count_failures_as_wrong=any(FAILURES_AS_WRONG in signature for signature in signatures),
        samples=first.sampling.samples if first.sampling else 1,
        temperature=first.sampling.temperature if first.sampling else None,
        max_tokens=first.prompting.max_tokens if first.prompting else None,
        seed=first.seed,
        engine=engine,
        max_usd=max_usd,
        constrained=first.constrained,
        rubric=first.rubric.rubric if first.rubric else None,
        judge=first.rubric.judge if first.rubric else "",
    )


@contextmanager
def _empty_store(store: Store) -> Iterator[Store]:
    """Open a temporary store that shares the data and weights of another store, but none of its results."""
    with tempfile.TemporaryDirectory(prefix="sizewise-reproduce-") as name:
        for kind in SHARED:
            if (store.home / kind).is_dir():
                (Path(name) / kind).symlink_to(store.home / kind, target_is_directory=True)
        yield Store(name)


def _answers(store: Store, evaluation: str) -> dict[tuple[str, str], str | None]:
    rows = store.read_rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
    return {(row.kind, row.item): row.completion for row in rows}


def _compare(
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
        if _is_equal(before.value, after.value):
            equal.append(name)
        elif _is_within(before, after.value):
            within.append(name)
        else:
            outside.append(name)
    packages = sorted(first.versions.keys() | second.versions.keys())
    return Reproduction(
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
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


def _is_equal(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    return math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _is_within(before: Score, value: float | None) -> bool:
    return (
        value is not None
        and before.ci_low is not None
        and before.ci_high is not None
        and before.ci_low <= value <= before.ci_high
    )
