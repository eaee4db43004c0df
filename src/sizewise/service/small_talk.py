"""Plain answers of the support agent to what isn't a question about the documents."""

from __future__ import annotations

import re
from collections.abc import Sequence

GREETING = "Hello! What would you like to know?"
WELCOME = "You're welcome. Is there anything else?"
GOODBYE = "Goodbye!"
MAX_CHARACTERS = 80
MAX_TITLES = 4
_GREETS = (
    r"hi|hello|hey|good (?:morning|afternoon|evening|day)|greetings|hallo|moin|servus|guten (?:tag|morgen|abend)|"
    r"bonjour|salut|bonsoir|hola|buen[oa]s (?:d[ií]as|tardes|noches)|ciao|buongiorno|ol[áa]|hej|hoi"
)
_THANKS = (
    r"thanks?(?: you)?(?: (?:so|very) much| a lot)?|thx|cheers|great|perfect|danke(?: sch[öo]n| sehr)?|vielen dank|"
    r"merci(?: beaucoup)?|(?:muchas )?gracias|grazie(?: mille)?|obrigad[oa]|bedankt|dank je|tack"
)
_BYE = r"(?:good)?bye|bye bye|see you|tsch[üu]ss|auf wiedersehen|au revoir|adi[óo]s|arrivederci"
_ADDRESSED = r"(?: (?:there|all|everyone|team|again|for (?:your|the) help|that(?: was|'s) all|that helps?|everybody))*"
_REPLIES = (
    (re.compile(rf"(?i)\W*(?:{_GREETS}){_ADDRESSED}\W*"), GREETING),
    (re.compile(rf"(?i)\W*(?:(?:ok|okay|{_GREETS})\W+)?(?:{_THANKS}){_ADDRESSED}\W*"), WELCOME),
    (re.compile(rf"(?i)\W*(?:(?:{_THANKS})\W+)?(?:{_BYE})\W*"), GOODBYE),
)
_ABOUT = re.compile(
    r"(?i)\W*(?:(?:who|what) are you|what(?:'s| is) your name|are you (?:an? )?(?:ro)?bot|"
    r"are you (?:an? )?(?:human|person|ai|real(?: person)?|machine)|what can you (?:do|help(?: me)? with|answer)|"
    r"how can you help(?: me)?|(?:can you )?help(?: me)?|what do you know)\W*"
)


def small_talk(text: str, titles: Sequence[str]) -> str:
    """Return a plain answer to a greeting, thanks, or a question about the agent itself; empty for all else.

    Args:
        text: the customer's message.
        titles: titles of some documents, which tell what the agent can answer.
    """
    if len(text) > MAX_CHARACTERS:
        return ""
    if _ABOUT.fullmatch(text):
        about = ", ".join(titles[:MAX_TITLES])
        named = f" such as: {about}" if about else ""
        return f"I'm an automated assistant. I answer from documents{named}. For anything else, ask me for a person."
    return next((reply for pattern, reply in _REPLIES if pattern.fullmatch(text)), "")
