"""Write a study's report: one HTML file that needs no network, and the same in Markdown."""

from __future__ import annotations

import hashlib
import json
import re
from difflib import SequenceMatcher
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sizewise.choice import alternatives, needs_text, quality_measures, sliders
from sizewise.errors import MissingExtraError
from sizewise.loadtest.levels import Limits
from sizewise.metrics import find_metric
from sizewise.records import Checkpoint, Comparison, ItemRow, Recommendation
from sizewise.report.plots import (
    Plot,
    bias_plot,
    break_even_plot,
    cost_plot,
    crowd_plot,
    curve_plot,
    difference_plot,
    tradeoff_plots,
)
from sizewise.report.view import StudyView
from sizewise.report.words import difference_text, measure_of, number, score_text, shown_metrics, table_rows, value_text
from sizewise.store import write_atomically

if TYPE_CHECKING:
    from markupsafe import Markup

ItemOrder = Literal["spread", "apart", "worst"]
SAMPLES, PAGE = 5, 10
WORST = 10
LEAKING = 10
# Single answers are ranked by chrF: BLEU of one short answer is mostly zero.
ITEM_METRIC = "chrf"
_PUNCTUATION = re.compile(r"[^\w]+")


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
    content = _content(view) | {
        "alternatives": alternatives(view.comparison, view.study.comparison, view.recommendation.needs)
    }
    environment = make_environment()
    for name in ("report.md", "report.html"):
        write_atomically(folder / name, environment.get_template(f"{name}.jinja").render(**content))
    return folder / "report.html"


def render_live_page(view: StudyView) -> str:
    """Render the same page with needs that can be moved and answers that can be looked through."""
    needs = view.recommendation.needs
    templates = resources.files("sizewise.report") / "templates"
    start = json.dumps(needs.model_dump(mode="json")).replace("<", "\\u003c")
    script = (templates / "study.js").read_text(encoding="utf-8")
    content = _content(view) | {
        "live": True,
        "sliders": sliders(view.comparison, needs),
        "qualities": quality_measures(view.comparison),
        "needs_text": needs_text(needs),
        "script": f"const start = {start};\n{script}",
        "tags": sorted({tag for tags in view.tags.values() for tag in tags}),
    }
    return str(make_environment().get_template("report.html.jinja").render(**content))


def render_answer(view: StudyView, recommendation: Recommendation) -> str:
    """Render the part of the page that depends on the needs."""
    content = {
        "answer": recommendation,
        "answer_why": recommendation.reasons,
        "cost_needs": _cost_needs(recommendation),
        "simulation": view.study.simulation,
        "measures": {name: measure_of(name) for name in view.comparison.scores},
    }
    return str(make_environment().get_template("answer.html.jinja").render(**content))


def render_items(view: StudyView, tag: str, order: ItemOrder, first: int) -> str:
    """Render some test examples with everybody's answers.

    Args:
        view: the study.
        tag: only examples with this tag; empty: all.
        order: which come first.
        first: how many to leave out.
    """
    rows = [row for row in _examples(view) if not tag or tag in view.tags.get(row.item, ())]
    if order == "spread":
        rows = sorted(rows, key=lambda row: hashlib.sha256(row.item.encode()).hexdigest())
    else:
        values = {name: {row.item: _value(row) for row in items} for name, items in view.items.items()}
        picked = values.get(view.study.pick or "") or next(iter(values.values()))

        def key(row: ItemRow) -> float:
            given = [found for by_item in values.values() if (found := by_item.get(row.item)) is not None]
            return picked.get(row.item) or 0.0 if order == "worst" else min(given, default=0) - max(given, default=0)

        rows = sorted(rows, key=lambda row: (key(row), row.item))
    shown = [_side_by_side(view, row) for row in rows[first : first + PAGE]]
    return str(make_environment().get_template("items.html.jinja").render(samples=shown))


def marked(answer: str, reference: str) -> Markup:
    """Mark the words of an answer that do not stand, in this order, in the right one."""
    from markupsafe import Markup, escape

    words, right = re.split(r"(\s+)", answer), reference.split()
    places = [place for place, word in enumerate(words) if word.strip()]
    plain = [_PUNCTUATION.sub("", words[place]).lower() for place in places]
    same: set[int] = set()
    matcher = SequenceMatcher(None, plain, [_PUNCTUATION.sub("", word).lower() for word in right], autojunk=False)
    for block in matcher.get_matching_blocks():
        same.update(places[block.a : block.a + block.size])
    # A space between two marked words is marked too, so that a run of them is one mark.
    other = [word.strip() != "" and place not in same for place, word in enumerate(words)]
    for place in range(1, len(words) - 1, 2):
        other[place] = other[place - 1] and other[place + 1]
    told = []
    for is_other, run in groupby(zip(other, words, strict=True), key=lambda pair: pair[0]):
        text = "".join(word for _, word in run)
        told.append(Markup("<mark>{}</mark>").format(text) if is_other else escape(text))
    return Markup("").join(told)


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
        "marked": marked,
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
    }
    return environment


def _cost_needs(recommendation: Recommendation) -> list[str]:
    """Name what was not given and would make the cost a narrower range."""
    wanted = ("machine_usd_per_hour", "requests_per_month", "machine_watts")
    return [name for name in wanted if getattr(recommendation.needs, name) is None]


