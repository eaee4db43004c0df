"""`sizewise serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sizewise.cli.options import given, refuse_others
from sizewise.cli.output import print_line, reporting
from sizewise.errors import UsageError

Engine = Literal["auto", "openvino", "transformers"]
NO_ENGINE = ("fake", "http", "https", "openai", "anthropic", "google", "deepseek", "mistral", "recorded")
"""Kinds of models that no engine of this machine runs."""
PARTS = ("mask", "confidential", "signals", "audit")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def serve(
        context: typer.Context,
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
        from sizewise.service import GuardRules, serve_study
        from sizewise.service import serve as serve_models
        from sizewise.service.api_keys import add_key

        if new_key is not None:
            refuse_others(context, ("models", "keys", "new_key"), "--new-key")
            if keys is None:
                raise UsageError("A new key needs a file to be kept in.", "--keys FILE", "")
            print_line(add_key(keys, new_key))
            return
        if (not models) == (study is None):
            raise UsageError("Either models are served or a study.", "sizewise serve MODEL, or: serve --study ID", "")
        if study is not None:
            refuse_others(context, ("study", "host", "port", "keys"), "The page of a study")
            with reporting() as reporter:
                serve_study(study, host=host, port=port, keys=keys, reporter=reporter)
            return
        _check_options(set(given(context)), models or [], engine, unguarded or [])
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


def _check_options(options: set[str], models: list[str], engine: str, unguarded: list[str]) -> None:
    """Refuse options that would do nothing beside the others.

    Raises:
        UsageError: there is one.
    """
    fake = [one for one in models if one.startswith("fake:")]
    own = [one for one in models if one.partition(":")[0] not in NO_ENGINE]
    for useless, message, expected in (
        (("agent" in options) != ("docs" in options), "An agent answers from documents.", "--agent support --docs DIR"),
        (
            "sure" in options and "agent" not in options,
            "--sure is for an agent.",
            "--agent support --docs DIR --sure P",
        ),
        ("shadow" in options and "policy" not in options, "--shadow checks what a policy decides.", "--policy FILE"),
        (
            "delay_ms" in options and not fake,
            "--delay-ms is for fake models.",
            "sizewise serve fake:echo --delay-ms 20",
        ),
        ("engine" in options and not own, "--engine runs models of this machine, and there are none.", "no --engine"),
        ("share_base" in options and engine == "openvino", "--share-base needs transformers.", "--engine transformers"),
        ("share_base" in options and len(models) < 2, "--share-base is for several models.", "sizewise serve RUN RUN"),
        (
            "confidential" in options and "confidential" in unguarded,
            "--confidential and --unguarded confidential exclude each other.",
            "one of them",
        ),
        (
            "refuse_signals" in options and "signals" in unguarded,
            "--refuse-signals and --unguarded signals exclude each other.",
            "one of them",
        ),
    ):
        if useless:
            raise UsageError(message, expected, "sizewise serve --help")


def uri_of(model: str) -> str:
    """Take the id of a run for its URI."""
    return f"run:{model}" if model.startswith("run-") else model
