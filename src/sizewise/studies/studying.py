"""study(): read, train, evaluate, compare, choose, report. Each stage is a record that is written once."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import NamedTuple

from sizewise import datasets
from sizewise.choice import choose
from sizewise.comparison import add_votes, compare, rounds_of
from sizewise.errors import SizewiseError
from sizewise.evaluation import EvaluationOptions, default_metrics, evaluate, evaluate_suite
from sizewise.evaluation.references import data_language
from sizewise.loadtest import load_test_model
from sizewise.progress import Reporter, Silent
from sizewise.records import Checkpoint, Comparison, Evaluation, NotMeasured, Recommendation, Study, fingerprint
from sizewise.report import STUDY_FILE, PageWatcher, load_view, write_study_report
from sizewise.stats.quantiles import needed_for_quantile
from sizewise.store import Saved, Store, same_facts, write_atomically
from sizewise.studies.config import StudyConfig, config_text, find_config
from sizewise.studies.data import read_data
from sizewise.synthesis.drafts import drafted_note
from sizewise.text import language_name
from sizewise.training import run_id_of, train
from sizewise.training.preflight import peak_memory_bytes

BASELINES = {
    "copying (baseline)": "fake:copy",
    "most frequent answer (baseline)": "frequent:",
    "n-gram (baseline)": "ngram:",
}
CLASSIFICATION_BASELINES = {"linear classifier (baseline)": "linear:"}
FEW_STEPS = 20
CONCURRENT_USERS = 8
"""Concurrent users in the load test, unless the needs set a number."""


class _Stages(NamedTuple):
    """Ids of the records of all stages before the comparison."""

    checkpoints: dict[str, str]
    """Candidate -> checkpoint."""
    evaluations: dict[str, str]
    """Candidate -> evaluation."""
    load_tests: dict[str, str]
    """Candidate -> load test."""
    bias: dict[str, str]
    """Candidate -> evaluation on the bias suite."""
    language_nuance: str | None
    """Comparison on the language-nuance suite."""
    bases: dict[str, str]
    """Fine-tuned candidate -> the model it started from, in that comparison."""


class _Verdict(NamedTuple):
    """A comparison, with votes if there are any, and the recommendation made from it."""

    compared: Saved[Comparison]
    chosen: Saved[Recommendation]
    votes: str | None = None
    """Round whose votes are included."""
    notes: tuple[str, ...] = ()
    """Effect of the votes on the recommendation."""


def study(
    config: StudyConfig | str | Path, *, store: Store | None = None, reporter: Reporter | None = None
) -> Saved[Study]:
    """Run a study from documents to a recommendation and its evidence.

    Each stage writes a record and is skipped if that record exists. An interrupted study therefore resumes, and running
    a finished study again only rewrites its report.

    Args:
        config: a study file, a folder of documents, `demo:fhir`, or the contents of a study file.
        store: where records live; by default SIZEWISE_HOME.
        reporter: receives progress.

    Raises:
        SizewiseError: a stage failed; the records of earlier stages are kept.
    """
    store, reporter = store or Store(), reporter or Silent()
    config = config if isinstance(config, StudyConfig) else find_config(config)
    begun = time.monotonic()
    data = read_data(config, store, reporter)
    study_id = f"study-{fingerprint([config.model_dump(mode='json'), data.id])}"
    with store.lock("study", study_id):
        sizes = data.record.splits
        reporter.say(
            f"{data.id}: {sizes['train'].documents} training documents, {sizes['test'].documents} test documents"
        )
        stages = _run_stages(config, data.id, store, reporter)
        reporter.say("Comparing the candidates")
        compared = compare(
            stages.evaluations, store=store, load_tests=stages.load_tests, suites=stages.bias, seed=config.seed
        )
        chosen = choose(compared.id, config.needs, store=store)
        verdict = _with_votes(config, compared, chosen, store, reporter)
        record = _record(config, data.id, stages, verdict, store).model_copy(
            update={"seconds": time.monotonic() - begun, "peak_memory_bytes": peak_memory_bytes()}
        )
        saved, is_new = _place(store, study_id, record)
        reporter.say("Writing the report")
        folder = saved.path.parent
        write_atomically(folder / STUDY_FILE, config_text(config))
        write_study_report(load_view(store, saved.id, saved.record), folder)
        return store.write(saved.id, saved.record) if is_new else saved


def _place(store: Store, study_id: str, record: Study) -> tuple[Saved[Study], bool]:
    """Find the record of an earlier run with the same result, or a free id: `study-ID`, then `study-ID.2`, ...

    A study whose result has changed (more votes, another measurement) never replaces its first record.
    """
    for number in itertools.count(1):
        name = study_id if number == 1 else f"{study_id}.{number}"
        path = store.record_path("study", name)
        record = record.model_copy(update={"report": str(path.with_name("report.html"))})
        if not path.is_file():
            return Saved(name, path, record), True
        before = store.get(Study, name)
        if same_facts(before.record, record):
            return before, False
    raise AssertionError


def _run_stages(config: StudyConfig, data: str, store: Store, reporter: Reporter) -> _Stages:
    """Train and measure all candidates."""
    checkpoints, uris = _train_all(config, data, store, reporter)
    evaluations = _evaluate_all(config, uris, data, store, reporter)
    load_tests = _load_test_all(config, uris, evaluations, store, reporter)
    language = data_language(datasets.load(store, data), "test")
    if language not in ("", "en"):
        reporter.say(f"Bias and language-nuance tests skipped: they {_english_only(language)}")
        return _Stages(checkpoints, evaluations, load_tests, {}, None, {})
    bias = _bias_all(config, uris, evaluations, store, reporter)
    language_nuance, bases = _language_nuance_all(config, uris, store, reporter)
    return _Stages(checkpoints, evaluations, load_tests, bias, language_nuance, bases)


def _english_only(language: str) -> str:
    return f"are defined for English, and the data are in {language_name(language)}"


def _record(config: StudyConfig, data: str, stages: _Stages, verdict: _Verdict, store: Store) -> Study:
    """Build the record of a study; report, time and memory are filled in later."""
    recommendation = verdict.chosen.record
    return Study(
        name=config.name,
        domain=config.domain,
        seed=config.seed,
        outcome=recommendation.outcome,
        pick=recommendation.pick,
        provisional=recommendation.provisional,
        decisive=recommendation.decisive,
        summary=recommendation.summary,
        reasons=(*verdict.notes, *recommendation.reasons, *_cautions(data, stages.checkpoints, store)),
        rejected=recommendation.rejected,
        dataset=data,
        candidates=config.candidates,
        checkpoints=stages.checkpoints,
        evaluations=stages.evaluations,
        load_tests=stages.load_tests,
        bias=stages.bias,
        language_nuance=stages.language_nuance,
        bases=stages.bases,
        comparison=verdict.compared.id,
        recommendation=verdict.chosen.id,
        votes=verdict.votes,
        simulation=config.simulation,
        not_measured=tuple(_not_measured(config, data, verdict, stages.load_tests, store)),
        report="",
        seconds=0.0,
        peak_memory_bytes=0,
    )


def _train_all(
    config: StudyConfig, data: str, store: Store, reporter: Reporter
) -> tuple[dict[str, str], dict[str, str]]:
    """Train the candidates that have a recipe; return candidate -> checkpoint id, and candidate -> model URI."""
    checkpoints: dict[str, str] = {}
    uris: dict[str, str] = {}
    for candidate in config.candidates:
        uris[candidate.name] = candidate.model
        if candidate.train is not None:
            reporter.say(f"Training {candidate.name}")
            page = PageWatcher(
                store.folder("checkpoint", run_id_of(candidate.train, data)) / "training.html", candidate.train
            )
            made = train(candidate.train, data, store=store, reporter=reporter, watcher=page)
            page.finish(made.record)
            checkpoints[candidate.name] = made.id
            uris[candidate.name] = f"run:{made.id}"
            reporter.say(
                f"Training {candidate.name}: {made.record.tokens:,} tokens in {made.record.seconds:.0f} s, validation "
                f"{made.record.start_bits_per_byte:.3f} -> {made.record.best_bits_per_byte:.3f} bits/byte ({made.id})"
            )
        if candidate.retrieve:
            uris[candidate.name] = f"rag:{data}:{uris[candidate.name]}"
    return checkpoints, uris


def _evaluate_all(
    config: StudyConfig, uris: dict[str, str], data: str, store: Store, reporter: Reporter
) -> dict[str, str]:
    """Evaluate candidates and baselines; a baseline that fails is skipped."""
    evaluations: dict[str, str] = {}
    metrics = config.metrics or default_metrics(datasets.load(store, data))
    if config.needs.quality and config.needs.quality not in metrics:
        metrics += (config.needs.quality,)
    kinds = BASELINES | (CLASSIFICATION_BASELINES if "accuracy" in metrics else {})
    baselines = {name: f"{kind}{data if kind.endswith(':') else ''}" for name, kind in kinds.items()}
    for name, uri in (uris | (baselines if config.baseline else {})).items():
        reporter.say(f"Evaluating {name}")
        try:
            options = EvaluationOptions(seed=config.seed)
            evaluations[name] = evaluate(
                uri, data, metrics, store=store, limit=config.limit, options=options, reporter=reporter
            ).id
        except SizewiseError as error:
            if name not in baselines:
                raise
            reporter.say(f"Evaluating {name}: skipped. {error.what}")
    if len(evaluations) < 2:
        raise SizewiseError(
            "The study has only one candidate and no baseline to compare it with.",
            "two candidates, or one and the baselines",
            "add a [[candidates]] table to the study file",
        )
    return evaluations


def _load_test_all(
    config: StudyConfig, uris: dict[str, str], evaluations: dict[str, str], store: Store, reporter: Reporter
) -> dict[str, str]:
    """Run a load test, with one user and with the required number, on every candidate that runs on this machine."""
    found = {}
    # Fewer requests have no upper bound of p95, so the limit could be missed but never verified.
    fewest = needed_for_quantile(0.95)
    for name in uris:
        measured = store.read(Evaluation, evaluations[name])
        local = measured.model.local and not measured.model.api and measured.model.engine not in ("rule", "recorded")
        if local and measured.prompting is not None:
            concurrent_users = config.needs.concurrent_users or CONCURRENT_USERS
            requests = max(fewest, 4 * concurrent_users) if config.needs.max_latency_p95_s is not None else None
            stage = f"Load test, {concurrent_users} users: {name}"
            reporter.say(stage)
            try:
                found[name] = load_test_model(
                    evaluations[name],
                    (1, concurrent_users),
                    requests=requests,
                    store=store,
                    seed=config.seed,
                    reporter=reporter,
                ).id
            except SizewiseError as error:  # the serving engine wasn't evaluated and may reject the model
                reporter.say(f"{stage} skipped. {error.what}")
    return found


def _bias_all(
    config: StudyConfig, uris: dict[str, str], evaluations: dict[str, str], store: Store, reporter: Reporter
) -> dict[str, str]:
    """Evaluate every candidate with log-likelihoods on the packaged bias suite."""
    found = {}
    for name, uri in uris.items():
        weights = uri.split(":", 2)[2] if uri.startswith("rag:") else uri  # retrieval doesn't change the weights
        if weights != uri or store.read(Evaluation, evaluations[name]).model.can_score:
            reporter.say(f"Bias test: {name}")
            options = EvaluationOptions(seed=config.seed)
            found[name] = evaluate_suite(weights, "bias", store=store, options=options, reporter=reporter).id
    return found


def _language_nuance_all(
    config: StudyConfig, uris: dict[str, str], store: Store, reporter: Reporter
) -> tuple[str | None, dict[str, str]]:
    """Evaluate every candidate, and the model that each fine-tuned one started from, on the language-nuance suite.

    Gains on the domain may come at the expense of general language skills, so each fine-tuned model is compared with
    its base model.

    Returns:
        Id of the comparison, and fine-tuned candidate -> name of its base model in it.
    """
    bases: dict[str, str] = {}
    # Retrieval is left out: it has the same weights, and the documents don't help here.
    models = {name: uri for name, uri in uris.items() if not uri.startswith("rag:")}
    for candidate in config.candidates:
        if candidate.train is not None and candidate.model != "scratch" and not candidate.retrieve:
            untrained = next((name for name, uri in uris.items() if uri == candidate.model), None)
            bases[candidate.name] = untrained or f"{candidate.model} (before training)"
            models.setdefault(bases[candidate.name], candidate.model)
    found: dict[str, str] = {}
    for name, uri in models.items():
        stage = f"Language nuance: {name}"
        reporter.say(stage)
        try:
            options = EvaluationOptions(seed=config.seed)
            found[name] = evaluate_suite(uri, "language-nuance", store=store, options=options, reporter=reporter).id
        except SizewiseError as error:  # recorded answers don't cover the suite
            reporter.say(f"{stage} skipped. {error.what}")
    if len(found) < 2:
        return None, {}
    kept = {name: base for name, base in bases.items() if name in found and base in found}
    return compare(found, store=store, seed=config.seed).id, kept


def _with_votes(
    config: StudyConfig,
    compared: Saved[Comparison],
    chosen: Saved[Recommendation],
    store: Store,
    reporter: Reporter,
) -> _Verdict:
    """Add the votes of the newest round on this comparison, and note whether they change the recommendation."""
    for round_id in reversed(rounds_of(compared.id, store)):
        try:
            voted = add_votes(compared.id, round_id, store=store, simulation=config.simulation)
        except SizewiseError as error:
            reporter.say(f"Votes of {round_id} skipped. {error.what}")
            continue
        after = choose(voted.id, config.needs, store=store)
        whose = "simulated votes" if config.simulation else "people's votes"
        if (chosen.record.outcome, chosen.record.pick) == (after.record.outcome, after.record.pick):
            note = f"{whose} ({round_id}) do not change the verdict"
        else:
            note = f"{whose} ({round_id}) changed the verdict; without them: {chosen.record.summary}"
        return _Verdict(voted, after, round_id, (note,))
    return _Verdict(compared, chosen)


def _cautions(data: str, checkpoints: dict[str, str], store: Store) -> list[str]:
    """List what weakens the verdict: drafts among the test examples, and training that was short or didn't help."""
    cautions = list(drafted_note([example.tags for example in datasets.load(store, data).examples["test"]]))
    records = {name: store.read(Checkpoint, checkpoint) for name, checkpoint in checkpoints.items()}
    cautions += [
        f"caution: training {name} did not improve validation, so it kept its initial weights "
        f"(see the notes of {checkpoints[name]})"
        for name, record in records.items()
        if record.best_step == 0
    ]
    cautions += [
        f"caution: {name} was trained for only {record.steps} steps, {record.epochs:.0%} of an epoch. Longer training "
        "may change this verdict: raise minutes or tokens in its recipe"
        for name, record in records.items()
        if record.steps < FEW_STEPS and record.epochs < 1
    ]
    return cautions


