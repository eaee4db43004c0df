from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.errors import SizewiseError
from sizewise.records import Comparison, LoadLevel, LoadTest, Needs, Recommendation, Score
from sizewise.store import Store, write_atomically


def recommendation(sentence: str = "Use a.") -> Recommendation:
    return Recommendation(
        comparison="comparison-1",
        needs=Needs(),
        quality="bleu",
        outcome="pick",
        pick="a",
        decisive=True,
        summary=sentence,
        reasons=("because",),
        rejected={},
        sensitivity=(),
    )


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    stored = store.write("choice-1", recommendation())
    assert store.read(Recommendation, "choice-1") == recommendation()
    assert stored.path == store.home / "recommendation" / "choice-1" / "record.json"
    assert store.kind_of("choice-1") == "recommendation"
    assert [(kind, record_id) for _, kind, record_id, _ in store.listing()] == [("recommendation", "choice-1")]


@given(
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), st.integers(0, 10**9), st.text(min_size=1)
)
def test_score_to_json_and_back_is_identity(value: float | None, n: int, text: str) -> None:
    score = Score(
        metric="m", value=value, n=n, unit="u", signature=text, missing_reason=None if value is not None else text
    )
    assert Score.model_validate_json(score.model_dump_json()) == score


def test_a_value_needs_no_reason_and_a_missing_one_needs_it() -> None:
    with pytest.raises(ValueError, match="if and only if"):
        Score(metric="m", value=None, n=0, unit="u", signature="s")
    with pytest.raises(ValueError, match="if and only if"):
        Score(metric="m", value=1.0, n=1, unit="u", signature="s", missing_reason="why")


def test_unknown_and_damaged_records_name_the_next_command(store: Store) -> None:
    with pytest.raises(SizewiseError) as unknown:
        store.read(Comparison, "comparison-9")
    assert unknown.value.next_step == "sizewise runs"
    path = store.write("choice-1", recommendation()).path
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    with pytest.raises(SizewiseError, match="damaged"):
        store.read(Recommendation, "choice-1")


def test_fields_of_a_newer_version_are_ignored_and_stay_in_the_file(store: Store) -> None:
    path = store.write("choice-1", recommendation()).path
    envelope = json.loads(path.read_text(encoding="utf-8")) | {"schema": 99, "signed_by": "somebody"}
    envelope["record"]["carbon_kg"] = 3.0
    envelope["record"]["needs"]["max_carbon_kg"] = 5.0
    path.write_text(json.dumps(envelope), encoding="utf-8")
    assert store.read(Recommendation, "choice-1") == recommendation()
    assert "max_carbon_kg" in path.read_text(encoding="utf-8")


def test_a_newer_record_that_cannot_be_read_is_not_called_damaged(store: Store) -> None:
    path = store.write("choice-1", recommendation()).path
    envelope = json.loads(path.read_text(encoding="utf-8")) | {"schema": 99}
    del envelope["record"]["outcome"]
    path.write_text(json.dumps(envelope), encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"A newer version of Sizewise wrote .* \(schema 99\)") as told:
        store.read(Recommendation, "choice-1")
    assert "remove" not in told.value.next_step


def test_a_record_is_written_once(store: Store) -> None:
    first = store.write("choice-1", recommendation())
    assert store.write("choice-1", recommendation()) == first
    before = first.path.read_bytes()
    with pytest.raises(SizewiseError, match="already holds another recommendation"):
        store.write("choice-1", recommendation().model_copy(update={"pick": "b"}))
    assert first.path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 2}', '{"schema": "x", "record": {}}', "[" * 9_000])
def test_one_record_that_cannot_be_read_stops_no_listing(store: Store, text: str) -> None:
    store.write("choice-1", recommendation())
    broken = store.write("choice-2", recommendation("Use b.")).path
    broken.write_text(text, encoding="utf-8")
    assert [one.id for one in store.listing() if one.created] == ["choice-1"]
    assert [one.id for one in store.saved(Recommendation)] == ["choice-1"]
    with pytest.raises(SizewiseError, match="missing or damaged"):
        store.read(Recommendation, "choice-2")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden"])
def test_ids_cannot_leave_the_home(store: Store, name: str) -> None:
    with pytest.raises(SizewiseError, match="not a record id"):
        store.folder("study", name)


def test_two_processes_do_not_write_one_record(store: Store) -> None:
    other = Store(store.home)
    with (
        store.lock("study", "study-1"),
        pytest.raises(SizewiseError, match="Another process"),
        other.lock("study", "study-1"),
    ):
        pass
    with other.lock("study", "study-1"):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(SizewiseError, match="cannot be created"):
        write_atomically(tmp_path / "file" / "inside.json", "x")


