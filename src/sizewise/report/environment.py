"""The templates of all pages, and the filters that they use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from sizewise.controls import CONTROLS, escape_controls
from sizewise.errors import MissingExtraError
from sizewise.report.answers import marked
from sizewise.report.csv_tables import table_link
from sizewise.report.drawing import Plot
from sizewise.report.rounding import rounded_difference, rounded_score
from sizewise.report.words import difference_text, number, score_text, sentence, signed_text, value_text

if TYPE_CHECKING:
    from markupsafe import Markup

WIDE = 600
"""Width of a plot, in pixels, from which it takes a row of its own."""
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_RIGHT_TO_LEFT = re.compile(
    "[\\u0590-\\u08ff\\ufb1d-\\ufdff\\ufe70-\\ufefc\\U00010800-\\U00010fff\\U0001e800-\\U0001efff]"
)
_WIDTH = re.compile(r'\bwidth="(\d+)|$')
_ARIA = re.compile(r' (?:role|aria-[a-z]+|tabindex)="[^"]*"')


def make_environment(names: Sequence[str] = ()) -> Any:
    """Create the template environment with its filters.

    Args:
        names: names of candidates, whose direction of writing must not change that of the sentences around them.

    Raises:
        MissingExtraError: jinja2 isn't installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("jinja2", "study") from error
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read_template),
        autoescape=lambda name: name is None or ".html" in name,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "difference": difference_text,
        "score": score_text,
        "value": value_text,
        "rounded": rounded_score,
        "gap": rounded_difference,
        "marked": marked,
        "sentence": sentence,
        "picture": picture,
        "is_wide": is_wide,
        "table_link": table_link,
        "signed": lambda found: signed_text(found.metric, found.unit, found.value, *found.family_ends),
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
        "plain": lambda text: _TAG.sub("&lt;", str(text)),
        "isolated": partial(isolated, names=names),
    }
    return environment


def _finalize(value: Any) -> Any:
    """Escape what a browser, an editor or a terminal would obey, in every text of a page: names come from data."""
    if not isinstance(value, str) or CONTROLS.search(value) is None:
        return value
    escaped = escape_controls(value, "\n\t\r")
    return type(value)(escaped) if hasattr(value, "__html__") else escaped


def isolated(text: str, names: Sequence[str]) -> Markup:
    """Isolate the names in a sentence, so that one written from right to left doesn't turn the words around it."""
    from markupsafe import Markup, escape

    turned = sorted((name for name in names if _RIGHT_TO_LEFT.search(name)), key=len, reverse=True)
    if not turned:
        return escape(text)
    parts = re.split(f"({'|'.join(map(re.escape, turned))})", text)
    return Markup("").join(Markup("<bdi>{}</bdi>").format(part) if i % 2 else part for i, part in enumerate(parts))


def read_template(name: str) -> str:
    """Read a template, a style sheet or a script of the pages."""
    return (resources.files("sizewise.report") / "templates" / name).read_text(encoding="utf-8")


def is_wide(plot: Plot) -> bool:
    """Return whether a plot is too wide for half a row."""
    found = _WIDTH.search(plot.light)
    return found is not None and int(found[1] or 0) > WIDE


def picture(plot: Plot) -> Markup:
    """Show a plot in the light or the dark theme, as one image with a name for screen readers."""
    from markupsafe import Markup, escape

    label = escape(f"{plot.title}. {plot.caption}")
    drawn = []
    for scheme, svg in (("light", plot.light), ("dark", plot.dark)):
        plain = _ARIA.sub("", svg).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
        drawn.append(f'<div class="{scheme}">{plain}</div>')
    return Markup("".join(drawn))
