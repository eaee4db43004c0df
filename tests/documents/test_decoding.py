# ruff: noqa: RUF001 - texts of many scripts
from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.documents import read_paths
from sizewise.documents.decoding import Unreadable, decode, decode_file

GERMAN = "Wo ist die Tür?\nDie Tür ist über dem Fluß, der Käse kostet 5 €.\n"
RUSSIAN = "Привет, как дела? Это правила дома, где живёт школа.\n" * 2


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", GERMAN), ("utf-8-sig", GERMAN), ("utf-16", GERMAN), ("utf-32", GERMAN), ("utf-16-le", GERMAN),
        ("utf-16-be", GERMAN), ("cp1252", GERMAN), ("cp1252", "The jalapeño of Mr Muñoz costs \u201c5 €\u201d.\n" * 9),
        ("cp1252", "L\u2019été, le café est fermé à cause de l\u2019œuvre.\n" * 3), ("cp1251", RUSSIAN),
    ],
)  # fmt: skip
def test_text_is_read_in_its_encoding(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert decode_file(path) == (text, encoding if encoding.startswith("cp") else "")


def test_a_guessed_encoding_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(GERMAN.encode("cp1252"))
    reading = read_paths([tmp_path])
    assert reading.documents[0].text == GERMAN.strip()
    assert reading.notes == ["a.txt: decoded as cp1252 (a guess); save the file as UTF-8 to be sure"]


def test_a_tie_between_encodings_is_not_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Nő".encode("cp1250"))
    with pytest.raises(Unreadable, match=r"not UTF-8 \(could be cp125"):
        decode_file(path)


TEXTS = {
    "ja": "港の事務所は冬は八時に、夏は七時に開きます。雨の日は閉まることがあります。船は毎日二回出ます。",
    "ru": "Контора порта открывается в восемь часов зимой и в семь летом. В дождь она бывает закрыта.",
    "cs": "Přístavní kancelář se v zimě otevírá v osm hodin. Žluťoučký kůň příšerně úpěl ďábelské ódy.",
    "pl": "Biuro portu otwiera się zimą o ósmej. Gdy pada deszcz, bywa zamknięte. Zażółć gęślą jaźń.",
    "hu": "A kikötői iroda télen nyolckor, nyáron hétkor nyit. Esőben zárva lehet. Árvíztűrő tükörfúrógép.",
    "de": "Das Hafenamt öffnet im Winter um acht Uhr und im Sommer früher. Bei Regen schließt es über Nacht.",
    "fr": "Le bureau du port ouvre à huit heures en hiver et plus tôt en été. Il est fermé à la Noël, déjà.",
    "es": "La oficina del puerto abre a las ocho en invierno. Mañana habrá niños, según el año pasado.",
    "tr": "Liman bürosu kışın saat sekizde, yazın yedide açılır. Yağmurda kapalı olabilir.",
    "el": "Το γραφείο του λιμανιού ανοίγει στις οκτώ τον χειμώνα και στις επτά το καλοκαίρι.",
    "sr": "Лучка канцеларија се зими отвара у осам, а лети у седам. Када пада киша, може бити затворена.",
}
ENCODINGS = {
    "ja": ("euc-jp", "shift_jis", "iso-2022-jp"),
    "ru": ("koi8-r", "cp1251", "iso-8859-5", "cp866", "mac-cyrillic"),
    "cs": ("iso-8859-2", "cp1250", "cp852", "mac-latin2"),
    "pl": ("iso-8859-2", "cp1250", "cp852"),
    "hu": ("iso-8859-2", "cp1250"),
    "de": ("mac-roman", "cp1252", "cp850"),
    "fr": ("mac-roman", "cp1252", "cp850"),
    "es": ("mac-roman", "cp1252", "cp850"),
    "tr": ("cp1254", "cp857"),
    "el": ("cp1253", "iso-8859-7", "cp737"),
    "sr": ("cp1251", "iso-8859-5"),
}
REFUSED = {"mac-latin2", "cp857", "cp737"}


@pytest.mark.parametrize(("language", "encoding"), [(one, name) for one, names in ENCODINGS.items() for name in names])
def test_a_legacy_encoding_is_decoded_right_or_refused(language: str, encoding: str) -> None:
    raw = f"{TEXTS[language]}\n".encode(encoding) * 3
    if encoding in REFUSED:
        with pytest.raises(Unreadable, match="not UTF-8"):
            decode(raw)
    else:
        assert decode(raw).text == raw.decode(encoding)
