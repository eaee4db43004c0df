"""The guard: masks personal data sent to external models, blocks confidential text, and detects prompt injection."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from sizewise.errors import SizewiseError, UsageError
from sizewise.guard import (
    KINDS,
    NOT_FOUND,
    Detector,
    Masked,
    SignalDetector,
    Unmask,
    find_personal,
    mask_texts,
    matches,
    signals_in,
)
from sizewise.models.base import Piece
from sizewise.models.signal_classifier import MAX_FALSE_SIGNALS
from sizewise.records import Request
from sizewise.service.api_keys import CLIENT
from sizewise.service.guard_processes import LONG_CHARACTERS, GuardProcesses
from sizewise.service.payloads import map_texts, texts_in
from sizewise.service.schemas import APIError

Part = Literal["mask", "confidential", "signals", "audit"]
PARTS: tuple[Part, ...] = ("mask", "confidential", "signals", "audit")
Log = Callable[[str, dict[str, Any]], None]
OpenDetectors = Callable[[tuple[str, ...]], Sequence[Detector]]
OpenClassifier = Callable[[str, float], SignalDetector]
_LOG = logging.getLogger("sizewise.service")
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
    signal_classifier: str = ""
    """URI of a trained classifier that recognizes attacks beside the rules; empty: none."""
    max_false_signals: float = MAX_FALSE_SIGNALS
    """Share of harmless texts that it may take for attacks."""

    def __post_init__(self) -> None:
        if self.signal_classifier and "signals" not in self.parts:
            raise UsageError(
                f"The classifier {self.signal_classifier} looks for signals, but the part 'signals' is off.",
                "the part on, or no classifier",
                "sizewise serve --help",
            )
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
        signal_classifier: str = "",
        max_false_signals: float = MAX_FALSE_SIGNALS,
    ) -> GuardRules:
        """Create rules with some parts disabled.

        Args:
            disabled: the parts.
            confidential: regular expressions.
            refuse_signals: whether signs of injection are refused.
            detect: names of detectors.
            signal_classifier: URI of a classifier of attacks.
            max_false_signals: share of harmless texts that it may take for attacks.

        Raises:
            UsageError: a part does not exist, or a rule is not a regular expression.
        """
        unknown = sorted(set(disabled) - set(PARTS))
        if unknown:
            raise UsageError(f"'{unknown[0]}' is not a part of the guard.", ", ".join(PARTS), "--unguarded mask")
        parts = frozenset(part for part in PARTS if part not in disabled)
        return cls(parts, confidential, refuse_signals, detect, signal_classifier, max_false_signals)

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
        masked: its masked texts.
        counts: counters of masked and restored values, updated in place.
    """

    def __init__(self, request: Request, masked: Masked, counts: Counter[str]) -> None:
        schema, hide = request.json_schema, masked.texts.__getitem__
        self.masked = request.map_texts(hide).model_copy(
            update={
                "stop": tuple(hide(text) for text in request.stop),
                "json_schema": None if schema is None else hide(schema),
            }
        )
        """The request as the model receives it."""
        self.masked_counts = masked.counts
        """Number of masked values by kind."""
        self._values = masked.values
        self._unmask = Unmask(masked.values)
        self._counts = counts
        for kind, count in masked.counts.items():
            counts[f"masked_{kind}"] += count

    def restore(self, piece: Piece) -> list[Piece]:
        """Restore masked values in a piece of the answer; a placeholder that is split over pieces is held back."""
        if piece.end is None:
            text = self._unmask.feed(piece.text)
            return [piece._replace(text=text)] if text or piece.tokens else []
        rest = self._unmask.finish()
        for kind, count in self._unmask.restored.items():
            self._counts[f"restored_{kind}"] += count
        end = piece.end.model_copy(update={"text": Unmask(self._values).restore(piece.end.text)})
        return [*([Piece(rest)] if rest else []), piece._replace(end=end)]


