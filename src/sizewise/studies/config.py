"""Study files: parse, check and write them."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomlkit
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from sizewise.choice.needs import check_keys, make_needs, read_toml
from sizewise.decisions.scorers import MODULES, STARTS
from sizewise.documents import ReadOptions, check_choice
from sizewise.documents.converting import KINDS as CONVERTED_KINDS
from sizewise.documents.decisions import declared_question
from sizewise.documents.files import TEXT_KINDS
from sizewise.documents.row_files import KINDS as TABLE_KINDS
from sizewise.documents.row_files import kind_of
from sizewise.documents.spreadsheets import KINDS as SHEET_KINDS
from sizewise.errors import UsageError, expected_of
from sizewise.metrics import find_metric
from sizewise.models.identity import recorded_uri, split_recorded, state_facts
from sizewise.records import Candidate, ClassifierRecipe, Needs, Recipe, Record, StatedFacts, StatedQuestion
from sizewise.seeds import MAX_SEED
from sizewise.studies.candidate_checks import check_candidates

DOCUMENT_KINDS, ROW_KINDS = (*TEXT_KINDS, *CONVERTED_KINDS), (*TABLE_KINDS, *SHEET_KINDS)
FILE_KINDS = ("recorded", "gguf")
COLUMNS = ("prompt", "reference", "label")
READ_KEYS = (*COLUMNS, "groups", "split", "personal_data")
TABLES = ("study", "data", "decision", "candidates", "needs")
LARGE_NAME, LARGE_URI = "Qwen2.5-Coder-1.5B", "pkg:qwen2.5-coder-1.5b"
RECORDED_DEMO = "recorded:demo:"
"""Beginning of the URIs of answers that ship with the package."""
FOLDER_MINUTES = 30.0
"""Time for a study of a folder."""
DECISION_KEYS = ("type", "instructions", "options", "positive")


class StudyConfig(Record):
    """Contents of a study file."""

    name: str
    """Name of the study."""
    domain: str = "general"
    """Application domain."""
    simulation: bool = False
    """Count simulated raters as people; the study is then marked as a simulation."""
    minutes: float | None = Field(default=None, gt=0)
    """Time for the whole study; by default it takes as long as it takes."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of split, training, samples and resampling."""
    documents: tuple[str, ...] = ()
    """Files, folders or `demo:NAME`."""
    examples: tuple[str, ...] = ()
    """Files with task examples."""
    prompt: str = ""
    """Column of the prompt in these files; detected by default."""
    reference: str = ""
    """Column of the reference answer; detected by default."""
    label: str = ""
    """Column of the class; detected by default."""
    groups: tuple[str, ...] = ()
    """Columns that name groups of people, between which decisions are compared. No model sees them."""
    split: Literal["", "documents", "questions", "prompts", "time", "group", "given"] = ""
    """What is held out for testing; documents by default."""
    personal_data: Literal["", "keep", "mask", "drop"] = ""
    """What becomes of personal data before training; kept by default."""
    limit: int | None = Field(default=None, gt=0)
    """Maximum number of test examples, and of test passages (rounded up to whole documents)."""
    metrics: tuple[str, ...] = ()
    """Metrics to compute; by default those that fit the data."""
    baseline: bool = True
    """Compare the candidates with trivial baselines, such as copying the question."""
    question: StatedQuestion | None = None
    """The question that the labels of the examples answer ([decision]); found in the data by default."""
    candidates: tuple[Candidate, ...]
    """Models to compare."""
    needs: Needs = Needs()
    """The user's requirements."""

    @property
    def columns(self) -> ReadOptions:
        """How the files are read: the columns that the study file names, and what becomes of personal data."""
        choice = check_choice(self.personal_data or "keep")
        columns = ReadOptions(
            prompt=self.prompt, reference=self.reference, label=self.label, personal_data=choice, groups=self.groups
        )
        return replace(columns, question=self.question)

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in plain(self).items() if value or key not in (*READ_KEYS, "question")}


