"""Open a model by its URI."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock

from sizewise.errors import SizewiseError, UsageError
from sizewise.lm.placement import IN_4_BITS, requested_device, requested_precision, use_device
from sizewise.lm.weight_files import ADAPTER_CONFIG
from sizewise.models import llamacpp, openvino, size
from sizewise.models.adapter_folders import base_of_adapter, is_adapter, merged_folder
from sizewise.models.base import Model
from sizewise.models.baselines import KINDS as BASELINES
from sizewise.models.baselines import FrequentModel, LinearModel, NgramModel
from sizewise.models.conversions import (
    GGUF_FILE,
    LLAMACPP,
    LLAMACPP_SUFFIX,
    OPENVINO,
    OPENVINO_SUFFIX,
    ConversionRefused,
    Target,
    converted_folder,
)
from sizewise.models.encoding import EncoderModel, encoder_size
from sizewise.models.fake import NAMES, FakeModel
from sizewise.models.identity import split_recorded
from sizewise.models.keeping import open_kept
from sizewise.models.llamacpp import LlamaCppModel
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
from sizewise.records import Checkpoint, Classifier, ModelDescription, ModelSize, fingerprint
from sizewise.retrieval import ENCODERS
from sizewise.retrieval.encoder_folder import is_encoder
from sizewise.retrieval.packaged_encoders import packaged_encoder_folder
from sizewise.store import Saved, Store, check_seal, offline, uri_of

EXPECTED = (
    "pkg:NAME, hf:ORG/NAME, run:ID, gguf:FILE, a Hugging Face or OpenVINO folder, openai:NAME, anthropic:NAME, "
    "google:NAME, deepseek:NAME, mistral:NAME, http://HOST:PORT/v1#NAME, recorded:FILE#NAME, fake:NAME, frequent:DATA, "
    "ngram:DATA, linear:DATA, rag:DATA:MODEL (retrieval over a dataset), or a plug-in's URI"
)
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*"]
GGUF_READER = 2
"""Increase it when files are read differently: they are then converted again."""
OF_BASE = "-"
"""Stands between the revision of adapters and that of their base."""
Engine = Literal["transformers", "openvino", "llamacpp", "auto"]


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
            concurrent users faster; `llamacpp` runs GGUF files as they are quantized and scores no text; `auto` uses
            llama.cpp for a GGUF file and openvino for others, if they are installed and support the model.
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


_Kind = LocalModel | OpenvinoModel | LlamaCppModel


class _Source(NamedTuple):
    """A model in a Hugging Face folder."""

    uri: str
    folder: Path
    revision: str
    origin: str
    license: str
    trained: Checkpoint | None
    keep_prefixes: bool

    def load(self, kind: type[_Kind], path: Path, state: str, **more: Any) -> Model:
        """Load the model, or take one that is still loaded."""
        if kind is not LocalModel:
            more["keep_prefixes"] = self.keep_prefixes
        return open_kept(
            (kind, self.uri, str(path), state, more.get("precision"), self.keep_prefixes, requested_device()),
            lambda: kind(
                path,
                uri=self.uri,
                revision=state,
                origin=self.origin,
                license=self.license,
                trained_on=self.trained.data if self.trained else None,
                start=self.trained.start if self.trained else None,
                **more,
            ),
        )

    def convert(self, target: Target, precision: str | None, store: Store, say: Callable[[str], None]) -> Model:
        """Convert the model for another engine, and load it there."""
        bare, data = split_reasoning(self.uri)[0], self.trained.data if self.trained else None
        made = converted_folder(
            target, bare, self.folder, self.revision, precision=precision, data=data, store=store, say=say
        )
        if target is LLAMACPP:
            return self.load(LlamaCppModel, made / GGUF_FILE, self.revision + LLAMACPP_SUFFIX, folder=self.folder)
        return self.load(OpenvinoModel, made, self.revision + OPENVINO_SUFFIX, precision=precision)


def _open_folder(
    uri: str, store: Store, precision: str | None, engine: Engine, keep_prefixes: bool, say: Callable[[str], None]
) -> Model:
    """Open a model stored in a folder with the requested or best engine."""
    bare, _ = split_reasoning(uri)
    file = Path(bare.removeprefix("gguf:")).expanduser()
    if bare.startswith("gguf:") and file.is_file() and _runs_gguf(engine, precision):
        try:
            return _open_gguf(uri, file, keep_prefixes)
        except Exception as error:  # transformers may still read the file
            _raise_or_say(error, "llama.cpp", uri, engine, say)
    folder, origin, license = resolve_folder(bare, store, say)
    if is_encoder(folder):
        return EncoderModel(folder, uri=uri, revision=revision_of(bare), origin=origin, license=license)
    trained = store.read(Checkpoint, bare.partition(":")[2]) if bare.startswith("run:") else None
    revision = revision_of(bare)

    source = _Source(uri, folder, revision, origin, license, trained, keep_prefixes)
    if (folder / openvino.MODEL_FILE).is_file():
        return source.load(OpenvinoModel, folder, revision, precision=precision)
    chosen = _target_for(engine, precision)
    if chosen is not None:
        try:
            return source.convert(chosen, precision, store, say)
        except Exception as error:  # transformers may still run the model
            _raise_or_say(error, chosen.engine, uri, engine, say)
    try:
        model = source.load(LocalModel, folder, revision + _variant(precision), precision=precision)
    except SizewiseError:
        raise
    except Exception as error:  # an untested architecture may fail in any way
        from sizewise.lm.hf_format import load_error

        raise load_error(folder, error) from error
    return _with_notes(model, say)


def _open_gguf(uri: str, file: Path, keep_prefixes: bool) -> Model:
    """Open a GGUF file with llama.cpp, with its weights as they are quantized."""
    state = revision_of(f"gguf:{file}") + LLAMACPP_SUFFIX
    return open_kept(
        (LlamaCppModel, uri, str(file), state, keep_prefixes),
        lambda: LlamaCppModel(
            file, uri=uri, revision=state, origin=file.name, license="not stated", keep_prefixes=keep_prefixes
        ),
    )


def engine_of(description: ModelDescription) -> Engine:
    """Return the engine that runs a described model."""
    known: dict[str, Engine] = {"openvino": "openvino", "llama.cpp": "llamacpp"}
    return next((engine for name, engine in known.items() if description.engine.startswith(name)), "transformers")


def _runs_gguf(engine: Engine, precision: str | None) -> bool:
    """Check whether llama.cpp runs GGUF files; a requested precision needs transformers."""
    if engine == "llamacpp":
        _check_on_cpu("llama.cpp")
        return True
    return engine == "auto" and precision is None and llamacpp.is_installed() and requested_device() in ("auto", "cpu")


def _target_for(engine: Engine, precision: str | None) -> Target | None:
    """Choose the engine that a model is converted for; None for transformers.

    Raises:
        UsageError: the requested engine doesn't run on the requested device.
    """
    if engine in ("openvino", "llamacpp"):
        target = OPENVINO if engine == "openvino" else LLAMACPP
        _check_on_cpu(target.engine)
        return target
    return OPENVINO if engine == "auto" and precision != IN_4_BITS and _openvino_serves() else None


def _check_on_cpu(engine: str) -> None:
    if requested_device() not in ("auto", "cpu"):
        raise UsageError(
            f"{engine} runs on the CPU, but the device is {requested_device()}.",
            "--engine transformers, or --device cpu",
            "--engine transformers",
        )


def _raise_or_say(error: Exception, name: str, uri: str, engine: Engine, say: Callable[[str], None]) -> None:
    """Report why an engine that was chosen automatically can't run a model; raise it if the engine was requested."""
    if engine == "auto":
        again = f" ({error.again})" if isinstance(error, ConversionRefused) else ""
        say(f"{uri} runs with transformers because {name} can't run it: {_reason(error)}{again}")
        return
    if isinstance(error, SizewiseError):
        raise error
    raise SizewiseError(
        f"{name} can't run {uri}: {_reason(error)}",
        f"a model that {name} supports",
        "run the same command with --engine transformers",
    ) from error


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
    check_seal(folder)
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
    if kind == "gguf" and Path(name).expanduser().is_file():
        return _gguf_size(uri, Path(name).expanduser(), free)
    folder, origin, license = resolve_folder(uri, store or Store(), say)
    if is_encoder(folder):
        return encoder_size(folder, uri, free), origin, license
    return size.size_of(size.read_config(folder), uri, size.stored_parameters(folder), free), origin, license


