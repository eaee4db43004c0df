"""`sizewise chat`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.controls import escape_controls
from sizewise.cli.help import Command
from sizewise.cli.options import LIMITS, MODEL, Device, Json, Precision
from sizewise.cli.output import print_object, reporting
from sizewise.cli.serve import Engine, uri_of

if TYPE_CHECKING:
    from sizewise.models import Model
    from sizewise.records import Completion, Message


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def chat(
        model: Annotated[str, typer.Argument(metavar="MODEL", help="Model URI or run id.")],
        engine: Annotated[
            Engine,
            typer.Option(
                metavar="ENGINE",
                rich_help_panel=MODEL,
                help="auto, openvino, llamacpp or transformers; runs local models.",
            ),
        ] = "auto",
        max_tokens: Annotated[
            int, typer.Option(metavar="N", min=1, rich_help_panel=LIMITS, help="Maximum tokens per answer.")
        ] = 512,
        own_prompt: Annotated[
            bool,
            typer.Option(
                "--own-prompt", rich_help_panel=MODEL, help="Use a trained model's own prompt form, unmeasured."
            ),
        ] = False,
        device: Device = "auto",
        precision: Precision = "auto",
        json: Json = False,
    ) -> None:
        """Chat with a model in the terminal. A trained model answers in the prompt form of its newest evaluation.

        An empty line ends the conversation. With --json the conversation is printed when it ends.

        Example: sizewise chat pkg:smollm2-135m
        """
        from sizewise.models import open_model

        with reporting() as reporter:
            opened = open_model(uri_of(model), engine=engine, say=reporter.say)
            if not own_prompt:
                opened = _as_measured(opened, reporter.say)
        try:
            messages = _converse(opened, max_tokens, quiet=json)
        finally:
            opened.close()
        body = {
            "model": model,
            "messages": [message.model_dump(mode="json", exclude_none=True) for message in messages],
        }
        print_object("conversation", model, None, body, json)


def _as_measured(model: Model, say: Callable[[str], None]) -> Model:
    """Wrap a model that was trained here in the prompt form that its newest evaluation measured, as a service does."""
    from sizewise.errors import SizewiseError
    from sizewise.models.prompted import as_evaluated, latest_evaluation
    from sizewise.store import Store

    store, description = Store(), model.describe()
    saved = latest_evaluation(description, store) if description.uri.startswith("run:") else None
    if saved is None:
        return model
    try:
        found = as_evaluated(model, saved.id, store)
    except SizewiseError as error:  # for example, its dataset was removed
        say(f"{description.uri} answers in its own prompt form, not as {saved.id} measured it: {error.what}")
        return model
    if found is not model:
        say(f"{description.uri} answers in the prompt form that {saved.id} measured; --own-prompt turns this off")
    return found


def _converse(model: Model, max_tokens: int, quiet: bool) -> list[Message]:
    """Read questions from stdin and stream answers to stdout until a line is empty."""
    from sizewise.records import Message
    from sizewise.store.files import whole_characters

    messages: list[Message] = []
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("you: ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line.strip():
            return messages
        messages.append(Message(role="user", content=whole_characters(line.rstrip("\n"))))
        end = _answer(model, messages, max_tokens, quiet)
        if end.error:
            sys.stderr.write(escape_controls(f"error: {end.error}", "\n") + "\n")
            messages.pop()
            continue
        messages.append(Message(role="assistant", content=end.text))
        rate = end.completion_tokens / max(end.seconds, 1e-9)
        sys.stderr.write(f"[{end.completion_tokens} tokens, {rate:.0f} tokens/s]\n")


def _answer(model: Model, messages: list[Message], max_tokens: int, quiet: bool) -> Completion:
    """Stream one answer; Ctrl-C cancels it and keeps the conversation."""
    from queue import SimpleQueue

    from sizewise.lm.template_dates import today
    from sizewise.models.base import Piece
    from sizewise.records import Request

    arrived: SimpleQueue[Piece] = SimpleQueue()
    request = Request(id="chat", messages=tuple(messages), max_tokens=max_tokens, fit=True, date=today())
    cancel = model.start(request, arrived.put)
    try:
        while (piece := arrived.get()).end is None:
            if not quiet:
                sys.stdout.write(escape_controls(piece.text, "\n\t"))
                sys.stdout.flush()
    except KeyboardInterrupt:
        cancel()
        while (piece := arrived.get()).end is None:
            pass
    if not quiet:
        sys.stdout.write("\n")
    return piece.end
