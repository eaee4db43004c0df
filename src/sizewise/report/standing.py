"""Where every candidate stands against the one that the verdict is about, on every measure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from sizewise.choice import quality_measures
from sizewise.choice.costing import level_for
from sizewise.choice.evidence import TEXT_METRICS, Choice
from sizewise.choice.verdicts import decide_verdict
from sizewise.metrics.display import measure_of
from sizewise.records import CostLine, Difference, Score
from sizewise.report.view import StudyView

Relation = Literal["subject", "better", "tie", "worse", "not tested", "not measured"]
"""How a candidate compares with the subject; two rules are only tested against candidates, not against each other."""
SAME = 0.02
"""Exact numbers that differ by less than this share count as equal."""
MAX_OTHER_METRICS = 3


class Ends(NamedTuple):
    """An interval in which a measure lies, and its direction."""

    lower: float
    upper: float
    higher_is_better: bool


class Standing:
    """The order of candidates and baselines, and the candidate that the page is about.

    Args:
        view: the study; its recommendation decides, not its record.
    """

    def __init__(self, view: StudyView) -> None:
        self.view, self.recommendation = view, view.recommendation
        self.comparison = view.comparison
        needs = self.recommendation.needs.model_copy(update={"quality": self.recommendation.quality})
        self.choice = Choice(self.comparison, needs)
        self.verdict = decide_verdict(self.choice)
        self.quality = self.choice.quality
        rest = [name for name in self.choice.names if name not in self.verdict.eligible]
        best_first = sorted(self.verdict.eligible, key=self.choice.rank) + sorted(rest, key=self.choice.rank)
        self.candidates = sorted(best_first, key=self.choice.rank)
        self.baselines = sorted(
            (name for name, model in self.comparison.models.items() if model.role == "baseline"), key=self.choice.rank
        )
        self.subject = self._subject(best_first)

    def _subject(self, best_first: list[str]) -> str:
        """Return the pick, else the provisional one, else the baseline that is enough for now, else the best."""
        chosen = self.recommendation.pick or self.recommendation.provisional
        if chosen is None and self.recommendation.outcome == "do_not_train" and self.choice.baselines:
            return self.verdict.baseline or self.choice.baselines[0]
        if chosen is None and self.recommendation.outcome == self.verdict.outcome == "inconclusive":
            chosen = self.verdict.baseline
        speaking = [name for name in best_first if not self.choice.silent(name)]
        return chosen or next(iter(speaking or best_first or self.baselines), "")

    @property
    def rival(self) -> str | None:
        """The best other candidate that answers, or None."""
        others = [name for name in self.candidates if name != self.subject and not self.choice.silent(name)]
        return next((name for name in others if self.score(self.quality, name) is not None), None)

    @property
    def best_baseline(self) -> str | None:
        """The best baseline other than the subject, or None."""
        return next((name for name in self.choice.baselines if name != self.subject), None)

    @property
    def names(self) -> list[str]:
        """Candidates, then baselines, each best first."""
        return [*self.candidates, *self.baselines]

    def score(self, metric: str, name: str) -> Score | None:
        """Look up a score that has a value."""
        found = self.choice.score(metric, name)
        return found if found is not None and found.value is not None else None

    def p95(self, name: str) -> tuple[Score, int] | None:
        """Look up the p95 latency under the load that counts, and its number of concurrent users."""
        level = level_for(self.comparison, name, self.choice.needs)
        score = level.scores["p95_latency_s"] if level else None
        if level is None or score is None or score.value is None:
            return None
        return score, level.concurrent_users or 0

    def cost(self, name: str) -> CostLine | None:
        """Look up the cost of a candidate; None for baselines and where it is unknown."""
        line = next((line for line in self.recommendation.costs if line.name == name), None)
        return line if line is not None and line.usd_per_1000 is not None else None

    def measures(self) -> dict[str, str]:
        """List the measures of the strip, with their short titles."""
        others = [name for name in quality_measures(self.comparison) if name not in (self.quality, *TEXT_METRICS)]
        quality = [self.quality, *others[:MAX_OTHER_METRICS]]
        found = {name: measure_of(name).title for name in quality}
        if any(self.p95(name) for name in self.candidates):
            found["p95_latency_s"] = "Latency p95"
        elif any(self.score("latency_s", name) for name in self.candidates):
            found["latency_s"] = "Latency"
        found["memory_bytes"], found["cost"] = "Memory", "Cost"
        if self.comparison.suite_scores or self.view.bias:
            found["stereotypes"] = "Stereotypes"
        if self.view.language_nuance is not None:
            found["language_nuance"] = "Language nuance"
        return found

    def relation(self, metric: str, name: str) -> Relation:
        """Compare a candidate with the subject on one measure of `measures`."""
        if name == self.subject:
            return "subject" if self._ends(metric, name) else "not measured"
        ours, theirs = self._ends(metric, name), self._ends(metric, self.subject)
        if ours is None or theirs is None or (metric == "stereotypes" and self._unlike_bias(name)):
            return "not measured"
        pair = self.difference(metric, name)
        if metric == self.quality and pair is not None:
            if self.choice.beats(name, self.subject):
                return "better"
            return "worse" if self.choice.beats(self.subject, name) else "tie"
        if pair is not None:
            return "tie" if pair.better is None else "better" if pair.better == name else "worse"
        if metric == "cost" and self._self_hosted(name) and self._self_hosted(self.subject):
            # The same machine at the same price: the cheaper one is the one with the higher throughput.
            speeds = self._ends("requests_per_s", name), self._ends("requests_per_s", self.subject)
            if speeds[0] is not None and speeds[1] is not None:
                ours, theirs = speeds[0], speeds[1]
        found = _compared(ours, theirs)
        rules = all(self.comparison.models[one].role == "baseline" for one in (name, self.subject))
        return "not tested" if found == "tie" and rules and metric in self.comparison.better else found

    def _unlike_bias(self, name: str) -> bool:
        """Check whether the bias of a candidate was measured in another way than the subject's."""
        asked = self.view.asked_for_bias()
        return (name in asked) != (self.subject in asked)

    def difference(self, metric: str, name: str) -> Difference | None:
        """Look up the paired difference between a candidate and the subject, as candidate minus subject."""
        comparison = self.view.language_nuance if metric == "language_nuance" else self.comparison
        for found in comparison.differences if comparison else ():
            if found.metric == metric and {found.left, found.right} == {name, self.subject}:
                return found if found.left == name else found.turned()
        return None

    def _self_hosted(self, name: str) -> bool:
        line = self.cost(name)
        return line is not None and self.score("usd_per_1000", name) is None

    def _ends(self, metric: str, name: str) -> Ends | None:
        """Return the interval of a measure for one candidate; None if it wasn't measured."""
        if metric == "cost":
            line = self.cost(name)
            price = line.usd_per_1000 if line else None
            return Ends(price.lower, price.upper, higher_is_better=False) if price else None
        score = self._measured(metric, name)
        if score is None or score.value is None:
            return None
        lower = score.value if score.ci_low is None else score.ci_low
        upper = score.value if score.ci_high is None else score.ci_high
        if metric == "stereotypes":
            distances = sorted((abs(lower - 0.5), abs(upper - 0.5)))
            return Ends(0.0 if lower <= 0.5 <= upper else distances[0], distances[1], higher_is_better=False)
        better = "higher" if metric == "language_nuance" else self.comparison.better.get(metric, "lower")
        return Ends(lower, upper, higher_is_better=better == "higher")

    def _measured(self, metric: str, name: str) -> Score | None:
        if metric == "stereotypes":
            return self.stereotype(name)
        if metric == "language_nuance":
            nuance = self.view.language_nuance
            return nuance.scores.get("language_nuance", {}).get(name) if nuance else None
        if metric == "p95_latency_s":
            found = self.p95(name)
            return found[0] if found else None
        if metric == "requests_per_s":
            level = level_for(self.comparison, name, self.choice.needs)
            return level.scores["requests_per_s"] if level else self.score(metric, name)
        return self.score(metric, name)

    def stereotype(self, name: str) -> Score | None:
        """Look up the stereotype score of a candidate."""
        found = self.view.bias.get(name)
        scores = found.scores if found else self.comparison.suite_scores.get(name, {})
        return scores.get("stereotype_score")


def _compared(ours: Ends, theirs: Ends) -> Relation:
    """Compare two intervals: they tie if they overlap, or if two exact numbers are about equal."""
    if not ours.higher_is_better:
        ours, theirs = (Ends(-one.upper, -one.lower, higher_is_better=True) for one in (ours, theirs))
    largest = max(abs(end) for end in (*ours[:2], *theirs[:2]))
    if ours.lower - theirs.upper > SAME * largest:
        return "better"
    return "worse" if theirs.lower - ours.upper > SAME * largest else "tie"
