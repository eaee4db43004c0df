"""Runs tasks of lm-evaluation-harness, with their own prompts and metrics, on any model, and saves them as records."""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.evaluation import asking
from sizewise.evaluation.asking import Work, collect_answers
from sizewise.evaluation.likelihoods import Continuation, continuation_nats
from sizewise.evaluation.options import EvaluationOptions
from sizewise.metrics import find_metric, total
from sizewise.metrics.base import SCORING_VERSION
from sizewise.metrics.harness import PREFIX
from sizewise.models import Model, open_model
from sizewise.models.prompts import PROMPT_VERSION
from sizewise.progress import Reporter, Silent
from sizewise.records import Completion, Evaluation, ItemRow, Message, Request, Score, fingerprint
from sizewise.store import Ledger, Saved, Store, versions

MAX_TOKENS = 256


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
        suite: `lm-eval:TASK,TASK`.
        path: folder with additional task files.
        store: where records are kept; SIZEWISE_HOME by default.
        limit: maximum number of items per task; the first ones are used.
        options: seed and engine; the other options don't apply.
        reporter: receives progress.

    Raises:
        MissingExtraError: the harness isn't installed.
        SizewiseError: a task is unknown, its data can't be loaded, or the model can't be opened.
    """
    store, reporter, options = store or Store(), reporter or Silent(), options or EvaluationOptions()
    seed = options.seed
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtraError("lm-eval", "harness")
    names = [name.strip() for name in suite.removeprefix(PREFIX).split(",") if name.strip()]
    tasks, source = _tasks(names, path)
    opened = open_model(model, store=store, engine=options.engine, say=reporter.say)
    try:
        description = opened.describe()
        evaluation_id = asking.evaluation_id(description, names, source, limit, seed, PROMPT_VERSION)
        if (existing := asking.find_existing(store, evaluation_id)) is not None:
            return existing
        with store.lock("evaluation", evaluation_id), store.ledger("evaluation", evaluation_id) as ledger:
            begun = time.monotonic()
            adapter = _adapter(opened, tasks, ledger, reporter)
            results = _run(adapter, tasks, limit, seed)
            record, rows = _record(opened, results, limit, seed, adapter.failed)
            record = record.model_copy(update={"seconds": time.monotonic() - begun})
            return asking.save(store, evaluation_id, record, rows, ())
    finally:
        opened.close()


def _tasks(names: Sequence[str], path: str | Path | None) -> tuple[dict[str, Any], str]:
    """Load tasks; return them with a hash of the user's task files."""
    from lm_eval.tasks import TaskManager

    folder = Path(path).expanduser() if path is not None else None
    manager = TaskManager(include_path=str(folder) if folder else None)
    known = set(manager.all_subtasks)
    for name in names:
        if name not in known:
            raise SizewiseError(
                f"lm-evaluation-harness has no task '{name}'.",
                "the name of a single task, or --data FOLDER with its task file",
                "lm-eval ls subtasks",
            )
    try:
        tasks = dict(manager.load(list(names))["tasks"])
    except Exception as error:  # the library that fetches the data raises many exception types
        raise SizewiseError(
            f"Loading the tasks failed: {type(error).__name__}: {str(error).splitlines()[0]}",
            "a network connection, or local task files with --data FOLDER",
            "sizewise evaluate MODEL --suite lm-eval:TASK --data FOLDER",
        ) from error
    content = hashlib.sha256()
    for file in sorted(folder.rglob("*.yaml")) if folder else ():
        content.update(file.read_bytes())
    return tasks, content.hexdigest()


