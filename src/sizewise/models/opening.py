"""Open a model by its URI."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from sizewise.errors import SizewiseError, UsageError
from sizewise.lm.placement import IN_4_BITS, requested_device, requested_precision, use_device
from sizewise.models import openvino, size
from sizewise.models.adapter_folders import CONFIG as ADAPTER_CONFIG
from sizewise.models.adapter_folders import base_of_adapter, is_adapter, merged_folder
from sizewise.models.base import Model
from sizewise.models.baselines import KINDS as BASELINES
from sizewise.models.baselines import FrequentModel, LinearModel, NgramModel
from sizewise.models.conversions import converted_folder
from sizewise.models.encoding import EncoderModel, encoder_size
from sizewise.models.fake import NAMES, FakeModel
from sizewise.models.identity import split_recorded
from sizewise.models.keeping import open_kept
from sizewise.models.local import LocalModel
from sizewise.models.openvino import OpenvinoModel
from sizewise.models.packaged_models import PACKAGED, packaged_folder
from sizewise.models.plugins import open_plugin, plugins
from sizewise.models.providers import PROVIDERS
from sizewise.models.recorded import RecordedModel
from sizewise.models.recordings import recording_path
from sizewise.models.remote import RemoteModel
from sizewise.models.resolving import resolve
from sizewise.models.thinking import split_reasoning
from sizewise.packages import fetch_from_hub
from sizewise.records import Checkpoint, Classifier, ModelSize, fingerprint
from sizewise.retrieval import ENCODERS
from sizewise.retrieval.encoder_folder import is_encoder
from sizewise.retrieval.packaged_encoders import packaged_encoder_folder
from sizewise.store import Saved, Store, offline, uri_of

EXPECTED = (
    "pkg:NAME, hf:ORG/NAME, run:ID, gguf:FILE, a Hugging Face or OpenVINO folder, openai:NAME, anthropic:NAME, "
    "google:NAME, deepseek:NAME, mistral:NAME, http://HOST:PORT/v1#NAME, recorded:FILE#NAME, fake:NAME, frequent:DATA, "
    "ngram:DATA, linear:DATA, rag:DATA:MODEL (retrieval over a dataset), or a plug-in's URI"
)
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*"]
GGUF_READER = 2
"""Increase it when files are read differently: they are then converted again."""
Engine = Literal["transformers", "openvino", "auto"]


def open_model(
    uri: str | Path | Saved[Checkpoint] | Saved[Classifier],
    *,
    store: Store | None = None,
    precision: str | None = None,
    engine: Engine = "transformers",
    max_usd: float | None = None,
    keep_prefixes: bool = False,
    device: str = "auto",
    say: Callable[[str], None] = lambda line: None,
) -> Model:
    """Open a model.

    Args:
        uri: `pkg:smollm2-135m`, `hf:org/name`, a folder, `run:ID`, `gguf:FILE`, `fake:echo`, a plug-in's URI, or
            a checkpoint.
        store: store of weights and runs; by default SIZEWISE_HOME.
        precision: `bf16`, `fp16`, `fp32` or `nf4` (4-bit weights, with bitsandbytes), for local models; by default the
            device's native precision.
        engine: engine of local models. `transformers` scores and trains every architecture; `openvino` serves
            concurrent users faster; `auto` uses openvino if it is installed and supports the model.
        max_usd: budget of a remote model while it is open, in US dollars.
        keep_prefixes: keep common beginnings of requests in the cache of openvino, for a service. Measured speeds
            should not include this.
        device: device of local models: `cpu`, `cuda` or `mps`; `auto` takes SIZEWISE_DEVICE, or else the fastest.
        say: called with one line of progress at a time.

    Raises:
        UsageError: the URI doesn't name a model.
        SizewiseError: the model can't be fetched or loaded.
    """
    with use_device(device):
        precision = precision or requested_precision()
        return _open(uri_of(uri), store or Store(), precision, engine, max_usd, keep_prefixes, say)


def _open(
    uri: str,
    store: Store,
    precision: str | None,
    engine: Engine,
    max_usd: float | None,
    keep_prefixes: bool,
    say: Callable[[str], None],
) -> Model:
    bare, _ = split_reasoning(uri)
    kind, _, name = bare.partition(":")
    if kind == "fake" and name:
        return FakeModel(name)
    if kind in BASELINES and name:
        return {"frequent": FrequentModel, "ngram": NgramModel, "linear": LinearModel}[kind](name, store)
    if kind == "run" and name.startswith("classifier-"):
        return _open_classifier(name, store, say)
    if kind == "rag" and ":" in name:
        return _open_rag(uri.partition(":")[2], store, precision, engine, max_usd, say)
    if kind == "recorded" and name:
        path, facts = split_recorded(name)
        return RecordedModel(recording_path(str(path)), facts)
    if kind in PROVIDERS or kind in ("http", "https"):
        return RemoteModel(uri, store.home / "answers" / f"{fingerprint([uri])}.sqlite", max_usd)
    if kind in plugins():
        return open_plugin(kind, name)
    return _open_folder(uri, store, precision, engine, keep_prefixes, say)


def _open_folder(
    uri: str, store: Store, precision: str | None, engine: Engine, keep_prefixes: bool, say: Callable[[str], None]
) -> Model:
    """Open a model stored in a folder with the requested or best engine."""
    bare, _ = split_reasoning(uri)
    folder, origin, license = resolve_folder(bare, store, say)
    if is_encoder(folder):
        return EncoderModel(folder, uri=uri, revision=revision_of(bare), origin=origin, license=license)
    trained = store.read(Checkpoint, bare.partition(":")[2]) if bare.startswith("run:") else None
    revision = revision_of(bare)

    def load(kind: type[OpenvinoModel | LocalModel], model_folder: Path, model_revision: str) -> Model:
        more: dict[str, Any] = {"keep_prefixes": True} if keep_prefixes and kind is OpenvinoModel else {}
        return open_kept(
            (kind, uri, str(model_folder), model_revision, precision, keep_prefixes, requested_device()),
            lambda: kind(
                model_folder,
                uri=uri,
                revision=model_revision,
                origin=origin,
                license=license,
                precision=precision,
                trained_on=trained.data if trained else None,
                start=trained.start if trained else None,
                **more,
            ),
        )

    if (folder / openvino.MODEL_FILE).is_file():
        return load(OpenvinoModel, folder, revision)
    if engine == "openvino" and requested_device() not in ("auto", "cpu"):
        raise UsageError(
            f"openvino-genai runs on the CPU, but the device is {requested_device()}.",
            "--engine transformers, or --device cpu",
            "--engine transformers",
        )
    if engine == "openvino" or (engine == "auto" and precision != IN_4_BITS and _openvino_serves()):
        data = trained.data if trained else None
        try:
            converted = converted_folder(bare, folder, revision, precision=precision, data=data, store=store, say=say)
            return load(OpenvinoModel, converted, f"{revision}+openvino")
        except Exception as error:  # transformers may still run the model
            if engine == "openvino" and isinstance(error, SizewiseError):
                raise
            if engine == "openvino":
                raise SizewiseError(
                    f"openvino-genai can't run {uri}: {_reason(error)}",
                    "a model that openvino-genai supports",
                    "run the same command with --engine transformers",
                ) from error
            say(f"{uri} runs with transformers because openvino-genai can't run it: {_reason(error)}")
    try:
        model = load(LocalModel, folder, revision + _variant(precision))
    except SizewiseError:
        raise
    except Exception as error:  # an untested architecture may fail in any way
        from sizewise.lm.hf_format import load_error

        raise load_error(folder, error) from error
    return _with_notes(model, say)


def _variant(precision: str | None) -> str:
    """Return what distinguishes a model on a graphics card or in 4 bits from itself: other speeds, or other answers."""
    from sizewise.lm.device import choose_device

    device = choose_device()
    return ("" if device == "cpu" else f"+{device}") + (f"+{IN_4_BITS}" if precision == IN_4_BITS else "")


def _with_notes(model: Model, say: Callable[[str], None]) -> Model:
    """Report how a model runs where it can't run like others."""
    for note in model.describe().notes:
        say(note)
    return model


