"""Write a study's report: one self-contained HTML file, and the same content in Markdown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from difflib import SequenceMatcher
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sizewise.choice import alternatives, needs_text, quality_measures, sliders
from sizewise.comparison import analyze_items
from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.loadtest.levels import Limits
from sizewise.metrics import find_metric
from sizewise.records import Checkpoint, Comparison, ItemAnalysis, ItemRow, Recommendation
from sizewise.report.cost_plots import break_even_plot, cost_plot
from sizewise.report.drawing import Plot
from sizewise.report.plots import bias_plot, difference_plot, load_plot, tradeoff_plots
from sizewise.report.run_plots import curve_plot
from sizewise.report.view import StudyView
from sizewise.report.words import (
    difference_text,
    measure_of,
    number,
    score_text,
    shown_metrics,
    signed_text,
    table_rows,
    value_text,
)
from sizewise.stats import MIN_CLUSTERS
from sizewise.store import write_atomically
from sizewise.text import pieces_of, words_of

if TYPE_CHECKING:
    from markupsafe import Markup

ItemOrder = Literal["spread", "apart", "worst"]
SAMPLES, PAGE = 5, 10
MAX_WORST = 10
MAX_CONTAMINATED = 10
# Single answers are ranked by chrF, because BLEU is usually zero for a single short answer.
ITEM_METRICS = ("chrf", "token_f1", "rouge_l", "json_f1", "accuracy", "exact_match")
OUTCOME_LABELS = {
    "pick": "Recommended",
    "none_good_enough": "No suitable candidate",
    "inconclusive": "Inconclusive",
    "keep_large": "Keep the large model",
    "do_not_train": "Don't train",
    "fall_back": "Small model with fallback",
}


class SideBySide(NamedTuple):
    """A test example with the answer of every candidate."""

    item: ItemRow
    answers: dict[str, str]


class WorstAnswer(NamedTuple):
    """One of the worst answers of a candidate."""

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
    """Render the interactive page, with adjustable needs and all answers."""
    needs = view.recommendation.needs
    templates = resources.files("sizewise.report") / "templates"
    initial_needs = json.dumps(needs.model_dump(mode="json")).replace("<", "\\u003c")
    script = (templates / "study.js").read_text(encoding="utf-8")
    content = _content(view) | {
        "live": True,
        "sliders": sliders(view.comparison, needs),
        "qualities": quality_measures(view.comparison),
        "needs_text": needs_text(needs),
        "script": f"const start = {initial_needs};\n{script}",
        "tags": sorted({tag for tags in view.tags.values() for tag in tags}),
    }
    return str(make_environment().get_template("report.html.jinja").render(**content))


def render_answer(view: StudyView, recommendation: Recommendation) -> str:
    """Render the part of the page that depends on the needs."""
    content = {
        "answer": recommendation,
        "answer_why": _sentences(recommendation.reasons, view.comparison),
        "outcome_labels": OUTCOME_LABELS,
        "cost_needs": _cost_needs(recommendation),
        "simulation": view.study.simulation,
        "measures": {name: measure_of(name) for name in view.comparison.scores},
    }
    return str(make_environment().get_template("answer.html.jinja").render(**content))


def render_items(view: StudyView, tag: str, order: ItemOrder, first: int) -> str:
    """Render a page of test examples with the answer of every candidate.

    Args:
        view: the study.
        tag: keep only examples with this tag; empty for all.
        order: order of the examples.
        first: number of examples to skip.
    """
    rows = [row for row in _examples(view) if not tag or tag in view.tags.get(row.item, ())]
    if order == "spread":
        rows = sorted(rows, key=lambda row: hashlib.sha256(row.item.encode()).hexdigest())
    else:
        metric = _item_metric(view)
        values = {name: {row.item: _value(row, metric) for row in items} for name, items in view.items.items()}
        picked = values.get(view.study.pick or "") or next(iter(values.values()))

        def key(row: ItemRow) -> float:
            scores = [score for by_item in values.values() if (score := by_item.get(row.item)) is not None]
            return picked.get(row.item) or 0.0 if order == "worst" else min(scores, default=0) - max(scores, default=0)

        rows = sorted(rows, key=lambda row: (key(row), row.item))
    shown = [_side_by_side(view, row) for row in rows[first : first + PAGE]]
    return str(make_environment().get_template("items.html.jinja").render(samples=shown))


def _words_and_spaces(text: str) -> list[str]:
    """Split a text into words and the spaces between them, in turn; a space is empty in scripts that have none."""
    parts: list[str] = []
    for piece in pieces_of(text):
        word = piece.lstrip()
        parts += [piece[: len(piece) - len(word)], word]
    return parts[1:] if parts and not parts[0] else ["", *parts]


def _folded(word: str) -> str:
    return "".join(words_of(word))


def marked(answer: str, reference: str) -> Markup:
    """Highlight the words of an answer that the reference answer doesn't contain in the same order."""
    from markupsafe import Markup, escape

    words = _words_and_spaces(answer)
    positions = [i for i, word in enumerate(words) if word.strip()]
    plain, expected = (
        [_folded(word) for word in part] for part in ((words[i] for i in positions), pieces_of(reference))
    )
    matching: set[int] = set()
    matcher = SequenceMatcher(None, plain, expected, autojunk=False)
    for block in matcher.get_matching_blocks():
        matching.update(positions[block.a : block.a + block.size])
    # The space between two highlighted words is highlighted too, so that a run becomes a single mark.
    highlighted = [word.strip() != "" and i not in matching for i, word in enumerate(words)]
    for i in range(1, len(words) - 1, 2):
        highlighted[i] = highlighted[i - 1] and highlighted[i + 1]
    parts = []
    for is_highlighted, run in groupby(zip(highlighted, words, strict=True), key=lambda pair: pair[0]):
        text = "".join(word for _, word in run)
        parts.append(Markup("<mark>{}</mark>").format(text) if is_highlighted else escape(text))
    return Markup("").join(parts)


