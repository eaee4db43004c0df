# ruff: noqa: RUF001
"""Words that deny what stands beside them, in the languages and scripts in which answers are read."""

from __future__ import annotations

import re
from functools import cache

from sizewise.text.scripts import combining_marks

# The words deny what follows them, and at the end of a clause what precedes them.
_BEFORE = (
    # English; contractions are matched by their ending.
    *("not", "no", "never", "nor", "neither", "cannot", "cant", "isnt", "dont", "without", "except", "excluding"),
    *("none", "nothing", "hardly", "unlike", "rather than", "instead of", "other than", "far from", "anything but"),
    # Germanic
    *("nicht", "kein", "keine", "keinen", "keinem", "keiner", "keines", "nie", "niemals", "weder", "ohne", "statt"),
    *("anstatt", "außer", "ausser", "niet", "geen", "nooit", "zonder", "inte", "ej", "ingen", "inget"),
    *("inga", "aldrig", "utan", "ikke", "ikkje", "aldri", "intet", "hverken", "uden", "uten", "ekki", "ekkert"),
    *("enginn", "engin", "aldrei"),
    # Romance and Latin
    *("ne", "pas", "aucun", "aucune", "jamais", "ni", "sans", "sauf", "non", "au lieu de", "plutôt que", "nunca"),
    *("jamás", "tampoco", "sin", "ningún", "ninguna", "ninguno", "en lugar de", "en vez de", "excepto"),
    *("senza", "nessun", "nessuna", "neanche", "invece di", "né", "não", "nem", "jamais", "sem", "nenhum", "nenhuma"),
    *("em vez de", "nu", "nici", "niciodată", "fără", "sense", "haud", "nec", "neque", "nunquam"),
    # Slavic and Baltic
    *("nie", "nigdy", "ani", "bez", "żaden", "żadna", "není", "nejsou", "nebyl", "nebyla", "nebude", "nejde", "nikdy"),
    *("nemyslím", "nepatří", "nejedná", "nelze", "žádný", "žádná", "nije", "nisu", "nema", "nikada", "nikad", "niti"),
    *("niso", "nisem", "nikoli", "brez", "nėra", "nebe", "niekada", "nav", "nekad", "nevis", "nē"),
    *("не", "нет", "ни", "никогда", "без", "кроме", "нельзя", "ні", "немає", "ніколи", "нема", "није", "никога"),
    *("няма", "нито", "ништо"),
    # Uralic, Celtic, Albanian, Greek, Georgian, Armenian, Austronesian, Bantu and others
    *("ei", "emme", "ette", "eivät", "eikä", "älä", "ilman", "pole", "mitte", "ega", "nem", "sem", "nincs"),
    *("nid", "nad", "ddim", "ní", "níl", "nach", "ná", "gan", "mhux", "mhijiex", "nuk", "mos"),
    *("δεν", "δε", "μην", "όχι", "ούτε", "ποτέ", "χωρίς", "არ", "არა", "ვერ", "ոչ", "չէ", "չի", "չեմ", "առանց"),
    *("bukan", "tidak", "tiada", "tanpa", "jangan", "hindi", "wala", "walang", "huwag", "không", "chẳng"),
    *("chưa", "si", "sio", "siyo", "hapana", "hakuna", "bila"),
    # Semitic
    *("ليس", "ليست", "لا", "لم", "لن", "غير", "بدون", "دون", "ما", "ولا", "وليس", "لست", "לא", "אין", "אינו", "אינה"),
    *("איננו", "בלי", "אל", "אף", "ללא"),
    # What is only asked or supposed isn't stated either.
    *("if", "whether", "unless", "wenn", "ob", "falls", "jeśli", "czy", "если", "ли", "якщо", "wenn"),
)
# The words deny what precedes them, as in languages with the verb at the end.
_AFTER = (
    *("değil", "yok", "hayır", "deyil", "yox", "emas", "yo'q", "емес", "жоқ", "эмес", "жок", "биш", "үгүй"),
    *("нь биш", "نیست", "نه", "نمی", "نہیں", "نہ", "مت", "بغیر", "نه دی", "نشته"),
    *("नहीं", "नही", "न", "मत", "बिना", "नाही", "होइन", "छैन", "নয়", "না", "নেই", "নয়", "নহয়"),
    *("નથી", "નહીં", "ના", "ਨਹੀਂ", "ਨਾ"),
)
# Scripts in which a word is part of a longer run of letters: any occurrence counts.
_ANYWHERE = (
    *("如果", "是否", "不", "非", "没", "沒", "无", "無", "未", "否", "別", "别", "勿", "除了", "而不"),
    *("ない", "なく", "ません", "ぬ", "ではな", "じゃな", "なし", "ずに", "以外"),
    *("아니", "아닌", "아닙", "않", "안 ", "못", "없", "제외", "대신"),
    *("ไม่", "มิ", "ยกเว้น", "ບໍ່", "ມິ", "មិន", "គ្មាន", "ក្រៅពី", "မဟုတ်", "ဘူး", "မရှိ"),
    *("இல்லை", "அல்ல", "இல்லாத", "కాదు", "లేదు", "లేని", "ಅಲ್ಲ", "ಇಲ್ಲ", "അല്ല", "ഇല്ല", "නැ", "නොවේ", "නොව"),
    *("አይ", "የለም", "አል"),
)
_CONTRACTED = r"\w+n['\u2019]?t(?<=n['\u2019]t)"
# A statement that something is wrong denies it as well.
_WRONG = (
    *("wrong", "incorrect", "false", "untrue", "excluded", "ruled out", "rule out", "unlikely", "impossible"),
    *("eliminate", "eliminated", "eliminates", "rejected", "less likely", "falsch", "ausgeschlossen"),
    *("unwahrscheinlich", "faux", "fausse", "incorrecte", "exclu", "exclue", "incorrecto", "incorrecta", "falso"),
    *("falsa", "descartado", "descartada", "sbagliato", "sbagliata", "errato", "errata", "incorreto", "incorreta"),
    *("errado", "errada", "fout", "onjuist", "fel", "forkert", "feil", "błędna", "błędne", "špatně", "неверно"),
    *("неправильно", "неверный", "неправильный", "yanlış", "sai", "salah", "خطأ", "غلط", "नहीं", "गलत", "λάθος"),
)
_WRONG_ANYWHERE = ("错", "錯", "誤", "間違", "틀린", "틀렸", "ผิด")