def find_config(source: str | Path | None) -> StudyConfig:
    """Load the config for a study file, a folder of text or `demo:NAME`; None means the built-in demo.

    Raises:
        UsageError: there is no such file, folder or demo, or the file is not a valid study file.
    """
    if source is None:
        return demo_config()
    if not isinstance(source, str | Path) or not str(source).strip():
        raise UsageError(f"The study is {source!r:.60}.", "a study file, a folder of text or demo:NAME", "")
    if str(source).startswith("demo:"):
        for config in (demo_config(), demo_config("fhir-types")):
            if str(source) in config.documents:
                return config
        config = without_recordings(demo_config())
        name = str(source).partition(":")[2]
        return config.model_copy(update={"documents": (str(source),), "name": name, "domain": "general"})
    path = Path(source).expanduser()
    if path.is_dir():
        return folder_config(path)
    if path.exists():
        return _file_config(path)
    raise UsageError(
        f"The path '{source}' doesn't exist.", "a study file, a folder of text or demo:NAME", "sizewise study --example"
    )


def demo_config(name: str = "default") -> StudyConfig:
    """Return the config of a built-in demo study: of definitions (default) or of decisions (fhir-types)."""
    return _parse(_default(name), "the demo study", Path.cwd())


def demo_configs() -> tuple[StudyConfig, ...]:
    """Return the configs of the demo: decisions first, then definitions."""
    return demo_config("fhir-types"), demo_config()


def with_large(config: StudyConfig) -> StudyConfig:
    """Return a study that also asks the largest packaged model, live: in place of its recorded answers in a demo."""
    if any(one.model == LARGE_URI for one in config.candidates):
        return config
    live = Candidate(name=LARGE_NAME, model=LARGE_URI)
    recorded = next((one for one in config.candidates if one.model.startswith(RECORDED_DEMO)), None)
    if recorded is None:
        return config.model_copy(update={"candidates": (*config.candidates, live)})
    candidates = tuple(live if one is recorded else one for one in config.candidates)
    needs = config.needs
    if needs.incumbent == recorded.name:
        needs = needs.model_copy(update={"incumbent": live.name})
    return config.model_copy(update={"candidates": candidates, "needs": needs})


def folder_config(folder: Path) -> StudyConfig:
    """Return the config of the default study on a folder of text, or on a document."""
    values = _default()
    values["study"] |= {"name": folder.resolve().name, "domain": "general", "minutes": FOLDER_MINUTES}
    values["data"]["documents"] = [str(folder.resolve())]
    return without_recordings(_parse(values, str(folder), Path.cwd()))


def without_recordings(config: StudyConfig) -> StudyConfig:
    """Leave out the recorded answers, which are about the items of a demo."""
    kept = tuple(one for one in config.candidates if not one.model.startswith(RECORDED_DEMO))
    return config.model_copy(update={"candidates": kept})


def _file_config(path: Path) -> StudyConfig:
    """Read a study file, whatever its name, or return the config of the default study on a document.

    Raises:
        UsageError: the file isn't a valid study file, or holds a table, which `sizewise init` makes a study of.
    """
    kind = kind_of(path)
    if kind == ".toml" or not kind.endswith((*DOCUMENT_KINDS, *ROW_KINDS)) or _is_study(path):
        return read_config(path)
    if not kind.endswith(ROW_KINDS):
        return folder_config(path)
    raise UsageError(
        f"'{path}' is a table of examples, not a study file.",
        "a study file that names it, which sizewise init writes (--domain: support, legal, extraction or another)",
        f"sizewise init --domain support --examples {shlex.quote(str(path))}",
    )


def _is_study(path: Path) -> bool:
    """Check whether a file that isn't named .toml holds the tables of a study file."""
    try:
        return "candidates" in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def read_config(path: Path) -> StudyConfig:
    """Read a study file; relative paths are resolved from its folder.

    Raises:
        UsageError: the file can't be read, or has an unknown key or an invalid value.
    """
    return _parse(read_toml(path), str(path), path.resolve().parent)


def config_text(config: StudyConfig) -> str:
    """Format a config as a study file."""
    study = config.model_dump(include={"name", "domain", "seed"})
    if config.minutes is not None:
        study["minutes"] = config.minutes
    if config.simulation:
        study["simulation"] = True
    data: dict[str, Any] = {"documents": config.documents}
    if config.examples:
        data["examples"] = config.examples
    data |= {column: getattr(config, column) for column in READ_KEYS if getattr(config, column)}
    if config.limit is not None:
        data["limit"] = config.limit
    if config.metrics:
        data["metrics"] = config.metrics
    if not config.baseline:
        data["baseline"] = False
    candidates = [_candidate_table(candidate) for candidate in config.candidates]
    tables: dict[str, Any] = {"study": study, "data": data}
    if config.question:
        tables["decision"] = _decision_table(config.question)
    tables["candidates"] = candidates
    needs = {k: v for k, v in config.needs.model_dump(exclude_defaults=True).items() if v is not None}
    return tomlkit.dumps(tables | ({"needs": needs} if needs else {}))


