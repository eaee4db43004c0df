"""What people say: blind rounds, ranking, agreement, and how many votes it takes."""

from sizewise.judging.ballot import Ballot, tasks_of
from sizewise.judging.exchange import Format, read_votes, write_tasks
from sizewise.judging.judge_validation import validate_judges
from sizewise.judging.llm_judge import ask_judge
from sizewise.judging.pairs import rate
from sizewise.judging.reporting import preferences, report, vote_differences, vote_rows
from sizewise.judging.rounds import Invitation, Opened, more_tasks, open_round
from sizewise.judging.votes import agreement, plan, rank

__all__ = [
    "Ballot",
    "Format",
    "Invitation",
    "Opened",
    "agreement",
    "ask_judge",
    "more_tasks",
    "open_round",
    "plan",
    "preferences",
    "rank",
    "rate",
    "read_votes",
    "report",
    "tasks_of",
    "validate_judges",
    "vote_differences",
    "vote_rows",
    "write_tasks",
]
