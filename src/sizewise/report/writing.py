"""Write a study's report: one HTML file that needs no network, and the same in Markdown."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sizewise.errors import MissingExtraError
from sizewise.metrics import find_metric
from sizewise.records import Checkpoint, ItemRow
from sizewise.report.plots import Plot, curve_plot, difference_plot, tradeoff_plots
from sizewise.report.view import StudyView
from sizewise.report.words import difference_text, measure_of, number, score_text, shown_metrics, table_rows, value_text
from sizewise.store import write_atomically

SAMPLES = 5
WORST = 10
LEAKING = 10
# Single answers are ranked by chrF: BLEU of one short answer is mostly zero.
ITEM_METRIC = "chrf"


class SideBySide(NamedTuple):
    """One question with everybody's answer."""

    item: ItemRow
    answers: dict[str, str]


class WorstAnswer(NamedTuple):
    """One of a candidate's worst answers."""

    item: ItemRow
    value: str


def write_study_report(view: StudyView, folder: Path) -> Path:
    """Write report.html and report.md into a folder.

    Returns:
        The path of the HTML report.
    """
    content = _content(view)
    environment = make_environment()
    for name in ("report.md", "report.html"):
        write_atomically(folder / name, environment.get_template(f"{name}.jinja").render(**content))
    return folder / "report.html"


def make_environment() -> Any:
    """Give the templates with their filters.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("jinja2", "study") from error
    templates = resources.files("sizewise.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (templates / name).read_text(encoding="utf-8")),
        autoescape=lambda name: name is None or ".html" in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "difference": difference_text,
        "score": score_text,
        "value": value_text,
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
    }
    return environment


def _content(view: StudyView) -> dict[str, Any]:
    leaking = sorted((e for e in view.leaks if not e.clean), key=lambda e: (-e.shared_words, e.item))
    return {
        "view": view,
        "study": view.study,
        "recommendation": view.recommendation,
        "comparison": view.comparison,
        "dataset": view.dataset,
        "rows": table_rows(view.comparison),
        "metrics": shown_metrics(view.comparison),
        "measures": {name: measure_of(name) for name in (*view.comparison.scores, *view.bias_metrics(), "general")},
        "bias_groups": sorted(
            {key.partition("#")[2] for one in view.bias.values() for key in one.scores if "#" in key}
        ),
        **_general(view),
        "plots": _plots(view),
        "samples": _samples(view),
        "worst": {name: _worst(items) for name, items in view.items.items()},
        "leaking": leaking[:LEAKING],
        "css": (resources.files("sizewise.report") / "templates" / "page.css").read_text(encoding="utf-8"),
    }


def _general(view: StudyView) -> dict[str, Any]:
    """Give what the panel of general questions says besides its scores."""
    if view.general is None:
        return {}
    own = {frozenset(pair) for pair in view.study.bases.items()}
    tags = [name.partition("#")[2] for name in view.general.scores if name.startswith("general#")]
    shown = [one for one in view.general.differences if one.metric == "general" and one.detectable]
    least = [one.detectable or 0 for one in shown if frozenset((one.left, one.right)) in own or not own]
    return {
        "general_tags": tags,
        "general_power": f"differences of {max(least):.2g} or more" if least else "little",
    }


def _plots(view: StudyView) -> list[Plot]:
    quality = view.recommendation.quality
    plots = tradeoff_plots(view.comparison, quality)
    if view.study.pick:
        for metric in dict.fromkeys((quality, "bits_per_byte")):
            plot = difference_plot(view.comparison, view.study.pick, metric)
            plots += [plot] if plot else []
    return plots + [_curve(name, checkpoint) for name, checkpoint in view.checkpoints.items()]


def _curve(name: str, made: Checkpoint) -> Plot:
    caption = (
        f"Above: validation text, lower is better. Below: loss of each step in nats a token. {made.tokens:,} tokens in "
        f"{made.seconds:.0f} s, {made.tokens_per_s:,.0f} tokens/s after a first step of {made.warmup_s:.0f} s."
    )
    return curve_plot(name, made.curve, made.start_bits_per_byte, caption)


def _samples(view: StudyView) -> list[SideBySide]:
    """Take clean examples evenly spread over the test set; nobody chose the nice ones."""
    first = next(iter(view.items.values()))
    examples = [row for row in first if row.kind == "example" and row.clean]
    step = max(1, len(examples) // SAMPLES)
    answers = {name: {row.item: row for row in rows} for name, rows in view.items.items()}
    samples = []
    for row in examples[::step][:SAMPLES]:
        given = {name: by_item[row.item] for name, by_item in answers.items() if row.item in by_item}
        samples.append(SideBySide(row, {name: r.completion or (r.error or "(no answer)") for name, r in given.items()}))
    return samples


def _worst(rows: tuple[ItemRow, ...]) -> list[WorstAnswer]:
    measured = [row for row in rows if row.kind == "example" and ITEM_METRIC in row.stats]
    metric = find_metric(ITEM_METRIC)
    valued = [(float(metric.value(np.array(row.stats[ITEM_METRIC]))), row) for row in measured]
    valued.sort(key=lambda pair: (pair[0], pair[1].item))
    return [WorstAnswer(row, number(value)) for value, row in valued[:WORST]]
