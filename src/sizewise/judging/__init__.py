"""Human evaluation: blind rounds, ranking, agreement between raters, and how many votes are needed."""

from sizewise.judging.ballot import Ballot, tasks_of
from sizewise.judging.conversation_design import ConversationDesign, open_conversations
from sizewise.judging.conversations import Conversations
from sizewise.judging.exchange import Format, read_votes, write_tasks
from sizewise.judging.imitation import report_conversations
from sizewise.judging.judge_validation import validate_judges
from sizewise.judging.llm_judge import ask_judge
from sizewise.judging.ranking import rank
from sizewise.judging.reporting import preferences, report, vote_differences, vote_rows
from sizewise.judging.rounds import Invitation, Opened, RoundDesign, more_tasks, open_round
from sizewise.judging.votes import PlanAssumptions, agreement, plan

__all__ = [
    "Ballot",
    "ConversationDesign",
    "Conversations",
    "Format",
    "Invitation",
    "Opened",
    "PlanAssumptions",
    "RoundDesign",
    "agreement",
    "ask_judge",
    "more_tasks",
    "open_conversations",
    "open_round",
    "plan",
    "preferences",
    "rank",
    "read_votes",
    "report",
    "report_conversations",
    "tasks_of",
    "validate_judges",
    "vote_differences",
    "vote_rows",
    "write_tasks",
]
