"""Processor time that another process hardly changes: the least of several tries."""

import time
from collections.abc import Callable


def processor_seconds(action: Callable[[], object], tries: int = 3) -> float:
    """The least processor time in seconds that ``action`` took in ``tries`` calls.

    A busy neighbour makes some calls slower (caches, a shared core) but none faster.
    """
    return min(_once(action) for _ in range(tries))


def _once(action: Callable[[], object]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun
