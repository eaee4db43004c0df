"""Turns the results of lm-evaluation-harness into scores with intervals and items."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import isclose
from typing import Any, NamedTuple

from sizewise.evaluation.harness_model import Failed, HarnessAdapter
from sizewise.evaluation.options import FAILURES_AS_WRONG, EvaluationOptions
from sizewise.metrics import find_metric, total
from sizewise.metrics.base import SCORING_VERSION
from sizewise.metrics.harness import PREFIX, item_stats
from sizewise.records import Evaluation, ItemRow, Score, fingerprint
from sizewise.store import versions

TOLERANCE = 1e-6


class HarnessRun(NamedTuple):
    """Results of the harness, and how they were asked for."""

    results: Mapping[str, Any]
    groups: Mapping[str, Any]
    limit: int | None
    options: EvaluationOptions


def record_of(adapter: HarnessAdapter, run: HarnessRun) -> tuple[Evaluation, list[ItemRow]]:
    """Build the record of an evaluation and its items."""
    by_task = {
        task: [
            _row(task, sample, adapter.failed.get((task, sample["doc_id"])), run.options.count_failures_as_wrong)
            for sample in samples
        ]
        for task, samples in run.results["samples"].items()
    }
    _add_groups(by_task, run)
    signatures = {task: _signature(task, adapter, run) for task in by_task}
    scores: dict[str, Score] = {}
    notes: list[str] = []
    for task, rows in by_task.items():
        _add_scores(scores, notes, task, rows, signatures[task], run)
    for group in run.groups:
        members = _leaves(run.groups[group])
        rows = [row for task in members for row in by_task.get(task, ())]
        _add_scores(
            scores, notes, group, rows, _group_signature([signatures[t] for t in members if t in signatures]), run
        )
    cut = {task: count for task, count in adapter.cut.items() if count}
    notes += [f"{task}: the beginning of {count} prompts was cut to fit the window." for task, count in cut.items()]
    identity = [
        [task, run.results["versions"].get(task), [sample["doc_hash"] for sample in samples]]
        for task, samples in run.results["samples"].items()
    ]
    rows = [row for part in by_task.values() for row in part]
    return (
        Evaluation(
            model=adapter.description,
            data=f"suite:{PREFIX}{','.join(run.groups or by_task)}:{fingerprint(identity)}",
            seed=run.options.seed,
            limit=run.limit,
            metrics=tuple(scores),
            scores=scores,
            items=len(rows),
            failed=sum(1 for row in rows if row.error),
            seconds=0.0,
            notes=tuple(notes),
            method_version=SCORING_VERSION,
            versions=versions("torch", "transformers", "openvino-genai", "numpy", "lm-eval"),
        ),
        rows,
    )


def _signature(task: str, adapter: HarnessAdapter, run: HarnessRun) -> str:
    """Describe what was done: shots, template, prefix and window as they were, not as they were asked for."""
    results = run.results
    version = results.get("lm_eval_version") or versions("lm-eval").get("lm-eval")
    shots = int(results["n-shot"].get(task, 0) or 0)
    parts = [f"lm-eval:{version}", f"task:{task}@{results['versions'].get(task)}", f"shots:{shots}"]
    if shots:
        parts.append(f"seed:{run.results['config']['fewshot_seed']}")
    template = adapter.template
    if template:
        name = template if " own" in template else hashlib.sha256(template.encode()).hexdigest()[:8]
        multiturn = shots > 0 and run.options.harness.fewshot_as_multiturn
        parts += [f"template:{name}", *(["shots as turns"] if multiturn else [])]
    else:
        parts.append("template:none")
    if run.options.harness.system_instruction:
        instruction = hashlib.sha256(run.options.harness.system_instruction.encode()).hexdigest()[:8]
        parts.append(f"system:{instruction}")
    wrong = [FAILURES_AS_WRONG] if run.options.count_failures_as_wrong else []
    return "|".join([*parts, adapter.method(task), *wrong])


def _group_signature(signatures: Sequence[str]) -> str:
    """Return what the signatures of a group's tasks agree on."""
    if not signatures:
        return ""
    split = [signature.split("|") for signature in signatures]
    agreed = [part for part in split[0] if all(part in other for other in split)]
    return "|".join([*agreed, f"tasks:{len(signatures)}"])


