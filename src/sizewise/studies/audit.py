"""audit(): pack the evidence for a result, and recompute its numbers without opening a model."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sizewise.comparison.voting import VOTES_FILE
from sizewise.judging.ballot import MORE_TASKS_FILE, TASKS_FILE
from sizewise.records import (
    Audit,
    Checkpoint,
    Comparison,
    Dataset,
    Evaluation,
    History,
    Recommendation,
    Reproduction,
    Study,
    Vote,
    WatchPass,
)
from sizewise.store import Store, sha256_of
from sizewise.studies.packs import unpack, write_pack
from sizewise.studies.recomputing import recompute

EVALUATION_FILES, DATASET_FILES = ("items.jsonl",), ("leaks.jsonl",)


def audit(root: str | Path, *, store: Store | None = None, out: Path | None = None, verify: bool = False) -> Audit:
    """List the records and files behind a result, and optionally pack them and recompute its numbers.

    Args:
        root: id of a study, recommendation, comparison, evaluation or dataset; or the path of a pack.
        store: where records live; by default SIZEWISE_HOME.
        out: zip file to write. Document texts and weights are not packed; the records contain their hashes.
        verify: recompute the items' statistics from their answers and references, scores and differences from the
            statistics, and the recommendation from both.

    Raises:
        SizewiseError: the record or one that it depends on is missing, or the pack is damaged or hostile.
    """
    path = Path(root)
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            listed = unpack(path, Path(folder))
            return _audited(Store(folder), listed.root, None, verify, listed.files)
    return _audited(store or Store(), str(root), out, verify, None)


def _audited(store: Store, root: str, out: Path | None, verify: bool, listed: dict[str, str] | None) -> Audit:
    records = dict(_dependencies(store, root, store.kind_of(root)))
    paths = [path for record_id, kind in records.items() for path in _files(store, kind, record_id)]
    files = {path.relative_to(store.home).as_posix(): sha256_of(path) for path in paths}
    changed = () if listed is None else tuple(_changed(files, listed))
    recomputed = tuple(recompute(store, records)) if verify else ()
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
        write_pack(store, root, files, paths, out)
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
            *((name, "comparison") for name in study.suite_comparisons.values()),
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
    return [(name, "evaluation") for name in _repeated(store, record_id, kind)]


def _repeated(store: Store, record_id: str, kind: str) -> list[str]:
    """List the evaluations that a history, a reproduction or a pass over a watched model is about."""
    if kind == "history":
        return [entry.evaluation for entry in store.read(History, record_id).entries]
    if kind == "reproduction":
        return [store.read(Reproduction, record_id).evaluation]
    if kind == "watch":
        watched = store.read(WatchPass, record_id)
        names = (watched.baseline, watched.reference, watched.canary, watched.evaluation)
        return [name for name in dict.fromkeys(names) if name is not None]
    return []


def _files(store: Store, kind: str, record_id: str) -> list[Path]:
    store.exists(kind, record_id)  # a record of another machine is fetched
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


def _changed(files: dict[str, str], listed: dict[str, str]) -> Iterator[str]:
    for name in sorted(files.keys() | listed.keys()):
        if files.get(name) != listed.get(name):
            yield name
