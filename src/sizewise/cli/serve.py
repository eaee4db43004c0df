"""`sizewise serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sizewise.cli.output import print_line, reporting

Engine = Literal["auto", "openvino", "transformers"]
PARTS = ("mask", "confidential", "signals", "audit")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def serve(
        models: Annotated[list[str] | None, typer.Argument(help="Model URIs, or ids of runs.")] = None,
        study: Annotated[
            str | None, typer.Option(help="Open the page of this study instead, with needs that can be moved.")
        ] = None,
        port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
        host: Annotated[
            str, typer.Option(help="Address to listen at; others than this machine's need --keys.")
        ] = "127.0.0.1",
        keys: Annotated[Path | None, typer.Option(help="File of API keys.")] = None,
        new_key: Annotated[
            str | None, typer.Option(help="Add a key of this name to the file, print it, and end.")
        ] = None,
        engine: Annotated[Engine, typer.Option(help="What runs models of this machine.")] = "auto",
        share_base: Annotated[
            bool,
            typer.Option("--share-base", help="Keep the base of several adapters in memory once (transformers)."),
        ] = False,
        lenient: Annotated[
            bool, typer.Option("--lenient", help="Take unknown model names; leave out what an engine cannot do.")
        ] = False,
        policy: Annotated[
            Path | None, typer.Option(help="Policy file: the model `auto` asks the first, small, or the second, large.")
        ] = None,
        as_measured: Annotated[
            list[str] | None,
            typer.Option(help="Evaluation: its model is asked as it was measured, by worked examples for example."),
        ] = None,
        shadow: Annotated[
            float, typer.Option(help="Share of small answers to `auto` that the large model checks.", min=0, max=1)
        ] = 0.0,
        agent: Annotated[
            Literal["support"] | None, typer.Option(help="Serve an agent that answers from --docs, by the first model.")
        ] = None,
        docs: Annotated[Path | None, typer.Option(help="The organisation's documents, for the agent.")] = None,
        sure: Annotated[
            float,
            typer.Option(
                help="Least chance of an answer in the documents; else the agent does not know.", min=0, max=1
            ),
        ] = 0.5,
        confidential: Annotated[
            list[str] | None,
            typer.Option(help="Regular expression: what matches is shown to no model off this machine."),
        ] = None,
        unguarded: Annotated[
            list[str] | None, typer.Option(help=f"Part of the guard to switch off: {', '.join(PARTS)}.")
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
        from sizewise.service import GuardRules, serve_study
        from sizewise.service import serve as serve_models
        from sizewise.service.keys import add_key

        if new_key is not None:
            if keys is None:
                raise UsageError("A new key needs a file to be kept in.", "--keys FILE", "")
            print_line(add_key(keys, new_key))
            return
        if (not models) == (study is None):
            raise UsageError("Either models are served or a study.", "sizewise serve MODEL, or: serve --study ID", "")
        if study is not None:
            with reporting() as reporter:
                serve_study(study, host=host, port=port, reporter=reporter)
            return
        if (agent is None) != (docs is None):
            raise UsageError("An agent answers from documents.", "--agent support --docs FOLDER", "")
        with reporting() as reporter:
            serve_models(
                [uri_of(model) for model in models or ()],
                host=host,
                port=port,
                keys=keys,
                engine=engine,
                share_base=share_base,
                lenient=lenient,
                delay_s=delay_ms / 1000,
                policy=policy,
                as_measured=as_measured or (),
                shadow=shadow,
                documents=docs,
                sure=sure,
                guard=GuardRules.without(unguarded or (), tuple(confidential or ()), refuse_signals),
                reporter=reporter,
            )


def uri_of(model: str) -> str:
    """Take the id of a run for its URI."""
    return f"run:{model}" if model.startswith("run-") else model
