# ruff: noqa: RUF001
"""Whether a text states yes or no itself: as a word of its own, or as its verdict such as "That is false".

A text that only contains a denial, or lacks one, states neither. Only forms of the languages listed here are known.
"""

from __future__ import annotations

import re

from sizewise.text import fold_text

_YES = "yes|yeah|yep|ja|jawohl|oui|si|s\u00ed|s\u00ec|sim|tak|evet|да|так|是|是的|はい|예|네|نعم|हाँ"
_NO = "no|nope|nein|non|nee|n\u00e3o|nie|hay\u0131r|нет|ні|否|不|不是|いいえ|아니요|아니오|لا|नहीं"
_TRUE = (
    "true|correct|right|wahr|richtig|korrekt|vrai|exact|verdadero|cierto|correcto|vero|corretto|verdadeiro|correto|"
    "waar|juist|верно|правда|prawda|正确|正確"
)
_FALSE = (
    "false|incorrect|wrong|untrue|falsch|unwahr|unrichtig|faux|inexact|falso|incorrecto|sbagliato|incorreto|errado|"
    "onwaar|onjuist|неверно|неправда|fa\u0142sz|nieprawda|错误|錯誤"
)
_LEAD = (
    r"(?:(?:absolutely|certainly|well|so|okay|ok|hmm|wait|actually|sorry|definitely|probably|clearly|"
    r"also|nun|eh bien|bueno|bem)\s+)*"
)
_ANSWER = (
    r"(?:(?:(?:so|therefore|hence|thus|also|daher)\s+)?(?:(?:the|my|die|meine|la|ma|mi|a|minha|het|il|de)\s+)?"
    r"(?:(?:final|correct|short|richtige)\s+)?(?:answer|verdict|antwort|r\u00e9ponse|respuesta|risposta|resposta|antwoord)"
    r"\s*(?:is|lautet|ist|est|es|\u00e8|\u00e9|:|=)?\s*|i(?:'d| would) say\s+)?"
)
_ADVERB = r"(?:(?:but|therefore|definitely|clearly|probably|aber|mais|pero)\s+)*"
_SUBJECT = (
    r"(?:(?:that|this|it|(?:the|this|that) (?:statement|claim|premise|assertion)|das|dies|es|die (?:aussage|behauptung)"
    r"|c|ce|cela|eso|esto|la afirmaci\u00f3n|isso|dat|это)\s*)?"
    r"(?:'s|'est|is|was|ist|war|est|es|\u00e8|\u00e9|n'est)?\s*"
)
_DENIED = r"(?P<denied>(?:not|n't|nicht|pas|non|no|niet|n\u00e3o|не)\s+)?"
_WORD = re.compile(rf"{_LEAD}{_ANSWER}{_ADVERB}(?:(?P<yes>{_YES})|(?P<no>{_NO}))")
_VERDICT = re.compile(rf"{_LEAD}{_SUBJECT}{_DENIED}(?:(?P<true>{_TRUE})|(?P<false>{_FALSE}))")
_FITS = re.compile(r"(?:das stimmt|dat klopt|es stimmt)(?P<not> nicht| niet)?")
_OPENED = re.compile(
    r"(?:(?P<yes>yes)|(?P<no>no)) (?:it|he|she|they|we|you|there|because|since|the|this|that)\b.*"
    r"|(?:(?P<ja>ja|oui|s\u00ed)|nein) (?:das|es|er|sie|weil|denn|c'est|car|il|elle|porque)\b.*"
)
_BOTH = re.compile(rf"(?<!\w)(?:{_YES})[,\s]+(?:and|und|et|y|e|i|en|и)\s+(?:{_NO})(?!\w)")
_SENTENCE, _CLAUSE = re.compile(r"[^.!?\n。！？؟।]+[.!?\n。！？؟।]*"), re.compile(r"[,;:(（，、；：،]|\s[-–—]+\s")
_EDGES = ' *_`#"“”„«»(){}[].!。！'
_CORRECTED = re.compile(
    r"\b(?:wait|actually|correction|final|answer|verdict|antwort|respuesta|r\u00e9ponse|risposta)\b"
)
_ALONE = re.compile(
    rf"(?:(?P<yes>{_YES})|(?P<no>{_NO}))\s*(?:[.!。！]*|[,，、.!。！]\s*(?P<more>[^\d\s].*))", re.DOTALL
)


def expected_polarity(reference: str) -> bool | None:
    """Return whether a reference is yes (True) or no (False): the word alone, or before a comma or period and more.

    A name such as "No Country for Old Men" or "No. 10 Downing Street" is neither.
    """
    match = _ALONE.fullmatch(_plain(reference))
    if match is None or (match["more"] and match["more"].isascii() and len(match["more"].split()) < 2):
        return None
    return match["yes"] is not None


def stated_polarity(answer: str) -> bool | None:
    """Return whether an answer states yes (True) or no (False) itself; None if it states neither, or both."""
    if _BOTH.search(_plain(answer)):
        return None
    text = re.sub(r"^\s*```\w*|```\s*$", "", answer.strip()).strip()
    if text.startswith("{"):
        text = re.sub(r"[{}\"]", " ", text)
    words: list[tuple[bool, bool]] = []
    verdicts: list[bool] = []
    text = re.sub(r"</?\w+>|\\(?:boxed|text)\b|[${}]", " ", text)
    for sentence in (found for line in text.splitlines() for found in _SENTENCE.findall(fold_text(line))):
        if sentence.rstrip().endswith(("?", "？", "؟")):
            continue
        said, verdict = _stated(sentence)
        if said is not None:
            words.append((said, bool(_CORRECTED.search(sentence))))
        if verdict is not None:
            verdicts.append(verdict)
    if words and (words[-1][1] or len({said for said, _ in words}) == 1):
        return words[-1][0]
    return verdicts[0] if not words and len(set(verdicts)) == 1 else None


def _stated(sentence: str) -> tuple[bool | None, bool | None]:
    """Read a sentence: yes or no as its first or last clause, and a verdict on a statement."""
    clauses = [plain for clause in _CLAUSE.split(sentence) if (plain := _plain(clause))]
    while len(clauses) > 1 and re.fullmatch(r"well|wait|actually|hmm|so|okay|sorry|no wait", clauses[0]):
        clauses = clauses[1:]
    ends = [clauses[0], clauses[-1]] if clauses else []
    words = [match["yes"] is not None for one in ends if (match := _WORD.fullmatch(one))]
    if ends and (opened := _OPENED.fullmatch(ends[0])):
        words.append(bool(opened["yes"] or opened["ja"]))
    verdicts = [
        (match["true"] is not None) is (match["denied"] is None) for one in ends if (match := _VERDICT.fullmatch(one))
    ]
    verdicts += [match["not"] is None for one in ends if (match := _FITS.fullmatch(one))]
    return words[0] if len(set(words)) == 1 else None, verdicts[0] if len(set(verdicts)) == 1 else None


def _plain(text: str) -> str:
    """Fold a text and take markup, quotes and periods off its ends."""
    folded = " ".join(fold_text(text).replace("\u2019", "'").split())
    return folded.replace("isn't", "is not").strip(_EDGES)
