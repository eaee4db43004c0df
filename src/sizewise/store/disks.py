"""Whether a file is on a disk of this machine or on one that several machines share."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
SHARED = {
    *(
        "nfs",
        "nfs4",
        "cifs",
        "smb2",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "glusterfs",
        "ocfs2",
        "gfs2",
    ),
    *("9p", "virtiofs", "vboxsf", "prl_fs", "orangefs", "pvfs2", "panfs", "wekafs"),
}
"""Types of file systems whose memory maps aren't shared between machines."""
_OCTAL = re.compile(r"\\([0-7]{3})")


def on_shared_disk(path: Path) -> bool:
    """Check whether a path is on a disk that other machines or containers may mount, too; False where that's unknown.

    Disks of user space (FUSE) count as shared: sshfs, JuiceFS, goofys and the like.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return False
    found, kind = -1, ""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        parts = mount.split()
        if len(parts) < 5 or not rest:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), parts[4]))
        if path.is_relative_to(point) and len(point.parts) >= found:  # a later mount hides an earlier one
            found, kind = len(point.parts), rest.split()[0]
    return kind in SHARED or (kind.startswith("fuse") and kind not in ("fuseblk", "fuse.snapfuse"))


def journal_mode(path: Path) -> str:
    """Return SQLite's journal mode for a file. WAL needs memory that all writers share, so it can't leave a machine.

    Source: https://www.sqlite.org/wal.html, "WAL does not work over a network filesystem".
    """
    return "DELETE" if on_shared_disk(path.resolve()) else "WAL"