class Guard:
    """Checks and masks requests before the models see them.

    Args:
        rules: the rules.
        log: writes an audit entry for each request to an external model, under a unique key.
        open_detectors: opens detectors beside the patterns by their names.
        open_classifier: opens a classifier of signals by its URI and the share of false signals.
        processes: work on long texts; None: threads do.
    """

    def __init__(
        self,
        rules: GuardRules,
        log: Log,
        open_detectors: OpenDetectors = lambda names: (),
        open_classifier: OpenClassifier | None = None,
        processes: GuardProcesses | None = None,
    ) -> None:
        self._rules, self._log, self.processes = rules, log, processes
        self._open = lru_cache(maxsize=64)(open_detectors)
        self._open_classifier = None if open_classifier is None else lru_cache(maxsize=16)(open_classifier)
        self._classifiers(rules.signal_classifier)
        self._detectors = self._open(rules.detect)
        self._confidential = [re.compile(rule) for rule in rules.confidential]
        self.counts: Counter[str] = Counter()
        """Events since the start: external requests, masked and restored values, blocked requests, injection signs."""

    def prepare(self, always: bool = False) -> None:
        """Load the personal-data detector before the first request arrives.

        Args:
            always: a key asks for masking, even if the service doesn't.

        Raises:
            MissingExtraError: the detector is not installed.
        """
        if self.masks or always:
            find_personal("", self._detectors)

    def open(self, names: Sequence[str], signal_classifier: str = "") -> None:
        """Open the detectors of a key before its first request.

        Raises:
            SizewiseError: one doesn't exist or can't be opened.
        """
        self._open(tuple(dict.fromkeys((*self._rules.detect, *names))))
        self._classifiers(signal_classifier)

    def _classifiers(self, *uris: str) -> list[SignalDetector]:
        if self._open_classifier is None:
            return []
        return [self._open_classifier(uri, self._rules.max_false_signals) for uri in dict.fromkeys(uris) if uri]

    def warm_up(self) -> None:
        """Build the tables of the detectors, which take a second, before a request needs them."""
        if "signals" in self._rules.parts:
            signals_in(["Ignore nothing."])

    # Each key may have a policy of its own, which only adds to the rules of the service. `CLIENT` is the key of the
    # request, also in the tasks and threads that it starts.

    @property
    def masks(self) -> bool:
        """Whether personal data is masked for external models."""
        return "mask" in self._rules.parts or self.masks_always

    @property
    def masks_always(self) -> bool:
        """Whether personal data of this request is masked for all models."""
        key = CLIENT.get()
        return key is not None and key.mask_always

    @property
    def checks(self) -> bool:
        """Whether text for external models is masked, or checked by rules."""
        return self.masks or self._keeps_inside or bool(self._confidential_rules)

    @property
    def _keeps_inside(self) -> bool:
        key = CLIENT.get()
        return key is not None and key.never_outside

    @property
    def _confidential_rules(self) -> list[re.Pattern[str]]:
        key = CLIENT.get()
        own = [_compiled(rule) for rule in key.confidential] if key is not None else []
        return [*(self._confidential if "confidential" in self._rules.parts else ()), *own]

    def _detectors_of_request(self) -> Sequence[Detector]:
        """Open the detectors of this request.

        Raises:
            APIError: one can't be opened.
        """
        key = CLIENT.get()
        if key is None or not key.detect:
            return self._detectors
        try:
            return self._open(self._detector_names())
        except SizewiseError as error:
            _LOG.error("The detectors of the key '%s' can't be opened: %s", key.name, error.what)
            message = "The guard of this key can't look for personal data now, so nothing was sent."
            raise APIError(message, None, "guard_unavailable", 503) from error

    def _detector_names(self) -> tuple[str, ...]:
        key = CLIENT.get()
        return tuple(dict.fromkeys((*self._rules.detect, *(key.detect if key else ()))))

    def _classifier_names(self) -> tuple[str, ...]:
        key = CLIENT.get()
        return tuple(filter(None, (self._rules.signal_classifier, key.signal_classifier if key else "")))

    def _signal_detectors(self) -> Sequence[SignalDetector]:
        """Open the classifiers of signals for this request.

        Raises:
            APIError: one can't be opened.
        """
        try:
            return self._classifiers(*self._classifier_names())
        except SizewiseError as error:
            _LOG.error("A classifier of signals can't be opened: %s", error.what)
            message = "The guard can't look for signs of attacks now, so nothing was sent."
            raise APIError(message, None, "guard_unavailable", 503) from error

    def signs_in(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Detect signs of prompt injection in short texts, without counting or refusing them."""
        return signals_in(texts, self._signal_detectors())

    def _processes_for(self, texts: Sequence[str]) -> GuardProcesses | None:
        """Return the processes if a request's texts are long."""
        return self.processes if sum(map(len, texts)) >= LONG_CHARACTERS else None

    def is_confidential(self, texts: Sequence[str]) -> bool:
        """Check whether a rule for confidential text matches, or the key keeps all text inside."""
        rules = self._confidential_rules
        return self._keeps_inside or (bool(rules) and matches(rules, (*texts, "\n".join(texts))))

    async def block_confidential(self, requests: Sequence[Request], model: str) -> None:
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
            await self.block_texts([*request.texts(), *request.stop, request.json_schema or ""], model)

    async def block_texts(self, texts: Sequence[str], model: str) -> None:
        """Reject confidential texts to an external model.

        Raises:
            APIError: a text is confidential.
        """
        rules, processes = self._confidential_rules, self._processes_for(texts)
        if processes is not None and rules and not self._keeps_inside:
            patterns = [rule.pattern for rule in rules]
            confidential = await processes.matches(patterns, (*texts, "\n".join(texts)))
        else:
            confidential = self.is_confidential(texts)
        if confidential:
            self.counts["blocked_confidential"] += 1
            why = (
                "This key keeps text inside"
                if self._keeps_inside
                else "This request matches a rule for confidential text"
            )
            raise APIError(
                f"{why}, and {model} is an external model. Use a local model instead.",
                "model",
                "confidential",
                403,
            )

    async def check_injection(self, requests: Sequence[Request]) -> tuple[str, ...]:
        """Detect and count signs of prompt injection.

        Raises:
            APIError: signs were found and the rules reject them.
        """
        if not requests:
            return ()
        texts = [text for message in requests[0].messages if message.role != "system" for text in message.texts()]
        texts += list(dict.fromkeys(request.text for request in requests if request.text))
        return await self.check_texts(texts)

    async def check_texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Detect and count signs of prompt injection in texts.

        Raises:
            APIError: signs were found and the rules reject them.
        """
        key = CLIENT.get()
        refuse = key is not None and key.refuse_signals
        if "signals" not in self._rules.parts and not refuse and not self._classifier_names():
            return ()
        signals = await self._signals(texts)
        for kind in signals:
            self.counts[f"injection_{kind}"] += 1
        if signals and (refuse or self._rules.refuse_signals):
            message = f"This request shows signs of prompt injection: {', '.join(signals)}."
            raise APIError(message, "messages", "injection", 400)
        return signals

    async def _signals(self, texts: Sequence[str]) -> tuple[str, ...]:
        processes = self._processes_for(texts)
        if processes is not None:
            return await processes.signals(texts, self._classifier_names(), self._rules.max_false_signals)
        if sum(map(len, texts)) <= MAX_INLINE_CHARACTERS and not self._classifier_names():
            return signals_in(texts)
        return await asyncio.to_thread(self.signs_in, texts)

    async def mask_payload(self, payload: dict[str, Any], model: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Mask a payload to an external model and write an audit entry.

        Returns:
            The payload, and the masked values by token.
        """
        texts = [*texts_in(payload)]
        masked = await self._mask(texts) if self.masks else None
        for kind, count in (masked.counts if masked else {}).items():
            self.counts[f"masked_{kind}"] += count
        await self._audit(model, sum(map(len, texts)), masked.counts if masked else None)
        if masked is None:
            return payload, {}
        return map_texts(payload, masked.texts.__getitem__), masked.values

    async def _mask(self, texts: Sequence[str]) -> Masked:
        """Mask the texts of a request: in a process if they are long, else in a thread.

        Raises:
            SizewiseError: a text is too long.
            APIError: the detectors can't be opened, or no process could do it.
        """
        processes = self._processes_for(texts)
        if processes is not None:
            return await processes.mask(texts, self._detector_names())
        return await asyncio.to_thread(lambda: mask_texts(texts, self._detectors_of_request()))

    async def _audit(self, model: str, characters: int, masked: dict[str, int] | None) -> None:
        self.counts["external_requests"] += 1
        if "audit" in self._rules.parts:
            entry = {"at": time.time(), "model": model, "letters": characters, "masked": masked}
            key = CLIENT.get()
            if key is not None and key.policy:
                entry |= {"key": key.name, "policy": key.policy}
            await asyncio.to_thread(self._log, secrets.token_hex(8), entry)

    async def mask(self, request: Request, model: str) -> ExternalRequest | None:
        """Mask a request and write an audit entry; returns None if masking is off.

        Raises:
            APIError: the prompt is given as token ids, which can't be masked.
        """
        if request.ids is not None and self.masks:
            message = f"Prompts given as token ids can't be masked for {model}; send text instead."
            raise APIError(message, "prompt", "unchecked_content")
        external: ExternalRequest | None = None
        if self.masks:
            texts = [*request.stop, request.json_schema or ""]

            def collected(text: str) -> str:
                texts.append(text)
                return text

            request.map_texts(collected)  # all that it changes
            external = ExternalRequest(request, await self._mask(texts), self.counts)
        await self._audit(model, sum(map(len, request.texts())), external.masked_counts if external else None)
        return external


@lru_cache(maxsize=1_000)
def _compiled(rule: str) -> re.Pattern[str]:
    return re.compile(rule)
