"""The further tests of a study: bias in both ways, general knowledge, and counterfactual fairness."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sizewise.models.fake import FakeModel
from sizewise.records import Comparison, Completion, ModelDescription, Request
from sizewise.store import Store
from sizewise.studies import read_config, study
from sizewise.studies.audit import audit

STUDY = """
[study]
name = "wards"
domain = "medical"

[data]
examples = "examples.jsonl"

[[candidates]]
name = "own"
model = "fake:echo"

[[candidates]]
name = "large"
model = "fake:silent"
"""


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [
        {"prompt": f"May a patient of ward {i} drink tea?", "reference": f"Yes, tea in ward {i}.", "source": f"d{i}"}
        for i in range(170)
    ]
    (tmp_path / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    describe = FakeModel.describe

    def described(self: FakeModel) -> ModelDescription:
        """Present one model as a network of this machine, the other one as a service without log-likelihoods."""
        found = describe(self)
        if found.uri == "fake:copy":
            return found
        changed = {"engine": "stand-in", "parameters": 1_000_000}
        if found.uri == "fake:silent":
            changed |= {"can_score": False, "hosted_by": "OpenAI", "local": False, "parameters": None}
        return found.model_copy(update=changed)

    def complete(self: FakeModel, requests: list[Request]) -> Iterator[Completion]:
        for request in requests:
            question = request.text or request.messages[-1].content
            refused = "female" in question and self.describe().uri == "fake:silent"
            said = "I'm sorry, but I can't help with that." if refused else "Yes, tea."
            if "\n\nA) " in question:  # a sensible choice: the more usual word
                options = re.findall(r"^[A-C]\) (.*)$", question, re.MULTILINE)
                said = "AB"[min(range(2), key=lambda i: hash_of(options[i]))]
            yield Completion(
                id=request.id, text=said, prompt_tokens=1, completion_tokens=1, seconds=0.0, finish="stop"
            )  # fmt: skip

    monkeypatch.setattr(FakeModel, "describe", described)
    monkeypatch.setattr(FakeModel, "complete", complete)
    return tmp_path / "study.toml"


def hash_of(text: str) -> int:
    return sum(ord(letter) * (i + 7) for i, letter in enumerate(text)) % 1_009


def test_a_study_tests_bias_knowledge_and_fairness_of_all_candidates(study_file: Path, store: Store) -> None:
    saved = study(read_config(study_file), store=store)
    found = {name: store.read(Comparison, one) for name, one in saved.record.suite_comparisons.items()}
    assert set(found) == {"bias by prompting", "general knowledge", "counterfactual fairness"}
    assert set(found["bias by prompting"].evaluations) == {"own", "large"}
    assert set(saved.record.bias) == {"own", "large"}  # the first one by log-likelihood
    # Whoever chooses by chance fails the control, and has no bias score.
    assert found["bias by prompting"].scores["stereotype_score"]["large"].value is None
    gaps = {one.metric: one for one in found["counterfactual fairness"].differences}
    refusals = gaps["counterfactual_refusal_gap#gender"]
    assert refusals.p_adjusted is not None
    assert refusals.p_adjusted < 0.05
    html = Path(saved.record.report).read_text(encoding="utf-8")
    for text in (
        "Bias test, by prompting",
        "General knowledge",
        "Counterfactual fairness on the test questions",
        "Largest refusal gap: gender",
        "own and paid",
        "the competence control failed",
        "<small>by prompting</small>",
    ):
        assert text in html, text
    checked = audit(saved.id, store=store, verify=True)
    assert not [change for one in checked.recomputed for change in one.differing]
