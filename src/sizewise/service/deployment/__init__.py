"""Files that run a study's pick elsewhere: with Compose, Kubernetes, Helm, KubeRay or SkyPilot. They hold no secret."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.models.providers import PROVIDERS
from sizewise.records import Evaluation, ModelDescription, Study
from sizewise.report import STUDY_FILE
from sizewise.service.measured import resolve_studies
from sizewise.store import Store, make_folder, write_atomically

Target = Literal["compose", "kubernetes", "helm", "kuberay", "skypilot"]
TARGETS: tuple[Target, ...] = ("compose", "kubernetes", "helm", "kuberay", "skypilot")
FOLDER = Path(__file__).parent / "files"
FILES: Mapping[str, Mapping[str, str]] = {
    "compose": {
        "compose.yaml": "compose.yaml",
        "service.toml": "service.toml",
        ".env.example": "env.example",
        "prometheus.yaml": "prometheus.yaml",
        "grafana/datasource.yaml": "grafana/datasource.yaml",
        "grafana/dashboards.yaml": "grafana/dashboards.yaml",
        "grafana/dashboard.json": "grafana/dashboard.json",
        "README.md": "compose.md",
    },
    "kubernetes": {
        "kubernetes.yaml": "kubernetes.yaml",
        "grafana/dashboard.json": "grafana/dashboard.json",
        "README.md": "kubernetes.md",
    },
    "helm": {
        "Chart.yaml": "helm/Chart.yaml",
        "values.yaml": "helm/values.yaml",
        "templates/sizewise.yaml": "helm/templates/sizewise.yaml",
        "grafana/dashboard.json": "grafana/dashboard.json",
        "README.md": "helm.md",
    },
    "kuberay": {
        "rayjob.yaml": "kuberay-job.yaml",
        "rayservice.yaml": "kuberay-service.yaml",
        "README.md": "kuberay.md",
    },
    "skypilot": {"skypilot.yaml": "skypilot.yaml", "service.toml": "service.toml", "README.md": "skypilot.md"},
}
"""Files of each target, and the templates that they are made from."""
RAY_SERVICE = "rayservice.yaml"
BASE_MEMORY_GB = 3
MEMORY_FACTOR = 1.5
"""Memory of a served model with its cache, as a multiple of its weights."""
_IMAGE = re.compile(r"[a-zA-Z0-9][\w.:/@-]{0,254}", re.ASCII)
LARGE_BYTES = 8_000_000_000
"""Weights from which an own model gets a GPU on SkyPilot."""


class Deployment(NamedTuple):
    """What was written."""

    uri: str
    """URI of the model that the study picked."""
    paths: tuple[Path, ...]


def deploy(study: str, to: Target, out: Path, *, image: str = "", store: Store | None = None) -> Deployment:
    """Write the files that run the model a study picked, as the study measured it.

    Args:
        study: id of the study.
        to: where it will run.
        out: new folder to write to.
        image: name of the container image; empty: `sizewise:VERSION`.
        store: where records are stored.

    Raises:
        UsageError: the study picked no single model, its model can't run elsewhere, or the image's name is invalid.
        SizewiseError: the folder isn't empty.
        MissingExtraError: jinja2 isn't installed.
    """
    store = store or Store()
    if not store.exists("study", study):
        raise UsageError(f"There is no study '{study}'.", "the id of a finished study", "sizewise deploy --help")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SizewiseError(f"{out} already exists and isn't empty.", "a new or empty folder", "--out OTHER_FOLDER")
    if image and not _IMAGE.fullmatch(image):
        raise UsageError(f"'{image[:100]}' is no name of an image.", "letters, digits and ._-/:@", "--image sizewise:1")
    values = _values(study, image, store)
    if to == "kuberay":
        values["study_file"] = _study_file(study, store)
    written = []
    for name, template in FILES[to].items():
        if name == RAY_SERVICE and not values["weights_path"]:  # vLLM can't serve this pick
            continue
        path = out / name
        make_folder(path.parent)
        text = (FOLDER / template).read_text(encoding="utf-8")
        as_it_is = name.endswith(".json") or name.startswith("templates/")  # Helm fills in its own templates
        write_atomically(path, text if as_it_is else _rendered(text, values))
        written.append(path)
    return Deployment(str(values["uri"]), tuple(written))


def _values(study_id: str, image: str, store: Store) -> dict[str, Any]:
    """Return what the templates need to know about a study's pick."""
    from sizewise import __version__
    from sizewise.service.running import name_of

    study = store.read(Study, study_id)
    (uri,), evaluations = resolve_studies([study_id], store)
    kind = uri.partition(":")[0]
    is_server = kind in ("http", "https")
    if kind not in ("run", "pkg", "hf", "rag", "fake", *PROVIDERS) and not is_server:
        raise UsageError(
            f"The study '{study.name}' picked {uri}, a file of this machine.",
            "a trained run, a packaged model, a model of the Hub or one behind an API",
            "sizewise serve STUDY",
        )
    if not uri.isprintable():  # a line break would begin another line of a file
        raise UsageError(
            f"The study '{study.name}' picked {ascii(uri)[:200]}.",
            "the URI of a model, without line breaks and invisible characters",
            "correct the study file, and run the study again",
        )
    described = store.read(Evaluation, evaluations[0]).model if evaluations else None
    weights = (described.memory_bytes if isinstance(described, ModelDescription) else None) or 0
    provider = PROVIDERS.get(kind)
    weights_path, revision = "", ""
    if kind == "hf":
        weights_path, _, revision = uri.removeprefix("hf:").partition("@")
    elif kind == "run" and not name_of(uri).startswith("classifier-"):  # vLLM serves no classifiers
        weights_path = f"/data/checkpoint/{name_of(uri)}/model"
    values: dict[str, Any] = {
        "version": __version__,
        "weights_path": weights_path,
        "revision": revision,
        "study": study_id,
        "name": name_of(uri),
        "uri": uri,
        "evaluation": evaluations[0] if evaluations else "",
        "is_server": is_server,
        "workers": 2 if is_server or provider else 1,
        "variables": [provider.key] if provider else ["SIZEWISE_API_KEY"] if is_server else [],
        "image": image or f"sizewise:{__version__}",
        "memory_gb": BASE_MEMORY_GB + math.ceil(MEMORY_FACTOR * weights / 1e9),
        "storage_gb": 10 + math.ceil(4 * weights / 1e9),
        "cpus": 2 if is_server or provider else 4,
        "gpu": "L4:1" if weights >= LARGE_BYTES else "",
    }
    return values | {"service": _rendered((FOLDER / "service.toml").read_text(encoding="utf-8"), values)}


def _study_file(study_id: str, store: Store) -> str:
    """Read the file that a study was run from.

    Raises:
        SizewiseError: it isn't beside the record.
    """
    path = store.folder("study", study_id) / STUDY_FILE
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SizewiseError(
            f"{path} can't be read.",
            "the file that the study was run from",
            "run the study again; it keeps its answers",
        ) from error


def _block(text: str, indent: int) -> str:
    """Write a text as a value of YAML: a block, or where a character would end a line of it, in quotes."""
    if all(letter.isprintable() or letter in "\n\t" for letter in text):
        return "|2\n" + "\n".join(" " * indent + line if line.strip() else "" for line in text.split("\n"))
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in quoted)


def _rendered(text: str, values: Mapping[str, Any]) -> str:
    """Fill in a template; a value that it doesn't know is an error, not an empty text."""
    try:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import SandboxedEnvironment
    except ImportError as error:
        raise MissingExtraError("jinja2", "serve") from error
    environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["block"] = _block
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return environment.from_string(text).render(values)
