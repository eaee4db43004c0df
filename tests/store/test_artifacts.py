"""Records on storage that machines share: whole or absent, checked, never outside their folder, and never lost."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec")

from sizewise import compare, evaluate
from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.records import Evaluation, JudgeRound
from sizewise.store import Ledger, Saved, Store, disks
from sizewise.store.artifacts import Artifacts, shared_artifacts
from sizewise.studies.audit import audit
from tests.cli.test_cli import call


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A shared disk, and something that isn't a disk."""
    found = (tmp_path / "shared").as_uri() if request.param == "file" else f"memory://{tmp_path.name}"
    monkeypatch.setenv("SIZEWISE_ARTIFACTS_URL", found)
    return found


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{n}", "prompt": f"word{n}", "references": [f"word{n}"]} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def evaluated(questions: Path, home: Path, model: str = "fake:echo") -> Saved[Evaluation]:
    return evaluate(model, data=questions, metrics=("exact_match",), store=Store(home))


def test_another_machine_works_with_what_one_has_measured(
    url: str, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [evaluated(questions, tmp_path / "one", model) for model in ("fake:echo", "fake:silent")]
    other = Store(tmp_path / "other")
    assert not other.listing()
    compared = compare([one.id for one in made], store=other)
    assert compared.record == compare([one.id for one in made], store=Store(tmp_path / "one")).record
    assert audit(made[0].id, store=other, verify=True).sound
    again = evaluated(questions, tmp_path / "other")
    assert again.created == made[0].created  # nothing was asked again
    for path in (tmp_path / "other").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.name.endswith(".lock"), path
    for one in made:
        names = {path.name for path in (tmp_path / "other/evaluation" / one.id).iterdir() if path.name != ".lock"}
        there = {path.name for path in one.path.parent.iterdir() if path.name != ".lock"}
        assert {name for name in there if not name.startswith("ledger.")} == names


def test_a_copy_that_broke_off_is_no_record_and_the_next_one_finishes_it(
    url: str, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, done = Artifacts._put, []

    def broken(self: Artifacts, file: Path, path: str) -> None:
        if len(done) == 1:
            raise OSError("the line is down")
        done.append(path)
        whole(self, file, path)

    monkeypatch.setattr(Artifacts, "_put", broken)
    with caplog.at_level(logging.WARNING):
        made = evaluated(questions, tmp_path / "one")
    assert "the line is down" in caplog.text
    assert f"sizewise push {made.id}" in caplog.text
    assert made.path.is_file()
    assert not Store(tmp_path / "other").exists("evaluation", made.id)
    monkeypatch.setattr(Artifacts, "_put", whole)
    shared = shared_artifacts()
    assert shared is not None
    assert shared.push("evaluation", made.id, made.path.parent)
    assert not shared.push("evaluation", made.id, made.path.parent)
    assert shared.ids("evaluation") == [made.id]
    assert Store(tmp_path / "other").get(Evaluation, made.id).record == made.record


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../../outside.txt": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"a\\..\\b": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {".lock": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"record.json": {"sha256": "../../../../outside", "bytes": 1}}},
        {"files": {}},
        {"files": None},
        {"format": 2},
        {"id": "eval-0000000000"},
    ],
)
def test_a_list_of_files_that_was_changed_is_refused(
    change: dict[str, Any], questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZEWISE_ARTIFACTS_URL", (tmp_path / "shared").as_uri())
    made = evaluated(questions, tmp_path / "one")
    listing = tmp_path / "shared" / "evaluation" / f"{made.id}.json"
    files = {"record.json": {"sha256": "0" * 64, "bytes": 1}} | (change.get("files") or {})
    changed = json.loads(listing.read_text()) | change | ({"files": files} if change.get("files") else {})
    listing.write_text(json.dumps(changed))
    with pytest.raises(SizewiseError, match="is damaged"):
        Store(tmp_path / "other").exists("evaluation", made.id)
    assert not list((tmp_path / "other").rglob("record.json"))
    assert not (tmp_path / "outside.txt").exists()


def test_a_changed_file_is_refused_and_leaves_no_record(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZEWISE_ARTIFACTS_URL", (tmp_path / "shared").as_uri())
    made = evaluated(questions, tmp_path / "one")
    for stored in (tmp_path / "shared/files").rglob("*"):
        if stored.is_file():
            stored.write_bytes(stored.read_bytes()[:-2])
    with pytest.raises(SizewiseError, match="isn't the file that was stored"):
        Store(tmp_path / "other").get(Evaluation, made.id)
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file() and path.name != ".lock"]


def test_the_advice_about_a_file_that_is_gone_brings_it_back(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record whose list is there isn't copied again, so the list must go, too."""
    shared = tmp_path / "shared"
    monkeypatch.setenv("SIZEWISE_ARTIFACTS_URL", shared.as_uri())
    made = evaluated(questions, tmp_path / "one")
    listed = shared / "evaluation" / f"{made.id}.json"
    digest = json.loads(listed.read_text(encoding="utf-8"))["files"]["items.jsonl"]["sha256"]
    (shared / "files" / digest[:2] / digest).unlink()
    with pytest.raises(SizewiseError, match="is gone") as refused:
        Store(tmp_path / "other").get(Evaluation, made.id)
    assert f"remove it and evaluation/{listed.name} there" in str(refused.value)
    listed.unlink()
    copies = shared_artifacts()
    assert copies is not None
    assert copies.push("evaluation", made.id, tmp_path / "one" / "evaluation" / made.id)
    assert Store(tmp_path / "other").get(Evaluation, made.id).record == made.record


def test_storage_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "record.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"file can't be used: .*cannot be created") as refused:
        Artifacts((tmp_path / "file").as_uri()).push("evaluation", "eval-1", tmp_path)
    assert "SIZEWISE_HOME" not in str(refused.value)


def test_votes_that_still_arrive_stay_where_they_are_collected(url: str, tmp_path: Path, store: Store) -> None:
    round_ = JudgeRound.model_construct(name="one")
    folder = store.folder("round", "round-1")
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(round_.model_dump_json(warnings=False), encoding="utf-8")
    shared = shared_artifacts()
    assert shared is not None
    assert not shared.push("round", "round-1", folder)
    assert shared.ids("round") == []


def _hold(folder: str, ready: Any) -> None:
    with Store(folder).lock("evaluation", "eval-0000000000"):
        ready.set()
        time.sleep(60)


def test_a_lock_outlives_no_holder(tmp_path: Path) -> None:
    ready = multiprocessing.get_context("spawn").Event()
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(str(tmp_path), ready))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(SizewiseError, match="Another process"), Store(tmp_path).lock("evaluation", "eval-0000000000"):
        pass
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join(30)
    with Store(tmp_path).lock("evaluation", "eval-0000000000"):
        pass


LINES = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/team\\040disk rw,relatime shared:2 - nfs4 server:/export rw
31 22 0:41 / /mnt/office rw - cifs //server/share rw
32 22 0:42 / /mnt/bucket rw - fuse.juicefs JuiceFS:x rw
33 22 0:43 / /mnt/team\\040disk/local rw - xfs /dev/sdb rw
34 22 0:44 / /media/stick rw - fuseblk /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/home/me/x.sqlite", "WAL"),
        ("/mnt/team disk/home/x.sqlite", "DELETE"),
        ("/mnt/team disk/local/x.sqlite", "WAL"),
        ("/mnt/team diskette/x.sqlite", "WAL"),
        ("/mnt/office/x.sqlite", "DELETE"),
        ("/mnt/bucket/x.sqlite", "DELETE"),
        ("/media/stick/x.sqlite", "WAL"),
    ],
)
def test_a_ledger_on_a_shared_disk_needs_no_shared_memory(
    path: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(LINES, encoding="utf-8")
    monkeypatch.setattr(disks, "MOUNTS", tmp_path / "mountinfo")
    assert disks.journal_mode(Path(path)) == mode


def test_the_ledger_asks_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text("22 1 8:1 / / rw - nfs server:/ rw\n", encoding="utf-8")
    monkeypatch.setattr(disks, "MOUNTS", tmp_path / "mountinfo")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.append("a", "b", {"c": 1})
        assert ledger.entries("a") == {"b": {"c": 1}}
        assert not (tmp_path / "ledger.sqlite-wal").exists()


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server that speaks S3: moto's, in an environment of its own (its pins exclude ours)."""
    program = os.environ.get("SIZEWISE_TEST_S3_SERVER") or shutil.which("moto_server")
    if not program:
        pytest.skip(
            "no moto_server: pip install 'moto[server]' elsewhere, and name its program in SIZEWISE_TEST_S3_SERVER"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", address),
        ("AWS_ALLOW_HTTP", "true"),
    ):
        monkeypatch.setenv(name, value)
    with subprocess.Popen([program, "-H", "127.0.0.1", "-p", address.rpartition(":")[2]]) as server:
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=5).close()
                    break
                except OSError:
                    assert time.monotonic() < end
                    time.sleep(0.2)
            monkeypatch.setenv("SIZEWISE_ARTIFACTS_URL", "s3://bucket/team/records")
            yield "s3://bucket/team/records"
        finally:
            server.kill()


