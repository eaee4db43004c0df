"""From a comparison and needs to a recommendation: a pure function of records."""

from sizewise.choice.choosing import choose
from sizewise.choice.deciding import decide
from sizewise.choice.needs import read_needs

__all__ = ["choose", "decide", "read_needs"]
