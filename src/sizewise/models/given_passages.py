# ruff: noqa: RUF001
"""How passages are put before a question, and how an answer says that they don't hold it."""

from __future__ import annotations

from collections.abc import Sequence

from sizewise.retrieval import Passage
from sizewise.text import detect_language

PASSAGE_COUNTS = (1, 2, 3, 3)
"""Numbers of passages in examples, with an answer in them or without: mostly as many as `rag:` gives, and not always
the same, because a model would learn from the number whether to decline."""
NOT_GIVEN = {
    "en": "The text does not say that.",
    "de": "Das steht im Text nicht.",
    "fr": "Le texte ne le précise pas.",
    "es": "El texto no menciona eso.",
    "it": "Il testo non riporta questa informazione.",
    "pt": "O texto não informa isso.",
    "nl": "De tekst vermeldt dat niet.",
    "zh": "文中没有提到这一点。",
    "ja": "その情報は記載されていません。",
    "ko": "그 내용은 언급되어 있지 않습니다.",
    "ru": "В тексте об этом не сказано.",
    "pl": "Tekst nie zawiera tej informacji.",
    "tr": "Metinde bu belirtilmemiş.",
    "ar": "لا يذكر النص ذلك.",
    "hi": "पाठ में इसका उल्लेख नहीं है।",
}
"""Language -> the sentence with which models are trained to say that no passage holds the answer."""


def passage_text(passage: Passage) -> str:
    """Return a passage as models are shown it: title and heading, then the text."""
    return f"{passage.title}{': ' + passage.heading if passage.heading else ''}\n{passage.text}"


def before_question(passages: Sequence[str], question: str) -> str:
    """Put passages before a question; without passages, return the question."""
    return "\n\n".join([*passages, f"Use these passages where they help. {question}"]) if passages else question


def not_given(question: str) -> str:
    """Return the sentence which says that no passage holds the answer, in the language of the question."""
    return NOT_GIVEN.get(detect_language(question), NOT_GIVEN["en"])
