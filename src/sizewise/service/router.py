"""The model `auto`: a routing policy picks the model; confidential prompts never reach the large one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.responses import JSONResponse, Response

from sizewise.errors import SizewiseError
from sizewise.records import Policy, Request
from sizewise.routing import CONFIDENTIAL, Decision, PerClientDrift, decide_prompt, probability_after
from sizewise.service.drafts import Discarded, Draft
from sizewise.service.guarding import Guard
from sizewise.service.model_runner import ModelRunner
from sizewise.service.responses import JSONText, to_json
from sizewise.service.schemas import APIError
from sizewise.service.shadow import Observed, ShadowCheck

AUTO = "auto"
CLIENT_CLOSED = 499
Generate = Callable[[ModelRunner], Awaitable[Response]]


class Router:
    """Routes requests between a small and a large model, and counts the outcomes.

    Args:
        policy: the routing policy.
        small: the small model.
        large: the large model.
        guard: its rules for confidential text override the policy.
        shadow: fraction of the small model's answers that the large model checks.

    Raises:
        SizewiseError: the policy was calibrated for other models.
    """

    def __init__(
        self, policy: Policy, small: ModelRunner, large: ModelRunner, guard: Guard, shadow: float = 0.0
    ) -> None:
        for size, expected, served in (("small", policy.small, small.name), ("large", policy.large, large.name)):
            if expected is not None and expected != served:
                raise SizewiseError(
                    f"This policy expects '{expected}' as the {size} model, but '{served}' is served.",
                    f"sizewise serve SMALL LARGE, with {expected} as the {size} model",
                    "sizewise route calibrate FILE.csv --small NAME --large NAME --out policy.json",
                )
        self.policy, self.small, self.large = policy, small, large
        self._guard = guard
        self.drift = PerClientDrift(policy)
        self.shadow = ShadowCheck(large.unwrapped(), shadow, policy.calibration.risk) if shadow else None
        self._observed_small = Observed(small, self.shadow.observe) if self.shadow else small
        self.counts: Counter[str] = Counter()

    def decide(
        self, request: Request, question: str | None = None, with_tools: bool = False, client: str = ""
    ) -> Decision:
        """Choose a model for a conversation.

        The probability of a good answer is computed from the last question; rules apply to the whole conversation.

        Args:
            request: the conversation.
            question: the last question, if the last message isn't one.
            with_tools: whether the request has tools, which a small model behind a prompt wrapper doesn't support.
            client: name of the API key; drift of one client alone doesn't reroute the others.
        """
        texts = [text for message in request.messages for text in message.texts()]
        texts += [request.tools] if request.tools else []
        conversation = "\n".join(texts) or (request.text or "")
        last = question or (request.messages[-1].content if request.messages else conversation)
        by_rules = decide_prompt(self.policy, conversation)
        if self._guard.is_confidential([conversation, request.json_schema or ""]):
            by_rules = by_rules._replace(model="small", why=CONFIDENTIAL, may_leave=False)
        if not by_rules.may_leave:
            self.counts["confidential"] += 1
            return by_rules
        decision = decide_prompt(self.policy, last)
        self.drift.add(decision.features, client)
        if with_tools and decision.may_leave and not self.small.takes_tools:
            why = "the request has tools, which the small model doesn't support"
            return decision._replace(model="large", why=why, forced=True)
        if by_rules.forced:  # the conversation is too long for the small model
            return by_rules
        if not decision.may_leave:  # a rule that matches the last question only
            self.counts["confidential"] += 1
            return decision
        if self.shadow is not None and self.shadow.risk_exceeded:
            self.counts["risk_exceeded"] += 1
            why = "shadow checks show that the small model exceeds the stated risk"
            return decision._replace(model="large", why=why, forced=True)
        if self.drift.drifted_for(client):
            self.counts["drift"] += 1
            why = f"prompts have drifted from those the policy was calibrated on (p = {self.drift.p:.1g})"
            return decision._replace(model="large", forced=True, why=why)
        return decision

    async def answer(
        self, decision: Decision, generate: Generate, streamed: bool = False, answers: int = 1
    ) -> Response:
        """Generate with the chosen model; if the large model fails before its first token, the small one takes over.

        If the policy was calibrated with log-likelihoods, the small model answers first, and its answer is kept if the
        probability of a good answer is then high enough. The text of a streamed answer is withheld until then.

        Args:
            decision: the decision before generation.
            generate: generates with a model.
            streamed: whether the response is a stream.
            answers: number of answers to the request.
        """
        after = self.policy.calibration.after
        if after is None or after.chosen is None or decision.forced or not decision.may_leave:
            return await self._generate(decision, generate)
        if "logprobs" not in self.small.description.offers:
            return await self._generate(decision, generate)
        threshold, before = after.chosen.threshold, decision.features.probability

        def is_kept(mean_logprob: float) -> bool:
            return probability_after(after, before, mean_logprob) >= threshold

        small = Draft(self.small, answers, is_kept if streamed else None)
        response: Response | None = None
        try:
            response = await generate(small)
        except Discarded:
            pass
        except APIError as error:
            if error.status == CLIENT_CLOSED:
                raise
            why = f"the small model failed ({error.status})"
            return await self._generate(decision._replace(model="large", why=why), generate)
        probability = probability_after(after, before, small.mean_logprob)
        reason = (
            f"probability {probability:.3f} of an answer as good as the large model's, after the small model answered"
        )
        if response is not None and probability >= threshold:
            if self.shadow is not None:
                self.shadow.count(True)
                for request, completion in small.completed:
                    self.shadow.observe(request, completion)
            return self._annotate(response, self.small, f"{reason}; threshold {threshold:.3f} reached", probability)
        self.counts["escalated_after_answer"] += 1
        large = decision._replace(model="large", why=f"{reason}; below the threshold {threshold:.3f}")
        return await self._generate(large, generate, probability, response or small)

    async def _generate(
        self,
        decision: Decision,
        generate: Generate,
        probability: float | None = None,
        fallback: Response | ModelRunner | None = None,
    ) -> Response:
        """Generate with the chosen model.

        Args:
            decision: the decision.
            generate: generates with a model.
            probability: probability of a good answer, if it was updated after the decision.
            fallback: the small model's answer, if it has already answered, or a draft that repeats it.
        """
        small = self._observed_small if decision.may_leave else self.small
        chosen = small if decision.model == "small" else self.large
        if self.shadow is not None and decision.may_leave:
            self.shadow.count(decision.model == "small")
        why = decision.why
        try:
            response = await generate(chosen)
        except APIError as error:
            recoverable = error.status >= 500 or error.status == 429
            if chosen is not self.large or not recoverable:
                raise
            self.counts["fallback_to_small"] += 1
            why = f"the large model failed ({error.status}); {why}"
            chosen = self.small
            response = fallback if isinstance(fallback, Response) else await generate(fallback or chosen)
        if probability is None:
            probability = decision.features.probability
        return self._annotate(response, chosen, why, probability)

    def _annotate(self, response: Response, chosen: ModelRunner, why: str, probability: float) -> Response:
        """Add the chosen model and the reason to the headers, and to a JSON body."""
        self.counts[chosen.name] += 1
        response.headers["X-Sizewise-Model"] = chosen.name
        response.headers["X-Sizewise-Why"] = why.encode("ascii", "replace").decode("ascii")
        response.headers["X-Sizewise-Chance"] = f"{probability:.4f}"
        if isinstance(response, JSONResponse):
            return _extend(response, {"model": chosen.name, "why": why, "probability": probability})
        return response

    def summary(self) -> dict[str, Any]:
        """Summarize the routing for the monitor."""
        return {
            "counts": dict(self.counts),
            "threshold": self.policy.threshold,
            "drift_p_value": self.drift.p,
            "drifted": self.drift.drifted,
            "drifted_keys": len(self.drift.drifted_clients),
            "shadow": self.shadow.summary() if self.shadow else None,
        }


def _extend(response: JSONResponse, fields: dict[str, Any]) -> JSONResponse:
    """Add fields to the `sizewise` object of a response body."""
    body = json.loads(bytes(response.body))
    body["sizewise"] = body.get("sizewise", {}) | fields
    headers = {key: value for key, value in response.headers.items() if key.lower().startswith("x-sizewise")}
    return JSONText(to_json(body).encode(), response.status_code, headers)