def _candidate_table(candidate: Candidate) -> dict[str, Any]:
    table: dict[str, Any] = {"name": candidate.name, "model": candidate.model}
    if candidate.stated is not None:  # the keys say the same as the end of the URI
        table["model"] = f"recorded:{split_recorded(candidate.model.partition(':')[2])[0]}"
        table |= candidate.stated.model_dump(exclude_defaults=True)
    if candidate.retrieve:
        table["retrieve"] = True
    if candidate.train:
        recipe = candidate.train.model_dump(exclude_defaults=True, exclude={"start"})
        train = tomlkit.inline_table()
        train.update({key: value for key, value in recipe.items() if value is not None})
        table["train"] = train
    return table


def _decision_table(question: StatedQuestion) -> dict[str, Any]:
    table: dict[str, Any] = {"type": question.type}
    if question.instructions:
        table["instructions"] = question.instructions
    if question.options:
        table["options"] = [option.model_dump(exclude_defaults=True) for option in question.options]
    return table


def _question(values: Mapping[str, Any], where: str) -> StatedQuestion | None:
    """Parse [decision]."""
    if "decision" not in values:
        return None
    table, where = _table(values, "decision", where), f"{where} [decision]"
    check_keys(table, DECISION_KEYS, where)
    return declared_question(
        table.get("type", "choice"),
        table.get("instructions", ""),
        table.get("options"),
        table.get("positive", ""),
        where=where,
    )


def toml_value(value: Any) -> str:
    """Format a plain value as TOML."""
    text: str = tomlkit.item(value).as_string()
    return text


def _default(name: str = "default") -> dict[str, Any]:
    return tomllib.loads((resources.files("sizewise.studies") / f"{name}.toml").read_text(encoding="utf-8"))


def _table(values: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    table = values.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"'{name}' in {where} is not a table.", f"[{name}]", f"fix {where}")
    return dict(table)


def _parse(values: Mapping[str, Any], where: str, base: Path) -> StudyConfig:
    check_keys(values, TABLES, where)
    study, data = _table(values, "study", where), _table(values, "data", where)
    check_keys(study, ("name", "domain", "seed", "minutes", "simulation"), f"{where} [study]")
    check_keys(data, ("documents", "examples", *READ_KEYS, "limit", "metrics", "baseline"), f"{where} [data]")
    seed = study.get("seed", 0)
    rows = values.get("candidates", [])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(
            f"{where} has no candidates.", "[[candidates]] with name and model", "sizewise study --example"
        )
    for key in ("documents", "examples"):
        given = data.get(key, [])
        if not isinstance(given, str | list):
            raise UsageError(f"'{key}' in {where} is neither a path nor a list.", f'{key} = ["PATH"]', f"fix {where}")
        data[key] = [_resolve(str(path), base) for path in ([given] if isinstance(given, str) else given)]
    if not data["documents"] and not data["examples"]:
        raise UsageError(
            f"{where} names no documents and no examples.", '[data] documents = ["FOLDER"]', "sizewise study --example"
        )
    for metric in data.get("metrics", ()):
        _check_metric(metric, where)
    try:
        config = StudyConfig(
            name=study.get("name", Path(where).stem),
            domain=study.get("domain", "general"),
            seed=seed,
            simulation=study.get("simulation", False),
            minutes=study.get("minutes"),
            question=_question(values, where),
            candidates=tuple(_candidate(row, f"{where} [[candidates]]", seed, base) for row in rows),
            needs=make_needs(_table(values, "needs", where), f"{where} [needs]"),
            **data,
        )
    except ValidationError as error:
        raise _refused(error, where) from error
    if config.needs.quality and config.metrics and config.needs.quality not in config.metrics:
        raise UsageError(
            f"{where} ranks by quality = '{config.needs.quality}', but [data] metrics doesn't include it.",
            " or ".join(config.metrics),
            f"fix {where}",
        )
    if config.needs.quality:
        _check_metric(config.needs.quality, where)
    if any(candidate.retrieve for candidate in config.candidates) and not config.documents:
        raise UsageError(
            f"{where} has a candidate with retrieve = true, but there are no documents.",
            "documents in [data]",
            f"fix {where}",
        )
    check_candidates(config.candidates, config.needs, where)
    return config


