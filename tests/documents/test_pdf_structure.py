"""Tests of the structure of PDF: headings, tables of contents, running headers of chapters, sentences over pages."""

from __future__ import annotations

import time

import pytest

from sizewise.documents.chapters import headings_of
from sizewise.documents.contents_lists import without_contents
from sizewise.documents.pdf_layout import joined
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
    text = text_of(pdf([[(40, 740, "Contents"), *rows, *dots, *numbers], *pages_of()]))
    assert text.splitlines()[1] == "1 Harbor dues .... 2"
    text, left_out = without_contents(text)
    assert left_out == len(CHAPTERS)
    assert text.startswith("Contents\n\n1 Harbor dues\n")
    assert not any(set(line) <= set(". ") for line in text.splitlines() if line)


def test_the_running_header_of_a_chapter_is_left_out_though_few_pages_have_it() -> None:
    outline = [(title, 4 * number) for number, title in enumerate(CHAPTERS)]
    text = text_of(pdf(pages_of(each=4), outline=outline))
    assert "Chapter 2. Mooring" not in text
    assert "# 2 Mooring of small boats" in text


def test_a_sentence_that_goes_on_over_the_page_stays_whole() -> None:
    pages = [
        [(40, 700, BODY), (40, 60, "The dues are paid in")],
        [(40, 700, "the office of the harbor."), (40, 600, BODY)],
    ]
    assert "The dues are paid in the office of the harbor." in text_of(pdf(pages))
    pages[1:1] = [[(40, 400, "the office, in")]]
    assert "The dues are paid in the office, in the office of the harbor." in text_of(pdf(pages))
    pages[1:3] = [pages[2]]
    pages[1][0] = (40, 700, "The office is closed.")
    assert "paid in\n\nThe office" in text_of(pdf(pages))


def test_rows_that_are_not_below_stay_after_a_table_of_contents() -> None:
    rows = "\n".join(f"{title} ........ {2 * number}" for number, title in enumerate(CHAPTERS, start=1))
    body = "\n\n".join(f"{title}\n\n{BODY}" for title in CHAPTERS)
    text, left_out = without_contents(f"Inhalt\n\n{rows}\nHotline ........ 4711\n\n{body}")
    assert left_out == len(CHAPTERS)
    assert text.startswith("Inhalt\n\nHotline ........ 4711\n\nHarbor dues")


def test_sorted_prices_of_things_named_again_below_stay() -> None:
    dishes = [("Soup", 6), ("Salad", 9), ("Fish", 18), ("Steak", 24), ("Lobster", 39)]
    menu = "\n".join(f"{dish} ........ {price}" for dish, price in dishes)
    text = f"{menu}\n\nAllergens\n\n" + "\n".join(f"{dish}\nmilk" for dish, _ in dishes)
    assert without_contents(text) == (text, 0)


def test_what_a_list_of_headings_says_besides_stays() -> None:
    box = ["Camera body", "Battery", "Charger", "Strap", "Manual"]
    body = "\n\n".join(f"## {one}\n\n{BODY}" for one in box)
    listed = "\n".join(f"- {one}" for one in [*box, "Voucher of 20 EUR for prints"])
    assert without_contents(f"In the box:\n\n{listed}\n\n{body}")[1] == 0
    text, left_out = without_contents(f"Contents\n\n{listed}\n\n{body}")
    assert left_out == len(box)
    assert "- Voucher of 20 EUR for prints" in text


def test_many_titles_and_tables_take_no_time() -> None:
    began = time.process_time()
    run = "Contents\n\n" + "\n".join(f"a{i} ..... {i}" for i in range(5)) + "\n\nx x\ny y\nz z\n"
    without_contents(run * 5_000)
    assert time.process_time() - began < 10  # seconds


def test_long_rows_of_dots_and_tabs_take_no_time() -> None:
    began = time.process_time()
    for line in ("a" + "\t" * 190 + "x1", "a" + "\t " * 95 + "x1", "a" + " ." * 95 + "x1"):
        without_contents("\n".join([line] * 3_000))
    run = "\n".join(f"a{i} ..... {i}" for i in range(5)) + "\n\nx x\ny y\nz z\n"
    without_contents(run * 1_000)
    assert time.process_time() - began < 10  # seconds; it took minutes


