"""`sizewise serve` and `sizewise chat`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from sizewise.cli.output import print_line, reporting

Engine = Literal["auto", "openvino", "transformers"]
GuardPart = Literal["mask", "confidential", "signals", "audit"]


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def serve(
        models: Annotated[list[str], typer.Argument(help="Model URIs, or ids of runs.")],
        port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
        host: Annotated[
            str, typer.Option(help="Address to listen at; others than this machine's need --keys.")
        ] = "127.0.0.1",
        keys: Annotated[Path | None, typer.Option(help="File of API keys.")] = None,
        new_key: Annotated[
            str | None, typer.Option(help="Add a key of this name to the file, print it, and end.")
        ] = None,
        engine: Annotated[Engine, typer.Option(help="What runs models of this machine.")] = "auto",
        lenient: Annotated[
            bool, typer.Option("--lenient", help="Take unknown model names; leave out what an engine cannot do.")
        ] = False,
        policy: Annotated[
            Path | None, typer.Option(help="Policy file: the model `auto` asks the first, small, or the second, large.")
        ] = None,
        confidential: Annotated[
            list[str] | None,
            typer.Option(help="Regular expression: what matches is shown to no model off this machine."),
        ] = None,
        unguarded: Annotated[
            list[GuardPart] | None, typer.Option(help="Part of the guard to switch off; all are on otherwise.")
        ] = None,
        refuse_signals: Annotated[
            bool, typer.Option("--refuse-signals", help="Refuse what carries signs of prompt injection.")
        ] = False,
        delay_ms: Annotated[float, typer.Option(help="Milliseconds a word of fake models.", min=0)] = 0.0,
    ) -> None:
        """Serve models behind OpenAI's API, with a chat page and a monitor.

        Example: sizewise serve run-1234567890 pkg:gemma3-270m --port 8000
        """
        from sizewise.errors import UsageError
        from sizewise.service import GuardRules
        from sizewise.service import serve as serve_models
        from sizewise.service.keys import add_key

        if new_key is not None:
            if keys is None:
                raise UsageError("A new key needs a file to be kept in.", "--keys FILE", "")
            print_line(add_key(keys, new_key))
            return
        with reporting() as reporter:
            serve_models(
                [_uri(model) for model in models],
                host=host,
                port=port,
                keys=keys,
                engine=engine,
                lenient=lenient,
                delay_s=delay_ms / 1000,
                policy=policy,
                guard=GuardRules(
                    frozenset(get_args(GuardPart)) - set(unguarded or ()), tuple(confidential or ()), refuse_signals
                ),
                reporter=reporter,
            )

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
            opened = open_model(_uri(model), engine=engine, say=reporter.say)
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


def _uri(model: str) -> str:
    return f"run:{model}" if model.startswith("run-") else model