@pytest.mark.scale
@pytest.mark.slow
def test_records_on_s3(s3: str, questions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(12_000_000))  # more than one part of an upload
    made = evaluated(questions, tmp_path / "one")
    shared = shared_artifacts()
    assert shared is not None
    assert shared.ids("evaluation") == [made.id]
    assert audit(made.id, store=Store(tmp_path / "other"), verify=True).sound
    folder = tmp_path / "one" / "checkpoint" / "run-0000000000"
    folder.mkdir(parents=True)
    shutil.copy(large, folder / "weights.safetensors")
    (folder / "record.json").write_text("{}", encoding="utf-8")
    assert shared.push("checkpoint", "run-0000000000", folder)
    assert shared.pull("checkpoint", "run-0000000000", tmp_path / "there")
    assert (tmp_path / "there" / "weights.safetensors").read_bytes() == large.read_bytes()
    assert not shared.has("checkpoint", "run-0000000001")
    assert not caplog.records


def test_offline_nothing_is_sent_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for url in ("s3://bucket/prefix", "gs://bucket", "https://example.org/x", "sftp://example.org/x"):
        with pytest.raises(SizewiseError, match="SIZEWISE_OFFLINE"):
            Artifacts(url)


@pytest.mark.parametrize(
    "url",
    [
        *("bucket/prefix", "nosuch://bucket", "/just/a/folder", "C:\\folder", "file://mnt/team", "file:team"),
        *("s3://", "s3:/bucket/prefix", "s3:///bucket", "s3://key:secret@bucket", "gs://bucket/x?region=eu"),
    ],
)
def test_what_is_no_url_is_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZEWISE_OFFLINE", "0")
    monkeypatch.setenv("SIZEWISE_ARTIFACTS_URL", url)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="SIZEWISE_ARTIFACTS_URL") as refused:
        shared_artifacts()
    assert "secret" not in str(refused.value)


