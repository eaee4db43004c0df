"""Checkpoints of a running training: all state needed to resume, written atomically and checksummed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sizewise.errors import SizewiseError
from sizewise.store import sha256_of

KEEP = 2
_NAME = re.compile(r"state-(\d{8})\.safetensors")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("state-*.safetensors") if _NAME.fullmatch(path.name))


def save_state(folder: Path, step: int, tensors: dict[str, torch.Tensor], progress: dict[str, Any]) -> None:
    """Write a checkpoint and delete all but the newest two.

    Args:
        folder: folder of this run's checkpoints.
        step: optimizer steps done.
        tensors: weights and optimizer state.
        progress: curve and counters, as JSON data.

    Raises:
        SizewiseError: the checkpoint can't be written, for example because the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"state-{step:08d}.safetensors"
    temporary = folder / f".{path.name}.part"
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
        raise SizewiseError(
            f"The checkpoint {path} can't be written: {error}.",
            "free disk space",
            "free disk space and run the same command again; training resumes from the previous checkpoint",
        ) from error
    for old in _files(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
        old.with_suffix(".sha256").unlink(missing_ok=True)


def load_state(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Load the newest intact checkpoint. A damaged one is skipped.

    Returns:
        Tensors and progress, or None without an intact checkpoint.
    """
    for path in reversed(_files(folder)):
        try:
            if sha256_of(path) != path.with_suffix(".sha256").read_text(encoding="utf-8").strip():
                continue
            with safe_open(path, "pt") as file:
                progress = json.loads(file.metadata()["progress"])
                return {name: file.get_tensor(name) for name in file.keys()}, progress  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            continue
    return None


def remove_states(folder: Path) -> None:
    """Remove all checkpoints of a finished run."""
    for path in folder.glob("*state-*"):
        path.unlink(missing_ok=True)
