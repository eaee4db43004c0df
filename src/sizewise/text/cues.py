# ruff: noqa: RUF001
"""Words around a stated answer, in the languages in which answers are read; alternatives of regular expressions."""

from __future__ import annotations

CUES = (
    "answer|pick|choose|chose|select|choice|label|category|class|classification|verdict|option|result|conclusion|"
    "output|prediction|intent|sentiment|rating|score|decision|wähle|choisis|elijo|scelgo|escolho|выбираю|antwort|"
    "lösung|kategorie|klasse|ergebnis|urteil|réponse|catégorie|classe|"
    "étiquette|résultat|respuesta|categoría|clase|etiqueta|resultado|risposta|categoria|risultato|resposta|rótulo|"
    "antwoord|categorie|svar|svaret|kategori|vastaus|odpowiedź|kategoria|odpověď|odpoveď|odgovor|răspuns|răspunsul|"
    "válasz|cevap|yanıt|jawaban|jawapan|sagot|jibu|đáp án|câu trả lời|ответ|категория|класс|відповідь|отговор|одговор|"
    "απάντηση|الإجابة|الجواب|پاسخ|جواب|תשובה|התשובה|उत्तर|जवाब|উত্তর|பதில்|సమాధానం"
)
"""Words that announce an answer."""
CUES_ANYWHERE = "答案|回答|答え|正解|结论|結論|类别|類別|分类|分類|选择|選擇|选|選|정답|답변|답|คำตอบ|ตอบ"
"""The same in scripts without spaces."""
BE = (
    "is|are|was|be|would be|should be|must be|seems|appears to be|as|ist|lautet|wäre|est|serait|es|sería|è|sarebbe|é|"
    "seria|is|zou|är|er|on|jest|to|je|este|van|adalah|ialah|ay|ni|là|это|є|це|е|είναι|هو|هي|है|হলো"
)
"""Words between an announcement and the answer."""
BECAUSE = (
    "because|since|although|though|whereas|while|but|however|and not|which|weil|denn|da|obwohl|aber|sondern|parce que|"
    "car|mais|bien que|porque|ya que|aunque|pero|sino|perché|poiché|anche se|ma|bensì|embora|mas|omdat|maar|eftersom|"
    "men|utan|fordi|ponieważ|ale|lecz|protože|pentru că|dar|ci|mert|hanem|çünkü|ama|karena|tetapi|melainkan|vì|mà|"
    "потому что|так как|но|а|тому що|але|γιατί|αλλά|لأن|لكن|بل|כי|אבל|אלא|क्योंकि|लेकिन|बल्कि"
)
"""Words that begin another clause."""
BECAUSE_ANYWHERE = "因为|因為|但是|但|而是|所以|因此|だから|ので|なぜなら|なく|때문에|아니라|하지만|เพราะ|แต่"
"""The same in scripts without spaces."""
OR = (
    "or|and|oder|und|ou|et|o|u|y|e|of|en|eller|och|og|tai|ja|lub|albo|czy|nebo|alebo|ili|sau|vagy|veya|ya da|ve|atau|"
    "dan|hay|hoặc|или|и|або|чи|та|ή|και|أو|و|یا|או|या|और|অথবা|அல்லது"
)
"""Words that join two labels."""
OR_ANYWHERE = "或者|或|还是|還是|和|与|と|または|か|또는|이나|나|หรือ|และ"
"""The same in scripts without spaces."""
CORRECTIONS = (
    r"(?:(?:wait|actually|correction|hmm+|no|sorry|oops|scratch that|on second thought|on reflection|rather|moment|"
    r"warte|halt|doch|eigentlich|nein|korrektur|attends|attendez|en fait|non|espera|en realidad|corrección|aspetta|"
    r"in realtà|correzione|na verdade|correção|wacht|подожди|постой|нет|на самом деле|исправление)(?!\w)|等等|其实|"
    r"其實|不对|不對|更正|待って|いや|訂正|잠깐|아니|정정)"
)
"""Words at the beginning of a sentence that corrects an answer."""
