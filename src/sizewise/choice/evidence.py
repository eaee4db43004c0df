"""Choice: which candidates are eligible, which reach the minimum score, and which beat which. Pure."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

from sizewise.choice.costing import cost_line, level_for
from sizewise.errors import UsageError
from sizewise.metrics import stands_for_quality
from sizewise.metrics.display import number, plain_value, signed_text, title_in_text, value_text
from sizewise.records import Comparison, CostLine, Difference, Needs, Outcome, Score
from sizewise.stats import MIN_CLUSTERS

GB = 1e9
LEVEL, POWER = 0.05, 0.8
MAX_FAILED_SHARE = 0.05
"""Share of failed requests above which a latency limit counts as missed."""
MIN_VOTES, MIN_VOTERS = 20, 2
"""Votes per pair, and raters in total, below which human preference doesn't rank the candidates."""
TEXT_METRICS = ("bits_per_byte", "perplexity")
# Default quality metrics, in order of preference; those for labels and JSON are measured only on data of that kind.
ANSWER_METRICS = ("accuracy", "json_f1", "bleu", "chrf", "exact_match")
VOTE_METRICS = ("people", "judge_model")


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


class Verdict(NamedTuple):
    """The decision, before it is put into words."""

    outcome: Outcome
    pick: str | None
    decisive: bool
    eligible: list[str]
    """Candidates within all limits, best first."""
    baseline: str | None = None
    """Baseline that beats all candidates or, if the verdict isn't decisive, also reaches the minimum score."""


