"""Records on disk and the append-only ledger: the only package that decides where files go."""

from sizewise.privacy import offline
from sizewise.store.files import (
    cannot_write,
    make_folder,
    make_private,
    numbered_lines,
    open_private,
    read_jsonl,
    read_lines,
    sha256_of,
    write_atomically,
)
from sizewise.store.ledger import Ledger
from sizewise.store.rows import Joined, RowFile
from sizewise.store.seals import check_seal, seal
from sizewise.store.staging import check_writable, is_free, staged
from sizewise.store.store import Listed, Saved, Store, id_of, same_facts, uri_of, versions

__all__ = [
    "Joined",
    "Ledger",
    "Listed",
    "RowFile",
    "Saved",
    "Store",
    "cannot_write",
    "check_seal",
    "check_writable",
    "id_of",
    "is_free",
    "make_folder",
    "make_private",
    "numbered_lines",
    "offline",
    "open_private",
    "read_jsonl",
    "read_lines",
    "same_facts",
    "seal",
    "sha256_of",
    "staged",
    "uri_of",
    "versions",
    "write_atomically",
]