def test_s3_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZEWISE_OFFLINE", "0")
    monkeypatch.setitem(sys.modules, "obstore.fsspec", None)
    with pytest.raises(MissingExtraError, match="obstore"):
        Artifacts("s3://bucket/prefix")


def test_push_and_pull_by_hand(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZEWISE_HOME", str(tmp_path / "one"))
    made = evaluated(questions, tmp_path / "one")
    code, _, err = call(capsys, monkeypatch, "push")
    assert code == 2
    assert "SIZEWISE_ARTIFACTS_URL" in err
    monkeypatch.setenv("SIZEWISE_ARTIFACTS_URL", (tmp_path / "shared").as_uri())
    assert call(capsys, monkeypatch, "push", "eval-nosuch")[0] == 1
    code, out, _ = call(capsys, monkeypatch, "push")
    assert code == 0
    assert made.id in out
    monkeypatch.setenv("SIZEWISE_HOME", str(tmp_path / "other"))
    assert made.id in call(capsys, monkeypatch, "pull", "--kind", "evaluation")[1]
    code, out, _ = call(capsys, monkeypatch, "pull", made.id, "--json")
    assert json.loads(out)["record"]["records"] == [made.id]
    assert Store(tmp_path / "other").record_path("evaluation", made.id).is_file()
