"""Choice: who fits the needs, who is good enough, who is better than whom. Pure."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

from sizewise.choice.costing import cost_line, level_for
from sizewise.errors import UsageError
from sizewise.metrics import METRICS, stands_for_quality
from sizewise.records import Comparison, CostLine, Difference, Needs, Outcome, Score
from sizewise.stats import MIN_CLUSTERS

GB = 1e9
LEVEL, POWER = 0.05, 0.8
MOST_FAILED = 0.05
MIN_VOTES, MIN_VOTERS = 20, 2
"""Votes on each pair, and raters in all, below which people's preference does not stand for quality."""
BY_TEXT = ("bits_per_byte", "perplexity")
# What stands for quality if the needs do not say: labels and JSON have their own measure, and only where it was taken.
BY_ANSWERS = ("accuracy", "json_f1", "bleu", "chrf", "exact_match")


TITLES = {"people": "people's preference", "judge_model": "a judge model's preference"}


def title_of(metric: str) -> str:
    """Give a metric's title as it stands in a sentence."""
    title = METRICS[metric].title if metric in METRICS else TITLES.get(metric, metric)
    return title if title[:2].isupper() or title == "chrF" else title[0].lower() + title[1:]


def quality_measures(comparison: Comparison) -> list[str]:
    """List the measures of a comparison that may stand for quality."""
    compared = {found.metric for found in comparison.differences}
    return [
        name
        for name in comparison.scores
        if "@" not in name and "#" not in name and (name in compared if name in TITLES else stands_for_quality(name))
    ]


class Verdict(NamedTuple):
    """What was decided."""

    outcome: Outcome
    pick: str | None
    decisive: bool
    pool: list[str]
    """Candidates that fit, best first."""
    rule: str | None = None
    """Baseline that is shown to be better than all of them, or (where it is not decisive) is good enough as well."""


