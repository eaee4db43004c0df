"""What a bundle for machines without a network contains; its file is bundle.json."""

from __future__ import annotations

from sizewise.records.base import Record


class BundledPackage(Record):
    """A Python package of a bundle."""

    name: str
    """Name of the package."""
    version: str
    """Its version."""
    file: str
    """File name of its wheel, in wheels/."""
    sha256: str
    """SHA-256 of the wheel."""
    license: str
    """License as stated by the package; empty if it states none."""
    locked: bool
    """Whether the hash is in a lock of this version of Sizewise."""


class Bundle(Record):
    """A folder from which Sizewise is installed without a network."""

    version: str
    """Version of Sizewise."""
    python: str
    """Version of Python that the wheels are for, such as `3.11`."""
    system: str
    """Operating system that the wheels are for, such as `linux`."""
    machine: str
    """Processor that the wheels are for, such as `x86_64`."""
    extras: tuple[str, ...]
    """Optional parts of Sizewise that it installs."""
    models: tuple[str, ...]
    """URIs of the packaged models whose weights it holds."""
    packages: tuple[BundledPackage, ...]
    """Its Python packages, Sizewise included."""
    bytes: int
    """Size of the bundle's wheels and weights."""
    installed_bytes: int
    """Disk space that an installation takes."""
