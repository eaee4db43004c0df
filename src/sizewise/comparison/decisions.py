"""analyze_decisions(): from kept probabilities to calibration, coverage, costs, curves and groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sizewise.comparison.decided import (
    CostRules,
    Decided,
    Subject,
    as_score,
    collect_labels,
    decided_before,
    decided_rows,
    off_by,
    positive_label,
)
from sizewise.comparison.error_costs import chosen_actions, cost_cells, cost_figures, cost_matrix
from sizewise.comparison.group_figures import GroupData, group_figures, group_notes, worst_error_gap
from sizewise.comparison.label_figures import MAX_CURVES, interval_ends, label_table, reliability_diagram
from sizewise.comparison.multi_decisions import analyze_multi
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Dataset, DecidedItem, Evaluation, Example, Explanation, ItemRow, Score
from sizewise.records.decision_analysis import (
    ConfusedPair,
    CostCells,
    CoveragePoint,
    DecisionAnalysis,
    DecisionCurve,
    LabelDrift,
    SelectiveClaim,
)
from sizewise.records.explanations import EXPLANATIONS_FILE
from sizewise.stats.calibration import calibration_error, decompose_brier
from sizewise.stats.decision_curves import (
    precision_recall_curve,
    roc_curve,
)
from sizewise.stats.error_costs import HAND_OVER
from sizewise.stats.inference import MIN_CLUSTERS, FloatArray, IntArray, Interval, estimate
from sizewise.stats.label_shift import label_shift
from sizewise.stats.selective import choose_coverage, risk_at, risk_coverage
from sizewise.store import Saved, Store, id_of

ANALYSIS_VERSION = 2
"""Raised when the same items give other figures."""
HANDED_OVER = "(handed over)"
SHOWN_ITEMS = 5
PART = "it is computed from all cases together, without an interval"
COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))
CLASSIFIER = "run:classifier-"


def analyze_decisions(
    evaluation: str | Saved[Evaluation],
    other: str | Saved[Evaluation] | None = None,
    *,
    rules: CostRules = CostRules(),  # noqa: B008 - frozen
    columns: Sequence[str] = (),
    store: Store | None = None,
    seed: int = 0,
) -> DecisionAnalysis:
    """Analyze the decisions of an evaluation.

    Args:
        evaluation: an evaluation of a model that gives probabilities, or its id.
        other: another one of the same data, such as the model before training; gaps between groups are compared.
        rules: costs of errors and stated risks.
        columns: columns that name groups of people; by default all that the data kept for this.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the draws.

    Raises:
        SizewiseError: the evaluation has no probabilities, or the other one is of other data.
    """
    store = store or Store()
    name = id_of(evaluation)
    _check_id(name)
    record = store.read(Evaluation, name)
    rows = read_items(store, name)
    question = record.model.question
    subject = Subject(name, record.model.uri, record.data, question.type if question else "choice")
    people = read_groups(store, record.data, columns)
    before = None
    if other is not None:
        _check_id(id_of(other))
        compared = store.read(Evaluation, id_of(other))
        if compared.data != record.data:
            raise SizewiseError(
                f"{id_of(other)} evaluated {compared.data}, but {name} evaluated {record.data}.",
                "two evaluations of the same data",
                f"sizewise evaluate {compared.model.uri} --data {record.data}",
            )
        before = (id_of(other), read_items(store, id_of(other)))
    return analyze_rows(rows, read_validation(store, record.model.uri), subject, rules, people, before, seed)


def _check_id(name: str) -> None:
    """Check that the id isn't that of a classifier, which must be evaluated first."""
    classifier = name.removeprefix("run:")
    if classifier.startswith("classifier-"):
        raise UsageError(
            f"{name} is a classifier, not an evaluation of one.",
            "the id of an evaluation",
            f"sizewise evaluate run:{classifier} --data ID",
        )


def read_items(store: Store, evaluation: str) -> list[ItemRow]:
    """Read the items of an evaluation."""
    return store.read_rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)


def labels_of(evaluation: str, store: Store | None = None) -> tuple[str, ...]:
    """Return the labels of an evaluation's decisions.

    Args:
        evaluation: its id.
        store: where records live; by default SIZEWISE_HOME.

    Raises:
        SizewiseError: there is no such evaluation.
    """
    store = store or Store()
    _check_id(evaluation)
    record = store.read(Evaluation, evaluation)
    return collect_labels(read_items(store, evaluation), read_validation(store, record.model.uri))


