"""`sizewise decisions`."""

from __future__ import annotations

import csv as csv_files
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import COST, DATA, LIMITS, MEASUREMENT, Csv, Json, Seed
from sizewise.cli.output import (
    print_csv,
    print_line,
    print_notes,
    print_object,
    print_path,
    print_table,
    print_verdict,
    reporting,
)
from sizewise.controls import cell_number
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import DecisionAnalysis, Explanation, Score
    from sizewise.records.decision_analysis import GroupFigures

HEADINGS = ["label", "n", "precision", "recall", "F1", "ROC AUC"]
MAX_LABELS, MAX_CONFUSED = 12, 8
FIGURES = {
    "accuracy": "accuracy",
    "subset_accuracy": "all labels right",
    "hamming_loss": "wrong decisions about a label",
    "micro_f1": "micro F1",
    "calibration_error": "calibration error (debiased)",
    "brier": "Brier score",
}


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def decisions(
        evaluation: Annotated[str, typer.Argument(metavar="ID", help="Evaluation of a model with probabilities.")],
        other: Annotated[
            str | None,
            typer.Argument(metavar="ID", help="Another evaluation of the same data: gaps between groups are compared."),
        ] = None,
        costs: Annotated[
            Path | None,
            typer.Option(metavar="FILE", rich_help_panel=COST, help="CSV file with columns correct, decided and cost."),
        ] = None,
        cost: Annotated[
            list[str] | None,
            typer.Option(
                metavar="PAIR",
                rich_help_panel=COST,
                help="Cost of one error as CORRECT:DECIDED=COST; repeatable. Others cost 1.",
            ),
        ] = None,
        hand_over: Annotated[
            float | None,
            typer.Option(metavar="COST", min=0, rich_help_panel=COST, help="Cost of handing a case over to people."),
        ] = None,
        risk: Annotated[
            list[float] | None,
            typer.Option(
                metavar="SHARE",
                min=0.0001,
                max=0.9999,
                rich_help_panel=LIMITS,
                help="Acceptable share of wrong decisions (0 to 1); repeatable.",
            ),
        ] = None,
        positive: Annotated[
            str,
            typer.Option(
                metavar="LABEL",
                rich_help_panel=MEASUREMENT,
                help="Positive label; by default a predicate's first, or the rarer of two.",
            ),
        ] = "",
        groups: Annotated[
            list[str] | None,
            typer.Option(
                metavar="COLUMN",
                rich_help_panel=DATA,
                help="Column of groups from `sizewise read --groups`; all of them by default; repeatable.",
            ),
        ] = None,
        explain: Annotated[
            int,
            typer.Option(
                metavar="N",
                min=0,
                rich_help_panel=MEASUREMENT,
                help="Explain N decisions by the words or sentences that drove them: the most confident errors first.",
            ),
        ] = 0,
        item: Annotated[
            list[str] | None,
            typer.Option(metavar="ID", rich_help_panel=MEASUREMENT, help="Example to explain; repeatable."),
        ] = None,
        seed: Seed = 0,
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Analyze decisions: calibration, cases decided at a stated risk, costs of errors, labels and groups.

        Example: sizewise decisions eval-1111111111 --risk 0.01

        Costs: sizewise decisions eval-1111111111 --cost ham:spam=20 --cost spam:ham=1 --hand-over 0.5

        Why: sizewise decisions eval-1111111111 --explain 5
        """
        from sizewise.comparison import CostRules, analyze_decisions
        from sizewise.comparison.decisions import labels_of
        from sizewise.evaluation.explaining import explain_decisions

        stated = _costs(costs, cost or [], lambda: labels_of(evaluation))
        if hand_over is not None and stated is None:
            stated = {}
        rules = CostRules(stated, hand_over, positive, tuple(risk) if risk else CostRules().risks)
        found = analyze_decisions(evaluation, other, rules=rules, columns=groups or (), seed=seed)
        if explain or item:
            with reporting() as reporter:
                reasons = explain_decisions(evaluation, count=explain or 1, items=item or (), reporter=reporter)
            found = found.model_copy(update={"explanations": reasons})
        if not print_object("decision-analysis", found.evaluation, None, found, json):
            _print(found, csv)


def _costs(
    file: Path | None, pairs: list[str], labels: Callable[[], Sequence[str]]
) -> dict[str, dict[str, float]] | None:
    """Read costs of errors from a file and from options.

    Args:
        file: CSV file of costs.
        pairs: values of --cost.
        labels: returns the labels of the decisions, for pairs with several colons.

    Raises:
        UsageError: the file can't be read, or a cost isn't a number.
    """
    if file is None and not pairs:
        return None
    found: dict[str, dict[str, float]] = {}
    rows, commas = _rows(file) if file else ([], False)
    for correct, decided, value in [*rows, *(_pair(text, labels) for text in pairs)]:
        try:
            number = cell_number(value, commas=commas)
        except ValueError as error:
            number = math.nan
            doubt = f": {error}" if "may mean" in str(error) else ""
        else:
            doubt = ""
        if not math.isfinite(number):
            raise UsageError(
                f"The cost of deciding '{decided}' for '{correct}' is '{value}'{doubt}.",
                "a number without a currency or a sign between thousands",
                "--cost ham:spam=20",
            )
        if found.setdefault(correct, {}).setdefault(decided, number) != number:
            raise UsageError(
                f"Deciding '{decided}' for '{correct}' has two costs.",
                "one cost for each error",
                "leave one of them out",
            )
    return found


def _rows(file: Path) -> tuple[list[tuple[str, str, str]], bool]:
    """Read costs of errors, and whether the file separates cells by semicolons, so that numbers may have commas."""
    from sizewise.documents.saved_csv import open_csv

    try:
        with open_csv(file) as reader:
            named = [{(key or "").strip().lower(): value for key, value in row.items()} for row in reader]
            rows = [row for row in named if any(row.values())]
    except (OSError, ValueError, csv_files.Error) as error:
        raise UsageError(
            f"Can't read {file}: {error}.", "a CSV file in UTF-8", f"save {file} as CSV in UTF-8, or use --cost"
        ) from error
    columns = ("correct", "decided", "cost")
    if not rows or not set(columns) <= set(rows[0]):
        raise UsageError(f"{file} has no rows with costs.", f"the columns {', '.join(columns)}", f"edit {file}")
    found = []
    for number, row in enumerate(rows, start=1):
        if row.get(""):
            raise UsageError(
                f"Row {number} of {file} has more cells than the header.",
                "a decimal point, or semicolons between the cells",
                f"edit {file}",
            )
        found.append(tuple((row[name] or "").strip() for name in columns))
    return [(correct, decided, cost) for correct, decided, cost in found], reader.reader.dialect.delimiter == ";"


def _pair(text: str, labels: Callable[[], Sequence[str]]) -> tuple[str, str, str]:
    """Split CORRECT:DECIDED=COST; of several colons, the one between two labels counts.

    Raises:
        UsageError: it has another form, or there isn't one such colon.
    """
    named, _, value = text.rpartition("=")
    parts = named.split(":")
    splits = [(":".join(parts[:i]).strip(), ":".join(parts[i:]).strip()) for i in range(1, len(parts))]
    splits = [one for one in splits if all(one)]
    if not splits:
        raise UsageError(f"--cost {text} isn't valid.", "CORRECT:DECIDED=COST", "--cost ham:spam=20")
    if len(splits) > 1:
        from sizewise.comparison.decided import label_places

        known = tuple(labels())
        place = label_places(known)
        fitting = [one for one in splits if all(place(label) is not None for label in one)]
        if len(fitting) != 1:
            raise UsageError(
                f"--cost {text} can be split into {len(fitting) or 'no'} pairs of labels.",
                f"one pair of the labels {', '.join(known[:20])}",
                "state the costs in a CSV file with the columns correct, decided and cost: --costs FILE",
            )
        splits = fitting
    return *splits[0], value.strip()


def _print(found: DecisionAnalysis, csv: bool) -> None:
    from sizewise.report.words import claim_text

    rows = [
        [
            one.label,
            str(one.n),
            *(_text(score) for score in (one.precision, one.recall, one.f1, one.roc_auc)),
        ]
        for one in found.by_label
    ]
    if print_csv(HEADINGS, rows, csv):
        return
    print_verdict(claim_text(found))
    print_table(["figure", "value [95 %]", "n"], _figures(found))
    _print_claims(found)
    _print_costs(found)
    print_line("")
    shown = sorted(range(len(rows)), key=lambda i: found.by_label[i].f1.value or 0.0)[:MAX_LABELS]
    hidden = len(rows) - len(shown)
    title = f"Labels, the {len(shown)} worst of {len(rows)} (all: --csv)" if hidden else "Labels"
    print_table(HEADINGS, [rows[i] for i in (shown if hidden else range(len(rows)))], title)
    errors = [one for one in found.confusion if one.label != one.decided][:MAX_CONFUSED]
    if errors:
        print_line("")
        table = [[one.label, one.decided, str(one.n), ", ".join(one.items[:2])] for one in errors]
        print_table(["correct", "decided", "n", "items"], table, "Most frequent errors")
    for figures in found.groups:
        _print_groups(figures)
    for explanation in found.explanations:
        _print_explanation(explanation)
    print_notes(found.notes)
    print_path(f"evaluation: {found.evaluation}")


def _text(score: Score) -> str:
    from sizewise.report.words import value_text

    return value_text(score) if score.value is not None else "-"


def _figures(found: DecisionAnalysis) -> list[list[str]]:
    titles = FIGURES | ({"accuracy": "accuracy of the cheapest actions"} if found.costs is not None else {})
    rows = [
        [title, _text(found.scores[name]), str(found.scores[name].n)]
        for name, title in titles.items()
        if name in found.scores
    ]
    if found.drift is not None:
        p = "" if found.drift.p is None else f" (p = {found.drift.p:.2g})"
        rows.append(
            ["change of labels since validation", f"{100 * found.drift.distance:.1f}%{p}", str(found.drift.n_after)]
        )
    return rows


def _print_claims(found: DecisionAnalysis) -> None:
    rows = [
        [
            f"{100 * one.max_risk:g}%",
            f"{one.threshold:.3f}" if one.threshold is not None else "none",
            _text(one.coverage),
            _text(one.accuracy),
            f"{100 * one.risk_bound:.1f}%" if one.risk_bound is not None else "-",
        ]
        for one in found.claims
    ]
    if not rows:
        return
    print_line("")
    chosen = f"Decided at a stated risk; thresholds chosen on {found.claims[0].chosen_on} cases"
    print_table(["risk", "threshold", "cases decided", "accuracy", "risk at most"], rows, chosen)


def _print_costs(found: DecisionAnalysis) -> None:
    from sizewise.report.words import number

    costs = found.costs
    if costs is None:
        return
    rows = [
        ["cheapest action for each case", _text(costs.cost)],
        ["most likely label", _text(costs.most_likely)],
        [f"without a model: {costs.without_model_action}", number(costs.without_model)],
    ]
    if costs.threshold is not None and costs.threshold_cost is not None:
        rows.insert(1, [f"{found.positive} from {costs.threshold:.3f}", _text(costs.threshold_cost)])
    print_line("")
    print_table(["decision", "cost"], rows, "Cost of 1,000 decisions")
    errors = [
        f"{decided} instead of {correct} {number(costs.matrix[row][column])}"
        for row, correct in enumerate(costs.labels)
        for column, decided in enumerate(costs.labels)
        if row != column
    ]
    if len(errors) <= MAX_CONFUSED:
        print_line(f"cost of deciding {', '.join(errors)}")
    print_line(f"handed over: {_text(costs.handed_over)}; cost expected by the model: {number(costs.expected)}")


def _print_explanation(found: Explanation) -> None:
    from sizewise.report.words import explanation_text

    print_line("")
    label = f", correct is {found.label}" if found.label and found.label != found.option else ""
    rows = [[" ".join(one.text.split()), f"{one.effect:+z.2f}"] for one in found.passages]
    title = f"{found.item}: decided {found.option} ({100 * found.probability:.1f}%){label}"
    if rows:
        print_table([found.unit, "log-odds"], rows, title)
    else:
        print_line(f"{title}. No part of the text changes this decision.")
    print_line(explanation_text(found), "  ")


def _print_groups(figures: GroupFigures) -> None:
    from sizewise.report.words import rate_title

    gaps = {gap.rate: gap for gap in figures.gaps if not gap.compared_with}
    names = list(dict.fromkeys(group for rates in figures.rates.values() for group in rates))
    rows = [
        [rate_title(rate), *(_text(rates[name]) if name in rates else "-" for name in names)]
        for rate, rates in figures.rates.items()
    ]
    print_line("")
    print_table(["rate", *names], rows, f"By {figures.column}")
    table = [
        [
            rate_title(gap.rate) + (", change" if gap.compared_with else ""),
            _text(gap.size) if gap.size.value is not None else str(gap.size.missing_reason),
            f"{gap.left} over {gap.right}" if gap.left else "-",
            f"{gap.p:.2g}" if gap.p is not None else "-",
            f"{100 * gap.detectable:.1f} points" if gap.detectable is not None else "-",
        ]
        for gap in figures.gaps
    ]
    print_line("")
    print_table(["largest gap", "size [95 %]", "groups", "p", "found with 80 %"], table)
    if figures.predictability is not None and gaps:
        print_line(f"{figures.column} predicted from the text: AUC {_text(figures.predictability)} (0.5 is chance)")
    if figures.proxies:
        words = ", ".join(f"{one.word} ({one.group})" for one in figures.proxies)
        print_line(f"words associated with {figures.column}: {words}", "  ")
