from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sizewise.documents import read_demo
from sizewise.documents.fhir import FHIR_WHEEL, read_fhir
from sizewise.errors import SizewiseError, UsageError

MODULE = '''
import os
os.remove("/this/would/be/noticed")

class Account(domainresource.DomainResource):
    """Disclaimer: Any field name ends with ``__ext`` is not part.

    Tracks balances.
    A financial tool.
    """

    coverage: typing.List[X] = Field(default=None, title="Who pays", description="The party that pays.")
    coverage__ext: X = Field(default=None, title="Extension field", description="Not to be read.")
    name: X = Field(default=None, title="A name", description="A name.")
    valueString: X = Field(title="A value", description="The value itself.", json_schema_extra={"one_of_many": "value"})
    valueCode: X = Field(title="A value", description="The value itself.", json_schema_extra={"one_of_many": "value"})
'''


def make_wheel(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fhir/resources/account.py", MODULE)
        archive.writestr("fhir/resources/__init__.py", "")
        archive.writestr("fhir/resources/R4B/account.py", MODULE.replace("Account", "OldAccount"))
    return path


def test_definitions_are_parsed_and_never_run(tmp_path: Path) -> None:
    reading = read_fhir(make_wheel(tmp_path / "x.whl"))
    (document,) = reading.documents
    assert document.text == (
        "Account\nTracks balances. A financial tool.\n\nAccount.coverage: Who pays\nThe party that pays.\n\n"
        "Account.name: A name\n\nAccount.value[x]: A value\nThe value itself."
    )
    assert document.license.startswith("CC0")
    assert [example.id for example in reading.examples] == ["Account.coverage", "Account.value[x]"]
    assert reading.examples[0].references == ("The party that pays.",)
    assert reading.examples[0].copy_text == "Who pays"
    assert "Account.coverage" in reading.examples[0].prompt


def test_an_unknown_demo_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no demo"):
        read_demo("nosuch", tmp_path)


def test_without_network_the_error_names_file_and_place(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError) as error:
        read_demo("fhir", tmp_path, offline=True)
    assert FHIR_WHEEL.file in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_wrong_wheel_is_refused(tmp_path: Path) -> None:
    make_wheel(tmp_path / FHIR_WHEEL.file)
    with pytest.raises(SizewiseError, match="truncated or the wrong file"):
        read_demo("fhir", tmp_path, offline=True)
