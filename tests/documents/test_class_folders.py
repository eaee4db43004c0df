"""Folders that are classes, and folders of documents that aren't."""

from __future__ import annotations

from pathlib import Path

from sizewise.documents import Reading, ReadOptions, read_paths


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def labels(reading: Reading) -> dict[str, str]:
    return {example.id: example.label for example in reading.examples}


def test_folders_with_the_names_of_classes_are_classes(tmp_path: Path) -> None:
    found = read_paths([write(tmp_path, {"spam/1.txt": "Win", "ham/1.txt": "Lunch?", "README.md": "About"})])
    assert labels(found) == {"spam/1.txt": "spam", "ham/1.txt": "ham"}
    assert any("whose label is its folder" in note for note in found.notes)


def test_short_messages_in_folders_and_splits_are_classes(tmp_path: Path) -> None:
    messages = {f"{name}/{i}.txt": f"{name} question {i}" for name in ("billing", "delivery") for i in range(10)}
    assert len(labels(read_paths([write(tmp_path / "short", messages)]))) == 20
    split = {f"{part}/{name}/1.txt": "word " * 400 for part in ("train", "test") for name in ("sports", "politics")}
    found = read_paths([write(tmp_path / "split", split)])
    assert {example.split for example in found.examples} == {"train", "test"}


def test_documents_in_folders_stay_documents_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    files = {f"{name}/{i}.txt": f"{name} terms of contract {i} " * 100 for name in ("2023", "2024") for i in range(12)}
    found = read_paths([write(tmp_path, files)])
    assert len(found.documents) == 24
    assert any("--label folder" in note for note in found.notes)
    assert len(read_paths([tmp_path], ReadOptions(label="folder")).examples) == 24


def test_a_text_beside_the_folders_makes_them_ordinary(tmp_path: Path) -> None:
    found = read_paths([write(tmp_path, {"pos/1.txt": "Good", "neg/1.txt": "Bad", "chapter.txt": "Once upon a time"})])
    assert len(found.documents) == 3
    assert not found.examples


def test_few_files_beside_folders_of_classes_are_named_in_the_advice(tmp_path: Path) -> None:
    """The layout of a well-known set of reviews: a list of words lies beside train/pos, train/neg and test/pos."""
    files = {
        f"{part}/{name}/{i}.txt": f"film {i}" for part in ("train", "test") for name in ("pos", "neg") for i in range(9)
    }
    found = read_paths([write(tmp_path, {**files, "words.vocab": "the", "train/urls.txt": "a"})])
    assert len(found.documents) == 37
    (advice,) = (note for note in found.notes if "--label folder" in note)
    assert "words.vocab" in advice
    assert len(read_paths([tmp_path], ReadOptions(label="folder")).examples) == 36


def test_an_empty_file_of_a_class_is_noted(tmp_path: Path) -> None:
    found = read_paths([write(tmp_path, {"pos/1.txt": "Good", "neg/1.txt": " \n"})])
    assert list(labels(found)) == ["pos/1.txt"]
    assert "neg/1.txt: skipped, it has no text" in found.notes
