"""`sizewise serve`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import (
    DATA,
    MODEL,
    PRIVACY,
    ROUTING,
    SERVER,
    Device,
    Host,
    Json,
    Precision,
    given,
    refuse_others,
)
from sizewise.cli.output import print_object, print_path, reporting
from sizewise.errors import UsageError
from sizewise.progress import Reporter

Engine = Literal["auto", "openvino", "llamacpp", "transformers"]
REMOTE = ("fake", "http", "https", "openai", "anthropic", "google", "deepseek", "mistral", "recorded")
"""Kinds of models that no local engine runs."""
PARTS = ("mask", "confidential", "signals", "audit")
AGENT = "Support agent"


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def serve(
        context: typer.Context,
        models: Annotated[
            list[str] | None, typer.Argument(metavar="MODEL...", help="Model URIs, run ids or study ids.")
        ] = None,
        study: Annotated[
            str | None,
            typer.Option(
                metavar="ID",
                rich_help_panel=DATA,
                help="Serve the result page of a study instead, with adjustable needs.",
            ),
        ] = None,
        port: Annotated[
            int,
            typer.Option(metavar="N", min=0, max=65535, rich_help_panel=SERVER, help="Port; 0 picks a free one."),
        ] = 8000,
        host: Host = "127.0.0.1",
        keys: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE", rich_help_panel=SERVER, help="File of API keys; required unless --host is this machine."
            ),
        ] = None,
        config: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                rich_help_panel=SERVER,
                help="TOML file of models, keys, policy, guard, documents, workers and TLS; reloaded on SIGHUP.",
            ),
        ] = None,
        new_key: Annotated[
            str | None,
            typer.Option(metavar="NAME", rich_help_panel=SERVER, help="Same as `sizewise keys new NAME --keys FILE`."),
        ] = None,
        engine: Annotated[
            Engine,
            typer.Option(
                metavar="ENGINE",
                rich_help_panel=MODEL,
                help="auto, openvino, llamacpp or transformers; runs local models.",
            ),
        ] = "auto",
        share_base: Annotated[
            bool,
            typer.Option(
                "--share-base", rich_help_panel=MODEL, help="Load the base of several adapters once (transformers)."
            ),
        ] = False,
        as_measured: Annotated[
            list[str] | None,
            typer.Option(
                metavar="ID", rich_help_panel=MODEL, help="Evaluation whose prompting (few-shot examples, ...) is used."
            ),
        ] = None,
        own_prompt: Annotated[
            bool,
            typer.Option(
                "--own-prompt", rich_help_panel=MODEL, help="Serve trained models in their own prompt form, unmeasured."
            ),
        ] = False,
        lenient: Annotated[
            bool,
            typer.Option(
                "--lenient", rich_help_panel=MODEL, help="Accept unknown model names; ignore unsupported parameters."
            ),
        ] = False,
        delay_ms: Annotated[
            float, typer.Option(metavar="MS", min=0, rich_help_panel=MODEL, help="Delay per word of fake models.")
        ] = 0.0,
        policy: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                rich_help_panel=ROUTING,
                help="Routing policy: the model `auto` is the first (small) or the second (large).",
            ),
        ] = None,
        shadow: Annotated[
            float,
            typer.Option(
                metavar="SHARE",
                min=0,
                max=1,
                rich_help_panel=ROUTING,
                help="Share of the small model's answers to `auto` that the large model checks (0 to 1).",
            ),
        ] = 0.0,
        decide_at: Annotated[
            float | None,
            typer.Option(
                metavar="P",
                min=0,
                max=1,
                rich_help_panel=ROUTING,
                help="Minimum probability at which the first model decides for `auto`; else the second or people do.",
            ),
        ] = None,
        decide_at_large: Annotated[
            float,
            typer.Option(
                metavar="P",
                min=0,
                max=1,
                rich_help_panel=ROUTING,
                help="Minimum probability at which the second model decides; else people do.",
            ),
        ] = 0.0,
        agent: Annotated[
            Literal["support"] | None,
            typer.Option(metavar="support", rich_help_panel=AGENT, help="Serve an agent that answers from --docs."),
        ] = None,
        docs: Annotated[
            Path | None, typer.Option(metavar="DIR", rich_help_panel=AGENT, help="Documents for the agent.")
        ] = None,
        min_confidence: Annotated[
            float,
            typer.Option(
                metavar="P",
                min=0,
                max=1,
                rich_help_panel=AGENT,
                help="Confidence threshold (0 to 1); below it the agent says that it doesn't know.",
            ),
        ] = 0.5,
        inside: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME", rich_help_panel=PRIVACY, help="Model on another server that may see all text unmasked."
            ),
        ] = None,
        confidential: Annotated[
            list[str] | None,
            typer.Option(
                metavar="REGEX", rich_help_panel=PRIVACY, help="Matching text is never sent to a remote model."
            ),
        ] = None,
        unguarded: Annotated[
            list[str] | None,
            typer.Option(
                metavar="PART", rich_help_panel=PRIVACY, help=f"Part of the guard to turn off: {', '.join(PARTS)}."
            ),
        ] = None,
        refuse_signals: Annotated[
            bool,
            typer.Option(
                "--refuse-signals", rich_help_panel=PRIVACY, help="Refuse requests with signs of prompt injection."
            ),
        ] = False,
        detect: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME",
                rich_help_panel=PRIVACY,
                help="Further detector of personal data: names, or that of a plug-in.",
            ),
        ] = None,
        signal_classifier: Annotated[
            str | None,
            typer.Option(
                metavar="URI", rich_help_panel=PRIVACY, help="Trained classifier that recognizes attacks, too."
            ),
        ] = None,
        max_false_signals: Annotated[
            float,
            typer.Option(
                metavar="SHARE",
                rich_help_panel=PRIVACY,
                help="Share of harmless texts that the classifier may take for attacks.",
            ),
        ] = 0.01,
        device: Device = "auto",
        precision: Precision = "auto",
        json: Json = False,
    ) -> None:
        """Serve models through an OpenAI-compatible API, with a chat page and a monitor.

        With --json one object with the address is printed when the service is ready.

        Example: sizewise serve run-1234567890 pkg:gemma3-270m --port 8000
        """
        from sizewise.service import GuardRules, serve_study
        from sizewise.service import serve as serve_models

        if new_key is not None:
            refuse_others(context, ("models", "keys", "new_key", "json"), "--new-key")
            _add_key(keys, new_key, json)
            return
        if config is not None:
            refuse_others(context, ("config", "json"), "--config")
            with reporting() as reporter:
                _serve_config(config, reporter, json)
            return
        if (not models) == (study is None):
            raise UsageError(
                "`sizewise serve` takes either models, a study or a file.",
                "MODEL..., --study ID or --config FILE",
                "sizewise serve --help",
            )
        if study is not None:
            refuse_others(context, ("study", "host", "port", "keys", "json"), "--study")
            with reporting() as reporter:
                announced = _Announced(reporter.say, host, [], study) if json else reporter
                serve_study(study, host=host, port=port, keys=keys, reporter=announced)
            return
        _check_options(set(given(context)), models or [], engine, unguarded or [])
        uris = [uri_of(model) for model in models or ()]
        with reporting() as reporter:
            serve_models(
                uris,
                host=host,
                port=port,
                keys=keys,
                engine=engine,
                share_base=share_base,
                lenient=lenient,
                delay_s=delay_ms / 1000,
                policy=policy,
                as_measured=None if own_prompt else as_measured or (),
                shadow=shadow,
                decide_at=None if decide_at is None else (decide_at, decide_at_large),
                inside=inside or (),
                documents=docs,
                sure=min_confidence,
                guard=GuardRules.without(
                    unguarded or (),
                    tuple(confidential or ()),
                    refuse_signals,
                    tuple(detect or ()),
                    signal_classifier=signal_classifier or "",
                    max_false_signals=max_false_signals,
                ),
                reporter=_Announced(reporter.say, host, uris) if json else reporter,
            )


class _Announced:
    """A reporter that prints one JSON object when the service announces its address.

    Args:
        say: receives every other line.
        host: address that the service listens on.
        models: URIs of the models that are served.
        study: id of the study that is served instead.
    """

    def __init__(self, say: Callable[[str], None], host: str, models: list[str], study: str | None = None) -> None:
        self._say, self._models, self._study = say, models, study
        self._address = re.compile(rf"https?://\[?{re.escape(host)}\]?:\d+")
        self._printed = False

    def say(self, line: str) -> None:
        """Pass a line on; print the object once, when a line holds the address of the service."""
        self._say(line)
        found = None if self._printed else self._address.search(line)
        if found is not None and not any(uri in line for uri in self._models if uri.startswith("http")):
            self._printed = True
            url = found[0]
            print_object("service", url, None, {"url": url, "models": self._models, "study": self._study}, True)

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Ignore progress."""


