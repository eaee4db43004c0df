"""Folders of the user's that are filled at once: beside them first, and moved into place when they are complete."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sizewise.errors import SizewiseError

UNFINISHED = ".sizewise-unfinished-"
"""Begins the name of a folder inside of the one that is filled; a killed process leaves it."""


def is_free(out: Path) -> bool:
    """Check whether a folder may be written to: it doesn't exist, or holds nothing but what a killed process left.

    Raises:
        SizewiseError: the folder can't be read.
    """
    try:
        return not out.exists() or (
            out.is_dir() and all(path.name.startswith(UNFINISHED) and path.is_dir() for path in out.iterdir())
        )
    except OSError as error:
        raise _not_writable(out, error) from error


def check_writable(out: Path) -> None:
    """Check before long work that its result can be written to a folder.

    Raises:
        SizewiseError: it can't.
    """
    with staged(out, publish=False):
        pass


@contextmanager
def staged(out: Path, *, publish: bool = True) -> Iterator[Path]:
    """Yield the path of a new folder; what it holds at the end of the block is moved to `out`.

    An existing folder keeps its place, as it may be the working directory, the target of a link or a mount point: it
    is filled. What a killed process left in it is removed.

    Args:
        out: the folder; new, or free as `is_free` finds it.
        publish: False to move nothing.

    Raises:
        SizewiseError: the folder can't be written, or was filled by someone else meanwhile.
    """
    try:
        target = out.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        within = target if target.is_dir() else target.parent
        if within == target:
            for left in target.glob(f"{UNFINISHED}*"):
                shutil.rmtree(left)
        temporary = Path(tempfile.mkdtemp(dir=within, prefix=UNFINISHED if within == target else f".{target.name}-"))
    except OSError as error:
        raise _not_writable(out, error) from error
    try:
        made = temporary / "made"
        yield made
        if publish:
            _move(made, target, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(made: Path, target: Path, out: Path) -> None:
    try:
        if not target.is_dir():
            made.rename(target)
            return
        taken = [path.name for path in made.iterdir() if (target / path.name).exists()]
        if taken:
            raise FileExistsError(f"{taken[0]} was put there meanwhile")
        for path in sorted(made.iterdir()):
            shutil.move(path, target / path.name)
    except OSError as error:
        raise _not_writable(out, error) from error


def _not_writable(out: Path, error: OSError) -> SizewiseError:
    return SizewiseError(f"{out} can't be written: {error.strerror or error}.", "a writable folder", "--out OTHER")
