# ruff: noqa: E501, RUF001
"""How people and models word a refusal, by language: what marks one at the beginning of an answer, and what doesn't.

An answer refuses if its first sentences say that the writer can't or won't help or doesn't know, and no answer follows.
"I can't find an error in your invoice" reports what was found, and isn't a refusal.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from sizewise.text import fold_text
from sizewise.text.sentences import sentences_of

HEAD = 3
"""Sentences at the beginning in which a refusal shows up."""
MAX_AFTER = 40
"""Words after a refusal from which on the answer answers after all."""


class _Phrases(NamedTuple):
    """Patterns of one language."""

    refuses: str
    """What a refusal says."""
    excuses: str
    """What looks like a refusal and reports a finding or asks back."""


_EN_HELP = (
    r"help|assist|answer|comply|fulfil+|provide|do (?:that|this|so)|share|give|tell|offer|discuss|disclose|support|engage|"
    r"generate|create|write|produce|participate|continue|process|complete|advise|recommend|speculate|predict|diagnose|"
    r"determine|access|verify|confirm|browse|open|view|see the|look up|perform|translate|respond|make (?:that|this)"
)
PHRASES: dict[str, _Phrases] = {
    "en": _Phrases(
        rf"\b(?:i|we)(?:'m| am| are|'re)? ?(?:really |very |so |terribly )?(?:sorry|afraid),? (?:but )?(?:i|we|that|this|there|it)\b"
        rf"[^.!?]*?\b(?:can ?not|can't|unable|not able|won't|will not|don't|do not|not something|isn't something|no way|against)\b"
        rf"|\b(?:i|we) (?:can ?not|can't|won't|will not|(?:am|are|'m|'re) (?:unable|not able|not allowed|not permitted) to|"
        rf"must decline to|have to decline|would rather not|'d rather not|prefer not to|refuse to|decline to|do(?:n't| not) feel "
        rf"comfortable)\b(?: (?:in good conscience|really|currently|directly|legally|reliably))* ?(?:{_EN_HELP})?"
        rf"|\b(?:i'm|i am|we're|we are) (?:unable|not able|not allowed|not permitted) to\b"
        rf"|\bas an? (?:ai|language model|large language model|assistant|virtual assistant)\b[^.]*\b(?:can't|can ?not|have no|hold no|don't|do "
        rf"not|unable|not able)\b"
        rf"|\b(?:i|we) (?:do not|don't) (?:have (?:access|enough|the (?:information|data|ability|answer)|any (?:information|data)|"
        rf"sufficient|that (?:information|data))|know\b(?! (?:exactly )?(?:where|why) (?:you|the)))"
        rf"|\b(?:i|we) (?:must|have to|need to|'ll have to) (?:decline|refuse|pass)\b|\bi('d| would) rather not\b"
        rf"|\bthat's (?:not something|something) i (?:can't|can|won't)\b"
        rf"|\b(?:my (?:guidelines|policy|instructions)|our policy|company policy) (?:do(?:es)?(?:n't| not)|prevents?|prohibits?|forbids?)\b"
        rf"|\b(?:the (?:passage|document|text|context|provided (?:text|context|document|information)|information provided)) "
        rf"(?:does not|doesn't|do not|don't) (?:say|state|mention|contain|provide|specify|include|give|answer|disclose)\b"
        rf"|\b(?:can ?not|could not|couldn't) be (?:determined|answered)\b|\bno (?:information|answer) (?:is |was )?(?:available|provided|given)\b"
        rf"|\bunable to (?:help|assist|answer|comply|provide|determine)\b|\bnot (?:possible|able) (?:for me )?to (?:determine|answer|say)\b",
        r"\b(?:can ?not|can't|could not|couldn't|don't|do not) (?:find|see|detect|identify|spot|notice) (?:any(?:thing)?|an?|no)\b"
        r"[^.]*\b(?:error|mistake|problem|issue|wrong|difference|evidence of|sign|bug|duplicate|charge|entry|record)"
        r"|\bcan't (?:stress|emphasi[sz]e|recommend [^.]* enough|complain|go wrong|wait|help but)\b|\bwon't (?:regret|take long)\b"
        r"|\bcannot be (?:combined|refunded|used|returned|cancelled|canceled|undone)\b"
        r"|\bsorry (?:for|about|to hear|that you)\b(?![^.]*\b(?:but|can't|cannot|unable)\b)",
    ),
    "de": _Phrases(
        r"\b(?:ich|wir) (?:kann|können|darf|dürfen|werde|werden|möchte) (?:ihnen |dir |euch |das |dazu |dabei |diese[rsnm]? |hier |leider |"
        r"darüber |darauf |auf |zu |bei |mit |für |in |den |die |dem |der )*[^.!?]*?\b(?:nicht|keine?n?r?)\b"
        r"|\b(?:kann|darf|können) ich (?:ihnen |dir |das |dazu |dabei |leider |hier |darauf |auf |diese[rsnm]? )*[^.!?]*?\b(?:nicht|keine?n?)\b"
        r"|\bals (?:ki|künstliche intelligenz|sprachmodell|assistent)[^.]*\b(?:nicht|keine?n?)\b"
        r"|\b(?:ich|wir) (?:weiß|wissen|habe|haben) (?:es |das |dazu |leider |darüber |hierzu )*(?:nicht|keine?n?)\b"
        r"|\b(?:geht|steht) (?:daraus|darin|aus dem (?:text|dokument)|im (?:text|dokument)) nicht\b|\bnicht (?:beantworten|bestimmen|"
        r"weiterhelfen)\b|\bkeine (?:angaben?|informationen?) (?:dazu|darüber|hierzu|enthalten|vorhanden)\b"
        r"|\blehne ich ab\b|\bmuss ich (?:ablehnen|passen)\b",
        r"\bkeine?n? (?:fehler|problem|unterschied|abweichung|hinweis|auffälligkeit|eintrag|mängel|doppelt)\w*"
        r"|\bnicht (?:genug empfehlen|oft genug|kombiniert|erstattet|nur)\b",
    ),
    "fr": _Phrases(
        r"\b(?:je|nous) (?:ne|n['’ ])(?: ?\w+)? ?(?:peux|puis|pouvons|suis|sommes|veux|souhaite|dispose|sais|ai|avons|connais)\b[^.!?]*?"
        r"(?:\bpas\b|\baucune?\b|\bd['’](?:informations|accès)|\bpoint\b|\ben mesure\b)|\bje ne puis\b"
        r"|\ben tant qu['’](?:ia|assistant|intelligence|modèle)[^.]*\b(?:ne|n['’])"
        r"|\b(?:le|ce) (?:texte|document|passage|contexte) ne (?:\w+ )?(?:dit|précise|mentionne|contient|permet|indique|fournit)\b"
        r"|\bje (?:dois|préfère) (?:refuser|décliner|ne pas)\b|\bil m['’]est impossible\b|\bimpossible de (?:répondre|déterminer)\b"
        r"|\bje refuse\b",
        r"\baucune? (?:erreur|problème|différence|anomalie|signe|doublon)\b|\bne (?:peut|peuvent|sont|sera)\b[^.]*\b(?:remboursé|cumul|annul)\w*"
        r"|\bpas (?:trouvé|vu|constaté) d['’](?:erreur|anomalie)",
    ),
    "es": _Phrases(
        r"\bno (?:puedo|podemos|voy a|vamos a|me es posible|tengo|tenemos|dispongo|sé|sabemos|estoy (?:autorizad|en condiciones|segur)\w*|"
        r"debo|quiero|soy capaz)\b|\bcomo (?:ia|inteligencia artificial|modelo de lenguaje|asistente)[^.]*\bno\b"
        r"|\b(?:el|este) (?:texto|documento|pasaje|contexto) no (?:dice|menciona|indica|contiene|especifica|proporciona|aclara)\b"
        r"|\b(?:prefiero no|debo rechazar|tengo que rechazar|me niego)\b|\bno (?:es posible|se puede) (?:determinar|responder|saber)\b",
        r"\bno (?:puedo|podemos|veo|vemos|tengo|encuentro) (?:encontrar |ver |detectar )?ning[uú]n\w* (?:error|problema|diferencia|anomal)\w*"
        r"|\bno puedo (?:estar más|recomendarlo|dejar de|quejarme)\b|\bno tengo (?:queja|duda|inconveniente|problema)s?\b",
    ),
    "it": _Phrases(
        r"\bnon (?:posso|possiamo|sono (?:in grado|autorizzat\w|sicur\w)|siamo in grado|ho (?:accesso|informazioni|abbastanza|dati|a disposizione)|"
        r"so\b|sappiamo|mi è (?:possibile|consentito)|voglio|intendo|dispongo)|\bcome (?:ia|intelligenza artificiale|assistente|modello "
        r"linguistico)[^.]*\bnon\b|\b(?:il|questo) (?:testo|documento|brano|contesto) non (?:dice|indica|menziona|contiene|specifica|riporta|fornisce)\b"
        r"|\b(?:devo|preferisco) (?:rifiutare|declinare|non)\b|\bnon è possibile (?:determinare|rispondere|stabilire)\b",
        r"\bnon (?:posso|vedo|ho|riesco a) (?:trovare |vedere |trovato |riscontrato )?(?:alcun|nessun|error|problem|anomal)\w*"
        r"|\bnon posso (?:che|fare a meno|lamentarmi)\b",
    ),
    "pt": _Phrases(
        r"\bnão (?:posso|podemos|consigo|vou|tenho (?:acesso|informaç|dados|como|permissão|certeza)|temos|sei\b|sabemos|estou autorizad\w|"
        r"me é (?:possível|permitido)|disponho|sou capaz)|\bcomo (?:ia|inteligência artificial|assistente|modelo de linguagem)[^.]*\bnão\b"
        r"|\b(?:o|este) (?:texto|documento|trecho|contexto) não (?:diz|menciona|indica|contém|especifica|informa|fornece)\b"
        r"|\b(?:devo|prefiro|tenho de|tenho que) (?:recusar|não)\b|\bnão é possível (?:determinar|responder|saber)\b",
        r"\bnão (?:consigo|posso|vejo|encontrei|há) (?:encontrar |ver |detectar )?(?:nenhum|qualquer|erro|problema)\w*"
        r"|\bnão posso (?:deixar|reclamar)\b",
    ),
    "nl": _Phrases(
        r"\b(?:ik|we|wij) (?:kan|kunnen|mag|mogen|wil|zal|weet|heb|hebben|beschik) (?:u |je |dat |hier |daar |helaas |het |daar |op |deze |die )*"
        r"[^.!?]*?\b(?:niet|geen)\b|\b(?:kan|mag) ik (?:u |je |dat |hier |daar |helaas |deze |niet )*[^.!?]*?\b(?:niet|geen)\b"
        r"|\bals (?:ai|taalmodel|assistent)[^.]*\b(?:niet|geen)\b|\b(?:de|het|deze|dit) (?:tekst|document|passage) (?:zegt|vermeldt|bevat|"
        r"noemt|geeft)[^.]*\b(?:niet|geen)\b|\bniet (?:te bepalen|te beantwoorden)\b|\bmoet ik weigeren\b",
        r"\bgeen (?:fout|probleem|verschil|afwijking|dubbele)\w*|\bniet (?:genoeg aanraden|gecombineerd)\b",
    ),
    "ru": _Phrases(
        r"\bне (?:могу|можем|буду|стану|в состоянии|имею (?:доступа|возможности|права|данных)|располагаю|знаю|знаем|вправе|готов\w* (?:помогать|"
        r"отвечать))\b|\bкак (?:ии|искусственный интеллект|языковая модель|ассистент)[^.]*\bне\b|\b(?:вынужден\w*|должен|придется|придётся) "
        r"отказать\w*|\bотказываюсь\b|\bв (?:тексте|документе|отрывке)[^.]*\b(?:не (?:сказано|указано|говорится|упоминается)|нет (?:информации|"
        r"данных|ответа))|\bневозможно (?:определить|ответить)\b|\bу меня нет (?:доступа|информации|данных|такой)",
        r"\bне (?:могу|вижу|нашел|нашёл|нашла|обнаружил\w*) (?:найти |обнаружить )?(?:никаких |ни одной |ни одного )?(?:ошиб|проблем|расхожд|"
        r"отличи)\w*|\bне могу (?:не|нарадоваться|дождаться)\b",
    ),
    "zh": _Phrases(
        r"(?:无法|無法|不能|不可以|没办法|沒辦法|没有办法|拒绝|拒絕|恕难|恕難|不便)(?:为您|为你|帮您|帮你|給您|给您|给你|直接|就此)?(?:提供|回答|帮助|幫助|协助|協助|"
        r"满足|滿足|确定|確定|判断|判斷|透露|完成|处理|處理|执行|執行|讨论|討論|访问|訪問|生成|查询|查詢|做|告诉|告訴|给出|從命|从命|奉告)"
        r"|作为(?:一个)?(?:人工智能|ai|语言模型|助手)[^。]*(?:不能|无法|没有)|(?:我|我们)(?:并)?不(?:知道|清楚|了解|确定|能帮|方便|会提供)|帮不了|幫不了"
        r"|(?:文中|文章|文件|文本|资料|原文)(?:中)?(?:并)?(?:没有|未|沒有)(?:提到|提及|说明|提供|给出|包含|說明)|没有(?:足够|相关|访问)[^。]*(?:信息|权限|资料)",
        r"没有(?:发现|找到|任何)[^。]*(?:错误|问题|差异|异常)|不能(?:与|和)[^。]*(?:同时|叠加)|不能(?:退款|取消)",
    ),
    "ja": _Phrases(
        r"(?:できません|出来ません|できかねます|いたしかねます|致しかねます|お答えできない|お手伝いできない|お断り|応じられません|お応えできません|差し控え|わかりません|分かりません|"
        r"存じません|わかりかねます|判断できません|答えられません|お答えしかね|持っていません|記載されていません|書かれていません|述べられていません|情報がありません)",
        r"(?:誤り|エラー|問題|間違い|異常|違い)は?(?:見つかりません|ありません|確認できません|見当たりません)|併用できません|返金できません|キャンセルできません",
    ),
    "ko": _Phrases(
        r"(?:할 수 없습니다|할 수 없어요|드릴 수 없|도와드릴 수 없|답변할 수 없|제공할 수 없|답해 드릴 수 없|어렵습니다|불가능합니다|모르겠습니다|알 수 없습니다|알지 못합니다|"
        r"거절|응할 수 없|나와 있지 않습니다|언급되어 있지 않|권한이 없|접근할 수 없|정보가 없습니다|판단할 수 없)",
        r"(?:오류|문제|차이|이상)(?:를|은|는|이|가)? ?(?:찾을 수 없|발견되지|없습니다)|함께 사용할 수 없|환불할 수 없",
    ),
    "ar": _Phrases(
        r"(?:لا أستطيع|لا يمكنني|لا يمكننا|لا نستطيع|لن أتمكن|لن أقوم|لست قادر|غير قادر|لا أعرف|لا أعلم|لا أملك|ليس لدي|أعتذر عن|لا يحق لي|"
        r"يتعذر علي|أرفض|لا يذكر النص|لا يذكر المستند|لم يذكر|لا يتضمن النص|لا تتوفر لدي|كنموذج لغوي)",
        r"(?:لا أستطيع|لا يمكنني|لم) (?:أن )?(?:أجد|العثور على|أعثر على) (?:أي )?(?:خطأ|أخطاء|مشكلة|فرق)|ليس لدي (?:أي )?(?:اعتراض|شكوى|مانع)",
    ),
    "hi": _Phrases(
        r"(?:नहीं कर सकता|नहीं कर सकती|नहीं कर सकते|नहीं दे सकता|नहीं दे सकती|नहीं बता सकता|नहीं बता सकती|असमर्थ|मदद नहीं|सहायता नहीं|उत्तर नहीं|"
        r"जवाब नहीं|नहीं जानता|नहीं जानती|मुझे नहीं पता|पता नहीं|जानकारी नहीं|इनकार|मना करना|उल्लेख नहीं|नहीं बताया गया|अनुमति नहीं|पहुँच नहीं)",
        r"(?:कोई )?(?:त्रुटि|गलती|समस्या|अंतर) नहीं (?:मिल|है|दिख)",
    ),
    "pl": _Phrases(
        r"\bnie (?:mogę|możemy|jestem w stanie|wiem|wiemy|mam (?:dostępu|informacji|danych|możliwości|uprawnień)|dysponuję|wolno mi|będę|zamierzam)\b"
        r"|\bjako (?:ai|sztuczna inteligencja|model językowy|asystent)[^.]*\bnie\b|\b(?:muszę|wolę) (?:odmówić|nie)\b|\bodmawiam\b"
        r"|\b(?:tekst|dokument|fragment)\w* nie (?:mówi|zawiera|wspomina|podaje|określa)\b|\bnie (?:można|da się) (?:określić|odpowiedzieć|ustalić)\b",
        r"\bnie (?:mogę|widzę|znalaz\w+|mam) (?:znaleźć |żadn\w+ )*(?:błęd|problem|różnic|zastrzeż|uwag)\w*|\bnie mogę się (?:doczekać|nachwalić)\b",
    ),
    "tr": _Phrases(
        r"(?:yardımcı olamam|yardımcı olamıyorum|yardımcı olamayız|yanıtlayamam|yanıtlayamıyorum|cevaplayamam|cevaplayamıyorum|veremem|veremiyorum|"
        r"sağlayamam|sağlayamıyorum|yapamam|yapamıyorum|paylaşamam|paylaşamıyorum|bilmiyorum|bilgim yok|bilgiye sahip değilim|erişimim yok|"
        r"reddetmek|reddediyorum|belirtilmemiş|belirtilmiyor|bahsedilmiyor|yer almıyor|mümkün değil|söyleyemem|söyleyemiyorum|belirleyemiyorum)",
        r"(?:hata|sorun|fark|yanlışlık) (?:bulamadım|bulunamadı|göremiyorum|yok|görünmüyor)|iade edilmesi mümkün değil",
    ),
}
KNOWN_LANGUAGES = tuple(PHRASES)


@cache
def _pattern(language: str, excuse: bool) -> re.Pattern[str]:
    found = PHRASES[language]
    return re.compile(found.excuses if excuse else found.refuses)


def refusal_in(answer: str, languages: tuple[str, ...] = KNOWN_LANGUAGES) -> bool:
    """Check whether an answer begins with a refusal in one of these languages, and gives no answer after it.

    Args:
        answer: the answer.
        languages: ISO 639-1 codes whose phrases are looked for.
    """
    head = [fold_text(sentence) for sentence in sentences_of(answer[:1_500])[:HEAD]]
    for number, sentence in enumerate(head):
        for language in languages:
            if _pattern(language, False).search(_pattern(language, True).sub(" ", sentence)):
                return not _answers_after(answer, number)
    return False


def _answers_after(answer: str, number: int) -> bool:
    """Check whether much more follows the sentence that refuses than an explanation of the refusal."""
    rest = sentences_of(answer)[number + 1 :]
    return sum(len(fold_text(sentence).split()) for sentence in rest) > MAX_AFTER and number > 0
