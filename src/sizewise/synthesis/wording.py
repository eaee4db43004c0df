# ruff: noqa: RUF001
"""Wordings of questions in several languages: how one ends, is labeled, or mentions the passage it is about."""

from __future__ import annotations

import re

from sizewise.text.scripts import UNSPACED_LETTERS

_QUESTION = "question|frage|pregunta|pergunta|domanda|vraag|kysymys|fråga|问题|問題|質問|سؤال|السؤال|प्रश्न|คำถาม"
_ANSWER = (
    "answer|antwort|réponse|respuesta|resposta|risposta|antwoord|vastaus|svar|答案|回答|答え|إجابة|الجواب|उत्तर|คำตอบ"
)
LABELED_LINES = re.compile(
    rf"(?:{_QUESTION})\W*(?P<question>[^\n]+?)[ \t]*(?:\n\s*|(?<=[?？؟]))\W*(?:{_ANSWER})\W*(?P<answer>.+)",
    re.IGNORECASE | re.DOTALL,
)
"""A question and its answer, each behind its label."""
MENTIONS_PASSAGE = re.compile(
    r"\b(?:this|the|that|above|given|following) (?:passage|text|document|section|excerpt|article)\b"
    r"|\b(?:dies\w+|de[rmns]|das|die|obig\w+|folgend\w+) (?:text\w*|abschnitt\w*|textstelle|passage|dokument\w*)\b"
    r"|\b(?:ce|cet|le|du|au) (?:texte|passage|extrait|document)\b|\bl['’](?:extrait|article)\b"
    r"|\b(?:este|el|del) (?:texto|pasaje|fragmento|documento)\b"
    r"|\b(?:tämä|tässä|tämän|yllä\w*) (?:teksti|tekstin|tekstissä|kappale\w*|asiakirja\w*)\b"
    r"|[这该本][段篇份](?:文章|文字|文本|短文|话)|(?:上述|以上|下面的?)(?:文章|文字|文本|段落|内容)|(?:文中|本文)"
    r"|(?:この|上記の|次の|以下の)(?:文章|文書|本文|段落|記事|一節)"
    r"|(?:هذا|في) النص|هذه الفقرة|هذا المقال|(?:इस|उपरोक्त|दिए गए) (?:पाठ|अनुच्छेद|गद्यांश|दस्तावेज़)"
    r"|(?:ข้อความ|บทความ|เอกสาร|ย่อหน้า)(?:นี้|ข้างต้น|ดังกล่าว)",
    re.IGNORECASE,
)
"""A mention of the passage, which users don't see."""
_MARKED = re.compile(r"[?？؟፧]\W*$|՞|[\u0370-\u03ff][;\u037e]$|か。?$")
# Thai, Lao, Khmer and Burmese have no question mark.
_UNMARKED = re.compile(f"[{UNSPACED_LETTERS}][။។]?$")


def is_question(text: str) -> bool:
    """Check whether a text ends like a question of its language."""
    return bool(_MARKED.search(text) or _UNMARKED.search(text))
