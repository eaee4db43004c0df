"""Records of judgements by people."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sizewise.records.base import Record
from sizewise.records.scores import JudgeValidation, Score


class Ranked(Record):
    """One of those that were compared."""

    name: str
    """Its name."""
    score: Score
    """Bradley-Terry strength; all of them sum to one."""
    rank: int
    """Place by its strength."""
    ranks: tuple[int, int]
    """Places that 95 % of the resamples give it."""
    win_rate: Score
    """Share of its votes that it won; a tie counts one half."""


class Ranking(Record):
    """Who is better, from pairwise votes."""

    source: str
    """File that the votes stand in."""
    votes: int
    """Number of votes."""
    ties: int
    """Votes that neither won, those that found both bad included."""
    both_bad: int
    """Votes that found both bad."""
    raters: int | None
    """Number of raters, where they are named."""
    prompts: int | None
    """Number of prompts, where they are named."""
    resampled: tuple[str, ...]
    """What the intervals resample."""
    left_share: Score
    """Share that the left one won: one half where its place does not matter."""
    table: tuple[Ranked, ...]
    """The strongest first."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""


class Agreement(Record):
    """How far raters agree beyond chance."""

    source: str
    """File that the ratings stand in."""
    ratings: int
    """Number of ratings."""
    raters: int
    """Number of raters."""
    items: int
    """Items with at least two ratings."""
    labels: tuple[str, ...]
    """Labels in their order."""
    level: Literal["nominal", "ordinal", "interval"]
    """What a difference between labels means."""
    scores: dict[str, Score]
    """Coefficients."""
    against_the_rest: dict[str, Score] = Field(default_factory=dict)
    """Rater -> share of the other ratings of the same items that say the same."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""


class JudgePlan(Record):
    """How many judgements are needed to see a difference, before anybody is asked."""

    detect: float
    """How far from an even half the win rate must be to be found."""
    power: float
    """Chance of finding it if it is there."""
    alpha: float
    """Chance of finding one where there is none."""
    tie_share: float
    """Share of ties that was assumed."""
    item_correlation: float
    """Assumed correlation between two votes on one item."""
    raters: int
    """Number of raters."""
    votes_per_item: int
    """Different raters that see each item."""
    items: int
    """Number of items."""
    votes: int
    """Votes that count."""
    repeats: int
    """Votes besides, on items shown again to see how far raters agree with themselves."""
    seconds_per_vote: float
    """Assumed time of a vote."""
    minutes_per_rater: float
    """Time that each rater gives."""


JudgeKind = Literal["pair", "best", "rating", "origin"]
Origin = Literal["person", "simulated", "model"]
SCALES = ("relevance", "correctness", "sense", "completeness", "tone")
"""What is rated from 1 to 5 in a round of ratings; 5 is best."""
CHOICES = {"pair": ("left", "right", "tie", "both_bad"), "rating": ("rated",), "origin": ("person", "model")}
"""Answers to a task, besides `skip`; the best of several is chosen by its place, see `JudgeTask.choices`."""
NONE = "none"
"""None of several answers is of use."""


class JudgeTask(Record):
    """One thing to judge. Names stand here and never on the page."""

    id: str
    """Id of the task."""
    item: str
    """Example that was answered."""
    cluster: str
    """Source document of the example."""
    prompt: str
    """What was asked."""
    passage: str = ""
    """Source passage or right answer shown beside, where there is one."""
    left: str
    """Who gave the left text, or the only one."""
    right: str = ""
    """Who gave the right one."""
    left_text: str
    """The left text, as shown."""
    right_text: str = ""
    """The right one."""
    more: tuple[tuple[str, str], ...] = ()
    """Who gave each further answer, and its text, where the best of several is asked for."""
    tags: tuple[str, ...] = ()
    """Tags of the example."""
    purpose: Literal["vote", "repeat", "gold"] = "vote"
    """A repeat shows an earlier task with sides swapped; the right choice of a gold task is known."""
    repeats: str = ""
    """Task that a repeat shows again."""
    right_choice: str = ""
    """Right choice of a gold task."""

    @property
    def answers(self) -> tuple[tuple[str, str], ...]:
        """Who gave each text and the text, in the order shown."""
        right = ((self.right, self.right_text),) if self.right else ()
        return ((self.left, self.left_text), *right, *self.more)

    def choices(self, kind: JudgeKind) -> tuple[str, ...]:
        """Give the answers to this task, besides `skip`."""
        if kind == "best":
            return (*(str(place + 1) for place in range(len(self.answers))), NONE)
        return CHOICES[kind]

    def winner(self, choice: str) -> str:
        """Give the name that a choice favours, or the choice itself where it favours none."""
        if choice.isdigit():
            return self.answers[int(choice) - 1][0]
        return {"left": self.left, "right": self.right}.get(choice, choice)


class JudgeRater(Record):
    """Somebody who judges, known by a token."""

    name: str
    """Name in the tables."""
    token_sha256: str
    """Hash of the token in the link; the token itself is printed once and never kept."""
    origin: Origin
    """A person, a simulated one, or a model."""
    tasks: tuple[str, ...]
    """Tasks in order."""


class JudgeRound(Record):
    """A round of blind judging; its tasks lie in tasks.jsonl and its votes in the ledger beside it."""

    kind: JudgeKind
    """Pairs, ratings of one answer, or whether a person or a model wrote it."""
    question: str
    """What raters are asked."""
    data: str
    """Dataset id."""
    comparison: str | None
    """Comparison that it belongs to."""
    evaluations: dict[str, str]
    """Candidate -> evaluation id."""
    items: int
    """Examples."""
    tasks: int
    """Different tasks, repeats and gold ones included."""
    raters: tuple[JudgeRater, ...]
    """Who judges."""
    seed: int
    """Seed of the draw, of the sides and of the order."""
    plain: bool
    """Whether typography was evened out."""
    min_agreement: float = 0.7
    """Share of people's choices that a judge model must meet before its votes count, set before anybody voted."""
    expires: str
    """When links end, UTC."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Candidate that is left out, because it has no answer to judge -> why."""
    same: tuple[tuple[str, str, int], ...] = ()
    """Two candidates, and how many of the examples drawn they answered with the same text: ties that nobody is asked
    about."""


