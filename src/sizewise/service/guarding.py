"""The guard of a service: masks what leaves this machine, keeps back the confidential, counts signs of injection."""

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
from sizewise.guard import KINDS, NOT_FOUND, Mask, Unmask, find_personal, matches, signals_in
from sizewise.models.base import Piece
from sizewise.records import Request
from sizewise.service.schemas import Refused

Part = Literal["mask", "confidential", "signals", "audit"]
PARTS: tuple[Part, ...] = ("mask", "confidential", "signals", "audit")
Keep = Callable[[str, dict[str, Any]], None]
SHORT_LETTERS = 2_000


@dataclass(frozen=True)
class GuardRules:
    """What the guard does; each part can be switched off."""

    parts: frozenset[Part] = frozenset(PARTS)
    """Parts that are on."""
    confidential: tuple[str, ...] = ()
    """Regular expressions; a conversation in which one is found is shown to no model off this machine."""
    refuse_signals: bool = False
    """Refuse what carries a sign of injection, instead of counting it."""

    def __post_init__(self) -> None:
        for rule in self.confidential:
            try:
                re.compile(rule)
            except re.error as error:
                raise UsageError(
                    f"'{rule}' is no regular expression: {error}.", "a rule such as '(?i)salary'", ""
                ) from error

    @classmethod
    def without(
        cls, off: Sequence[str], confidential: tuple[str, ...] = (), refuse_signals: bool = False
    ) -> GuardRules:
        """Make rules with some parts switched off.

        Raises:
            UsageError: there is no such part, or a rule is no regular expression.
        """
        unknown = sorted(set(off) - set(PARTS))
        if unknown:
            raise UsageError(f"The guard has no part '{unknown[0]}'.", ", ".join(PARTS), "--unguarded mask")
        return cls(frozenset(part for part in PARTS if part not in off), confidential, refuse_signals)

    def told(self) -> str:
        """Say what it does with what leaves this machine."""
        if "mask" not in self.parts:
            return "text leaves this machine as it is"
        return f"{', '.join(KINDS)} are masked before text leaves this machine. {NOT_FOUND}"


class Crossing:
    """One request on its way to a model off this machine, and its answer on the way back.

    Args:
        request: what is asked.
        counts: told how much was masked and restored.
    """

    def __init__(self, request: Request, counts: Counter[str]) -> None:
        texts = [*(message.content for message in request.messages), request.text or "", *request.stop]
        schema = request.json_schema
        self._mask = Mask([*texts, schema or ""])
        hide = self._mask.hide
        self.request = request.model_copy(
            update={
                "messages": tuple(one.model_copy(update={"content": hide(one.content)}) for one in request.messages),
                "text": None if request.text is None else hide(request.text),
                "stop": tuple(hide(text) for text in request.stop),
                "json_schema": None if schema is None else hide(schema),
            }
        )
        """What leaves."""
        self.masked = dict(self._mask.counts)
        """Kind -> places masked."""
        self._back = Unmask(self._mask.values)
        self._counts = counts
        for kind, count in self._mask.counts.items():
            counts[f"masked_{kind}"] += count

    def back(self, piece: Piece) -> list[Piece]:
        """Restore a piece of the answer; what waits for its rest comes with a later one."""
        if piece.end is None:
            text = self._back.feed(piece.text)
            return [piece._replace(text=text)] if text or piece.tokens else []
        rest = self._back.finish()
        for kind, count in self._back.restored.items():
            self._counts[f"restored_{kind}"] += count
        end = piece.end.model_copy(update={"text": Unmask(self._mask.values).restore(piece.end.text)})
        return [*([Piece(rest)] if rest else []), piece._replace(end=end)]


class Guard:
    """Stands in front of the models.

    Args:
        rules: what it does.
        keep: keeps a line about each crossing, by its key.
    """

    def __init__(self, rules: GuardRules, keep: Keep) -> None:
        self._rules, self._keep = rules, keep
        self._confidential = [re.compile(rule) for rule in rules.confidential]
        self.counts: Counter[str] = Counter()
        """What was masked, restored, kept back and seen, since the start."""

    def prepare(self) -> None:
        """Load what masking needs, before a request does.

        Raises:
            MissingExtraError: it is not installed.
        """
        if self.masks:
            find_personal("")

    @property
    def masks(self) -> bool:
        """Whether personal data is masked on its way out."""
        return "mask" in self._rules.parts

    def is_confidential(self, texts: Sequence[str]) -> bool:
        """Tell whether a rule finds something that may not leave this machine."""
        if "confidential" not in self._rules.parts or not self._confidential:
            return False
        return matches(self._confidential, (*texts, "\n".join(texts)))

    def keep_back(self, requests: Sequence[Request], model: str) -> None:
        """Stop a confidential request on its way to a model off this machine.

        Raises:
            Refused: it is confidential.
        """
        for request in requests:
            if request.ids is not None and (self.masks or self._confidential):
                raise Refused(f"{model} is not on this machine, and tokens cannot be looked through.", "prompt")
            texts = [*(message.content for message in request.messages), request.text or "", *request.stop]
            if self.is_confidential([*texts, request.json_schema or ""]):
                self.counts["kept_back"] += 1
                raise Refused(
                    f"This is confidential by a rule of this service, and {model} is not on this machine; "
                    "ask a model that is.",
                    "model",
                    "confidential",
                    403,
                )

    async def look(self, requests: Sequence[Request]) -> tuple[str, ...]:
        """Look for signs of injection in what is asked; they are counted.

        Raises:
            Refused: there are some, and the service refuses them.
        """
        if "signals" not in self._rules.parts or not requests:
            return ()
        texts = [one.content for one in requests[0].messages if one.role != "system"]
        texts += list(dict.fromkeys(request.text for request in requests if request.text))
        short = sum(map(len, texts)) <= SHORT_LETTERS  # a thread would cost more than the look
        found = signals_in(texts) if short else await asyncio.to_thread(signals_in, texts)
        for kind in found:
            self.counts[f"signal_{kind}"] += 1
        if found and self._rules.refuse_signals:
            raise Refused(f"This carries signs of prompt injection: {', '.join(found)}.", "messages", "injection", 400)
        return found

    async def cross(self, request: Request, model: str) -> Crossing | None:
        """Mask a request that leaves this machine, and keep a line about it; None where nothing is masked."""
        crossing = await asyncio.to_thread(Crossing, request, self.counts) if self.masks else None
        self.counts["crossings"] += 1
        if "audit" in self._rules.parts:
            letters = sum(len(message.content) for message in request.messages) + len(request.text or "")
            masked = crossing.masked if crossing else None
            line = {"at": time.time(), "model": model, "letters": letters, "masked": masked}
            await asyncio.to_thread(self._keep, secrets.token_hex(8), line)
        return crossing
