"""`sizewise judge converse`: the imitation test as a conversation; and the report of such a round."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.judge_files import ROUND, read_text
from sizewise.cli.options import LIMITS, MODEL, SERVER, Device, Host, Json, MaxUsd, Seed, given, refuse_others
from sizewise.cli.output import print_line, print_notes, print_object, print_path, print_table, print_verdict, reporting
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.inquiry import Complete
    from sizewise.judging import Invitation
    from sizewise.progress import Reporter
    from sizewise.records import ConversationReport, ConversationRound
    from sizewise.store import Saved, Store


def converse(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Models that people talk with; or a round to serve again."),
    ],
    interrogators: Annotated[
        str,
        typer.Option(metavar="N|NAMES", rich_help_panel=ROUND, help="People who decide: number, or names with commas."),
    ] = "1",
    witnesses: Annotated[
        str,
        typer.Option(
            metavar="N|NAMES", rich_help_panel=ROUND, help="People whom they talk with: number, or names with commas."
        ),
    ] = "1",
    conversations: Annotated[
        int,
        typer.Option(
            metavar="N", min=2, rich_help_panel=ROUND, help="Conversations per interrogator; half are with people."
        ),
    ] = 4,
    topic: Annotated[
        str, typer.Option(metavar="TOPIC", rich_help_panel=ROUND, help="What both sides are asked to talk about.")
    ] = "",
    simulated: Annotated[
        bool,
        typer.Option("--simulated", rich_help_panel=ROUND, help="Participants are programs: verdicts are marked."),
    ] = False,
    instructions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=MODEL, help="System message of the models; default: take part as a person."
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(metavar="T", min=0, max=2, rich_help_panel=MODEL, help="Sampling temperature.")
    ] = 0.7,
    device: Device = "auto",
    minutes: Annotated[
        float, typer.Option(metavar="MINUTES", rich_help_panel=LIMITS, help="Longest conversation, in minutes.")
    ] = 5.0,
    max_turns: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=LIMITS, help="Most messages of each side.")
    ] = 20,
    max_characters: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=LIMITS, help="Longest message, in characters.")
    ] = 300,
    max_usd: MaxUsd = None,
    seed: Seed = 0,
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, rich_help_panel=SERVER, help="Port; 0 picks a free one.")
    ] = 8100,
    no_serve: Annotated[
        bool, typer.Option("--no-serve", rich_help_panel=SERVER, help="Only create the round and print its links.")
    ] = False,
    json: Json = False,
) -> None:
    """Run the imitation test: people talk with people and models, and decide which is which.

    Each interrogator and each witness gets a secret link. `sizewise judge report ID` shows the result.

    Example: sizewise judge converse pkg:smollm2-135m --witnesses Cleo,Dan
    """
    from sizewise.judging import ConversationDesign, open_conversations
    from sizewise.records import ConversationRound
    from sizewise.service.pages.converse_page import serve_conversations
    from sizewise.store import Store

    if no_serve and {"host", "port", "device", "max_usd"} & set(given(context)):
        raise UsageError(
            "--no-serve starts no server, so --host, --port, --device and --max-usd don't apply.",
            "--no-serve alone",
            f"sizewise judge converse {' '.join(models)} --no-serve",
        )
    store, invited, saved = Store(), list[tuple[str, "Invitation"]](), None
    if len(models) == 1 and models[0].startswith("conversations-"):
        refuse_others(context, ("models", "host", "port", "device", "max_usd", "no_serve", "json"), "An existing round")
        saved = store.get(ConversationRound, models[0])
    design = ConversationDesign(
        models=saved.record.models if saved else models,
        interrogators=_names(interrogators, "interrogator"),
        witnesses=_names(witnesses, "witness"),
        conversations=conversations,
        minutes=minutes,
        max_turns=max_turns,
        max_characters=max_characters,
        topic=topic.strip(),
        instructions=read_text(instructions, "--instructions", "a system message"),
        temperature=temperature,
        origin="simulated" if simulated else "person",
    )
    design.check()
    with reporting() as reporter, ExitStack() as stack:
        asked = {} if no_serve else _open_models(design.models, stack, store, max_usd, device, reporter)
        if saved is None:
            opened = open_conversations(design, store=store, seed=seed)
            saved = opened.stored
            invited += [("interrogator", one) for one in opened.interrogators]
            invited += [("witness", one) for one in opened.witnesses]
        _print_round(saved, invited, no_serve, json)
        if not no_serve:
            serve_conversations(saved.id, invited, asked, host=host, port=port, store=store, reporter=reporter)


def _names(given_names: str, role: str) -> list[str]:
    if given_names.isdigit():
        return [f"{role} {number + 1}" for number in range(int(given_names))]
    return [name.strip() for name in given_names.split(",") if name.strip()]


def _open_models(
    uris: Sequence[str], stack: ExitStack, store: Store, max_usd: float | None, device: str, reporter: Reporter
) -> dict[str, Complete]:
    """Open all models before anybody waits for them.

    Raises:
        UsageError: a model doesn't answer new messages.
    """
    from sizewise.models import open_model

    found: dict[str, Complete] = {}
    for uri in uris:
        model = open_model(uri, store=store, max_usd=max_usd, device=device, say=reporter.say)
        stack.callback(model.close)
        described = model.describe()
        if described.engine == "recorded" or described.question is not None:
            raise UsageError(
                f"{uri} can't take part in a conversation: it doesn't answer new messages.",
                "a model that writes answers",
                "sizewise models lists the available models",
            )
        if not described.can_chat:
            reporter.say(f"{uri} has no chat template; it continues the conversation as text")
        found[uri] = model.complete
    return found


def _print_round(
    saved: Saved[ConversationRound], invited: Sequence[tuple[str, Invitation]], links: bool, json: bool
) -> None:
    record = saved.record
    body = record.model_dump(mode="json") | {"links": {one.rater: f"/c/{one.token}" for _, one in invited}}
    if not print_object("conversations", saved.id, str(saved.path), body, json):
        planned = sum(len(one.partners) for one in record.interrogators)
        print_line(
            f"{planned} conversations of {len(record.interrogators)} interrogators with {len(record.witnesses)} "
            f"witnesses and {len(record.models)} models, {record.minutes:g} minutes each. Open until {record.expires}."
        )
        print_path(f"conversations: {saved.id}")
        for role, invitation in invited if links else ():
            print_path(f"{role} {invitation.rater}: /c/{invitation.token}")
    sys.stdout.flush()


def report_round(round_id: str, close: bool, store: Store, json: bool) -> None:
    """Print the report of a round of conversations."""
    from sizewise.judging import Conversations, report_conversations

    if close:
        held = Conversations(store, round_id)
        try:
            held.close_round()
        finally:
            held.close()
    found = report_conversations(round_id, store=store)
    if not print_object("conversation_report", round_id, None, found, json):
        _print_report(found)


def _print_report(found: ConversationReport) -> None:
    """Print shares, differences, detection accuracy and notes."""
    from sizewise.records.conversations import PERSON
    from sizewise.report.words import value_text

    print_verdict(
        f"{found.counted} of {found.planned} conversations have a verdict. Detection accuracy (0.5 is guessing): "
        f"{value_text(found.detection_accuracy)}."
    )
    tested = {one.left: one for one in found.differences}
    rows = []
    for name, score in found.taken_for_a_person.items():
        one = tested.get(name)
        known = one is not None and one.ci_low is not None and one.ci_high is not None
        rows.append(
            [
                "people" if name == PERSON else name,
                value_text(score),
                str(score.n),
                f"{one.value:+.2f} [{one.ci_low:+.2f}, {one.ci_high:+.2f}]" if one and known else "-",
                f"{one.p_adjusted:.3g}" if one is not None and one.p_adjusted is not None else "-",
                f"{found.messages[name]:.1f}" if name in found.messages else "-",
            ]
        )
    headings = ["partner", "taken for a person [95 %]", "conversations", "minus people", "p (Holm)", "messages"]
    print_table(headings, rows)
    for name, score in found.confidence.items():
        if score.value is not None:
            print_line(f"Confidence of {name} verdicts: {value_text(score)}, n = {score.n}")
    print_notes(found.notes)


COMMANDS = (converse,)
