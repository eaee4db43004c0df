"""report_conversations(): how often models and people were taken for a person, and how well they were recognized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sizewise.errors import SizewiseError
from sizewise.judging.conversations import VOID, Conversations
from sizewise.judging.vote_scores import clustering, codes_of, raters_note, sampled_raters, vote_score
from sizewise.records import Conversation, ConversationReport, ConversationVerdict, Difference, Score
from sizewise.records.conversations import PERSON
from sizewise.stats import MIN_CLUSTERS, detectable_difference, holm, needed_for
from sizewise.stats.crossed import Estimate, Reading, crossed, imagined_documents, share_interval
from sizewise.store import Store

METRIC = "taken_for_a_person"
MAX_PEOPLE_SHARE = 0.6  # of the verdicts on conversations with people, and with models
MIN_WITNESSES = 3


class _Judged(NamedTuple):
    """A verdict and the conversation that it is about."""

    talk: Conversation
    verdict: ConversationVerdict

    @property
    def taken(self) -> float:
        """1 if the partner was taken for a person, else 0."""
        return float(self.verdict.choice == "person")

    @property
    def right(self) -> bool:
        """Whether the verdict is correct."""
        return (self.verdict.choice == "person") == (self.talk.partner == PERSON)


def report_conversations(round_id: str, *, store: Store | None = None) -> ConversationReport:
    """Summarize the verdicts of a round of conversations.

    Shares have intervals over interrogators and conversations. A model's share is compared with that of people in the
    same round, because people are also taken for models; the tests are corrected for the number of models.

    Args:
        round_id: id of the round.
        store: where records live; by default SIZEWISE_HOME.

    Raises:
        SizewiseError: there is no verdict yet.
    """
    held = Conversations(store or Store(), round_id)
    try:
        closed = held.closed
    finally:
        held.close()
    judged = [_Judged(held.started[name], verdict) for name, verdict in held.verdicts.items()]
    if not judged:
        raise SizewiseError(
            f"{round_id} has no verdicts yet.", "one at least", f"sizewise judge converse {round_id} serves it"
        )
    reading: Reading = "once" if closed else "open"
    groups = {name: [one for one in judged if one.talk.partner == name] for name in (PERSON, *held.round.models)}
    void = {name: end for name, end in held.ends.items() if end.reason in VOID}
    failed = Counter(held.started[name].partner for name, end in void.items() if end.reason != "left")
    origins = {one.name: one.origin for one in held.round.interrogators}
    unjudged = len(held.started) - len(void) - len(judged)
    return ConversationReport(
        round=round_id,
        counted=len(judged),
        planned=sum(len(one.partners) for one in held.round.interrogators),
        void=dict(Counter(end.reason for end in void.values())),
        void_by_model={name: count for name, count in failed.items() if name != PERSON},
        unjudged=unjudged,
        origins=dict(Counter(origins[one.talk.interrogator] for one in judged)),
        closed=closed,
        taken_for_a_person={name: _share(METRIC, some, reading) for name, some in groups.items()},
        differences=tuple(_differences(groups, reading)),
        detection_accuracy=_detection(groups, reading),
        confidence={
            name: _confidence([one for one in judged if one.right == right], reading)
            for name, right in (("right", True), ("wrong", False))
        },
        messages={name: mean for name, some in groups.items() if (mean := _messages(held, some)) is not None},
        reasons=tuple(
            (one.talk.id, one.talk.partner, one.verdict.choice, one.verdict.reason)
            for one in judged
            if one.verdict.reason
        ),
        notes=tuple(_notes(held, groups, len(void), unjudged, closed)),
    )


def _share(metric: str, judged: Sequence[_Judged], reading: Reading) -> Score:
    found = vote_score(
        metric,
        [one.taken for one in judged],
        [one.talk.interrogator for one in judged],
        [one.talk.id for one in judged],
        reading=reading,
        missing_reason="no conversation with a verdict",
    )
    few = found.value is not None and found.ci_low is None
    return found.model_copy(update={"ci_missing_reason": _too_few(len(judged))}) if few else found


def _too_few(count: int) -> str:
    return f"{count} conversations; an interval needs at least {MIN_CLUSTERS}"


def _compare(some: Sequence[_Judged], others: Sequence[_Judged], reading: Reading) -> Estimate:
    """Estimate (1 + d) / 2, where d is how much more often the first were taken for a person."""
    both = [*some, *others]
    contributions, shrunk, floor = np.empty(len(both)), 0.5, np.zeros((1, 1))
    value, start = 0.5, 0
    for group, sign in ((some, 0.5), (others, -0.5)):
        taken = np.array([one.taken for one in group])
        contributions[start : start + len(group)] = sign * (taken - taken.mean()) / len(group)
        imagined, added = imagined_documents(taken, np.arange(len(group)))
        value, shrunk, floor = value + sign * float(taken.mean()), shrunk + sign * imagined, floor + added / 4
        start += len(group)
    raters = sampled_raters([one.talk.interrogator for one in both])
    found = crossed(contributions[:, None], raters, codes_of([one.talk.id for one in both]), floor)
    return share_interval(value, shrunk, found, reading=reading)


def _differences(groups: Mapping[str, Sequence[_Judged]], reading: Reading) -> Iterator[Difference]:
    people = groups[PERSON]
    compared = {name: some for name, some in groups.items() if name != PERSON and some and people}
    found = {name: _compare(some, people, reading) for name, some in compared.items()}
    enough = {name: min(len(some), len(people)) >= MIN_CLUSTERS for name, some in compared.items()}
    adjusted = dict(
        zip(found, holm([one.p if enough[name] else float("nan") for name, one in found.items()]), strict=True)
    )
    for name, one in found.items():
        value, count = 2 * one.value - 1, min(len(compared[name]), len(people))
        ends = (2 * one.ci_low - 1, 2 * one.ci_high - 1) if enough[name] else None
        detectable = detectable_difference(*ends) if ends else None
        yield Difference(
            metric=METRIC,
            left=name,
            right=PERSON,
            value=value,
            ci_low=ends[0] if ends else None,
            ci_high=ends[1] if ends else None,
            p=one.p if enough[name] else None,
            p_adjusted=adjusted[name] if enough[name] else None,
            detectable=detectable,
            needed=(needed_for(value, detectable, count) if detectable and value else None) if ends else MIN_CLUSTERS,
            n=len(compared[name]) + len(people),
            clusters=count,
            unit="share",
            better=None,
        )


def _detection(groups: Mapping[str, Sequence[_Judged]], reading: Reading) -> Score:
    """Estimate the mean of the shares of people and of models that were recognized."""
    people, models = groups[PERSON], [one for name, some in groups.items() if name != PERSON for one in some]
    common = {"metric": "detection_accuracy", "n": len(people) + len(models), "unit": "share"}
    raters = sampled_raters([one.talk.interrogator for one in (*people, *models)]) is not None
    signature = f"balanced|wilson|{clustering(raters, reading).replace('documents', 'conversations')}"
    if not people or not models:
        absent = f"no verdict on a conversation with a {'person' if models else 'model'}"
        return Score(**common, signature=signature, missing_reason=absent)
    found, count = _compare(people, models, reading), min(len(people), len(models))
    enough = count >= MIN_CLUSTERS
    return Score(
        **common,
        value=found.value,
        ci_low=found.ci_low if enough else None,
        ci_high=found.ci_high if enough else None,
        signature=signature,
        clusters=count,
        ci_missing_reason="" if enough else _too_few(count),
    )


def _confidence(judged: Sequence[_Judged], reading: Reading) -> Score:
    return vote_score(
        "confidence",
        [one.verdict.confidence for one in judged],
        [one.talk.interrogator for one in judged],
        [one.talk.id for one in judged],
        reading=reading,
        scale=(50.0, 100.0),
        missing_reason="no such verdict",
    )


def _messages(held: Conversations, judged: Sequence[_Judged]) -> float | None:
    """Return the mean number of the partner's messages in a conversation."""
    counts = [sum(one.author == "witness" for one in held.messages(judged_one.talk)) for judged_one in judged]
    return sum(counts) / len(counts) if counts else None


