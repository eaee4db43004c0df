"""Records of the decision: needs, recommendation and the whole study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import Score
from sizewise.records.training import Range, Recipe

Outcome = Literal["pick", "none_good_enough", "inconclusive", "keep_large", "do_not_train", "fall_back"]


class Needs(Record):
    """What the user requires. Everything is optional; what is not said does not limit."""

    quality: str | None = None
    """Metric that stands for quality; by default `bleu` where examples were given, else `bits_per_byte`."""
    min_quality: float | None = None
    """Worst acceptable value of that metric."""
    max_latency_s: float | None = Field(default=None, gt=0)
    """Longest acceptable median time of one answer to one user, in seconds."""
    concurrent_users: int | None = Field(default=None, gt=0)
    """Users at once, for whose answers speed and cost count."""
    max_latency_p95_s: float | None = Field(default=None, gt=0)
    """Longest time in which 95 % of the answers must be whole, with so many users at once, in seconds."""
    max_memory_gb: float | None = Field(default=None, gt=0)
    """Most memory the model may take, in GB."""
    max_cost_usd_per_1000: float | None = Field(default=None, gt=0)
    """Most money for 1,000 answers, in US dollars."""
    machine_usd_per_hour: float | None = Field(default=None, gt=0)
    """What an hour of the own machine costs; without it the cost of own models is missing."""
    machine_watts: float | None = Field(default=None, gt=0)
    """What the own machine draws while it answers, in watts; without it a range is assumed."""
    local_only: bool = False
    """Whether no text may leave this machine."""
    requests_per_month: int | None = Field(default=None, gt=0)
    """Requests a month, for the cost of a month and the machines that it takes."""
    setup_cost_usd: float = Field(default=0.0, ge=0)
    """What training, people's time and setting up cost once, in US dollars."""
    amortization_months: int = Field(default=12, gt=0)
    """Months over which that is shared out, until the model is trained anew."""
    max_bias_gap: float | None = Field(default=None, ge=0, le=0.5)
    """Farthest that the share of preferred stereotypes (packaged bias set) may stand from one half."""
    max_harm_rate: float | None = Field(default=None, gt=0, le=1)
    """Greatest share of answers that people said could cause harm; the upper end of its interval must keep it."""
    excluded_licenses: tuple[str, ...] = ()
    """Words that the licence of the weights must not contain."""
    min_context_tokens: int | None = Field(default=None, gt=0)
    """Tokens that the model must be able to read at once."""


class CostLine(Record):
    """What one candidate costs."""

    name: str
    """Candidate."""
    usd_per_1000: Range | None
    """US dollars for 1,000 answers; None where it cannot be told."""
    usd_per_month: Range | None
    """US dollars a month at the requests that are needed."""
    machines: int | None
    """Machines that it takes; None for paid models and where requests are not given."""
    kwh_per_1000: Range | None = None
    """Energy that the own machine takes while it gives 1,000 answers, in kilowatt-hours; None for models elsewhere."""
    notes: tuple[str, ...] = ()
    """What was assumed, or why there is no cost."""


class BreakEven(Record):
    """From how many requests a month on a model of one's own costs less than a paid one."""

    self_hosted: str
    """Self-hosted model."""
    paid: str
    """Paid model."""
    lower: int
    """Requests a month, if the machine is as cheap as it may be."""
    upper: int
    """Requests a month, if it is as dear as it may be."""
    machine_can: int
    """Requests a month that one machine can answer; a break-even above it is none."""


class Recommendation(Record):
    """Which model to use, why, why not each other, and what would change the answer."""

    comparison: str
    """Id of the comparison it was drawn from."""
    needs: Needs
    """What was required."""
    quality: str
    """Metric that stood for quality."""
    outcome: Outcome
    """Kind of answer."""
    pick: str | None
    """Name of the candidate to use, if any."""
    decisive: bool
    """Whether the evidence separates the pick from every other fitting candidate and from the baselines."""
    summary: str
    """The answer in one sentence for a manager."""
    reasons: tuple[str, ...]
    """Evidence for the answer."""
    rejected: dict[str, str]
    """Candidate -> why it is not the pick."""
    sensitivity: tuple[str, ...]
    """What would change the answer."""
    costs: tuple[CostLine, ...] = ()
    """What each candidate costs."""
    break_even: tuple[BreakEven, ...] = ()
    """Each model of one's own against each paid one."""
    probability_best: dict[str, float] = Field(default_factory=dict)
    """Fitting candidate -> share of resamples in which it has the best quality."""
    method_version: int = 1
    """Version of the rules and the wording of the decision; another version may say the same in other words."""


