"""Runs tasks of lm-evaluation-harness, with their own prompts and metrics, on any model, and saves them as records."""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.evaluation import asking
from sizewise.evaluation.harness_model import HarnessAdapter, adapter_for
from sizewise.evaluation.harness_records import HarnessRun, record_of
from sizewise.evaluation.options import EvaluationOptions
from sizewise.metrics.harness import PREFIX
from sizewise.models.on_ray import open_spread as open_model
from sizewise.progress import Reporter, Silent
from sizewise.records import Evaluation
from sizewise.store import Saved, Store

HARNESS_VERSION = 2
"""Part of an evaluation's id. Raised when the same task gets other requests or scores."""
OWN_SEEDS = (0, 1234)
"""The harness' own seeds, of Python and of numpy, torch and few-shot examples; they stand for our seed 0."""


def evaluate_harness(
    model: str,
    suite: str,
    path: str | Path | None = None,
    *,
    store: Store | None = None,
    limit: int | None = None,
    options: EvaluationOptions | None = None,
    reporter: Reporter | None = None,
) -> Saved[Evaluation]:
    """Evaluate a model on tasks of lm-evaluation-harness.

    Args:
        model: model URI.
        suite: `lm-eval:NAME,NAME`: tasks, groups, tags, or patterns such as `mmlu_*`.
        path: folder with additional task files.
        store: where records are kept; SIZEWISE_HOME by default.
        limit: maximum number of items per task; the first ones are used.
        options: seed, engine, few-shot examples, chat template, and whether refused requests count as wrong; the other
            options don't apply.
        reporter: receives progress.

    Raises:
        MissingExtraError: the harness isn't installed.
        SizewiseError: a task is unknown, its data can't be loaded, or the model can't be opened.
    """
    store, reporter, options = store or Store(), reporter or Silent(), options or EvaluationOptions()
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtraError("lm-eval", "harness")
    names = [name.strip() for name in suite.removeprefix(PREFIX).split(",") if name.strip()]
    folder = Path(path).expanduser() if path is not None else None
    manager, names = _manager(names, folder)
    opened = open_model(model, store=store, engine=options.engine, max_usd=options.max_usd, say=reporter.say)
    try:
        description = opened.describe()
        identity: list[object] = ["failures as wrong"] if options.count_failures_as_wrong else []
        identity.append(asdict(options.harness))
        source = _content_of(folder)
        evaluation_id = asking.evaluation_id(description, names, source, limit, options.seed, HARNESS_VERSION, identity)
        evaluation_id = asking.choose_run(store, opened, evaluation_id, options)
        if (existing := asking.find_existing(store, evaluation_id)) is not None:
            return existing
        tasks, groups = _load(manager, names)
        with store.lock("evaluation", evaluation_id), store.ledger("evaluation", evaluation_id) as ledger:
            begun = time.monotonic()
            inquiry = asking.inquire(opened, ledger, reporter)
            adapter = adapter_for(opened, inquiry, _matched(tasks))
            results = run_tasks(adapter, manager, tasks, groups, limit, options)
            inquiry.require(retry=f"sizewise evaluate {description.uri} --suite {suite}")
            run = HarnessRun(results, groups, limit, options)
            record, rows = record_of(adapter, run)
            notes = (*record.notes, *inquiry.notes(as_wrong=options.count_failures_as_wrong))
            record = record.model_copy(update={"seconds": time.monotonic() - begun, "notes": notes})
            return asking.save(store, evaluation_id, record, rows, inquiry.unanswered)
    finally:
        opened.close()


def _manager(names: Sequence[str], folder: Path | None) -> tuple[Any, list[str]]:
    """Index all tasks; return the index with the names that were asked for, patterns resolved.

    Raises:
        SizewiseError: a name is unknown.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder) if folder else None)
    found: list[str] = []
    for name in names:
        matching = manager.match_tasks([name])
        if not matching:
            raise SizewiseError(
                f"lm-evaluation-harness has no task, group or tag '{name}'.",
                "a name that `lm-eval ls tasks` lists, or --data FOLDER with its task file",
                "lm-eval ls tasks",
            )
        found += matching
    return manager, list(dict.fromkeys(found))


def _content_of(folder: Path | None) -> str:
    """Compute a hash of the user's task files, and of the data beside them."""
    content = hashlib.sha256()
    files = folder.rglob("*") if folder else ()
    for file in sorted(one for one in files if one.is_file() and "__pycache__" not in one.parts):
        content.update(str(file.relative_to(folder or file)).encode() + b"\0" + file.read_bytes())
    return content.hexdigest()


def _load(manager: Any, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load tasks and groups with their data.

    Raises:
        SizewiseError: the data can't be loaded.
    """
    try:
        loaded = manager.load(list(names))
    except Exception as error:  # the library that fetches the data raises many exception types
        raise SizewiseError(
            f"Loading the tasks failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            "a network connection, or local task files with --data FOLDER; and no task named twice, such as in a group",
            "sizewise evaluate MODEL --suite lm-eval:TASK --data FOLDER",
        ) from error
    return dict(loaded["tasks"]), dict(loaded.get("groups") or {})


def _matched(tasks: Mapping[str, Any]) -> set[str]:
    """Return the tasks that need to know whether a continuation is the model's greedy answer."""
    return {
        name
        for name, task in tasks.items()
        if getattr(task, "OUTPUT_TYPE", "") == "loglikelihood" or "exact_match" in getattr(task, "_metric_fn_list", {})
    }


def run_tasks(
    adapter: HarnessAdapter,
    manager: Any,
    tasks: Mapping[str, Any],
    groups: Mapping[str, Any],
    limit: int | None,
    options: EvaluationOptions,
) -> dict[str, Any]:
    """Run loaded tasks and groups in the harness, and return its results.

    Raises:
        SizewiseError: the model has no chat template, or returns no log-likelihoods.
    """
    from lm_eval import simple_evaluate

    inside = {task.task_name for group in groups.values() for task in group.get_all_tasks()}
    inner = {one.name for group in groups.values() for one in group.get_all_groups()}
    python, others = OWN_SEEDS if options.seed == 0 else (options.seed, options.seed)
    asked = options.harness
    return dict(
        simple_evaluate(
            model=adapter,
            tasks=[
                *(group for name, group in groups.items() if name not in inner),
                *(task for name, task in tasks.items() if name not in inside),
            ],
            task_manager=manager,
            num_fewshot=asked.num_fewshot,
            apply_chat_template=asked.apply_chat_template,
            fewshot_as_multiturn=asked.fewshot_as_multiturn and asked.apply_chat_template,
            system_instruction=asked.system_instruction,
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            random_seed=python,
            numpy_random_seed=others,
            torch_random_seed=others,
            fewshot_random_seed=others,
        )
    )