def read_validation(store: Store, uri: str) -> list[DecidedItem]:
    """Read the validation cases of a classifier; none of other models."""
    if not uri.startswith(CLASSIFIER):
        return []
    folder = store.folder("classifier", uri.removeprefix("run:"))
    return store.read_rows(folder, "validation.jsonl", DecidedItem) if (folder / "validation.jsonl").exists() else []


def read_explanations(store: Store, evaluation: str) -> tuple[Explanation, ...]:
    """Read what drove some decisions of an evaluation; none if nothing was kept."""
    folder = store.folder("evaluation", evaluation)
    there = (folder / EXPLANATIONS_FILE).exists()
    return tuple(store.read_rows(folder, EXPLANATIONS_FILE, Explanation)) if there else ()


def read_groups(store: Store, data: str, columns: Sequence[str]) -> GroupData:
    """Read the groups of people and the texts of a dataset's test examples.

    Raises:
        SizewiseError: the data have no such column.
    """
    known = store.read(Dataset, data).groups if store.exists("dataset", data) else {}
    absent = next((column for column in columns if column not in known), None)
    if absent is not None:
        raise SizewiseError(
            f"The test examples of {data} have no column '{absent}' of groups.",
            ", ".join(known) or "data that were read with --groups COLUMN",
            f"sizewise read FILE --groups {absent}; then evaluate on that dataset",
        )
    if not known:
        return GroupData({}, {})
    values: dict[str, dict[str, str]] = {}
    texts: dict[str, str] = {}
    for example in store.rows(store.folder("dataset", data), "test.examples.jsonl", Example):
        for column, value in example.attributes.items():
            values.setdefault(column, {})[example.id] = value
        texts[example.id] = "\n".join(part.content for part in example.messages)
    return GroupData({column: values[column] for column in columns or values}, texts)


def error_gap(rows: Sequence[ItemRow], people: GroupData, seed: int = 0) -> Score | None:
    """Compute the largest gap in an error rate between groups, deciding the most likely label; None without decisions.

    Args:
        rows: items of an evaluation.
        people: groups of people; texts aren't needed.
        seed: seed of the draws.
    """
    if not any(row.probabilities and row.references for row in rows):
        return None
    labels = collect_labels(rows, ())
    test = decided_rows(rows, labels)
    positive = positive_label(labels, test.correct, "")
    people = GroupData(people.groups, {})
    return worst_error_gap(group_figures(test, test.likeliest, labels, positive, people, None, seed), people)


def count_cells(rows: Sequence[ItemRow], validation: Sequence[DecidedItem]) -> CostCells | None:
    """Count the decisions of one candidate by probability; None if it gives no probabilities."""
    if not any(row.probabilities and row.references and row.uncontaminated and row.error is None for row in rows):
        return None
    labels = collect_labels(rows, validation)
    test, held_out = decided_rows(rows, labels), decided_before(validation, labels)
    return cost_cells(test, held_out, labels, positive_label(labels, test.correct, ""))