def _leaves(group: Any) -> list[str]:
    return [task.task_name for task in group.get_all_tasks()]


def _add_groups(by_task: dict[str, list[ItemRow]], run: HarnessRun) -> None:
    """Add the statistics of groups to the rows of their tasks, weighted as the group asks for."""
    for name, group in run.groups.items():
        reported = {_measure(key) for key in _reported(run.results, name)}
        weighting = {one.metric: bool(one.weight_by_size) for one in group.aggregate_metric_list or ()}
        for task in _leaves(group):
            rows = by_task.get(task, [])
            for measure in reported:
                key, own = f"{PREFIX}{name}:{measure}", f"{PREFIX}{task}:{measure}"
                count = sum(1 for row in rows if own in row.stats)
                weight = 1.0 if weighting.get(measure.partition(",")[0], True) else 1 / max(1, count)
                by_task[task] = rows = [
                    row.model_copy(update={"stats": row.stats | {key: tuple(weight * x for x in row.stats[own])}})
                    if own in row.stats
                    else row
                    for row in rows
                ]


def _reported(results: Mapping[str, Any], name: str) -> dict[str, float]:
    """Return what the harness reports for a task or group: `measure,filter` -> value."""
    found = results.get("groups", {}).get(name) or results["results"].get(name) or {}
    return {
        key: value
        for key, value in found.items()
        if "," in key and "_stderr" not in key and isinstance(value, (int, float))
    }


def _add_scores(
    scores: dict[str, Score], notes: list[str], name: str, rows: Sequence[ItemRow], signature: str, run: HarnessRun
) -> None:
    """Add the scores of a task or group; one that doesn't equal the harness' own value is left out with a note."""
    complete = not any(row.error for row in rows)
    left_out = []
    for key, reported in _reported(run.results, name).items():
        full = f"{PREFIX}{name}:{_measure(key)}"
        if not any(full in row.stats for row in rows):
            left_out.append(key)
            continue
        score = partial(total, find_metric(full), signature=signature)(rows, name=full)
        same = score.value is not None and isclose(score.value, reported, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        if complete and not same:
            left_out.append(key)
        else:
            scores[full] = score
    if left_out:
        notes.append(
            f"{name}: {', '.join(left_out)} can't be computed from statistics of items, so it has no interval and was "
            "left out."
        )


def _measure(key: str) -> str:
    """Remove the filter from a metric key if it is `none`."""
    return key.removesuffix(",none")


def _row(task: str, sample: Mapping[str, Any], failed: Failed | None, as_wrong: bool) -> ItemRow:
    """Convert a logged sample into a row; each sample is its own cluster, and failed requests aren't scored.

    A refused request that counts as wrong is scored by the task's own metrics, as an empty answer.
    """
    item = f"{task}#{sample['doc_id']}"
    stats: dict[str, tuple[float, ...]] = {}
    for measure in sample["metrics"]:
        found = item_stats(measure, sample[measure])
        if found is not None:
            stats[f"{PREFIX}{task}:{_measure(measure + ',' + sample['filter'])}"] = found
    responses = sample["filtered_resps"]
    return ItemRow(
        item=item + ("" if sample["filter"] == "none" else f",{sample['filter']}"),
        kind="example",
        cluster=item,
        uncontaminated=True,
        prompt=_prompt(sample["arguments"]),
        references=tuple(_texts(sample["target"])),
        completion=str(responses[0]) if responses and isinstance(responses[0], str) and failed is None else None,
        error=failed.error if failed else None,
        stats=stats if failed is None or (as_wrong and failed.refused_answer) else {},
    )


def _prompt(arguments: Any) -> str:
    """Return the context of a sample's first request; a whole text that is scored has none."""
    first = arguments.get("gen_args_0") if isinstance(arguments, Mapping) else arguments[0] if arguments else ()
    parts = list(first.values()) if isinstance(first, Mapping) else list(first or ())
    return str(parts[0]) if len(parts) > 1 else ""


def _texts(target: Any) -> Iterator[str]:
    yield from map(str, target) if isinstance(target, (list, tuple)) else [str(target)]