def _run(adapter: Any, tasks: Mapping[str, Any], limit: int | None, seed: int) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    results = simple_evaluate(
        model=adapter,
        tasks=list(tasks.values()),
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    return dict(results)


def _adapter(model: Model, tasks: Mapping[str, Any], ledger: Ledger, reporter: Reporter) -> Any:
    """Wrap a model in the interface of lm-evaluation-harness."""
    from lm_eval.api.model import LM

    exact = {name for name, task in tasks.items() if getattr(task, "OUTPUT_TYPE", "") == "loglikelihood"}

    class Adapter(LM):  # type: ignore[misc]
        """Serves the requests of the harness; every result goes to the ledger as it arrives."""

        def __init__(self) -> None:
            super().__init__()
            self.failed: dict[tuple[str, int], Completion] = {}  # (task, item) -> refused request

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            _check_scores(model)
            scores: dict[str, float] = {}
            for bare in (False, True):
                # As in the harness, only a text with a context gets the start token that the tokenizer adds.
                pairs = {_key(r): r.args for r in requests if bool(r.args[0]) == bare}
                groups = [(key, [Continuation(*pair)]) for key, pair in pairs.items()]
                title = "Log-likelihood of continuations"
                measured = continuation_nats(model, groups, f"bare:{bare}", title, ledger, reporter, prefix=not bare)
                scores |= {key: -parts[0][0] for key, parts in measured.items()}
            matched = [r for r in requests if r.task_name in exact]
            greedy = self._generate(
                matched, [Request(id=_key(r), text=r.args[0], max_tokens=MAX_TOKENS) for r in matched]
            )
            return [(scores[_key(r)], r.task_name in exact and greedy[_key(r)].startswith(r.args[1])) for r in requests]

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            _check_scores(model)
            groups = [(key, [Continuation("", text)]) for key, (text,) in {_key(r): r.args for r in requests}.items()]
            measured = continuation_nats(model, groups, "rolling", "Log-likelihood of texts", ledger, reporter)
            return [-measured[_key(r)][0][0] for r in requests]

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            answers = self._generate(requests, [_generation_request(r) for r in requests])
            return [answers[_key(r)] for r in requests]

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            raise SizewiseError("Chat templates aren't supported for harness tasks.", "the task's plain prompts", "")

        def _generate(self, instances: Sequence[Any], requests: Sequence[Request]) -> dict[str, str]:
            answers = collect_answers(model, requests, Work("answers", "Generating answers"), ledger, reporter)
            uri = model.describe().uri
            asking.require_answers(uri, answers)
            absent = asking.retryable(answers.values())
            if absent:  # the harness can't score a part of a task's items
                raise SizewiseError(
                    f"{len(absent)} of {len(answers)} requests to {uri} failed: {answers[absent[0]].error}",
                    "an answer to every request; the answers so far are saved",
                    "the same command again, which retries only these",
                )
            refused = {name: answer for name, answer in answers.items() if answer.finish == "error"}
            self.failed |= {(r.task_name, r.doc_id): refused[_key(r)] for r in instances if _key(r) in refused}
            return {name: answer.text for name, answer in answers.items()}

    return Adapter()


def _check_scores(model: Model) -> None:
    description = model.describe()
    if not description.can_score:
        raise SizewiseError(
            f"{description.uri} returns no log-likelihoods, but this task requires them.",
            "a model on this machine, a server that returns log-likelihoods, or tasks that only generate text",
            "sizewise models",
        )


def _key(request: Any) -> str:
    return fingerprint([request.request_type, list(map(str, request.args))], 20)


def _generation_request(request: Any) -> Request:
    context, options = request.args
    until = options.get("until", [])
    stop = (until,) if isinstance(until, str) else tuple(until)
    return Request(
        id=_key(request),
        text=context,
        messages=(Message(role="user", content=context),),
        stop=tuple(filter(None, stop)),
        max_tokens=int(options.get("max_gen_toks", MAX_TOKENS)),
        temperature=float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0,
    )


def _record(
    model: Model,
    results: Mapping[str, Any],
    limit: int | None,
    seed: int,
    failed: Mapping[tuple[str, int], Completion],
) -> tuple[Evaluation, list[ItemRow]]:
    rows: list[ItemRow] = []
    scores: dict[str, Score] = {}
    signatures, notes = [], []
    for task, samples in results["samples"].items():
        version = results["versions"].get(task)
        signature = (
            f"lm-eval:{results.get('lm_eval_version', versions('lm-eval').get('lm-eval'))}|task:{task}@{version}"
        )
        signature += f"|shots:{results['n-shot'].get(task, 0)}|{model.signature() or 'answers'}"
        signatures.append([task, version, [sample["doc_hash"] for sample in samples]])
        task_rows = [_row(task, sample, failed.get((task, sample["doc_id"]))) for sample in samples]
        rows += task_rows
        for name in dict.fromkeys(name for row in task_rows for name in row.stats):
            add = partial(total, find_metric(name), signature=signature)
            scores[name] = add(task_rows, name=name)
        reported = [key for key in results["results"][task] if "," in key and "_stderr" not in key]
        left_out = [key for key in reported if f"{PREFIX}{task}:{_measure(key)}" not in scores]
        if left_out:
            notes.append(f"{task}: {', '.join(left_out)} isn't a mean over items and was left out.")
    task_names = ",".join(results["samples"])
    return (
        Evaluation(
            model=model.describe(),
            data=f"suite:{PREFIX}{task_names}:{fingerprint(signatures)}",
            seed=seed,
            limit=limit,
            metrics=tuple(scores),
            scores=scores,
            items=len(rows),
            failed=sum(1 for row in rows if row.error),
            seconds=0.0,
            notes=(*notes, *asking.failure_notes(failed.values())),
            method_version=SCORING_VERSION,
            versions=versions("torch", "transformers", "openvino-genai", "numpy", "lm-eval"),
        ),
        rows,
    )


def _measure(key: str) -> str:
    """Remove the filter from a metric key if it is `none`."""
    return key.removesuffix(",none")


def _row(task: str, sample: Mapping[str, Any], failed: Completion | None) -> ItemRow:
    """Convert a logged sample into a row; each sample is its own cluster, and refused requests aren't scored."""
    item = f"{task}#{sample['doc_id']}" + ("" if sample["filter"] == "none" else f",{sample['filter']}")
    stats: dict[str, tuple[float, ...]] = {}
    for measure in sample["metrics"]:
        value = sample[measure]
        key = f"{PREFIX}{task}:{_measure(measure + ',' + sample['filter'])}"
        if isinstance(value, (bool, int, float)):
            stats[key] = (float(value), 1.0)
        elif isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value):
            stats[key] = (float(value[0]), float(value[1]))
    responses = sample["filtered_resps"]
    return ItemRow(
        item=item,
        kind="example",
        cluster=item,
        uncontaminated=True,
        prompt=str(sample["arguments"]["gen_args_0"]["arg_0"]) if "gen_args_0" in sample["arguments"] else "",
        references=(str(sample["target"]),),
        completion=str(responses[0]) if responses and isinstance(responses[0], str) and failed is None else None,
        error=failed.error if failed else None,
        stats={} if failed else stats,
    )