def _gguf_size(uri: str, path: Path, free: int | None) -> tuple[ModelSize, str, str]:
    """Compute the size of a model in a GGUF file without unpacking it."""
    from sizewise.lm import gguf

    config, _ = gguf.read_gguf_settings(path)
    return size.size_of(config.to_dict(), uri, None, free), f"{path.name} ({gguf.file_precision(path)})", "not stated"


def revision_of(uri: str) -> str:
    """Return what distinguishes two states of a model under one URI; "" for models that never change under theirs.

    A model on the Hub has its commit; a user's folder or file a fingerprint of names, sizes and times, with subfolders.
    Adapters have their own revision and that of their base: on other weights, they are another model.
    """
    kind, _, name = uri.partition(":")
    if kind == "hf":
        return _hub_revision(name)
    path = Path(uri).expanduser()
    if ":" in uri or not path.is_dir():
        return former_revision(uri)
    below = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
    nested = sorted(file for file in below if len(file.parts) > 1 and not file.parts[0].startswith("."))
    return _with_base_revision(_file_states(path, [*_files_in(path), *map(Path.as_posix, nested)]), path)


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


def _hub_revision(name: str) -> str:
    """Return the revision of a model on the Hub as it would be opened now; "" if it can't be found out."""
    try:
        folder = fetch_from_hub(name, ["config.json", ADAPTER_CONFIG], offline())
        if (folder / ADAPTER_CONFIG).is_file():  # which other files there are tells what it is
            folder = fetch_from_hub(name, HUB_FILES, offline())
    except SizewiseError:
        return ""
    return _with_base_revision(folder.name, folder) if folder.parent.name == "snapshots" else ""


