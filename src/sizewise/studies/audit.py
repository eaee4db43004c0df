"""audit(): pack the evidence for a result, and recompute its numbers without opening a model."""

from __future__ import annotations

import json
import math
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sizewise.choice import decide
from sizewise.comparison import differences, measures_of
from sizewise.comparison.comparing import COMPARISON_VERSION
from sizewise.comparison.tables import ItemTable
from sizewise.comparison.voting import VOTES_FILE, voted
from sizewise.errors import SizewiseError
from sizewise.judging import tasks_of
from sizewise.judging.ballot import MORE_TASKS_FILE, TASKS_FILE
from sizewise.metrics import METRICS, CannotMeasure, Metric, find_metric, total
from sizewise.metrics.base import SCORING_VERSION
from sizewise.records import (
    Audit,
    Checkpoint,
    Comparison,
    Dataset,
    Difference,
    Evaluation,
    ItemRow,
    JudgeRound,
    JudgeValidation,
    LoadTest,
    Recommendation,
    Recomputed,
    Record,
    Score,
    Study,
    Vote,
)
from sizewise.store import Store, make_folder, sha256_of

MANIFEST = "manifest.json"
EVALUATION_FILES, DATASET_FILES = ("items.jsonl",), ("leaks.jsonl",)
MAX_UNPACKED_BYTES = 4 * 2**30
TOLERANCE = 1e-9
README = """About this archive
==================

It contains the evidence for {root}: all records as they were written, the measured items, and manifest.json with the
SHA-256 of each file. To check the hashes and recompute every number, without a model or network access:

    pip install 'sizewise[study]'
    sizewise audit {name} --verify
"""


def audit(root: str | Path, *, store: Store | None = None, out: Path | None = None, verify: bool = False) -> Audit:
    """List the records and files behind a result, and optionally pack them and recompute its numbers.

    Args:
        root: id of a study, recommendation, comparison, evaluation or dataset; or the path of a pack.
        store: where records live; by default SIZEWISE_HOME.
        out: zip file to write. Document texts and weights are not packed; the records contain their hashes.
        verify: recompute scores and differences from the items, and the recommendation from both.

    Raises:
        SizewiseError: the record or one that it depends on is missing, or the pack is damaged.
    """
    path = Path(root)
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            listed = _unpack(path, Path(folder))
            return _audited(Store(folder), str(listed["root"]), None, verify, listed["files"])
    return _audited(store or Store(), str(root), out, verify, None)


def _audited(store: Store, root: str, out: Path | None, verify: bool, listed: dict[str, str] | None) -> Audit:
    records = dict(_dependencies(store, root, store.kind_of(root)))
    paths = [path for record_id, kind in records.items() for path in _files(store, kind, record_id)]
    files = {path.relative_to(store.home).as_posix(): sha256_of(path) for path in paths}
    changed = () if listed is None else tuple(_changed(files, listed))
    recomputed = tuple(_recompute(store, records)) if verify else ()
    licenses, versions = _facts(store, records)
    found = Audit(
        root=root,
        records=records,
        files=files,
        licenses=licenses,
        versions=versions,
        people=dict(_votes_by_origin(store, records)),
        changed=changed,
        recomputed=recomputed,
        sound=not changed and not any(result.differing for result in recomputed),
        pack=None if out is None else str(out),
    )
    if out is not None:
        _pack(store, found, paths, out)
    return found


# -- records and files behind a result --------------------------------------------------------------------


