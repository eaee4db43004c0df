"""`sizewise chat`."""

from __future__ import annotations

from typing import Annotated

import typer

from sizewise.cli.output import reporting
from sizewise.cli.serve import Engine, uri_of


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def chat(
        model: Annotated[str, typer.Argument(help="Model URI, or id of a run.")],
        engine: Annotated[Engine, typer.Option(help="What runs a model of this machine.")] = "auto",
        max_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 512,
    ) -> None:
        """Talk to a model in the terminal; an empty line ends it.

        Example: sizewise chat pkg:smollm2-135m
        """
        import sys
        from queue import SimpleQueue

        from sizewise.models import open_model
        from sizewise.models.base import Piece
        from sizewise.records import Message, Request

        with reporting() as reporter:
            opened = open_model(uri_of(model), engine=engine, say=reporter.say)
        said: list[Message] = []
        try:
            while True:
                try:
                    line = input("you: " if sys.stdin.isatty() else "")
                except EOFError:
                    return
                if not line.strip():
                    return
                said.append(Message(role="user", content=line))
                arrived: SimpleQueue[Piece] = SimpleQueue()
                request = Request(id="chat", messages=tuple(said), max_tokens=max_tokens, fit=True)
                cancel = opened.start(request, arrived.put)
                try:
                    while (piece := arrived.get()).end is None:
                        sys.stdout.write(piece.text)
                        sys.stdout.flush()
                except KeyboardInterrupt:
                    cancel()
                    while (piece := arrived.get()).end is None:
                        pass
                end = piece.end
                sys.stdout.write("\n")
                if end.error:
                    sys.stderr.write(f"error: {end.error}\n")
                    said.pop()
                    continue
                said.append(Message(role="assistant", content=end.text))
                rate = end.completion_tokens / max(end.seconds, 1e-9)
                sys.stderr.write(f"[{end.completion_tokens} tokens, {rate:.0f} tokens/s]\n")
        finally:
            opened.close()
