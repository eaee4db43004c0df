"""Study templates, one for each domain."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError, UsageError
from sizewise.store import write_atomically
from sizewise.studies.config import toml_value


@cache
def domains() -> dict[str, dict[str, Any]]:
    """Load the template data of each domain, by name."""
    return tomllib.loads((resources.files("sizewise.studies") / "domains.toml").read_text(encoding="utf-8"))


def template(domain: str, documents: tuple[str, ...] = (), examples: tuple[str, ...] = ()) -> str:
    """Format the study file of a domain.

    Args:
        domain: a name in `domains`.
        documents: files or folders; by default the demo of this domain, or a folder `documents` for the user to fill.
        examples: files with task examples.

    Raises:
        UsageError: the domain is unknown.
    """
    if domain not in domains():
        raise UsageError(
            f"There is no domain '{domain}'.", f"one of {', '.join(domains())}", "sizewise init --domain medical"
        )
    known = domains()[domain]
    mine = bool(documents or examples)
    texts = list(documents) if mine else known["documents"] or ["documents"]
    answers = list(examples) if mine else [] if known["documents"] else ["examples.jsonl"]
    lines = [
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
        "[data]",
        f"# Text: {known['text']}.",
        f"documents = {toml_value(texts)}",
        f"# Examples: {known['examples']}; one JSON object per line.",
        f"examples = {toml_value(answers)}" if answers else '# examples = ["examples.jsonl"]',
        "limit = 180 # test examples, and about as many test passages; larger samples detect smaller differences",
        f"metrics = {toml_value(known['metrics'])}" if answers or known["documents"] else "",
        "",
        *_candidates(known["minutes"], retrieve=bool(known.get("retrieve") and texts)),
        "[needs]",
        *([f"quality = {toml_value(known['quality'])}"] if answers or known["documents"] else []),
        *(f"{key} = {toml_value(value)}" for key, value in known["needs"].items()),
        "# min_quality = 0.0            # score that is good enough (BLEU, chrF: 0 to 100; F1, exact match: 0 to 1)",
        "# machine_usd_per_hour = 0.10  # price of this machine, needed for the cost",
        "# requests_per_month = 100000  # needed for the break-even point",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or lines[i - 1]) + "\n"


def _candidates(minutes: float, retrieve: bool) -> list[str]:
    """Format the candidates: a small model, the same model fine-tuned and perhaps with retrieval, and a larger one."""
    with_documents = [
        "# Training may not be needed: the same model, with retrieval from the documents.",
        "[[candidates]]",
        'name = "SmolLM2-135M with the documents"',
        'model = "pkg:smollm2-135m"',
        "retrieve = true",
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
        f'train = {{ method = "lora", minutes = {minutes} }}',
        "",
        *(with_documents if retrieve else []),
        "[[candidates]]",
        'name = "Gemma-3-270M"',
        'model = "pkg:gemma3-270m"',
        "",
        "# The large model you pay for today. Its answers to the same prompts are read from a file; nothing is sent.",
        "# [[candidates]]",
        '# name = "large model"',
        '# model = "recorded:answers.jsonl"',
        "",
    ]


def init(
    domain: str, out: Path, documents: tuple[str, ...] = (), examples: tuple[str, ...] = (), force: bool = False
) -> Path:
    """Write the study file of a domain to a path.

    Raises:
        UsageError: the domain is unknown, or a document or example file doesn't exist.
        SizewiseError: the file already exists.
    """
    for name in (*documents, *examples):
        if not name.startswith("demo:") and not Path(name).expanduser().exists():
            raise UsageError(f"There is no {name}.", "files or folders that exist, or demo:NAME", "")
    text = template(domain, tuple(map(_absolute, documents)), tuple(map(_absolute, examples)))
    if out.exists() and not force:
        raise SizewiseError(
            f"{out} already exists.", "a new file", f"sizewise init --domain {domain} --out FILE, or --force"
        )
    write_atomically(out.resolve(), text)
    return out


def _absolute(name: str) -> str:
    return name if name.startswith("demo:") else str(Path(name).expanduser().resolve())
