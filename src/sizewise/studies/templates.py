"""Study files to start from, one for each kind of work."""

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
    """Give what is known of each kind of work, by name."""
    return tomllib.loads((resources.files("sizewise.studies") / "domains.toml").read_text(encoding="utf-8"))


def template(domain: str, documents: tuple[str, ...] = (), examples: tuple[str, ...] = ()) -> str:
    """Write a study file for a kind of work.

    Args:
        domain: a name in `domains`.
        documents: files or folders; if none, the demo of this domain, or a folder `documents` that is still to be
            filled.
        examples: files with examples of the job.

    Raises:
        UsageError: there is no such domain.
    """
    if domain not in domains():
        raise UsageError(f"There is no domain '{domain}'.", ", ".join(domains()), "sizewise init --domain medical")
    known = domains()[domain]
    mine = bool(documents or examples)
    texts = list(documents) if mine else known["documents"] or ["documents"]
    answers = list(examples) if mine else [] if known["documents"] else ["examples.jsonl"]
    minutes = known["minutes"]
    lines = [
        f"# A study of {known['title']}.",
        "#",
        "# What no measure decides, and a person must:",
        *(f"#   - {line}" for line in known["people"]),
        "# Groups whose answers are worth comparing (the packaged bias set is measured by itself):",
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
        f"# Examples: {known['examples']}; one JSON object a line.",
        f"examples = {toml_value(answers)}" if answers else '# examples = ["examples.jsonl"]',
        "limit = 180 # test examples, and documents until so many passages; more can show smaller differences",
        f"metrics = {toml_value(known['metrics'])}" if answers or known["documents"] else "",
        "",
        "[[candidates]]",
        'name = "SmolLM2-135M"',
        'model = "pkg:smollm2-135m"',
        "",
        "[[candidates]]",
        'name = "SmolLM2-135M adapted"',
        'model = "pkg:smollm2-135m"',
        f'train = {{ method = "lora", minutes = {minutes} }}',
        "",
        *(
            [
                "# Perhaps nothing need be trained: the same model, with passages of the documents at hand.",
                "[[candidates]]",
                'name = "SmolLM2-135M with the documents"',
                'model = "pkg:smollm2-135m"',
                "retrieve = true",
                "",
            ]
            if known.get("retrieve") and texts
            else []
        ),
        "[[candidates]]",
        'name = "Gemma-3-270M"',
        'model = "pkg:gemma3-270m"',
        "",
        "# The large model that you pay today: its answers to the same prompts, already in a file (nothing is sent)",
        "# [[candidates]]",
        '# name = "large model"',
        '# model = "recorded:answers.jsonl"',
        "",
        "[needs]",
        *([f"quality = {toml_value(known['quality'])}"] if answers or known["documents"] else []),
        *(f"{key} = {toml_value(value)}" for key, value in known["needs"].items()),
        "# min_quality = 0.0            # what is good enough (BLEU, chrF: of 100; F1, exact match: of 1)",
        "# machine_usd_per_hour = 0.10    # price of this machine, or cost stays missing",
        "# requests_per_month = 100000    # or the break-even stays missing",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or lines[i - 1]) + "\n"


def init(
    domain: str, out: Path, documents: tuple[str, ...] = (), examples: tuple[str, ...] = (), force: bool = False
) -> Path:
    """Write the study file of a domain to a path.

    Raises:
        UsageError: there is no such domain, or something to read does not exist.
        SizewiseError: the file exists already.
    """
    for name in (*documents, *examples):
        if not name.startswith("demo:") and not Path(name).expanduser().exists():
            raise UsageError(f"There is no {name}.", "files or folders that exist, or demo:NAME", "")
    places = [tuple(_absolute(name) for name in names) for names in (documents, examples)]
    text = template(domain, *places)
    if out.exists() and not force:
        raise SizewiseError(
            f"{out} exists already.", "a new file", f"sizewise init --domain {domain} --out FILE, or --force"
        )
    write_atomically(out.resolve(), text)
    return out


def _absolute(name: str) -> str:
    return name if name.startswith("demo:") else str(Path(name).expanduser().resolve())
