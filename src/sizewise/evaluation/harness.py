"""Tasks of lm-evaluation-harness on any of our models, with its own prompts and rules; results are our records."""

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
from sizewise.evaluation.asking import Work, ask
from sizewise.evaluation.likelihoods import Continuation, continuation_nats
from sizewise.metrics import find_metric, total
from sizewise.metrics.harness import PREFIX
from sizewise.models import Engine, Model, open_model
from sizewise.models.prompts import PROMPT_VERSION
from sizewise.progress import Reporter, Silent
from sizewise.records import Completion, Evaluation, ItemRow, Message, Request, Score, fingerprint
from sizewise.store import Ledger, Saved, Store, versions

MOST_TOKENS = 256


def evaluate_harness(
    model: str,
    suite: str,
    path: str | Path | None = None,
    *,
    store: Store | None = None,
    limit: int | None = None,
    seed: int = 0,
    engine: Engine = "transformers",
    reporter: Reporter | None = None,
) -> Saved[Evaluation]:
    """Measure a model on tasks of lm-evaluation-harness.

    Args:
        model: model URI.
        suite: `lm-eval:TASK,TASK`.
        path: folder with task files of one's own.
        store: where records live; by default SIZEWISE_HOME.
        limit: at most so many items of each task, the first ones.
        seed: of the worked examples and of the resampling.
        engine: what runs a model of this machine.
        reporter: told how far it is.

    Raises:
        SizewiseError: the harness is not installed, a task is unknown or its data cannot be had, or the model cannot
            be opened.
    """
    store, reporter = store or Store(), reporter or Silent()
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtraError("lm-eval", "harness")
    names = [name.strip() for name in suite.removeprefix(PREFIX).split(",") if name.strip()]
    tasks, source = _tasks(names, path)
    opened = open_model(model, store=store, engine=engine, say=reporter.say)
    try:
        description = opened.describe()
        found = asking.evaluation_id(description, names, source, limit, seed, PROMPT_VERSION)
        if (before := asking.existing(store, found)) is not None:
            return before
        with store.lock("evaluation", found), store.ledger("evaluation", found) as ledger:
            begun = time.monotonic()
            adapter = _adapter(opened, tasks, ledger, reporter)
            results = _run(adapter, tasks, limit, seed)
            record, rows = _record(opened, results, limit, seed, adapter.failed)
            record = record.model_copy(update={"seconds": time.monotonic() - begun})
            return asking.write(store, found, record, rows, ())
    finally:
        opened.close()


def _tasks(names: Sequence[str], path: str | Path | None) -> tuple[dict[str, Any], str]:
    """Load tasks, and give what their own files are made of."""
    from lm_eval.tasks import TaskManager

    own = Path(path).expanduser() if path is not None else None
    manager = TaskManager(include_path=str(own) if own else None)
    known = set(manager.all_subtasks)
    for name in names:
        if name not in known:
            raise SizewiseError(
                f"lm-evaluation-harness has no task '{name}'.",
                "the name of a single task, or --data FOLDER with its file",
                "lm-eval ls subtasks",
            )
    try:
        tasks = dict(manager.load(list(names))["tasks"])
    except Exception as error:  # the library that fetches data raises what it likes
        raise SizewiseError(
            f"A task could not be loaded: {type(error).__name__}: {str(error).splitlines()[0]}",
            "data that can be had: a network, or files of one's own",
            "sizewise evaluate MODEL --suite lm-eval:TASK --data FOLDER",
        ) from error
    content = hashlib.sha256()
    for file in sorted(own.rglob("*.yaml")) if own else ():
        content.update(file.read_bytes())
    return tasks, content.hexdigest()


