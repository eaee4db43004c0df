"""Choice: which candidates are eligible, which reach the minimum score, and which beat which. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from statistics import NormalDist

from sizewise.choice.costing import cost_line
from sizewise.errors import UsageError
from sizewise.metrics import stands_for_quality
from sizewise.metrics.base import MAX_MISSING_SHARE
from sizewise.metrics.display import number, plain_value, signed_text, title_in_text, value_text
from sizewise.metrics.grades import HUMAN_GRADE
from sizewise.records import Comparison, CostLine, Difference, ModelDescription, Needs, Score
from sizewise.stats import LEVEL, MIN_CLUSTERS, family_interval, interval_at, min_clusters_for

GB = 1e9
BYTES_PER_PARAMETER = 2
"""Of weights in 16 bits, for candidates whose memory wasn't measured here."""
POWER = 0.8
MIN_VOTES, MIN_VOTERS = 20, 2
"""Votes per pair, and raters in total, below which human preference doesn't rank the candidates."""
TEXT_METRICS = ("bits_per_byte", "perplexity")
# Default quality metrics, in order of preference; those for labels, JSON and voice are measured only where they apply.
# BLEU comes after metrics of single answers, because a corpus statistic separates systems less well.
ANSWER_METRICS = (
    *("voice", "accuracy", "json_f1", "field_f1", "reference_match"),
    *("chrf", "token_f1", "bleu", "exact_match"),
)
VOTE_METRICS = ("people", "people_ppi", "judge_model")


def quality_measures(comparison: Comparison) -> list[str]:
    """List the metrics of a comparison that can rank candidates by quality."""
    compared = {found.metric for found in comparison.differences}
    return [
        name
        for name in comparison.scores
        if "@" not in name
        and "#" not in name
        and (name in compared if name in VOTE_METRICS else stands_for_quality(name))
    ]


