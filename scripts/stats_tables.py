"""Write the tables of docs/explanation/statistics.md from benchmarks/results/stats.json, and the page of all cells.

python scripts/stats_tables.py     update the tables
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "stats.json"
PAGE = ROOT / "docs" / "explanation" / "statistics.md"
Row = dict[str, Any]
SIZES = ((8, 12), (13, 50), (51, 200), (201, 10**9))
"""Ranges of the number of clusters."""
INTERVALS = (("score", "score"), ("difference", "no difference"), ("true_difference", "true difference"))
PEOPLE = (3, 4, 5, 6, 10, 50)


def begin(name: str) -> str:
    """Return the marker before a table."""
    return f"<!-- table {name}: written by scripts/stats_tables.py -->"


END = "<!-- end of table -->"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(share: float | None) -> str:
    """Write a share."""
    return "-" if share is None else f"{100 * share:.1f} %"


def span(shares: Sequence[float]) -> str:
    """Write the smallest and the largest of several shares."""
    if not shares:
        return "-"
    return percent(shares[0]) if len(shares) == 1 else f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %"


def size_name(size: tuple[int, int]) -> str:
    """Name a range of clusters."""
    return f"more than {size[0] - 1} clusters" if size[1] > 10**6 else f"{size[0]} to {size[1]} clusters"


def within(row: Row, size: tuple[int, int]) -> bool:
    """Return whether the clusters of a cell lie in a range."""
    return size[0] <= int(row["clusters"]) <= size[1]


def by_kind(rows: Sequence[Row], cell: Callable[[Sequence[Row]], str]) -> str:
    """Write a table of kinds of data by number of clusters."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = [
        [kind, *(cell([row for row in rows if row["kind"] == kind and within(row, size)]) for size in SIZES)]
        for kind in kinds
    ]
    return table(["Data", *map(size_name, SIZES)], lines)


def false_claims(rows: Sequence[Row]) -> str:
    """Write how often two equal candidates are called different."""
    return by_kind(parts(rows, "pairs"), lambda found: span([row["false_claims"] / row["runs"] for row in found]))


def families(rows: Sequence[Row]) -> str:
    """Write how often any pair of many equal candidates is called different."""
    found = parts(rows, "families")
    counts = sorted({row["candidates"] for row in found})
    kinds = list(dict.fromkeys(row["kind"] for row in found))
    lines = [
        [
            kind,
            *(
                span([
                    row["false_claims"] / row["runs"]
                    for row in found
                    if (row["kind"], row["candidates"]) == (kind, count) and row["too_few"] < row["runs"]
                ])
                for count in counts
            ),
        ]
        for kind in kinds
    ]  # fmt: skip
    return table(["Data", *(f"{count} candidates" for count in counts)], lines)


def peeking(rows: Sequence[Row]) -> str:
    """Write how often a test after every document calls equal candidates different."""
    lines = [
        [row["kind"], f"{row['clusters']:,}", str(row["candidates"]), percent(row["false_claims"] / row["runs"])]
        for row in parts(rows, "peeking")
    ]
    return table(["Data", "Documents", "Candidates", "False claims at any time"], lines)


def coverage(rows: Sequence[Row], name: str) -> str:
    """Write how often intervals hold the truth."""
    return by_kind(
        parts(rows, "pairs"),
        lambda found: span([row[name]["covered"] / row[name]["n"] for row in found if row[name]["n"]]),
    )


def widths(rows: Sequence[Row]) -> str:
    """Write the width of intervals, relative to the narrowest valid reference method."""

    def cell(found: Sequence[Row]) -> str:
        ratios = sorted(
            row[name]["ratio"] for row in found for name in ("score", "difference") if row[name].get("ratio")
        )
        return f"{ratios[len(ratios) // 2]:.2f} (at most {ratios[-1]:.2f})" if ratios else "-"

    return by_kind(parts(rows, "pairs"), cell)


def too_few(rows: Sequence[Row]) -> str:
    """Write how often comparisons end as "too few to decide"."""
    found = parts(rows, "pairs")
    lines = [
        [f"{clusters:,}", span([row["too_few"] / row["runs"] for row in found if row["clusters"] == clusters])]
        for clusters in sorted({row["clusters"] for row in found})
    ]
    return table(["Clusters", "Too few to decide"], lines)


