"""A plug-in: a metric of your own behind `sizewise evaluate MODEL --metrics digits_kept`, in thirty lines.

Put it into a package whose pyproject.toml says:

    [project.entry-points."sizewise.metrics"]
    digits_kept = "digits_metric:DigitsKept"
"""

import re

from sizewise.metrics import Mean


class DigitsKept(Mean):
    """Share of the right answer's numbers that stand in the answer."""

    name, title = "digits_kept", "Numbers kept"
    description = (
        "Share of the numbers of the right answer that the answer holds. Higher is better where doses, sums or dates "
        "matter. It cannot tell a number in the wrong place."
    )

    def measure(self, item):
        """Give (numbers found, numbers): both are added up over items, then divided."""
        wanted = re.findall(r"\d+", item.references[0])
        given = set(re.findall(r"\d+", item.completion))
        return float(sum(number in given for number in wanted)), float(len(wanted))
