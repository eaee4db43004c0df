"""Tests of the structure of PDF: headings, tables of contents, running headers of chapters, sentences over pages."""

from __future__ import annotations

from sizewise.documents.chapters import headings_of
from sizewise.documents.contents_lists import without_contents
from sizewise.documents.worker import convert_bytes
from tests.documents.builders import pdf

CHAPTERS = (
    "Harbor dues",
    "Mooring of small boats",
    "Waste and bilge water",
    "Winter storage",
    "Complaints",
    "Lost keys",
)
BODY = "Boats leave by noon, and the master of the harbor keeps the list of all berths that are free."
Place = tuple[int, int, str]


def pages_of(chapters: tuple[str, ...] = CHAPTERS, each: int = 1) -> list[list[Place]]:
    return [
        [(40, 700, f"{number} {title}") if part == 0 else (40, 760, f"Chapter {number}. {title}"),
         *((40, 640 - 40 * line, f"{BODY} Rule {number}.{part}.{line}.") for line in range(6))]
        for number, title in enumerate(chapters, start=1)
        for part in range(each)
    ]  # fmt: skip


def text_of(data: bytes) -> str:
    return convert_bytes(data, ".pdf").parts[0].text


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def test_titles_of_the_outline_are_headings() -> None:
    outline = [(title, number) for number, title in enumerate(CHAPTERS)]
    text = text_of(pdf(pages_of(), outline=outline))
    assert headings(text) == [f"# {number} {title}" for number, title in enumerate(CHAPTERS, start=1)]


def test_an_outline_that_says_something_else_is_not_used() -> None:
    assert headings(text_of(pdf(pages_of(), outline=[("Slide 1", 0), ("Slide 2", 1)]))) == []


def test_large_type_makes_headings() -> None:
    large = [f"{number} {title}" for number, title in enumerate(CHAPTERS, start=1)]
    assert headings(text_of(pdf(pages_of(), large=large))) == [f"# {title}" for title in large]


def test_large_type_within_a_paragraph_or_everywhere_makes_none() -> None:
    paragraph = [(40, 700, "The sum of all berths that the"), (40, 682, "harbor has is given by"), (40, 664, "a list.")]
    pages = [[*paragraph, *((40, 600 - 40 * line, f"{BODY} {line}") for line in range(9))]]
    assert headings(text_of(pdf(pages, large=[paragraph[0][2]]))) == []
    assert headings(text_of(pdf(pages_of(), large=[text for page in pages_of() for *_, text in page]))) == []


def test_a_table_of_contents_with_dots_is_left_out() -> None:
    rows = [(40, 700 - 20 * number, f"{number} {title}") for number, title in enumerate(CHAPTERS, start=1)]
    dots = [(x, y, ".") for _, y, _ in rows for x in range(220, 500, 12)]
    numbers = [(520, y, str(2 * number)) for number, (_, y, _) in enumerate(rows, start=1)]
    text = text_of(pdf([[*rows, *dots, *numbers], *pages_of()]))
    assert "...." in text.splitlines()[0]
    text, left_out = without_contents(text)
    assert left_out == len(CHAPTERS)
    assert text.startswith("1 Harbor dues\n")
    assert not any(set(line) <= set(". ") for line in text.splitlines() if line)


def test_the_running_header_of_a_chapter_is_left_out_though_few_pages_have_it() -> None:
    text = text_of(pdf(pages_of(each=4)))
    assert "Chapter 2. Mooring" not in text
    assert "2 Mooring of small boats" in text


def test_a_sentence_that_goes_on_over_the_page_stays_whole() -> None:
    pages = [
        [(40, 700, BODY), (40, 60, "The dues are paid in")],
        [(40, 700, "the office of the harbor."), (40, 600, BODY)],
    ]
    assert "The dues are paid in\nthe office of the harbor." in text_of(pdf(pages))
    pages[1][0] = (40, 700, "The office is closed.")
    assert "paid in\n\nThe office" in text_of(pdf(pages))


def test_a_list_of_prices_is_no_table_of_contents() -> None:
    prices = "\n".join(f"{name} ........ {price}" for name, price in zip(CHAPTERS, (5, 7, 9, 12, 30, 31), strict=True))
    assert without_contents(f"{prices}\n\n{BODY}") == (f"{prices}\n\n{BODY}", 0)


def test_contents_of_a_text_file_with_titles_on_two_lines_and_roman_numbers() -> None:
    rows = ["Preface ........ iv", "1. Harbor dues ..... 1", "2. Mooring of small", "   boats ......... 3",
            "3. Waste ..... 4", "  3.1 Bilge water ..... 5", "4. Winter ...... 9", "5 Complaints 12"]  # fmt: skip
    body = "\n\n".join(
        f"{title}\n\n{BODY}" for title in ("Preface", "1. Harbor dues", "3. Waste", "3.1 Bilge water", "4. Winter")
    )
    text, left_out = without_contents("Rules\n\nContents\n\n" + "\n".join(rows) + "\n\n" + body)
    assert (left_out, text) == (len(rows), f"Rules\n\nContents\n\n{body}")


def test_a_list_of_links_to_headings_is_left_out_and_another_list_stays() -> None:
    titles = "\n".join(f"- {number}. {title}" for number, title in enumerate(CHAPTERS, start=1))
    body = "\n\n".join(f"## {number}. {title}\n\n{BODY}" for number, title in enumerate(CHAPTERS, start=1))
    assert without_contents(f"# Rules\n\n{titles}\n\n{body}") == (f"# Rules\n\n{body}", len(CHAPTERS))
    other = "\n".join(f"- {title} are free" for title in CHAPTERS)
    assert without_contents(f"# Rules\n\n{other}\n\n{body}")[1] == 0
    assert len(headings_of(body)) == len(CHAPTERS)
