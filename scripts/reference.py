"""Write the reference pages from what they describe: `--help`, records, metrics and public functions."""

from __future__ import annotations

import os
import re
import tomllib
import types
import typing
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

os.environ["TYPER_USE_RICH"] = "0"  # plain help, without boxes; typer reads it once, when it is imported

from pydantic import BaseModel
from pydantic_core import PydanticUndefined


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Write a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines
    )


def help_text(*command: str) -> str:
    """Read what a command prints for `--help`."""
    from typer.testing import CliRunner

    from sizewise.cli.main import app

    found = CliRunner().invoke(app, [*command, "--help"], prog_name="sizewise", terminal_width=100)
    if found.exit_code:
        raise SystemExit(f"sizewise {' '.join(command)} --help failed: {found.output}")
    return str(found.output)


class Help(NamedTuple):
    """What `--help` of a command says."""

    usage: str
    example: str
    paragraphs: list[str]
    lists: dict[str, list[tuple[str, str]]]
    """Title -> (argument, option or command; explanation)."""

    @property
    def commands(self) -> list[str]:
        """Names of subcommands."""
        if "COMMAND" not in self.usage:
            return []
        return [name for rows in self.lists.values() for name, _ in rows if re.fullmatch(r"[a-z][a-z-]*", name)]


def read_help(*command: str) -> Help:
    """Split help into usage, example, paragraphs and lists; blank lines separate them."""
    usage, example, paragraphs, lists = "", "", [], {}
    for block in re.split(r"\n\s*\n", help_text(*command).strip("\n")):
        lines = block.splitlines()
        text = " ".join(block.split())
        if text.startswith("Usage: "):
            usage = text.removeprefix("Usage: ")
        elif text.startswith("Example: "):
            example = text.removeprefix("Example: ")
        elif len(lines) > 1 and not lines[0].startswith(" ") and all(line.startswith("  ") for line in lines[1:]):
            lists[lines[0].rstrip(":")] = entries(lines[1:])
        else:
            paragraphs.append(text)
    return Help(usage, example, paragraphs, lists)


def entries(lines: list[str]) -> list[tuple[str, str]]:
    """Read a list: a name, at least two spaces, and an explanation that may go on below."""
    rows: list[tuple[str, str]] = []
    for line in lines:
        if entry := re.match(r"  (\S.*?)(?:  +(.*))?$", line):
            rows.append((entry[1], entry[2] or ""))
        elif rows:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {line.strip()}".strip())
    return rows


def command_section(command: tuple[str, ...]) -> Iterator[str]:
    """Write one command and, below it, its subcommands."""
    found = read_help(*command)
    yield f"{'#' * (len(command) + 1)} sizewise {' '.join(command)}"
    yield from found.paragraphs
    yield f"```text\n{found.usage}\n```"
    if found.example:
        yield f"Example:\n\n```text\n{found.example}\n```"
    for title, rows in found.lists.items():
        shown = [(f"`{name}`", text) for name, text in rows if "--help" not in name and name not in found.commands]
        if shown:
            yield table((title, "Meaning"), shown)
    for name in found.commands:
        yield from command_section((*command, name))


def commands_page() -> str:
    """Write every command with its arguments and options."""
    parts = [
        "# Commands",
        "Results go to stdout, everything else to stderr. `--json` prints exactly one object: "
        '`{"schema", "kind", "id", "path", "record"}`, or `{"schema", "error": {"what", "expected", "next"}}`.',
        table(
            ("Exit code", "Meaning"),
            [
                ("0", "done"),
                ("1", "the command failed for a reason that the message explains"),
                ("2", "wrong usage"),
                ("3", "a threshold that you set was missed"),
                ("70", "an unexpected error: please report it"),
                ("130", "interrupted; the same command continues"),
            ],
        ),
    ]
    for name in read_help().commands:
        parts += command_section((name,))
    return "\n\n".join(parts) + "\n"


