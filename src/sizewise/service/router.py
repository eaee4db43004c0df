"""The model `auto`: a policy decides who answers; what is confidential never reaches the large model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.responses import JSONResponse, Response

from sizewise.errors import SizewiseError
from sizewise.records import Policy, Request
from sizewise.routing import CONFIDENTIAL, Decision, DriftWatches, chance_after, decide_prompt
from sizewise.service.guarding import Guard
from sizewise.service.model_runner import ModelRunner
from sizewise.service.schemas import Refused
from sizewise.service.shadow import Shadow, Tried, Watched

AUTO = "auto"
CLIENT_LEFT = 499
Answering = Callable[[ModelRunner], Awaitable[Response]]


class Router:
    """Decides between a small and a large model, and keeps count.

    Args:
        policy: what it goes by.
        small: the small model.
        large: the large one.
        guard: says what may not leave this machine, whatever the policy says.
        shadow: share of the small model's answers that the large one checks.

    Raises:
        SizewiseError: the policy was made for other models.
    """

    def __init__(
        self, policy: Policy, small: ModelRunner, large: ModelRunner, guard: Guard, shadow: float = 0.0
    ) -> None:
        for what, made_for, served in (("small", policy.small, small.name), ("large", policy.large, large.name)):
            if made_for is not None and made_for != served:
                raise SizewiseError(
                    f"This policy was made for the {what} model '{made_for}', and '{served}' is served.",
                    f"sizewise serve SMALL LARGE with {what} {made_for}",
                    "sizewise route calibrate FILE.csv --small NAME --large NAME --out policy.json",
                )
        self.policy, self.small, self.large = policy, small, large
        self._guard = guard
        self.watch = DriftWatches(policy)
        self.shadow = Shadow(large.bare(), shadow, policy.calibration.risk) if shadow else None
        self._watched = Watched(small, self.shadow.heard) if self.shadow else small
        self.counts: Counter[str] = Counter()

    def decide(
        self, asked: Request, question: str | None = None, with_tools: bool = False, asker: str = ""
    ) -> Decision:
        """Decide for a conversation; its last question counts for the chance, all of it for the rules.

        Args:
            asked: the conversation.
            question: its last question, where the last message is none.
            with_tools: tools may be called, which a small model that is asked in a form of its own cannot.
            asker: name of the key; its prompts alone do not send everybody's to the large model.
        """
        whole = "\n".join(message.content for message in asked.messages) or (asked.text or "")
        last = question or (asked.messages[-1].content if asked.messages else whole)
        rules = decide_prompt(self.policy, whole)
        if self._guard.is_confidential([whole, asked.json_schema or ""]):
            rules = rules._replace(model="small", why=CONFIDENTIAL, may_leave=False)
        if not rules.may_leave:
            self.counts["confidential"] += 1
            return rules
        found = decide_prompt(self.policy, last)
        self.watch.add(found.look, asker)
        if with_tools and found.may_leave and not self.small.takes_tools:
            why = "tools are given, and the small model is asked in a form of its own"
            return found._replace(model="large", why=why, forced=True)
        if rules.why.startswith("longer"):
            return rules
        if not found.may_leave:  # a rule that looks at the last question alone
            self.counts["confidential"] += 1
            return found
        if self.shadow is not None and self.shadow.broken:
            self.counts["checks_failed"] += 1
            why = "checks of small answers no longer keep the stated risk"
            return found._replace(model="large", why=why, forced=True)
        if self.watch.drifted_for(asker):
            self.counts["drift"] += 1
            return found._replace(
                model="large",
                forced=True,
                why=f"prompts are no longer like those the policy was made from (p = {self.watch.p:.1g})",
            )
        return found

    async def answer(self, decision: Decision, answering: Answering, streamed: bool) -> Response:
        """Let the chosen model answer; where the large one fails before its first word, the small one does, marked.

        Where the policy knows what the likelihood of an answer tells, the small model tries first, and its answer is
        kept if the chance is then high enough. A streamed answer cannot be taken back: it is decided before.
        """
        after = self.policy.calibration.after
        if after is None or after.chosen is None or streamed or decision.forced or not decision.may_leave:
            return await self._decided(decision, answering)
        if "logprobs" not in self.small.description.offers:
            return await self._decided(decision, answering)
        tried = Tried(self.small)
        try:
            response = await answering(tried)
        except Refused as error:
            if error.status == CLIENT_LEFT:
                raise
            why = f"the small model failed ({error.status})"
            return await self._decided(decision._replace(model="large", why=why), answering)
        probability = chance_after(after, decision.look.probability, tried.likely)
        said = f"probability {probability:.3f} of a good answer, seen from the answer"
        if probability >= after.chosen.threshold:
            if self.shadow is not None:
                self.shadow.decided(True)
                for request, end in tried.ended:
                    self.shadow.heard(request, end)
            return self._marked(response, self.small, f"{said}, at least {after.chosen.threshold:.3f}", probability)
        self.counts["unsure_after"] += 1
        large = decision._replace(model="large", why=f"{said}, below {after.chosen.threshold:.3f}")
        return await self._decided(large, answering, probability, response)

    async def _decided(
        self,
        decision: Decision,
        answering: Answering,
        probability: float | None = None,
        instead: Response | None = None,
    ) -> Response:
        """Let the chosen model answer; `instead` is what the small one answered already, if it did."""
        checked = self._watched if decision.may_leave else self.small
        chosen = checked if decision.model == "small" else self.large
        if self.shadow is not None and decision.may_leave:
            self.shadow.decided(decision.model == "small")
        why = decision.why
        try:
            response = await answering(chosen)
        except Refused as error:
            failed = error.status >= 500 or error.status == 429
            if chosen is not self.large or not failed:
                raise
            self.counts["large_failed"] += 1
            why = f"the large model failed ({error.status}); {why}"
            chosen = self.small
            response = instead or await answering(chosen)
        return self._marked(response, chosen, why, decision.look.probability if probability is None else probability)

    def _marked(self, response: Response, chosen: ModelRunner, why: str, probability: float) -> Response:
        """Say who answered and why."""
        self.counts[chosen.name] += 1
        response.headers["X-Sizewise-Model"] = chosen.name
        response.headers["X-Sizewise-Why"] = why.encode("ascii", "replace").decode("ascii")
        response.headers["X-Sizewise-Chance"] = f"{probability:.4f}"
        if isinstance(response, JSONResponse):
            return _told(response, {"model": chosen.name, "why": why, "probability": probability})
        return response

    def summary(self) -> dict[str, Any]:
        """Say how it did, for the monitor."""
        return {
            "counts": dict(self.counts),
            "threshold": self.policy.threshold,
            "drift_p": self.watch.p,
            "drifted": self.watch.drifted,
            "drifted_keys": len(self.watch.askers),
            "shadow": self.shadow.summary() if self.shadow else None,
        }


def _told(response: JSONResponse, told: dict[str, Any]) -> JSONResponse:
    """Put who answered and why into the body, beside what clients know."""
    body = json.loads(bytes(response.body))
    body["sizewise"] = body.get("sizewise", {}) | told
    headers = {key: value for key, value in response.headers.items() if key.lower().startswith("x-sizewise")}
    return JSONResponse(body, response.status_code, headers)
