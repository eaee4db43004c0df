from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

from sizewise import datasets
from sizewise.documents.fhir_types import NGRAM, QUESTION, TYPES, read_fhir_types
from sizewise.documents.reading import Reading

KINDS = {
    "fhirtypes.StringType": "A name that people can read",
    "fhirtypes.DateTimeType": "When it began",
    "bool | None": "Whether it is in use",
    "typing.List[fhirtypes.ReferenceType]": "Who is responsible",
}
MODULE = '''
import os
os.remove("/this/would/be/noticed")

class {name}(domainresource.DomainResource):
    """A record."""

    identifier: typing.List[fhirtypes.IdentifierType] | None = Field(title="Business identifier of the {name}",
        description="The key that is given to this {name} by one or more business systems that know it.")
    part: typing.List[fhirtypes.{name}PartType] | None = Field(title="Parts of {name} {n}", description=None)
    hidden__ext: fhirtypes.ExtensionType | None = Field(title="Extension field {n}")
    rare: fhirtypes.SignatureType | None = Field(title="Signed by number {n}")
    valueString: fhirtypes.StringType | None = Field(title="A value {n}", json_schema_extra={{"one_of_many": "value"}})
{fields}

class {name}Part(backboneelement.BackboneElement):
    """A part."""
'''


def make_wheel(path: Path, modules: int = 12) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(modules):
            name = f"Record{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[n]}"
            fields = "\n".join(
                f'    field{i}: {kind} = Field(title="{text}: case {n} and {i}", description="Text {n} of field {i}.")'
                for i, (kind, text) in enumerate(KINDS.items())
            )
            archive.writestr(f"fhir/resources/record{n}.py", MODULE.format(name=name, n=n, fields=fields))
        archive.writestr("fhir/resources/R4B/record0.py", MODULE.format(name="Old", n=99, fields=""))
    return path


def read(tmp_path: Path) -> Reading:
    return read_fhir_types(make_wheel(tmp_path / "x.whl"))


def test_labels_are_the_declared_types_and_the_source_is_never_run(tmp_path: Path) -> None:
    reading = read(tmp_path)
    labels = {example.id: example.label for example in reading.examples}
    assert labels["RecordA.identifier"] == "Identifier"
    assert labels["RecordA.part"] == "BackboneElement"
    assert [labels[f"RecordB.field{i}"] for i in range(4)] == ["string", "dateTime", "boolean", "Reference"]
    assert not [name for name in labels if name.startswith("Old")], "the versioned modules are near-copies"
    assert not [name for name in labels if name.endswith(("rare", "hidden", "valueString"))]
    assert "12 fields of 1 rarer types were left out" in reading.notes[0]


def test_neither_name_nor_type_of_the_field_is_in_its_text(tmp_path: Path) -> None:
    for example in read(tmp_path).examples:
        name = example.id.partition(".")[2]
        assert name not in example.prompt or name in ("part", "identifier")  # a word of the description itself
        assert "fhirtypes" not in example.prompt


def test_copies_for_another_resource_are_one_item(tmp_path: Path) -> None:
    identifiers = [example for example in read(tmp_path).examples if example.label == "Identifier"]
    assert len(identifiers) == 1
    assert len(identifiers[0].prompt.split()) > NGRAM


def test_fields_that_share_words_are_in_one_split(tmp_path: Path) -> None:
    splits: dict[str, set[str | None]] = {}
    for example in read(tmp_path).examples:
        splits.setdefault(example.source, set()).add(example.split)
    assert all(len(found) == 1 for found in splits.values())
    assert len({next(iter(found)) for found in splits.values()}) == 3


def test_every_label_has_an_option_with_a_description_and_vice_versa() -> None:
    assert [option.value for option in QUESTION.options] == list(TYPES)
    assert all(option.description for option in QUESTION.options)
    named = Counter(name for names in TYPES.values() for name in names)
    assert max(named.values()) == 1, "a type has one label"


def test_the_dataset_asks_the_question_and_keeps_its_test_split_for_every_seed(tmp_path: Path) -> None:
    made = [datasets.build([read(tmp_path)], ["demo:fhir-types"], None, "medical", seed) for seed in (0, 1)]
    assert made[0].record.question is not None
    assert made[0].record.question.values == tuple(TYPES)
    tests = [{example.id for example in contents.examples["test"]} for contents in made]
    assert tests[0] == tests[1]
    assert tests[0]