def type_name(annotation: Any) -> str:
    """Write a type as a reader of Python would."""
    if annotation is type(None):
        return "None"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_name(one) for one in arguments)
    if origin is typing.Literal:
        return " | ".join(repr(one) for one in arguments)
    if origin is not None:
        inner = ", ".join("..." if one is Ellipsis else type_name(one) for one in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return getattr(annotation, "__name__", str(annotation))


def fields_table(record: type[BaseModel], skip: tuple[str, ...] = ()) -> str:
    """Write the fields of a record as a table."""
    rows = []
    for name, field in record.model_fields.items():
        if name in skip:
            continue
        if field.default is PydanticUndefined:
            default = "required" if field.default_factory is None else "empty"
        else:
            default = f"`{field.default!r}`" if not isinstance(field.default, BaseModel) else "see below"
        rows.append((f"`{name}`", f"`{type_name(field.annotation)}`", default, field.description or ""))
    return table(("Field", "Type", "Default", "Meaning"), rows)


def records_page() -> str:
    """Write every public record with its fields."""
    import sizewise.records as records

    parts = [
        "# Records",
        "Every stage returns a frozen record and writes it once, to `SIZEWISE_HOME/KIND/ID/record.json`. The file "
        'holds `{"schema", "kind", "id", "created", "record"}`. Later versions read records of every earlier schema.',
    ]
    found = [getattr(records, name) for name in records.__all__]
    classes = [one for one in found if isinstance(one, type) and issubclass(one, BaseModel) and one.model_fields]
    modules: dict[str, list[type[BaseModel]]] = {}
    for one in classes:
        modules.setdefault(one.__module__, []).append(one)
    for module, members in sorted(modules.items()):
        parts.append(f"## {module.rpartition('.')[2].replace('_', ' ').capitalize()}")
        for one in members:
            parts += [f"### {one.__name__}", " ".join((one.__doc__ or "").split()), fields_table(one)]
    return "\n\n".join(parts) + "\n"


def study_file_page() -> str:
    """Write the tables and keys of a study file."""
    from sizewise.records import Candidate, Needs, Recipe, StatedFacts

    example = (resources.files("sizewise.studies") / "default.toml").read_text(encoding="utf-8")
    tomllib.loads(example)
    from sizewise.studies.config import StudyConfig

    return (
        "\n\n".join(
            [
                "# Study file",
                "`sizewise study FILE.toml` reads these tables. Paths are relative to it. Unknown keys are errors. "
                "`sizewise init` writes a file for your kind of work; `sizewise study --example` prints this one:",
                f"```toml\n{example.strip()}\n```",
                "## [study] and [data]",
                "`name`, `domain`, `seed` and `simulation` belong to `[study]`, the others to `[data]`.",
                fields_table(StudyConfig, ("candidates", "needs")),
                "## [[candidates]]",
                fields_table(Candidate, ("stated",)),
                "### Recorded answers",
                'Further keys of a candidate with `model = "recorded:FILE"`.',
                fields_table(StatedFacts),
                "### train",
                "Keys of the inline table `train = { ... }`.",
                fields_table(Recipe, ("start",)),
                "## [needs]",
                "The same keys form the file for `sizewise choose --needs`.",
                fields_table(Needs),
            ]
        )
        + "\n"
    )


def metrics_page() -> str:
    """Write every metric with what it measures."""
    from sizewise.metrics.registry import METRICS

    groups = {
        "answers": "Metrics of answers",
        "likelihood": "Metrics of likelihood",
        "choices": "Metrics of multiple choice",
        "suite": "Metrics of suites",
    }
    parts = [
        "# Metrics",
        "`sizewise evaluate --metrics NAME,NAME` takes these names. An installed package adds its own through the "
        "entry point group `sizewise.metrics`; `examples/digits_metric.py` is a complete one.",
    ]
    for needs, title in groups.items():
        rows = [
            (f"`{name}`", metric.title, getattr(metric, "unit", "") or "", metric.better, metric.description)
            for name, metric in METRICS.items()
            if metric.needs == needs
        ]
        if rows:
            parts += [f"## {title}", table(("Name", "Title", "Unit", "Better", "What it tells you"), rows)]
    return "\n\n".join(parts) + "\n"


def python_page() -> str:
    """Write the public functions; mkdocstrings fills in their docstrings."""
    import sizewise

    parts = [
        "# Python",
        "Each verb is a function of the package and returns a saved record with `id`, `path` and `record`. Importing "
        "`sizewise` loads no model library.",
    ]
    options = "    options:\n      show_root_heading: true\n      show_root_full_path: false\n      heading_level: 2"
    for name in sorted(sizewise.__all__):
        found = getattr(sizewise, name)
        if callable(found):
            parts.append(f"::: {found.__module__}.{found.__qualname__}\n{options}")
    return "\n\n".join(parts) + "\n"


PAGES = {
    "reference/commands.md": commands_page,
    "reference/study-file.md": study_file_page,
    "reference/metrics.md": metrics_page,
    "reference/records.md": records_page,
    "reference/python.md": python_page,
}
