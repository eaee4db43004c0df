"""Guess which columns of a table hold the text, and its label or answer: by their headings and by their content."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sizewise.documents.tables import column_name
from sizewise.text import count_words

MIN_ROWS = 5
"""Rows from which the content tells what a column holds; with fewer, only the headings do."""
MIN_TEXT_WORDS, MIN_ANSWER_WORDS, MAX_LABEL_WORDS = 3, 5, 6
MAX_NUMBERS = 20
"""Different numbers that may be labels, if the heading says that they are."""
MIN_ENDING = 5
"""Letters from which a word is found at the end of a compound, as in Kundenfrage."""
UNNAMED = "COLUMN"
"""Stands for a column in a command if several fit."""
_PROMPT_WORDS = frozenset(
    (
        *("frage", "fragen", "anfrage", "pregunta", "domanda", "pergunta", "pytanie", "vraag", "вопрос"),
        *("问题", "問題", "質問", "질문", "سؤال", "प्रश्न"),
    )
)
_ANSWER_WORDS = frozenset(
    (
        *("antwort", "antworten", "réponse", "reponse", "respuesta", "risposta", "resposta", "odpowiedź", "antwoord"),
        *("ответ", "答案", "回答", "答え", "답변", "جواب", "उत्तर"),
    )
)
_TEXT_WORDS = frozenset(
    (
        *("text", "complaint", "comment", "description", "beschwerde", "苦情"),
        *("texte", "texto", "testo", "tekst", "текст", "文本", "正文", "本文", "テキスト", "텍스트", "نص", "पाठ"),
        *("nachricht", "mensaje", "mensagem", "messaggio", "message", "сообщение", "消息", "メッセージ", "메시지"),
    )
)
_NUMBER_WORDS = frozenset(
    (
        *("id", "nr", "no", "number", "nummer", "numero", "número", "numéro", "номер", "番号", "编号", "번호", "رقم"),
        *("date", "datum", "fecha", "дата", "日付", "日期", "날짜", "تاريخ", "time", "timestamp", "uhrzeit"),
    )
)
_LABEL_WORDS = frozenset(
    (
        *("label", "labels"),
        *("category", "class", "intent", "sentiment", "kategorie", "klasse", "etikett", "catégorie", "categorie"),
        *("classe", "étiquette", "categoría", "categoria", "clase", "etiqueta", "etichetta", "kategoria", "etykieta"),
        *(
            "категория",
            "класс",
            "метка",
            "类别",
            "分类",
            "标签",
            "分類",
            "ラベル",
            "カテゴリ",
            "분류",
            "레이블",
            "فئة",
            "श्रेणी",
        ),
    )
)
_MARKS = ({"0", "1"}, {"0.0", "1.0"}, {"-1", "1"}, {"true", "false"})
_CODE = re.compile(r"[!-~]*(?:\d|@|://)[!-~]*|\d+")
"""Numbers, dates in digits, ids, addresses of mail and web."""


class _Column:
    """A column: its heading, and what its first cells look like."""

    def __init__(self, name: str, cells: Sequence[Any]) -> None:
        self.name = name
        self.cells = [text for cell in cells if cell is not None and (text := str(cell).strip())]
        count = max(len(self.cells), 1)
        self.distinct = len(set(self.cells))
        self.words = sum(count_words(_CODE.sub(" ", cell)) for cell in self.cells) / count
        self.length = sum(map(len, self.cells)) / count
        self.is_written = 2 * sum(any(map(str.isalpha, _CODE.sub(" ", cell))) for cell in self.cells) > len(self.cells)
        self.is_varied = 2 * self.distinct >= len(self.cells)

    def has_word(self, words: frozenset[str]) -> bool:
        """Check whether the heading is one of some words, has one among its words, or ends with a long one."""
        name = column_name(self.name)
        parts = [name, *re.split(r"[\W_]+", name)]
        endings = tuple(word for word in words if len(word) >= MIN_ENDING)
        return any(part in words or part.endswith(endings) for part in parts)

    @property
    def is_text(self) -> bool:
        """Whether it holds texts: several words, mostly different ones."""
        return self.is_written and self.is_varied and self.words >= MIN_TEXT_WORDS

    @property
    def is_label(self) -> bool:
        """Whether it holds labels: short, few and repeated; numbers only if the heading says so."""
        if self.distinct < 2 or 2 * self.distinct > len(self.cells):
            return False
        if max(map(count_words, self.cells)) > MAX_LABEL_WORDS:
            return False
        if self.has_word(_LABEL_WORDS):
            return self.is_lettered or self.distinct <= MAX_NUMBERS
        return self.is_lettered and not self.has_word(_NUMBER_WORDS)

    @property
    def is_mark(self) -> bool:
        """Whether it holds two values that stand for yes and no, such as 1 and 0."""
        return {cell.lower() for cell in self.cells} in _MARKS and not self.has_word(_NUMBER_WORDS)

    @property
    def is_lettered(self) -> bool:
        """Whether most cells begin with a letter, as dates and numbers don't."""
        return 2 * sum(cell[0].isalpha() for cell in self.cells) > len(self.cells)


