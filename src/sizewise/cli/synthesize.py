"""`sizewise synthesize`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sizewise.cli.controls import escape_controls
from sizewise.cli.help import Command
from sizewise.cli.launching import LaunchMeasuring
from sizewise.cli.options import DATA, MODEL, OUTPUT, Csv, Device, Json, MaxUsd, Seed
from sizewise.cli.output import print_csv, print_line, print_object, print_path, print_table, reporting
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import Synthesis
    from sizewise.synthesis.drafts import Changed

REVIEW = "Review"


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def synthesize(
        paths: Annotated[
            list[str] | None, typer.Argument(metavar="PATH...", help="Documents: files, folders or demo:NAME.")
        ] = None,
        by: Annotated[
            str | None,
            typer.Option(
                metavar="MODEL", rich_help_panel=MODEL, help="Model that writes; extractive takes what documents say."
            ),
        ] = None,
        formats: Annotated[
            list[str] | None,
            typer.Option(
                "--format",
                metavar="NAME",
                rich_help_panel=DATA,
                show_default="question",
                help="What to write: question, faq, tutorial, table, dialogue, focal, unanswerable; repeatable.",
            ),
        ] = None,
        sample: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                rich_help_panel=MODEL,
                help="Approved drafts that the writer is checked on: 50 or more.",
            ),
        ] = None,
        accept_writer: Annotated[
            bool,
            typer.Option("--accept-writer", rich_help_panel=MODEL, help="Go on with a writer that fails its check."),
        ] = False,
        train_only: Annotated[
            bool,
            typer.Option("--train-only", rich_help_panel=DATA, help="Mark the examples for the training split."),
        ] = False,
        count: Annotated[
            int, typer.Option(metavar="N", min=1, rich_help_panel=DATA, help="Passages to write about.")
        ] = 100,
        out: Annotated[
            Path, typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="JSONL file of examples to write.")
        ] = Path("examples.jsonl"),
        approve: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                rich_help_panel=REVIEW,
                help="Review a file of drafts in the terminal: y (keep), n (reject), = and a corrected answer, or q.",
            ),
        ] = None,
        limit: Annotated[
            int | None,
            typer.Option(metavar="N", min=1, rich_help_panel=REVIEW, help="Maximum number of drafts in one session."),
        ] = None,
        max_usd: MaxUsd = None,
        seed: Seed = 0,
        device: Device = "auto",
        launch: LaunchMeasuring = None,
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Draft examples from documents with a model or without one, and review a share of them.

        Example: sizewise synthesize handbook/ --by openai:gpt-4o --max-usd 1
        Example: sizewise synthesize handbook/ --by extractive --train-only
        Example: sizewise synthesize --approve examples.jsonl
        """
        from sizewise.synthesis.drafts import approve as approve_drafts
        from sizewise.synthesis.drafts import draft as draft_examples
        from sizewise.synthesis.making import Options

        if approve is not None:
            if paths or by:
                raise UsageError(
                    "Drafts are either written or reviewed, not both.",
                    "--approve FILE alone",
                    f"sizewise synthesize --approve {approve}",
                )
            found = approve_drafts(approve, _review, limit)
            if print_object("approved", approve.name, str(approve.resolve()), found, json):
                return
            if found.value is None:
                print_line("No drafts reviewed yet.")
            else:
                print_line(
                    f"Approved unchanged: {found.value:.0%} [{found.ci_low:.0%}, {found.ci_high:.0%}] of {found.n} "
                    "reviewed."
                )
            return
        if not paths or by is None:
            raise UsageError(
                "Drafting needs documents and a writer.",
                "paths, and --by MODEL or --by extractive",
                "sizewise synthesize FOLDER --by extractive",
            )
        with reporting() as reporter:
            options = Options(count, tuple(formats or ("question",)), max_usd, seed, sample, accept_writer, train_only)
            made = draft_examples(paths, by, out, options, reporter=reporter)
        if not print_object("drafted", out.name, made.file, made, json):
            _print(made, out, csv)


def _print(made: Synthesis, out: Path, csv: bool) -> None:
    """Print how many drafts were kept, and why others were not."""
    headings = ["drafts", "number"]
    rows = [["kept", str(made.kept)], *([reason, str(number)] for reason, number in made.refused.items())]
    if print_csv(headings, rows, csv):
        return
    print_table(headings, rows, f"{made.asked} passages from {made.documents} documents, drafted by {made.by}")
    if len(made.formats) > 1:
        print_line("kept by format: " + ", ".join(f"{name} {number:,}" for name, number in made.formats.items()))
    if made.writer is not None:
        print_line(
            f"The writer answered {made.writer.value:.0%} [{made.writer.ci_low:.0%}, {made.writer.ci_high:.0%}] of "
            f"{made.writer.n} approved questions correctly."
        )
    elif made.by != "extractive":
        print_line("The writer wasn't checked: that takes 50 approved drafts (--sample FILE).")
    if made.approved:
        print_line(f"{made.approved} drafts approved earlier are kept too.")
    if made.kept + made.approved:
        print_path(f"next: sizewise synthesize --approve {out}   (review a share of them)")
    else:
        print_path(
            "No draft was kept: small models rarely write usable ones. next: a larger model, as in --by openai:gpt-4o"
        )


def _review(row: dict[str, Any], number: int, count: int) -> Changed:
    """Show a draft on stderr and read the reviewer's decision from stdin."""
    from sizewise.synthesis.drafts import Changed

    sys.stderr.write(
        escape_controls(
            f"\n{number + 1} of {count}, from {row['source']}\n\n{row.get('passage', '')}\n\n"
            f"Question: {row['prompt']}\nAnswer:   {row['references'][0]}\n",
            "\n\t",
        )
        + "y: keep   n: reject   q: stop   = and a corrected answer: "
    )
    sys.stderr.flush()
    line = sys.stdin.readline()
    reply = line.strip()
    if not line or reply.lower() in ("q", "quit"):
        return Changed("stop")
    if reply.lower() in ("y", "yes"):
        return Changed("yes")
    if reply.lower() in ("n", "no"):
        return Changed("no")
    corrected = reply.removeprefix("=").strip()
    return Changed("yes", corrected) if reply.startswith("=") and corrected else _review(row, number, count)