def analyze_rows(
    rows: Sequence[ItemRow],
    validation: Sequence[DecidedItem],
    subject: Subject,
    rules: CostRules,
    people: GroupData,
    before: tuple[str, Sequence[ItemRow]] | None = None,
    seed: int = 0,
) -> DecisionAnalysis:
    """Analyze decisions; pure.

    Args:
        rows: items of the evaluation.
        validation: cases that thresholds are chosen on; may be empty.
        subject: what is analyzed.
        rules: costs of errors and stated risks.
        people: groups of people.
        before: id and items of an evaluation whose gaps between groups are subtracted.
        seed: seed of the draws.

    Raises:
        SizewiseError: no item has probabilities.
    """
    _check(rows, subject)
    if subject.question_type == "multi":
        return analyze_multi(rows, subject, seed).model_copy(update={"method_version": ANALYSIS_VERSION})
    labels = collect_labels(rows, validation)
    test, held_out = decided_rows(rows, labels), decided_before(validation, labels)
    positive = positive_label(labels, test.correct, rules.positive, subject.question_type)
    matrix = cost_matrix(labels, rules.costs)
    actions = chosen_actions(test, matrix, rules)
    error = calibration_error(test.confidence, test.is_correct, test.clusters, seed=seed)
    earlier = None if before is None else (before[0], decided_rows(before[1], labels))
    return DecisionAnalysis(
        evaluation=subject.evaluation,
        model=subject.model,
        data=subject.data,
        labels=labels,
        positive="" if positive is None else labels[positive],
        n=len(test.items),
        clusters=len(set(test.clusters)),
        validation=len(held_out.items),
        scores=_scores(test, actions)
        | {"calibration_error": as_score("calibration_error", Interval(*error[:3]), len(test.items))},
        calibration_p=float(error.p) if np.isfinite(error.p) else None,
        reliability=reliability_diagram(test.confidence, test.is_correct, test.clusters),
        coverage=_coverage(test),
        claims=tuple(_claim(test, held_out, risk) for risk in rules.risks),
        by_label=label_table(test, actions, labels),
        curves=_curves(test, labels, positive),
        confusion=_confusion(test, actions, labels),
        drift=_drift(test, held_out, labels, seed),
        costs=cost_figures(test, held_out, labels, positive, rules) if matrix is not None else None,
        cells=cost_cells(test, held_out, labels, positive),
        groups=group_figures(test, actions, labels, positive, people, earlier, seed),
        notes=(*_notes(rows, test, held_out, labels, positive), *group_notes(test, people)),
        method_version=ANALYSIS_VERSION,
    )


def _check(rows: Sequence[ItemRow], subject: Subject) -> None:
    if not any(row.probabilities and row.references and row.uncontaminated for row in rows):
        raise SizewiseError(
            f"{subject.evaluation} has no probabilities: {subject.model} answered with text alone.",
            "an evaluation of a classifier, or of a model asked for decisions",
            "sizewise train tfidf --method linear --data ID; then sizewise evaluate run:ID --data ID",
        )


def _notes(
    rows: Sequence[ItemRow], test: Decided, held_out: Decided, labels: Sequence[str], positive: int | None
) -> list[str]:
    notes = []
    left_out = sum(1 for row in rows if row.kind == "example" and row.uncontaminated) - len(test.items)
    if left_out:
        notes.append(f"{left_out} of {left_out + len(test.items)} uncontaminated items have no probabilities.")
    if wrong := off_by(rows):
        notes.append(f"The probabilities of {wrong} items don't sum to 1 and were divided by their sum.")
    if not len(held_out.items):
        notes.append("The model kept no validation cases, so thresholds follow from the costs or from the test cases.")
    if positive is not None and len(labels) == 2:
        notes.append(f"'{labels[positive]}' is the positive label.")
    if len(set(test.clusters)) < MIN_CLUSTERS:
        notes.append(f"There are fewer than {MIN_CLUSTERS} source documents, too few for intervals.")
    return notes


def _share(hits: FloatArray, clusters: Sequence[str]) -> Interval | None:
    if not len(hits):
        return None
    stats = np.column_stack([hits, np.ones(len(hits))])
    return estimate(stats, clusters, lambda sums: sums[..., 0] / sums[..., 1], (0.0, 1.0))


def _scores(test: Decided, actions: IntArray) -> dict[str, Score]:
    n = len(test.items)
    parts = decompose_brier(test.probabilities, test.correct, test.clusters)
    area = risk_coverage(test.confidence, 1 - test.is_correct).area
    made = actions != HAND_OVER
    decided = (actions == test.correct)[made].astype(np.float64)
    clusters = [cluster for cluster, kept in zip(test.clusters, made, strict=True) if kept]
    parts_of = {"reliability": parts.reliability, "resolution": parts.resolution, "uncertainty": parts.uncertainty}
    return {
        "accuracy": as_score("accuracy", _share(decided, clusters), int(made.sum())),
        "brier": as_score("brier", parts.brier, n, unit="0-2"),
        "risk_coverage_area": _whole("risk_coverage_area", area, n),
    } | {f"brier_{name}": _whole(f"brier_{name}", value, n, "0-2") for name, value in parts_of.items()}


def _whole(metric: str, value: float, n: int, unit: str = "share") -> Score:
    return as_score(metric, Interval(value, float("nan"), float("nan")), n, unit=unit, why=PART)


