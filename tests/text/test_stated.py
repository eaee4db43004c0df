# ruff: noqa: RUF001
"""Which label an answer states, or that it states none clearly."""

from __future__ import annotations

import pytest

from sizewise.text import fold_text, read_label
from sizewise.text.stated import DENIED, NO_LABEL, SEVERAL, UNKNOWN_LANGUAGE

MATERIALS = ("glass", "paper", "metal")
MAIL = ("ham", "spam")
LETTERS = ("a", "b", "c", "d")
YES_NO = ("no", "yes")
SENTIMENT = ("negative", "neutral", "positive")
GRADES = ("1", "2", "3", "4", "5")
CASES: dict[tuple[str, ...], dict[str, str | None]] = {
    MATERIALS: {
        "I first thought of paper. Final answer: glass": "glass",
        "paper? No, look again.\n\nAnswer: glass": "glass",
        "I first thought of paper. Then metal.": None,
        "glass, because paper is wrong": "glass",
        "Glass. Paper would be for boxes.": "glass",
    },
    MAIL: {
        "This is not spam.": None,
        "It isn't spam, it's ham.": "ham",
        "not spam but ham": "ham",
        "Spam or ham": None,
        "It is spam, I think.": "spam",
        "Not spam: ham": "ham",
        "Das ist kein Spam.": None,
        "Das ist Spam.": "spam",
        "Spam ist das nicht": None,
        "Ce n'est pas du spam": None,
        "C'est du spam": "spam",
        "No es spam": None,
        "Es spam": "spam",
        "これはspamではありません": None,
        "これはspamです": "spam",
        "这不是spam": None,
        "这是spam": "spam",
        "不是spam，而是ham": "ham",
        "spamではなくhamです": "ham",
        "Это не spam": None,
        "Это spam": "spam",
        "Bu spam değil": None,
        "Bu spam": "spam",
        "यह spam नहीं है": None,
        "यह spam है": "spam",
        "이것은 spam이 아닙니다": None,
        "이것은 spam 입니다": "spam",
        "هذا ليس spam": None,
        "هذا spam": "spam",
        "นี่ไม่ใช่spam": None,
        "It is not, in my view, spam.": None,
        "I do not believe that this email, given its sender, is spam.": None,
        "Is this spam? Yes.": None,
        "Is it spam or ham? Spam.": "spam",
        "Answer: spam. Wait, not spam.": None,
        "It's spam. It is not spam.": None,
        '{"label": "spam"}': "spam",
        "**Spam**": "spam",
        "Label: **spam**.": "spam",
        "The answer could be spam or ham": None,
        "The answer is spam, not ham": "spam",
        "spam: 0.9, ham: 0.1": None,
        "Èyí kì í ṣe àwúrúju spam rárá nínú àpótí ìfiránṣẹ́ mi lónìí": None,
        "Ini bukan spam": None,
        "Hii si spam": None,
        "To nie jest spam": None,
        "Toto není spam": None,
        "Ez nem spam": None,
        "Tämä ei ole spam": None,
        "Αυτό δεν είναι spam": None,
        "זה לא spam": None,
        "Đây không phải là spam": None,
        "Dit is geen spam": None,
        "Det är inte spam": None,
        "Non è spam": None,
        "Não é spam": None,
        "Nu este spam": None,
        "இது spam இல்லை": None,
        "এটি spam নয়": None,
        "این spam نیست": None,
        "יהו spam": "spam",
        "": None,
        "!!!": None,
    },
    LETTERS: {
        "B": "b",
        "(B)": "b",
        "**B**": "b",
        "B.": "b",
        "Answer: B": "b",
        "B) metal": "b",
        "The answer is (B) because A is wrong.": "b",
        "A good question. The answer is B": "b",
        "A good guess would be hard": None,
        "Option B stands out": "b",
        "I pick c": "c",
        "the answer is b": "b",
        "\\boxed{C}": "c",
        "<answer>D</answer>": "d",
        "A or B": None,
        "A and B": None,
        "Both A and B are right": None,
        "Neither A nor B": None,
        "我选B": "b",
        "答案是B": "b",
        "答案：B": "b",
        "The question is a hard one.\nAnswer: B": "b",
        "It is not clear at first, but the answer is B.": "b",
        "B ✅": "b",
        "（B）": "b",
        "Ｂ": "b",
        "A) paper\nB) metal\nC) glass": None,
        "A) paper\nB) metal\nC) glass\n\nThe correct answer is C) glass.": "c",
        "Die Antwort ist B, nicht A.": "b",
        "La respuesta correcta es la B": "b",
        "La bonne réponse est B.": "b",
        "A is correct.": "a",
        "The correct answer is not A.": None,
        "Correct: A": "a",
        "B\n\nExplanation: A is a trap, C is too long.": "b",
        "Jawaban: C": "c",
        "الإجابة: B": "b",
        "The answer is A\nThe answer is C": "c",
        "I think it's D": "d",
        "B is right, not C": "b",
        "Correct answer: B. metal": "b",
        "Let's see: A. no, B. yes. So the answer is **B**.": "b",
    },
    YES_NO: {
        "No, it isn't.": "no",
        "Yes.": "yes",
        "Yes and no.": None,
        "Yes, there is no problem": "yes",
        "There is no problem": None,
        "I would say no": "no",
        "It is no, I think.": "no",
        "The answer is yes": "yes",
        "Answer: no": "no",
        "There is no error, so yes": "yes",
        "Not yes.": None,
    },
    SENTIMENT: {
        "The text is positive. It mentions no negative aspects.": "positive",
        "This is a negative review because the customer is angry, though there are some positive aspects.": "negative",
        "mixed: positive and negative": None,
        "Sentiment: Positive": "positive",
        "Not positive": None,
        "neither positive nor negative, so neutral": "neutral",
        "Positive, with some negative aspects": "positive",
        "The sentiment is positive.": "positive",
        "Die Stimmung ist nicht positiv, also negative": "negative",
    },
    GRADES: {
        "4": "4",
        "4/5": "4",
        "4 out of 5": "4",
        "I'd rate it 4": "4",
        "4.0": "4",
        "4.5": None,
        "On a scale of 1-5, I give 4": "4",
        "٤": "4",
        "-1": None,
        "Rating: 3": "3",
        "3-4": None,
        "14": None,
        "④": "4",
    },
    ("spam", "not spam", "no"): {
        "It is not spam, I think.": "not spam",
    },
    ("not_spam", "spam"): {
        "not spam": "not_spam",
        "This is not spam.": "not_spam",
    },
    ("non-spam", "spam"): {
        "Non spam": "non-spam",
    },
    ("A", "a"): {
        "The answer is A": "A",
        "a": "a",
    },
    ("card_lost", "card_stolen"): {
        "The intent is card lost.": "card_lost",
    },
    ("c", "c++", "c#"): {
        "C++": "c++",
        "It is C++.": "c++",
    },
    ("größer", "kürzer"): {
        "GRÖSSER!": "größer",
    },
    ("垃圾", "正常"): {
        "这不是垃圾邮件": None,
        "这是垃圾邮件": "垃圾",
    },
    ("正常", "非垃圾", "垃圾"): {
        "答案：非垃圾": "非垃圾",
    },
    ("हाँ", "नहीं"): {
        "नहीं": "नहीं",
        "उत्तर: हाँ": "हाँ",
    },
}