_LATIN = (
    "af az bs ca cs cy da de en eo es et fi fr ga gl hr hu id is it la lt lv ms mt nl no pl pt ro sk sl sq sv sw tl"
)
LATIN_LANGUAGES = frozenset(f"{_LATIN} tr uz vi".split(" "))
"""ISO 639-1 codes of the languages in Latin letters whose denials are known."""
_UNKNOWN_SCRIPT = re.compile(
    "[\u0700-\u08ff\u0b00-\u0b7f\u0f00-\u0fff\u13a0-\u177f\u1800-\u1ab0\u1b00-\u1c8f\u2c00-\u2dff\ua4d0-\ua95f"
    "\ua980-\ua9df\uaa00-\uaa5f\uaa80-\uabff\U00010000-\U0001cfff\U0001e100-\U0001eeff]"
)


@cache
def _word_pattern(words: tuple[str, ...]) -> str:
    marks = combining_marks()
    listed = "|".join(sorted(map(re.escape, dict.fromkeys(words)), key=len, reverse=True))
    return rf"(?<![\w{marks}])(?:{listed})(?![\w{marks}])"


@cache
def denial_pattern() -> re.Pattern[str]:
    """Return a pattern of denials in folded text; the group `after` marks words that deny what precedes them."""
    return re.compile(
        rf"(?P<before>{_word_pattern(_BEFORE)}|(?<!\w){_CONTRACTED}(?!\w)|[不非没沒无無未否別别勿])"
        rf"|(?P<after>{_word_pattern(_AFTER)}|{_word_pattern(_WRONG)}"
        rf"|{'|'.join(map(re.escape, (*_ANYWHERE, *_WRONG_ANYWHERE)))})"
    )


def is_denial(text: str) -> bool:
    """Check whether a folded text is one word that denies, such as `no` or `nicht`."""
    return bool(denial_pattern().fullmatch(text))


def knows_denials(text: str) -> bool:
    """Check whether the denials of a text's script are known; those of its language may still be unknown."""
    return not _UNKNOWN_SCRIPT.search(text)
