"""Open a model by its URI."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from sizewise.errors import SizewiseError, UsageError
from sizewise.models import size
from sizewise.models.base import Model
from sizewise.models.catalogue import PACKAGED
from sizewise.models.fake import NAMES, FakeModel
from sizewise.models.local import LocalModel
from sizewise.models.package import packaged_folder
from sizewise.models.recorded import RecordedModel
from sizewise.models.remote import PROVIDERS, RemoteModel
from sizewise.records import Checkpoint, ModelSize, fingerprint
from sizewise.store import Store, offline

EXPECTED = (
    "pkg:NAME, hf:ORG/NAME, run:ID, a Hugging Face folder, openai:NAME, anthropic:NAME, google:NAME, deepseek:NAME, "
    "mistral:NAME, http://HOST:PORT/v1#NAME, recorded:FILE or fake:NAME"
)
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*"]
LATER = ("gguf",)


def open_model(
    uri: str,
    *,
    store: Store | None = None,
    precision: str = "bf16",
    max_usd: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Model:
    """Open a model.

    Args:
        uri: `pkg:smollm2-135m`, `hf:org/name`, a folder, `run:ID`, `fake:echo`.
        store: where weights and runs live; by default SIZEWISE_HOME.
        precision: `bf16` or `fp32`, for models that run here.
        max_usd: most that may be spent on a remote model while it is open.
        say: told what is going on, one line at a time.

    Raises:
        UsageError: no model can be meant by this URI.
        SizewiseError: the model cannot be fetched or loaded.
    """
    store = store or Store()
    kind, _, name = uri.partition(":")
    if kind == "fake" and name:
        return FakeModel(name)
    if kind == "recorded" and name:
        return RecordedModel(Path(name).expanduser())
    if kind in PROVIDERS or kind in ("http", "https"):
        return RemoteModel(uri, store.home / "answers" / f"{fingerprint([uri])}.sqlite", max_usd)
    folder, origin, licence = resolve_folder(uri, store, say)
    trained = store.read(Checkpoint, name) if kind == "run" else None
    return LocalModel(
        folder,
        uri=uri,
        revision=revision_of(uri),
        origin=origin,
        licence=licence,
        precision=precision,
        trained_on=trained.data if trained else None,
        start=trained.start if trained else None,
    )


def model_size(
    uri: str, *, store: Store | None = None, say: Callable[[str], None] = lambda line: None
) -> tuple[ModelSize, str, str]:
    """Say how large a model is, from its config alone: of a model on the hub nothing else is fetched.

    Returns:
        The size, where the weights come from, and their licence.

    Raises:
        UsageError: no model with a config can be meant by this URI.
        SizewiseError: the config cannot be fetched or understood, or is not that of the weights beside it.
    """
    kind, _, name = uri.partition(":")
    free = size.available_bytes()
    if kind == "hf":
        folder = _from_hub(name, ["config.json"])
        return size.size_of(size.read_config(folder), uri, None, free), *_hub_facts(name)
    folder, origin, licence = resolve_folder(uri, store or Store(), say)
    return size.size_of(size.read_config(folder), uri, size.stored_parameters(folder), free), origin, licence


def revision_of(uri: str) -> str:
    """Tell two states of a user's folder apart; models that never change under their name have none."""
    path = Path(uri).expanduser()
    if ":" in uri or not path.is_dir():
        return ""
    files = sorted(file for file in path.iterdir() if file.is_file())
    return fingerprint([[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files])


def resolve_folder(uri: str, store: Store, say: Callable[[str], None] = lambda line: None) -> tuple[Path, str, str]:
    """Give the folder, origin and licence of a model that lives in a folder.

    Raises:
        UsageError: no folder can be meant by this URI.
        SizewiseError: the model cannot be fetched.
    """
    kind, _, name = uri.partition(":")
    if kind == "pkg":
        folder = packaged_folder(name, store, say)
        return folder, PACKAGED[name].origin, PACKAGED[name].licence
    if kind == "run":
        checkpoint = store.read(Checkpoint, name)
        return store.folder("checkpoint", name) / "model", checkpoint.origin, checkpoint.licence
    if kind == "hf":
        return _from_hub(name, HUB_FILES), *_hub_facts(name)
    path = Path(uri).expanduser()
    if path.is_dir():
        return path, f"folder {path.name}", "not stated"
    raise _unknown(uri, kind)


def _unknown(uri: str, kind: str) -> UsageError:
    if kind in LATER and ":" in uri:
        return UsageError(
            f"Models of the kind '{kind}:' cannot be opened by this version.", EXPECTED, "sizewise models"
        )
    known = [f"pkg:{name}" for name in PACKAGED] + [f"fake:{name}" for name in NAMES]
    near = get_close_matches(uri, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UsageError(f"No model can be opened as '{uri}'{hint}", EXPECTED, "sizewise models")


def _hub_facts(name: str) -> tuple[str, str]:
    return f"Hugging Face Hub, {name}", "as stated on the model's page"


def _from_hub(name: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=files,
                local_files_only=offline(),
            )
        )
    except HFValidationError as error:
        raise UsageError(f"'{name}' is not a model name of the hub.", "hf:ORG/NAME", "") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise SizewiseError(
            f"hf:{name} cannot be fetched: {(str(error) or type(error).__name__).splitlines()[0]}",
            "a connection to the Hugging Face Hub, or the model in its cache",
            f"download the files of {name} elsewhere, and give the folder instead of hf:{name}",
        ) from error
