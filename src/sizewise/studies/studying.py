"""study(): read, train, evaluate, compare, choose, report. Each stage is a record that is made once."""

from __future__ import annotations

import time

from sizewise import datasets
from sizewise.choice import choose
from sizewise.comparison import add_votes, compare, rounds_of
from sizewise.errors import SizewiseError
from sizewise.evaluation import EvaluationOptions, default_metrics, evaluate, evaluate_suite
from sizewise.loadtest import load_test_model
from sizewise.progress import Reporter, Silent
from sizewise.records import Checkpoint, Comparison, Evaluation, NotMeasured, Recommendation, Study, fingerprint
from sizewise.report import STUDY_FILE, PageWatcher, load_view, write_study_report
from sizewise.store import Saved, Store, write_atomically
from sizewise.studies.config import StudyConfig, config_text
from sizewise.synthesis.drafts import drafted_note
from sizewise.training import run_id_of, train
from sizewise.training.preflight import peak_memory_bytes

BASELINES = {
    "copying (baseline)": "fake:copy",
    "most frequent answer (baseline)": "frequent:",
    "n-gram (baseline)": "ngram:",
}


BASELINES_OF_LABELS = {"linear classifier (baseline)": "linear:"}
FEW_STEPS = 20
USERS = 8
"""Users at once, where the needs do not say how many."""


def study(config: StudyConfig, *, store: Store | None = None, reporter: Reporter | None = None) -> Saved[Study]:
    """Take documents to a decision and its proof.

    Every stage writes a record and is skipped where that record exists, so a study that was stopped goes on
    where it was, and the same study again only writes its report anew.

    Args:
        config: what the study file says.
        store: where records live; by default SIZEWISE_HOME.
        reporter: told how far it is.

    Raises:
        SizewiseError: a stage failed; what was done before it is kept.
    """
    store, reporter = store or Store(), reporter or Silent()
    begun = time.monotonic()
    reporter.say(f"reading {', '.join(config.documents + config.examples)}")
    sources = [*config.documents, *config.examples]
    data = datasets.read(sources, store=store, name=config.name, domain=config.domain, seed=config.seed)
    study_id = f"study-{fingerprint([config.model_dump(mode='json'), data.id])}"
    with store.lock("study", study_id):
        sizes = data.record.splits
        reporter.say(
            f"{data.id}: {sizes['train'].documents} documents to train on, {sizes['test'].documents} to test with"
        )
        checkpoints, uris = _train_all(config, data.id, store, reporter)
        evaluations = _evaluate_all(config, uris, data.id, store, reporter)
        load_tests = _crowds(config, uris, evaluations, store, reporter)
        bias = _bias_all(config, uris, evaluations, store, reporter)
        general, bases = _general_all(config, uris, store, reporter)
        reporter.say("comparing")
        compared = compare(evaluations, store=store, load_tests=load_tests, suites=bias, seed=config.seed)
        chosen = choose(compared.id, config.needs, store=store)
        compared, chosen, votes, changed = _with_votes(config, compared, chosen, store, reporter)
        folder = store.folder("study", study_id)
        recommendation = chosen.record
        record = Study(
            name=config.name,
            domain=config.domain,
            seed=config.seed,
            outcome=recommendation.outcome,
            pick=recommendation.pick,
            decisive=recommendation.decisive,
            summary=recommendation.summary,
            reasons=(*changed, *recommendation.reasons, *_cautions(data.id, checkpoints, store)),
            rejected=recommendation.rejected,
            dataset=data.id,
            candidates=config.candidates,
            checkpoints=checkpoints,
            evaluations=evaluations,
            load_tests=load_tests,
            bias=bias,
            language_nuance=general,
            bases=bases,
            comparison=compared.id,
            recommendation=chosen.id,
            votes=votes,
            simulation=config.simulation,
            not_measured=tuple(_not_measured(config, compared.id, votes, load_tests)),
            report=str(folder / "report.html"),
            seconds=time.monotonic() - begun,
            peak_memory_bytes=peak_memory_bytes(),
        )
        stored = _earlier(store, study_id, record)
        reporter.say("writing the report")
        shown = stored.record if stored else record
        write_atomically(folder / STUDY_FILE, config_text(config))
        write_study_report(load_view(store, study_id, shown), folder)
        return stored or store.write(study_id, record)


