"""What is told before a study starts: templates, the machine's health, and what it will take and can show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.errors import SizewiseError, UsageError
from sizewise.store import Store
from sizewise.studies import doctor as doctors
from sizewise.studies import read_config
from sizewise.studies.doctor import doctor
from sizewise.studies.dry_run import estimate_study
from sizewise.studies.templates import domains, init


@pytest.mark.parametrize(
    "domain", ["medical", "legal", "financial", "support", "fraud", "compliance", "voice", "summary"]
)
def test_each_template_is_a_study_file_that_is_understood(
    domain: str, tmp_path: Path, text_folder: Path, examples_file: Path
) -> None:
    path = init(domain, tmp_path / "mine.toml", (str(text_folder),), (str(examples_file),))
    config = read_config(path)
    assert config.domain == domain
    assert config.documents == (str(text_folder.resolve()),)
    assert config.examples == (str(examples_file.resolve()),)
    if domain == "voice":  # by default a study ranks by voice, or where that can't be measured by what follows
        assert (config.needs.quality, config.metrics[0]) == (None, "voice")
    else:
        assert config.needs.quality in config.metrics
    assert config.needs.local_only
    text = path.read_text(encoding="utf-8")
    assert all(line in text for line in domains()[domain]["people"])


def test_a_template_without_text_takes_the_demo_or_names_the_folder_to_fill(tmp_path: Path) -> None:
    assert read_config(init("medical", tmp_path / "a.toml")).documents == ("demo:fhir",)
    legal = read_config(init("legal", tmp_path / "b.toml"))
    assert legal.documents == (str(tmp_path / "documents"),)


def test_a_template_is_never_written_over_a_file_nor_for_what_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(SizewiseError, match="already exists"):
        init("medical", path)
    assert path.read_text(encoding="utf-8") == "mine"
    init("medical", path, force=True)
    with pytest.raises(UsageError, match="no file or folder 'nowhere'"):
        init("medical", tmp_path / "c.toml", ("nowhere",))
    with pytest.raises(UsageError, match="no domain 'cooking'"):
        init("cooking", tmp_path / "c.toml")


def test_doctor_finds_a_damaged_record_and_a_home_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    assert doctor(Store(home)).healthy
    path = home / "dataset" / "data-1" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text("{", encoding="utf-8")
    found = {check.name: check for check in doctor(Store(home)).checks}
    assert found["records"].state == "problem"
    assert str(path.parent) in found["records"].next
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    assert {check.name: check.state for check in doctor(Store(blocked / "home")).checks}["home"] == "problem"


def test_doctor_says_what_cannot_be_done_without_an_extra(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setitem(doctors.EXTRAS, "documents", ("no_such_module", "PDF, DOCX and HTML"))
    found = doctor(store)
    assert found.healthy
    assert ("[documents]", "PDF, DOCX and HTML") in doctors.absent_extras(found)
    assert "[study]" not in dict(doctors.absent_extras(found))


def test_doctor_names_no_key_but_its_variable(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    said = doctor(store).model_dump_json()
    assert "OPENAI_API_KEY" in said
    assert "sk-secret" not in said


STUDY = """
[study]
name = "before"
[data]
documents = ["texts"]
examples = "examples.jsonl"
limit = 5
[[candidates]]
name = "tiny"
model = "scratch"
train = {{ tokens = 9000, parameters = {parameters} }}
[[candidates]]
name = "large"
model = "openai:gpt-4o"
"""


def test_a_dry_run_counts_what_will_be_measured_and_names_what_is_in_the_way(
    tmp_path: Path, store: Store, text_folder: Path, examples_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(parameters=500_000), encoding="utf-8")
    found = estimate_study(read_config(path), store=store)
    assert found.test_examples <= 5
    assert found.uncontaminated_examples <= found.test_examples
    assert [row.parameters for row in found.candidates] == [500_000, None]
    assert found.candidates[0].fits
    assert found.candidates[0].measure_minutes is not None
    large = found.candidates[1]
    assert large.usd is not None
    assert 0 < large.usd.lower < large.usd.expected < large.usd.upper
    assert any("SIZEWISE_OFFLINE" in line for line in found.blockers)
    assert any("documents in the test" in line for line in found.warnings)
    assert store.exists("dataset", found.dataset)
    assert not list(store.home.glob("checkpoint/*"))

    monkeypatch.setattr("sizewise.studies.dry_run.available_bytes", lambda: 10**9)
    path.write_text(STUDY.format(parameters=900_000_000), encoding="utf-8")
    too_large = estimate_study(read_config(path), store=store)
    assert too_large.candidates[0].fits is False
    assert any("tiny needs" in line for line in too_large.blockers)
    json.loads(too_large.model_dump_json())


def test_a_study_of_labels_isnt_asked_for_documents_or_choices(tmp_path: Path, store: Store) -> None:
    texts = {"bill": "Die Rechnung {} stimmt nicht", "parcel": "Das Paket {} kam nicht an"}
    rows = [f"{text.format(i)}, bitte um Antwort.;{label}" for i in range(40) for label, text in texts.items()]
    table = tmp_path / "mails.csv"
    table.write_text("\n".join(["Text;Label", *rows]) + "\n", encoding="utf-8")
    path = init("support", tmp_path / "study.toml", examples=(str(table),))
    config = read_config(path)
    assert [candidate.model for candidate in config.candidates[1:]] == ["pkg:multilingual-e5-small"] * 2
    found = estimate_study(config, store=store)
    assert found.train_examples > 20
    assert not [line for line in found.warnings if "training text" in line or "choices" in line]
    words, encoder = (found.candidates[i].measure_minutes for i in (0, 1))
    assert words is not None
    assert encoder is not None
    assert encoder.upper < 5  # 30 short texts are read, and nothing is written