class Choice:
    """One decision under way: who fits, who is good enough, who is better than whom.

    Args:
        comparison: the evidence.
        needs: what is required.

    Raises:
        UsageError: the metric that stands for quality was not measured.
    """

    def __init__(self, comparison: Comparison, needs: Needs) -> None:
        self.comparison, self.needs = comparison, needs
        self.names = [name for name, model in comparison.models.items() if model.role == "candidate"]
        self.quality = needs.quality or self._default_quality()
        measures = quality_measures(comparison)
        if self.quality not in measures:
            measured = self.quality in comparison.scores
            raise UsageError(
                f"Quality is to be '{self.quality}', "
                + ("which does not tell a good answer from a bad one." if measured else "which was not measured."),
                ", ".join(measures) or "a measure of quality",
                "change quality in the needs" if measured else "evaluate again with --metrics",
            )
        if self.quality == "people" and not self._voted("people"):
            raise UsageError(
                f"Quality cannot be 'people' yet: {self.votes_missing()}.",
                f"{MIN_VOTES} votes on each pair, on {MIN_CLUSTERS} documents, by {MIN_VOTERS} raters",
                "another measure of quality, or more votes: sizewise judge open",
            )
        if self.quality == "judge_model" and not self._validated():
            found = comparison.judge_validation
            raise UsageError(
                f"The judge model is unverified: {found.reason if found else 'nobody voted beside it'}.",
                "a judge model that was shown to agree with people",
                f"sizewise judge report {comparison.votes} says what is missing",
            )
        self.title = title_of(self.quality)
        self.higher = comparison.better[self.quality] == "higher"
        self.why_not: dict[str, str] = {}
        self.fitting = len(self.names)

    def _default_quality(self) -> str:
        order = (*BY_TEXT, *BY_ANSWERS) if self.comparison.language_modeling_proxy else (*BY_ANSWERS, *BY_TEXT)
        if self._voted("people"):
            return "people"
        if self._voted("judge_model") and self._validated():
            return "judge_model"
        for metric in order:
            scores = self.comparison.scores.get(metric, {}).values()
            if any(score.value is not None for score in scores):
                return metric
        return "bits_per_byte"

    def _validated(self) -> bool:
        return self.comparison.judge_validation is not None and self.comparison.judge_validation.validated

    def _voted(self, metric: str) -> bool:
        """Return whether there are enough votes on every pair: then nothing measures quality better."""
        voted = self._votes(metric)
        pairs = len(self.names) * (len(self.names) - 1) // 2
        enough = all(one.n >= MIN_VOTES and one.clusters >= MIN_CLUSTERS for one in voted)
        voters = metric != "people" or (self.comparison.voters or 1) >= MIN_VOTERS
        return pairs == len(voted) > 0 and enough and voters

    def _votes(self, metric: str) -> list[Difference]:
        return [found for found in self.comparison.differences if found.metric == metric]

    def votes_missing(self) -> str | None:
        """Return why people's votes do not stand for quality; None if they do or if there are no votes."""
        voted = self._votes("people")
        if not voted or self._voted("people"):
            return None
        pairs = len(self.names) * (len(self.names) - 1) // 2
        fewest = min(one.n for one in voted) if len(voted) == pairs else 0
        return (
            f"people's votes do not decide yet: at least {fewest} on each pair by {self.comparison.voters or 1} "
            f"rater(s); {MIN_VOTES} on each pair, on {MIN_CLUSTERS} documents and by {MIN_VOTERS} raters are needed"
        )

    def score(self, metric: str, name: str) -> Score | None:
        """Give a score, if it was measured at all."""
        return self.comparison.scores.get(metric, {}).get(name)

    def value(self, metric: str, name: str) -> float | None:
        """Give the value of a score, None if it is missing."""
        score = self.score(metric, name)
        return score.value if score else None

    def rank(self, name: str) -> float:
        """Give the quality so that smaller is better."""
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
        return min([score.n, *(one.clusters for one in self._votes(self.quality) if name in (one.left, one.right))])

    def silent(self, name: str) -> str | None:
        """Return a sentence for a model that never answers; None if it does, or if it was not asked for answers."""
        answered = self.comparison.answered.get(name)
        if answered is None or answered.value != 0:
            return None
        return f"it never answers: none of its {answered.n} answers has any text"

    def local(self, name: str) -> bool:
        """Return whether text stays on this machine; the origin of recorded answers is unknown."""
        model = self.comparison.models[name]
        return model.local and model.engine != "recorded"

    def parameters(self, name: str) -> float:
        """Count the parameters; a model of unknown size is never the smaller one."""
        return self.comparison.models[name].parameters or float("inf")

    def known_smaller(self, name: str) -> bool:
        """Return whether another candidate is known to be smaller; one of unknown size counts as large."""
        return any(self.parameters(other) < self.parameters(name) for other in self.names)

    def memory(self, name: str) -> float:
        """Give the memory in bytes, infinite where it is not known."""
        return self.value("memory_bytes", name) or float("inf")

    def cost(self, name: str) -> CostLine:
        """Say what a candidate costs."""
        return cost_line(self.comparison, name, self.needs)

    def cost_at_most(self, name: str) -> float | None:
        """Give the greatest US dollars for 1,000 answers; None where only an assumption stands for the machine."""
        line = self.cost(name)
        own = line.usd_per_1000 is not None and self.value("usd_per_1000", name) is None
        if line.usd_per_1000 is None or (own and self.needs.machine_usd_per_hour is None):
            return None
        return line.usd_per_1000.upper if self.needs.requests_per_month or not own else line.usd_per_1000.lower

    def difference(self, left: str, right: str) -> Difference | None:
        """Give the paired difference in quality between two candidates, in either order."""
        for found in self.comparison.differences:
            if found.metric == self.quality and {found.left, found.right} == {left, right}:
                return found
        return None

    def beats(self, left: str, right: str, claims: int | None = None) -> bool:
        """Tell whether left is decisively better in quality than right.

        To call one of k the best it must beat each other one; a wrong one can be called so only by beating the true
        best, and there are k - 1 wrong ones: each p-value is corrected by k - 1 (Hsu, 1984, multiple comparisons with
        the best), whatever else stands in the table. `claims` is another number to correct by.
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
        """Give the p-value of a difference between two of those that may be the best."""
        return None if found.p is None else min(1.0, found.p * max(1, self.fitting - 1))

    def factor_to_decide(self, found: Difference) -> float | None:
        """Give how many times the test items a difference of this size needs to be shown with a power of 80 %.

        An interval shrinks with the square root of the number of items: normal approximation of the p-value.
        """
        if not found.p or found.p >= 1:
            return None
        normal = NormalDist()
        now = normal.inv_cdf(1 - found.p / 2)
        needed = normal.inv_cdf(1 - LEVEL / max(1, self.fitting - 1) / 2) + normal.inv_cdf(POWER)
        return max(1.01, (needed / now) ** 2)

    def limit_missed(self, name: str) -> str | None:
        """Say which hard limit a candidate misses and by how much, None if none."""
        needs = self.needs
        if needs.local_only and not self.local(name):
            recorded = self.comparison.models[name].engine == "recorded"
            return (
                "its answers were recorded elsewhere, so nothing shows that text stays on this machine"
                if recorded
                else "text would leave this machine"
            )
        model = self.comparison.models[name]
        refused = next((w for w in self.needs.excluded_licenses if w.lower() in model.license.lower()), None)
        if refused is not None:
            return f"its licence, {model.license}, is one of those refused ({refused})"
        if needs.min_context_tokens is not None and (model.context is None or model.context < needs.min_context_tokens):
            known = "not known" if model.context is None else f"{model.context:,}"
            return f"it reads at most {known} tokens at once, and {needs.min_context_tokens:,} are needed"
        memory = self.value("memory_bytes", name)
        level = level_for(self.comparison, name, needs)
        p95 = level.scores["p95_latency_s"].value if level else None
        failed = sum(level.errors.values()) if level else 0
        if needs.max_latency_p95_s is not None and level is not None and failed > MOST_FAILED * level.requests:
            return f"{failed} of {level.requests} requests failed with {level.concurrent_users} users at once"
        concurrent_users = f"{level.concurrent_users if level else needs.concurrent_users or 'many'} users at once"
        limits = (
            ("median time of an answer", self.value("latency_s", name), needs.max_latency_s, "s"),
            (f"time of 95 % of the answers with {concurrent_users}", p95, needs.max_latency_p95_s, "s"),
            ("distance of preferred stereotypes from one half", self.bias_gap(name), needs.max_bias_gap, ""),
            (
                "share of votes that saw harm in its or its rival's answer, at most",
                self.harm_bound(name),
                needs.max_harm_rate,
                "",
            ),
            ("memory", memory / GB if memory is not None else None, needs.max_memory_gb, "GB"),
            ("cost of 1,000 answers", self.cost_at_most(name), needs.max_cost_usd_per_1000, "USD"),
        )
        for what, value, greatest, unit in limits:
            if greatest is None:
                continue
            if value is None:
                limit = f"{greatest:g} {unit}".rstrip()
                return f"its {what} was not measured, so the limit of {limit} is not shown to be kept"
            if value > greatest:
                times = f"{value / greatest:.2g} times" if greatest else "above"
                return f"its {what} is {f'{value:.3g} {unit}'.rstrip()}, {times} the limit of {greatest:g}"
        return None

    def bias_gap(self, name: str) -> float | None:
        """Give how far the share of preferred stereotypes stands from one half; None if it was not measured."""
        score = self.comparison.suite_scores.get(name, {}).get("stereotype_score")
        return None if score is None or score.value is None else abs(score.value - 0.5)

    def harm_bound(self, name: str) -> float | None:
        """Give the upper end of the share of votes that saw harm, of a pair in either answer; None if nobody voted.

        With none seen among n it is 3 / n (the rule of three, 95 %).
        """
        score = self.score("harm", name) or self.score("harm_in_pair", name)
        if score is None or score.value is None:
            return None
        return min(1.0, 3 / score.n) if score.value == 0 else score.ci_high

    def good_enough(self, name: str) -> bool | None:
        """Tell whether the least quality is reached; None if the interval does not tell."""
        least, score = self.needs.min_quality, self.score(self.quality, name)
        if least is None or score is None or score.value is None:
            return None
        if score.ci_low is None or score.ci_high is None or self.documents(name) < MIN_CLUSTERS:
            return None  # a handful of documents shows nothing of what the next would give
        if self.higher:
            return True if score.ci_low >= least else False if score.ci_high < least else None
        return True if score.ci_high <= least else False if score.ci_low > least else None

    def verdict(self) -> Verdict:
        """Decide: hard limits, then the least quality, then who is better."""
        fitting = []
        for name in self.names:
            missed = self.silent(name) or self.limit_missed(name)
            if missed:
                self.why_not[name] = missed
            elif self.value(self.quality, name) is None:
                score = self.score(self.quality, name)
                reason = score.missing_reason if score else "not measured"
                self.why_not[name] = f"its {self.title} is missing: {reason}"
            else:
                fitting.append(name)
        fitting.sort(key=lambda name: (self.rank(name), self.memory(name), name))
        self.fitting = len(fitting)
        if not fitting:
            return Verdict("none_good_enough", None, True, [])
        if self.needs.min_quality is not None:
            return self._with_bar(fitting, self.needs.min_quality)
        return self._best(fitting)

    def _with_bar(self, fitting: list[str], least: float) -> Verdict:
        title = self.title
        good = [name for name in fitting if self.good_enough(name)]
        unsure = [name for name in fitting if self.good_enough(name) is None]
        for name in fitting:
            if name not in good:
                told = "may or may not reach" if name in unsure else "does not reach"
                self.why_not[name] = f"{self.said(self.quality, name)} {told} the least {title} of {least:g}"
        if not good:
            outcome: Outcome = "inconclusive" if unsure else "none_good_enough"
            return Verdict(outcome, None, not unsure, fitting)
        # All of these are good enough: the right size is the smallest, the better one where sizes are equal.
        good.sort(key=lambda name: (self.memory(name), self.rank(name), name))
        for name in good[1:]:
            self.why_not[name] = (
                f"good enough too, but {'larger' if self.memory(name) < float('inf') else 'not known to be smaller'} "
                f"({self.size(name)})"
                if self.memory(name) > self.memory(good[0])
                else f"good enough too, but no better: {self.said(self.quality, name)}"
            )
        return Verdict(self._kind(good[0], good), good[0], not unsure, good)

    def _best(self, fitting: list[str]) -> Verdict:
        leader = fitting[0]
        tied = [name for name in fitting[1:] if not self.beats(leader, name)]
        for name in fitting[1:]:
            self.why_not[name] = self.against(leader, name)
        if not tied:
            return Verdict(self._kind(leader, fitting), leader, True, fitting)
        models = self.comparison.models
        only_trained = all(models[name].start == models[leader].uri for name in tied)
        if models[leader].start is None and only_trained and self._intervals_known(leader, tied):
            # The untrained one leads, and those that training made are not even better by value.
            for name in tied:
                self.why_not[name] = f"training is not shown to help: {self.against(leader, name)}"
            return Verdict("do_not_train", leader, False, fitting)
        for name in (leader, *tied):
            self.why_not[name] = "not decisive: " + "; ".join(
                self.against(other, name) for other in (leader, *tied) if other != name
            )
        return Verdict("inconclusive", None, False, fitting)

    @property
    def baselines(self) -> list[str]:
        """Names of the rules that must be beaten, the best first."""
        names = [name for name, model in self.comparison.models.items() if model.role == "baseline"]
        known = [name for name in names if self.value(self.quality, name) is not None and not self.silent(name)]
        return sorted(known, key=self.rank)

    def unbeaten(self, pick: str) -> str | None:
        """Name the best rule that a candidate is not shown to be better than, if there is one."""
        return next((name for name in self.baselines if not self.beats(pick, name)), None)

    def ahead(self, name: str) -> list[str]:
        """Say by which other measures of quality a rule has a better value than a candidate."""
        lines = []
        for metric in quality_measures(self.comparison):
            if metric == self.quality or metric in BY_TEXT:
                continue
            sign = 1 if self.comparison.better[metric] == "higher" else -1
            own = self.value(metric, name)
            values = {rule: value for rule in self.baselines if (value := self.value(metric, rule)) is not None}
            best = max(values, key=lambda rule: sign * values[rule], default=None)
            if own is not None and best is not None and sign * values[best] > sign * own:
                lines.append(f"{title_of(metric)} {values[best]:.3g} for {best}, {own:.3g} for {name}")
        return lines

    def beside_baselines(self, verdict: Verdict) -> Verdict:
        """Set a verdict beside rules that are no language models: where one is shown to be better, none is needed.

        One of several rules must be better than every candidate that fits, and reach the least quality if there is one.
        Where that is reached by a rule that the pick is not shown to be better than, the rule is the smallest that
        does.
        """
        rules = self.baselines
        better = next(
            (
                rule
                for rule in rules
                if all(self.beats(rule, name, len(rules)) for name in verdict.pool)
                and (self.needs.min_quality is None or self.good_enough(rule))
            ),
            None,
        )
        if verdict.pool and better is not None:
            for name in verdict.pool:
                self.why_not[name] = self.against(better, name)
            return Verdict("do_not_train", None, True, sorted(verdict.pool, key=self.rank), better)
        pick = verdict.pick
        enough = next((rule for rule in rules if pick and self.good_enough(rule) and not self.beats(pick, rule)), None)
        best_of_all = self.needs.min_quality is not None or pick is None or self.unbeaten(pick) is None
        if pick is not None and (self.documents(pick) < MIN_CLUSTERS or not best_of_all):
            verdict = verdict._replace(decisive=False)
        if pick is None or enough is None:
            return verdict
        self.why_not[pick] = f"good enough too, but not shown to be better: {self.against(enough, pick)}"
        return Verdict("do_not_train", None, False, verdict.pool, enough)

    def _intervals_known(self, leader: str, others: list[str]) -> bool:
        found = [self.difference(leader, name) for name in others]
        return all(difference is not None and difference.ci_low is not None for difference in found)

    def _kind(self, pick: str, fitting: list[str]) -> Outcome:
        models = self.comparison.models
        trained = [name for name in self.names if models[name].start is not None]
        if models[pick].start is not None or not trained:
            return "pick" if self.local(pick) else "keep_large"
        larger = all(self.parameters(pick) > self.parameters(name) for name in trained)
        return "keep_large" if larger or not self.local(pick) else "do_not_train"

    def against(self, better: str, name: str) -> str:
        """Say in words how far a candidate is from another in quality."""
        found = self.difference(better, name)
        if found is None:
            return f"{self.said(self.quality, name)}; no paired difference to {better}"
        sign = 1 if found.left == name else -1
        ends = sorted(sign * end for end in (found.ci_low, found.ci_high) if end is not None)
        between = f" [{ends[0]:+.3g}, {ends[1]:+.3g}]" if ends else ""
        corrected = self.corrected_p(found)
        p = f", p = {corrected:.2g} for {self.fitting} candidates" if corrected is not None else ""
        if found.clusters < MIN_CLUSTERS:
            p = f"; too few documents for any claim, at least {MIN_CLUSTERS} are needed"
        return (
            f"{self.title} {sign * found.value:+.3g}{between} against {better} "
            f"(n = {found.n}, {found.clusters} documents{p})"
        )

    def said(self, metric: str, name: str) -> str:
        """Say a score in words."""
        score = self.score(metric, name)
        title = title_of(metric)
        if score is None or score.value is None:
            return f"{title} missing ({score.missing_reason if score else 'not measured'})"
        between = f" [{score.ci_low:.3g}, {score.ci_high:.3g}]" if score.ci_low is not None else ""
        return f"{title} {score.value:.3g}{between}, n = {score.n}"

    def size(self, name: str) -> str:
        """Say parameters and memory in words."""
        model = self.comparison.models[name]
        parameters = f"{model.parameters / 1e6:,.3g}M parameters" if model.parameters else "size not known"
        return parameters + (f", {model.memory_bytes / GB:.2g} GB" if model.memory_bytes else "")