def _reason(error: Exception) -> str:
    message = error.what if isinstance(error, SizewiseError) else str(error)
    return (message.strip() or type(error).__name__).splitlines()[0]


def _open_rag(
    name: str, store: Store, precision: str | None, engine: Engine, max_usd: float | None, say: Callable[[str], None]
) -> Model:
    """Open a model with retrieval over a dataset's documents."""
    from sizewise.models.retrieving import RetrievingModel

    data, _, uri = name.partition(":")
    model = open_model(uri, store=store, precision=precision, engine=engine, max_usd=max_usd, say=say)
    try:
        return RetrievingModel(model, data, store)
    except SizewiseError:
        model.close()
        raise


def _open_classifier(name: str, store: Store, say: Callable[[str], None]) -> Model:
    """Open a classifier, with the encoder or language model that it needs."""
    from sizewise.models.classifier import ClassifierModel

    record, folder = store.read(Classifier, name), store.folder("classifier", name) / "model"
    needs_base = record.recipe.method in ("embedding", "options")
    base = resolve_folder(record.recipe.start, store, say)[0] if needs_base else None
    return ClassifierModel(record, name, folder, base)


def _openvino_serves() -> bool:
    """Check whether openvino-genai is installed, and no device is faster."""
    from sizewise.lm.device import choose_device

    return importlib.util.find_spec("openvino_genai") is not None and choose_device() == "cpu"


