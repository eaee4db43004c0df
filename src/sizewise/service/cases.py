"""What became of questions to the support agent: outcomes, unanswered questions, and corrected answers.

Outcomes hold no text. Unanswered questions and corrections do, so that staff can fill gaps of the documents and turn
corrections into examples; they're kept as long as conversations, in a file that only its owner can read.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sizewise.metrics.proportion import proportion_score
from sizewise.service.handovers import DAY_S, REQUESTED_BY, RETENTION_DAYS
from sizewise.service.private_database import PrivateDatabase

Outcome = Literal["answered", "unknown", "handed_over", "looked_up", "small_talk", "draft"]
RESOLVING: tuple[Outcome, ...] = ("answered", "looked_up")
MAX_QUESTION_CHARACTERS, MAX_ANSWER_CHARACTERS = 1_000, 20_000
MAX_ROWS = 20_000
MAX_UNANSWERED = 2_000
_TABLES = (
    "CREATE TABLE IF NOT EXISTS cases (at REAL NOT NULL, who TEXT NOT NULL, outcome TEXT NOT NULL, first INTEGER NOT "
    "NULL, topic TEXT NOT NULL, language TEXT NOT NULL, seconds REAL NOT NULL, usd REAL)",
    "CREATE TABLE IF NOT EXISTS unanswered (at REAL NOT NULL, who TEXT NOT NULL, body TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS examples (at REAL NOT NULL, source TEXT NOT NULL, prompt TEXT NOT NULL, "
    "answer TEXT NOT NULL, rejected TEXT NOT NULL)",
)


class Case(NamedTuple):
    """An answer of the support agent."""

    outcome: Outcome
    first: bool
    """Whether it answers the first message of a conversation."""
    topic: str
    """Title of the document that fits best; empty if none does."""
    language: str
    """ISO 639-1 code; empty if it isn't known."""
    seconds: float
    usd: float | None = None


class Cases:
    """Outcomes, unanswered questions and corrections.

    Args:
        path: SQLite file, created when the first is stored.
    """

    def __init__(self, path: Path) -> None:
        self._database = PrivateDatabase(path, _TABLES)

    def add(self, case: Case) -> None:
        """Store the outcome of a question."""
        with self._database.opened() as connection:
            row = (time.time(), REQUESTED_BY.get(), *case)
            connection.execute("INSERT INTO cases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute(
                "DELETE FROM cases WHERE rowid <= (SELECT MAX(rowid) FROM cases) - ? OR at < ?",
                (MAX_ROWS, time.time() - 12 * RETENTION_DAYS * DAY_S),
            )

    def add_unanswered(self, explanation: dict[str, Any]) -> None:
        """Store a question that got no answer, with the reason."""
        with self._database.opened() as connection:
            body = json.dumps(explanation, ensure_ascii=False)
            connection.execute("INSERT INTO unanswered VALUES (?, ?, ?)", (time.time(), REQUESTED_BY.get(), body))
            connection.execute(
                "DELETE FROM unanswered WHERE rowid <= (SELECT MAX(rowid) FROM unanswered) - ? OR at < ?",
                (MAX_UNANSWERED, time.time() - RETENTION_DAYS * DAY_S),
            )

    def unanswered(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest unanswered questions, newest first."""
        with self._database.opened() as connection:
            rows = connection.execute(
                "SELECT at, body FROM unanswered WHERE at > ? ORDER BY rowid DESC LIMIT ?",
                (time.time() - RETENTION_DAYS * DAY_S, limit),
            )
            return [{"at": at} | json.loads(body) for at, body in rows]

    def add_example(self, source: str, prompt: str, answer: str, rejected: str = "") -> None:
        """Store an answer that a person wrote or corrected.

        Args:
            source: who corrected it, `staff` or `chat`.
            prompt: the question.
            answer: the corrected answer.
            rejected: the answer before; empty if there was none.
        """
        texts = prompt[-MAX_ANSWER_CHARACTERS:], answer[:MAX_ANSWER_CHARACTERS], rejected[:MAX_ANSWER_CHARACTERS]
        with self._database.opened() as connection:
            connection.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", (time.time(), source, *texts))
            connection.execute("DELETE FROM examples WHERE rowid <= (SELECT MAX(rowid) FROM examples) - ?", (MAX_ROWS,))

    def examples(self) -> list[dict[str, str]]:
        """Return the corrected answers, as rows that `sizewise read` takes."""
        if not self._database.exists:
            return []
        with self._database.opened() as connection:
            rows = connection.execute("SELECT prompt, answer, rejected, source FROM examples ORDER BY rowid")
            return [dict(zip(("prompt", "answer", "rejected", "source"), row, strict=True)) for row in rows]

    def summary(self, since: float, handovers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Compute the figures of the support view.

        Args:
            since: begin of the period, seconds since 1970.
            handovers: the conversations handed over in the period, from `Handovers.history`.
        """
        if not self._database.exists and not handovers:
            return {"conversations": 0}
        with self._database.opened() as connection:
            rows = connection.execute(
                "SELECT outcome, first, topic, language, seconds, usd FROM cases WHERE at >= ?", (since,)
            ).fetchall()
        cases = [Case(row[0], bool(row[1]), *row[2:]) for row in rows]
        figures = _figures(cases, handovers)
        for group in ("topic", "language"):
            names = Counter(getattr(case, group) for case in cases)
            figures[f"by_{group}"] = {
                name: _figures(
                    [case for case in cases if getattr(case, group) == name],
                    [handover for handover in handovers if handover.get(group, "") == name],
                )
                for name, _ in names.most_common(20)
            }
        return figures


def _figures(cases: Sequence[Case], handovers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compute figures of a group.

    A conversation is contained if it wasn't handed over. Staff say of a handed-over one whether it was resolved.
    """
    conversations = sum(case.first for case in cases)
    handed = min(len(handovers), conversations) if conversations else len(handovers)
    done = [handover for handover in handovers if handover["done"] is not None]
    judged = [handover["resolved"] for handover in done if handover["resolved"] is not None]
    questions = [case for case in cases if case.outcome in (*RESOLVING, "unknown", "draft")]
    resolved = sum(case.outcome in RESOLVING for case in cases) + sum(judged)
    minutes = sum(case.seconds for case in cases) / 60
    minutes += sum((handover["done"] - handover["at"]) / 60 for handover in done)
    costs = [case.usd for case in cases if case.usd is not None]
    return {
        "conversations": conversations,
        "outcomes": dict(Counter(case.outcome for case in cases)),
        "containment": _share("containment", conversations - handed, conversations),
        "handover_rate": _share("handover_rate", handed, conversations),
        "answered_rate": _share("answered_rate", sum(case.outcome in RESOLVING for case in questions), len(questions)),
        "resolved_by_staff": _share("resolved_by_staff", sum(judged), len(judged)),
        "waiting": len(handovers) - len(done),
        "minutes_per_resolved": minutes / resolved if resolved else None,
        "usd_per_resolved": sum(costs) / resolved if resolved and costs else None,
    }


def _share(name: str, count: int, total: int) -> dict[str, Any]:
    """Return a share with its 95 % interval (Wilson)."""
    score = proportion_score(name, count, total, signature="wilson", missing_reason="none yet")
    return {"value": score.value, "ci_low": score.ci_low, "ci_high": score.ci_high, "n": total}
