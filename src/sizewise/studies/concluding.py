"""From the evidence of a study to its verdict and its record."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sizewise import datasets
from sizewise.choice import choose
from sizewise.comparison import add_votes, compare, rounds_of
from sizewise.datasets.studied import question_of
from sizewise.errors import SizewiseError
from sizewise.evaluation.references import data_language
from sizewise.models.list_costs import list_costs
from sizewise.progress import Reporter
from sizewise.records import Checkpoint, Comparison, Dataset, ItemRow, NotMeasured, Recommendation, Study
from sizewise.store import Saved, Store
from sizewise.studies.config import StudyConfig
from sizewise.studies.measuring import is_larger
from sizewise.synthesis.drafts import drafted_note
from sizewise.text import language_name

FEW_STEPS = 20


@dataclass
class Evidence:
    """Ids of the records that a study has made so far."""

    data: str
    """Dataset."""
    uris: dict[str, str] = field(default_factory=dict)
    """Candidate -> model URI, once the model exists; baselines are left out."""
    checkpoints: dict[str, str] = field(default_factory=dict)
    """Candidate -> checkpoint of a language model."""
    classifiers: dict[str, str] = field(default_factory=dict)
    """Candidate -> classifier."""
    evaluations: dict[str, str] = field(default_factory=dict)
    """Candidate or baseline -> its evaluation on most items."""
    measured: dict[str, int] = field(default_factory=dict)
    """Candidate or baseline -> items of that evaluation."""
    load_tests: dict[str, str] = field(default_factory=dict)
    """Candidate -> load test."""
    bias: dict[str, str] = field(default_factory=dict)
    """Candidate -> evaluation on the bias suite."""
    nuance: dict[str, str] = field(default_factory=dict)
    """Candidate or base model -> evaluation on the language-nuance suite."""
    suites: dict[str, dict[str, str]] = field(default_factory=dict)
    """Further test -> candidate or base model -> its evaluation."""
    bases: dict[str, str] = field(default_factory=dict)
    """Fine-tuned candidate -> name of the model it started from."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Candidate -> why no further items were spent on it."""
    failed: dict[str, SizewiseError] = field(default_factory=dict)
    """Candidate or step -> why it failed."""
    unfinished: dict[str, NotMeasured] = field(default_factory=dict)
    """Parts that had no room."""

    def found(self, test: str) -> dict[str, str]:
        """Return the evaluations of a further test, to be filled."""
        return self.suites.setdefault(test, {})

    def partial(self) -> tuple[str, ...]:
        """List candidates that were measured on fewer items than others."""
        most = max(self.measured.values(), default=0)
        return tuple(name for name, items in self.measured.items() if items < most)

    def sample(self, store: Store, names: Sequence[str]) -> tuple[str, dict[str, str]]:
        """Return the prompt of the first test example, and what the candidates answered."""
        prompt, answers = "", {}
        wanted = None
        for name in names:
            rows = store.rows(store.folder("evaluation", self.evaluations[name]), "items.jsonl", ItemRow).plain()
            for row in rows:
                if row.get("kind") == "example" and wanted in (None, row["item"]):
                    wanted, prompt = row["item"], str(row.get("prompt") or "")
                    answers[name] = str(row.get("completion") or "")
                    break
        return prompt, answers


class Conclusion(NamedTuple):
    """A comparison, with votes if there are any, and the recommendation made from it."""

    compared: Saved[Comparison]
    chosen: Saved[Recommendation]
    votes: str | None = None
    """Round whose votes are included."""
    notes: tuple[str, ...] = ()
    """Effect of the votes on the recommendation."""
    nuance: str | None = None
    """Comparison on the language-nuance suite."""
    bases: dict[str, str] = {}  # noqa: RUF012 - never changed
    """Fine-tuned candidate -> name of its base model in that comparison."""
    suites: dict[str, str] = {}  # noqa: RUF012 - never changed
    """Further test -> comparison on it."""

    @property
    def quality(self) -> str:
        """Quality metric of the recommendation."""
        return self.chosen.record.quality


def conclude(
    config: StudyConfig, evidence: Evidence, store: Store, reporter: Reporter, *, final: bool = False
) -> Conclusion:
    """Compare what was measured, and choose.

    Args:
        config: the study.
        evidence: what was measured, of at least two candidates.
        store: where records live.
        reporter: receives progress.
        final: whether to include people's votes.

    Raises:
        SizewiseError: the evaluations can't be compared, or lack the quality metric.
    """
    order = [*(one.name for one in config.candidates), *evidence.evaluations]
    evaluations = {name: evidence.evaluations[name] for name in order if name in evidence.evaluations}
    compared = compare(
        evaluations,
        store=store,
        load_tests=evidence.load_tests,
        suites=evidence.bias,
        partial=evidence.partial(),
        seed=config.seed,
    )
    chosen = _choose(config, compared, store)
    nuance, bases = _compare_nuance(config, evidence, store)
    found = Conclusion(compared, chosen, nuance=nuance, bases=bases, suites=_compare_suites(config, evidence, store))
    return _with_votes(config, found, store, reporter) if final else found


def _choose(config: StudyConfig, compared: Saved[Comparison], store: Store) -> Saved[Recommendation]:
    """Decide, and leave the verdict open where a candidate that might win wasn't measured."""
    needs, measured = config.needs, compared.record.evaluations
    if needs.incumbent is not None and needs.incumbent not in measured:  # nothing to compare with
        needs = needs.model_copy(update={"incumbent": None, "max_loss": None})
    if needs.today is not None and needs.today not in measured:
        needs = needs.model_copy(update={"today": None})  # no cost to compare with
    chosen = choose(compared.id, needs, store=store)
    absent = [one for one in config.candidates if one.name not in measured]
    picked = next((one for one in config.candidates if one.name == chosen.record.pick), None)
    smallest_wins = needs.min_quality is not None or needs.incumbent is not None
    if smallest_wins and picked is not None:
        absent = [one for one in absent if not is_larger(one, picked)]
    names = [one.name for one in absent]
    return choose(compared.id, needs, unmeasured=names, store=store) if names else chosen


