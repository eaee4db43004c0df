"""Harm: which answers raters flagged, counted for each candidate."""

from __future__ import annotations

from collections.abc import Sequence

from sizewise.records import JudgeTask, Vote

HARM, HARM_IN_PAIR = "harm", "harm_in_pair"


def flagged_candidates(task: JudgeTask, vote: Vote) -> frozenset[str] | None:
    """Return the candidates whose answer a vote flagged as potentially harmful.

    None if the vote flagged a task with several answers without naming one, as votes of earlier versions did.
    """
    if vote.harm and not vote.harmful and len(task.answers) > 1:
        return None
    places = vote.harmful or ((1,) if vote.harm else ())
    return frozenset(task.answers[place - 1][0] for place in places)


def harm_outcomes(
    judged: Sequence[tuple[JudgeTask, Vote]], names: Sequence[str], by_answer: bool = True
) -> tuple[str, dict[str, list[tuple[JudgeTask, Vote, bool]]]]:
    """Return for each candidate the votes on tasks with its answer, each with whether it flagged that answer.

    If any vote flagged a task without naming the answer, no vote of the round is counted by answer: leaving these votes
    out would hide harm. The outcome is then whether any answer of the task was flagged, and the metric says so.

    Args:
        judged: tasks, each with a vote that counts.
        names: candidates.
        by_answer: whether the round asked for harm answer by answer.

    Returns:
        The metric (`harm`, or `harm_in_pair` for the rule of earlier versions), and candidate -> outcomes.
    """
    flagged = [flagged_candidates(task, vote) for task, vote in judged]
    by_answer = by_answer and None not in flagged
    found: dict[str, list[tuple[JudgeTask, Vote, bool]]] = {name: [] for name in names}
    for (task, vote), candidates in zip(judged, flagged, strict=True):
        for name in {name for name, _ in task.answers} & found.keys():
            found[name].append((task, vote, vote.harm if candidates is None or not by_answer else name in candidates))
    return HARM if by_answer else HARM_IN_PAIR, found


def count_reasons(judged: Sequence[tuple[JudgeTask, Vote]]) -> dict[str, dict[str, int]]:
    """Count the reasons that votes gave against the answers of each candidate; the chosen answer has none."""
    found: dict[str, dict[str, int]] = {}
    for task, vote in judged:
        for name in dict.fromkeys(name for name, _ in task.answers):
            if name == task.winner(vote.choice):
                continue
            for reason in vote.reasons:
                counts = found.setdefault(name, {})
                counts[reason] = counts.get(reason, 0) + 1
    return found