def _notes(
    held: Conversations, groups: Mapping[str, Sequence[_Judged]], void: int, unjudged: int, closed: bool
) -> Iterator[str]:
    record, judged = held.round, [one for some in groups.values() for one in some]
    people = groups[PERSON]
    if any(one.origin != "person" for one in record.interrogators):
        yield "the participants are simulated, so these figures say nothing about people"
    if not closed:
        yield "the round is open: only anytime-valid claims are made, which stay valid however often you look"
    for name, some in groups.items():
        if len(some) < MIN_CLUSTERS:
            who = "people" if name == PERSON else name
            yield f"{len(some)} conversations with {who}: too few; an interval or a test needs {MIN_CLUSTERS}"
    if note := raters_note(len({one.talk.interrogator for one in judged})):
        yield note.replace("rater", "interrogator").replace("items, judged", "conversations, judged")
    witnesses = len({one.talk.witness for one in people})
    if people and witnesses < MIN_WITNESSES:
        yield f"{witnesses} witness{'es' if witnesses > 1 else ''}: the share of people holds for them, not for others"
    if judged and not 1 - MAX_PEOPLE_SHARE <= len(people) / len(judged) <= MAX_PEOPLE_SHARE:
        yield f"{len(people)} of {len(judged)} verdicts are on people, so interrogators may have expected another mix"
    if void:
        yield f"{void} conversations don't count, because a side left, failed or wrote nothing"
    if unjudged:
        yield f"{unjudged} conversations have no verdict; if that depends on the partner, the shares are biased"
