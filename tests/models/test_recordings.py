from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from sizewise.documents.fhir_types import TYPES
from sizewise.errors import UsageError
from sizewise.models import open_model
from sizewise.models.list_costs import list_costs
from sizewise.models.recordings import recording_path
from sizewise.records import Message, Request, Score
from sizewise.studies import demo_config, find_config
from sizewise.studies.config import with_large
from tests.choice.test_deciding import comparison

MAX_BYTES = 300_000
PATH = recording_path("demo:fhir-types")


def rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in gzip.decompress(PATH.read_bytes()).decode("utf-8").splitlines()]


def test_recorded_answers_of_a_demo_open_by_its_name() -> None:
    model = open_model("recorded:demo:fhir-types")
    known = rows()[0]
    asked = [
        Request(id=name, messages=(Message(role="user", content="A description"),)) for name in (known["id"], "no.such")
    ]
    answer, absent = model.complete(asked)
    assert answer.text == known["completion"]
    assert absent.finish == "error", "an item without a recorded answer isn't scored"
    assert "recorded" in model.describe().origin
    assert "Qwen2.5-Coder-1.5B-Instruct" in model.describe().origin


def test_recordings_are_small_dated_and_complete() -> None:
    assert sum(path.stat().st_size for path in PATH.parent.iterdir()) < MAX_BYTES
    for path in PATH.parent.glob("*.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        assert facts["recorded"]
        assert facts["prompt"]
        assert facts["decoding"] == "greedy"
        assert facts["machine"]
        assert all("/" not in machine for machine in facts["machine"])
    for row in rows():
        assert {"id", "completion", "usage", "latency_s", "model", "created"} <= set(row)


def test_most_recorded_decisions_name_an_option() -> None:
    named = [row["completion"].strip(" .").casefold() in {label.casefold() for label in TYPES} for row in rows()]
    assert sum(named) > 0.95 * len(named)


def test_an_unknown_recording_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no recorded answers to 'demo:nosuch'") as refused:
        recording_path("demo:nosuch")
    assert "recorded:demo:fhir-types" in refused.value.expected


def test_other_recordings_are_files() -> None:
    assert recording_path("answers.jsonl") == Path("answers.jsonl")


def test_the_demo_of_decisions_asks_whether_the_large_model_is_needed() -> None:
    config = find_config("demo:fhir-types")
    assert config == demo_config("fhir-types")
    names = {candidate.name: candidate.model for candidate in config.candidates}
    assert config.needs.incumbent is not None
    assert names[config.needs.incumbent].startswith("recorded:demo:")
    assert "recorded" in config.needs.incumbent
    assert find_config("demo:fhir") == demo_config()
    assert find_config("demo:payments").documents == ("demo:payments",)


@pytest.mark.parametrize("name", ["default", "fhir-types"])
def test_the_large_model_runs_live_in_place_of_its_recorded_answers(name: str) -> None:
    config = demo_config(name)
    live = with_large(config)
    uris = [one.model for one in live.candidates]
    assert uris.count("pkg:qwen2.5-coder-1.5b") == 1
    assert not any(uri.startswith("recorded:") for uri in uris)
    assert live.needs.incumbent in (None, *(one.name for one in live.candidates))
    assert with_large(live) == live


def test_list_costs_are_those_of_models_that_are_no_candidates() -> None:
    measured = comparison({"a": (9.0, 0.3, None), "gpt-4o": (9.0, 3.0, None)})
    assert list_costs(measured) == (), "nothing is known of the tokens"
    tokens = {
        metric: {"a": Score(metric=metric, value=value, n=9, unit="tokens", signature="s", missing_reason=None)}
        for metric, value in {"prompt_tokens": 1000.0, "completion_tokens": 100.0}.items()
    }
    costs = list_costs(measured.model_copy(update={"scores": measured.scores | tokens}))
    found = {cost.model: cost for cost in costs}
    assert "gpt-4o" not in found, "it is a candidate itself"
    assert {"gpt-4o-mini", "deepseek-r1"} <= set(found), "open, but too large for most"
    assert "smollm2-135m-instruct" not in found
    mini = found["gpt-4o-mini"]
    assert mini.usd_per_1000 == pytest.approx(1000 * 0.15e-3 + 100 * 0.60e-3)
    assert mini.as_of
    assert list(costs) == sorted(costs, key=lambda cost: (cost.usd_per_1000, cost.model))
    several = [cost for cost in costs if cost.model == "deepseek-r1"]
    assert len({cost.provider for cost in several}) == len(several) == 2, "the cheapest and the dearest provider"
    assert not {"gpt-4", "claude-3-opus", "gemini-2.5-pro"} & set(found), "shut down, or no current model"