def model_size(
    uri: str, *, store: Store | None = None, say: Callable[[str], None] = lambda line: None
) -> tuple[ModelSize, str, str]:
    """Compute a model's size from its config alone. For a model on the Hub, only the config is fetched.

    Returns:
        The size, the origin of the weights, and their license.

    Raises:
        UsageError: the URI doesn't name a model with a config.
        SizewiseError: the config can't be fetched or interpreted, or doesn't match the weights next to it.
    """
    uri, _ = split_reasoning(uri)
    kind, _, name = uri.partition(":")
    free = size.available_bytes()
    if kind == "hf":
        folder = fetch_from_hub(name, ["config.json", ADAPTER_CONFIG], offline())
        if not is_adapter(folder):
            return size.size_of(size.read_config(folder), uri, None, free), *_hub_facts(name)
    folder, origin, license = resolve_folder(uri, store or Store(), say)
    if is_encoder(folder):
        return encoder_size(folder, uri, free), origin, license
    return size.size_of(size.read_config(folder), uri, size.stored_parameters(folder), free), origin, license


def revision_of(uri: str) -> str:
    """Return what distinguishes two states of a model under one URI; "" for models that never change under theirs.

    A model on the Hub has its commit; a user's folder or file a fingerprint of names, sizes and times, with subfolders.
    """
    kind, _, name = uri.partition(":")
    if kind == "hf":
        return _hub_commit(name)
    path = Path(uri).expanduser()
    if ":" in uri or not path.is_dir():
        return former_revision(uri)
    below = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
    nested = sorted(file for file in below if len(file.parts) > 1 and not file.parts[0].startswith("."))
    return _file_states(path, [*_files_in(path), *map(Path.as_posix, nested)])


def former_revision(uri: str) -> str:
    """Return the revision by which earlier versions knew a model: without subfolders, and without a commit."""
    kind, _, name = uri.partition(":")
    path = Path(name if kind == "gguf" else uri).expanduser()
    if kind == "gguf" and path.is_file():
        return _file_states(path.parent, [path.name])
    return _file_states(path, _files_in(path)) if ":" not in uri and path.is_dir() else ""


def _files_in(folder: Path) -> list[str]:
    return [file.name for file in sorted(folder.iterdir()) if file.is_file()]


def _file_states(folder: Path, names: list[str]) -> str:
    states = [(name, (folder / name).stat()) for name in names]
    return fingerprint([[name, state.st_size, state.st_mtime_ns] for name, state in states])