class Vote(Record):
    """One judgement, as it arrived."""

    task: str
    """Task."""
    rater: str
    """Who."""
    choice: str
    """left, right, tie, both_bad; place of the best, none; rated; person, model; or skip."""
    origin: Origin = "simulated"
    """A person, a simulated one, or a model; what does not say so is never a person's."""
    harm: bool = False
    """Whether it could cause harm: of a pair, either answer."""
    ratings: dict[str, int] = Field(default_factory=dict)
    """Scale -> 1 to 5."""
    comment: str = Field(default="", max_length=4_000)
    """What the rater said; the reason of a skip."""
    correction: str = Field(default="", max_length=20_000)
    """A better text, where one was written."""
    seconds: float = Field(default=0.0, ge=0)
    """Time on the page, by the rater's clock, cut at an hour."""

    @model_validator(mode="after")
    def _ratings_in_range(self) -> Vote:
        if any(name not in SCALES or not 1 <= value <= 5 for name, value in self.ratings.items()):
            raise ValueError(f"ratings are 1 to 5 of {', '.join(SCALES)}")
        self.__dict__["seconds"] = min(self.seconds, 3_600.0)
        return self


class RaterQuality(Record):
    """How far a rater can be relied on."""

    name: str
    """Who."""
    origin: Origin
    """A person, a simulated one, or a model."""
    votes: int
    """Votes that count."""
    skipped: int
    """Tasks skipped."""
    gold: Score
    """Share of gold tasks answered rightly."""
    consistent: Score
    """Share of repeats with the same answer, sides swapped."""
    left: Score
    """Share of decided votes for the first of the answers; one in as many as are shown where place does not matter."""
    left_p: float | None
    """How likely a share so far from that is where place does not matter."""
    median_seconds: float | None
    """Median time of a vote."""
    warnings: tuple[str, ...] = ()
    """What speaks against relying on this rater."""


class PairVerdict(Record):
    """What the votes say of two candidates."""

    left: str
    """One."""
    right: str
    """The other."""
    votes: int
    """Votes on this pair."""
    win_rate: Score
    """Share of the left one's wins; a tie counts one half; examples resampled."""
    length_controlled: Score
    """The same, were both answers of one length."""
    p: float | None
    """p-value of the win rate against one half."""
    p_anytime: float
    """The same, valid however often one looked."""
    better: str | None
    """Who is shown to be better, corrected for the number of pairs."""
    decided: bool
    """Whether one may stop asking about this pair."""
    more_votes: int | None
    """Votes more that would show a difference of this size in four of five rounds; None where decided or even."""


class JudgeReport(Record):
    """What a round says so far."""

    round: str
    """Id of the round."""
    kind: JudgeKind
    """What was judged."""
    origins: dict[str, int]
    """person, simulated, model -> votes."""
    votes: int
    """Votes that count."""
    open_tasks: int
    """Assigned tasks without a vote."""
    closed: bool
    """Whether no more votes are taken."""
    ranking: Ranking | None
    """Bradley-Terry ranking of a round of pairs."""
    pairs: tuple[PairVerdict, ...] = ()
    """Each pair of candidates."""
    scores: dict[str, dict[str, Score]] = Field(default_factory=dict)
    """Measure -> candidate -> score: harm, ratings, share taken for a person's."""
    by_tag: dict[str, dict[str, Score]] = Field(default_factory=dict)
    """Tag -> candidate -> win rate."""
    longer: Score | None = None
    """Share of decided votes that the longer answer won."""
    agreement: Agreement | None = None
    """How far raters agree, where several saw the same."""
    raters: tuple[RaterQuality, ...]
    """How far each can be relied on."""
    judges: tuple[JudgeValidation, ...] = ()
    """Judge models and whether their votes count."""
    comments: tuple[tuple[str, str, str], ...] = ()
    """(task, rater, comment)."""
    corrections: int = 0
    """Better texts that raters wrote."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