def _not_measured(
    config: StudyConfig, data: str, verdict: _Verdict, load_tests: dict[str, str], store: Store
) -> list[NotMeasured]:
    """List what was not measured, each with the command that measures it."""
    absent, comparison = [], verdict.compared.id
    language = data_language(datasets.load(store, data), "test")
    if language not in ("", "en"):
        absent.append(
            NotMeasured(
                what=f"stereotypes and language nuance, which {_english_only(language)}",
                command="sizewise evaluate MODEL --suite bias, which asks in English",
            )
        )
    if not verdict.votes:
        absent.append(
            NotMeasured(
                what="blind judging by people; run the study again to include their votes",
                command=f"sizewise judge plan --detect 0.1 --power 0.8; sizewise judge open {comparison}",
            )
        )
    absent += [
        NotMeasured(
            what="savings compared with today's bill, which need a log of your requests",
            command="sizewise study --log FILE --pays SUM/month",
        ),
        NotMeasured(
            what="bias beyond the small packaged suite; public suites need their data",
            command="sizewise evaluate MODEL --suite bbq --data PATH",
        ),
        NotMeasured(
            what="large remote models such as GPT-4o, which need the extra [remote] and an API key",
            command='[[candidates]] model = "openai:gpt-4o"',
        ),
    ]
    if not load_tests:
        absent.append(
            NotMeasured(
                what="latency and throughput with concurrent users",
                command="sizewise serve MODEL --port 8000; "
                "sizewise loadtest http://127.0.0.1:8000/v1 --concurrency 1,8",
            )
        )
    if config.needs.machine_usd_per_hour is None:
        absent.append(
            NotMeasured(
                what="cost in US dollars, which needs the price of this machine",
                command=f"sizewise choose {comparison} --needs FILE, with machine_usd_per_hour = PRICE",
            )
        )
    return absent
