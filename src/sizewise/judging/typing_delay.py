"""The time that a person takes to read a message and to type an answer, so that speed doesn't identify a model."""

from __future__ import annotations

import random

READ_S_PER_CHARACTER = (0.03, 0.003)
TYPE_S_PER_CHARACTER = (0.3, 0.03)
THINK_S = (2.5, 0.25)


def typing_delay(answer: str, question: str, rng: random.Random) -> float:
    """Draw the time in seconds between a question and its answer.

    One second, plus normal times per character typed and read, plus a gamma-distributed time to think: the delay of
    Jones and Bergen (2024), People cannot distinguish GPT-4 from a human in a Turing test.

    Args:
        answer: what is typed.
        question: what is read.
        rng: random numbers; the same ones lead to the same delay.
    """
    typed = max(0.0, rng.gauss(*TYPE_S_PER_CHARACTER)) * len(answer)
    read = max(0.0, rng.gauss(*READ_S_PER_CHARACTER)) * len(question)
    return 1.0 + typed + read + rng.gammavariate(*THINK_S)
