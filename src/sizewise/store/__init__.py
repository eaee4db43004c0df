"""The only place that decides paths: records on disk, and the append-only ledger."""

from sizewise.privacy import offline
from sizewise.store.files import make_folder, open_private, read_lines, write_atomically
from sizewise.store.ledger import Ledger
from sizewise.store.store import Saved, Store, id_of, versions

__all__ = [
    "Ledger",
    "Saved",
    "Store",
    "id_of",
    "make_folder",
    "offline",
    "open_private",
    "read_lines",
    "versions",
    "write_atomically",
]
