"""Records of human evaluation: rounds, votes, rankings and agreement."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sizewise.records.base import Record
from sizewise.records.scores import JudgeValidation, Score


class Ranked(Record):
    """Candidate in a ranking."""

    name: str
    """Name of the candidate."""
    score: Score
    """Bradley-Terry strength; the strengths sum to one."""
    rank: int
    """Rank by strength."""
    ranks: tuple[int, int]
    """Range of ranks that simultaneous 95 % intervals of all differences leave open."""
    win_rate: Score
    """Share of the candidate's votes that it won; a tie counts as one half."""


class Ranking(Record):
    """Ranking of candidates from pairwise votes."""

    source: str
    """File or round that contains the votes."""
    votes: int
    """Number of votes."""
    ties: int
    """Votes for neither side, including those that rated both answers bad."""
    both_bad: int
    """Votes that rated both answers bad."""
    raters: int | None
    """Number of raters, if the votes name them."""
    prompts: int | None
    """Number of prompts, if the votes name them."""
    resampled: tuple[str, ...]
    """Independent units that the intervals are based on: raters, prompts or votes."""
    left_share: Score
    """Share of decided votes for the left side; 0.5 without a position bias."""
    table: tuple[Ranked, ...]
    """Candidates, the strongest first."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""


class Agreement(Record):
    """Agreement between raters beyond chance."""

    source: str
    """File or round that contains the ratings."""
    ratings: int
    """Number of ratings."""
    raters: int
    """Number of raters."""
    items: int
    """Items with at least two ratings."""
    labels: tuple[str, ...]
    """Labels in order."""
    level: Literal["nominal", "ordinal", "interval"]
    """Measurement level of the labels."""
    scores: dict[str, Score]
    """Coefficient -> score."""
    against_the_rest: dict[str, Score] = Field(default_factory=dict)
    """Rater -> share of the other raters' ratings of the same items that have the same label."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""


class JudgePlan(Record):
    """Number of votes needed to detect a difference, planned before the round."""

    detect: float
    """Smallest distance of the win rate from one half to detect."""
    power: float
    """Probability of detecting it."""
    alpha: float
    """Probability of a false positive."""
    tie_share: float
    """Assumed share of ties."""
    item_correlation: float
    """Assumed correlation between two votes on one item."""
    raters: int
    """Number of raters."""
    votes_per_item: int
    """Number of different raters who see each item."""
    items: int
    """Number of items."""
    votes: int
    """Votes that count."""
    repeats: int
    """Additional votes on repeated items, to measure the consistency of each rater."""
    seconds_per_vote: float
    """Assumed time per vote."""
    minutes_per_rater: float
    """Time that each rater needs."""


JudgeKind = Literal["pair", "best", "rating", "origin", "ours"]
Origin = Literal["person", "simulated", "model"]
SCALES = ("relevance", "correctness", "sense", "completeness", "tone")
"""Scales of a round of ratings, from 1 to 5 (best)."""
CHOICES = {
    "pair": ("left", "right", "tie", "both_bad"),
    "rating": ("rated",),
    "origin": ("person", "model"),
    "ours": ("left", "right"),
}
"""Choices besides `skip`; for the best of several see `JudgeTask.choices`."""
NONE = "none"
"""Choice for "none of these answers is useful"."""
REASONS = ("wrong", "incomplete", "unsafe", "too_long", "wrong_tone", "other")
"""What a rater may tick against an answer that wasn't chosen."""
MAX_GUIDELINES = 20_000
"""Characters of the owner's guidelines for raters."""


class JudgeTask(Record):
    """Task for a rater. It contains candidate names, which never appear on the page."""

    id: str
    """Id of the task."""
    item: str
    """Id of the example."""
    cluster: str
    """Source document of the example."""
    prompt: str
    """Prompt of the example: its last turn."""
    conversation: tuple[tuple[str, str], ...] = ()
    """All turns that an answer continues, as role and text, the prompt last; empty if the prompt is the only turn."""
    passage: str = ""
    """Reference answer or source passage to show, if any."""
    left: str
    """Candidate of the left answer, or of the only one."""
    right: str = ""
    """Candidate of the right answer."""
    left_text: str
    """Left answer as shown."""
    right_text: str = ""
    """Right answer as shown."""
    more: tuple[tuple[str, str], ...] = ()
    """Further answers of a best-of-several task: candidate and text."""
    tags: tuple[str, ...] = ()
    """Tags of the example."""
    purpose: Literal["vote", "repeat", "gold"] = "vote"
    """Vote; repeat of an earlier task with swapped sides; or gold task with a known correct choice."""
    repeats: str = ""
    """Id of the task that a repeat shows again."""
    right_choice: str = ""
    """Correct choice of a gold task."""
    replaces: str = ""
    """Id of the assigned task in whose place this one may be asked: another pair of candidates on the same example."""

    @property
    def answers(self) -> tuple[tuple[str, str], ...]:
        """Candidate and text of each answer, in the order shown."""
        right = ((self.right, self.right_text),) if self.right else ()
        return ((self.left, self.left_text), *right, *self.more)

    def choices(self, kind: JudgeKind) -> tuple[str, ...]:
        """Return the choices of this task, besides `skip`."""
        if kind == "best":
            return (*(str(number) for number in range(1, len(self.answers) + 1)), NONE)
        return CHOICES[kind]

    def winner(self, choice: str) -> str:
        """Return the candidate that a choice favors, or the choice itself if it favors none."""
        if choice.isdigit():
            return self.answers[int(choice) - 1][0]
        return {"left": self.left, "right": self.right}.get(choice, choice)


class JudgeRater(Record):
    """Rater, identified by a token."""

    name: str
    """Name in tables."""
    token_sha256: str
    """Hash of the token in the link; the token itself is printed once and never stored."""
    origin: Origin
    """Person, simulated rater, or model."""
    tasks: tuple[str, ...]
    """Ids of the assigned tasks, in order."""


class JudgeRound(Record):
    """Round of blind judging; its tasks are in tasks.jsonl and its votes in the ledger next to the record."""

    kind: JudgeKind
    """Pairs, the best of several, ratings of single answers, person or model, or which of two texts is ours."""
    question: str
    """Question to the raters."""
    data: str
    """Dataset id."""
    comparison: str | None
    """Comparison that the round was made from."""
    evaluations: dict[str, str]
    """Candidate -> evaluation id."""
    items: int
    """Number of examples."""
    tasks: int
    """Number of different tasks, including repeats and gold tasks."""
    raters: tuple[JudgeRater, ...]
    """Invited raters."""
    seed: int
    """Seed of the sample, the sides and the order."""
    plain: bool
    """Whether typography was normalized."""
    min_agreement: float = 0.7
    """Agreement with people that a judge model must reach before its votes count; set before the first vote."""
    expires: str
    """Expiry of the links, UTC."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Candidate without answers to judge -> reason."""
    same: tuple[tuple[str, str, int], ...] = ()
    """Two candidates, and the number of drawn examples to which both gave the same answer; these ties need no task."""
    both_answered: tuple[tuple[str, str, int], ...] = ()
    """Two candidates, and the number of drawn examples to which both gave an answer, the same or not."""
    guidelines: str = Field(default="", max_length=MAX_GUIDELINES)
    """Instructions of the owner to the raters, as plain text or Markdown."""
    adaptive: bool = False
    """Whether each rater sees the pair that tells most about the best candidate next, judging by earlier votes."""
    harm_by_answer: bool = False
    """Whether raters flag each answer for harm; rounds of earlier versions asked once for both answers of a pair."""
    notes: tuple[str, ...] = ()
    """Notes for the owner, such as too few gold tasks."""


class Vote(Record):
    """Vote of a rater on a task."""

    task: str
    """Id of the task."""
    rater: str
    """Name of the rater."""
    choice: str
    """left, right, tie, both_bad; number of the best answer, none; rated; person, model; or skip."""
    origin: Origin = "simulated"
    """Person, simulated rater, or model; a vote without an origin never counts as a person's."""
    harm: bool = False
    """Whether any answer of the task was flagged as potentially harmful."""
    harmful: tuple[int, ...] = ()
    """Places of the answers flagged as potentially harmful, from 1 in the order shown; empty in votes of versions that
    asked once for both answers of a pair."""
    reasons: tuple[str, ...] = ()
    """Reasons against the answers that weren't chosen: wrong, incomplete, unsafe, too_long, wrong_tone, other."""
    ratings: dict[str, int] = Field(default_factory=dict)
    """Scale -> 1 to 5."""
    preference: float | None = Field(default=None, ge=0, le=1)
    """Soft preference: share of the vote that goes to the left answer of a pair; None if all or nothing."""
    comment: str = Field(default="", max_length=4_000)
    """Comment of the rater, or reason for a skip."""
    correction: str = Field(default="", max_length=20_000)
    """Better text, if the rater wrote one."""
    seconds: float = Field(default=0.0, ge=0)
    """Time on the page by the rater's clock, at most one hour."""

    @model_validator(mode="after")
    def _in_range(self) -> Vote:
        if any(name not in SCALES or not 1 <= value <= 5 for name, value in self.ratings.items()):
            raise ValueError(f"ratings must be 1 to 5, on {', '.join(SCALES)}")
        if unknown := set(self.reasons) - set(REASONS):
            raise ValueError(f"'{min(unknown)}' isn't a reason; the reasons are {', '.join(REASONS)}")
        self.__dict__["harmful"] = tuple(sorted(set(self.harmful)))
        self.__dict__["harm"] = self.harm or bool(self.harmful)
        self.__dict__["seconds"] = min(self.seconds, 3_600.0)
        return self


