"""The only place that decides paths: records on disk, and the append-only ledger."""

from sizewise.privacy import offline
from sizewise.store.ledger import Ledger
from sizewise.store.store import Store, Stored, make_folder, versions, write_atomically

__all__ = ["Ledger", "Store", "Stored", "make_folder", "offline", "versions", "write_atomically"]