def _coverage(test: Decided) -> tuple[CoveragePoint, ...]:
    """Measure the accuracy of the most confident cases at even steps; equal confidences are decided together."""
    order = np.argsort(-test.confidence, kind="stable")
    stated = test.confidence[order]
    points, seen = [], set()
    for coverage in COVERAGES:
        threshold = float(stated[max(0, int(np.ceil(coverage * len(stated))) - 1)])
        if threshold in seen:
            continue
        seen.add(threshold)
        kept = test.confidence >= threshold
        clusters = [cluster for cluster, one in zip(test.clusters, kept, strict=True) if one]
        found = _share(test.is_correct[kept], clusters)
        assert found is not None  # the case at the threshold is kept
        ci_low, ci_high = interval_ends(found)
        points.append(
            CoveragePoint(
                coverage=float(kept.mean()), threshold=threshold, accuracy=found.value, ci_low=ci_low, ci_high=ci_high
            )
        )
    return tuple(points)


def _claim(test: Decided, held_out: Decided, risk: float) -> SelectiveClaim:
    """Choose the threshold of a stated risk on validation cases and measure it on the test cases."""
    chosen_on = held_out if len(held_out.items) else test
    found = choose_coverage(chosen_on.confidence, 1 - chosen_on.is_correct, risk, chosen_on.clusters)
    n = len(test.items)
    none = "too few cases to promise this risk"
    measured = found and risk_at(found.threshold, test.confidence, 1 - test.is_correct, test.clusters)
    kept = test.confidence >= found.threshold if found else np.zeros(n, dtype=bool)
    clusters = [cluster for cluster, one in zip(test.clusters, kept, strict=True) if one]
    share = _share(kept.astype(np.float64), test.clusters) if found else None
    return SelectiveClaim(
        max_risk=risk,
        threshold=found.threshold if found else None,
        chosen_on="validation" if len(held_out.items) else "test",
        coverage=as_score("coverage", share, n, reason=none),
        accuracy=as_score("accuracy", _share(test.is_correct[kept], clusters), int(kept.sum()), reason=none),
        risk_bound=measured.risk_upper if measured else None,
    )


def _curves(test: Decided, labels: Sequence[str], positive: int | None) -> tuple[DecisionCurve, ...]:
    """Compute the curves of the positive label, or of each of a few labels."""
    chosen = [positive] if positive is not None else range(len(labels)) if len(labels) <= MAX_CURVES else []
    found = []
    for number in chosen:
        stated, hits = test.probabilities[:, number], (test.correct == number).astype(np.int64)
        for kind, curve in (
            ("roc", roc_curve(stated, hits, test.clusters)),
            ("precision_recall", precision_recall_curve(stated, hits, test.clusters)),
        ):
            if curve is not None:
                metric = "roc_auc" if kind == "roc" else "average_precision"
                area = as_score(metric, curve.area, len(hits))
                points = {"x": tuple(map(float, curve.x)), "y": tuple(map(float, curve.y))}
                facts = {"kind": kind, "label": labels[number], "area": area}
                found.append(DecisionCurve.model_validate(facts | points))
    return tuple(found)


def _confusion(test: Decided, actions: IntArray, labels: Sequence[str]) -> tuple[ConfusedPair, ...]:
    """Count the cells of the confusion matrix, errors first, and list their most confident cases."""
    cells: dict[tuple[int, int], list[int]] = {}
    for place in np.argsort(-test.confidence, kind="stable"):
        cells.setdefault((int(test.correct[place]), int(actions[place])), []).append(int(place))
    ordered = sorted(cells.items(), key=lambda cell: (cell[0][0] == cell[0][1], -len(cell[1]), cell[0]))
    return tuple(
        ConfusedPair(
            label=labels[correct],
            decided=HANDED_OVER if action == HAND_OVER else labels[action],
            n=len(places),
            items=tuple(test.items[place] for place in places[:SHOWN_ITEMS]),
        )
        for (correct, action), places in ordered
    )


def _drift(test: Decided, held_out: Decided, labels: Sequence[str], seed: int) -> LabelDrift | None:
    if not len(held_out.items):
        return None
    shift = label_shift(
        (held_out.likeliest, held_out.clusters), (test.likeliest, test.clusters), len(labels), seed=seed
    )
    return LabelDrift(
        before=dict(zip(labels, map(float, shift.before), strict=True)),
        after=dict(zip(labels, map(float, shift.after), strict=True)),
        n_before=len(held_out.items),
        n_after=len(test.items),
        distance=shift.distance,
        p=None if np.isnan(shift.p) else shift.p,
    )