def _earlier(store: Store, study_id: str, record: Study) -> Saved[Study] | None:
    """Give the record of an earlier run that found the same: what that run took stays on record."""
    if not store.exists("study", study_id):
        return None
    before = store.get(Study, study_id)
    taken = {"seconds": before.record.seconds, "peak_memory_bytes": before.record.peak_memory_bytes}
    return before if record.model_copy(update=taken) == before.record else None


def _train_all(
    config: StudyConfig, data: str, store: Store, reporter: Reporter
) -> tuple[dict[str, str], dict[str, str]]:
    """Train what is to be trained; give candidate -> checkpoint id, and candidate -> model URI."""
    checkpoints: dict[str, str] = {}
    uris: dict[str, str] = {}
    for candidate in config.candidates:
        uris[candidate.name] = candidate.model
        if candidate.train is not None:
            reporter.say(f"training {candidate.name}")
            page = PageWatcher(
                store.folder("checkpoint", run_id_of(candidate.train, data)) / "training.html", candidate.train
            )
            made = train(candidate.train, data, store=store, reporter=reporter, watcher=page)
            page.finish(made.record)
            checkpoints[candidate.name] = made.id
            uris[candidate.name] = f"run:{made.id}"
            reporter.say(
                f"{made.id}: {made.record.start_bits_per_byte:.3f} -> {made.record.best_bits_per_byte:.3f} "
                f"bits/byte in validation, {made.record.tokens:,} tokens, {made.record.seconds:.0f} s"
            )
        if candidate.retrieve:
            uris[candidate.name] = f"rag:{data}:{uris[candidate.name]}"
    return checkpoints, uris


def _evaluate_all(
    config: StudyConfig, uris: dict[str, str], data: str, store: Store, reporter: Reporter
) -> dict[str, str]:
    evaluations: dict[str, str] = {}
    metrics = config.metrics or default_metrics(datasets.load(store, data))
    if config.needs.quality and config.needs.quality not in metrics:
        metrics += (config.needs.quality,)
    kinds = BASELINES | (BASELINES_OF_LABELS if "accuracy" in metrics else {})
    baselines = {name: f"{kind}{data if kind.endswith(':') else ''}" for name, kind in kinds.items()}
    measured = uris | (baselines if config.baseline else {})
    for name, uri in measured.items():
        reporter.say(f"measuring {name}")
        try:
            options = EvaluationOptions(seed=config.seed)
            evaluations[name] = evaluate(
                uri, data, metrics, store=store, limit=config.limit, options=options, reporter=reporter
            ).id
        except SizewiseError as error:
            if name not in baselines:
                raise
            reporter.say(f"{name} is left out: {error.what}")
    if len(evaluations) < 2:
        raise SizewiseError(
            "There is only one candidate and nothing to compare it with.",
            "two candidates, or the baseline",
            "add a [[candidates]] table to the study file",
        )
    return evaluations


def _crowds(
    config: StudyConfig, uris: dict[str, str], evaluations: dict[str, str], store: Store, reporter: Reporter
) -> dict[str, str]:
    """Let one user, and as many as are needed, ask every candidate that answers on this machine."""
    found = {}
    for name in uris:
        measured = store.read(Evaluation, evaluations[name])
        here = measured.model.local and not measured.model.api and measured.model.engine not in ("rule", "recorded")
        if here and measured.prompting is not None:
            concurrent_users = config.needs.concurrent_users or USERS
            reporter.say(f"letting {concurrent_users} users at once ask {name}")
            try:
                found[name] = load_test_model(
                    evaluations[name], (1, concurrent_users), store=store, seed=config.seed, reporter=reporter
                ).id
            except SizewiseError as error:  # the engine that serves is another one than that which measured
                reporter.say(f"{name} is left out there: {error.what}")
    return found


def _bias_all(
    config: StudyConfig, uris: dict[str, str], evaluations: dict[str, str], store: Store, reporter: Reporter
) -> dict[str, str]:
    """Measure the packaged bias set with every candidate that gives log-likelihoods."""
    found = {}
    for name, uri in uris.items():
        weights = uri.split(":", 2)[2] if uri.startswith("rag:") else uri  # looking things up changes no weights
        if weights != uri or store.read(Evaluation, evaluations[name]).model.can_score:
            reporter.say(f"weighing bias of {name}")
            options = EvaluationOptions(seed=config.seed)
            found[name] = evaluate_suite(weights, "bias", store=store, options=options, reporter=reporter).id
    return found


