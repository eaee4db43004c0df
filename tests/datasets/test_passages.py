from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sizewise.datasets import build, passages, read
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.store import Store


def test_derived_examples_of_copied_passages_are_contaminated_in_any_script() -> None:
    copied = (
        "读者进入本馆须出示借阅证并将随身物品存放在入口处的储物柜中每人每次最多可借阅五册图书借期为三十天到期可续借一次"
    )
    texts = [f"{copied[: 4 + 2 * i]}{chr(0x4E00 + i)}{copied[4 + 2 * i :]}" for i in range(20)]
    documents = tuple(make_document(f"d{i}", "", text, "test") for i, text in enumerate(texts))
    contents = build([Reading(documents)], ["x"], None, "general", 0)
    assert len(contents.examples["test"]) == 4
    assert contents.examples["test"][0].references[0] in contents.documents["test"][0].text
    assert not any(entry.uncontaminated for entry in contents.contamination_entries.values())


def test_without_examples_they_are_derived_with_a_note(text_folder: Path, store: Store) -> None:
    record = read([text_folder], store=store).record
    assert record.derived
    assert any("familiarity" in note for note in record.notes)
    assert record.splits["test"].examples > 0


@given(st.text(alphabet="ab \n", max_size=80))
def test_passages_cover_the_text(text: str) -> None:
    document = make_document("d", "", text, "test")
    spans = passages(document)
    assert "".join(text[span.start : span.end] for span in spans) == text
