"""Recommend a model from a comparison and needs; a pure function of records."""

from sizewise.choice.alternatives import Alternative, Slider, alternatives, sliders
from sizewise.choice.asking import needs_text
from sizewise.choice.choosing import choose
from sizewise.choice.deciding import decide
from sizewise.choice.evidence import quality_measures
from sizewise.choice.needs import make_needs, read_needs

__all__ = [
    "Alternative",
    "Slider",
    "alternatives",
    "choose",
    "decide",
    "make_needs",
    "needs_text",
    "quality_measures",
    "read_needs",
    "sliders",
]