def _with_base_revision(own: str, folder: Path) -> str:
    """Add the revision of their base to that of adapters."""
    if not is_adapter(folder):
        return own
    _check_no_circle(folder)
    base = revision_of(base_of_adapter(folder))
    return f"{own}{OF_BASE}{base}" if base else own


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
        folder = store.folder("checkpoint", name) / "model"
        check_seal(folder)
        return folder, checkpoint.origin, checkpoint.license
    if kind == "hf":
        folder = fetch_from_hub(name, HUB_FILES, offline())
        return _with_base(folder, uri, store, say) or (folder, *_hub_facts(name))
    if kind == "gguf" and name:
        return _from_gguf(Path(name).expanduser(), store, say), f"{Path(name).name}, dequantized", "not stated"
    path = Path(uri).expanduser()
    if uri.strip() and path.is_dir():
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
    _check_no_circle(folder)
    base, origin, license = resolve_folder(base_of_adapter(folder), store, say)
    return merged_folder(folder, revision_of(uri), base, store, say), f"{origin}; with adapters of {uri}", license


def _check_no_circle(folder: Path) -> None:
    """Check that adapters don't name each other as their base."""
    seen: list[Path] = []
    while is_adapter(folder):
        if folder.resolve() in seen:
            raise SizewiseError(
                f"The adapters in {folder} are adapters of themselves, by way of {len(seen) - 1} other folders.",
                "adapters whose base is a model",
                f"correct base_model_name_or_path in {folder / ADAPTER_CONFIG}",
            )
        seen.append(folder.resolve())
        folder = Path(base_of_adapter(folder)).expanduser()


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
    if ":" not in uri and _is_gguf(Path(uri).expanduser()):
        return UsageError(
            f"'{uri}' is a GGUF file, not a URI. Did you mean gguf:{uri}?", EXPECTED, f"sizewise models 'gguf:{uri}'"
        )
    meant = resolve(uri)
    found = [model.uri for model in ((meant.model,) if meant.model is not None else meant.members[:3])]
    if found:
        names = " or ".join(found)
        return UsageError(f"'{uri}' is a name, not a URI. Did you mean {names}?", EXPECTED, f"sizewise models '{uri}'")
    known = [f"pkg:{name}" for name in (*PACKAGED, *ENCODERS)] + [f"fake:{name}" for name in NAMES]
    is_id = re.fullmatch("(run|classifier)-[0-9a-f]{10}", uri) is not None
    near = [f"run:{uri}"] if is_id else get_close_matches(uri, known, n=1, cutoff=0.4)
    hint = f". Did you mean {near[0]}?" if near else "."
    return UsageError(f"'{uri}' doesn't name a model{hint}", EXPECTED, "sizewise models")


def _is_gguf(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() == ".gguf":
        return path.is_file()
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _hub_facts(name: str) -> tuple[str, str]:
    return f"Hugging Face Hub, {name}", "as stated on the model's page"
