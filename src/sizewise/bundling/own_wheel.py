"""Pack the running Sizewise into a wheel: from a checkout, an installed wheel or a bundle, without a build backend."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

from sizewise.errors import SizewiseError

PACKAGE = Path(__file__).parents[1]
LOCKS = ("all.lock", "cpu.lock", "cuda.lock")
EPOCH = (1980, 1, 1, 0, 0, 0)  # equal content makes equal files
WHEEL = "Wheel-Version: 1.0\nGenerator: sizewise\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def lock_file(name: str) -> Path:
    """Return a lock with hashes: inside the installed package, or in the checkout that it runs from.

    Raises:
        SizewiseError: It is in neither.
    """
    places = (PACKAGE / "bundling" / "locks" / name, PACKAGE.parents[1] / "requirements" / name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise SizewiseError(f"{places[0]} doesn't exist.", "a complete installation of Sizewise", "install it again")
    return found


def pack_own_wheel(folder: Path) -> Path:
    """Write the wheel of the running version.

    Args:
        folder: Where to write it.

    Raises:
        SizewiseError: Sizewise runs without being installed, so that its metadata is unknown.
    """
    try:
        installed = metadata.distribution("sizewise")
    except metadata.PackageNotFoundError as error:
        raise SizewiseError("Sizewise isn't installed here.", "an installed package", "pip install -e .") from error
    about = f"sizewise-{installed.version}.dist-info"
    members = {f"sizewise/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes() for path in _files()}
    members |= {f"sizewise/bundling/locks/{name}": lock_file(name).read_bytes() for name in LOCKS}
    for name in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        text = installed.read_text(name)
        if text is not None:
            members[f"{about}/{name}"] = text.encode()
    members[f"{about}/WHEEL"] = WHEEL.encode()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in members.items())
    members[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    wheel = folder / f"sizewise-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def _files() -> list[Path]:
    return sorted(
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.parent.name != "locks"
    )


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")