class RaterQuality(Record):
    """Reliability of a rater."""

    name: str
    """Name of the rater."""
    origin: Origin
    """Person, simulated rater, or model."""
    votes: int
    """Votes that count."""
    skipped: int
    """Skipped tasks."""
    gold: Score
    """Share of gold tasks with the correct choice."""
    consistent: Score
    """Share of repeats with the same choice after the sides were swapped."""
    left: Score
    """Share of decided votes for the first answer; 1 / number of answers without a position bias."""
    left_p: float | None
    """p-value of that share if there is no position bias."""
    median_seconds: float | None
    """Median time per vote."""
    warnings: tuple[str, ...] = ()
    """Reasons to doubt this rater."""


class PairVerdict(Record):
    """Result of the votes on two candidates."""

    left: str
    """First candidate."""
    right: str
    """Second candidate."""
    votes: int
    """Votes on this pair."""
    win_rate: Score
    """Share of votes that the first candidate won; a tie counts as one half. Until the round is closed, its interval
    stays valid no matter how often it is read."""
    length_controlled: Score
    """Length-controlled win rate."""
    p: float | None
    """p-value of the win rate against one half; None while the round is open or on too few documents."""
    p_anytime: float
    """Anytime-valid p-value: it stays valid no matter how often the results were checked. 1 on too few documents."""
    better: str | None
    """Significantly preferred candidate, corrected for the number of pairs; None if there is none."""
    decided: bool
    """Whether this pair needs no more votes."""
    more_votes: int | None
    """Further votes needed to detect a difference of this size with 80 % power; None if decided or even."""
    identical: int = 0
    """Drawn examples to which both candidates gave the same answer; they are ties and weren't asked."""
    with_identical: Score | None = None
    """Win rate of the first candidate over all drawn examples: each pair of identical answers counts as a tie."""


class JudgeReport(Record):
    """State of a round."""

    round: str
    """Id of the round."""
    kind: JudgeKind
    """Kind of round."""
    origins: dict[str, int]
    """Origin (person, simulated, model) -> number of votes."""
    votes: int
    """Votes that count."""
    open_tasks: int
    """Assigned tasks without a vote."""
    closed: bool
    """Whether the round takes no more votes."""
    ranking: Ranking | None
    """Bradley-Terry ranking of a round of pairs."""
    pairs: tuple[PairVerdict, ...] = ()
    """Result for each pair of candidates."""
    scores: dict[str, dict[str, Score]] = Field(default_factory=dict)
    """Metric -> candidate -> score: harm, ratings, share mistaken for a person's text, share taken for ours."""
    by_tag: dict[str, dict[str, Score]] = Field(default_factory=dict)
    """Tag -> candidate -> win rate."""
    longer: Score | None = None
    """Share of decided votes for the longer answer."""
    reasons: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Candidate -> reason -> number of votes that gave it against an answer of this candidate."""
    agreement: Agreement | None = None
    """Agreement between raters, if several saw the same tasks."""
    raters: tuple[RaterQuality, ...]
    """Reliability of each rater."""
    judges: tuple[JudgeValidation, ...] = ()
    """Validation of each judge model."""
    comments: tuple[tuple[str, str, str], ...] = ()
    """(task, rater, comment)."""
    corrections: int = 0
    """Number of better texts that raters wrote."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""
    unjudged: dict[str, int] = Field(default_factory=dict)
    """Judge model -> its tasks without a verdict, because requests failed or it was stopped; ask it again to go on."""
