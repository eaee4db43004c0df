"""From the answer to an example to its row: what each metric measures of it, and what it leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sizewise.errors import MissingExtraError
from sizewise.evaluation.extraction import evidence_of
from sizewise.evaluation.sampled import merge_samples
from sizewise.metrics import AnswerItem, CannotMeasure, Metric
from sizewise.metrics.registry import compares_references
from sizewise.records import Completion, Example, ItemRow
from sizewise.records.tool_calls import as_scored, scored_references


class AnswerRows:
    """Scores answers, and counts the ones that a metric leaves out.

    Args:
        metrics: metrics of answers.
        cannot: metric -> why it can't be measured on this data; extended if it can't be on any answer.
        as_wrong: whether requests that were refused for good are scored as empty answers.
        is_uncontaminated: whether an item, by its id, shares nothing with training text.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        cannot: dict[str, str],
        *,
        as_wrong: bool,
        is_uncontaminated: Callable[[str], bool],
    ) -> None:
        self._metrics, self._cannot, self._as_wrong = metrics, cannot, as_wrong
        self._is_uncontaminated = is_uncontaminated
        self._left_out: Counter[tuple[str, str]] = Counter()

    def restart(self) -> None:
        """Forget what was left out so far; choosing the prompt counts its own items."""
        self._left_out.clear()

    def sampled(self, example: Example, samples: Sequence[dict[str, Completion]]) -> ItemRow:
        """Score the answers to an example, one for each sample, as one row."""
        rows = [self.row(example, sample[example.id]) for sample in samples]
        return rows[0] if len(rows) == 1 else merge_samples(rows, self._metrics)

    def row(self, example: Example, answer: Completion) -> ItemRow:
        """Score an answer. A transient failure doesn't count against the model: a retry may succeed."""
        said = as_scored(answer.text, example)
        prompt = "\n".join(message.content for message in example.messages)
        references = scored_references(example)
        given = (example.answer_schema, answer.probabilities, answer.grade, answer.passages, answer.confidence)
        item = AnswerItem(said, references, prompt, *given)
        stats, error = {}, answer.error
        scored = answer.finish != "error" or (self._as_wrong and not answer.transient)
        for metric in self._metrics if scored else ():
            if metric.name in self._cannot or (compares_references(metric) and not example.references):
                continue
            try:
                stats[metric.name] = metric.measure(item)
            except MissingExtraError:
                raise
            except CannotMeasure as reason:  # of this item only
                self._left_out[metric.name, str(reason)] += 1
            except Exception as failure:  # a plug-in metric may raise anything; keep the other items
                error = f"metric {metric.name} failed: {type(failure).__name__}: {failure}"
        return ItemRow(
            item=example.id,
            kind="example",
            cluster=example.source,
            uncontaminated=self._is_uncontaminated(example.id),
            prompt=example.prompt,
            references=references,
            completion=said if answer.finish != "error" else None,
            finish=answer.finish,
            error=error,
            stats=stats,
            conversation="" if prompt == example.prompt else prompt,
            answer_schema=example.answer_schema,
            evidence=() if answer.finish == "error" else evidence_of(example, said, self._metrics),
            probabilities=answer.probabilities,
            grade=answer.grade,
            passages=answer.passages,
            confidence=answer.confidence,
        )

    def notes(self, answers: int, what: str) -> list[str]:
        """Write what was left out; a metric that leaves out all answers can't be measured.

        Args:
            answers: number of answers.
            what: what they are, in the plural.
        """
        for (name, reason), count in list(self._left_out.items()):
            if count == answers:  # no item has what the metric needs
                self._cannot[name] = reason
                del self._left_out[name, reason]
        return [
            f"{name} leaves out {count:,} of {answers:,} {what}: {reason}."
            for (name, reason), count in self._left_out.items()
        ]
