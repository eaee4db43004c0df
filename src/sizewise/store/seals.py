"""Checksums of a trained model's files: a file that changed since training is refused when the model is opened.

Files of up to `SMALL_BYTES` are read and compared each time, which takes at most some milliseconds. A larger one is
read only if its size or its time of change differs from when it was last compared, so gigabytes aren't read at each
start. This finds damage and files that were mixed up; whoever may write to the store may also write its checksums.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.store.files import sha256_of, write_atomically

SUFFIX = ".sha256.json"
SMALL_BYTES = 32 << 20
READ = (".safetensors", ".json", ".jinja", ".model", ".txt", ".xml", ".bin", ".onnx")
"""Endings of the files that engines read. Others, such as a model card or an engine's cache, may change."""


def seal(folder: Path) -> None:
    """Write the checksums of a model's files beside their folder.

    Raises:
        SizewiseError: they can't be written.
    """
    _write(folder, {name: _state(path) | {"sha256": sha256_of(path)} for name, path in _files(folder)})


def check_seal(folder: Path) -> None:
    """Check that a model's files are those that were sealed; a folder of an earlier version has no checksums.

    Raises:
        SizewiseError: a file is missing, was added or has another content.
    """
    try:
        sealed = json.loads(_path(folder).read_text(encoding="utf-8"))
        known = {
            str(name): (int(one["bytes"]), int(one["changed_ns"]), str(one["sha256"])) for name, one in sealed.items()
        }
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _changed(folder, f"{_path(folder)} can't be read: {error}") from error
    found = dict(_files(folder))
    for name in sorted(found.keys() - known.keys()):
        raise SizewiseError(
            f"{folder / name} was added after training, and engines might read it.",
            "the files as training wrote them",
            f"move {folder / name} out of the folder",
        )
    for name in sorted(known.keys() - found.keys()):
        raise _changed(folder, f"{folder / name} is missing")
    again = False
    for name, (size, changed_ns, sha256) in known.items():
        state = _state(found[name])
        if state["bytes"] == size and size > SMALL_BYTES and state["changed_ns"] == changed_ns:
            continue
        if state["bytes"] != size or sha256_of(found[name]) != sha256:
            raise _changed(folder, f"{found[name]} has changed since training")
        again = again or state["changed_ns"] != changed_ns
    if again:  # copied or restored, with the same content
        with suppress(SizewiseError):  # a store that can't be written to is compared each time
            _write(folder, {name: _state(found[name]) | {"sha256": sha256} for name, (_, _, sha256) in known.items()})


def _path(folder: Path) -> Path:
    return folder.with_name(folder.name + SUFFIX)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.is_file() and path.name.endswith(READ) and not any(part.startswith(".") for part in below.parts):
            yield below.as_posix(), path


def _state(path: Path) -> dict[str, Any]:
    found = path.stat()
    return {"bytes": found.st_size, "changed_ns": found.st_mtime_ns}


def _write(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    write_atomically(_path(folder), json.dumps(files, indent=1) + "\n")


def _changed(folder: Path, what: str) -> SizewiseError:
    return SizewiseError(
        f"{what}.",
        "the files as training wrote them",
        f"restore them from a copy; or remove {folder.parent} and train again with the same command",
    )
