"""The ballot of a round: its tasks, its raters, and votes as they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sizewise.errors import SizewiseError
from sizewise.judging.adaptive import Pair, PairVotes, count_pairs, is_balancing, most_informative
from sizewise.records import JudgeRater, JudgeRound, JudgeTask, Origin, Vote
from sizewise.store import Store

TASKS_FILE, MORE_TASKS_FILE = "tasks.jsonl", "more_tasks.jsonl"
VOTES, STATE, RATERS = "votes", "state", "raters"
REPEAT_AFTER = 4  # tasks between the first and the second showing


class VoteVersion(NamedTuple):
    """A version of a vote, as it was cast, corrected or taken back."""

    at: str | None
    """Time of arrival, UTC; None in ledgers of earlier versions."""
    vote: Vote
    """The vote."""
    undone: bool
    """Whether the rater took it back."""


def tasks_of(round_id: str, store: Store) -> dict[str, JudgeTask]:
    """Read the tasks of a round, including those that only judge models see."""
    folder = store.folder("round", round_id)
    names = [name for name in (TASKS_FILE, MORE_TASKS_FILE) if name == TASKS_FILE or (folder / name).exists()]
    return {task.id: task for name in names for task in store.read_rows(folder, name, JudgeTask)}


class Ballot:
    """The votes of one round, protected against replays, votes on other raters' tasks, and crashes.

    Args:
        store: where records live.
        round_id: id of the round.
    """

    def __init__(self, store: Store, round_id: str) -> None:
        self.id = round_id
        self.round = store.read(JudgeRound, round_id)
        self.tasks = tasks_of(round_id, store)
        self._by_token = {rater.token_sha256: rater for rater in self.round.raters}
        self._ledger = store.votes_ledger(round_id)
        joined = [JudgeRater.model_validate(body) for body in self._ledger.entries(RATERS).values()]
        self.raters = {rater.name: rater for rater in (*self.round.raters, *joined)}
        """Invited raters, and those who joined later: judge models, and raters whose votes were imported."""
        self._votes: dict[tuple[str, str], Vote] = {}
        self._shown: dict[str, str] = {}
        self._others: dict[str, list[JudgeTask]] = {}
        for task in self.tasks.values():
            if task.replaces:
                self._others.setdefault(task.replaces, []).append(task)
        self._versions: list[VoteVersion] = []
        self._position = 0
        self.refresh()

    def refresh(self) -> None:
        """Take in votes that arrived since the last time, also those that other processes received.

        Raises:
            SizewiseError: the shared database can't be reached.
        """
        for position, _, body in self._ledger.after(VOTES, self._position):
            self._position = position
            self._take(body)

    def _take(self, body: Mapping[str, object]) -> None:
        known = self.raters.get(str(body["rater"]))
        origin = {"origin": known.origin} if known else {}  # votes of earlier versions lack it
        vote = Vote.model_validate(origin | {key: value for key, value in body.items() if key not in ("undone", "at")})
        at, undone = body.get("at"), bool(body.get("undone"))
        self._versions.append(VoteVersion(None if at is None else str(at), vote, undone))
        self._votes.pop((vote.rater, vote.task), None)  # keeps the latest vote at the end
        if not undone:
            self._votes[vote.rater, vote.task] = vote

    @property
    def closed(self) -> bool:
        """Whether the round is closed to further votes."""
        return self._ledger.entry(STATE, "closed") is not None

    def close_votes(self) -> None:
        """Close the round: later votes are refused."""
        self._ledger.append(STATE, "closed", {"at": datetime.now(UTC).isoformat(timespec="seconds")})

    def join(self, name: str, origin: Origin, tasks: Sequence[str]) -> JudgeRater:
        """Add a rater who votes without a link; a rater who joined before gets these tasks too.

        Raises:
            SizewiseError: another rater has this name.
        """
        known = self.raters.get(name)
        if known is not None and (known.origin != origin or known in self.round.raters):
            raise SizewiseError(f"This round already has a rater named '{name}'.", "a name that is still free", "")
        before = known.tasks if known else ()
        rater = JudgeRater(name=name, token_sha256="", origin=origin, tasks=tuple(dict.fromkeys([*before, *tasks])))
        # The ledger keeps the first entry of a key, so a rater with more tasks than before needs a new key.
        key = f"{name} {len(rater.tasks)}" if known else name
        self._ledger.append(RATERS, key, rater.model_dump(mode="json"))
        self.raters[name] = rater
        return rater

    def rater(self, token: str) -> JudgeRater:
        """Look up the rater of a token.

        Raises:
            SizewiseError: the token is unknown or has expired.
        """
        found = self._by_token.get(token_hash(token))
        if found is None:
            raise SizewiseError(
                "This link isn't valid.", "the link from your invitation", "ask the sender for a new one"
            )
        if datetime.now(UTC) > datetime.fromisoformat(self.round.expires):
            raise SizewiseError(
                f"This link expired on {self.round.expires}.", "a vote before that", "ask the sender for a new one"
            )
        return found

    @property
    def sample_fixed(self) -> bool:
        """Whether the number of votes on each pair is independent of the votes, so that ordinary tests apply.

        The round is closed, and results of earlier votes didn't choose the next pairs: either the round isn't adaptive,
        or all of its votes were needed to balance the pairs. In all other states only anytime-valid tests apply.
        """
        return self.closed and (not self.round.adaptive or is_balancing(self._counts()))

    def next_task(self, rater: JudgeRater) -> JudgeTask | None:
        """Return the rater's next task without a vote, or None when all are done.

        The task stays the same until it has a vote. A repeat waits until some tasks after its first showing.
        """
        voted = self._voted(rater)
        waiting = [self.tasks[name] for name in rater.tasks if self._place(name) not in voted]
        shown = self._shown.get(rater.name)
        if not waiting:
            return None
        if shown and self._place(shown) not in voted:
            return self.tasks[shown]
        done = [task for name, task in self._votes if name == rater.name]
        early = {*(task.id for task in waiting), *done[-(REPEAT_AFTER - 1) :]}
        found = next((task for task in waiting if task.repeats not in early), waiting[0])
        if self.round.adaptive and found.purpose == "vote":
            found = most_informative(self._options(waiting), self._counts())
        self._shown[rater.name] = found.id
        return found

    def done(self, rater: JudgeRater) -> int:
        """Count a rater's tasks with a vote, on the task itself or on the pair asked in its place."""
        voted = self._voted(rater)
        return sum(self._place(name) in voted for name in rater.tasks)

    def _counts(self) -> dict[Pair, PairVotes]:
        return count_pairs((self.tasks[vote.task], vote) for vote in self._votes.values())

    def _place(self, task: str) -> str:
        """Return the assigned task in whose place a task is asked; usually itself."""
        return self.tasks[task].replaces or task

    def _voted(self, rater: JudgeRater) -> set[str]:
        return {self._place(task) for name, task in self._votes if name == rater.name}

    def _judged_elsewhere(self, vote: Vote) -> bool:
        """Check whether the rater of a vote has judged another pair in the same place."""
        place = self._place(vote.task)
        return any(
            name == vote.rater and task != vote.task and self._place(task) == place for name, task in self._votes
        )

    def _options(self, waiting: Sequence[JudgeTask]) -> list[JudgeTask]:
        """Return the pairs that can be asked next, in the order of the queue.

        Once a rater has judged an example, the others see the same pair, so that their agreement can be measured.
        """
        chosen = {self._place(task): self.tasks[task] for _, task in self._votes if self.tasks[task].purpose == "vote"}
        found: list[JudgeTask] = []
        for task in waiting:
            if task.purpose == "vote":
                found += [chosen[task.id]] if task.id in chosen else [task, *self._others.get(task.id, ())]
        return found

    def last(self, rater: JudgeRater) -> str | None:
        """Return the task of the rater's latest vote that still counts."""
        found = [task for name, task in self._votes if name == rater.name]
        return found[-1] if found else None

    def vote(self, rater: JudgeRater, vote: Vote, nonce: str) -> None:
        """Save a vote. Repeating a nonce changes nothing; a new vote on the same task replaces the old one.

        Raises:
            SizewiseError: the round is closed, the task belongs to another rater, or the choice doesn't fit the task.
        """
        if self.closed:
            raise SizewiseError("This round is closed.", "a vote before the round was closed", "")
        assigned = vote.task in self.tasks and {vote.task, self._place(vote.task)} & set(rater.tasks)
        if not assigned or (vote.rater, vote.origin) != (rater.name, rater.origin):
            raise SizewiseError("This task isn't assigned to you.", "one of your tasks", "reload the page")
        choices = self.tasks[vote.task].choices(self.round.kind)
        if vote.choice != "skip" and vote.choice not in choices:
            raise SizewiseError(f"'{vote.choice}' isn't a choice of this task.", " or ".join(choices), "")
        answers = len(self.tasks[vote.task].answers)
        if not all(1 <= place <= answers for place in vote.harmful):
            raise SizewiseError(
                f"Answer {max(vote.harmful)} was flagged as harmful, but the task has {answers}.",
                f"answers from 1 to {answers}",
                "",
            )
        if vote.choice == "rated" and not vote.ratings:
            raise SizewiseError("Nothing was rated.", "at least one scale", "")
        if rater in self.round.raters and self._judged_elsewhere(vote):
            raise SizewiseError(
                "You have judged another pair on this example.", "one vote per example", "reload the page"
            )
        self._keep(vote.model_dump(mode="json"), f"{rater.name}:{vote.task}:{nonce}")

    def undo(self, rater: JudgeRater, nonce: str) -> None:
        """Undo a rater's latest vote, if there is one."""
        task = self.last(rater)
        if task is not None and not self.closed:
            body = self._votes[rater.name, task].model_dump(mode="json") | {"undone": True}
            self._keep(body, f"{rater.name}:{task}:undo:{nonce}")
            self._shown[rater.name] = task

    def _keep(self, body: dict[str, object], key: str) -> None:
        self._ledger.append(VOTES, key, body | {"at": datetime.now(UTC).isoformat(timespec="seconds")})
        self.refresh()

    def votes(self) -> list[Vote]:
        """Return the votes that count, in order of arrival."""
        return list(self._votes.values())

    def versions(self) -> list[VoteVersion]:
        """Return every version of every vote, in order of arrival; the last one of a rater on a task counts."""
        return list(self._versions)

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


def token_hash(token: str) -> str:
    """Hash the token of a link; only the hash is stored."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()
