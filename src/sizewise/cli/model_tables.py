"""Print models: the members of a family, models side by side, what appeared, and proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sizewise.cli.output import (
    print_csv,
    print_line,
    print_notes,
    print_object,
    print_points,
    print_side_by_side,
    print_table,
)

if TYPE_CHECKING:
    from sizewise.models.resolving import Found
    from sizewise.records import CatalogModel, NewModel, Proposal, SideBySide


def price_text(model: CatalogModel) -> str:
    """Format the list prices of a model; two providers at different prices are both shown."""
    from sizewise.models.identity import identify
    from sizewise.models.resolving import is_retired

    if is_retired(model):
        return f"shut down on {model.retires_on}"
    prices = identify(model.uri).prices
    if not prices:
        return "-"
    first, last = prices[0], prices[-1]
    text = f"{first.input_usd:.3g} in, {first.output_usd:.3g} out"
    if (first.input_usd, first.output_usd) != (last.input_usd, last.output_usd):
        text = f"{text} ({first.provider}) to {last.input_usd:.3g} in, {last.output_usd:.3g} out ({last.provider})"
    return text + (f"; ends on {model.retires_on}" if model.retires_on else "")


def size_text(model: CatalogModel) -> str:
    """Format the published number of parameters in billions."""
    size = f"{model.parameters / 1e9:,.3g}" if model.parameters else "not published"
    return size + (f" ({model.active_parameters / 1e9:,.3g} active)" if model.active_parameters else "")


def print_members(found: Found, as_json: bool, as_csv: bool) -> None:
    """Print the models that a name may mean: the current ones first, models that were shut down last."""
    from sizewise.models.resolving import find_family, is_retired

    family = find_family(found.family) if found.family else None
    current = family.current if family is not None else ()
    if as_json:
        models = [model.model_dump(mode="json") | {"current": model.name in current, "retired": is_retired(model)}
                  for model in found.members]  # fmt: skip
        record: dict[str, Any] = {"asked": found.asked, "family": found.family, "models": models}
        record["source"] = {"url": family.source, "seen": family.seen} if family is not None else None
        print_object("family", found.family or None, None, record, as_json)
        return
    headings = ["model", "parameters (billions)", "context", "USD per 1M tokens", "state"]
    rows = [
        [
            model.name,
            size_text(model),
            f"{model.context:,}" if model.context else "unknown",
            price_text(model),
            "shut down" if is_retired(model) else "current" if model.name in current else "",
        ]
        for model in found.members
    ]
    if print_csv(headings, rows, as_csv):
        return
    if family is not None:
        print_line(f"{family.name} ({family.maker}): {len(rows)} models are known, the current ones first.")
        print_line(f"current: {family.source} ({family.seen})\n", "  ")
    elif len(rows) == 1:
        print_line(f"'{found.asked}' isn't known; this model is similar.\n")
    else:
        print_line(f"'{found.asked}' may be any of these {len(rows)} models.\n")
    print_table(headings, rows)
    print_line(f"\nFacts of one: sizewise models {found.members[0].name}")
    if len(rows) > 1:
        print_line(f"Side by side: sizewise models {' '.join(model.name for model in found.members[:2])}")


def print_models(record: SideBySide, as_json: bool, as_csv: bool) -> None:
    """Print models side by side; numbers in brackets refer to the sources below."""
    from sizewise.report.model_page import CSV_HEADINGS, cell_text, csv_rows, groups_of

    if print_object("side_by_side", None, None, record, as_json) or print_csv(CSV_HEADINGS, csv_rows(record), as_csv):
        return
    sources: dict[str, int] = {}
    names = [model.name + (" (shut down)" if model.retired else "") for model in record.models]
    for group in groups_of(record):
        rows = []
        for row in group.rows:
            cells = [row.title]
            for cell in row.cells:
                where = f"{cell.source}, {cell.as_of or 'no date'}" + ("; not read" if cell.unverified else "")
                mark = f" ({sources.setdefault(where, len(sources) + 1)})" if cell.source else ""
                cells.append(cell_text(cell) + mark)
            rows.append(cells)
        print_line("")
        print_side_by_side([group.name, *names], rows)
        for note in dict.fromkeys(row.note for row in group.rows if row.note):
            print_line(f"{', '.join(row.title for row in group.rows if row.note == note)}: {note}", "  ")
    print_points("Sources", (f"({number}) {source}" for source, number in sources.items()))
    if record.notes:
        print_line("")
        print_notes(record.notes)


def print_new(found: Sequence[NewModel], since: str, as_json: bool, as_csv: bool) -> None:
    """Print the models that appeared since a day, and the stored studies that they might change."""
    if as_json:
        record = {"since": since, "models": [model.model_dump(mode="json") for model in found]}
        print_object("new_models", None, None, record, as_json)
        return
    headings = ["model", "maker", "appeared", "USD per 1M tokens", "studies it might change"]
    rows = [[one.name, one.maker, one.appeared, one.price or "-", ", ".join(one.studies) or "-"] for one in found]
    if print_csv(headings, rows, as_csv):
        return
    if not found:
        print_line(f"No model with a known day appeared since {since}. Newer lists: sizewise models --refresh")
        return
    print_table(headings, rows)
    reasons = [f"{study}: {one.name} {why}" for one in found for study, why in one.studies.items()]
    print_points("Studies that these models might change", sorted(reasons))
    print_line("\nModels whose day isn't known are left out; a refresh dates those that appear after it.")
    print_points("Days", dict.fromkeys(f"{one.name}: {one.basis}" for one in found))


def print_proposals(found: Sequence[Proposal], as_json: bool, as_csv: bool) -> None:
    """Print candidates to try; nothing about their quality on the user's work is known."""
    if as_json:
        print_object("proposals", None, None, {"proposals": [one.model_dump(mode="json") for one in found]}, as_json)
        return
    headings = ["candidate", "memory (GB)", "training (min)", "USD per 1,000", "possible here", "quality"]
    rows = [
        [
            one.name,
            f"{one.memory_bytes / 1e9:.2g}" if one.memory_bytes else "-",
            f"{one.minutes.lower:.0f} to {one.minutes.upper:.0f}" if one.minutes else "-",
            f"{one.usd_per_1000.lower:.2g} to {one.usd_per_1000.upper:.2g}" if one.usd_per_1000 else "-",
            "no" if one.blockers else "yes",
            one.evidence,
        ]
        for one in found
    ]
    if print_csv(headings, rows, as_csv):
        return
    print_table(headings, rows)
    print_points("Why", (f"{one.name}: {'; '.join(one.reasons)}" for one in found))
    print_points("Not as things are", (f"{one.name}: {'; '.join(one.blockers)}" for one in found if one.blockers))
    print_line("\nThese are proposals from published facts and this machine. A study measures them on your work:")
    print_line("sizewise init --domain DOMAIN; then sizewise study")
