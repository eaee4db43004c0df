"""The model `auto` for decisions: a small model first, a large one beyond the stated risk, and people beyond that.

A decision stands if its probability is at least the threshold of its model. What no model decides, or may see, is
handed over to people.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from sizewise.records import Request
from sizewise.routing import probability_after
from sizewise.service.agent import Agent
from sizewise.service.api_keys import Key
from sizewise.service.decision_forms import PEOPLE, UNFIT, Asked, Outcome
from sizewise.service.model_runner import ModelRunner
from sizewise.service.schemas import APIError
from sizewise.service.state import State

MIN_PROBABILITY = 1e-12
"""Probabilities are raised to it before their logarithm is taken."""
CLOSED_TO_OTHERS = "confidential, so no other model may see it"
Ask = Callable[[ModelRunner, Sequence[Asked]], Awaitable[list[Outcome]]]


class Step(NamedTuple):
    """A model of the cascade."""

    runner: ModelRunner
    doubt: Callable[[Outcome], str]
    """Returns why a decision of this model doesn't stand; empty if it does."""


def has_cascade(state: State) -> bool:
    """Check whether the service offers `auto` for decisions."""
    return state.router is not None or state.settings.decide_at is not None


class Cascade:
    """The questions of one request to `auto`.

    Args:
        state: state of the service.
        key: API key of the client.
        request: the input, without a question.
        asked: the questions.
        ask: answers questions with one model.
    """

    def __init__(self, state: State, key: Key | None, request: Request, asked: Sequence[Asked], ask: Ask) -> None:
        self._state, self._key, self._request, self._asked, self._ask = state, key, request, asked, ask

    async def route(self) -> list[Outcome]:
        """Answer the questions; those that no model decides are handed over.

        Raises:
            APIError: the key may not use a model, or the only model failed.
        """
        steps, closed = self._steps()
        for step in steps:
            self._state.find(step.runner.name, self._key, by_auto=True)
        pending = dict.fromkeys(range(len(self._asked)), "")
        outcomes: dict[int, Outcome] = {}
        for number, step in enumerate(steps):
            if not pending:
                break
            may_skip = number + 1 < len(steps)
            for index, outcome in (await self._try(step, sorted(pending), may_skip, len(steps) > 1)).items():
                doubt = step.doubt(outcome) if outcome.decided else outcome.reason
                reason = "; ".join(filter(None, (pending[index], doubt or outcome.reason)))
                if outcome.probabilities or index not in outcomes:
                    outcomes[index] = outcome
                outcomes[index] = replace(outcomes[index], reason=reason)
                pending[index] = reason
                if not doubt:
                    del pending[index]
        for index, reason in pending.items():
            why = f"{reason}; {CLOSED_TO_OTHERS}" if closed else reason
            outcomes[index] = replace(outcomes[index], handed_over=True, reason=why)
        if self._state.router is not None:
            found = outcomes.values()
            self._state.router.counts.update(PEOPLE if one.handed_over else one.decided_by for one in found)
        return [outcomes[index] for index in range(len(self._asked))]

    def _steps(self) -> tuple[list[Step], bool]:
        """Return the models to ask, in order, and whether the large one was left out because of a confidential text."""
        state, router = self._state, self._state.router
        served = [runner for runner in state.runners if not isinstance(runner, Agent)]
        small, large = served[0], served[1] if len(served) > 1 else None
        predicted, first = None, "small"
        confidential = state.guard.is_confidential(self._texts())
        small.watch_drift(self._request)
        if router is not None:
            decision = router.decide(self._request, client=self._key.name if self._key else "")
            confidential = confidential or not decision.may_leave
            predicted = decision.features.probability
            after = router.policy.calibration.after
            answers_first = state.settings.decide_at is not None or (after is not None and after.chosen is not None)
            first = decision.model if decision.forced or not answers_first else "small"
        step = Step(small, lambda outcome: self._doubt_small(outcome, predicted))
        if large is None or (confidential and (router is not None or large.outside)):
            return [step], confidential and large is not None
        minimum = state.settings.decide_at[1] if state.settings.decide_at else 0.0
        last = Step(large, lambda outcome: _less_than(minimum, outcome))
        return ([step, last] if first == "small" else [last]), False

    def _texts(self) -> list[str]:
        requests = [self._request.model_copy(update={"question": asked.question}) for asked in self._asked]
        return list(dict.fromkeys(text for request in requests for text in request.texts()))

    def _doubt_small(self, outcome: Outcome, predicted: float | None) -> str:
        """Return why a decision of the small model doesn't stand: by its probability, or as a policy calibrated it.

        Args:
            outcome: the decision.
            predicted: probability of a good answer that a policy predicts from the input.
        """
        if outcome.is_unread:
            return outcome.reason
        minimums, router = self._state.settings.decide_at, self._state.router
        if minimums is not None:
            return _less_than(minimums[0], outcome)
        after = router.policy.calibration.after if router else None
        if after is None or after.chosen is None or predicted is None:
            return ""
        probability = probability_after(after, predicted, math.log(max(outcome.top, MIN_PROBABILITY)))
        if probability >= after.chosen.threshold:
            return ""
        return f"probability {probability:.3f} of a good decision; below the threshold {after.chosen.threshold:.3f}"

    async def _try(self, step: Step, indices: Sequence[int], may_skip: bool, may_fail: bool) -> dict[int, Outcome]:
        """Ask one model.

        Args:
            step: the model.
            indices: the questions.
            may_skip: leave out questions that a classifier wasn't trained for.
            may_fail: return no probabilities if the model fails, instead of an error.

        Raises:
            APIError: the model rejects the request, or fails.
        """
        try:
            return dict(zip(indices, await self._ask(step.runner, [self._asked[i] for i in indices]), strict=True))
        except APIError as error:
            name = step.runner.name
            if may_skip and error.code in UNFIT and len(indices) > 1:  # perhaps only one of them doesn't fit
                found: dict[int, Outcome] = {}
                for index in indices:
                    found |= await self._try(step, [index], may_skip, may_fail)
                return found
            if may_skip and error.code in UNFIT:
                return {indices[0]: Outcome(name, reason=f"{name} wasn't trained for this question")}
            if may_fail and (error.status >= 500 or error.status == 429):
                return {index: Outcome(name, reason=f"{name} failed ({error.status})") for index in indices}
            raise


def _less_than(minimum: float, outcome: Outcome) -> str:
    if outcome.is_unread:
        return outcome.reason
    if outcome.top >= minimum:
        return ""
    among = " among all that it knows" if outcome.total < 1 else ""
    probability = f"{outcome.decided_by}: probability {outcome.top:.3f} of the most likely option{among}"
    return f"{probability}; below the threshold {minimum:.3f}"