def guess_columns(headings: Sequence[str], rows: Sequence[Sequence[Any]] = ()) -> str:
    """Guess the columns of a text and of its label or answer; return the options that name them, empty if none fits.

    Ids, dates and numbers are never taken for texts.

    Args:
        headings: The headings.
        rows: The cells of the first rows, in the order of the headings.
    """
    columns = [
        _Column(name, [row[place] for row in rows if place < len(row)]) for place, name in enumerate(headings) if name
    ]
    if max((len(column.cells) for column in columns), default=0) < MIN_ROWS:
        return _by_headings(columns)
    asked = [c for c in columns if c.has_word(_PROMPT_WORDS | _TEXT_WORDS) and c.is_written and c.is_varied]
    texts = [c for c in columns if c.is_text and not c.has_word(_ANSWER_WORDS)]
    if not asked and not texts:
        return ""
    prompt = max(asked or texts, key=lambda column: column.length)
    answers = [c for c in columns if c is not prompt and c.has_word(_ANSWER_WORDS) and c.is_written]
    if answers:
        return _options(prompt, "--label" if answers[0].is_label else "--reference", answers[0].name)
    others = [c for c in columns if c is not prompt]
    labels = [c for c in others if c.is_label] or [c for c in others if c.is_mark]
    named = [c for c in labels if c.has_word(_LABEL_WORDS)] or labels
    if named:
        return _options(prompt, "--label", named[0].name if len(named) == 1 else UNNAMED)
    others = [c for c in others if c.is_text and (asked or len(texts) == 2)]
    if len(others) != 1:
        return ""
    first, second = (prompt, others[0]) if asked else texts
    return _options(first, "--reference", second.name) if second.words >= MIN_ANSWER_WORDS else ""


def label_note(rows: Sequence[Mapping[str, Any]], unused: Collection[str]) -> str:
    """Return how to read a column as labels that wasn't used but looks like them; empty if none does.

    Args:
        rows: The first rows, by column.
        unused: Columns that weren't used.
    """
    columns = [_Column(name, [row.get(name) for row in rows]) for name in sorted(unused)]
    likely = [c.name for c in columns if c.has_word(_LABEL_WORDS)]
    if not likely and len(rows) >= MIN_ROWS:
        likely = [c.name for c in columns if c.is_mark] or [c.name for c in columns if c.is_label]
    if not likely:
        return ""
    listed, option = " or ".join(map(repr, likely)), shlex.quote(likely[0]) if len(likely) == 1 else UNNAMED
    return f"the rows were read as documents; if {listed} is their class, add --label {option}"


def _by_headings(columns: Sequence[_Column]) -> str:
    """Guess by the headings alone: the words that name a text, an answer or a label."""
    columns = [c for c in columns if not c.has_word(_NUMBER_WORDS)]
    prompt = next((c for c in columns if c.has_word(_PROMPT_WORDS | _TEXT_WORDS)), None)
    if prompt is None:
        return ""
    others = [c for c in columns if c is not prompt]
    answer = next((c for c in others if c.has_word(_ANSWER_WORDS)), None)
    if answer is not None:
        return _options(prompt, "--reference", answer.name)
    label = next((c for c in others if c.has_word(_LABEL_WORDS)), None)
    return _options(prompt, "--label", label.name) if label is not None else ""


def _options(prompt: _Column, option: str, name: str) -> str:
    return f"--prompt {shlex.quote(prompt.name)} {option} {shlex.quote(name)}"
