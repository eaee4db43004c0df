"""`sizewise synthesize`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_object, print_table, reporting
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.synthesis.drafts import Changed


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def synthesize(
        paths: Annotated[list[str] | None, typer.Argument(help="Files, folders or demo:NAME.")] = None,
        by: Annotated[str | None, typer.Option(help="URI of the model that writes.")] = None,
        out: Annotated[Path, typer.Option(help="File of examples to write.")] = Path("examples.jsonl"),
        count: Annotated[int, typer.Option(help="Passages to ask about.", min=1)] = 100,
        approve: Annotated[
            Path | None, typer.Option(help="Look through a file of drafts instead: y, n, = and a better answer, or q.")
        ] = None,
        most: Annotated[int | None, typer.Option(help="Drafts to look at in one sitting.", min=1)] = None,
        max_usd: Annotated[float | None, typer.Option(help="Most to spend on a remote model.", min=0)] = None,
        seed: Seed = 0,
        json: Json = False,
    ) -> None:
        """Where there are no examples of the job: let a model draft some from the documents, and approve a share.

        Example: sizewise synthesize handbook/ --by openai:gpt-4o --max-usd 1; then: sizewise synthesize --approve examples.jsonl
        """
        from sizewise.synthesis.drafts import approve as approve_drafts
        from sizewise.synthesis.drafts import draft as draft_examples

        if approve is not None:
            if paths or by:
                raise UsageError("Drafts are either written or looked at.", "--approve FILE alone", "")
            found = approve_drafts(approve, _ask, most)
            if print_object("approved", approve.name, str(approve.resolve()), found, json):
                return
            if found.value is None:
                print_line("nobody has looked at these drafts yet")
            else:
                print_line(
                    f"approved as is: {found.value:.0%} [{found.ci_low:.0%}, {found.ci_high:.0%}] of {found.n} looked at"
                )
            return
        if not paths or by is None:
            raise UsageError(
                "Nothing to draft from, or nobody to write.",
                "paths and --by MODEL",
                "sizewise synthesize FOLDER --by MODEL",
            )
        with reporting() as reporter:
            made = draft_examples(paths, by, out, count=count, max_usd=max_usd, seed=seed, reporter=reporter)
        if print_object("drafted", out.name, made.file, made, json):
            return
        print_table(
            ["drafts", "number"],
            [["kept", str(made.kept)], *([reason, str(number)] for reason, number in made.refused.items())],
            f"{made.asked} passages of {made.documents} documents, asked of {made.by}",
        )
        if made.approved:
            print_line(f"{made.approved} drafts that were approved before are kept too")
        if made.kept + made.approved:
            print_line(f"next: sizewise synthesize --approve {out}   (a person looks at a share of them)")
        else:
            print_line("nothing was kept: small models seldom write drafts; next: --by a larger one (openai:gpt-4o)")


def _ask(row: dict[str, Any], number: int, count: int) -> Changed:
    """Show a draft on stderr and read what a person says from stdin."""
    from sizewise.synthesis.drafts import Changed

    sys.stderr.write(
        f"\n{number + 1} of {count}, from {row['source']}\n\n{row.get('passage', '')}\n\n"
        f"Question: {row['prompt']}\nAnswer:   {row['references'][0]}\n"
        "y: good   n: leave it out   q: stop   = and a better answer: "
    )
    sys.stderr.flush()
    line = sys.stdin.readline()
    said = line.strip()
    if not line or said.lower() in ("q", "quit"):
        return Changed("stop")
    if said.lower() in ("y", "yes"):
        return Changed("yes")
    if said.lower() in ("n", "no"):
        return Changed("no")
    better = said.removeprefix("=").strip()
    return Changed("yes", better) if said.startswith("=") and better else _ask(row, number, count)
