"""Keeps models loaded between their uses, so that a study loads the weights of a candidate once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sizewise.models.base import Model
from sizewise.models.wrapper import PromptWrapper

MAX_KEPT = 2
"""Models that stay loaded while they are not in use."""


class _Kept:
    """Loaded models by key, the one used last at the end, and how often each is lent."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.models: OrderedDict[Hashable, Model] = OrderedDict()
        self.loans: dict[Hashable, int] = {}

    def borrow(self, key: Hashable, load: Callable[[], Model]) -> Model:
        if key not in self.models:
            self.shrink(self.most - 1)  # room before loading: two large models may not fit beside a third
            self.models[key] = load()
        self.models.move_to_end(key)
        self.loans[key] = self.loans.get(key, 0) + 1
        return _Borrowed(self, key)

    def release(self, key: Hashable) -> None:
        self.loans[key] -= 1
        self.shrink(self.most)

    def shrink(self, size: int) -> None:
        """Close the models that were not used for longest, until at most `size` are left or the rest is in use."""
        for key in [key for key in self.models if not self.loans.get(key)]:
            if len(self.models) <= size:
                return
            self.models.pop(key).close()


class _Borrowed(PromptWrapper):
    """A kept model in the hands of one user; closing it returns it."""

    def __init__(self, kept: _Kept, key: Hashable) -> None:
        super().__init__(kept.models[key])
        self._kept, self._key, self._open = kept, key, True

    def close(self) -> None:
        if self._open:
            self._open = False
            self._kept.release(self._key)


_kept: ContextVar[_Kept | None] = ContextVar("_kept", default=None)


@contextmanager
def keep_models(most: int = MAX_KEPT) -> Iterator[None]:
    """Keep local models loaded after they are closed, and reuse them when they are opened again inside the block.

    Args:
        most: how many stay loaded; the one that wasn't used for longest is closed first.
    """
    kept = _Kept(most)
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
        kept.shrink(0)


def open_kept(key: Hashable, load: Callable[[], Model]) -> Model:
    """Return the kept model of this key, or load it; outside `keep_models`, it is loaded for this user alone."""
    kept = _kept.get()
    return load() if kept is None else kept.borrow(key, load)


def close_kept() -> None:
    """Close the kept models that aren't in use, to make room for training."""
    if (kept := _kept.get()) is not None:
        kept.shrink(0)
