"""What people say: ranking, agreement, and how many votes it takes."""

from sizewise.judging.votes import agreement, plan, rank

__all__ = ["agreement", "plan", "rank"]