def _dependencies(store: Store, record_id: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield (id, kind) of a record and of all records that it depends on, each once."""
    todo, seen = [(record_id, kind)], set()
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        todo += _direct_dependencies(store, *one)


def _direct_dependencies(store: Store, record_id: str, kind: str) -> list[tuple[str, str]]:
    if kind == "study":
        study = store.read(Study, record_id)
        return [
            (study.dataset, "dataset"),
            (study.comparison, "comparison"),
            (study.recommendation, "recommendation"),
            *((name, "evaluation") for name in (*study.evaluations.values(), *study.bias.values())),
            *([(study.language_nuance, "comparison")] if study.language_nuance else []),
            *((name, "checkpoint") for name in study.checkpoints.values()),
        ]
    if kind == "recommendation":
        return [(store.read(Recommendation, record_id).comparison, "comparison")]
    if kind == "comparison":
        compared = store.read(Comparison, record_id)
        data = [] if compared.data.startswith("suite:") else [(compared.data, "dataset")]
        votes = [(compared.votes, "round")] if compared.votes else []
        load_tests = [(name, "loadtest") for name in compared.load_tests.values()]
        evaluations = [(name, "evaluation") for name in (*compared.suites.values(), *compared.evaluations.values())]
        return [*data, *votes, *load_tests, *evaluations]
    if kind == "evaluation":
        measured = store.read(Evaluation, record_id)
        found = [] if measured.data.startswith("suite:") else [(measured.data, "dataset")]
        kind, _, run = measured.model.uri.partition(":")
        return [*found, *([(run, "checkpoint")] if kind == "run" else [])]
    if kind == "checkpoint":
        return [(store.read(Checkpoint, record_id).data, "dataset")]
    return []


def _files(store: Store, kind: str, record_id: str) -> list[Path]:
    folder = store.folder(kind, record_id)
    extra_files = {
        "evaluation": EVALUATION_FILES,
        "dataset": DATASET_FILES,
        "round": (TASKS_FILE, MORE_TASKS_FILE),
        "comparison": (VOTES_FILE,),
        "study": ("report.html",),
    }.get(kind, ())
    return [store.record_path(kind, record_id), *(folder / name for name in extra_files if (folder / name).is_file())]


def _facts(store: Store, records: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Collect the licenses of models and texts, and the versions of packages."""
    licenses: dict[str, str] = {}
    versions: dict[str, set[str]] = {}
    for record_id, kind in records.items():
        if kind == "evaluation":
            measured = store.read(Evaluation, record_id)
            licenses[measured.model.uri] = measured.model.license
            for package, version in measured.versions.items():
                versions.setdefault(package, set()).add(version)
        elif kind == "dataset":
            licenses |= {
                f"text: {name}": f"{count} documents" for name, count in _document_licenses(store, record_id).items()
            }
    return licenses, {package: ", ".join(sorted(found)) for package, found in sorted(versions.items())}


def _votes_by_origin(store: Store, records: dict[str, str]) -> Counter[str]:
    """Count the votes that were used, by the origin of their raters."""
    counts: Counter[str] = Counter()
    for record_id, kind in records.items():
        votes = store.read(Comparison, record_id).votes if kind == "comparison" else None
        if votes:
            rows = store.read_rows(store.folder("comparison", record_id), VOTES_FILE, Vote)
            counts.update(row.origin for row in rows if row.choice != "skip")
    return counts


def _document_licenses(store: Store, dataset: str) -> dict[str, int]:
    return dict(store.read(Dataset, dataset).licenses)


# -- packing --------------------------------------------------------------------------------------------


def _pack(store: Store, found: Audit, paths: Sequence[Path], out: Path) -> None:
    make_folder(out.resolve().parent)
    manifest = json.dumps({"schema": 1, "root": found.root, "files": found.files}, indent=1)
    try:
        temporary = out.resolve().with_name(f".{out.name}.{os.getpid()}")
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(MANIFEST, manifest)
            archive.writestr("README.txt", README.format(root=found.root, name=out.name))
            for path in paths:
                archive.write(path, path.relative_to(store.home).as_posix())
        temporary.replace(out.resolve())
    except OSError as error:
        raise SizewiseError(
            f"{out} cannot be written: {error}.",
            "a writable path with enough disk space",
            "sizewise audit ID --out FILE",
        ) from error


def _unpack(path: Path, folder: Path) -> dict[str, Any]:
    """Unpack only the files that the manifest lists, up to a maximum size."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest: dict[str, Any] = json.loads(archive.read(MANIFEST))
            names = [str(name) for name in manifest["files"]]
            size = 0
            for name in names:
                parts = Path(name).parts
                if len(parts) != 3 or ".." in parts or Path(name).is_absolute():
                    raise ValueError(f"a file named {name!r}")
                size += archive.getinfo(name).file_size
                if size > MAX_UNPACKED_BYTES:
                    raise ValueError("more than 4 GB of records")
                target = folder / name
                make_folder(target.parent)
                target.write_bytes(archive.read(name))
            return manifest
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SizewiseError(
            f"{path} is not a readable audit pack: {error}.",
            "a file written by `sizewise audit ID --out FILE`",
            "sizewise audit ID --out FILE",
        ) from error


def _changed(files: dict[str, str], listed: dict[str, str]) -> Iterator[str]:
    for name in sorted(files.keys() | listed.keys()):
        if files.get(name) != listed.get(name):
            yield name


# -- recomputation ----------------------------------------------------------------------------------------


def _recompute(store: Store, records: dict[str, str]) -> Iterator[Recomputed]:
    for record_id, kind in records.items():
        if kind == "evaluation":
            yield _recompute_scores(store, record_id)
        elif kind == "comparison":
            yield _recompute_differences(store, record_id)
        elif kind == "recommendation":
            before = store.read(Recommendation, record_id)
            after = decide(store.read(Comparison, before.comparison), before.comparison, before.needs)
            yield _compare_verdicts(record_id, before, after)
        elif kind == "study":
            study = store.read(Study, record_id)
            verdict = store.read(Recommendation, study.recommendation)
            shared = ["outcome", "pick", "decisive", "summary", "rejected"]
            yield _compare_fields("study", record_id, study, verdict, shared)


def _recompute_scores(store: Store, record_id: str) -> Recomputed:
    """Recompute scores from the uncontaminated items, or from all items for `@all`.

    Scores of a suite's groups are skipped, because the items don't name their group.
    """
    measured = store.read(Evaluation, record_id)
    rows = store.read_rows(store.folder("evaluation", record_id), "items.jsonl", ItemRow)
    differing: list[str] = []
    not_computed: list[str] = []
    count = 0
    for name, score in measured.scores.items():
        metric_name = name.removesuffix("@all")
        if score.value is None:
            continue
        if metric_name not in METRICS and not any(metric_name in row.stats for row in rows):
            not_computed.append(name)
            continue
        part = rows if name.endswith("@all") else [row for row in rows if row.uncontaminated]
        recomputed = total(_prepared(metric_name, rows), part, name=name, signature="")
        count += 1
        if change := _first_change(score, recomputed, measured.method_version == SCORING_VERSION):
            differing.append(f"{name}: {change}")
    return Recomputed(
        kind="evaluation",
        id=record_id,
        numbers=count,
        differing=tuple(differing),
        not_computed=tuple(not_computed),
    )


def _prepared(name: str, rows: Sequence[ItemRow]) -> Metric:
    metric = find_metric(name)
    references = [row.references for row in rows if row.kind == "example"]
    if metric.needs != "answers" or not references:
        return metric
    try:
        return metric.prepared(references)
    except CannotMeasure:
        return metric


def _first_change(before: Score, after: Score, same_method: bool) -> str:
    """Describe the first field in which two scores differ; empty if they don't."""
    for field in ("value", "n", *(("ci_low", "ci_high") if same_method else ())):
        recorded, recomputed = getattr(before, field), getattr(after, field)
        if recorded is None or recomputed is None:
            if recorded is not recomputed:
                return f"{field} {recorded}, recomputed {recomputed}"
        elif not math.isclose(recorded, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            return f"{field} {recorded!r}, recomputed {recomputed!r}"
    return ""


def _recompute_differences(store: Store, record_id: str) -> Recomputed:
    before = store.read(Comparison, record_id)
    measured = {name: store.read(Evaluation, one) for name, one in before.evaluations.items()}
    tables = {name: ItemTable.read(store, one) for name, one in before.evaluations.items()}
    classical_tests = any(difference.other_p for difference in before.differences)
    found = differences(measured, tables, before.seed, classical_tests).differences
    by_votes: dict[str, dict[str, Score]] = {}
    differing = []
    if before.votes:
        votes = store.read_rows(store.folder("comparison", record_id), VOTES_FILE, Vote)
        again = voted(
            store.read(JudgeRound, before.votes), tasks_of(before.votes, store), votes, before.models,
            before.simulated_votes, before.votes_closed,
        )  # fmt: skip
        by_votes = again.scores
        found += again.differences
        same_method = before.method_version == COMPARISON_VERSION
        if same_method and _without_reason(again.judge_validation) != _without_reason(before.judge_validation):
            differing.append("judge validation: differs from the one recomputed from the votes")
    differing += _changed_differences(before, found)
    differing += _changed_copies(store, before)
    for metric, row in before.scores.items():
        for name, score in row.items():
            if metric in by_votes:
                changed = _vote_score_changed(before, score, by_votes[metric].get(name))
            else:
                changed = measured[name].scores.get(metric) != score
            if changed:
                differing.append(f"{metric} of {name}: differs from its evaluation")
    return Recomputed(kind="comparison", id=record_id, numbers=7 * len(before.differences), differing=tuple(differing))


def _vote_score_changed(compared: Comparison, before: Score, after: Score | None) -> bool:
    """Check whether a score of votes differs: in all fields, or only in value and n if another method made it."""
    if compared.method_version == COMPARISON_VERSION or after is None or before.value is None or after.value is None:
        return before != after
    return before.n != after.n or not math.isclose(before.value, after.value, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _without_reason(found: JudgeValidation | None) -> JudgeValidation | None:
    """Drop the reason, whose wording may differ between versions; its numbers are separate fields."""
    return found and found.model_copy(update={"reason": ""})


def _changed_differences(compared: Comparison, found: Sequence[Difference]) -> Iterator[str]:
    """Describe the recorded differences that do not match the recomputed ones."""
    after = {(difference.metric, difference.left, difference.right): difference for difference in found}
    same_method = compared.method_version == COMPARISON_VERSION
    tests = ("ci_low", "ci_high", "p", "p_adjusted", "better") if same_method else ()
    for before in compared.differences:
        now = after.pop((before.metric, before.left, before.right), None)
        if now is None and not same_method:
            continue  # earlier methods compared pairs that aren't claimed to differ, such as two baselines
        for field in ("value", "n", *tests):
            recorded, recomputed = getattr(before, field), getattr(now, field, None)
            equal = (
                math.isclose(recorded, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
                if isinstance(recorded, float) and isinstance(recomputed, float)
                else recorded == recomputed
            )
            if not equal:
                yield f"{before.metric}, {before.left} vs {before.right}: {field} {recorded}, recomputed {recomputed}"
    yield from (f"{' '.join(key)}: not in the record" for key in after)


def _changed_copies(store: Store, compared: Comparison) -> Iterator[str]:
    """Describe the load tests and bias scores in a comparison that don't match their own records."""
    for name, load_test in compared.load_tests.items():
        if store.read(LoadTest, load_test).levels != compared.load_levels.get(name):
            yield f"load test of {name}: differs from {load_test}"
    for name, suite in compared.suites.items():
        if measures_of(store.read(Evaluation, suite)) != compared.suite_scores.get(name):
            yield f"bias test of {name}: differs from {suite}"


def _compare_verdicts(record_id: str, before: Recommendation, after: Recommendation) -> Recomputed:
    """Compare a verdict with the recomputed one, if the same version of the rules made it."""
    if before.method_version == after.method_version:
        return _compare_fields("recommendation", record_id, before, after, list(Recommendation.model_fields))
    rules = f"verdict: made by version {before.method_version} of the rules, not {after.method_version}"
    return Recomputed(kind="recommendation", id=record_id, numbers=0, not_computed=(rules,))


def _compare_fields(kind: str, record_id: str, before: Record, after: Record, names: Sequence[str]) -> Recomputed:
    differing = [
        f"{name}: {getattr(before, name)!r}, recomputed {getattr(after, name)!r}"
        for name in names
        if getattr(before, name) != getattr(after, name)
    ]
    return Recomputed(kind=kind, id=record_id, numbers=len(names), differing=tuple(differing))