def _general_all(
    config: StudyConfig, uris: dict[str, str], store: Store, reporter: Reporter
) -> tuple[str | None, dict[str, str]]:
    """Ask the packaged general questions of every candidate, and of what each trained one started from.

    What training gained on the domain it may have lost elsewhere: both are set side by side.
    """
    bases: dict[str, str] = {}
    asked = {name: uri for name, uri in uris.items() if not uri.startswith("rag:")}  # the same weights, asked in vain
    for candidate in config.candidates:
        if candidate.train is not None and candidate.model != "scratch" and not candidate.retrieve:
            untrained = next((name for name, uri in uris.items() if uri == candidate.model), None)
            bases[candidate.name] = untrained or f"{candidate.model} (before training)"
            asked.setdefault(bases[candidate.name], candidate.model)
    found: dict[str, str] = {}
    for name, uri in asked.items():
        reporter.say(f"asking general questions of {name}")
        try:
            options = EvaluationOptions(seed=config.seed)
            found[name] = evaluate_suite(uri, "language-nuance", store=store, options=options, reporter=reporter).id
        except SizewiseError as error:  # recorded answers hold none
            reporter.say(f"{name} is left out there: {error.what}")
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
) -> tuple[Saved[Comparison], Saved[Recommendation], str | None, tuple[str, ...]]:
    """Let in the votes of the newest round on this comparison, and say whether they change the verdict."""
    for round_id in reversed(rounds_of(compared.id, store)):
        try:
            voted = add_votes(compared.id, round_id, store=store, simulation=config.simulation)
        except SizewiseError as error:
            reporter.say(f"{round_id} is left out: {error.what}")
            continue
        after = choose(voted.id, config.needs, store=store)
        whose = "simulated votes" if config.simulation else "people's votes"
        before, now = chosen.record, after.record
        if (before.outcome, before.pick) == (now.outcome, now.pick):
            said = f"{whose} ({round_id}) do not change the verdict"
        else:
            said = f"{whose} ({round_id}) changed the verdict; without them: {before.summary}"
        return voted, after, round_id, (said,)
    return compared, chosen, None, ()


def _cautions(data: str, checkpoints: dict[str, str], store: Store) -> list[str]:
    """Say which examples are drafts, and which trainings improved nothing: their weights are those before."""
    drafts = drafted_note([example.tags for example in datasets.load(store, data).examples["test"]])
    return (
        list(drafts)
        + [
            f"caution: training {name} improved nothing in validation, so its weights are those before training "
            f"(see the notes of {checkpoint})"
            for name, checkpoint in checkpoints.items()
            if store.read(Checkpoint, checkpoint).best_step == 0
        ]
        + [
            f"caution: {name} was trained for {made.steps} steps only, {made.epochs:.0%} of a pass over its text: this "
            "verdict says little of what longer training would do (minutes, tokens or epochs in its recipe)"
            for name, made in ((name, store.read(Checkpoint, one)) for name, one in checkpoints.items())
            if made.steps < FEW_STEPS and made.epochs < 1
        ]
    )


def _not_measured(
    config: StudyConfig, comparison: str, votes: str | None, load_tests: dict[str, str]
) -> list[NotMeasured]:
    """Say what was not measured, and what would measure it."""
    judged = NotMeasured(
        what="people's blind judgement of the answers; it enters when the study is run again",
        command=f"sizewise judge plan --detect 0.1 --power 0.8; sizewise judge open {comparison}",
    )
    missing = [
        *([] if votes else [judged]),
        NotMeasured(
            what="the saving against what is paid today: it takes a log of what is asked now",
            command="sizewise study --log FILE --pays SUM/month",
        ),
        NotMeasured(
            what="bias beyond the small set in the package (public suites, with their data)",
            command="sizewise evaluate MODEL --suite bbq --data PATH",
        ),
        NotMeasured(
            what="large remote models such as GPT-4o (extra [remote], and a key)",
            command='[[candidates]] model = "openai:gpt-4o"',
        ),
    ]
    if not load_tests:
        missing.append(
            NotMeasured(
                what="speed with many users at once",
                command="sizewise serve MODEL --port 8000; sizewise loadtest http://127.0.0.1:8000/v1 --concurrency 1,8",
            )
        )
    if config.needs.machine_usd_per_hour is None:
        missing.append(
            NotMeasured(
                what="cost in money",
                command=f"sizewise choose {comparison} --needs FILE, with machine_usd_per_hour = PRICE",
            )
        )
    return missing
