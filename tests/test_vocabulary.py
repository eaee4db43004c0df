"""One vocabulary: names that the product gave up (docs/glossary.md) are in no identifier, key, option or message.

Upgrades of old records, their fixtures and the errors that name a new option are the only places that still know them.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

import sizewise.records
from sizewise.cli.main import app
from sizewise.metrics import METRICS

SRC = Path(sizewise.records.__file__).parents[1]
EXEMPT = {"records/upgrades.py", "cli/renamed.py"}
# Words that were fields, options or keys; as identifiers they are gone from the whole of the code.
NAMES = frozenset(
    [
        "least_quality",
        "least_context",
        "least_agreement",
        "greatest_latency_s",
        "greatest_p95_s",
        "greatest_memory_gb",
        "greatest_cost_usd_per_1000",
        "greatest_bias_gap",
        "greatest_harm_rate",
        "users",
        "refused_licences",
        "one_off_usd",
        "months",
        "low",
        "high",
        "missing",
        "best_share",
        "would_change",
        "not_decisive",
        "probe",
        "weigh",
        "Stored",
        "licence",
        "licences",
        "leak",
        "leaks",
        "familiarity",
        "crowd",
        "crowds",
    ]
)
# Attributes of other libraries that happen to have one of these names.
OF_LIBRARIES: frozenset[str] = frozenset()
MODULES = frozenset(
    [
        "inference",
        "crowd",
        "dataset",
        "wheels",
        "evaluation.together",
        "metrics.crowds",
        "stats.customary",
        "stats.multiple",
        "stats.rates",
        "stats.length",
        "evaluation.swaps",
        "evaluation.again",
        "evaluation.asked",
        "evaluation.probing",
        "evaluation.measuring",
        "documents.overlap",
        "training.attending",
        "training.growing",
        "training.memory",
        "training.teaching",
        "training.rows",
        "training.groups",
        "training.control",
        "judging.licence",
        "judging.machines",
        "models.sharing",
        "models.wrapping",
        "models.market",
        "models.echo",
        "service.counting",
        "service.wire",
        "service.forms",
        "service.keys",
        "service.served",
        "lm.products",
        "lm.state",
        "lm.folder",
        "studies.outlook",
        "studies.saving",
        "cli.load",
        "cli.probe",
        "cli.draft",
    ]
)
# Where one of the phrases means something else.
ALLOWED = {
    "cli/serve.py": "unknown model",
    "lm/gguf_writing.py": "known model",
    "evaluation/suite_run.py": "Answer with the letter of the right answer",  # a prompt: its words decide numbers
}
PHRASES = (
    "answers a second",
    "tokens a second",
    "requests a second",
    "tokens written",
    "time of an answer",
    "places taken",
    "users at once",
    "many users",
    "leak ledger",
    "clean items",
    "forgetting card",
    "memorisation card",
    "sense preferred",
    "stereotype preferred",
    "right person",
    "right referent",
    "other people in the same questions",
    "even length",
    "were both of one length",
    "told apart",
    "person or model?",
    "says what people say",
    "say what people say",
    "beside it",
    "not decisive",
    "right answer",
    "own model",
    "own machine",
    "word f1",
    "general set",
    "general questions of",
    "weighing bias",
    "least quality",
    "nobody to",
    "there is nobody",
    "is shown to be",
    "are shown to be",
)
OPENINGS = re.compile(r"(Give|Gives|Say|Says|Tell|Tells|Let|Lets)\b")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SRC.rglob("*.py")):
        name = path.relative_to(SRC).as_posix()
        if name not in EXEMPT:
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.keyword(arg=str(name)):
                yield node.value.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Strings that a user may see: all but docstrings, of attributes too."""
    plain = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in plain:
            yield node.lineno, node.value


def record_types() -> Iterator[type[BaseModel]]:
    for info in pkgutil.iter_modules(sizewise.records.__path__):
        module = importlib.import_module(f"sizewise.records.{info.name}")
        for found in vars(module).values():
            if isinstance(found, type) and issubclass(found, BaseModel):
                yield found


def test_identifiers() -> None:
    found = [
        f"{name}:{line}: {word}"
        for name, tree in sources()
        for line, word in identifiers(tree)
        if word in NAMES and word not in OF_LIBRARIES
    ]
    assert not found, "\n".join(found)


def test_fields_of_records_and_keys_of_study_files() -> None:
    found = {f"{one.__name__}.{name}" for one in record_types() for name in one.model_fields if name in NAMES}
    assert not found


def test_modules() -> None:
    there = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name, _ in sources()}
    assert not there & MODULES
    functions = set(sizewise.__all__) | {"redteam", "synthesize"}
    named = {name for name in there if not name.startswith("cli") and name.rpartition(".")[2] in functions}
    assert named <= {"evaluation.redteam"}, "a module has the name of a public function"


def test_options_and_commands() -> None:
    found = []
    pending = [typer.main.get_command(app)]
    while pending:
        command = pending.pop()
        pending += getattr(command, "commands", {}).values()
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.lstrip("-").replace("-", "_") in NAMES | {"again"}:
                    found.append(f"{command.name} {option}")
    assert not found


def test_metrics() -> None:
    old = {"stereotype", "sense", "general", "grounded", "right_referent", "swap_tone", "bold_tone", "answers_per_s"}
    assert not old & METRICS.keys()


def test_messages() -> None:
    found = [
        f"{name}:{line}: {phrase!r} in {text[:90]!r}"
        for name, tree in sources()
        for line, text in messages(tree)
        for phrase in PHRASES
        if re.search(rf"\b{re.escape(phrase)}", " ".join(text.lower().split())) and ALLOWED.get(name, "\0") not in text
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", ["report/templates", "service"])
def test_pages(folder: str) -> None:
    found = []
    for path in sorted((SRC / folder).rglob("*")):
        if path.suffix in (".jinja", ".html", ".js"):
            text = " ".join(path.read_text(encoding="utf-8").lower().split())
            found += [f"{path.name}: {phrase!r}" for phrase in PHRASES if phrase in text]
    assert not found, "\n".join(found)


def test_docstrings_begin_with_the_action() -> None:
    found = [
        f"{name}:{line}: {text.splitlines()[0]}"
        for name, tree in sources()
        for line, text in docstrings(tree)
        if OPENINGS.match(text)
    ]
    assert not found, "\n".join(found)