class Choice:
    """A decision in progress: which candidates are eligible, good enough, and better than others.

    Args:
        comparison: the evidence.
        needs: the requirements.
        comparison_id: id of the comparison, for commands that name it.

    Raises:
        UsageError: the quality metric wasn't measured, or can't rank candidates.
    """

    def __init__(self, comparison: Comparison, needs: Needs, comparison_id: str = "") -> None:
        self.comparison, self.needs, self.comparison_id = comparison, needs, comparison_id
        self.names = [name for name, model in comparison.models.items() if model.role == "candidate"]
        self.quality = needs.quality or self._default_quality()
        measures = quality_measures(comparison)
        if self.quality not in measures:
            measured = self.quality in comparison.scores
            raise UsageError(
                f"'{self.quality}' can't be the quality metric: "
                + ("it doesn't separate good answers from bad ones." if measured else "it wasn't measured."),
                ", ".join(measures) or "a quality metric",
                "set quality under [needs] to a metric of the list"
                if measured
                else f"run sizewise evaluate again with --metrics {self.quality}",
            )
        if self.quality in ("people", "people_ppi") and not self._voted(self.quality):
            raise UsageError(
                f"'{self.quality}' can't be the quality metric yet: {self.votes_missing()}.",
                f"{MIN_VOTES} votes per pair, on {MIN_CLUSTERS} documents, from {MIN_VOTERS} raters",
                "collect more votes with sizewise judge open, or choose another quality metric",
            )
        if self.quality == "judge_model" and not self._validated():
            found = comparison.judge_validation
            raise UsageError(
                f"The judge model isn't validated: {found.reason if found else 'no human votes to compare with'}.",
                "a judge model validated against human raters",
                f"sizewise judge report {comparison.votes}",
            )
        units = {score.unit for score in comparison.scores[self.quality].values()}
        self._check_incumbent()
        if (minimum := needs.min_quality) is not None and units == {"0-100"}:
            fraction = needs.quality is None and 0 < minimum <= 1 and "reference_match" in measures
            if fraction or not 0 <= minimum <= 100:
                what = f"min_quality is {minimum:g}, but {title_in_text(self.quality)} ranges from 0 to 100."
                wanted = 'quality = "reference_match"' if fraction else "min_quality"
                raise UsageError(what, "a number between 0 and 100 for it", f"set {wanted} under [needs]")
        for key, value in {"min_quality": needs.min_quality, "max_loss": needs.max_loss}.items():
            if value is not None and units == {"share"} and not 0 <= value <= 1:
                raise UsageError(
                    f"{key} is {value:g}, but {title_in_text(self.quality)} ranges from 0 to 1.",
                    "a number between 0 and 1; 2 points are 0.02",
                    f"set {key} under [needs]",
                )
        self.title, self.higher = title_in_text(self.quality), comparison.better[self.quality] == "higher"
        self.rejected: dict[str, str] = {}
        self.open_limits: list[str] = []  # may or may not be kept
        self.margin_levels: dict[str, float] = {}
        """Level at which each candidate's loss to the model in use is tested, by its step in Holm's procedure."""
        self.eligible_count = len(self.names)
        self._pairs: dict[frozenset[str], Difference] = {}
        for pair in comparison.differences:
            if pair.metric == self.quality:
                self._pairs.setdefault(frozenset((pair.left, pair.right)), pair)

    def _check_incumbent(self) -> None:
        incumbent, loss = self.needs.incumbent, self.needs.max_loss
        if (incumbent is None) != (loss is None):
            given = f"max_loss = {loss:g}" if incumbent is None else f"incumbent = '{incumbent}'"
            raise UsageError(
                f"{given} is set alone.",
                "incumbent and max_loss together: the model in use, and how much quality a replacement may lose",
                f"set {'incumbent' if incumbent is None else 'max_loss'} under [needs]",
            )
        if incumbent is not None and self.needs.min_quality is not None:
            raise UsageError(
                "min_quality and incumbent are both set, and each asks for another kind of pick.",
                "a minimum score, or the model in use with max_loss",
                "remove one of them under [needs]",
            )
        for key, name in {"incumbent": incumbent, "today": self.needs.today}.items():
            if name is not None and name not in self.names:
                raise UsageError(
                    f"The {key} '{name}' isn't a candidate.", ", ".join(self.names), f"set {key} under [needs]"
                )

    def _default_quality(self) -> str:
        if self.comparison.language_modeling_proxy:
            order = (*TEXT_METRICS, *ANSWER_METRICS)
        else:
            order = (*ANSWER_METRICS, *TEXT_METRICS)
        if self._graded():
            return HUMAN_GRADE
        for metric in ("people_ppi", "people"):  # judge models only make people's votes more precise
            if self._voted(metric):
                return metric
        if self._voted("judge_model") and self._validated():
            return "judge_model"
        for metric in order:
            scores = self.comparison.scores.get(metric, {}).values()
            # A threshold without its metric was set for the one that was the default before.
            unstated = metric == "reference_match" and (self.needs.min_quality, self.needs.max_loss) != (None, None)
            if any(score.value is not None for score in scores) and not unstated:
                return metric
        return next(iter(quality_measures(self.comparison)), "bits_per_byte")

    def _graded(self) -> bool:
        """Return whether people graded answers of all candidates; then their grades are the measure of quality."""
        pairs = self._votes(HUMAN_GRADE)
        names = {frozenset((pair.left, pair.right)) for pair in pairs if pair.clusters >= MIN_CLUSTERS}
        wanted = {frozenset(pair) for pair in combinations(self.names, 2)}
        return bool(wanted) and wanted <= names

    def contested(self, left: str, right: str) -> str:
        """Return why a significant difference between two candidates doesn't show better answers; empty if it does."""
        found = self.difference(left, right)
        return found.contested if found is not None else ""

    def _validated(self) -> bool:
        return self.comparison.judge_validation is not None and self.comparison.judge_validation.validated

    def _voted(self, metric: str) -> bool:
        """Return whether every pair has enough votes; then votes are the best measure of quality."""
        votes = self._votes(metric)
        pairs = len(self.names) * (len(self.names) - 1) // 2
        min_votes = MIN_CLUSTERS if metric == "people_ppi" else MIN_VOTES
        enough = all(pair.n >= min_votes and pair.clusters >= MIN_CLUSTERS for pair in votes)
        voters = metric == "judge_model" or (self.comparison.voters or 1) >= MIN_VOTERS
        return pairs == len(votes) > 0 and enough and voters

    def _votes(self, metric: str) -> list[Difference]:
        return [found for found in self.comparison.differences if found.metric == metric]

    def votes_missing(self) -> str | None:
        """Return why human votes don't rank the candidates; None if they do or if there are no votes."""
        votes = self._votes("people")
        if not votes or self._voted("people") or self._voted("people_ppi"):
            return None
        pairs = len(self.names) * (len(self.names) - 1) // 2
        fewest = min(pair.n for pair in votes) if len(votes) == pairs else 0
        return (
            f"there aren't enough human votes yet: {fewest} on the pair with the fewest, from "
            f"{self.comparison.voters or 1} rater(s); a decision requires {MIN_VOTES} per pair, on {MIN_CLUSTERS} "
            f"documents, from {MIN_VOTERS} raters"
        )

    def score(self, metric: str, name: str) -> Score | None:
        """Look up a score; None if it wasn't measured."""
        return self.comparison.scores.get(metric, {}).get(name)

    def value(self, metric: str, name: str) -> float | None:
        """Look up the value of a score; None if there is none."""
        score = self.score(metric, name)
        return score.value if score else None

    def rank(self, name: str) -> float:
        """Return a sort key of the quality: smaller is better."""
        value = self.value(self.quality, name)
        if value is None:
            return float("inf")
        return -value if self.higher else value

    def ordered(self, names: Sequence[str]) -> list[str]:
        """Sort candidates, best first: by paired differences, because some may lack items that others have."""

        def won(name: str) -> int:
            found = [(self.difference(name, other), other) for other in names if other != name]
            signs = [one.value if one.left == name else -one.value for one, _ in found if one is not None]
            return sum((value > 0) == self.higher and value != 0 for value in signs)

        return sorted(names, key=lambda name: (-won(name), self.rank(name), self.memory(name), name))

    def incomplete(self, name: str) -> str | None:
        """Explain that a candidate lacks many items that others were measured on, or that its score is the worst."""
        score = self.score(self.quality, name)
        if score is None or score.value is None:
            return None
        most = max(other.n for other in self.comparison.scores[self.quality].values())
        if name in self.comparison.partial:
            most = self.comparison.asked.get(self.quality, {}).get(name, score.n)
        if score.n < (1 - MAX_MISSING_SHARE) * most:
            return (
                f"was measured on only {score.n} of {most} items, so its score isn't comparable; run its evaluation "
                "again, or count failures as wrong"
            )
        if score.value == 0 and self.higher and score.unit in ("share", "0-100"):
            return f"scores 0 on {self.title}"
        return None

    def documents(self, name: str) -> int:
        """Count the independent source documents behind a candidate's quality."""
        score = self.score(self.quality, name)
        if score is None:
            return 0
        if score.clusters is not None:
            return score.clusters
        return min([score.n, *(pair.clusters for pair in self._votes(self.quality) if name in (pair.left, pair.right))])

    def silent(self, name: str) -> str | None:
        """Explain that a candidate never answers; None if it does, or if no answers were generated."""
        answered = self.comparison.answered.get(name)
        if answered is None or answered.value != 0:
            return None
        return f"never answers: all of its {answered.n} answers are empty"

    def model(self, name: str) -> ModelDescription:
        """Look up the description of a candidate or baseline."""
        return self.comparison.models[name]

    def local(self, name: str) -> bool:
        """Return whether text stays on this machine; False for recorded answers unless the user says so."""
        model = self.comparison.models[name]
        stated = model.engine != "recorded" or bool(model.hosted_by or model.of or model.process)
        return model.local and stated

    @cached_property
    def today(self) -> str | None:
        """Candidate whose cost savings are compared with: the one that is named, or the only one that can be meant."""
        named = self.needs.today or self.needs.incumbent
        if named is not None:
            return named
        processes = [name for name in self.names if self.model(name).process]
        found = processes or [name for name in self.names if self.model(name).hosted]
        return found[0] if len(found) == 1 else None

    def parameters(self, name: str) -> float:
        """Count the parameters; infinite if unknown, so that such a model never counts as smaller."""
        known = self.comparison.models[name].parameters
        return float("inf") if known is None else known

    def known_smaller(self, name: str) -> bool:
        """Return whether any other candidate is known to be smaller."""
        return any(self.parameters(other) < self.parameters(name) < float("inf") for other in self.names)

    def memory(self, name: str) -> float:
        """Return the memory in bytes, or that of its published parameters in 16 bits; infinite if both are unknown."""
        known = self.value("memory_bytes", name)
        return BYTES_PER_PARAMETER * self.parameters(name) if known is None else known

    def cost(self, name: str) -> CostLine:
        """Compute what a candidate costs."""
        return cost_line(self.comparison, name, self.needs)

    def price(self, name: str) -> float:
        """Return the expected cost of 1,000 requests in US dollars; infinite if unknown."""
        known = self.cost(name).usd_per_1000
        return float("inf") if known is None else known.expected

    def cheaper_at_equal_size(self, name: str, other: str) -> bool:
        """Check whether two paid models have the same known size, as one model at two providers, and one costs less."""
        prices = [self.value("usd_per_1000", one) for one in (name, other)]
        if prices[0] is None or prices[1] is None:
            return False
        return self.memory(name) == self.memory(other) < float("inf") and prices[0] < prices[1]

    def cost_bound(self, name: str) -> float | None:
        """Compute the cost of 1,000 requests that a limit applies to; None if the machine's price is only assumed."""
        line = self.cost(name)
        self_hosted = line.usd_per_1000 is not None and self.value("usd_per_1000", name) is None
        if line.usd_per_1000 is None or (self_hosted and self.needs.machine_usd_per_hour is None):
            return None
        return line.usd_per_1000.upper if self.needs.requests_per_month or not self_hosted else line.usd_per_1000.lower

    def difference(self, left: str, right: str) -> Difference | None:
        """Look up the paired difference in quality between two candidates, in either order."""
        return self._pairs.get(frozenset((left, right)))

    def beats(self, left: str, right: str, claims: int | None = None) -> bool:
        """Return whether left is significantly better in quality than right.

        To be called the best of k, a candidate must beat every other one. A wrong candidate can be called best only by
        beating the true best, and there are k - 1 wrong ones, so each p-value is multiplied by k - 1 (Hsu, 1984,
        multiple comparisons with the best), regardless of other comparisons. `claims` overrides the factor.
        """
        found = self.difference(left, right)
        if found is None or found.ci_low is None or found.ci_high is None or found.ci_low <= 0 <= found.ci_high:
            return False
        if found.contested:
            return False
        if found.clusters < self.min_documents or self.refused(found):
            return False
        left_higher = (found.value > 0) == (found.left == left)
        p = self.corrected_p(found) if claims is None or found.p is None else min(1.0, found.p * claims)
        return p is not None and p < LEVEL and left_higher == self.higher

    @staticmethod
    def refused(found: Difference) -> bool:
        """Return whether the comparison makes no claim of a difference that is small enough in p: items are missing."""
        unclaimed = found.better is None and not found.contested
        return unclaimed and found.p_adjusted is not None and found.p_adjusted < LEVEL

    @property
    def min_documents(self) -> int:
        """Source documents without which nothing can be significant among so many candidates."""
        return min_clusters_for(max(1, self.eligible_count - 1))

    def corrected_p(self, found: Difference) -> float | None:
        """Correct a p-value for the number of eligible candidates."""
        if found.p is None:
            return None
        # Both corrections hold; the one for all pairs of the comparison is sharper where many candidates vary together.
        best_of = min(1.0, found.p * max(1, self.eligible_count - 1))
        return best_of if found.p_adjusted is None else min(best_of, found.p_adjusted)

    def favored_by_others(self, left: str, right: str) -> dict[str, list[str]]:
        """List the other quality metrics on which one of two candidates is significantly better.

        The metrics share the level (Bonferroni), because whichever of them separates is reported.
        """
        found = [
            one
            for one in self.comparison.differences
            if {one.left, one.right} == {left, right}
            and one.metric != self.quality
            and one.metric not in VOTE_METRICS
            and stands_for_quality(one.metric)
        ]
        favored: dict[str, list[str]] = {left: [], right: []}
        for one in found:
            if one.p is not None and one.p * len(found) < LEVEL and one.clusters >= MIN_CLUSTERS and not one.contested:
                left_better = (one.value > 0) == (self.comparison.better[one.metric] == "higher")
                favored[one.left if left_better else one.right].append(one.metric)
        return favored

    def factor_to_decide(self, found: Difference) -> float | None:
        """Compute how many times more test items would detect a difference of this size with 80% power.

        Uses the normal approximation of the p-value; intervals shrink with the square root of the number of items.
        """
        if not found.p or found.p >= 1:
            return None
        normal = NormalDist()
        observed = normal.inv_cdf(1 - found.p / 2)
        required = normal.inv_cdf(1 - LEVEL / max(1, self.eligible_count - 1) / 2) + normal.inv_cdf(POWER)
        return max(1.01, (required / observed) ** 2)

    def bias_gap(self, name: str) -> float | None:
        """Compute the distance of the stereotype score from 50%; None if it wasn't measured."""
        score = self.comparison.suite_scores.get(name, {}).get("stereotype_score")
        return None if score is None or score.value is None else abs(score.value - 0.5)

    def tied(self, eligible: list[str]) -> list[str]:
        """List the candidates that the first one isn't significantly better than."""
        return [name for name in eligible[1:] if not self.beats(eligible[0], name)]

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines (rules without a language model), best first."""
        names = [name for name, model in self.comparison.models.items() if model.role == "baseline"]
        known = [
            name
            for name in names
            if self.value(self.quality, name) is not None and not self.silent(name) and not self.incomplete(name)
        ]
        return sorted(known, key=self.rank)

    def unbeaten(self, candidate: str, paired: bool = False) -> str | None:
        """Return the best baseline that a candidate isn't significantly better than, if any.

        Args:
            candidate: name of the candidate.
            paired: count only baselines that can be compared with it.
        """
        known = [name for name in self.baselines if not paired or self.difference(candidate, name) is not None]
        return next((name for name in known if not self.beats(candidate, name)), None)

    def best_if_unbeaten(self, candidate: str) -> str | None:
        """Return the best of the baselines that can be compared with a candidate, unless the candidate beats it."""
        best = next((name for name in self.baselines if self.difference(candidate, name) is not None), None)
        return None if best is None or self.beats(candidate, best) else best

    def baseline_leads(self, candidate: str) -> list[str]:
        """List the other quality metrics on which a baseline has a better value than a candidate."""
        lines = []
        for metric in quality_measures(self.comparison):
            if metric == self.quality or metric in TEXT_METRICS:
                continue
            sign = 1 if self.comparison.better[metric] == "higher" else -1
            value = self.value(metric, candidate)
            values = {name: found for name in self.baselines if (found := self.value(metric, name)) is not None}
            best = max(values, key=lambda name: sign * values[name], default=None)
            if value is not None and best is not None and sign * values[best] > sign * value:
                ours, theirs = self.value_in_text(candidate, metric), self.value_in_text(best, metric)
                lines.append(f"{title_in_text(metric)} {theirs} for {best}, {ours} for {candidate}")
        return lines

    def difference_in_text(self, other: str, name: str) -> str:
        """Describe the difference in quality between two candidates: `BLEU -1.2 [-3.25, +0.3] vs B (p = ...)`."""
        found = self.difference(other, name)
        if found is None:
            return f"{self.score_in_text(name)}; no paired difference to {other}"
        turned = found if found.left == name else found.turned()
        ends = self._ends_for_claim(turned)
        if self.needs.incumbent in (other, name):
            ends = self._ends_for_margin(turned)
        text = signed_text(self.quality, found.unit, turned.value, *ends)
        sample = f"n = {found.n} from {found.clusters} documents"
        p = self.corrected_p(found)
        if found.clusters < self.min_documents:
            sample += f"; too few documents for a claim, at least {self.min_documents} are required"
        elif p is not None and self.needs.incumbent is None:  # the margin is tested then, not zero
            corrected = f", corrected for {self.eligible_count} candidates" if self.eligible_count > 1 else ""
            sample = f"p = {number(p, 2)}{corrected}; {sample}"
        return f"{self.title} {text} vs {other} ({sample})"

    def _ends_for_claim(self, found: Difference) -> tuple[float | None, float | None]:
        """Widen an interval for the number of rivals: it excludes zero exactly if the corrected p-value is small."""
        p = self.corrected_p(found)
        if found.ci_low is None or found.ci_high is None or p is None:
            return found.ci_low, found.ci_high
        level = LEVEL / max(1, self.eligible_count - 1)
        return family_interval((found.value, found.ci_low, found.ci_high), found.clusters, level, p < LEVEL)

    def _ends_for_margin(self, found: Difference) -> tuple[float | None, float | None]:
        """Widen an interval to the level of its test: it excludes the tolerated loss exactly if that is claimed."""
        level = self.margin_levels.get(found.left, self.margin_levels.get(found.right))
        if found.ci_low is None or found.ci_high is None or level is None:
            return found.ci_low, found.ci_high
        return interval_at((found.value, found.ci_low, found.ci_high), found.clusters, level)

    def score_in_text(self, name: str, metric: str | None = None) -> str:
        """Describe a score with its title, interval and n; the quality score by default."""
        metric = metric or self.quality
        score = self.score(metric, name)
        title = title_in_text(metric)
        if score is None or score.value is None:
            return f"no {title} score ({score.missing_reason if score else 'not measured'})"
        return f"{title} {value_text(score)}, n = {score.n}"

    def value_in_text(self, name: str, metric: str | None = None) -> str:
        """Format the value of a score; the quality score by default."""
        metric = metric or self.quality
        score = self.score(metric, name)
        return "n/a" if score is None or score.value is None else plain_value(metric, score.unit, score.value)

    def minimum_text(self) -> str:
        """Format the minimum score in the quality metric's unit."""
        unit = next((score.unit for score in self.comparison.scores[self.quality].values()), "")
        return plain_value(self.quality, unit, self.needs.min_quality or 0.0)

    def loss_text(self) -> str:
        """Format the tolerated loss to the incumbent in the quality metric's unit."""
        unit = next((score.unit for score in self.comparison.scores[self.quality].values()), "")
        return plain_value(self.quality, unit, self.needs.max_loss or 0.0)

    def size(self, name: str) -> str:
        """Describe parameters and memory."""
        model = self.comparison.models[name]
        if model.process:
            return {"staff": "people, no model", "rules": "a rules engine, no model"}[model.process]
        if model.parameters is None and model.parameters_estimate:
            size = f"size not published, estimated at {_count_text(model.parameters_estimate)}"
        elif model.parameters is None:
            size = "size not published" if model.of and model.hosted else "size unknown"
        else:
            size = _count_text(model.parameters) if model.parameters else "no parameters"
        return size + (f", {_memory_text(model.memory_bytes)}" if model.memory_bytes else "")


def _count_text(parameters: int) -> str:
    """Format a number of parameters in a unit that leaves digits."""
    if parameters < 1e5:
        return f"{parameters:,} parameters"
    size, unit = next((found for found in ((1e12, "T"), (1e9, "B")) if parameters >= found[0]), (1e6, "M"))
    return f"{parameters / size:.3g}{unit} parameters"


def _memory_text(memory_bytes: int) -> str:
    """Format memory in a unit that leaves digits."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if memory_bytes >= 0.01 * size:
            return f"{memory_bytes / size:.2g} {unit}"
    return f"{memory_bytes / 1e3:.2g} kB"
