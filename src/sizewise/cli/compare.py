"""`sizewise compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.candidates import LEADING_SCORES, candidates_table, default_quality
from sizewise.cli.drift_chart import drift_charts
from sizewise.cli.help import Command
from sizewise.cli.options import DATA, LIMITS, OUTPUT, Csv, Json, Seed, Wide
from sizewise.cli.output import (
    print_csv,
    print_line,
    print_notes,
    print_object,
    print_path,
    print_saved,
    print_table,
    print_verdict,
)
from sizewise.cli.run_ids import newest_runs
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sizewise.comparison import Requirement
    from sizewise.records import Comparison, Difference, Score
    from sizewise.store import Saved


MISSED = 3
PEOPLE = "People's grades"
OUTCOMES = {"met": "met", "missed": "MISSED", "undecided": "undecided"}
HEADINGS = ["left", "right", "left - right [95 %]", "p (adjusted)", "n", "verdict"]
WIDE_HEADINGS = [
    "metric",
    *HEADINGS[:3],
    "detectable",
    "documents (needed)",
    "p",
    "p (adjusted)",
    "classical p",
    "n",
    "verdict",
]


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def compare(
        ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Two or more evaluation ids.")] = None,
        history: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                rich_help_panel=DATA,
                help="Model URI, dataset id or name: show all its evaluations over time.",
            ),
        ] = None,
        loadtest: Annotated[
            list[str] | None,
            typer.Option(
                metavar="ID",
                rich_help_panel=DATA,
                help="Load test of one of the models; MODEL=ID if it was served under another name.",
            ),
        ] = None,
        require: Annotated[
            list[str] | None,
            typer.Option(
                metavar="EXPR",
                rich_help_panel=LIMITS,
                help='Condition on the first evaluation (old: the second): "bleu >= old - 0.5"; exit 3 if the interval '
                "of the difference shows that it is missed.",
            ),
        ] = None,
        strict: Annotated[
            bool,
            typer.Option(
                "--strict",
                rich_help_panel=LIMITS,
                help="Count undecided conditions as missed. Without it, they pass.",
            ),
        ] = False,
        junit: Annotated[
            Path | None,
            typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Write the conditions as JUnit XML."),
        ] = None,
        markdown: Annotated[
            Path | None,
            typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Write the conditions as Markdown."),
        ] = None,
        items: Annotated[
            bool, typer.Option("--items", rich_help_panel=OUTPUT, help="Show the items that a person should review.")
        ] = False,
        grade_sheet: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                rich_help_panel=PEOPLE,
                help="Write a CSV file of answers for people to grade, drawn where the measures leave doubt.",
            ),
        ] = None,
        graded_items: Annotated[
            int, typer.Option(metavar="N", rich_help_panel=PEOPLE, help="With --grade-sheet: items to grade.")
        ] = 50,
        grades: Annotated[
            Path | None,
            typer.Option(metavar="FILE", rich_help_panel=PEOPLE, help="Compare by the grades of a filled-in sheet."),
        ] = None,
        seed: Seed = 0,
        classical_tests: Annotated[
            bool,
            typer.Option(
                "--classical-tests",
                rich_help_panel=OUTPUT,
                help="Also compute the p-values that papers report; they take items for independent.",
            ),
        ] = False,
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """Compare evaluations on the same data: paired differences with intervals.

        Example: sizewise compare eval-1111111111 eval-2222222222
        """
        from sizewise.comparison import compare as compare_evaluations

        if history is not None:
            _history(history, seed, json, csv, wide)
            return
        if not ids:
            raise UsageError("No evaluations given.", "two ids, or --history NAME", "sizewise runs")
        if require and len(ids) != 2:
            raise UsageError(
                f"--require compares two evaluations, not {len(ids)}.", "the new one, then the old one", "sizewise runs"
            )
        if (junit or markdown) and not require:
            raise UsageError(
                "--junit and --markdown need at least one condition.",
                "--require EXPR with them",
                f'sizewise compare {" ".join(ids)} --require "token_f1 >= old - 0.02" --junit FILE',
            )
        ids = newest_runs(ids)
        if grade_sheet is not None:
            _grade_sheet(grade_sheet, ids, graded_items, seed, json)
            return
        saved = compare_evaluations(
            ids, load_tests=_load_tests(ids, loadtest or []), seed=seed, classical_tests=classical_tests, grades=grades
        )
        checked = _check(saved.record, ids, require, junit, markdown) if require else []
        if items:
            _items(saved, seed, json, csv)
        elif not print_saved(saved, json):
            _print(saved, csv, wide)
            for condition in checked if not csv else ():
                print_line(f"{OUTCOMES[condition.outcome]}: {condition.expression} ({condition.details})")
        failing = ("missed", "undecided") if strict else ("missed",)
        if any(condition.outcome in failing for condition in checked):
            raise typer.Exit(MISSED)


def _grade_sheet(path: Path, ids: list[str], items: int, seed: int, as_json: bool) -> None:
    """Write the answers that people should grade, and say how to go on."""
    from sizewise.comparison import write_grade_sheet

    answers = write_grade_sheet(path, ids, items=items, seed=seed)
    if print_object("grade_sheet", None, str(path), {"answers": answers, "evaluations": ids}, as_json):
        return
    print_path(str(path))
    print_notes(
        [
            f"{answers} answers, in random order and without the models' names. Fill in the column 'grade': right or "
            f"wrong, or a number. Then: sizewise compare {' '.join(ids)} --grades {path}"
        ]
    )


def _load_tests(ids: list[str], given: list[str]) -> dict[str, str]:
    """Match each load test to a compared model, by its URI or the name it is served under.

    Raises:
        UsageError: a load test matches no model, or several.
    """
    from sizewise.records import Evaluation, LoadTest
    from sizewise.store import Store

    store = Store()
    uris = list(dict.fromkeys(store.read(Evaluation, evaluation_id).model.uri for evaluation_id in ids))
    found = {}
    for argument in given:
        name, named, load_id = argument.rpartition("=")
        tested = store.read(LoadTest, load_id)
        same = [uri for uri in uris if uri == tested.uri or uri.rpartition(":")[2].rpartition("/")[2] == tested.model]
        names = [name] if named else same
        if len(names) != 1:
            raise UsageError(
                f"{load_id} tested '{tested.model}', which doesn't match exactly one of the compared models.",
                ", ".join(uris),
                f"--loadtest 'MODEL={load_id}'",
            )
        found[names[0]] = load_id
    return found


def _items(saved: Saved[Comparison], seed: int, as_json: bool, as_csv: bool) -> None:
    """Print the items that a person should review."""
    from sizewise.cli.item_table import print_items
    from sizewise.comparison import review_items

    found = review_items(saved, seed=seed)
    if not print_object("items", saved.id, None, found, as_json):
        print_items(found, as_csv)


def _history(name: str, seed: int, as_json: bool, as_csv: bool, wide: bool) -> None:
    """Print all evaluations of a model or dataset and what changed between them."""
    from sizewise.comparison import history as gather
    from sizewise.report.words import measure_of, value_text
    from sizewise.store import Store

    saved = Store().write_new(gather(name, seed=seed))
    found = saved.record
    if print_saved(saved, as_json):
        return
    metrics = list(dict.fromkeys(metric for entry in found.entries for metric in entry.scores))
    if not (wide or as_csv):
        metrics = [metric for metric in LEADING_SCORES if metric in metrics][:1] or metrics[:1]
    headings = ["measured (UTC)", "evaluation", "model", "data", *(measure_of(metric).title for metric in metrics)]
    rows = [
        [
            entry.created.removesuffix("+00:00"),
            entry.evaluation,
            entry.model,
            entry.data,
            *(_cell(entry.scores.get(metric), value_text) for metric in metrics),
        ]
        for entry in found.entries
    ]
    if print_csv(headings, rows, as_csv):
        return
    print_table(headings, rows)
    if found.changes:
        print_line("")
        print_table(WIDE_HEADINGS, [_difference(difference, wide=True) for difference in found.changes])
    for metric in metrics[:1]:
        for title, lines in drift_charts(found, metric):
            print_line(f"\n{measure_of(metric).title} of {title}")
            for line in lines:
                print_line(line)
    for change in found.drift:
        print_line(_drift(change))
    print_notes(found.notes)
    print_path(f"history: {saved.id}")


def _drift(change: Difference) -> str:
    """Describe how far the newest run of an evaluation is from the first one."""
    from sizewise.report.words import measure_of, number

    ends = ""
    if change.ci_low is not None and change.ci_high is not None:
        ends = f" [{number(change.ci_low)}, {number(change.ci_high)}]"
    told = "not significant" if change.better is None else "better" if change.better == change.left else "worse"
    title = measure_of(change.metric).title
    return f"{change.left} against the first run, {change.right}: {title} {number(change.value)}{ends}, {told}."


def _cell(score: Score | None, text: Callable[[Score], str]) -> str:
    return "-" if score is None or score.value is None else text(score)


def _check(
    comparison: Comparison, ids: list[str], expressions: list[str], junit: Path | None, markdown: Path | None
) -> list[Requirement]:
    """Check conditions and write them to files."""
    from sizewise.comparison import as_junit, as_markdown, check_requirements, differences_on_all
    from sizewise.store import Store, write_atomically

    names = {record_id: name for name, record_id in comparison.evaluations.items()}
    new, old = (names[record_id] for record_id in ids)
    on_all = differences_on_all(comparison, Store()) if any("@all" in one for one in expressions) else []
    found = list(check_requirements(comparison, new, old, expressions, on_all=on_all))
    for path, text in ((junit, as_junit(found, new, old)), (markdown, as_markdown(found, new, old))):
        if path is not None:
            write_atomically(path, text)
    return found


def _print(saved: Saved[Comparison], csv: bool, wide: bool) -> None:
    """Print the verdict, the table of candidates and the differences."""
    from sizewise.report.words import measure_of

    comparison = saved.record
    quality = default_quality(comparison)
    table = candidates_table(comparison, quality, wide=wide)
    if print_csv(*table, csv):
        return
    print_verdict(_verdict(comparison, quality))
    print_table(*table)
    differences = [difference for difference in comparison.differences if wide or difference.metric == quality]
    print_line("")
    title = "" if wide or not quality else f"Differences on {measure_of(quality).title}"
    print_table(
        WIDE_HEADINGS if wide else HEADINGS, [_difference(difference, wide) for difference in differences], title
    )
    hidden = len(comparison.differences) - len(differences)
    if hidden:
        print_line(f"{hidden} differences on other metrics: --wide")
    print_notes(comparison.notes)
    print_notes(comparison.cautions, "caution")
    print_path(f"comparison: {saved.id}")


def _verdict(comparison: Comparison, quality: str | None) -> str:
    """Summarize which candidate leads on quality and whether the lead is significant."""
    from sizewise.report.words import measure_of, number

    scores = comparison.scores.get(quality or "", {})
    higher = comparison.better.get(quality or "") == "higher"
    ranked = sorted(
        (name for name in comparison.models if name in scores and scores[name].value is not None),
        key=lambda name: (scores[name].value or 0.0) * (-1 if higher else 1),
    )
    if quality is None or len(ranked) < 2:
        return "No verdict. Fewer than two candidates have a score for quality."
    first, second = ranked[:2]
    title = measure_of(quality).title
    found = next(
        (
            difference
            for difference in comparison.differences
            if difference.metric == quality and {difference.left, difference.right} == {first, second}
        ),
        None,
    )
    apart = next(
        (one for one in comparison.unlike if one.metric == quality and {one.left, one.right} == {first, second}), None
    )
    if found is None and apart is not None:
        return f"No verdict. {first} and {second} were measured in different ways on {title}: {apart.reason}."
    if found is None:
        return f"No verdict. {first} and {second} have no paired items on {title}."
    size = number(abs(found.value))
    if found.contested:
        return f"Ask people. {first} leads {second} by {size} on {title}, but {found.contested}."
    if found.better == first:
        return f"{first} is better than {second} on {title}, by {size}."
    if not found.value:
        return f"Too close to call. {first} and {second} have the same {title}."
    reason = _undecided(found)
    if reason == "inconclusive":
        reason = "the difference isn't significant"
    elif reason.startswith("too few"):
        reason = f"there are {reason}"
    return f"Too close to call. {first} leads {second} by {size} on {title}, but {reason}."


def _undecided(d: Difference) -> str:
    """Return why no candidate is called better."""
    from sizewise.report.words import BIAS
    from sizewise.stats import LEVEL, MIN_CLUSTERS

    if d.contested:
        return f"ask people: {d.contested}"
    if d.metric.partition("#")[0] in BIAS:
        differ = d.corrected_p is not None and d.corrected_p < LEVEL
        return "different; no verdict on bias" if differ else "no verdict on bias"
    return "inconclusive" if d.clusters >= MIN_CLUSTERS else f"too few documents ({d.clusters} of {MIN_CLUSTERS})"


def _difference(d: Difference, wide: bool = False) -> list[str]:
    """Format one difference as a row."""
    from sizewise.metrics.display import possible_ends
    from sizewise.report.words import measure_of, number

    ci_low, ci_high = possible_ends(d.metric, d.unit, d.family_ends)
    between = f" [{number(ci_low)}, {number(ci_high)}]" if ci_low is not None and ci_high is not None else ""
    pair = [d.left, d.right, number(d.value) + between]
    p_adjusted = number(d.corrected_p, 2) if d.corrected_p is not None else "-"
    better = {d.left: "left is better", d.right: "right is better"}
    verdict = better[d.better] if d.better else _undecided(d)
    if not wide:
        return [*pair, p_adjusted, str(d.n), verdict]
    return [
        measure_of(d.metric).title,
        *pair,
        number(d.detectable, 2) if d.detectable is not None else "-",
        f"{d.clusters} ({d.needed:,})" if d.needed is not None else str(d.clusters),
        number(d.p, 2) if d.p is not None else "-",
        p_adjusted,
        ", ".join(f"{test} {number(p, 2)}" for test, p in d.other_p.items()) or "-",
        str(d.n),
        verdict,
    ]
