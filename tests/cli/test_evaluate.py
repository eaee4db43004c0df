"""Options of `sizewise evaluate` for several samples and for stopping early."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_cli import call
from tests.evaluation.test_sampled import words_file


def test_samples_and_until_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(words_file(tmp_path, 100))

    def run(*arguments: str) -> tuple[int, str, str]:
        return call(capsys, monkeypatch, "evaluate", "fake:echo", "--data", data, *arguments)

    code, out, err = run("--metrics", "exact_match", "--samples", "3")
    assert code == 0
    assert "exact_match_pass@3" in out
    assert "comes from sampling answers" in out + err
    greedy = json.loads(run("--metrics", "exact_match", "--json")[1])
    decided = ("--metrics", "exact_match", "--temperature", "1", "--until", "decided", "--against", greedy["id"])
    found = json.loads(run(*decided, "--json")[1])["record"]
    assert found["stopped"]["decision"] == "worse"
    assert found["stopped"]["asked"] < found["stopped"]["available"] == 100
    assert found["sampling"] == {"samples": 1, "temperature": 1.0}
    assert found["machine"]
    code, _, err = run("--against", greedy["id"])
    assert code == 2
    assert "--against needs --until decided" in err
    code, _, err = run("--metrics", "bleu", "--until", "decided", "--min-quality", "10")
    assert code == 2
    assert "one of chrf, rouge_l, token_f1, exact_match, reference_match" in err
    code, _, err = call(capsys, monkeypatch, "evaluate", "fake:echo", "--suite", "bias", "--samples", "2")
    assert code == 2
    assert "don't apply to a suite" in err
