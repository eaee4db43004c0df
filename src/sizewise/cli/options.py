"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated

import typer

from sizewise.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]


def given(context: typer.Context) -> Iterator[str]:
    """Yield the parameters that the command line names, as they are called in Python."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            yield name


def refuse_others(context: typer.Context, taken: Collection[str], what: str) -> None:
    """Refuse options that mean nothing for what is asked, instead of leaving them out in silence.

    Raises:
        UsageError: one was given.
    """
    options = {one.name: max(one.opts, key=len) for one in context.command.params}
    others = [options[name] for name in given(context) if name not in taken]
    if others:
        known = ", ".join(options[name] for name in options if name in taken and options[name].startswith("-"))
        raise UsageError(
            f"{what} takes no {' and no '.join(others)}.", f"of the options only {known}", f"leave {others[0]} out"
        )