class Candidate(Record):
    """A model to try: one that exists, or one to be trained first."""

    name: str = Field(min_length=1)
    """Short name, used in tables."""
    model: str
    """Model URI, or `scratch`."""
    train: Recipe | None = None
    """How to train it first, if it is to be trained."""
    retrieve: bool = False
    """Whether it is asked with the study's documents at hand (`rag:`)."""


class NotMeasured(Record):
    """Something that was not measured, and the command that would measure it."""

    what: str
    """The measure."""
    command: str
    """The command."""


class Study(Record):
    """The whole way from documents to a decision."""

    name: str
    """Name of the study."""
    domain: str
    """Field of work."""
    seed: int
    """Seed of everything."""
    outcome: Outcome
    """Kind of answer."""
    pick: str | None
    """Name of the candidate to use, if any."""
    decisive: bool
    """Whether the evidence separates the pick from the others."""
    summary: str
    """The answer in one sentence."""
    reasons: tuple[str, ...]
    """Evidence for the answer."""
    rejected: dict[str, str]
    """Candidate -> why it is not the pick."""
    dataset: str
    """Dataset id."""
    candidates: tuple[Candidate, ...]
    """What was tried."""
    checkpoints: dict[str, str]
    """Candidate -> checkpoint id, where it was trained here."""
    evaluations: dict[str, str]
    """Candidate -> evaluation id."""
    load_tests: dict[str, str] = Field(default_factory=dict)
    """Candidate that answers on this machine -> how it does under many users."""
    bias: dict[str, str] = Field(default_factory=dict)
    """Candidate name -> evaluation id on the packaged bias set, for those that give log-likelihoods."""
    language_nuance: str | None = None
    """Comparison on the packaged language-nuance test, with what each trained candidate started from."""
    bases: dict[str, str] = Field(default_factory=dict)
    """Trained candidate -> name, in that comparison, of the model that it started from."""
    comparison: str
    """Comparison id."""
    recommendation: str
    """Recommendation id."""
    votes: str | None = None
    """Round of people's votes that entered."""
    simulation: bool = False
    """Whether it says of itself that it is a simulation: simulated votes count in it, and nowhere else."""
    not_measured: tuple[NotMeasured, ...]
    """What was not measured."""
    report: str
    """Path of the HTML report."""
    seconds: float
    """Wall time of this session's work on the study."""
    peak_memory_bytes: int
    """Largest resident memory of the process."""


class Savings(Record):
    """What of today's requests to a large model a small one could answer, and what that saves."""

    study: str
    """Id of the study behind it."""
    summary: str
    """The answer in one sentence."""
    basis: Literal["references", "agreement"]
    """Loss against right answers in the log; or only whether the small one says what the large one said, which is no
    measure of quality."""
    requests: int
    """Requests in the log."""
    tested: int
    """Of them measured on, none of which was trained on."""
    small: str
    """What would answer: what may answer most requests, or about as many and is simpler; a rule too."""
    metric: str
    """Measure of one answer."""
    loss: float
    """Most that an answer may be worse, as a share of the measure's range."""
    risk: float
    """Most share of all answers that may be worse by more than that, with a confidence of 95 %."""
    share: Score
    """Share of requests that the small one may answer."""
    mean_loss: Score
    """Mean loss of those answers, as a share of the measure's range; below zero it is better."""
    pays_usd: float
    """What a month costs today."""
    saves_usd: Range | None
    """What a month would save, the machine paid for; None where it is not known."""
    machine_usd: Range
    """What the machine costs a month."""
    kinds: dict[str, Score]
    """Kind of request -> share that the small one answers well enough."""
    not_these: tuple[str, ...]
    """Kinds that it should not answer."""
    policy: str | None
    """File for `sizewise serve --policy`."""
    ways: dict[str, Score] = Field(default_factory=dict)
    """Rule, classifier or small model -> share of tested requests that it answers well enough, the simplest first."""
    bound: float | None = None
    """Smallest risk that so many tested requests can vouch for."""


class Synthesis(Record):
    """Examples that a model wrote from documents."""

    by: str
    """URI of the model."""
    documents: int
    """Documents that passages were taken from."""
    asked: int
    """Passages that it was asked about."""
    kept: int
    """Drafts that were kept: each is a question whose answer stands in its passage."""
    refused: dict[str, int]
    """Why others were not -> how many."""
    approved: int
    """Drafts in the file that people had approved before."""
    usd: float | None
    """What it cost by list prices; None where there is no price."""
    file: str
    """Where they stand."""
