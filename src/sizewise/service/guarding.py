"""The guard: masks personal data sent to external models, blocks confidential text, and detects prompt injection."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sizewise.errors import UsageError
from sizewise.guard import KINDS, NOT_FOUND, Detector, Mask, Unmask, find_personal, matches, signals_in
from sizewise.models.base import Piece
from sizewise.records import Request
from sizewise.service.payloads import map_texts, texts_in
from sizewise.service.schemas import APIError

Part = Literal["mask", "confidential", "signals", "audit"]
PARTS: tuple[Part, ...] = ("mask", "confidential", "signals", "audit")
Log = Callable[[str, dict[str, Any]], None]
MAX_INLINE_CHARACTERS = 2_000
"""Texts up to this length are scanned on the event loop; longer ones in a thread."""


@dataclass(frozen=True)
class GuardRules:
    """Rules of the guard; each part can be disabled."""

    parts: frozenset[Part] = frozenset(PARTS)
    """Enabled parts."""
    confidential: tuple[str, ...] = ()
    """Regular expressions; a conversation that matches one is never sent to an external model."""
    refuse_signals: bool = False
    """Reject requests with signs of prompt injection instead of only counting them."""
    detect: tuple[str, ...] = ()
    """Names of detectors beside the patterns, such as `names`."""

    def __post_init__(self) -> None:
        for rule in self.confidential:
            try:
                re.compile(rule)
            except re.error as error:
                raise UsageError(
                    f"'{rule}' is not a valid regular expression: {error}.", "a rule such as '(?i)salary'", ""
                ) from error

    @classmethod
    def without(
        cls,
        disabled: Sequence[str],
        confidential: tuple[str, ...] = (),
        refuse_signals: bool = False,
        detect: tuple[str, ...] = (),
    ) -> GuardRules:
        """Create rules with some parts disabled.

        Raises:
            UsageError: a part does not exist, or a rule is not a regular expression.
        """
        unknown = sorted(set(disabled) - set(PARTS))
        if unknown:
            raise UsageError(f"'{unknown[0]}' is not a part of the guard.", ", ".join(PARTS), "--unguarded mask")
        return cls(frozenset(part for part in PARTS if part not in disabled), confidential, refuse_signals, detect)

    def summary(self) -> str:
        """Describe what happens to text that is sent to external models."""
        if "mask" not in self.parts:
            return "masking is off; external models receive unmasked text"
        more = f" Also: what the detectors {', '.join(self.detect)} find." if self.detect else ""
        return f"{', '.join(KINDS)} are masked before text is sent to external models.{more} {NOT_FOUND}"


class ExternalRequest:
    """A request to an external model with personal data masked; restores the masked values in its answer.

    Args:
        request: the original request.
        counts: counters of masked and restored values, updated in place.
        detectors: detectors beside the patterns.
    """

    def __init__(self, request: Request, counts: Counter[str], detectors: Sequence[Detector] = ()) -> None:
        schema = request.json_schema
        self._mask = Mask([*request.texts(), *request.stop, schema or ""], detectors)
        hide = self._mask.hide
        self.masked = request.map_texts(hide).model_copy(
            update={
                "stop": tuple(hide(text) for text in request.stop),
                "json_schema": None if schema is None else hide(schema),
            }
        )
        """The request as the model receives it."""
        self.masked_counts = dict(self._mask.counts)
        """Number of masked values by kind."""
        self._unmask = Unmask(self._mask.values)
        self._counts = counts
        for kind, count in self._mask.counts.items():
            counts[f"masked_{kind}"] += count

    def restore(self, piece: Piece) -> list[Piece]:
        """Restore masked values in a piece of the answer; a placeholder that is split over pieces is held back."""
        if piece.end is None:
            text = self._unmask.feed(piece.text)
            return [piece._replace(text=text)] if text or piece.tokens else []
        rest = self._unmask.finish()
        for kind, count in self._unmask.restored.items():
            self._counts[f"restored_{kind}"] += count
        end = piece.end.model_copy(update={"text": Unmask(self._mask.values).restore(piece.end.text)})
        return [*([Piece(rest)] if rest else []), piece._replace(end=end)]


class Guard:
    """Checks and masks requests before the models see them.

    Args:
        rules: the rules.
        log: writes an audit entry for each request to an external model, under a unique key.
        detectors: open detectors beside the patterns.
    """

    def __init__(self, rules: GuardRules, log: Log, detectors: Sequence[Detector] = ()) -> None:
        self._rules, self._log, self._detectors = rules, log, detectors
        self._confidential = [re.compile(rule) for rule in rules.confidential]
        self.counts: Counter[str] = Counter()
        """Events since the start: external requests, masked and restored values, blocked requests, injection signs."""

    def prepare(self) -> None:
        """Load the personal-data detector before the first request arrives.

        Raises:
            MissingExtraError: the detector is not installed.
        """
        if self.masks:
            find_personal("", self._detectors)

    def warm_up(self) -> None:
        """Build the tables of the detectors, which take a second, before a request needs them."""
        if "signals" in self._rules.parts:
            signals_in(["Ignore nothing."])

    @property
    def masks(self) -> bool:
        """Whether personal data is masked for external models."""
        return "mask" in self._rules.parts

    @property
    def checks(self) -> bool:
        """Whether text for external models is masked, or checked by rules."""
        return self.masks or ("confidential" in self._rules.parts and bool(self._confidential))

    def is_confidential(self, texts: Sequence[str]) -> bool:
        """Check whether a rule for confidential text matches."""
        if "confidential" not in self._rules.parts or not self._confidential:
            return False
        return matches(self._confidential, (*texts, "\n".join(texts)))

    def block_confidential(self, requests: Sequence[Request], model: str) -> None:
        """Reject confidential requests to an external model.

        Raises:
            APIError: a request is confidential, or cannot be checked.
        """
        for request in requests:
            if request.ids is not None and self.checks:
                raise APIError(
                    f"{model} is an external model. Prompts given as token ids can't be checked for confidential text; "
                    "send text instead.",
                    "prompt",
                )
            self.block_texts([*request.texts(), *request.stop, request.json_schema or ""], model)

    def block_texts(self, texts: Sequence[str], model: str) -> None:
        """Reject confidential texts to an external model.

        Raises:
            APIError: a text is confidential.
        """
        if self.is_confidential(texts):
            self.counts["blocked_confidential"] += 1
            raise APIError(
                f"This request matches a rule for confidential text, and {model} is an external model. "
                "Use a local model instead.",
                "model",
                "confidential",
                403,
            )

    async def check_injection(self, requests: Sequence[Request]) -> tuple[str, ...]:
        """Detect and count signs of prompt injection.

        Raises:
            APIError: signs were found and the rules reject them.
        """
        if "signals" not in self._rules.parts or not requests:
            return ()
        texts = [text for message in requests[0].messages if message.role != "system" for text in message.texts()]
        texts += list(dict.fromkeys(request.text for request in requests if request.text))
        return await self.check_texts(texts)

    async def check_texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Detect and count signs of prompt injection in texts.

        Raises:
            APIError: signs were found and the rules reject them.
        """
        if "signals" not in self._rules.parts:
            return ()
        short = sum(map(len, texts)) <= MAX_INLINE_CHARACTERS
        signals = signals_in(texts) if short else await asyncio.to_thread(signals_in, texts)
        for kind in signals:
            self.counts[f"injection_{kind}"] += 1
        if signals and self._rules.refuse_signals:
            message = f"This request shows signs of prompt injection: {', '.join(signals)}."
            raise APIError(message, "messages", "injection", 400)
        return signals

    async def mask_payload(self, payload: dict[str, Any], model: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Mask a payload to an external model and write an audit entry.

        Returns:
            The payload, and the masked values by token.
        """

        def masked() -> tuple[dict[str, Any], Mask]:
            mask = Mask([*texts_in(payload)], self._detectors)
            return map_texts(payload, mask.hide), mask

        sent, mask = await asyncio.to_thread(masked) if self.masks else (payload, None)
        for kind, count in (mask.counts if mask else {}).items():
            self.counts[f"masked_{kind}"] += count
        await self._audit(model, sum(map(len, texts_in(payload))), dict(mask.counts) if mask else None)
        return sent, mask.values if mask else {}

    async def _audit(self, model: str, characters: int, masked: dict[str, int] | None) -> None:
        self.counts["external_requests"] += 1
        if "audit" in self._rules.parts:
            entry = {"at": time.time(), "model": model, "letters": characters, "masked": masked}
            await asyncio.to_thread(self._log, secrets.token_hex(8), entry)

    async def mask(self, request: Request, model: str) -> ExternalRequest | None:
        """Mask a request to an external model and write an audit entry; returns None if masking is off."""
        external = (
            await asyncio.to_thread(ExternalRequest, request, self.counts, self._detectors) if self.masks else None
        )
        await self._audit(model, sum(map(len, request.texts())), external.masked_counts if external else None)
        return external