def _serve_config(path: Path, reporter: Reporter, as_json: bool) -> None:
    """Serve what a file describes."""
    from sizewise.service.config_file import load_config
    from sizewise.service.configured import serve_config

    config = load_config(path)
    uris = [model.uri for model in config.model]
    serve_config(path, reporter=_Announced(reporter.say, config.server.host, uris) if as_json else reporter)


def _add_key(keys: Path | None, name: str, as_json: bool) -> None:
    """Create an API key and print it.

    Raises:
        UsageError: no file was given.
    """
    from sizewise.service.api_keys import add_key

    if keys is None:
        raise UsageError("--new-key needs a file to store the key in.", "--keys FILE", f"sizewise keys new {name}")
    key = add_key(keys, name)
    if not print_object("key", name, str(keys.resolve()), {"name": name, "key": key}, as_json):
        print_path(key)


def _check_options(options: set[str], models: list[str], engine: str, unguarded: list[str]) -> None:
    """Refuse options that would have no effect with the others.

    Raises:
        UsageError: an option would have no effect.
    """
    fake = [uri for uri in models if uri.startswith("fake:")]
    local = [uri for uri in models if uri.partition(":")[0] not in REMOTE]
    for useless, message, expected in (
        (
            ("agent" in options) != ("docs" in options),
            "--agent and --docs must be used together.",
            "--agent support --docs DIR",
        ),
        (
            "min_confidence" in options and "agent" not in options,
            "--min-confidence is an option of the support agent.",
            "--agent support --docs DIR --min-confidence P",
        ),
        ("shadow" in options and "policy" not in options, "--shadow needs a routing policy.", "--policy FILE"),
        (
            "decide_at_large" in options and (len(models) < 2 or "decide_at" not in options),
            "--decide-at-large needs two models and a threshold of the first.",
            "sizewise serve SMALL LARGE --decide-at P --decide-at-large P",
        ),
        (
            "delay_ms" in options and not fake,
            "--delay-ms applies to fake models only.",
            "sizewise serve fake:echo --delay-ms 20",
        ),
        ("engine" in options and not local, "--engine needs a local model, and none is served.", "no --engine"),
        ("share_base" in options and engine == "openvino", "--share-base needs transformers.", "--engine transformers"),
        ("share_base" in options and len(models) < 2, "--share-base needs several models.", "sizewise serve RUN RUN"),
        (
            "confidential" in options and "confidential" in unguarded,
            "--confidential and --unguarded confidential contradict each other.",
            "one of them",
        ),
        (
            {"own_prompt", "as_measured"} <= options,
            "--own-prompt and --as-measured contradict each other.",
            "one of them",
        ),
        (
            "max_false_signals" in options and "signal_classifier" not in options,
            "--max-false-signals is an option of the classifier of signals.",
            "--signal-classifier URI --max-false-signals SHARE",
        ),
        (
            "refuse_signals" in options and "signals" in unguarded,
            "--refuse-signals and --unguarded signals contradict each other.",
            "one of them",
        ),
    ):
        if useless:
            raise UsageError(message, expected, "sizewise serve --help")


def uri_of(model: str) -> str:
    """Return the URI of a model; a run id refers to the model trained in that run."""
    return f"run:{model}" if model.startswith("run-") else model
