"""Every command prints exactly one JSON object with --json, and readable text without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import call
from tests.cli.test_help import COMMANDS

KEYS = {"schema", "kind", "id", "path", "record"}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command with --json and return its exit code and its object."""

    def run(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
        code, out, _ = call(capsys, monkeypatch, *map(str, arguments), "--json")
        assert out.count("\n") == 1, out
        found = json.loads(out)
        assert set(found) in (KEYS, {"schema", "error"}), found
        return code, found

    return run


def test_every_command_has_the_option() -> None:
    for path, command in COMMANDS.items():
        if not hasattr(command, "commands"):
            assert "--json" in {name for parameter in command.params for name in parameter.opts}, path


def test_a_study_and_all_that_follows(
    run: Any, recorded_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, dry = run("study", "--dry-run", recorded_study)
    assert (code, dry["kind"]) == (0, "outlook")
    code, study = run("study", recorded_study)
    assert (code, study["kind"]) == (0, "study")
    record = study["record"]
    assert record["outcome"] in ("pick", "keep_large")

    code, chosen = run("choose", study["id"])
    assert (code, chosen["kind"]) == (0, "recommendation")
    assert chosen["id"] == record["recommendation"]
    assert chosen["record"]["pick"] == record["pick"]
    assert run("choose", record["comparison"])[1]["id"] == chosen["id"]
    assert run("choose", chosen["id"])[1]["id"] == chosen["id"]
    evaluations = [record["evaluations"][name] for name in ("right", "half")]
    assert run("choose", *evaluations)[1]["record"]["pick"] == "recorded:" + str(tmp_path / "right.jsonl")
    assert run("choose", evaluations[0])[1]["error"]["what"].startswith("Can't choose a model from")

    code, compared = run("compare", *evaluations, "--require", "bleu >= old")
    assert (code, compared["kind"]) == (0, "comparison")
    assert run("compare", *reversed(evaluations), "--require", "bleu >= old")[0] == 3
    code, failed = run("compare", *evaluations, "--require", "bleu >>> old")
    assert code == 2
    assert "error" in failed
    reviewed = run("compare", *evaluations, "--items")[1]
    assert (reviewed["kind"], reviewed["id"]) == ("items", reviewed["record"]["comparison"])
    assert run("evaluate", "--reproduce", evaluations[0])[1]["kind"] == "reproduction"
    assert run("audit", study["id"], "--out", tmp_path / "pack.zip")[1]["kind"] == "audit"

    code, listed = run("runs")
    rows = {row["id"]: row for row in listed["record"]["runs"]}
    assert rows[study["id"]]["name"] == "Judged"
    assert rows[evaluations[0]]["model"].startswith("recorded:")
    assert rows[evaluations[0]]["score"].startswith("bleu ")
    assert rows[evaluations[0]]["size_bytes"] > 0

    code, made = run("judge", "open", study["id"], "--raters", "Ada,Ben", "--items", "4", "--no-serve")
    assert set(made["record"]["links"]) == {"Ada", "Ben"}
    assert run("judge", "export", made["id"], "--out", tmp_path / "tasks.csv")[1]["record"]["format"] == "csv"
    assert run("judge", "report", made["id"])[1]["error"]["what"].endswith("has no votes yet.")

    _, out, _ = call(capsys, monkeypatch, "study", str(recorded_study))
    assert out.startswith(record["summary"])
    assert out.splitlines()[-1] == f"report: {record['report']}"
    table = out.partition("\ncandidate")[2].splitlines()
    assert len(table[0].split("  ")) > 1
    for text in ("Reference match", "latency", "memory", "USD/1,000"):
        assert text in table[0]
    assert "─" not in out
    _, out, _ = call(capsys, monkeypatch, "study", str(recorded_study), "--csv")
    assert out.startswith("candidate,Reference match,p50 latency (s),memory (GB),")
    _, out, _ = call(capsys, monkeypatch, "compare", *evaluations, "--items")
    assert "with a suspicious reference answer" in out.splitlines()[0]
    assert "comparison: comparison-" in out.splitlines()[-1]
    out = call(capsys, monkeypatch, "compare", *evaluations, "--items", "--csv")[1]
    assert out.startswith("item,why,difficulty,discrimination,p,p (FDR),passed,failed,prompt,reference,common answer")
    wide = call(capsys, monkeypatch, "choose", study["id"], "--wide")[1]
    assert "BLEU" in wide
    assert "BLEU" not in call(capsys, monkeypatch, "choose", study["id"])[1].partition("Why")[0]
    assert "name" in call(capsys, monkeypatch, "runs")[1].splitlines()[0]


def test_commands_on_files(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    votes, labels = tmp_path / "votes.csv", tmp_path / "labels.csv"
    votes.write_text("left,right,winner\na,b,left\nb,a,right\na,b,tie\n", encoding="utf-8")
    labels.write_text("rater,item,label\na,1,x\nb,1,x\na,2,y\nb,2,x\n", encoding="utf-8")
    assert run("judge", "rank", votes)[1]["kind"] == "ranking"
    assert run("judge", "agreement", labels)[1]["kind"] == "agreement"
    assert run("judge", "plan")[1]["kind"] == "plan"
    talks = run("judge", "converse", "fake:echo", "--no-serve")[1]
    assert talks["kind"] == "conversations"
    assert set(talks["record"]["links"]) == {"interrogator 1", "witness 1"}
    code, refused = run("judge", "converse", f"recorded:{tmp_path / 'none.jsonl'}", "--port", "0")
    assert code != 0
    assert "none.jsonl" in refused["error"]["what"]
    assert run("judge", "report", talks["id"])[1]["error"]["what"].endswith("has no verdicts yet.")
    assert run("models")[1]["kind"] == "models"
    assert run("models", "fake:echo")[1]["kind"] == "model"
    assert run("models", "openai:gpt-4o")[1]["kind"] == "market"
    assert run("study", "--example")[1]["kind"] == "study_file"
    assert run("init", "--domain", "legal", "--out", tmp_path / "study.toml")[1]["kind"] == "init"
    assert run("redteam", "fake:echo", "--rounds", "1")[1]["kind"] == "redteam"
    assert run("doctor")[1]["kind"] == "doctor"
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    code, talk = run("chat", "fake:echo")
    assert (code, talk["kind"]) == (0, "conversation")
    assert [message["content"] for message in talk["record"]["messages"]] == ["hello", "hello"]


def test_json_and_csv_exclude_each_other(run: Any) -> None:
    code, found = run("models", "--csv")
    assert code == 2
    assert "--json and --csv" in found["error"]["what"]


def test_a_service_prints_one_object_when_it_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    from sizewise.cli.serve import _Announced

    lines: list[str] = []
    announced = _Announced(lines.append, "127.0.0.1", ["http://127.0.0.1:9/v1#x"])
    announced.say("opening http://127.0.0.1:9/v1#x")
    announced.say("chat: http://127.0.0.1:8000/   API: http://127.0.0.1:8000/v1")
    announced.say("study: http://127.0.0.1:8000/")
    out = capsys.readouterr().out
    assert json.loads(out)["record"]["url"] == "http://127.0.0.1:8000"
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("source", "documents", "name"),
    [(None, ("demo:fhir",), "FHIR definitions"), ("demo:fhir", ("demo:fhir",), "FHIR definitions"),
     ("demo:python", ("demo:python",), "python")],
)  # fmt: skip
def test_a_demo_is_a_source(source: str | None, documents: tuple[str, ...], name: str) -> None:
    from sizewise.studies.config import find_config

    found = find_config(source)
    assert found.documents == documents
    assert found.name == name