def test_numbers_that_neither_repeat_nor_count_pages_stay_in_the_margin() -> None:
    totals = (150, 75, 998, 12, 430, 61)
    pages = [[(40, 750, f"Harbor office, page {n + 1}"), (40, 600, BODY), (40, 50, f"Total: {total} EUR")]
             for n, total in enumerate(totals)]  # fmt: skip
    text = text_of(pdf(pages))
    assert "Harbor office" not in text
    assert all(f"Total: {total} EUR" in text for total in totals)


def test_what_recurs_in_the_margin_stays_elsewhere_on_the_page() -> None:
    pages = [[(40, 760, "Status"), (40, 600, BODY), (40, 500, "Status"), (40, 420, str(n + 1)), (300, 30, str(n + 1))]
             for n in range(4)]  # fmt: skip
    lines = text_of(pdf(pages)).splitlines()
    assert lines.count("Status") == 4
    assert [line for line in lines if line.isdigit()] == ["1", "2", "3", "4"]


def test_a_line_on_some_pages_is_no_running_header() -> None:
    pages = [[(40, 760, "Roadmap" if n in (1, 2, 3) else f"Slide on {n * 'x'}"), (40, 600, BODY)] for n in range(9)]
    assert text_of(pdf(pages)).count("Roadmap") == 3


def test_ratings_and_two_columns_are_not_read_as_rows_of_contents() -> None:
    page = [(40, 700 - 20 * n, f"Easy .....  {BODY[:30]}") for n in range(8)]
    assert text_of(pdf([page])).count("Easy .....") == 8


def test_lines_that_wrap_are_joined_and_those_of_an_address_or_a_list_are_not() -> None:
    wrapped = [(40, 700, f"{BODY} It opens"), (40, 686, "early, and closes late. Then it is dark.")]
    address = [
        (40, 600, "Harbor office of the town of Lower Quay"),
        (40, 586, "12 Long Street"),
        (40, 572, "Lower Quay"),
    ]
    items = [
        (40, 500, "- boats of more than twelve meters, with a crew"),
        (40, 486, "- boats of less than twelve meters"),
    ]
    wide = [(40, 400 - 40 * n, f"{BODY} At noon.") for n in range(6)]
    text = text_of(pdf([[*wrapped, *address, *items, *wide]]))
    assert f"{BODY} It opens early, and closes late. Then it is dark." in text
    assert "Lower Quay\n12 Long Street\nLower Quay" in text
    assert "with a crew\n- boats" in text


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ((("The harbor", True), ("is open.", False), ("Ask us.", False)), "The harbor is open.\nAsk us."),
        (
            (("\u6e2f\u53e3\u958b\u653e", True), ("\u65f6\u95f4\u3002", False)),
            "\u6e2f\u53e3\u958b\u653e\u65f6\u95f4\u3002",
        ),
        (
            (("\u0e17\u0e48\u0e32\u0e40\u0e23\u0e37\u0e2d", True), ("\u0e40\u0e1b\u0e34\u0e14", False)),
            "\u0e17\u0e48\u0e32\u0e40\u0e23\u0e37\u0e2d\u0e40\u0e1b\u0e34\u0e14",
        ),
        ((("Open in \u6e2f", True), ("city", False)), "Open in \u6e2f city"),
    ],
)
def test_lines_are_joined_as_their_script_wants(lines: tuple[tuple[str, bool], ...], text: str) -> None:
    assert joined(lines) == text


def test_what_a_margin_says_of_a_chapter_only_once_stays() -> None:
    pages = [*pages_of(("Harbor dues", "Kayak")), [(40, 700, BODY), (40, 50, "EUR 20 Kayak")], [(40, 700, BODY)]]
    assert "EUR 20 Kayak" in text_of(pdf(pages, outline=[("Harbor dues", 0), ("Kayak", 1)]))