def power(rows: Sequence[Row]) -> str:
    """Write how often a difference of the stated size is found."""
    lines = []
    for row in parts(rows, "power"):
        found = percent(row["found"] / row["runs"])
        claims = (str(row["candidates"]), str(row.get("metrics", 1)))
        size = f"{row['items']:,} in {row['clusters']:,}"
        lines.append([row["kind"], size, *claims, f"{row['stated']:.3g}", found])
    return table(["Data", "Items in clusters", "Candidates", "Metrics", "Stated difference", "Found"], lines)


def votes(rows: Sequence[Row]) -> str:
    """Write how often intervals of win rates hold the truth."""
    found = parts(rows, "votes")
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in found):
        for documents in sorted({row["clusters"] for row in found}):
            cells = [
                row["rate"] for raters in PEOPLE for row in found
                if (row["kind"], row["clusters"], row["raters"]) == (kind, documents, raters)
            ]  # fmt: skip
            if len(cells) < len(PEOPLE):
                continue
            ours = [percent(one["covered"] / one["n"]) for one in cells]
            lines.append([kind, str(documents), *ours, span([one["references"]["Wilson"] for one in cells])])
    heads = ["Truth", "Documents", *(f"{raters} raters" for raters in PEOPLE), "Wilson, votes as independent"]
    return table(heads, lines)


def missed(result: dict[str, Any]) -> str:
    """List the cells that miss a promise."""
    lines = [
        f"- {promise}: {len(found)} of {len(result['cells'])} cells" + "".join(f"\n    - {one}" for one in found[:20])
        for promise, found in result["missed"].items()
        if found
    ]
    return "\n".join(lines) or "None."


def parts(rows: Sequence[Row], part: str) -> list[Row]:
    """Return the cells of one part."""
    return [row for row in rows if row["part"] == part]


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Write all tables."""
    rows = result["cells"]
    found = {"false-claims": false_claims(rows), "families": families(rows), "peeking": peeking(rows)}
    found |= {f"coverage-{name.replace('_', '-')}": coverage(rows, name) for name, _ in INTERVALS}
    found |= {"widths": widths(rows), "too-few": too_few(rows), "power": power(rows), "votes": votes(rows)}
    return found | {"missed": missed(result)}


def updated(page: str, result: dict[str, Any]) -> str:
    """Replace the tables of a page."""
    for name, text in tables(result).items():
        before, marker, rest = page.partition(begin(name))
        if marker:
            page = f"{before}{marker}\n\n{text}\n\n{END}{rest.partition(END)[2]}"
    return page


def cells_page() -> str:
    """Write the page of all cells."""
    if not RESULT.exists():
        return "# Statistics: all cells\n\nNot measured yet: run `make bench-stats`.\n"
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    lines = []
    for row in result["cells"]:
        figures = [
            percent(row[name]["covered"] / row[name]["n"]) if row.get(name, {}).get("n") else "-"
            for name in ("score", "difference", "true_difference")
        ]
        ratios = [
            f"{row[name]['ratio']:.2f}" if row.get(name, {}).get("ratio") else "-" for name in ("score", "difference")
        ]
        claims = percent(row["false_claims"] / row["runs"]) if "false_claims" in row else "-"
        few = percent(row["too_few"] / row["runs"]) if "too_few" in row else "-"
        sizes = "equal" if row["equal"] else "unequal"
        who = f"{row['raters']} raters" if "raters" in row else str(row["candidates"])
        lines.append(
            [row["part"], row["kind"], f"{row['items']:,}", f"{row['clusters']:,} ({sizes})", f"{row['icc']:g}", who,
             claims, few, *figures, *ratios]
        )  # fmt: skip
    heads = ["Part", "Data", "Items", "Clusters", "ICC", "Candidates", "False claims", "Too few to decide"]
    heads += ["Coverage: score", "no difference", "true difference", "Width: score", "difference"]
    runs, commit = result["runs"], result["commit"]
    return (
        f"# Statistics: all cells\n\n{runs:,} comparisons in each cell; commit {commit}. "
        f"[What the columns mean](../explanation/statistics.md).\n\n{table(heads, lines)}\n"
    )


def main() -> None:
    """Update the tables."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
