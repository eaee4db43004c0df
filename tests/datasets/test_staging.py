from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tarfile
import threading
import warnings
import zipfile
from pathlib import Path

import pytest

from sizewise.datasets import load, read
from sizewise.datasets import staging as staging_module
from sizewise.datasets.staging import KEEP_SECONDS, StagedReading, staged
from sizewise.documents import ReadOptions
from sizewise.documents.reading import make_document
from sizewise.errors import SizewiseError
from sizewise.records import SPLITS
from sizewise.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "texts"
    made.mkdir()
    for i in range(30):
        (made / f"t{i:02}.txt").write_text(f"Text number {i} tells of the {i * 7}th thing.", encoding="utf-8")
    return made


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Interrupt reading after so many files, as Ctrl-C or a kill does; return the files that are read."""
    read_files: list[str] = []
    original = StagedReading.finish

    def finish(self: StagedReading, file: str) -> None:
        original(self, file)
        read_files.append(file)
        if len(read_files) == count:
            raise KeyboardInterrupt

    monkeypatch.setattr("sizewise.datasets.staging.EVERY_SECONDS", 0.0)
    monkeypatch.setattr(StagedReading, "finish", finish)
    return read_files


def test_an_interrupted_reading_goes_on_and_ends_in_the_same_dataset(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = stop_after(12, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        read(folder, store=store)
    resumed = read(folder, store=store)
    assert len(files) == len(set(files)) == 30
    assert resumed.id == read(folder, store=Store(tmp_path / "other")).id
    assert sum(len(load(store, resumed.id).documents[split]) for split in SPLITS) == 30
    assert not [path for path in (store.home / "reading").iterdir() if path.is_dir()]


def test_what_was_read_completely_is_not_read_again(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = stop_after(1_000, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("sizewise.datasets.reading.contamination", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read(folder, store=store)
    contents = load(store, read(folder, store=store).id)
    assert sum(len(contents.documents[split]) for split in SPLITS) == len(files) == 30


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_half_a_row_that_a_kill_left_behind_is_read_again(folder: Path, store: Store) -> None:
    with contextlib.suppress(KeyboardInterrupt), staged(store, [folder], ReadOptions(), 1) as staging:
        reading = StagedReading(staging, 0)
        reading.documents.append(make_document("t00.txt", "", "Text", "x"))
        reading.complete()
        reading.documents.append(make_document("t01.txt", "", "lost", "x"))
        reading.close()
        with (staging / "0.documents.jsonl").open("ab") as file:
            file.write(b'{"id": "t01.txt", "te')
        raise KeyboardInterrupt
    with staged(store, [folder], ReadOptions(), 1) as staging:
        again = StagedReading(staging, 0)
        assert [document.id for document in again.documents] == ["t00.txt"]
        again.documents.append(make_document("t02.txt", "", "More", "x"))
        assert [document.id for document in again.documents] == ["t00.txt", "t02.txt"]


@pytest.mark.parametrize("count", [3, 14, 33])
def test_resuming_changes_nothing(
    count: int, folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
        for i in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr("same.txt", f"The ship number {i} arrives late on the {i * 3}rd of June.")
    for i in range(8):
        (folder / f"b{i}.bin").write_bytes(b"\0\1")
        (folder / f"p{i}.txt").write_text(f"Write to ana{i}@example.org or ana{i // 2}@example.org.", encoding="utf-8")
    (folder / "d.txt").write_text("The harbor office opens at eight in winter.", encoding="utf-8")
    (folder / "d.txt.gz").write_bytes(gzip.compress(b"A lamp is lit at every corner of the bridge."))
    whole = read(folder, store=Store(tmp_path / "other"), options=ReadOptions(personal_data="mask"))
    stop_after(count, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        read(folder, store=store, options=ReadOptions(personal_data="mask"))
    resumed = read(folder, store=store, options=ReadOptions(personal_data="mask"))
    assert resumed.record.notes == whole.record.notes
    assert resumed.record == whole.record
    assert whole.record.not_read == {"unsupported type .bin": 8, "its name points outside of the archive": 1}
    assert "not read (unsupported type .bin): b0.bin, b1.bin, b2.bin, b3.bin, b4.bin and 3 more" in whole.record.notes
    assert sum(size.documents for size in whole.record.splits.values()) == 30 + 2 + 8 + 2
    assert resumed.id == whole.id


def test_an_interrupted_build_does_not_count_files_twice(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
    with monkeypatch.context() as patch:
        patch.setattr("sizewise.datasets.reading.contamination", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read(folder, store=store)
    resumed, whole = read(folder, store=store), read(folder, store=Store(tmp_path / "other"))
    assert resumed.record.not_read == {"its name points outside of the archive": 1}
    assert (resumed.id, resumed.record) == (whole.id, whole.record)


def test_a_changed_file_starts_anew(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    files = stop_after(12, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        read(folder, store=store)
    (folder / "t03.txt").write_text("Another text altogether.", encoding="utf-8")
    made = read(folder, store=store)
    assert len(files) == 12 + 30
    texts = [document.text for split in SPLITS for document in load(store, made.id).documents[split]]
    assert "Another text altogether." in texts


def test_two_processes_do_not_read_the_same_files_at_once(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging_module, "WAIT_SECONDS", 0.3)
    with (
        staged(store, [folder], ReadOptions(), 1),
        pytest.raises(SizewiseError, match="Another process"),
        staged(store, [folder], ReadOptions(), 1),
    ):
        pass


def test_a_process_waits_for_another_one_that_reads_the_same_files(folder: Path, store: Store) -> None:
    order: list[str] = []

    def later() -> None:
        with staged(store, [folder], ReadOptions(), 1):
            order.append("second")

    with staged(store, [folder], ReadOptions(), 1):
        thread = threading.Thread(target=later)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_an_error_leaves_nothing_behind(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": "Q", "references": ["A b c d"]}), encoding="utf-8")
    with pytest.raises(SizewiseError, match="too few"):
        read(path, store=store)
    assert not [path for path in (store.home / "reading").iterdir() if path.is_dir()]


def test_what_a_killed_process_unpacked_is_removed(folder: Path, store: Store) -> None:
    with contextlib.suppress(KeyboardInterrupt), staged(store, [folder], ReadOptions(), 1) as staging:
        left = staging / "0.unpacked" / "sizewise-archive-x"
        left.mkdir(parents=True)
        raise KeyboardInterrupt
    with staged(store, [folder], ReadOptions(), 1) as staging:
        StagedReading(staging, 0)
        assert not left.exists()
        assert (staging / "0.unpacked").stat().st_mode & 0o077 == 0


def test_old_remains_are_removed(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = store.reading_folder("old")
    old.mkdir(parents=True)
    read(folder, store=store)
    assert old.is_dir()
    monkeypatch.setattr("sizewise.datasets.staging.time.time", lambda: old.stat().st_mtime + KEEP_SECONDS + 1)
    read(folder, store=store, seed=1)
    assert not old.exists()


def test_rows_on_disk_are_a_sequence(folder: Path, store: Store) -> None:
    contents = load(store, read(folder, store=store).id)
    train = contents.documents["train"]
    listed = list(train)
    assert len(train) == len(listed) == 22
    assert (train[0], train[-1], list(train[3:5])) == (listed[0], listed[-1], listed[3:5])
    both = train + contents.documents["test"]  # type: ignore[operator]
    assert (both[22], len(both), list(both)[-1]) == (contents.documents["test"][0], 28, contents.documents["test"][-1])
    with pytest.raises(IndexError):
        train[22]


def test_a_damaged_row_names_its_file(folder: Path, store: Store) -> None:
    made = read(folder, store=store)
    path = made.path.with_name("train.documents.jsonl")
    path.write_text(path.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"train\.documents\.jsonl is missing or damaged"):
        list(load(store, made.id).documents["train"])


def test_names_that_are_not_utf8_are_shown_with_escapes(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"daten\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system has names in UTF-8 only")
    for number, name in enumerate((b"caf\xe9.txt", b"caf\xe8.txt", b"z\xff.jsonl", b"w\xe9.xyz")):
        content = json.dumps({"prompt": "Q?", "answer": "A"}) if name.endswith(b"jsonl") else f"Ein Text {number}."
        (folder / os.fsdecode(name)).write_text(content, encoding="utf-8")
    with tarfile.open(folder / "a.tar", "w") as archive:
        member = tarfile.TarInfo(os.fsdecode(b"b\xe9/t\xe9.txt"))
        member.size = 9
        archive.addfile(member, io.BytesIO(b"Ein Brief"))
    dataset = read(folder, store=store, split="test")
    contents = list(load(store, dataset.id).documents["test"])
    assert sorted(document.id for document in contents) == [
        "a.tar/b\\udce9/t\\udce9.txt",
        "caf\\udce8.txt",
        "caf\\udce9.txt",
    ]
    assert not any("sizewise-archive" in document.origin for document in contents)
    assert any("w\\udce9.xyz" in note for note in dataset.record.notes)