def test_a_title_is_not_joined_across_a_table_and_prompts_are_no_headings() -> None:
    rules = "\n".join(
        [f"40 {y} m 340 {y} l S" for y in (600, 620, 640)] + [f"{x} 600 m {x} 640 l S" for x in (40, 140, 340)]
    )
    cells = [(50, 626, "North"), (150, 626, "12"), (50, 606, "South"), (150, 606, "15")]
    page = [(40, 660, "Prices"), *cells, (40, 580, "of the year 2024"), (40, 500, "# make install")]
    text = text_of(pdf([page], rules, outline=[("Prices of the year 2024", 0)]))
    assert "of the year 2024" in text
    assert headings(text) == []
    assert "\\# make install" in text


def test_titles_that_follow_each_other_are_headings_each() -> None:
    page = [(40, 700, "Alpha part"), (40, 686, "Beta part"), (40, 640, BODY)]
    outline = [("Alpha part", 0), ("Beta part", 0)]
    assert headings(text_of(pdf([page], outline=outline))) == ["# Alpha part", "# Beta part"]


def test_a_heading_on_two_lines_is_one_and_single_letters_or_figures_are_none() -> None:
    large = ["On the mooring of boats", "and of their tenders", "O", "5 M"]
    page = [(40, 720, large[0]), (40, 702, large[1]), (300, 500, "O"), (300, 400, "5 M"),
            *((40, 640 - 40 * line, f"{BODY} {line}") for line in range(9))]  # fmt: skip
    assert headings(text_of(pdf([page], large=large))) == ["# On the mooring of boats and of their tenders"]


def test_the_lines_of_an_invoice_with_small_print_are_no_headings() -> None:
    names = ["Customer", "Amount due", "Account of the office", "Due on the last day", "Thank you"]
    page = [(40, 700 - 40 * n, name) for n, name in enumerate(names)]
    page += [(40, 420 - 40 * n, f"{BODY} {n}") for n in range(9)]
    assert headings(text_of(pdf([page], large=names))) == []


def test_a_list_of_prices_is_no_table_of_contents() -> None:
    prices = "\n".join(f"{name} ........ {price}" for name, price in zip(CHAPTERS, (5, 7, 9, 12, 30, 31), strict=True))
    assert without_contents(f"{prices}\n\n{BODY}") == (f"{prices}\n\n{BODY}", 0)


def test_contents_of_a_text_file_with_titles_on_two_lines_and_roman_numbers() -> None:
    rows = ["Preface ........ iv", "1. Harbor dues ..... 1", "2. Mooring of small", "   boats ......... 3",
            "3. Waste ..... 4", "  3.1 Bilge water ..... 5", "4. Winter ...... 9", "5 Complaints 12"]  # fmt: skip
    titles = ["Preface", "1. Harbor dues", "2. Mooring of\nsmall boats", "3. Waste", "3.1 Bilge water", "4. Winter"]
    body = "\n\n".join(f"{title}\n\n{BODY}" for title in [*titles, "5 Complaints"])
    text, left_out = without_contents("Rules\n\nContents\n\n" + "\n".join(rows) + "\n\n" + body)
    assert (left_out, text) == (len(rows), f"Rules\n\nContents\n\n{body}")


def test_a_list_of_links_to_headings_is_left_out_and_another_list_stays() -> None:
    titles = "\n".join(f"- {number}. {title}" for number, title in enumerate(CHAPTERS, start=1))
    body = "\n\n".join(f"## {number}. {title}\n\n{BODY}" for number, title in enumerate(CHAPTERS, start=1))
    contents = f"# Rules\n\n## Table of contents\n\n{titles}\n\n{body}"
    assert without_contents(contents) == (f"# Rules\n\n## Table of contents\n\n{body}", len(CHAPTERS))
    assert without_contents(f"# Rules\n\nForbidden:\n\n{titles}\n\n{body}")[1] == 0
    other = "\n".join(f"- {title} are free" for title in CHAPTERS)
    assert without_contents(f"# Rules\n\n{other}\n\n{body}")[1] == 0
    assert len(headings_of(body)) == len(CHAPTERS)
