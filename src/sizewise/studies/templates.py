"""Study templates, one for each domain."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import replace
from functools import cache, reduce
from importlib import resources
from pathlib import Path
from typing import Any

from sizewise.datasets.questions import MIN_LABELED_SHARE, is_labeled
from sizewise.documents import ReadOptions, row_files, spreadsheets
from sizewise.documents.cell_tables import CELL_KINDS
from sizewise.documents.decoding import Unreadable
from sizewise.documents.guessing import UNNAMED
from sizewise.documents.peeking import answers_repeat, columns_of, first_examples
from sizewise.errors import SizewiseError, UsageError
from sizewise.retrieval.packaged_encoders import DEFAULT_ENCODER, MULTILINGUAL_ENCODER, encoder_for
from sizewise.store import write_atomically
from sizewise.studies.config import COLUMNS, toml_value

DETECTED = ReadOptions()
MAX_LISTED = 12
"""Columns that an error lists."""
DECISIONS: dict[str, Any] = {
    "examples": "a text and its label in each row",
    "metrics": ["accuracy", "macro_f1", "log_loss", "brier", "ece"],
    "quality": "accuracy",
}
"""What a study of labeled examples measures, whatever its domain."""
ABOUT_DOCUMENTS = (
    '# The documents are studied, and unseen questions about them are asked; "documents" asks about unseen documents.',
    'split = "questions"',
)
KNOWLEDGE_EPOCHS = 32
"""Passes over documents and examples at most, where facts are to be learned: with tokens for 24 passes over 200 short
sections, half of them synthesized, SmolLM2-135M knew nearly all answers; with 12, half (docs/results/knowledge.md)."""
FACTS = ("reference_recall",)
"""Further metrics of what models know of documents."""
LADDER = (
    "# From the smallest candidate to the largest; the smallest one that is good enough wins.",
    "[[candidates]]",
    'name = "Linear classifier"',
    'model = "tfidf"',
    'train = { method = "linear" }',
    "",
    "[[candidates]]",
    'name = "MiniLM embeddings"',
    'model = "pkg:minilm"',
    'train = { method = "embedding" }',
    "",
    "[[candidates]]",
    'name = "MiniLM fine-tuned"',
    'model = "pkg:minilm"',
    'train = { method = "contrastive", minutes = 10.0 }',
    "",
    "# A language model that chooses among the labels without training, and the same with a classification head:",
    "# [[candidates]]",
    '# name = "SmolLM2-135M, options"',
    '# model = "pkg:smollm2-135m"',
    '# train = { method = "options", shots = 4 }',
    "# [[candidates]]",
    '# name = "SmolLM2-135M, head"',
    '# model = "pkg:smollm2-135m"',
    '# train = { method = "head", minutes = 10.0 }',
    "",
    "# The large model you pay for today. Its answers to the same texts are read from a file; nothing is sent.",
    "# [[candidates]]",
    '# name = "large model"',
    '# model = "recorded:answers.jsonl"',
    '# of = "gpt-4o" # who gave them: size, provider and price are looked up',
    "",
)


@cache
def domains() -> dict[str, dict[str, Any]]:
    """Load the template data of each domain, by name."""
    return tomllib.loads((resources.files("sizewise.studies") / "domains.toml").read_text(encoding="utf-8"))


def template(
    domain: str, documents: tuple[str, ...] = (), examples: tuple[str, ...] = (), columns: ReadOptions = DETECTED
) -> str:
    """Format the study file of a domain.

    Args:
        domain: a name in `domains`.
        documents: files or folders; by default the demo of this domain, or a folder `documents` for the user to fill.
        examples: files with task examples.
        columns: columns of the examples that the user named.

    Raises:
        UsageError: the domain is unknown.
    """
    if domain not in domains():
        raise UsageError(
            f"There is no domain '{domain}'.", f"one of {', '.join(domains())}", "sizewise init --domain medical"
        )
    known, columns = domains()[domain], _with_label(examples, columns)
    decides = _are_labeled(examples, columns) if examples else bool(known.get("decides"))
    if decides:
        known = known | DECISIONS
    mine = bool(documents or examples)
    texts = list(documents) if mine else known["documents"] or ["documents"]
    studied = not decides and _ask_about(documents, examples, columns)
    answers = list(examples) if mine else [] if known["documents"] else ["examples.jsonl"]
    retrieves = bool(studied or (known.get("retrieve") and texts))
    quality = known.get("quality")  # without one, the study takes the first of its defaults that is measured
    metrics = [*known["metrics"], *(name for name in FACTS if studied and name not in known["metrics"])]
    lines = [
        *_head(domain, known),
        "[data]",
        f"# Text: {known['text']}.",
        f"documents = {toml_value(texts)}",
        f"# Examples: {known['examples']}; JSON Lines, CSV or Parquet.",
        f"examples = {toml_value(answers)}" if answers else '# examples = ["examples.jsonl"]',
        *(f"{name} = {toml_value(column)}" for name in COLUMNS if (column := getattr(columns, name))),
        *(ABOUT_DOCUMENTS if studied else ()),
        f"limit = {2_000 if decides else 180} # test examples{'' if decides else ', and about as many test passages'}; "
        "larger samples detect smaller differences",
        f"metrics = {toml_value(metrics)}" if answers or known["documents"] else "",
        "",
        *(_ladder(examples, columns) if decides else _candidates(known["minutes"], retrieves, studied)),
        "[needs]",
        *([f"quality = {toml_value(quality)}"] if quality and (answers or known["documents"]) else []),
        *(f"{key} = {toml_value(value)}" for key, value in known["needs"].items()),
        "# min_quality = 0.0            # score that is good enough (BLEU, chrF: 0 to 100; F1, accuracy: 0 to 1)",
        "# machine_usd_per_hour = 0.10  # price of this machine, needed for the cost",
        "# requests_per_month = 100000  # needed for the break-even point",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or lines[i - 1]) + "\n"


def _head(domain: str, known: dict[str, Any]) -> list[str]:
    """Format what comes before the data: decisions that people must make, and the name of the study."""
    return [
        f"# Study of {known['title']}.",
        "#",
        "# Decisions that no metric can make for you:",
        *(f"#   - {line}" for line in known["people"]),
        "# Groups whose answers are worth comparing (the packaged bias suite always runs):",
        f"#   {', '.join(known['groups'])}",
        "",
        "[study]",
        f"name = {toml_value(f'{domain} study')}",
        f"domain = {toml_value(domain)}",
        "seed = 0",
        "",
    ]


def _ladder(examples: tuple[str, ...], columns: ReadOptions) -> list[str]:
    """Format the candidates of a decision, with the encoder that knows the languages of its texts."""
    texts = [one.prompt for path in examples for one in first_examples(Path(path).expanduser(), columns)]
    if encoder_for(texts) == DEFAULT_ENCODER:
        return list(LADDER)
    names = {"MiniLM": "Multilingual E5", f"pkg:{DEFAULT_ENCODER}": f"pkg:{MULTILINGUAL_ENCODER}"}
    return [reduce(lambda line, name: line.replace(name, names[name]), names, line) for line in LADDER]


def _with_label(examples: tuple[str, ...], columns: ReadOptions) -> ReadOptions:
    """Take the column of the answers for that of the labels, if its answers repeat as labels do."""
    if not columns.reference or columns.label:
        return columns
    found = [one for path in examples for one in first_examples(Path(path).expanduser(), columns)]
    return replace(columns, reference="", label=columns.reference) if answers_repeat(found) else columns


def _are_labeled(examples: tuple[str, ...], columns: ReadOptions) -> bool:
    """Check by their first rows whether files of examples have repeated labels as answers."""
    found = [one for path in examples for one in first_examples(Path(path).expanduser(), columns)]
    labeled = [one.label for one in found if is_labeled(one)]
    return len(labeled) >= MIN_LABELED_SHARE * len(found) > 0 and 2 * len(set(labeled)) <= len(labeled)


def _ask_about(documents: tuple[str, ...], examples: tuple[str, ...], columns: ReadOptions) -> bool:
    """Check by their first rows whether examples name files among the documents as their source."""
    paths = [Path(name).expanduser() for name in documents if not name.startswith("demo:")]
    sources = {one.source for name in examples for one in first_examples(Path(name).expanduser(), columns)}
    return any((path / source).is_file() or path.name == source for path in paths for source in sources if source)


def _candidates(minutes: float, retrieve: bool, both: bool) -> list[str]:
    """Format the candidates: a small model, the same model fine-tuned, with retrieval and both, and a larger one."""
    trained = f'method = "lora", minutes = {minutes}' + (f", max_epochs = {KNOWLEDGE_EPOCHS}" if both else "")
    with_documents = [
        "# Training may not be needed: the same model, with retrieval from the documents.",
        "[[candidates]]",
        'name = "SmolLM2-135M with the documents"',
        'model = "pkg:smollm2-135m"',
        "retrieve = true",
        "",
    ]
    trained_with_documents = [
        "# Both: trained to use passages, and with retrieval.",
        "[[candidates]]",
        'name = "SmolLM2-135M fine-tuned, with the documents"',
        'model = "pkg:smollm2-135m"',
        "retrieve = true",
        f"train = {{ {trained}, passage_share = 1.0, example_share = 0.9, context = 1024 }}",
        "",
    ]
    return [
        "[[candidates]]",
        'name = "SmolLM2-135M"',
        'model = "pkg:smollm2-135m"',
        "",
        "[[candidates]]",
        'name = "SmolLM2-135M fine-tuned"',
        'model = "pkg:smollm2-135m"',
        f"train = {{ {trained} }}",
        "",
        *(with_documents if retrieve else []),
        *(trained_with_documents if both else []),
        "[[candidates]]",
        'name = "Gemma-3-270M"',
        'model = "pkg:gemma3-270m"',
        "",
        "# The large model you pay for today. Its answers to the same prompts are read from a file; nothing is sent.",
        "# [[candidates]]",
        '# name = "large model"',
        '# model = "recorded:answers.jsonl"',
        '# of = "gpt-4o" # who gave them: size, provider and price are looked up',
        "",
    ]


def init(
    domain: str,
    out: Path,
    documents: tuple[str, ...] = (),
    examples: tuple[str, ...] = (),
    force: bool = False,
    columns: ReadOptions = DETECTED,
) -> Path:
    """Write the study file of a domain to a path.

    Raises:
        UsageError: the domain is unknown, a document or example file doesn't exist, or a table of examples has no
            column that is known to hold them.
        SizewiseError: the file already exists.
    """
    for name in (*documents, *examples):
        if not name.startswith("demo:") and not Path(name).expanduser().exists():
            raise UsageError(
                f"There is no file or folder '{name}'.",
                "files or folders that exist, or demo:NAME",
                f"sizewise init --domain {domain} --documents FOLDER",
            )
    for name in examples:
        _check_columns(domain, name, columns)
    text = template(domain, tuple(map(_absolute, documents)), tuple(map(_absolute, examples)), columns)
    if out.exists() and not force:
        raise SizewiseError(
            f"{out} already exists.", "a new file", f"sizewise init --domain {domain} --out FILE, or --force"
        )
    write_atomically(out.resolve(), text)
    return out


def _check_columns(domain: str, name: str, columns: ReadOptions) -> None:
    """Refuse a table in which no example is recognized, with the command that names its columns."""
    path = Path(name).expanduser()
    if first_examples(path, columns):
        return
    try:
        columns_found = columns_of(path)
    except Unreadable as error:
        raise UsageError(
            f"{name} can't be used as examples: {error}.",
            "a table in UTF-8 whose first row names the columns, each once",
            error.command.replace("FILE", name),
        ) from error
    options, names = columns_found.options, [one for one in columns_found.names if one]
    is_table = row_files.kind_of(path).startswith((*CELL_KINDS, *spreadsheets.KINDS))
    if not names or not (is_table or (options and UNNAMED not in options)):
        return
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    raise UsageError(
        f"No example was recognized in {name}: no pair of a text and its label or answer. Its columns are {listed}.",
        "the columns of the text and of its label or answer"
        if options
        else "a column with a text in each row, and one with its label or answer",
        f"sizewise init --domain {domain} --examples {shlex.quote(name)} "
        + (options or f"--prompt {UNNAMED} --label {UNNAMED} (or --reference {UNNAMED})"),
    )


def _absolute(name: str) -> str:
    return name if name.startswith("demo:") else str(Path(name).expanduser().resolve())