def _content(view: StudyView) -> dict[str, Any]:
    leaking = sorted(
        (e for e in view.contamination_entries if not e.uncontaminated), key=lambda e: (-e.shared_words, e.item)
    )
    return {
        "view": view,
        "study": view.study,
        "recommendation": view.recommendation,
        "answer": view.recommendation,
        "answer_why": view.study.reasons,
        "cost_needs": _cost_needs(view.recommendation),
        "simulation": view.study.simulation,
        "live": False,
        "alternatives": [],
        "comparison": view.comparison,
        "dataset": view.dataset,
        "rows": table_rows(view.comparison),
        "metrics": shown_metrics(view.comparison),
        "measures": {
            name: measure_of(name) for name in (*view.comparison.scores, *view.bias_metrics(), "language_nuance")
        },
        "bias_groups": sorted(
            {key.partition("#")[2] for one in view.bias.values() for key in one.scores if "#" in key}
        ),
        **_general(view),
        "load_limits": Limits(),
        "plots": _plots(view),
        "samples": _samples(view),
        "worst": {name: _worst(items) for name, items in view.items.items()},
        "leaking": leaking[:LEAKING],
        "css": (resources.files("sizewise.report") / "templates" / "page.css").read_text(encoding="utf-8"),
    }


def _general(view: StudyView) -> dict[str, Any]:
    """Give what the panel of general questions says besides its scores."""
    if view.language_nuance is None:
        return {}
    own = {frozenset(pair) for pair in view.study.bases.items()}
    tags = [name.partition("#")[2] for name in view.language_nuance.scores if name.startswith("language_nuance#")]
    shown = [one for one in view.language_nuance.differences if one.metric == "language_nuance" and one.detectable]
    least = [one.detectable or 0 for one in shown if frozenset((one.left, one.right)) in own or not own]
    return {
        "general_tags": tags,
        "general_power": f"differences of {max(least):.2g} or more" if least else "little",
    }


def _plots(view: StudyView) -> list[Plot]:
    quality = view.recommendation.quality
    recommendation = view.recommendation
    plots = tradeoff_plots(view.comparison, quality)
    of_money = (
        cost_plot(view.comparison, quality, recommendation.costs),
        break_even_plot(recommendation.costs, recommendation.needs, recommendation.break_even),
    )
    plots += [plot for plot in of_money if plot]
    leader = view.study.pick or _leader(view)
    for metric in dict.fromkeys((quality, "bits_per_byte")) if leader else ():
        plot = difference_plot(view.comparison, leader, metric)
        plots += [plot] if plot else []
    plots += [plot for plot in (crowd_plot(view.comparison), bias_plot(view.bias)) if plot]
    return plots + [_curve(name, checkpoint) for name, checkpoint in view.checkpoints.items()]


def _leader(view: StudyView) -> str:
    """Name the candidate with the best quality, for plots of a study that ended without a pick."""
    comparison, quality = view.comparison, view.recommendation.quality
    sign = 1 if comparison.better[quality] == "higher" else -1
    values = {
        name: sign * score.value
        for name, score in comparison.scores[quality].items()
        if score.value is not None and comparison.models[name].role == "candidate" and not _silent(comparison, name)
    }
    return max(values, key=lambda name: values[name], default="")


def _silent(comparison: Comparison, name: str) -> bool:
    answered = comparison.answered.get(name)
    return answered is not None and answered.value == 0


def _curve(name: str, made: Checkpoint) -> Plot:
    caption = (
        f"Above: validation text, lower is better. Below: loss of each step in nats a token. {made.tokens:,} tokens in "
        f"{made.seconds:.0f} s, {made.tokens_per_s:,.0f} tokens/s after a first step of {made.warmup_s:.0f} s."
    )
    return curve_plot(name, made.curve, made.start_bits_per_byte, caption)


def _samples(view: StudyView) -> list[SideBySide]:
    """Take clean examples evenly spread over the test set; nobody chose the nice ones."""
    examples = [row for row in _examples(view) if row.uncontaminated]
    step = max(1, len(examples) // SAMPLES)
    return [_side_by_side(view, row) for row in examples[::step][:SAMPLES]]


def _examples(view: StudyView) -> list[ItemRow]:
    return [row for row in next(iter(view.items.values())) if row.kind == "example"]


def _side_by_side(view: StudyView, row: ItemRow) -> SideBySide:
    given = {name: other for name, rows in view.items.items() for other in rows if other.item == row.item}
    return SideBySide(row, {name: one.completion or (one.error or "(no answer)") for name, one in given.items()})


def _worst(rows: tuple[ItemRow, ...]) -> list[WorstAnswer]:
    valued = [(value, row) for row in rows if row.kind == "example" and (value := _value(row)) is not None]
    valued.sort(key=lambda pair: (pair[0], pair[1].item))
    return [WorstAnswer(row, number(value)) for value, row in valued[:WORST]]


def _value(row: ItemRow) -> float | None:
    """Give the value of a single answer, where it was measured."""
    stats = row.stats.get(ITEM_METRIC)
    return None if stats is None else float(find_metric(ITEM_METRIC).value(np.array(stats)))
