"""bundle(): write a folder from which Sizewise is installed without a network, root or compiler."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from string import Template
from typing import NamedTuple

from filelock import FileLock

from sizewise.bundling.own_wheel import PACKAGE, pack_own_wheel
from sizewise.bundling.resolving import BUILDS, download, is_intact, pinned_lines, resolve
from sizewise.documents import DEMOS
from sizewise.documents.fhir import FHIR_LICENSE, FHIR_WHEEL
from sizewise.documents.payments import STRIPE_LICENSE, STRIPE_WHEEL
from sizewise.errors import SizewiseError, UsageError
from sizewise.models import PACKAGED
from sizewise.packages import Wheel, fetch_wheel
from sizewise.progress import Reporter, Silent
from sizewise.records import Bundle, BundledPackage
from sizewise.retrieval import ENCODERS
from sizewise.store import Store, make_folder, offline, sha256_of

SUMS = "SHA256SUMS"
TEMPLATES = PACKAGE / "bundling"


class Bundled(NamedTuple):
    """A bundle that was written."""

    path: Path
    """Its folder, or its tar file."""
    record: Bundle
    """What it contains."""
    digest: str
    """SHA-256 of its file SHA256SUMS, to compare on the other machine."""


class _Weights(NamedTuple):
    """Weights or demo texts in wheels."""

    title: str
    license: str
    wheels: tuple[Wheel, ...]


def packaged_models() -> tuple[str, ...]:
    """List the URIs of models whose weights a bundle can hold."""
    return tuple(f"pkg:{name}" for name in (*PACKAGED, *ENCODERS))


def usual_models() -> tuple[str, ...]:
    """List those of them that a study with the default extras can run."""
    return tuple(uri for uri in packaged_models() if not _needs_openvino(uri))


def _needs_openvino(uri: str) -> bool:
    name = uri.removeprefix("pkg:")
    return name in PACKAGED and PACKAGED[name].stays_quantized


def bundle(
    out: Path | str,
    *,
    extras: Sequence[str] = ("study", "documents"),
    models: Sequence[str] | None = None,
    torch: str = "auto",
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Bundled:
    """Write a bundle: wheels, weights, checksums, licenses and an install script for this platform.

    The bundle appears when it is complete. Until then its files are in OUT.partial, where a second run continues.

    Args:
        out: New folder, or a new file that ends with .tar.
        extras: Extras of Sizewise to install.
        models: URIs of packaged models; by default all that need no further extra.
        torch: Build of PyTorch: cpu, cuda, or auto for the CPU build where pip finds one.
        store: Store whose downloaded wheels are copied; by default SIZEWISE_HOME.
        reporter: Receives progress.

    Raises:
        UsageError: An extra or model doesn't exist, or `out` does.
        SizewiseError: A file can't be downloaded, isn't the locked one, or can't be written.
    """
    target = Path(out).expanduser().absolute()
    models = usual_models() if models is None else tuple(dict.fromkeys(models))
    extras = tuple(dict.fromkeys(extras))
    _check_choice(target, extras, models, torch)
    reporter = reporter or Silent()
    partial = target.with_name(f"{target.name}.partial")
    make_folder(target.parent)
    try:
        with FileLock(target.parent / f".{target.name}.lock"):
            record = _fill(partial, extras, models, torch, store or Store(), reporter)
            digest = sha256_of(partial / SUMS)
            reporter.say(f"Writing {target}")
            _publish(partial, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    (target.parent / f".{target.name}.lock").unlink(missing_ok=True)
    return Bundled(target, record, digest)


def _cannot_write(target: Path, error: OSError) -> SizewiseError:
    free = shutil.disk_usage(target.parent).free / 1e6
    return SizewiseError(
        f"{error.filename or target} cannot be written: {error.strerror or error} ({free:,.0f} MB free).",
        "a writable folder with enough free space",
        "free some space and run the same command again, which continues; or choose another --out",
    )


def _check_choice(target: Path, extras: Sequence[str], models: Sequence[str], torch: str) -> None:
    known = metadata.metadata("sizewise").get_all("Provides-Extra") or []
    for what, given, allowed in (
        ("extra", extras, sorted(known)),
        ("packaged model", models, packaged_models()),
        ("build of PyTorch", [torch], list(BUILDS)),
    ):
        for name in given:
            if name not in allowed:
                raise UsageError(f"There is no {what} named '{name}'.", ", ".join(allowed), "sizewise bundle --help")
    quantized = [uri for uri in models if _needs_openvino(uri)]
    if quantized and "openvino" not in extras:
        given = ",".join([*extras, "openvino"])
        raise UsageError(f"{quantized[0]} can't run without the extra [openvino].", "that extra", f"--extras {given}")
    if target.exists():
        raise UsageError(f"{target} exists already.", "a new folder or .tar file", "choose another --out")


def _fill(
    folder: Path, extras: Sequence[str], models: Sequence[str], torch: str, store: Store, reporter: Reporter
) -> Bundle:
    """Bring a folder to the content of the bundle, and check every file of it."""
    wheels = folder / "wheels"
    for place in (wheels, folder / "weights"):
        place.mkdir(parents=True, exist_ok=True)
    own = pack_own_wheel(wheels)
    reporter.say(f"Resolving the packages of sizewise[{','.join(extras)}]")
    packages = resolve(own, extras, torch, folder)
    download([package for package in packages if package.file != own.name], wheels, reporter)
    weights = _weights(models)
    for one in weights:
        reporter.say(f"Adding {one.title}")
        for wheel in one.wheels:
            _add_weights(wheel, folder / "weights", store)
    pip = next(package.file for package in packages if package.name == "pip")
    files = [*(wheels / package.file for package in packages)]
    files += [folder / "weights" / wheel.file for one in weights for wheel in one.wheels]
    record = Bundle(
        version=metadata.version("sizewise"),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        system=sys.platform,
        machine=platform.machine(),
        extras=tuple(extras),
        models=tuple(models),
        packages=tuple(packages),
        bytes=sum(path.stat().st_size for path in files),
        installed_bytes=_installed_bytes(files, wheels),
    )
    texts = _texts(record, weights, pip)
    _remove_others(folder, {*files, *(folder / name for name in texts)})
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "install.sh").chmod(0o755)
    _write_sums(folder, files, packages, weights, sorted(texts))
    return record


def _weights(models: Sequence[str]) -> list[_Weights]:
    """List the models, then the texts of the demos."""
    found = []
    for uri in models:
        name = uri.removeprefix("pkg:")
        if name in PACKAGED:
            model = PACKAGED[name]
            terms = f"{model.license}. {model.terms}" if model.terms else model.license
            found.append(_Weights(f"{uri}: {model.origin}", terms, model.wheels))
        else:
            encoder = ENCODERS[name]
            found.append(_Weights(f"{uri}: {encoder.origin}", encoder.license, (encoder.wheel,)))
    found.append(_Weights(f"demo:fhir: {DEMOS['fhir']}", FHIR_LICENSE, (FHIR_WHEEL,)))
    found.append(_Weights(f"demo:payments: {DEMOS['payments']}", STRIPE_LICENSE, (STRIPE_WHEEL,)))
    return found


def _add_weights(wheel: Wheel, folder: Path, store: Store) -> None:
    """Copy a wheel from the store, or download it."""
    path, kept = folder / wheel.file, store.wheels_folder() / wheel.file
    if is_intact(path, wheel.sha256):
        return
    path.unlink(missing_ok=True)  # the start of a copy
    if is_intact(kept, wheel.sha256):
        shutil.copyfile(kept, path)
    fetch_wheel(wheel, folder, offline())


def _installed_bytes(files: Sequence[Path], wheels: Path) -> int:
    """Add up the sizes of unpacked packages, and of weights, which are kept packed and converted once."""
    total = 0
    for path in files:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        total += unpacked if path.parent == wheels else path.stat().st_size + 4 * unpacked
    return total


def _texts(record: Bundle, weights: Sequence[_Weights], pip: str) -> dict[str, str]:
    """Write the files that describe and install the bundle."""
    values = {
        "version": record.version,
        "python": record.python,
        "system": record.system,
        "machine": record.machine,
        "extras": ", ".join(record.extras) or "none",
        "models": ", ".join(record.models) or "none",
        "needed_mb": str(-(-record.installed_bytes // 10**6)),
        "pip": pip,
    }
    lines = [f"| {one.name} {one.version} | {one.license or 'see the wheel'} | {one.file} |" for one in record.packages]
    lines += [f"| {one.title} | {one.license} | {', '.join(wheel.file for wheel in one.wheels)} |" for one in weights]
    licenses = "# Licenses\n\nThe texts of the licenses are in the wheels.\n\n| | License | File |\n|---|---|---|\n"
    return {
        "README.md": Template((TEMPLATES / "bundle.md").read_text(encoding="utf-8")).substitute(values),
        "LICENSES.md": licenses + "\n".join(lines) + "\n",
        "requirements.txt": pinned_lines(record.packages),
        "bundle.json": record.model_dump_json(indent=2) + "\n",
        "install.sh": _with_values((TEMPLATES / "install.sh").read_text(encoding="utf-8"), values),
    }


def _with_values(script: str, values: dict[str, str]) -> str:
    """Put values at the places of a shell script that are written @NAME@."""
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    return script


def _remove_others(folder: Path, kept: set[Path]) -> None:
    """Remove what an earlier run with other choices, or one that was killed, has left."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path in one.parents for one in kept):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def _write_sums(
    folder: Path,
    files: Sequence[Path],
    packages: Sequence[BundledPackage],
    weights: Sequence[_Weights],
    texts: Sequence[str],
) -> None:
    """Write SHA256SUMS, last; a wheel must still have the checksum that it was downloaded with."""
    expected = {one.file: one.sha256 for one in packages}
    expected |= {wheel.file: wheel.sha256 for one in weights for wheel in one.wheels}
    lines = []
    for path in files:
        actual = sha256_of(path)
        if actual != expected[path.name]:
            raise SizewiseError(
                f"{path} was changed while the bundle was written: its sha256 is {actual[:16]}....",
                f"sha256 {expected[path.name][:16]}...",
                f"delete {path} and run the same command again",
            )
        lines.append(f"{actual}  {path.relative_to(folder).as_posix()}\n")
    lines += [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in texts]
    (folder / SUMS).write_text("".join(sorted(lines, key=lambda line: line[66:])), encoding="utf-8")


def _publish(partial: Path, target: Path) -> None:
    """Rename the finished folder, or pack it."""
    if target.suffix != ".tar":
        os.replace(partial, target)
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(temporary, "w") as archive:
            archive.add(partial, arcname=target.stem, filter=_of_no_user)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    shutil.rmtree(partial)


def _of_no_user(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