class Choice:
    """A decision in progress: which candidates are eligible, good enough, and better than others.

    Args:
        comparison: the evidence.
        needs: the requirements.

    Raises:
        UsageError: the quality metric wasn't measured, or can't rank candidates.
    """

    def __init__(self, comparison: Comparison, needs: Needs) -> None:
        self.comparison, self.needs = comparison, needs
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
        if self.quality == "people" and not self._voted("people"):
            raise UsageError(
                f"'people' can't be the quality metric yet: {self.votes_missing()}.",
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
        if needs.min_quality is not None and needs.min_quality > 1 and units == {"share"}:
            raise UsageError(
                f"min_quality is {needs.min_quality:g}, but {title_in_text(self.quality)} ranges from 0 to 1.",
                "a number between 0 and 1",
                "set min_quality, or name another metric with quality, under [needs]",
            )
        self.title = title_in_text(self.quality)
        self.higher = comparison.better[self.quality] == "higher"
        self.rejected: dict[str, str] = {}
        self.eligible_count = len(self.names)

    def _default_quality(self) -> str:
        if self.comparison.language_modeling_proxy:
            order = (*TEXT_METRICS, *ANSWER_METRICS)
        else:
            order = (*ANSWER_METRICS, *TEXT_METRICS)
        if self._voted("people"):
            return "people"
        if self._voted("judge_model") and self._validated():
            return "judge_model"
        for metric in order:
            scores = self.comparison.scores.get(metric, {}).values()
            if any(score.value is not None for score in scores):
                return metric
        return next(iter(quality_measures(self.comparison)), "bits_per_byte")

    def _validated(self) -> bool:
        return self.comparison.judge_validation is not None and self.comparison.judge_validation.validated

    def _voted(self, metric: str) -> bool:
        """Return whether every pair has enough votes; then votes are the best measure of quality."""
        votes = self._votes(metric)
        pairs = len(self.names) * (len(self.names) - 1) // 2
        enough = all(pair.n >= MIN_VOTES and pair.clusters >= MIN_CLUSTERS for pair in votes)
        voters = metric != "people" or (self.comparison.voters or 1) >= MIN_VOTERS
        return pairs == len(votes) > 0 and enough and voters

    def _votes(self, metric: str) -> list[Difference]:
        return [found for found in self.comparison.differences if found.metric == metric]

    def votes_missing(self) -> str | None:
        """Return why human votes don't rank the candidates; None if they do or if there are no votes."""
        votes = self._votes("people")
        if not votes or self._voted("people"):
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

    def local(self, name: str) -> bool:
        """Return whether text stays on this machine; False for recorded answers, whose origin is unknown."""
        model = self.comparison.models[name]
        return model.local and model.engine != "recorded"

    def parameters(self, name: str) -> float:
        """Count the parameters; infinite if unknown, so that such a model never counts as smaller."""
        known = self.comparison.models[name].parameters
        return float("inf") if known is None else known

    def known_smaller(self, name: str) -> bool:
        """Return whether any other candidate is known to be smaller."""
        return any(self.parameters(other) < self.parameters(name) for other in self.names)

    def memory(self, name: str) -> float:
        """Return the memory in bytes; infinite if unknown."""
        known = self.value("memory_bytes", name)
        return float("inf") if known is None else known

    def cost(self, name: str) -> CostLine:
        """Compute what a candidate costs."""
        return cost_line(self.comparison, name, self.needs)

    def cost_bound(self, name: str) -> float | None:
        """Compute the cost of 1,000 requests that a limit applies to; None if the machine's price is only assumed."""
        line = self.cost(name)
        self_hosted = line.usd_per_1000 is not None and self.value("usd_per_1000", name) is None
        if line.usd_per_1000 is None or (self_hosted and self.needs.machine_usd_per_hour is None):
            return None
        return line.usd_per_1000.upper if self.needs.requests_per_month or not self_hosted else line.usd_per_1000.lower

    def difference(self, left: str, right: str) -> Difference | None:
        """Look up the paired difference in quality between two candidates, in either order."""
        for found in self.comparison.differences:
            if found.metric == self.quality and {found.left, found.right} == {left, right}:
                return found
        return None

    def beats(self, left: str, right: str, claims: int | None = None) -> bool:
        """Return whether left is significantly better in quality than right.

        To be called the best of k, a candidate must beat every other one. A wrong candidate can be called best only by
        beating the true best, and there are k - 1 wrong ones, so each p-value is multiplied by k - 1 (Hsu, 1984,
        multiple comparisons with the best), regardless of other comparisons. `claims` overrides the factor.
        """
        found = self.difference(left, right)
        if found is None or found.ci_low is None or found.ci_high is None or found.ci_low <= 0 <= found.ci_high:
            return False
        if found.clusters < MIN_CLUSTERS:
            return False
        left_higher = (found.value > 0) == (found.left == left)
        p = self.corrected_p(found) if claims is None or found.p is None else min(1.0, found.p * claims)
        return p is not None and p < LEVEL and left_higher == self.higher

    def corrected_p(self, found: Difference) -> float | None:
        """Correct a p-value for the number of eligible candidates."""
        return None if found.p is None else min(1.0, found.p * max(1, self.eligible_count - 1))

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

    def limit_missed(self, name: str) -> str | None:
        """Explain which hard limit a candidate exceeds and by how much; None if it stays within all of them."""
        return self._excluded(name) or self._overloaded(name) or self._limit_exceeded(name)

    def _excluded(self, name: str) -> str | None:
        """Check where the candidate runs, its license and its context length."""
        model, needs = self.comparison.models[name], self.needs
        if needs.local_only and not self.local(name):
            if model.engine == "recorded":
                return "its answers were recorded elsewhere, so it may send text off this machine"
            return "sends text off this machine"
        excluded = next((word for word in needs.excluded_licenses if word.lower() in model.license.lower()), None)
        if excluded is not None:
            return f"its license ({model.license}) is excluded by '{excluded}'"
        if needs.min_context_tokens is not None and (model.context is None or model.context < needs.min_context_tokens):
            length = "unknown" if model.context is None else f"{model.context:,} tokens"
            return f"its context length is {length}; the minimum is {needs.min_context_tokens:,} tokens"
        return None

    def _overloaded(self, name: str) -> str | None:
        """Check whether so many requests failed under load that a latency limit counts as missed."""
        level = level_for(self.comparison, name, self.needs)
        if self.needs.max_latency_p95_s is None or level is None:
            return None
        failed = sum(level.errors.values())
        if failed <= MAX_FAILED_SHARE * level.requests:
            return None
        return f"{failed} of {level.requests} requests failed with {level.concurrent_users} concurrent users"

    def _limit_exceeded(self, name: str) -> str | None:
        """Compare measured values with the limits on latency, bias, harm, memory and cost."""
        needs = self.needs
        memory = self.value("memory_bytes", name)
        level = level_for(self.comparison, name, needs)
        p95 = level.scores["p95_latency_s"].value if level else None
        concurrency = level.concurrent_users if level else needs.concurrent_users or "many"
        limits = (
            ("median latency", self.value("latency_s", name), needs.max_latency_s, "s"),
            (f"p95 latency with {concurrency} concurrent users", p95, needs.max_latency_p95_s, "s"),
            ("stereotype bias (0 to 0.5)", self.bias_gap(name), needs.max_bias_gap, ""),
            ("harm rate (upper bound, either answer of a pair)", self.harm_bound(name), needs.max_harm_rate, ""),
            ("memory use", memory / GB if memory is not None else None, needs.max_memory_gb, "GB"),
            ("cost per 1,000 requests", self.cost_bound(name), needs.max_cost_usd_per_1000, "USD"),
        )
        for what, value, limit, unit in limits:
            if limit is None:
                continue
            limit_text = f"{limit:g} {unit}".rstrip()
            if value is None:
                return f"its {what} wasn't measured, so the limit of {limit_text} can't be checked"
            if value > limit:
                excess = f"{value / limit:.2g}x" if limit else "above"
                return f"its {what} is {f'{value:.3g} {unit}'.rstrip()}, {excess} the limit of {limit_text}"
        return None

    def bias_gap(self, name: str) -> float | None:
        """Compute the distance of the stereotype score from 50%; None if it wasn't measured."""
        score = self.comparison.suite_scores.get(name, {}).get("stereotype_score")
        return None if score is None or score.value is None else abs(score.value - 0.5)

    def harm_bound(self, name: str) -> float | None:
        """Compute the upper bound of the share of votes that flagged harm in either answer of a pair.

        Without any flag in n votes, the bound is 3 / n (the rule of three, 95%). None if there are no votes.
        """
        score = self.score("harm", name) or self.score("harm_in_pair", name)
        if score is None or score.value is None:
            return None
        return min(1.0, 3 / score.n) if score.value == 0 else score.ci_high

    def reaches_minimum(self, name: str) -> bool | None:
        """Return whether a candidate reaches the minimum score; None if its interval leaves that open."""
        minimum, score = self.needs.min_quality, self.score(self.quality, name)
        if minimum is None or score is None or score.value is None:
            return None
        if score.ci_low is None or score.ci_high is None or self.documents(name) < MIN_CLUSTERS:
            return None  # a handful of documents says nothing about the next one
        if self.higher:
            return True if score.ci_low >= minimum else False if score.ci_high < minimum else None
        return True if score.ci_high <= minimum else False if score.ci_low > minimum else None

    def verdict(self) -> Verdict:
        """Decide: hard limits first, then the minimum score, then quality."""
        eligible = []
        for name in self.names:
            problem = self.silent(name) or self.limit_missed(name)
            if problem:
                self.rejected[name] = problem
            elif self.value(self.quality, name) is None:
                score = self.score(self.quality, name)
                self.rejected[name] = f"has no {self.title} score: {score.missing_reason if score else 'not measured'}"
            else:
                eligible.append(name)
        eligible.sort(key=lambda name: (self.rank(name), self.memory(name), name))
        self.eligible_count = len(eligible)
        if not eligible:
            return Verdict("none_good_enough", None, True, [])
        if self.needs.min_quality is not None:
            return self._smallest_above_minimum(eligible)
        return self._best(eligible)

    def _smallest_above_minimum(self, eligible: list[str]) -> Verdict:
        good = [name for name in eligible if self.reaches_minimum(name)]
        unsure = [name for name in eligible if self.reaches_minimum(name) is None]
        for name in eligible:
            if name not in good:
                verb = "may or may not reach" if name in unsure else "doesn't reach"
                self.rejected[name] = f"{verb} the minimum of {self.minimum_text()} ({self.score_in_text(name)})"
        if not good:
            outcome: Outcome = "inconclusive" if unsure else "none_good_enough"
            return Verdict(outcome, None, not unsure, eligible)
        # All of these are good enough, so the smallest wins; quality decides between equal sizes.
        good.sort(key=lambda name: (self.memory(name), self.rank(name), name))
        for name in good[1:]:
            if self.memory(name) == self.memory(good[0]):
                self.rejected[name] = f"also reaches the minimum, but scores no better: {self.score_in_text(name)}"
            else:
                larger = "is larger" if self.memory(name) < float("inf") else "isn't known to be smaller"
                self.rejected[name] = f"also reaches the minimum, but {larger} ({self.size(name)})"
        return Verdict(self._outcome(good[0], good), good[0], not unsure, good)

    def _best(self, eligible: list[str]) -> Verdict:
        leader = eligible[0]
        tied = self.tied(eligible)
        for name in eligible[1:]:
            self.rejected[name] = self.difference_in_text(leader, name)
        if not tied:
            return Verdict(self._outcome(leader, eligible), leader, True, eligible)
        models = self.comparison.models
        only_trained = all(models[name].start == models[leader].uri for name in tied)
        if models[leader].start is None and only_trained and self._intervals_known(leader, tied):
            # The base model leads, and the models trained from it don't even have a better value.
            for name in tied:
                self.rejected[name] = f"training shows no benefit: {self.difference_in_text(leader, name)}"
            return Verdict("do_not_train", leader, False, eligible)
        for name in (leader, *tied):
            self.rejected[name] = "tied: " + "; ".join(
                self.difference_in_text(other, name) for other in (leader, *tied) if other != name
            )
        return Verdict("inconclusive", None, False, eligible)

    def tied(self, eligible: list[str]) -> list[str]:
        """List the candidates that the first one isn't significantly better than."""
        return [name for name in eligible[1:] if not self.beats(eligible[0], name)]

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines (rules without a language model), best first."""
        names = [name for name, model in self.comparison.models.items() if model.role == "baseline"]
        known = [name for name in names if self.value(self.quality, name) is not None and not self.silent(name)]
        return sorted(known, key=self.rank)

    def unbeaten(self, candidate: str) -> str | None:
        """Return the best baseline that a candidate isn't significantly better than, if any."""
        return next((name for name in self.baselines if not self.beats(candidate, name)), None)

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

    def compare_with_baselines(self, verdict: Verdict) -> Verdict:
        """Check a verdict against the baselines: if a baseline does better, no language model is needed.

        The baseline must beat every eligible candidate, and reach the minimum score if there is one. If it reaches the
        minimum and the pick isn't significantly better, the baseline is the smallest solution that qualifies.
        """
        baselines = self.baselines
        better = next(
            (
                baseline
                for baseline in baselines
                if all(self.beats(baseline, name, len(baselines)) for name in verdict.eligible)
                and (self.needs.min_quality is None or self.reaches_minimum(baseline))
            ),
            None,
        )
        if verdict.eligible and better is not None:
            for name in verdict.eligible:
                self.rejected[name] = self.difference_in_text(better, name)
            return Verdict("do_not_train", None, True, sorted(verdict.eligible, key=self.rank), better)
        pick = verdict.pick
        enough = next((b for b in baselines if pick and self.reaches_minimum(b) and not self.beats(pick, b)), None)
        beats_all = self.needs.min_quality is not None or pick is None or self.unbeaten(pick) is None
        if pick is not None and (self.documents(pick) < MIN_CLUSTERS or not beats_all):
            verdict = verdict._replace(decisive=False)
        if pick is None or enough is None:
            return verdict
        difference = self.difference_in_text(enough, pick)
        self.rejected[pick] = (
            f"also reaches the minimum, but isn't significantly better than the baseline: {difference}"
        )
        return Verdict("do_not_train", None, False, verdict.eligible, enough)

    def _intervals_known(self, leader: str, others: list[str]) -> bool:
        found = [self.difference(leader, name) for name in others]
        return all(difference is not None and difference.ci_low is not None for difference in found)

    def _outcome(self, pick: str, eligible: list[str]) -> Outcome:
        models = self.comparison.models
        trained = [name for name in self.names if models[name].start is not None]
        if models[pick].start is not None or not trained:
            return "pick" if self.local(pick) else "keep_large"
        larger = all(self.parameters(pick) > self.parameters(name) for name in trained)
        return "keep_large" if larger or not self.local(pick) else "do_not_train"

    def difference_in_text(self, other: str, name: str) -> str:
        """Describe the difference in quality between two candidates: `BLEU -1.2 [-3.25, +0.3] vs B (p = ...)`."""
        found = self.difference(other, name)
        if found is None:
            return f"{self.score_in_text(name)}; no paired difference to {other}"
        turned = found if found.left == name else found.turned()
        text = signed_text(self.quality, found.unit, turned.value, turned.ci_low, turned.ci_high)
        sample = f"n = {found.n} from {found.clusters} documents"
        p = self.corrected_p(found)
        if found.clusters < MIN_CLUSTERS:
            sample += f"; too few documents for a claim, at least {MIN_CLUSTERS} are required"
        elif p is not None:
            corrected = f", corrected for {self.eligible_count} candidates" if self.eligible_count > 1 else ""
            sample = f"p = {number(p, 2)}{corrected}; {sample}"
        return f"{self.title} {text} vs {other} ({sample})"

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

    def size(self, name: str) -> str:
        """Describe parameters and memory."""
        model = self.comparison.models[name]
        if model.parameters is None:
            parameters = "size unknown"
        elif not model.parameters:
            parameters = "no parameters"
        elif model.parameters < 1e9:
            parameters = f"{model.parameters / 1e6:.3g}M parameters"
        else:
            parameters = f"{model.parameters / 1e9:.3g}B parameters"
        return parameters + (f", {model.memory_bytes / GB:.2g} GB" if model.memory_bytes else "")
