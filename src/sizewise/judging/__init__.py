"""What people say: blind rounds, ranking, agreement, and how many votes it takes."""

from sizewise.judging.reporting import people_differences, preferences, report, vote_rows
from sizewise.judging.rounds import Ballot, Invitation, Opened, open_round
from sizewise.judging.votes import agreement, plan, rank

__all__ = [
    "Ballot",
    "Invitation",
    "Opened",
    "agreement",
    "open_round",
    "people_differences",
    "plan",
    "preferences",
    "rank",
    "report",
    "vote_rows",
]