def make_environment() -> Any:
    """Create the template environment with its filters.

    Raises:
        MissingExtraError: jinja2 isn't installed.
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
        "sentence": sentence,
        "signed": lambda found: signed_text(found.metric, found.unit, found.value, *found.family_ends),
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
    }
    return environment


def sentence(text: str) -> str:
    """Turn a fragment into a sentence: capital letter first, full stop last."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def _sentences(lines: Sequence[str], comparison: Comparison) -> list[str]:
    """Turn lines into sentences; those that start with a model name keep its first letter."""
    names = tuple(comparison.models)
    return [line[0] + sentence(line)[1:] if line.startswith(names) else sentence(line) for line in lines]


def _cost_needs(recommendation: Recommendation) -> list[str]:
    """List the unset needs that would narrow the range of the cost."""
    wanted = ("machine_usd_per_hour", "requests_per_month", "machine_watts")
    return [name for name in wanted if getattr(recommendation.needs, name) is None]


def _content(view: StudyView) -> dict[str, Any]:
    contaminated = sorted(
        (entry for entry in view.contamination_entries if not entry.uncontaminated),
        key=lambda entry: (-entry.shared_words, entry.item),
    )
    metric = _item_metric(view)
    return {
        "view": view,
        "study": view.study,
        "recommendation": view.recommendation,
        "answer": view.recommendation,
        "answer_why": _sentences(view.study.reasons, view.comparison),
        "outcome_labels": OUTCOME_LABELS,
        "min_clusters": MIN_CLUSTERS,
        "training_note": lambda name, on_task: _training_note(view, name, on_task),
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
            {key.partition("#")[2] for found in view.bias.values() for key in found.scores if "#" in key}
        ),
        **_nuance(view),
        "load_limits": Limits(),
        "plots": _plots(view),
        "samples": _samples(view),
        "item_metric": measure_of(metric).title if metric else None,
        "worst": {name: _worst(items, metric) for name, items in view.items.items()},
        "item_analysis": _item_analysis(view),
        "contaminated": contaminated[:MAX_CONTAMINATED],
        "css": (resources.files("sizewise.report") / "templates" / "page.css").read_text(encoding="utf-8"),
    }


def _item_analysis(view: StudyView) -> ItemAnalysis | None:
    """Analyze the items; None if no metric has a value on single items, or the candidates share none."""
    models = view.comparison.models
    rows = {name: items for name, items in view.items.items() if models[name].role == "candidate"}
    try:
        return analyze_items(rows, view.study.comparison)
    except SizewiseError:
        return None


