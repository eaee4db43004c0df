"""Checkpoints of a running training: all state needed to resume, written atomically and checksummed."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from sizewise.errors import SizewiseError
from sizewise.lm.distributed import ALONE, Workers, empty_like, placed_like
from sizewise.store import make_folder, sha256_of, write_atomically

KEEP = 2
PROGRESS = "progress.json"
_NAME = re.compile(r"state-(\d{8})(\.safetensors)?")


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints, oldest first: files of one process, and folders of several."""
    return sorted((path for path in folder.glob("state-*") if _NAME.fullmatch(path.name)), key=lambda path: path.stem)


def last_step(folder: Path) -> int:
    """Return the number of steps in the newest checkpoint; -1 without any."""
    found = _checkpoints(folder)
    return int(found[-1].stem.removeprefix("state-")) if found else -1


def save_state(
    folder: Path, step: int, tensors: dict[str, torch.Tensor], progress: dict[str, Any], workers: Workers = ALONE
) -> None:
    """Write a checkpoint and delete all but the newest two.

    Args:
        folder: folder of this run's checkpoints.
        step: optimizer steps done.
        tensors: weights and optimizer state.
        progress: curve and counters, as JSON data.
        workers: processes that each write a part of the checkpoint, with torch.distributed.checkpoint.

    Raises:
        SizewiseError: the checkpoint can't be written, for example because the disk is full.
    """
    make_folder(folder)
    if workers.size > 1:
        _save_together(folder / f"state-{step:08d}", tensors, progress, workers)
    else:
        _save_alone(folder / f"state-{step:08d}.safetensors", tensors, progress)
    if workers.is_first:
        for old in _checkpoints(folder)[:-KEEP]:
            _remove(old)


def _save_together(path: Path, tensors: dict[str, torch.Tensor], progress: dict[str, Any], workers: Workers) -> None:
    temporary = path.with_name(f".{path.name}.part")

    def start() -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        make_folder(temporary)

    def seal() -> None:
        files = {file.name: sha256_of(file) for file in sorted(temporary.glob("*.safetensors"))}
        write_atomically(temporary / PROGRESS, json.dumps({"progress": progress, "files": files}))
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)

    try:
        workers.first(start)
        writer = HuggingFaceStorageWriter(str(temporary), save_distributed=True)
        dcp.save(dict(tensors), storage_writer=writer)
        workers.first(seal)
    except (OSError, CheckpointException) as error:
        if workers.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
        raise _not_written(path, error) from error


def _save_alone(path: Path, tensors: dict[str, torch.Tensor], progress: dict[str, Any]) -> None:
    folder, temporary = path.parent, path.with_name(f".{path.name}.part")
    try:
        plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, temporary, metadata={"progress": json.dumps(progress)})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        checksum = folder / f".{path.name}.sha256.part"
        checksum.write_text(sha256_of(temporary), encoding="utf-8")
        os.replace(checksum, path.with_suffix(".sha256"))
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise _not_written(path, error) from error


def _not_written(path: Path, error: BaseException) -> SizewiseError:
    return SizewiseError(
        f"The checkpoint {path} can't be written: {error}.",
        "free disk space",
        "free disk space and run the same command again; training resumes from the previous checkpoint",
    )


def load_state(
    folder: Path, masters: Mapping[str, torch.Tensor] | None = None, workers: Workers = ALONE
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Load the newest intact checkpoint, whatever number of processes wrote it. A damaged one is skipped.

    Args:
        folder: folder of this run's checkpoints.
        masters: the trained weights; what belongs to one of them is split over the processes as it is.
        workers: processes that load it together.

    Returns:
        Tensors and progress, or None without an intact checkpoint.
    """
    found: list[Any] = []
    workers.first(lambda: found.extend(_newest_intact(folder)))
    found = workers.shared(found)
    if not found:
        return None
    path, progress = folder / found[0], found[1]
    if path.is_dir():
        return _load_parts(path, masters or {}, workers), progress
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return {name: placed_like(tensor, (masters or {}).get(_owner(name))) for name, tensor in tensors.items()}, progress


def _load_parts(path: Path, masters: Mapping[str, torch.Tensor], workers: Workers) -> dict[str, torch.Tensor]:
    reader = HuggingFaceStorageReader(str(path))
    tensors = {
        name: empty_like(saved.size, saved.properties.dtype, masters.get(_owner(name)))
        for name, saved in reader.read_metadata().state_dict_metadata.items()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled.*")  # one process loads alone
        dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=workers.size == 1)
    return tensors


def _owner(name: str) -> str:
    """Return the weight that a tensor of the optimizer belongs to."""
    return name.split(".", 2)[2] if name.startswith("adam.") else name.partition(".")[2]


def _newest_intact(folder: Path) -> tuple[str, dict[str, Any]] | tuple[()]:
    """Find the newest intact checkpoint; return its name and progress."""
    for path in reversed(_checkpoints(folder)):
        try:
            if path.is_dir():
                saved = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
                if all(sha256_of(path / name) == digest for name, digest in saved["files"].items()):
                    return path.name, saved["progress"]
                continue
            if sha256_of(path) != path.with_suffix(".sha256").read_text(encoding="utf-8").strip():
                continue
            with safe_open(path, "pt") as file:
                return path.name, json.loads(file.metadata()["progress"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            continue
    return ()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
        path.with_suffix(".sha256").unlink(missing_ok=True)


def remove_states(folder: Path) -> None:
    """Remove all checkpoints of a finished run."""
    for path in folder.glob("*state-*"):
        _remove(path)