def _run(adapter: Any, tasks: Mapping[str, Any], limit: int | None, seed: int) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    found = simple_evaluate(
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
    return dict(found)


def _adapter(model: Model, tasks: Mapping[str, Any], ledger: Ledger, reporter: Reporter) -> Any:
    """Give the harness' interface to a model."""
    from lm_eval.api.model import LM

    exact = {name for name, task in tasks.items() if getattr(task, "OUTPUT_TYPE", "") == "loglikelihood"}

    class Adapter(LM):  # type: ignore[misc]
        """Answers what the harness asks for; everything is kept as it arrives."""

        def __init__(self) -> None:
            super().__init__()
            self.failed: dict[tuple[str, int], Completion] = {}  # task and item -> the request that was refused

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            _check_scores(model)
            found: dict[str, float] = {}
            for bare in (False, True):
                # As in the harness, a text with a context begins as the tokenizer begins it.
                groups = [
                    (key, [Continuation(context, text)])
                    for key, (context, text) in {_key(r): r.args for r in requests}.items()
                    if bool(context) == bare
                ]
                what = "weighing continuations"
                measured = continuation_nats(model, groups, f"bare:{bare}", what, ledger, reporter, prefix=not bare)
                found |= {key: -parts[0][0] for key, parts in measured.items()}
            asked = [r for r in requests if r.task_name in exact]
            greedy = self._said(asked, [Request(id=_key(r), text=r.args[0], max_tokens=MOST_TOKENS) for r in asked])
            return [(found[_key(r)], r.task_name in exact and greedy[_key(r)].startswith(r.args[1])) for r in requests]

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            _check_scores(model)
            groups = [(key, [Continuation("", text)]) for key, (text,) in {_key(r): r.args for r in requests}.items()]
            measured = continuation_nats(model, groups, "rolling", "reading texts", ledger, reporter)
            return [-measured[_key(r)][0][0] for r in requests]

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            answers = self._said(requests, [_question(r) for r in requests])
            return [answers[_key(r)] for r in requests]

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            raise SizewiseError("Chat templates are not used here.", "the task's own plain prompts", "")

        def _said(self, instances: Sequence[Any], asked: Sequence[Request]) -> dict[str, str]:
            answers = ask(model, asked, Work("answers", "answering"), ledger, reporter)
            uri = model.describe().uri
            asking.refuse_no_answer(uri, answers)
            missing = asking.unanswered(answers.values())
            if missing:  # the harness scores all of a task's items or none
                raise SizewiseError(
                    f"{uri} left {len(missing)} of {len(answers)} requests unanswered: {answers[missing[0]].error}",
                    "a service that answers; all answers so far are kept",
                    "the same command again: it asks only for these",
                )
            refused = {name: answer for name, answer in answers.items() if answer.finish == "error"}
            self.failed |= {(r.task_name, r.doc_id): refused[_key(r)] for r in instances if _key(r) in refused}
            return {name: answer.text for name, answer in answers.items()}

    return Adapter()


def _check_scores(model: Model) -> None:
    description = model.describe()
    if not description.can_score:
        raise SizewiseError(
            f"{description.uri} gives no log-likelihoods, which this task weighs.",
            "a model of this machine, or a server that gives them; or tasks that ask for text",
            "sizewise models",
        )


def _key(request: Any) -> str:
    return fingerprint([request.request_type, list(map(str, request.args))], 20)


def _question(request: Any) -> Request:
    context, given = request.args
    until = given.get("until", [])
    stop = (until,) if isinstance(until, str) else tuple(until)
    return Request(
        id=_key(request),
        text=context,
        messages=(Message(role="user", content=context),),
        stop=tuple(one for one in stop if one),
        max_tokens=int(given.get("max_gen_toks", MOST_TOKENS)),
        temperature=float(given.get("temperature", 0.0)) if given.get("do_sample") else 0.0,
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
            add = partial(total, find_metric(name), signature=signature, seed=seed)
            scores[name] = add(task_rows, name=name)
        apart = [key for key in results["results"][task] if "," in key and "_stderr" not in key]
        left_out = [key for key in apart if f"{PREFIX}{task}:{_measure(key)}" not in scores]
        if left_out:
            notes.append(f"{task}: {', '.join(left_out)} is no mean over items and was left out")
    named = ",".join(results["samples"])
    return (
        Evaluation(
            model=model.describe(),
            data=f"suite:{PREFIX}{named}:{fingerprint(signatures)}",
            seed=seed,
            limit=limit,
            metrics=tuple(scores),
            scores=scores,
            items=len(rows),
            failed=sum(1 for row in rows if row.error),
            seconds=0.0,
            notes=(*notes, *asking.failure_notes(failed.values())),
            versions=versions("torch", "transformers", "openvino-genai", "numpy", "lm-eval"),
        ),
        rows,
    )


def _measure(key: str) -> str:
    """Give a measure without the filter where that is none."""
    return key.removesuffix(",none")


def _row(task: str, sample: Mapping[str, Any], failed: Completion | None) -> ItemRow:
    """Turn one logged sample into a row; a sample is its own source, and one whose request was refused isn't scored."""
    item = f"{task}#{sample['doc_id']}" + ("" if sample["filter"] == "none" else f",{sample['filter']}")
    stats: dict[str, tuple[float, ...]] = {}
    for measure in sample["metrics"]:
        value = sample[measure]
        key = f"{PREFIX}{task}:{_measure(measure + ',' + sample['filter'])}"
        if isinstance(value, (bool, int, float)):
            stats[key] = (float(value), 1.0)
        elif isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value):
            stats[key] = (float(value[0]), float(value[1]))
    said = sample["filtered_resps"]
    return ItemRow(
        item=item,
        kind="example",
        cluster=item,
        uncontaminated=True,
        prompt=str(sample["arguments"]["gen_args_0"]["arg_0"]) if "gen_args_0" in sample["arguments"] else "",
        references=(str(sample["target"]),),
        completion=str(said[0]) if said and isinstance(said[0], str) and failed is None else None,
        error=failed.error if failed else None,
        stats={} if failed else stats,
    )
