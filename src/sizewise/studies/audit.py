"""audit(): pack all that a result rests on, and compute its numbers again without opening a model."""

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
from sizewise.comparison.comparing import WAY
from sizewise.comparison.voting import VOTES_FILE, voted
from sizewise.errors import SizewiseError
from sizewise.judging import tasks_of
from sizewise.judging.ballot import MORE_TASKS_FILE, TASKS_FILE
from sizewise.metrics import METRICS, CannotMeasure, Metric, find_metric, total
from sizewise.records import (
    Audit,
    Checkpoint,
    Comparison,
    Dataset,
    Evaluation,
    ItemRow,
    JudgeRound,
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
MOST_UNPACKED = 4 * 2**30
CLOSE = 1e-9
README = """What this archive is
====================

Everything that {root} rests on: each record as it was written, the measured items, and the SHA-256 of each file in
manifest.json. To check the hashes and compute every number again, without any model and without network:

    pip install 'sizewise[study]'
    sizewise audit {name} --verify
"""


def audit(root: str | Path, *, store: Store | None = None, out: Path | None = None, verify: bool = False) -> Audit:
    """Gather what a result rests on, pack it if asked for, and compute its numbers again if asked for.

    Args:
        root: id of a study, recommendation, comparison, evaluation or dataset; or a pack that was made before.
        store: where records live; by default SIZEWISE_HOME.
        out: a zip file to write; texts of documents and weights are not packed, their hashes stand in the records.
        verify: compute scores from the items, differences from the scores' items, and the verdict from both.

    Raises:
        SizewiseError: there is no such record, one that it rests on is missing, or the pack is damaged.
    """
    path = Path(root)
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            listed = _unpack(path, Path(folder))
            return _audited(Store(folder), str(listed["root"]), None, verify, listed["files"])
    return _audited(store or Store(), str(root), out, verify, None)


def _audited(store: Store, root: str, out: Path | None, verify: bool, listed: dict[str, str] | None) -> Audit:
    records = dict(_closure(store, root, store.kind_of(root)))
    paths = [path for record_id, kind in records.items() for path in _files(store, kind, record_id)]
    files = {path.relative_to(store.home).as_posix(): sha256_of(path) for path in paths}
    changed = () if listed is None else tuple(_changed(files, listed))
    again = tuple(_recomputed(store, records)) if verify else ()
    licenses, versions = _facts(store, records)
    found = Audit(
        root=root,
        records=records,
        files=files,
        licenses=licenses,
        versions=versions,
        people=dict(_people(store, records)),
        changed=changed,
        recomputed=again,
        sound=not changed and not any(one.differing for one in again),
        pack=None if out is None else str(out),
    )
    if out is not None:
        _pack(store, found, paths, out)
    return found


# -- what it rests on -----------------------------------------------------------------------------------


def _closure(store: Store, record_id: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield (id, kind) of a record and of all that it names, each once."""
    todo, seen = [(record_id, kind)], set()
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        todo += _named(store, *one)


def _named(store: Store, record_id: str, kind: str) -> list[tuple[str, str]]:
    if kind == "study":
        study = store.read(Study, record_id)
        return [
            (study.dataset, "dataset"),
            (study.comparison, "comparison"),
            (study.recommendation, "recommendation"),
            *((one, "evaluation") for one in (*study.evaluations.values(), *study.bias.values())),
            *([(study.language_nuance, "comparison")] if study.language_nuance else []),
            *((one, "checkpoint") for one in study.checkpoints.values()),
        ]
    if kind == "recommendation":
        return [(store.read(Recommendation, record_id).comparison, "comparison")]
    if kind == "comparison":
        compared = store.read(Comparison, record_id)
        data = [] if compared.data.startswith("suite:") else [(compared.data, "dataset")]
        votes = [(compared.votes, "round")] if compared.votes else []
        load_tests = [(one, "loadtest") for one in compared.load_tests.values()]
        load_tests += [(one, "evaluation") for one in compared.suites.values()]
        return [*data, *votes, *load_tests, *((one, "evaluation") for one in compared.evaluations.values())]
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
    beside = {
        "evaluation": EVALUATION_FILES,
        "dataset": DATASET_FILES,
        "round": (TASKS_FILE, MORE_TASKS_FILE),
        "comparison": (VOTES_FILE,),
        "study": ("report.html",),
    }.get(kind, ())
    return [store.record_path(kind, record_id), *(folder / name for name in beside if (folder / name).is_file())]


def _facts(store: Store, records: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    licenses: dict[str, str] = {}
    versions: dict[str, set[str]] = {}
    for record_id, kind in records.items():
        if kind == "evaluation":
            measured = store.read(Evaluation, record_id)
            licenses[measured.model.uri] = measured.model.license
            for package, version in measured.versions.items():
                versions.setdefault(package, set()).add(version)
        elif kind == "dataset":
            licenses |= {f"text: {name}": f"{count} documents" for name, count in _licences(store, record_id).items()}
    return licenses, {package: ", ".join(sorted(found)) for package, found in sorted(versions.items())}


def _people(store: Store, records: dict[str, str]) -> Counter[str]:
    """Count the votes that entered, by the origin of their raters."""
    counts: Counter[str] = Counter()
    for record_id, kind in records.items():
        votes = store.read(Comparison, record_id).votes if kind == "comparison" else None
        if votes:
            rows = store.read_rows(store.folder("comparison", record_id), VOTES_FILE, Vote)
            counts.update(row.origin for row in rows if row.choice != "skip")
    return counts


def _licences(store: Store, dataset: str) -> dict[str, int]:
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
            f"{out} cannot be written: {error}.", "a place with room", "sizewise audit ID --out FILE"
        ) from error


def _unpack(path: Path, folder: Path) -> dict[str, Any]:
    """Unpack what the manifest lists, nothing else, with a bound on its size."""
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
                if size > MOST_UNPACKED:
                    raise ValueError("more than 4 GB of records")
                target = folder / name
                make_folder(target.parent)
                target.write_bytes(archive.read(name))
            return manifest
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SizewiseError(
            f"{path} is no pack that can be read: {error}.",
            "a file that `sizewise audit ID --out FILE` wrote",
            "sizewise runs",
        ) from error


def _changed(files: dict[str, str], listed: dict[str, str]) -> Iterator[str]:
    for name in sorted(files.keys() | listed.keys()):
        if files.get(name) != listed.get(name):
            yield name


# -- computing again ------------------------------------------------------------------------------------


def _recomputed(store: Store, records: dict[str, str]) -> Iterator[Recomputed]:
    for record_id, kind in records.items():
        if kind == "evaluation":
            yield _scores_again(store, record_id)
        elif kind == "comparison":
            yield _differences_again(store, record_id)
        elif kind == "recommendation":
            before = store.read(Recommendation, record_id)
            after = decide(store.read(Comparison, before.comparison), before.comparison, before.needs)
            yield _verdict_again(record_id, before, after)
        elif kind == "study":
            study = store.read(Study, record_id)
            verdict = store.read(Recommendation, study.recommendation)
            shared = ["outcome", "pick", "decisive", "summary", "rejected"]
            yield _same("study", record_id, study, verdict, shared)


def _scores_again(store: Store, record_id: str) -> Recomputed:
    """Add the items up again: on clean items, on all (`@all`); groups of a suite are not told apart in the items."""
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
        again = total(_prepared(metric_name, rows), part, name=name, signature="", seed=measured.seed)
        count += 1
        if said := _apart(score, again):
            differing.append(f"{name}: {said}")
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


def _apart(before: Score, after: Score) -> str:
    """Say where two scores differ."""
    for what in ("value", "ci_low", "ci_high", "n"):
        left, right = getattr(before, what), getattr(after, what)
        if left is None or right is None:
            if left is not right:
                return f"{what} {left} is {right}"
        elif not math.isclose(left, right, rel_tol=CLOSE, abs_tol=CLOSE):
            return f"{what} {left!r} is {right!r}"
    return ""


def _differences_again(store: Store, record_id: str) -> Recomputed:
    before = store.read(Comparison, record_id)
    measured = {name: store.read(Evaluation, one) for name, one in before.evaluations.items()}
    rows = {
        name: store.read_rows(store.folder("evaluation", one), "items.jsonl", ItemRow)
        for name, one in before.evaluations.items()
    }
    found = differences(measured, rows, before.rounds, before.seed)[0]
    by_votes: dict[str, dict[str, Score]] = {}
    differing = []
    if before.votes:
        votes = store.read_rows(store.folder("comparison", record_id), VOTES_FILE, Vote)
        again = voted(
            store.read(JudgeRound, before.votes), tasks_of(before.votes, store), votes, before.seed,
            before.simulated_votes, before.votes_closed,
        )  # fmt: skip
        by_votes = again.scores
        found += again.differences
        if again.judge_validation != before.judge_validation:
            differing.append("the licence of the judge model is another")
    after = {(one.metric, one.left, one.right): one for one in found}
    for one in before.differences:
        now = after.pop((one.metric, one.left, one.right), None)
        for what in (
            "value",
            "ci_low",
            "ci_high",
            "n",
            *(("p", "p_holm", "better") if before.method_version == WAY else ()),
        ):
            left, right = getattr(one, what), getattr(now, what, None)
            near = (
                math.isclose(left, right, rel_tol=CLOSE, abs_tol=CLOSE)
                if isinstance(left, float) and isinstance(right, float)
                else left == right
            )
            if not near:
                differing.append(f"{one.metric}, {one.left} against {one.right}: {what} {left} is {right}")
    differing += [f"{' '.join(key)}: not in the record" for key in after]
    differing += _beside_again(store, before)
    for metric, row in before.scores.items():
        for name, score in row.items():
            if (by_votes[metric].get(name) if metric in by_votes else measured[name].scores.get(metric)) != score:
                differing.append(f"{metric} of {name}: not as in its evaluation")
    return Recomputed(kind="comparison", id=record_id, numbers=7 * len(before.differences), differing=tuple(differing))


def _beside_again(store: Store, compared: Comparison) -> Iterator[str]:
    """Say what stands beside the scores and is not as in its own record: many users, and bias."""
    for name, load in compared.load_tests.items():
        if store.read(LoadTest, load).levels != compared.load_levels.get(name):
            yield f"many users of {name}: not as in {load}"
    for name, suite in compared.suites.items():
        if measures_of(store.read(Evaluation, suite)) != compared.suite_scores.get(name):
            yield f"bias of {name}: not as in {suite}"


def _verdict_again(record_id: str, before: Recommendation, after: Recommendation) -> Recomputed:
    """Compare a verdict with today's: whole, or what it decides where another version worded it."""
    names = list(Recommendation.model_fields)
    if before.method_version != after.method_version:
        names = ["outcome", "pick", "decisive", "quality", "break_even", "probability_best"]
        if before.rejected.keys() != after.rejected.keys():
            names.append("rejected")
    return _same("recommendation", record_id, before, after, names)


def _same(kind: str, record_id: str, before: Record, after: Record, names: Sequence[str]) -> Recomputed:
    differing = [
        f"{name}: {getattr(before, name)!r} is {getattr(after, name)!r}"
        for name in names
        if getattr(before, name) != getattr(after, name)
    ]
    return Recomputed(kind=kind, id=record_id, numbers=len(names), differing=tuple(differing))
