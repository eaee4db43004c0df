"""The votes of a round, as they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sizewise.errors import SizewiseError
from sizewise.records import JudgeRater, JudgeRound, JudgeTask, Origin, Vote
from sizewise.store import Store

TASKS_FILE, MORE_TASKS_FILE = "tasks.jsonl", "more_tasks.jsonl"
VOTES, STATE, RATERS = "votes", "state", "raters"


def tasks_of(round_id: str, store: Store) -> dict[str, JudgeTask]:
    """Give the tasks of a round, those that only judge models see included."""
    folder = store.folder("round", round_id)
    names = [name for name in (TASKS_FILE, MORE_TASKS_FILE) if name == TASKS_FILE or (folder / name).exists()]
    return {task.id: task for name in names for task in store.read_rows(folder, name, JudgeTask)}


class Ballot:
    """The votes of one round; safe against replays, other people's tasks and a kill at any moment.

    Args:
        store: where records live.
        round_id: id of the round.
    """

    def __init__(self, store: Store, round_id: str) -> None:
        self.id = round_id
        self.round = store.read(JudgeRound, round_id)
        self.tasks = tasks_of(round_id, store)
        self._by_token = {rater.token_sha256: rater for rater in self.round.raters}
        self._ledger = store.ledger("round", round_id, any_thread=True)
        joined = [JudgeRater.model_validate(body) for body in self._ledger.entries(RATERS).values()]
        self.raters = {rater.name: rater for rater in (*self.round.raters, *joined)}
        """Who was asked, and who joined later: judge models, and those whose votes came from a file."""
        self._votes: dict[tuple[str, str], Vote] = {}
        for body in self._ledger.entries(VOTES).values():
            self._take(body)

    def _take(self, body: Mapping[str, object]) -> None:
        known = self.raters.get(str(body["rater"]))
        origin = {"origin": known.origin} if known else {}  # votes of before did not carry it
        vote = Vote.model_validate(origin | {key: value for key, value in body.items() if key != "undone"})
        if body.get("undone"):
            self._votes.pop((vote.rater, vote.task), None)
        else:
            self._votes[vote.rater, vote.task] = vote

    @property
    def closed(self) -> bool:
        """Whether votes are no longer taken."""
        return self._ledger.entry(STATE, "closed") is not None

    def close_votes(self) -> None:
        """Take no more votes from now on."""
        self._ledger.append(STATE, "closed", {"at": datetime.now(UTC).isoformat(timespec="seconds")})

    def join(self, name: str, origin: Origin, tasks: Sequence[str]) -> JudgeRater:
        """Let somebody in who votes without a link; those who are in already see these tasks too.

        Raises:
            SizewiseError: this name is another's.
        """
        known = self.raters.get(name)
        if known is not None and (known.origin != origin or known in self.round.raters):
            raise SizewiseError(f"There is a rater named '{name}' already.", "a name of its own", "")
        before = known.tasks if known else ()
        rater = JudgeRater(name=name, token_sha256="", origin=origin, tasks=tuple(dict.fromkeys([*before, *tasks])))
        # The first entry of a key stays: whoever sees more tasks than before has another.
        key = f"{name} {len(rater.tasks)}" if known else name
        self._ledger.append(RATERS, key, rater.model_dump(mode="json"))
        self.raters[name] = rater
        return rater

    def rater(self, token: str) -> JudgeRater:
        """Give the rater of a token.

        Raises:
            SizewiseError: the token is forged, or its time is over.
        """
        found = self._by_token.get(token_hash(token))
        if found is None:
            raise SizewiseError("This link is not known.", "the link that you were given", "ask whoever sent it")
        if datetime.now(UTC) > datetime.fromisoformat(self.round.expires):
            raise SizewiseError("This link is over.", f"a vote before {self.round.expires}", "ask whoever sent it")
        return found

    def next_task(self, rater: JudgeRater) -> JudgeTask | None:
        """Give the first task without a vote; None where all are done."""
        name = next((name for name in rater.tasks if (rater.name, name) not in self._votes), None)
        return None if name is None else self.tasks[name]

    def done(self, rater: JudgeRater) -> int:
        """Count a rater's tasks with a vote."""
        return sum((rater.name, name) in self._votes for name in rater.tasks)

    def last(self, rater: JudgeRater) -> str | None:
        """Give the task that this rater judged last, of those that still count."""
        found = [task for name, task in self._votes if name == rater.name]
        return found[-1] if found else None

    def vote(self, rater: JudgeRater, vote: Vote, nonce: str) -> None:
        """Keep a vote; the same nonce again changes nothing, another vote on the same task takes its place.

        Raises:
            SizewiseError: the round is closed, the task is another's, or the choice does not fit.
        """
        if self.closed:
            raise SizewiseError("This round is closed.", "a vote before its end", "")
        if vote.task not in rater.tasks or (vote.rater, vote.origin) != (rater.name, rater.origin):
            raise SizewiseError("This task is not yours.", "a task of your own", "load the page again")
        choices = self.tasks[vote.task].choices(self.round.kind)
        if vote.choice != "skip" and vote.choice not in choices:
            raise SizewiseError(f"'{vote.choice}' is no choice here.", " or ".join(choices), "")
        if vote.choice == "rated" and not vote.ratings:
            raise SizewiseError("Nothing was rated.", "at least one scale", "")
        self._keep(vote.model_dump(mode="json"), f"{rater.name}:{vote.task}:{nonce}")

    def undo(self, rater: JudgeRater, nonce: str) -> None:
        """Take back the last vote of a rater, if there is one."""
        task = self.last(rater)
        if task is not None and not self.closed:
            body = self._votes[rater.name, task].model_dump(mode="json") | {"undone": True}
            self._keep(body, f"{rater.name}:{task}:undo:{nonce}")

    def _keep(self, body: dict[str, object], key: str) -> None:
        if self._ledger.entry(VOTES, key) is None:
            self._ledger.append(VOTES, key, body)
            self._votes.pop((str(body["rater"]), str(body["task"])), None)  # the last one stands last
            self._take(body)

    def votes(self) -> list[Vote]:
        """Give the votes that count, in the order of arrival."""
        return list(self._votes.values())

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


def token_hash(token: str) -> str:
    """Give what is kept of a link's token."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()