def _compare_nuance(config: StudyConfig, evidence: Evidence, store: Store) -> tuple[str | None, dict[str, str]]:
    """Compare candidates and base models on the language-nuance suite, as far as they answered the same items."""
    found = evidence.nuance
    if len(found) < 2:
        return None, {}
    bases = {name: base for name, base in evidence.bases.items() if name in found and base in found}
    try:
        return compare(found, store=store, seed=config.seed).id, bases
    except SizewiseError:  # none of them was measured like another one
        return None, {}


def _compare_suites(config: StudyConfig, evidence: Evidence, store: Store) -> dict[str, str]:
    """Compare candidates and base models on each further test, as far as they were measured alike."""
    found = {}
    for test, evaluations in evidence.suites.items():
        if len(evaluations) > 1:
            with contextlib.suppress(SizewiseError):  # none of them was measured like another one
                found[test] = compare(evaluations, store=store, seed=config.seed).id
    return found


def _with_votes(config: StudyConfig, found: Conclusion, store: Store, reporter: Reporter) -> Conclusion:
    """Add the votes of the newest round on this comparison, and note whether they change the recommendation."""
    for round_id in reversed(rounds_of(found.compared.id, store)):
        try:
            voted = add_votes(found.compared.id, round_id, store=store, simulation=config.simulation)
        except SizewiseError as error:
            reporter.say(f"Votes of {round_id} skipped. {error.what}")
            continue
        after, before = _choose(config, voted, store), found.chosen.record
        whose = "simulated votes" if config.simulation else "people's votes"
        if (before.outcome, before.pick) == (after.record.outcome, after.record.pick):
            note = f"{whose} ({round_id}) do not change the verdict"
        else:
            note = f"{whose} ({round_id}) changed the verdict; without them: {before.summary}"
        return found._replace(compared=voted, chosen=after, votes=round_id, notes=(note,))
    return found


def record_of(
    config: StudyConfig, evidence: Evidence, conclusion: Conclusion, minutes: float | None, store: Store
) -> Study:
    """Build the record of a study; report, time and memory are filled in later."""
    chosen = conclusion.chosen.record
    return Study(
        name=config.name,
        domain=config.domain,
        seed=config.seed,
        outcome=chosen.outcome,
        pick=chosen.pick,
        provisional=chosen.provisional,
        decisive=chosen.decisive,
        summary=chosen.summary,
        reasons=(*conclusion.notes, *chosen.reasons, *_cautions(evidence, store)),
        question=question_of(store.read(Dataset, evidence.data)),
        rejected=chosen.rejected,
        dataset=evidence.data,
        candidates=config.candidates,
        checkpoints=evidence.checkpoints,
        classifiers=evidence.classifiers,
        evaluations=conclusion.compared.record.evaluations,
        load_tests=evidence.load_tests,
        bias=evidence.bias,
        language_nuance=conclusion.nuance,
        bases=conclusion.bases,
        suite_comparisons=conclusion.suites,
        list_costs=list_costs(conclusion.compared.record),
        comparison=conclusion.compared.id,
        recommendation=conclusion.chosen.id,
        votes=conclusion.votes,
        simulation=config.simulation,
        not_measured=tuple(_not_measured(config, evidence, conclusion, store)),
        minutes=minutes,
        unfinished=tuple(evidence.unfinished.values()),
        stopped=evidence.stopped,
        report="",
        seconds=0.0,
        peak_memory_bytes=0,
    )


def _cautions(evidence: Evidence, store: Store) -> list[str]:
    """List what weakens the verdict: drafts among the test examples, and training that was short or didn't help."""
    examples = datasets.load(store, evidence.data).examples
    cautions = list(drafted_note(*([example.tags for example in examples[split]] for split in ("test", "train"))))
    records = {name: store.read(Checkpoint, checkpoint) for name, checkpoint in evidence.checkpoints.items()}
    cautions += [
        f"caution: training {name} did not improve validation, so it kept its initial weights "
        f"(see the notes of {evidence.checkpoints[name]})"
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


def _not_measured(config: StudyConfig, evidence: Evidence, conclusion: Conclusion, store: Store) -> list[NotMeasured]:
    """List what was not measured, each with the command that measures it."""
    comparison = conclusion.compared.id
    absent = [
        NotMeasured(
            what=f"{name}, which failed: {error.what.splitlines()[0]}",
            command=error.next_step or "run the same command again",
        )
        for name, error in evidence.failed.items()
    ]
    language = data_language(datasets.load(store, evidence.data), "test")
    if language not in ("", "en"):
        absent.append(
            NotMeasured(
                what="stereotypes and language nuance, which are defined for English, and the data are in "
                f"{language_name(language)}",
                command="sizewise evaluate MODEL --suite bias, which asks in English",
            )
        )
    if not conclusion.votes:
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
    ]
    if not any(model.hosted for model in conclusion.compared.record.models.values()):
        absent.append(
            NotMeasured(
                what="large models such as GPT-4o, which need the extra [remote] and an API key, or recorded answers",
                command='[[candidates]] model = "openai:gpt-4o", or model = "recorded:FILE" with of = "gpt-4o"',
            )
        )
    if not evidence.load_tests:
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
