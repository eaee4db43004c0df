"""`sizewise index`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import DATA, MODEL, OUTPUT, Csv, Json
from sizewise.cli.output import print_csv, print_line, print_object, print_path, print_table, reporting
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.retrieval.answerability import QuestionCheck, Share


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def index(
        paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Documents: files and folders.")],
        out: Annotated[Path, typer.Option(metavar="FOLDER", rich_help_panel=OUTPUT, help="Folder of the index.")],
        encoder: Annotated[
            str | None,
            typer.Option(
                metavar="MODEL",
                rich_help_panel=MODEL,
                show_default="by language",
                help="Sentence encoder: pkg:minilm, pkg:multilingual-e5-small, hf:ORG/NAME, run:ID or a folder.",
            ),
        ] = None,
        words_only: Annotated[
            bool,
            typer.Option("--words-only", rich_help_panel=MODEL, help="Search by words only, without an encoder."),
        ] = False,
        passage_words: Annotated[
            int | None,
            typer.Option(
                metavar="N",
                rich_help_panel=DATA,
                show_default="160, or as before",
                help="Maximum number of words of a passage.",
            ),
        ] = None,
        overlap: Annotated[
            int | None,
            typer.Option(
                metavar="N",
                rich_help_panel=DATA,
                show_default="0, or as before",
                help="Words that a passage repeats from the one before it, in whole sentences.",
            ),
        ] = None,
        rebuild: Annotated[
            bool, typer.Option("--rebuild", rich_help_panel=OUTPUT, help="Make the index anew instead of updating it.")
        ] = False,
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Index documents for search by words and by meaning; run again after they changed.

        Example: sizewise index handbook/ questions.jsonl --out handbook-index

        Examples that name their document teach the index when to answer.

        Serve answers from it: sizewise serve MODEL --agent support --docs handbook-index
        """
        from sizewise.datasets.indexing import AUTO, index_paths
        from sizewise.retrieval.stored import facts_of

        if words_only and encoder is not None:
            raise UsageError("--words-only and --encoder exclude each other.", "one of them", "--words-only")
        with reporting() as reporter:
            wanted = None if words_only else encoder or AUTO
            made = index_paths(
                paths, out, wanted, passage_words=passage_words, overlap=overlap, rebuild=rebuild, reporter=reporter
            )
        result = made._asdict() | {"check": made.check and made.check.as_json()}
        if print_object("index", out.name, str(out.resolve()), result, json):
            return
        uri = facts_of(out).encoder
        headings = ["documents", "number"]
        rows = [[name, f"{getattr(made, name):,}"] for name in ("added", "changed", "removed", "unchanged")]
        if print_csv(headings, rows, csv):
            return
        by = "words" if uri is None else f"words and meaning ({uri})"
        print_table(headings, rows, f"{made.passages:,} passages, {made.encoded:,} of them encoded now; found by {by}")
        if made.check is not None:
            _print_check(made.check)
        print_path(f"index: {out}")


def _print_check(check: QuestionCheck) -> None:
    from sizewise.retrieval.answerability import SURE

    rows = [
        ["right document first", _share(check.first)],
        ["right document among the first three", _share(check.among_three)],
        ["declined, though its document is there", _share(check.refused)],
        ["declined, with its document hidden", _share(check.declined)],
    ]
    print_table(
        ["questions", "share"], rows, f"{check.questions:,} questions that name their document, cross-validated"
    )
    if check.threshold != SURE:
        print_line(
            f"serve --min-confidence {check.threshold:.2f} declines {_share(check.refused_there)} by mistake, and "
            f"{_share(check.declined_there)} with the document hidden."
        )


def _share(share: Share) -> str:
    return f"{share.value:.0%} [{share.ci_low:.0%}, {share.ci_high:.0%}]"