def _hub_commit(name: str) -> str:
    """Return the commit of a model on the Hub as it would be opened now; "" if it can't be found out."""
    try:
        folder = fetch_from_hub(name, ["config.json"], offline())
    except SizewiseError:
        return ""
    return folder.name if folder.parent.name == "snapshots" else ""


def resolve_folder(uri: str, store: Store, say: Callable[[str], None] = lambda line: None) -> tuple[Path, str, str]:
    """Return folder, origin and license of a model stored in a folder; fetch or convert it if necessary.

    Raises:
        UsageError: the URI doesn't name a model stored in a folder.
        SizewiseError: the model can't be fetched.
    """
    kind, _, name = uri.partition(":")
    if kind == "pkg" and name in ENCODERS:
        return packaged_encoder_folder(name, store, say), ENCODERS[name].origin, ENCODERS[name].license
    if kind == "pkg":
        folder = packaged_folder(name, store, say)
        return folder, PACKAGED[name].origin, PACKAGED[name].license
    if kind == "run":
        checkpoint = store.read(Checkpoint, name)
        return store.folder("checkpoint", name) / "model", checkpoint.origin, checkpoint.license
    if kind == "hf":
        folder = fetch_from_hub(name, HUB_FILES, offline())
        return _with_base(folder, uri, store, say) or (folder, *_hub_facts(name))
    if kind == "gguf" and name:
        return _from_gguf(Path(name).expanduser(), store, say), f"{Path(name).name}, dequantized", "not stated"
    path = Path(uri).expanduser()
    if path.is_dir():
        return _with_base(path, uri, store, say) or (path, f"folder {path.name}", "not stated")
    if name and kind in ("fake", "recorded", "http", "https", *BASELINES, *PROVIDERS, *plugins()):
        raise UsageError(
            f"{uri} has no local weights.", "pkg:NAME, hf:ORG/NAME, run:ID, gguf:FILE or a folder", "sizewise models"
        )
    raise _unknown(uri)


def _with_base(folder: Path, uri: str, store: Store, say: Callable[[str], None]) -> tuple[Path, str, str] | None:
    """Merge a folder that holds adapters only into their base; return None for any other folder."""
    if not is_adapter(folder):
        return None
    base, origin, license = resolve_folder(base_of_adapter(folder), store, say)
    return merged_folder(folder, revision_of(uri), base, store, say), f"{origin}; with adapters of {uri}", license


def _from_gguf(path: Path, store: Store, say: Callable[[str], None]) -> Path:
    """Convert a GGUF file to a folder; convert it again only if the file changes."""
    from sizewise.lm.gguf import convert_gguf

    if not path.is_file():
        raise UsageError(f"The file {path} does not exist.", "gguf:FILE, one GGUF file", "sizewise models")
    converted = store.weights_folder(f"gguf-{fingerprint([path.name, revision_of(f'gguf:{path}'), GGUF_READER])}")
    converted.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(converted.parent / f".{converted.name}.lock"):
        if not (converted / "config.json").is_file():
            say(f"Dequantizing {path.name} into {converted}")
            convert_gguf(path, converted)
    return converted


def _unknown(uri: str) -> UsageError:
    meant = resolve(uri)
    found = [model.uri for model in ((meant.model,) if meant.model is not None else meant.members[:3])]
    if found:
        names = " or ".join(found)
        return UsageError(f"'{uri}' is a name, not a URI. Did you mean {names}?", EXPECTED, f"sizewise models '{uri}'")
    known = [f"pkg:{name}" for name in (*PACKAGED, *ENCODERS)] + [f"fake:{name}" for name in NAMES]
    near = get_close_matches(uri, known, n=1, cutoff=0.4)
    hint = f". Did you mean {near[0]}?" if near else "."
    return UsageError(f"'{uri}' doesn't name a model{hint}", EXPECTED, "sizewise models")


def _hub_facts(name: str) -> tuple[str, str]:
    return f"Hugging Face Hub, {name}", "as stated on the model's page"