def test_ledger_keeps_the_first_entry_and_the_order(store: Store) -> None:
    with store.ledger("evaluation", "eval-1") as ledger:
        ledger.append("test", "b", {"x": 1})
        ledger.append("test", "a", {"x": 2})
        ledger.append("test", "b", {"x": 3})
        ledger.append("other", "b", {"x": 4})
    with store.ledger("evaluation", "eval-1") as ledger:
        assert ledger.entries("test") == {"b": {"x": 1}, "a": {"x": 2}}


def test_ledger_survives_a_kill(store: Store) -> None:
    code = (
        "import sys\nfrom sizewise.store import Store\n"
        f"ledger = Store({str(store.home)!r}).ledger('evaluation', 'eval-1')\n"
        "for i in range(100000):\n"
        "    ledger.append('test', str(i), {'i': i})\n"
        "    print(i, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged >= 20:
            break
    time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with store.ledger("evaluation", "eval-1") as ledger:
        entries = ledger.entries("test")
    assert len(entries) > acknowledged
    assert all(entries[str(i)] == {"i": i} for i in range(acknowledged + 1))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such rights")
@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_what_is_written_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = Store(tmp_path / "new" / "home")
        path = store.write("choice-1", recommendation()).path
        store.write_rows(path.parent, "rows.jsonl", [recommendation()])
        with store.ledger("evaluation", "eval-1") as ledger, store.service_ledger() as service:
            ledger.append("test", "a", {"x": 1})
            service.append("test", "a", {"x": 1})
            for one in (tmp_path / "new").rglob("*"):
                assert mode(one) == (0o700 if one.is_dir() else 0o600), one
            assert {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"} <= {
                one.name for one in (store.home / "service").iterdir()
            }
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such rights")
def test_a_ledger_that_others_could_read_is_closed_to_them_and_a_users_folder_stays(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    folder.mkdir(mode=0o755)
    (folder / "ledger.sqlite").touch(mode=0o644)
    with Store(tmp_path).service_ledger() as ledger:
        ledger.append("test", "a", {"x": 1})
        assert {mode(one) for one in folder.iterdir()} == {0o600}
    assert mode(folder) == 0o755


def test_half_a_character_costs_no_entry_and_no_file(store: Store, tmp_path: Path) -> None:
    with store.ledger("evaluation", "eval-1") as ledger:
        ledger.append("test", "a\ud83d", {"said": "so \ud83d", "whole": "\ud83d\ude00 é"})
        assert ledger.entry("test", "a\ud83d") == {"said": "so \ufffd", "whole": "\U0001f600 é"}
    write_atomically(tmp_path / "file.txt", "so \ud83d")
    assert (tmp_path / "file.txt").read_text(encoding="utf-8") == "so \ufffd"


def test_a_new_name_is_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(handle).st_mode))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(tmp_path / "file.txt", "text")
    assert synced == ([False, True] if os.name == "posix" else [False])


def test_other_words_for_the_same_facts_are_the_same_record(store: Store) -> None:
    first = store.write("choice-1", recommendation("Use a."))
    again = store.write("choice-1", recommendation("Choose a."))
    assert again.record.summary == "Use a."
    with pytest.raises(SizewiseError, match="already holds another recommendation"):
        store.write("choice-1", first.record.model_copy(update={"pick": "b"}))


def test_other_words_deep_in_a_record_are_no_other_record(store: Store) -> None:
    score = Score(metric="bleu", n=0, unit="0-100", signature="s", missing_reason="no item could be measured")
    load = LoadTest(
        url="http://127.0.0.1:1", model="m", engine="e", max_tokens=8, prompt_words=4.0, ttft_slo_s=1, tpot_slo_s=1,
        max_concurrent_users=None, levels=(
            LoadLevel(concurrent_users=1, rate=None, requests=1, errors={}, seconds=1.0, scores={"bleu": score}),
        ),
    )  # fmt: skip
    level = load.levels[0]
    reworded = score.model_copy(update={"missing_reason": "nothing was measured"})
    first = store.write("loadtest-1", load)
    again = load.model_copy(update={"levels": (level.model_copy(update={"scores": {"bleu": reworded}}),)})
    assert store.write("loadtest-1", again) == first
    other = load.model_copy(update={"levels": (level.model_copy(update={"requests": 2}),)})
    with pytest.raises(SizewiseError, match="already holds another loadtest"):
        store.write("loadtest-1", other)