def _nuance(view: StudyView) -> dict[str, Any]:
    """Collect the tags of the language-nuance test, and the smallest difference that it detects."""
    if view.language_nuance is None:
        return {}
    trained_pairs = {frozenset(pair) for pair in view.study.bases.items()}
    tags = [name.partition("#")[2] for name in view.language_nuance.scores if name.startswith("language_nuance#")]
    detectable = [
        found.detectable
        for found in view.language_nuance.differences
        if found.metric == "language_nuance"
        and found.detectable
        and (frozenset((found.left, found.right)) in trained_pairs or not trained_pairs)
    ]
    power = f"differences of {100 * max(detectable):.2g} percentage points or more" if detectable else "little"
    return {"nuance_tags": tags, "nuance_power": power}


def _training_note(view: StudyView, name: str, on_task: bool) -> str:
    """Explain why there is no change from training for a candidate."""
    if name in view.study.bases:
        return "base model isn't a candidate" if on_task else "not measured"
    return "trained from scratch" if name in view.checkpoints else "not trained"


def _plots(view: StudyView) -> list[Plot]:
    quality = view.recommendation.quality
    recommendation = view.recommendation
    plots = tradeoff_plots(view.comparison, quality)
    money_plots = (
        cost_plot(view.comparison, quality, recommendation.costs),
        break_even_plot(recommendation.costs, recommendation.needs, recommendation.break_even),
    )
    plots += [plot for plot in money_plots if plot]
    leader = view.study.pick or _leader(view)
    for metric in dict.fromkeys((quality, "bits_per_byte")) if leader else ():
        plot = difference_plot(view.comparison, leader, metric)
        plots += [plot] if plot else []
    plots += [plot for plot in (load_plot(view.comparison), bias_plot(view.bias)) if plot]
    return plots + [_curve(name, checkpoint) for name, checkpoint in view.checkpoints.items()]


def _leader(view: StudyView) -> str:
    """Return the candidate with the best quality, for the plots of a study without a pick."""
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


def _curve(name: str, checkpoint: Checkpoint) -> Plot:
    caption = (
        f"Top: validation text, lower is better. Bottom: training loss per step, in nats per token. "
        f"{checkpoint.tokens:,} tokens in {checkpoint.seconds:.0f} s; {checkpoint.tokens_per_s:,.0f} tokens/s after a "
        f"first step of {checkpoint.warmup_s:.0f} s."
    )
    return curve_plot(name, checkpoint.curve, checkpoint.start_bits_per_byte, caption)


def _samples(view: StudyView) -> list[SideBySide]:
    """Sample the uncontaminated test examples at even intervals."""
    examples = [row for row in _examples(view) if row.uncontaminated]
    step = max(1, len(examples) // SAMPLES)
    return [_side_by_side(view, row) for row in examples[::step][:SAMPLES]]


def _examples(view: StudyView) -> list[ItemRow]:
    return [row for row in next(iter(view.items.values())) if row.kind == "example"]


def _side_by_side(view: StudyView, row: ItemRow) -> SideBySide:
    answers = {name: other for name, rows in view.items.items() for other in rows if other.item == row.item}
    return SideBySide(row, {name: item.completion or item.error or "(no answer)" for name, item in answers.items()})


def _worst(rows: tuple[ItemRow, ...], metric: str | None) -> list[WorstAnswer]:
    valued = [(value, row) for row in rows if row.kind == "example" and (value := _value(row, metric)) is not None]
    valued.sort(key=lambda pair: (pair[0], pair[1].item))
    return [WorstAnswer(row, number(value)) for value, row in valued[:MAX_WORST]]


def _item_metric(view: StudyView) -> str | None:
    """Choose the metric that ranks single answers: the first of the list that was measured; None if none was."""
    measured = {name for rows in view.items.values() for row in rows for name in row.stats}
    return next((name for name in ITEM_METRICS if name in measured), None)


def _value(row: ItemRow, metric: str | None) -> float | None:
    """Compute the score of a single answer; None if it wasn't measured."""
    stats = row.stats.get(metric or "")
    return None if metric is None or stats is None else float(find_metric(metric).value(np.array(stats)))
