"""`sizewise index`: make an index, bring it up to date, refuse what would destroy something."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("bm25s")

from sizewise.cli.main import app
from sizewise.datasets.indexing import index_paths, open_documents, open_folder
from sizewise.documents import read_paths
from sizewise.errors import SizewiseError, UsageError
from sizewise.progress import Silent
from sizewise.store import Store
from tests.retrieval.encoders import add_pooling, write_encoder
from tests.retrieval.test_stored import WordEncoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    for name, text in (("card", "My card is blocked and the chip is bad."), ("loan", "The rate of the loan is bad.")):
        (made / f"{name}.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
    return made


def run(*arguments: str | Path) -> dict[str, object]:
    done = CliRunner().invoke(app, ["index", *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)["record"]
    assert isinstance(record, dict)
    return record


def test_an_index_is_made_and_brought_up_to_date(folder: Path, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    add_pooling(encoder, "mean_tokens")
    first = run(folder, "--out", tmp_path / "index", "--encoder", encoder)
    assert (first["added"], first["encoded"]) == (2, 2)
    (folder / "fee.md").write_text("# fee\n\nThe fee abroad is pending.\n", encoding="utf-8")
    (folder / "loan.md").unlink()
    second = run(folder, "--out", tmp_path / "index", "--encoder", encoder)
    assert (second["added"], second["removed"], second["unchanged"], second["encoded"]) == (1, 1, 1, 1)
    other = write_encoder(tmp_path / "other", seed=1)
    add_pooling(other, "mean_tokens")
    with pytest.raises(SizewiseError, match="was made by"):
        run(folder, "--out", tmp_path / "index", "--encoder", other)
    assert run(folder, "--out", tmp_path / "index", "--encoder", other, "--rebuild")["encoded"] == 2


def test_by_words_only_no_encoder_is_needed(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "--out", tmp_path / "index", "--words-only")["encoded"] == 0
    with pytest.raises(UsageError, match="exclude each other"):
        run(folder, "--out", tmp_path / "index", "--words-only", "--encoder", "pkg:minilm")
    with pytest.raises(UsageError, match="can't hold a fact"):
        run(folder, "--out", tmp_path / "new", "--words-only", "--passage-words", "3")


def test_a_folder_with_other_files_is_not_written_to(folder: Path) -> None:
    with pytest.raises(SizewiseError, match="a folder with other files"):
        run(folder, "--out", folder, "--words-only")


def test_an_index_among_the_documents_is_not_read(folder: Path) -> None:
    index = folder / "index"
    assert run(folder, "--out", index, "--words-only")["added"] == 2
    again = run(folder, "--out", index, "--words-only")
    assert (again["added"], again["removed"], again["unchanged"]) == (0, 0, 2)


def test_an_index_is_no_document(folder: Path, tmp_path: Path) -> None:
    run(folder, "--out", tmp_path / "index", "--words-only")
    with pytest.raises(UsageError, match="is an index, not documents"):
        index_paths([tmp_path / "index"], tmp_path / "other", None)
    assert not (tmp_path / "other").exists()


def test_files_of_one_name_are_told_apart(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "card.md").write_text("# card\n\nAnother card is stolen.\n", encoding="utf-8")
    assert run(folder, other, "--out", tmp_path / "index", "--words-only")["added"] == 3
    assert run(folder, other, "--out", tmp_path / "index", "--words-only")["unchanged"] == 3


def test_an_update_keeps_the_length_of_passages(folder: Path, tmp_path: Path) -> None:
    text = " ".join(f"Sentence number {i} is about the loan." for i in range(60))
    (folder / "long.md").write_text(text, encoding="utf-8")
    first = run(folder, "--out", tmp_path / "index", "--words-only", "--passage-words", "40")
    same = run(folder, "--out", tmp_path / "index", "--words-only", "--overlap", "0")
    assert (same["unchanged"], same["passages"]) == (3, first["passages"])
    overlapping = run(folder, "--out", tmp_path / "index", "--words-only", "--overlap", "20")
    assert overlapping["passages"] > first["passages"]  # type: ignore[operator]


class Said(Silent):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_passages_that_the_encoder_cuts_off_are_reported(folder: Path, tmp_path: Path, store: Store) -> None:
    encoder, said = write_encoder(tmp_path / "encoder"), Said()
    add_pooling(encoder, "mean_tokens", max_tokens=20)
    index_paths([folder], tmp_path / "index", str(encoder), store=store, reporter=said)
    assert not any("longer than the encoder reads" in line for line in said.lines)
    (folder / "long.md").write_text("The rate of my loan. " * 20, encoding="utf-8")
    index_paths([folder], tmp_path / "index", str(encoder), store=store, reporter=said)
    assert any("1 of 3 passages" in line and "encoder reads (20 tokens)" in line for line in said.lines)


def test_examples_among_the_documents_are_mentioned(folder: Path, tmp_path: Path, store: Store) -> None:
    (folder / "asked.jsonl").write_text('{"prompt": "Which card?", "references": ["My card."]}\n', encoding="utf-8")
    said = Said()
    made = index_paths([folder], tmp_path / "index", None, store=store, reporter=said)
    assert made.added == 2
    assert any("1 example is not indexed" in line for line in said.lines)


def test_an_index_by_words_stays_one(folder: Path, tmp_path: Path) -> None:
    run(folder, "--out", tmp_path / "index", "--words-only")
    again = run(folder, "--out", tmp_path / "index")
    assert (again["unchanged"], again["encoded"]) == (2, 0)


def test_an_update_that_would_remove_every_document_is_refused(folder: Path, tmp_path: Path) -> None:
    run(folder, "--out", tmp_path / "index", "--words-only")
    more = tmp_path / "more"
    more.mkdir()
    (more / "fee.md").write_text("# fee\n\nThe fee abroad is pending.\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="None of the 2 documents of the index"):
        run(more, "--out", tmp_path / "index", "--words-only")
    assert run(folder, more, "--out", tmp_path / "index", "--words-only")["added"] == 1
    assert run(more, "--out", tmp_path / "index", "--words-only")["removed"] == 2


def test_a_damaged_index_of_a_served_folder_is_made_again(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, said = WordEncoder(), Said()
    monkeypatch.setattr("sizewise.datasets.indexing.encoders_at_hand", lambda *_: iter([("pkg:words", encoder)]))
    open_folder(folder, store, said)
    (vectors,) = store.home.glob("index/*/files-*/vectors.npy")
    vectors.write_bytes(vectors.read_bytes()[:-9])
    opened = open_folder(folder, store, said)
    assert opened.documents == 2
    assert opened.library.find("blocked card").hits
    assert any("is damaged" in line and "made again" in line for line in said.lines)
    documents = list(read_paths([folder]).documents)
    first = open_documents(lambda: documents, "data-1", store)
    for path in store.home.glob("index/*/files-*/vectors.npy"):
        path.write_bytes(path.read_bytes()[:-9])
    assert open_documents(lambda: documents, "data-1", store).state == first.state


def test_a_document_that_cannot_be_read_now_stays_in_the_index(folder: Path, tmp_path: Path) -> None:
    (folder / "fee.html").write_text("<p>The fee abroad is pending.</p>", encoding="utf-8")
    run(folder, "--out", tmp_path / "index", "--words-only")
    (folder / "fee.html").write_bytes(b"\0\0 broken")
    with pytest.raises(SizewiseError, match=r"fee\.html is in the index .* couldn't be read now"):
        run(folder, "--out", tmp_path / "index")
    assert run(folder, "--out", tmp_path / "index", "--words-only", "--rebuild")["added"] == 2
    (folder / "fee.html").unlink()
    assert run(folder, "--out", tmp_path / "index")["unchanged"] == 2


def test_parts_of_what_cannot_be_read_now_stay_in_the_index(folder: Path, tmp_path: Path) -> None:
    (folder / "C# notes.html").write_text("<p>Notes on the loan.</p>", encoding="utf-8")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("lamp.md", "# lamp\n\nThe lamp is bright.")
    run(folder, "--out", tmp_path / "index", "--words-only")
    whole = (folder / "more.zip").read_bytes()
    (folder / "more.zip").write_bytes(b"broken")
    with pytest.raises(SizewiseError, match=r"more\.zip/lamp\.md is in the index"):
        run(folder, "--out", tmp_path / "index")
    (folder / "more.zip").write_bytes(whole)
    (folder / "C# notes.html").write_bytes(b"\0\0 broken")
    with pytest.raises(SizewiseError, match=r"C# notes\.html is in the index"):
        run(folder, "--out", tmp_path / "index")
    (folder / "C# notes.html").unlink()
    (folder / "picture.xyz").write_bytes(b"\0")
    assert run(folder, "--out", tmp_path / "index")["removed"] == 1


def test_an_unread_table_that_is_no_document_does_not_hold_up_an_update(folder: Path, tmp_path: Path) -> None:
    (folder / "settings.json").write_bytes(b"\0 broken")
    run(folder, "--out", tmp_path / "index", "--words-only")
    (folder / "loan.md").unlink()
    assert run(folder, "--out", tmp_path / "index")["removed"] == 1


def test_a_table_of_documents_that_cannot_be_read_now_keeps_them(folder: Path, tmp_path: Path) -> None:
    table = folder / "more.jsonl"
    table.write_text('{"id": "lamps", "text": "The lamp is bright and warm."}\n', encoding="utf-8")
    run(folder, "--out", tmp_path / "index", "--words-only")
    table.write_bytes(b"\0 broken")
    with pytest.raises(SizewiseError, match="lamps is in the index"):
        run(folder, "--out", tmp_path / "index")
