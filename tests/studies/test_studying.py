from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sizewise.errors import UsageError
from sizewise.records import Comparison, Study
from sizewise.store import Store
from sizewise.studies import demo_config, folder_config, read_config, study
from sizewise.studies.config import config_text

STUDY = """
[study]
name = "Tiny <b>study</b>"
domain = "medical"
seed = 1

[data]
documents = ["texts"]
examples = "examples.jsonl"

[[candidates]]
name = "echo"
model = "fake:echo"

[[candidates]]
name = "tiny"
model = "scratch"
train = { tokens = 9000, parameters = 500000, context = 128 }
"""


@pytest.fixture
def study_file(tmp_path: Path, text_folder: Path, examples_file: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


class Page(HTMLParser):
    """Collects what a page would load from elsewhere, and whether tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.load_tests: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "link", "img", "input", "hr"):
            self.open.append(tag)
        self.load_tests += [
            value or ""
            for key, value in attrs
            if key in ("src", "href") and not (value or "").startswith(("#", "data:"))
        ]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_whole_way(study_file: Path, store: Store) -> None:
    stored = study(read_config(study_file), store=store)
    record = stored.record
    baselines = {"copying (baseline)", "most frequent answer (baseline)", "n-gram (baseline)"}
    assert set(record.evaluations) == {"echo", "tiny", *baselines}
    general = store.read(Comparison, record.language_nuance or "")
    assert set(general.evaluations) == {"echo", "tiny"}
    assert record.outcome in ("pick", "inconclusive", "do_not_train", "keep_large")
    assert any("people" in missing.what for missing in record.not_measured)
    html = Path(record.report).read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.load_tests == []
    assert "<svg" in html
    assert "Tiny &lt;b&gt;study&lt;/b&gt;" in html
    assert "<b>study</b>" not in html
    assert record.summary.split(";")[0] in Path(record.report).with_suffix(".md").read_text(encoding="utf-8")
    again = study(read_config(study_file), store=store).record
    volatile = {"seconds", "peak_memory_bytes"}
    assert again.model_dump(exclude=volatile) == record.model_dump(exclude=volatile)


def test_a_config_written_out_is_the_same_study(study_file: Path, tmp_path: Path) -> None:
    config = read_config(study_file)
    copy = tmp_path / "copy.toml"
    copy.write_text(config_text(config), encoding="utf-8")
    assert read_config(copy) == config
    needs = config.needs.model_copy(update={"excluded_licenses": ("MIT", "GPL-3.0")})
    odd = config.model_copy(update={"name": 'a "b" \\ \x07\r\n', "needs": needs})
    copy.write_text(config_text(odd), encoding="utf-8", newline="")
    assert read_config(copy) == odd
    demo = tmp_path / "demo.toml"
    demo.write_text(config_text(demo_config()), encoding="utf-8")
    assert read_config(demo) == demo_config()


def test_a_folder_gets_the_default_candidates(text_folder: Path) -> None:
    config = folder_config(text_folder)
    assert config.documents == (str(text_folder.resolve()),)
    assert config.candidates == demo_config().candidates[1:], "the recorded answers are about the demo"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seed = 1", "sede = 1"), "did you mean 'seed'"),
        (("tokens = 9000", "tokns = 9000"), "did you mean 'tokens'"),
        (("tokens = 9000", "tokens = -1"), "positive"),
        (("tokens = 9000, ", ""), "tokens or minutes"),
        (('name = "tiny"', 'name = "echo"'), "Two candidates"),
        (("train = { tokens = 9000, parameters = 500000, context = 128 }", ""), "has no training recipe"),
        (('documents = ["texts"]\nexamples = "examples.jsonl"', ""), "names no documents"),
        (("[data]", "[dta]"), "did you mean 'data'"),
        (("[data]", "[data]\nlimit = 0"), "limit"),
        (('model = "fake:echo"', ""), "has no model"),
        (("[data]", '[needs]\nquality = "belu"\n\n[data]'), "Unknown metric 'belu'"),
        (("context = 128", "context = 0"), "context"),
        (("context = 128", 'context = 128, method = "lora"'), "trained in full"),
        (('documents = ["texts"]', "documents = 5"), "neither a path nor a list"),
    ],
)
def test_a_wrong_study_file_says_what_is_wrong(study_file: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in STUDY
    study_file.write_text(STUDY.replace(*change), encoding="utf-8")
    with pytest.raises(UsageError) as error:
        read_config(study_file)
    assert said in str(error.value)


@pytest.mark.slow
def test_killed_studies_end_in_the_same_verdict(study_file: Path, tmp_path: Path) -> None:
    def run(home: Path, kill_after: float | None) -> int:
        environment = os.environ | {"SIZEWISE_HOME": str(home)}
        process = subprocess.Popen(
            [sys.executable, "-m", "sizewise", "study", str(study_file), "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        if kill_after is None:
            results.append(json.loads(out)["record"])
        return process.returncode

    results: list[dict[str, object]] = []
    rng = random.Random(0)
    assert run(tmp_path / "whole", None) == 0
    for _ in range(3):
        run(tmp_path / "killed", rng.uniform(2.5, 9))
    assert run(tmp_path / "killed", None) == 0
    one, two = (Study.model_validate(result) for result in results)
    assert one.summary == two.summary
    assert one.rejected == two.rejected
    # Everything but measured time, and the cost that is worked out from it, is the same to the last digit.
    timed = r"an answer takes [^;]*; |at least [\d.e-]+ USD of machine time"
    timeless = [re.sub(timed, "", " ".join(record.reasons)) for record in (one, two)]
    assert timeless[0] == timeless[1]


def test_files_that_a_candidate_names_lie_beside_the_study_file(tmp_path: Path, text_folder: Path) -> None:
    path, weights = tmp_path / "study.toml", tmp_path / "models" / "b.gguf"
    weights.parent.mkdir()
    for file in (tmp_path / "answers.jsonl", weights):
        file.touch()
    path.write_text(
        '[study]\nname = "x"\n[data]\ndocuments = "texts"\n[[candidates]]\nmodel = "recorded:answers.jsonl"\n'
        f'[[candidates]]\nname = "b"\nmodel = "gguf:{weights}"\n',
        encoding="utf-8",
    )
    found = [candidate.model for candidate in read_config(path).candidates]
    assert found == [f"recorded:{tmp_path / 'answers.jsonl'}", f"gguf:{weights}"]


def test_a_candidate_may_look_things_up_instead_of_being_trained(study_file: Path, store: Store) -> None:
    text = STUDY + '\n[[candidates]]\nname = "echo with the documents"\nmodel = "fake:echo"\nretrieve = true\n'
    study_file.write_text(
        text.replace('model = "scratch"', 'model = "fake:copy"').replace(
            "train = { tokens = 9000, parameters = 500000, context = 128 }", ""
        ),
        encoding="utf-8",
    )
    config = read_config(study_file)
    assert [candidate.retrieve for candidate in config.candidates] == [False, False, True]
    assert "retrieve = true" in config_text(config)
    made = study(config, store=store).record
    compared = store.read(Comparison, made.comparison)
    assert compared.models["echo with the documents"].uri == f"rag:{made.dataset}:fake:echo"
    assert "passages of" in compared.models["echo with the documents"].origin
    study_file.write_text(text.replace('documents = ["texts"]', ""), encoding="utf-8")
    with pytest.raises(UsageError, match="there are no documents"):
        read_config(study_file)
