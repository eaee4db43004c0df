"""The date that a chat template writes into prompts, pinned so that the same text has the same tokens every day.

Some templates (Llama 3.2, Granite 3) call `strftime_now` to state today's date. Training and evaluation state a fixed
date instead, which the records name; a service states the day on which it answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, time, tzinfo
from typing import Any, Self

from sizewise.records import fingerprint

PINNED_DATE = "2026-01-01"
"""Date of prompts in training and evaluation; changing it changes the tokens of models whose template states a date."""
_FUNCTION = "strftime_now"


def today() -> str:
    """Return today's date on this machine (ISO), for conversations as they happen."""
    return datetime.now().astimezone().date().isoformat()


def template_date(tokenizer: Any) -> str:
    """Return the date that the chat template states in training and evaluation; "" if it states none."""
    return PINNED_DATE if _FUNCTION in str(getattr(tokenizer, "chat_template", None) or "") else ""


def template_hash(tokenizer: Any) -> str:
    """Return a hash of the chat template; "" if there is none."""
    template = getattr(tokenizer, "chat_template", None)
    return fingerprint([template]) if template else ""


class _Clock(datetime):
    """A clock that stands still inside `dated`."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        stated = _stated.get()
        return cls.combine(date.fromisoformat(stated), time(12), tz) if stated else super().now(tz)


_stated: ContextVar[str] = ContextVar("_stated", default="")


@contextmanager
def dated(tokenizer: Any, day: str = "") -> Iterator[None]:
    """Make the tokenizer's chat template state a date inside the block.

    Templates take the date from the clock of transformers, which accepts no other function.

    Args:
        tokenizer: the model's tokenizer.
        day: ISO date; by default the pinned one.
    """
    if not template_date(tokenizer):
        yield
        return
    from transformers.utils import chat_template_utils

    if chat_template_utils.datetime is not _Clock:
        chat_template_utils.datetime = _Clock  # outside of `dated`, it is the real clock
    token = _stated.set(day or PINNED_DATE)
    try:
        yield
    finally:
        _stated.reset(token)