@pytest.mark.parametrize(("labels", "answer"), [(labels, answer) for labels, some in CASES.items() for answer in some])
def test_an_answer_states_a_label_or_none(labels: tuple[str, ...], answer: str) -> None:
    index = read_label(answer, labels).label
    assert (labels[index] if index >= 0 else None) == CASES[labels][answer]


# "This is spam" and "this is not spam" in each language. The label is a foreign word there, as labels often are.
IN_LANGUAGES = {
    "am": ("ይህ spam ነው", "ይህ spam አይደለም"),
    "ar": ("هذه رسالة spam", "هذه ليست رسالة spam"),
    "az": ("Bu spam mesajıdır", "Bu spam deyil"),
    "bg": ("Това е spam", "Това не е spam"),
    "bn": ("এটি একটি spam", "এটি spam নয়"),
    "cs": ("Tato zpráva je spam", "Tato zpráva není spam"),
    "da": ("Denne besked er spam", "Denne besked er ikke spam"),
    "de": ("Diese Nachricht ist spam", "Diese Nachricht ist kein spam"),
    "el": ("Αυτό το μήνυμα είναι spam", "Αυτό το μήνυμα δεν είναι spam"),
    "en": ("This message is spam", "This message isn't spam"),
    "es": ("Este mensaje es spam", "Este mensaje no es spam"),
    "et": ("See kiri on spam", "See kiri ei ole spam"),
    "fa": ("این پیام spam است", "این پیام spam نیست"),
    "fi": ("Tämä viesti on spam", "Tämä viesti ei ole spam"),
    "fr": ("Ce message est un spam", "Ce message n'est pas un spam"),
    "he": ("ההודעה הזאת היא spam", "ההודעה הזאת אינה spam"),
    "hi": ("यह संदेश spam है", "यह संदेश spam नहीं है"),
    "hr": ("Ova poruka je spam", "Ova poruka nije spam"),
    "hu": ("Ez az üzenet spam", "Ez az üzenet nem spam"),
    "hy": ("Այս նամակը spam է", "Այս նամակը spam չէ"),
    "id": ("Pesan ini adalah spam", "Pesan ini bukan spam"),
    "it": ("Questo messaggio è spam", "Questo messaggio non è spam"),
    "ja": ("このメッセージはspamです", "このメッセージはspamではありません"),
    "ka": ("ეს წერილი spam არის", "ეს წერილი spam არ არის"),
    "km": ("នេះគឺជា spam", "នេះមិនមែនជា spam ទេ"),
    "ko": ("이 메시지는 spam입니다", "이 메시지는 spam이 아닙니다"),
    "lt": ("Ši žinutė yra spam", "Ši žinutė nėra spam"),
    "lv": ("Šī ziņa ir spam", "Šī ziņa nav spam"),
    "ml": ("ഇത് spam ആണ്", "ഇത് spam അല്ല"),
    "nl": ("Dit bericht is spam", "Dit bericht is geen spam"),
    "no": ("Denne meldingen er spam", "Denne meldingen er ikke spam"),
    "pl": ("Ta wiadomość to spam", "Ta wiadomość to nie spam"),
    "pt": ("Esta mensagem é spam", "Esta mensagem não é spam"),
    "ro": ("Acest mesaj este spam", "Acest mesaj nu este spam"),
    "ru": ("Это сообщение spam", "Это сообщение не spam"),
    "sk": ("Táto správa je spam", "Táto správa nie je spam"),
    "sl": ("To sporočilo je spam", "To sporočilo ni spam"),
    "sv": ("Det här meddelandet är spam", "Det här meddelandet är inte spam"),
    "sw": ("Ujumbe huu ni spam", "Ujumbe huu si spam"),
    "ta": ("இது ஒரு spam", "இது spam அல்ல"),
    "te": ("ఇది spam సందేశం", "ఇది spam కాదు"),
    "th": ("ข้อความนี้เป็นspam", "ข้อความนี้ไม่ใช่spam"),
    "tl": ("Ang mensaheng ito ay spam", "Ang mensaheng ito ay hindi spam"),
    "tr": ("Bu mesaj bir spam", "Bu mesaj spam değil"),
    "uk": ("Це повідомлення spam", "Це повідомлення не spam"),
    "ur": ("یہ پیغام spam ہے", "یہ پیغام spam نہیں ہے"),
    "vi": ("Tin nhắn này là spam", "Tin nhắn này không phải là spam"),
    "zh": ("这条信息是spam", "这条信息不是spam"),
}

UNSURE = {"sw"}
"""`ni` is "is" in Swahili and "isn't" in Slovenian, so nothing is read there."""


@pytest.mark.parametrize("language", IN_LANGUAGES)
def test_a_denied_label_is_never_read_as_stated(language: str) -> None:
    stated, denied = IN_LANGUAGES[language]
    if language not in UNSURE:
        assert read_label(stated, MAIL).label == MAIL.index("spam")
    assert read_label(denied, MAIL) == (-1, DENIED)


def test_why_an_answer_is_unreadable() -> None:
    assert read_label("No idea.", MAIL) == (-1, NO_LABEL)
    assert read_label("It isn't spam.", MAIL) == (-1, DENIED)
    assert read_label("Spam or ham.", MAIL) == (-1, SEVERAL)
    yoruba = "Èyí kì í ṣe àwúrúju spam rárá nínú àpótí ìfiránṣẹ́ mi lónìí"
    assert read_label(yoruba, MAIL) == (-1, UNKNOWN_LANGUAGE)


@pytest.mark.parametrize("labels", [MATERIALS, MAIL, LETTERS, YES_NO, SENTIMENT, ("card_lost", "card_stolen")])
@pytest.mark.parametrize("said", ["{}", " {}.", "**{}**", "({})", "Answer: {}", "{}\n", "`{}`", "- {}", "# {}", "“{}”"])
def test_every_label_is_read_in_any_decoration(labels: tuple[str, ...], said: str) -> None:
    for i, label in enumerate(labels):
        for form in (label, label.upper(), label.title()):
            assert read_label(said.format(form), labels).label == i, form


def test_a_label_is_read_whatever_the_order_of_the_labels() -> None:
    for labels, some in CASES.items():
        turned = tuple(reversed(labels))
        for answer, expected in some.items():
            index = read_label(answer, turned).label
            assert (turned[index] if index >= 0 else None) == expected, answer


def test_a_long_answer_is_read_in_bounded_time() -> None:
    assert read_label("not spam, or spam? " * 20_000 + "\nAnswer: ham", MAIL).label == MAIL.index("ham")
    assert read_label("(" * 100_000, MAIL).label == -1
    labels = tuple(fold_text(f"intent_{i}_of_many") for i in range(300))
    assert read_label("Perhaps. " * 1_000 + "The intent is intent_17_of_many.", labels).label == 17


IN_SENTENCES = (
    *("${}$", "ANSWER: $\\boxed{{{}}}$", "<answer>{}</answer>", "answer is **{}**", "So the final answer is {}.\n"),
    *("The correct option is {}.", "Final Answer: ({})", "### {}", "Choice {}", "{}) ", "{} is the correct answer."),
)


@pytest.mark.parametrize("said", IN_SENTENCES)
def test_letters_are_read_in_either_case(said: str) -> None:
    for letter in "BbCd":
        assert read_label(said.format(letter), LETTERS).label == LETTERS.index(letter.lower())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("I'd go with B.", "b"),
        ("I'd go with that.", None),
        ("D'accord", None),
        ("It's C", "c"),
        ("That's a d'oh", None),
    ],
)
def test_letters_of_contractions_are_no_choice(said: str, expected: str | None) -> None:
    label = read_label(said, LETTERS).label
    assert (LETTERS[label] if label >= 0 else None) == expected


def test_labels_that_are_denials_themselves() -> None:
    labels = ("false", "true")
    assert read_label("The statement is false because it is not true that cats fly.", labels).label == 0
    assert read_label("False. The claim is not supported.", labels).label == 0
    assert read_label("It is not true.", labels).label == -1


@pytest.mark.parametrize(
    ("answer", "labels", "said"),
    [
        ("Final answer: A\n\nWait, actually it's C.", LETTERS, "c"),
        ("Answer: A\nHmm, no. C.", LETTERS, "c"),
        ("Answer: A\n\nWait, B and C fit too.", LETTERS, None),
        ("Answer: A\n\nNo, B is wrong, not A.", LETTERS, None),
        ("Answer: A\n\nWait, let me check again. Yes, A.", LETTERS, "a"),
        ("All of A, B, C are wrong, so D.", LETTERS, None),
        ("ANSWER: A, B and C", LETTERS, None),
        ("ANSWER: A, C", LETTERS, None),
        ("Answer: B, not A", LETTERS, "b"),
        ("0/1", ("0", "1"), None),
        ("1 / 0", ("0", "1"), None),
        ("4/5", GRADES, "4"),
        ("정답은 B입니다", LETTERS, "b"),
        ("정답은 B 입니다.", LETTERS, "b"),
        ("정답은 B가 아닙니다", LETTERS, None),
        ("(C) over (A)", LETTERS, None),
    ],
)
def test_lists_and_corrections(answer: str, labels: tuple[str, ...], said: str | None) -> None:
    found = read_label(answer, labels).label
    assert (labels[found] if found >= 0 else None) == said