def _check_metric(name: str, where: str) -> None:
    """Check, before any training, that a study can compute this metric on its data."""
    if find_metric(name).needs == "suite":
        raise UsageError(
            f"{where} asks for {name}, which only a suite can measure, not a study's own data.",
            "another metric; the study runs the packaged bias suite anyway",
            f"fix {where}",
        )


def _resolve(path: str, base: Path) -> str:
    if path.startswith("demo:") or Path(path).expanduser().is_absolute():
        return path
    return str(base / path)


def _candidate(row: Mapping[str, Any], where: str, seed: int, base: Path) -> Candidate:
    check_keys(row, ("name", "model", "train", "retrieve", *StatedFacts.model_fields), where)
    model = str(row.get("model", ""))
    if not model:
        raise UsageError(f"A candidate in {where} has no model.", 'model = "pkg:smollm2-135m"', f"fix {where}")
    kind, colon, path = model.partition(":")
    stated = {key: value for key, value in row.items() if key in StatedFacts.model_fields}
    facts = None
    if kind == "recorded" and colon:
        model, facts = _recorded(_resolve(path, base), stated, where)
    elif stated:
        raise UsageError(
            f"'{next(iter(stated))}' in {where} describes recorded answers, but model is '{model}'.",
            'model = "recorded:FILE"',
            f"fix {where}",
        )
    elif kind in FILE_KINDS and colon:
        model = f"{kind}:{_resolve(path, base)}"
    elif not colon and model != "scratch" and model not in STARTS.values():
        model = _resolve(model, base)
    train = row.get("train")
    recipe: Recipe | ClassifierRecipe | None = None
    if train is not None:
        if not isinstance(train, dict):
            raise UsageError(f"'train' in {where} is not a table.", "train = { minutes = 1 }", f"fix {where}")
        recipe = _recipe(model, train, f"{where} train", seed)
    elif model == "scratch":
        raise UsageError(
            f'A candidate with model = "scratch" in {where} has no training recipe.',
            "train = { minutes = 1 }",
            f"fix {where}",
        )
    elif model in STARTS.values():
        raise UsageError(
            f'A candidate with model = "{model}" in {where} has no training recipe.',
            'train = { method = "linear" }',
            f"fix {where}",
        )
    retrieve = row.get("retrieve", False)
    if not isinstance(retrieve, bool):
        raise UsageError(f"'retrieve' in {where} is neither true nor false.", "retrieve = true", f"fix {where}")
    return Candidate(name=str(row.get("name", model)), model=model, train=recipe, retrieve=retrieve, stated=facts)


def _recorded(path: str, stated: Mapping[str, Any], where: str) -> tuple[str, StatedFacts | None]:
    """Write what a study file states about recorded answers into their URI, which may state some of it already."""
    file, told = split_recorded(path)
    given = told.model_dump(exclude_defaults=True) | dict(stated)
    if not given:
        return f"recorded:{file}", None
    facts = state_facts(given, where)
    return recorded_uri(str(file), facts), facts


def _recipe(model: str, train: Mapping[str, Any], where: str, seed: int) -> Recipe | ClassifierRecipe:
    """Build the recipe of a language model or a classifier, which its method tells apart."""
    method = train.get("method", "full" if model == "scratch" else "linear" if model == "tfidf" else "lora")
    kind = ClassifierRecipe if method in MODULES else Recipe
    check_keys(train, [key for key in kind.model_fields if key != "start"], where)
    return kind(start=model, **({"seed": seed} | dict(train) | {"method": method}))


def _refused(error: ValidationError, where: str) -> UsageError:
    first = error.errors()[0]
    wanted = expected_of(first["msg"])
    if not first["loc"]:
        return UsageError(f"{where}: {wanted}.", "settings that fit together", f"fix {where}")
    key = ".".join(str(part) for part in first["loc"])
    return UsageError(f"{where}: {key} = {first['input']!r} isn't valid.", wanted, f"fix {where}")
