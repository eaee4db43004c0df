"""Convert e-mail to text: headers, body and attachments of a message, and the messages of a mailbox."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from email.utils import parsedate_to_datetime

from sizewise.documents.html_pages import convert_html, decode_html
from sizewise.documents.parts import CannotConvert, Conversion, Part

HEADERS = ("From", "To", "Cc", "Date", "Subject")
MAX_DEPTH, MAX_PARTS, MAX_MESSAGES = 20, 1_000, 200_000
MAX_MARKERS = 3_000
"""Multipart boundaries in one message; more is an attack on parsers."""
NOT_READ = "attachments not read"
_POLICY = policy.default.clone(max_line_length=None)
_TEXT_KINDS = (".txt", ".md", ".text", ".markdown", ".csv", ".tsv", ".json", ".jsonl", ".log")
_PLAIN = ("text/plain", "text/markdown", "text/x-markdown", "text/enriched")
MIN_STUB_SHARE = 0.4
"""A plain text with a smaller share of the words of its HTML alternative only asks for another mail program."""
# A sender and a time, as RFC 4155 has it: a sentence that begins with "From" starts no message.
_FROM_LINE = re.compile(
    rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From (?=[^\n]*\b\d{1,2}:\d\d)(?=[^\n]*\b(?:19|20)\d\d\b)[^\n]+\n"
)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


def convert_eml(data: bytes) -> Conversion:
    """Convert a message: its headers and body, then each attachment that can be read as a text of its own."""
    if not re.match(rb"(?:From [^\n]*\n)?[\x21-\x39\x3b-\x7e]+:", data.lstrip()):
        raise CannotConvert("not an e-mail (it has no headers)")
    return _message(data, "")


def convert_mbox(data: bytes) -> Conversion:
    """Convert a mailbox: a text for each message, and one for each attachment that can be read."""
    starts = [match.start() for match in _FROM_LINE.finditer(data)]
    if not starts or data[: starts[0]].strip():
        raise CannotConvert("not a mailbox (it doesn't begin with a 'From ' line)")
    if len(starts) > MAX_MESSAGES:
        raise CannotConvert(f"holds {len(starts):,} messages, more than {MAX_MESSAGES:,}; split it")
    found = Conversion()
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(data)], strict=True), start=1):
        raw = data[start:end].partition(b"\n")[2]
        try:
            found.add(_message(_QUOTED_FROM.sub(rb"\1", raw), f"{number}"))
        except (CannotConvert, RecursionError) as error:
            reason = str(error) if isinstance(error, CannotConvert) else "nested too deeply"
            found.removed[f"messages not read ({reason})"] += 1
    return found


def _message(data: bytes, name: str) -> Conversion:
    if data.lower().count(b"content-type:") > MAX_MARKERS:
        raise CannotConvert(f"has more than {MAX_MARKERS:,} parts")
    message = BytesParser(_class=EmailMessage, policy=_POLICY).parsebytes(data)
    found = Conversion()
    leaves = list(_leaves(message))
    if len(leaves) > MAX_PARTS:
        raise CannotConvert(f"has more than {MAX_PARTS:,} parts")
    texts = [_body_text(leaf, found) for leaf in _bodies(message)]
    headers = [f"{name}: {value}" for name in HEADERS if (value := _header(message, name))]
    text = "\n".join(headers) + "\n\n" + "\n\n".join(filter(None, (text.strip() for text in texts)))
    found.parts.append(Part(text.strip(), name, title=_header(message, "Subject"), time=_time(message)))
    for leaf in leaves:
        if _file_name(leaf):
            _add_attachment(leaf, name, found)
        elif leaf.get_content_type() not in (*_PLAIN, "text/html"):
            found.removed[f"{NOT_READ} ({leaf.get_content_type()})"] += 1
    return found


def _bodies(message: EmailMessage) -> list[EmailMessage]:
    """Return the parts that make up the text of a message, in order; of alternatives, the one that says most."""
    found: list[EmailMessage] = []
    waiting: list[EmailMessage] = [message]
    while waiting:
        part = waiting.pop()
        kind = part.get_content_type()
        if kind == "multipart/alternative":
            texts = [leaf for leaf in _leaves(part) if not _file_name(leaf)]
            plain = [leaf for leaf in texts if leaf.get_content_type() in _PLAIN]
            html = [leaf for leaf in texts if leaf.get_content_type() == "text/html"]
            words, more = sum(map(_word_count, plain)), sum(map(_word_count, html))
            found += html if html and words < MIN_STUB_SHARE * more else plain[:1] or html
        elif part.is_multipart() and kind != "message/rfc822":
            children = part.get_payload()
            if isinstance(children, list):
                waiting += [child for child in reversed(children) if isinstance(child, EmailMessage)]
        elif kind in (*_PLAIN, "text/html") and not _file_name(part):
            found.append(part)
    return found


def _word_count(part: EmailMessage) -> int:
    """Return the number of words of a text; of HTML, those between the tags."""
    text = _text(part)
    if part.get_content_type() == "text/html":
        text = re.sub(r"(?is)<(style|script|head)\b.*?</\1\s*>|<[^>]*>", " ", text)
    return len(text.split())


def _body_text(part: EmailMessage, found: Conversion) -> str:
    if part.get_content_type() != "text/html":
        return _text(part)
    page = convert_html(_payload(part, decode=True))
    found.removed.update(page.removed)
    return "\n\n".join(one.text for one in page.parts)


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """Yield the parts of a message that hold content, without recursion."""
    waiting: list[tuple[EmailMessage, int]] = [(message, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise CannotConvert(f"nested too deeply (more than {MAX_DEPTH} levels)")
        children = part.get_payload() if part.is_multipart() else None
        if isinstance(children, list):
            if part.get_content_type() == "message/rfc822":
                yield part
            else:
                waiting += [(child, depth + 1) for child in reversed(children) if isinstance(child, EmailMessage)]
        else:
            yield part


def _add_attachment(part: EmailMessage, name: str, found: Conversion) -> None:
    from sizewise.documents.worker import CONVERTERS, convert_bytes

    file_name = _file_name(part)
    kind = "." + file_name.rpartition(".")[2].lower() if "." in file_name else ""
    try:
        if part.get_content_type() == "message/rfc822":
            forwarded = part.get_payload(0)
            inner = convert_bytes(forwarded.as_bytes() if isinstance(forwarded, Message) else b"", ".eml")
        elif kind in _TEXT_KINDS:
            inner = Conversion([Part(_text(part))])
        elif kind in CONVERTERS:
            inner = convert_bytes(_payload(part), kind)
        else:
            found.removed[f"{NOT_READ} ({kind or part.get_content_type()})"] += 1
            return
    except CannotConvert as error:
        found.removed[f"{NOT_READ} ({kind}, {error})"] += 1
        return
    for one in inner.parts:
        one.name = "/".join(filter(None, (name, file_name, one.name)))
        one.title = one.title or file_name
    found.add(inner)


def _payload(part: EmailMessage, decode: bool = False) -> bytes:
    """Return the decoded bytes of a part; `decode` recodes text of a declared charset to UTF-8."""
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset()
    if decode and charset:
        try:
            return data.decode(charset).encode("utf-8")
        except (LookupError, UnicodeDecodeError):
            return data
    return data


def _text(part: EmailMessage) -> str:
    try:
        return decode_html(_payload(part, decode=True))
    except CannotConvert:
        return _payload(part).decode("utf-8", "replace")


def _file_name(part: EmailMessage) -> str:
    if part.get_content_type() == "message/rfc822":
        return "forwarded.eml"
    name = part.get_filename() or ""
    return " ".join(name.replace("\\", "/").rpartition("/")[2].split())[:200]


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(f"{message.get(name, '')}".split())
    except (ValueError, IndexError, TypeError, AttributeError):  # headers that the standard library cannot parse
        return ""


def _time(message: EmailMessage) -> str:
    try:
        return parsedate_to_datetime(_header(message, "Date")).isoformat()
    except (ValueError, TypeError, IndexError):
        return ""
